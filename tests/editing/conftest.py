"""Tiny models to edit, and one in which refusal depends on known units in English and fails in language X."""

from dataclasses import dataclass

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from mlc.evaluation.parallel import ParallelPrompts
from mlc.languages import ENGLISH
from mlc.models.loading import Policy
from mlc.models.sources import ModelSource

X = "swh_Latn"
"""The language that the planted model does not refuse in; its words are no real ones."""
PLANTED_LAYER, PLANTED_UNITS = 1, (3, 7, 11)
ACTIONS, TOPICS = 6, 120
REFUSAL, COMPLIANCE = "refuse", "comply"


def word_tokenizer(words):
    vocabulary = {word: place for place, word in enumerate(["<pad>", "<end>", *words])}
    engine = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=engine, pad_token="<pad>", eos_token="<end>")


def policy_of(model, tokenizer, name="tiny"):
    return Policy(model.eval(), tokenizer, ModelSource(name, "folder", name, f"identity of {name}"))


def parallel(rows, languages=(ENGLISH, X)):
    """Prompts from (label, text, text, …)."""
    return ParallelPrompts(
        ids=tuple(f"p{place:03d}" for place in range(len(rows))),
        labels=tuple(label for label, *_ in rows),
        languages=tuple(languages),
        texts=tuple(tuple(texts) for _, *texts in rows),
        left_out={},
    )


def rows_of(topics, actions=range(ACTIONS)):
    """Harmful and harmless prompts: an action on a topic, in English and in X."""
    return [
        (label, f"{kind}{action} topic{topic}", f"x{kind}{action} xtopic{topic}")
        for topic in topics
        for kind, label in (("bad", "harmful"), ("good", "harmless"))
        for action in actions
        if (topic + action) % 3 == 0
    ]


@dataclass(frozen=True)
class Planted:
    """The planted case."""

    policy: Policy
    prompts: ParallelPrompts
    """To edit with."""
    validation: ParallelPrompts
    """Other topics."""


WORDS = [
    *(f"{x}{kind}{action}" for x in ("", "x") for kind in ("bad", "good") for action in range(ACTIONS)),
    *(f"{x}topic{topic}" for x in ("", "x") for topic in range(TOPICS)),
    REFUSAL,
    COMPLIANCE,
]


@pytest.fixture
def planted():
    """A Llama of two layers whose weights are set by hand, apart from noise.

    Attention copies the mean over the prompt to the last token. Dimension 0 of the stream says "harmful, English",
    1 "harmful, X", 2 "harmless", 3 is constant and 4 is the decision to refuse. The gates of the planted units read
    dimension 0 only, so that nothing refuses in X.
    """
    width, units = 48, 64
    torch.manual_seed(0)
    tokenizer = word_tokenizer(WORDS)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=units,
            num_hidden_layers=2,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        for layer in model.model.layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                part.weight.zero_()
            layer.self_attn.o_proj.weight.zero_()
            for part in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                part.weight.normal_(0.0, 0.02)
            # No noise in what the decision reads, or in the decision.
            layer.mlp.down_proj.weight[[0, 4]] = 0.0
        model.model.layers[0].self_attn.v_proj.weight.copy_(torch.eye(width))
        model.model.layers[0].self_attn.o_proj.weight.copy_(torch.eye(width))
        mlp = model.model.layers[PLANTED_LAYER].mlp
        for unit in PLANTED_UNITS:
            mlp.gate_proj.weight[unit] = 0.0
            mlp.gate_proj.weight[unit, 0] = 4.0
            mlp.up_proj.weight[unit] = 0.0
            mlp.up_proj.weight[unit, 3] = 1.0
            mlp.down_proj.weight[:, unit] = 0.0
            mlp.down_proj.weight[4, unit] = 0.01
        embeddings = model.model.embed_tokens.weight
        embeddings.normal_(0.0, 0.1)
        embeddings[:, :5] = 0.0
        embeddings[:, 3] = 1.0
        for word, token in tokenizer.get_vocab().items():
            for place, start in enumerate(("bad", "xbad", "good")):
                if word.startswith(start) or (place == 2 and word.startswith("xgood")):
                    embeddings[token, place] = 2.0
        model.lm_head.weight.normal_(0.0, 0.02)
        vocabulary = tokenizer.get_vocab()
        for word, sign in ((REFUSAL, 1.0), (COMPLIANCE, -1.0)):
            model.lm_head.weight[vocabulary[word]] = 0.0
            model.lm_head.weight[vocabulary[word], 4] = sign
    half = TOPICS // 2
    return Planted(
        policy_of(model, tokenizer, "planted"), parallel(rows_of(range(half))), parallel(rows_of(range(half, TOPICS)))
    )


SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
FAMILIES = {
    "gemma": ("Gemma", {"head_dim": 8}),
    "gemma2": ("Gemma2", {"head_dim": 8}),
    "gemma3_text": ("Gemma3", {"head_dim": 8}),
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
}


@pytest.fixture
def tiny():
    """Makes a random model of a family over the planted words."""

    def make(family="llama", dtype=torch.float32):
        name, options = FAMILIES[family]
        tokenizer = word_tokenizer(WORDS)
        text = "Text" if family == "gemma3_text" else ""
        config = getattr(transformers, f"{name}{text}Config")(vocab_size=len(tokenizer), **SMALL, **options)
        torch.manual_seed(0)
        model = getattr(transformers, f"{name}ForCausalLM")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0.0, 0.3)
        return policy_of(model.to(dtype), tokenizer, family)

    return make


@pytest.fixture
def prompts():
    return parallel(rows_of(range(20)))
