"""Translates into a memory until it is done or killed, and notes every batch that it begins."""

import os
from pathlib import Path

from mlc.translation.engines.seq2seq import Seq2SeqEngine
from mlc.translation.memory import TranslationMemory
from mlc.translation.translator import Translator

CHECKPOINT = "MLC_TEST_CHECKPOINT"
TARGETS = ("deu_Latn", "fra_Latn", "swh_Latn")
WORDS = [word for text in ("good morning to all of you", "guten Morgen euch allen") for word in text.split()]


def texts(count):
    sentences = [
        " ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 4 + number % 5)) for number in range(count)
    ]
    return [f"{sentence.capitalize()} {number}. Good {number % 7}." for number, sentence in enumerate(sentences)]


class Noting(Seq2SeqEngine):
    notes: Path

    def _translate_batch(self, batch, source, targets):
        descriptor = os.open(self.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{len(batch) * len(targets)}\n".encode())
        os.close(descriptor)
        return super()._translate_batch(batch, source, targets)


def load(checkpoint):
    import torch

    torch.set_num_threads(1)
    engine = Noting.from_folder_or_hub(checkpoint, device="cpu", max_new_tokens=12, batch_tokens=120)
    assert engine.identity
    return engine


# Loaded once, where processes are forked from.
ENGINE = load(os.environ[CHECKPOINT]) if CHECKPOINT in os.environ else None


def work(root, notes, count, ready):
    ENGINE.notes = notes
    translator = Translator(ENGINE, TranslationMemory(root, ENGINE.identity, ENGINE.facts))
    ready.send(None)
    translator.fill(texts(count), source="eng_Latn", targets=TARGETS)
