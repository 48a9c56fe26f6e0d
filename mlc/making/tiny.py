"""Makes the tiny random policy of the smoke run: ``python -m mlc.making.tiny``.

A Llama of 4 layers with random weights and a byte-level tokenizer learned on the quickstart's English prompts. It
knows nothing; it only has the interface of a real model, chat template included.
"""

import json
import sys
from pathlib import Path

from mlc.shipped import shipped_data

SEED = 0
VOCABULARY = 768
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def build_tiny(folder: Path) -> None:
    """Writes the checkpoint.

    Args:
        folder: Folder to write into.
    """
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    lines = shipped_data("quickstart/train.jsonl").read_text(encoding="utf-8").splitlines()
    special = ["<|pad|>", "<|start|>", "<|end|>"]
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(
        (json.loads(line)["prompt"] for line in lines), VOCABULARY, special_tokens=special, show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned._tokenizer, pad_token="<|pad|>", eos_token="<|end|>", chat_template=CHAT_TEMPLATE
    )
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=2,
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    build_tiny(Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_data("") / "tiny")
