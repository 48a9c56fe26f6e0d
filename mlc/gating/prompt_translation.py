"""Prompts in the language that a gate was fitted in, by a checkpoint of NLLB beside the gate.

This file is also part of every registered model whose gate reads translations, so that it needs torch, transformers and
sentencex, and nothing of this project.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TRANSLATOR_FOLDER = "translator"
"""In a checkpoint, beside the gate: the checkpoint that translates for it."""
BATCH = 32
"""Sentences in a forward pass."""
LONGEST = 256
"""Tokens of the longest translation of a sentence."""


class PromptTranslator:
    """Translates what people write, sentence by sentence and greedily, so that it comes out the same each time.

    Args:
        folder: A checkpoint of NLLB, with its tokenizer.
        target: NLLB code of the language to translate into.
        segmenters: By NLLB code, the language whose rules split its sentences, as sentencex names it.
        device: Where to compute.

    Raises:
        OSError: There is no checkpoint.
    """

    def __init__(self, folder: str | Path, *, target: str, segmenters: Mapping[str, str], device: Any = "cpu") -> None:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        safe = {"trust_remote_code": False, "local_files_only": True}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        dtype = torch.float32 if str(device) == "cpu" else torch.float16
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, use_safetensors=True, dtype=dtype, **safe)
        self.model = model.to(device).eval()
        self.target = self.tokenizer.convert_tokens_to_ids(target)
        self.segmenters = dict(segmenters)
        known = set(self.tokenizer.all_special_tokens)
        self.languages = frozenset(code for code in segmenters if code in known)
        """NLLB codes of the languages that it translates; texts in others stay as they are."""
        # The tokenizer is told the language of what it reads, and servers ask in several threads.
        self._one_language = threading.Lock()

    def translate(self, texts: Sequence[str], languages: Sequence[str | None]) -> list[str]:
        """Texts in the target language, lines and order kept.

        Args:
            texts: [N]
            languages: [N] NLLB code of the language of each; None, and what is not known, stays as it is.
        """
        made = list(texts)
        for code in {code for code in languages if code in self.languages}:
            places = [place for place, own in enumerate(languages) if own == code]
            lines = {place: self._lines(texts[place], code) for place in places}
            parts = list(dict.fromkeys(part for text in lines.values() for line in text for part in line))
            known = dict(zip(parts, self._sentences(parts, code), strict=True))
            for place, text in lines.items():
                made[place] = "\n".join(" ".join(known[part] for part in line) for line in text)
        return made

    def _lines(self, text: str, code: str) -> list[list[str]]:
        """The sentences of each line; NLLB drops some where it is given several."""
        from sentencex import segment

        split = (segment(self.segmenters[code], line) if line.strip() else [] for line in text.split("\n"))
        return [[part.strip() for part in line if part.strip()] for line in split]

    def _sentences(self, sentences: Sequence[str], code: str) -> list[str]:
        import torch

        order = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))
        found = [""] * len(sentences)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            with self._one_language:
                self.tokenizer.src_lang = code
                inputs = self.tokenizer(
                    [sentences[place] for place in places],
                    return_tensors="pt",
                    padding=True,
                    truncation=True,
                    max_length=self.model.config.max_position_embeddings,
                )
            with torch.inference_mode():
                output = self.model.generate(
                    input_ids=inputs["input_ids"].to(self.model.device),
                    attention_mask=inputs["attention_mask"].to(self.model.device),
                    forced_bos_token_id=self.target,
                    max_new_tokens=LONGEST,
                    max_length=None,
                    num_beams=1,
                    do_sample=False,
                )
            for place, text in zip(places, self.tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                found[place] = text
        return found
