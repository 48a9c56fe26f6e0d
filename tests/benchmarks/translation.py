"""Sentences into eight languages against the plain way, and what a memory of 100,000 sentences costs."""

import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from mlc.shipped import shipped_data
from mlc.translation.engines.protocol import Engine, SentenceTranslation
from mlc.translation.engines.seq2seq import Seq2SeqEngine
from mlc.translation.memory import TranslationMemory
from mlc.translation.settings import TranslatorSettings
from mlc.translation.translator import Translator
from tests.benchmarks.measuring import Figure, alternate, peak_kib, progress, ratio, require_agreement

ENGLISH = "eng_Latn"
TARGETS = ("arb_Arab", "deu_Latn", "fra_Latn", "hin_Deva", "jpn_Jpan", "rus_Cyrl", "spa_Latn", "swh_Latn")
PLAIN_BATCH = 16
END_SCALE = 3.0
"""Random weights hardly ever choose ``</s>``. With its output row as many times as long, rows end at different steps,
as those of a trained model do."""

Texts = dict[str, list[str]]


@dataclass(frozen=True)
class Size:
    """The model, the sentences, and how often they are measured."""

    width: int
    layers: int
    vocabulary: int
    sentences: int
    shortest: int
    longest: int
    max_new_tokens: int
    rounds: int
    few: int
    many: int


FULL = Size(
    width=512,
    layers=6,
    vocabulary=16_000,
    sentences=400,
    shortest=4,
    longest=40,
    max_new_tokens=32,
    rounds=1,
    few=1_000,
    many=100_000,
)
QUICK = Size(
    width=32,
    layers=1,
    vocabulary=6_500,
    sentences=8,
    shortest=3,
    longest=8,
    max_new_tokens=6,
    rounds=1,
    few=50,
    many=200,
)


def run(*, quick: bool) -> Iterator[Figure]:
    """The engines against the plain way, then the memory."""
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        yield from _engines(size, Path(folder))
        yield _memory_of_the_process(size, Path(folder))
        yield _lookup(size, Path(folder))


def _engines(size: Size, folder: Path) -> Iterator[Figure]:
    checkpoint = folder / "checkpoint"
    parameters = random_checkpoint(checkpoint, size)
    sentences = random_sentences(size)
    engine = Seq2SeqEngine.from_folder_or_hub(checkpoint, device="cpu", max_new_tokens=size.max_new_tokens)
    texts: dict[str, Texts] = {}
    works: dict[str, Any] = {
        "plain": partial(plain_way, engine, sentences),
        "transformers": partial(by_engine, engine, sentences),
    }
    if importlib.util.find_spec("ctranslate2"):
        works["ctranslate2"] = partial(by_engine, _converted(checkpoint, size, folder), sentences)

    def keep(name: str) -> None:
        texts[name] = works[name]()

    plain, own, *converted = alternate([partial(keep, name) for name in works], rounds=size.rounds)
    same = same_share(texts["plain"], texts["transformers"])
    # With random weights two tokens may be as good as equally likely; then rounding decides.
    require_agreement("shares of equal texts", 1 - same, 0.002)
    facts = {
        **{name: value for name, value in asdict(size).items() if name not in ("rounds", "few", "many")},
        "languages": len(TARGETS),
        "parameters": parameters,
        "threads": torch.get_num_threads(),
    }
    means = "plain way / engine transformers"
    yield ratio("translation", "speed-up", means, plain, own, same_texts=same, **facts)
    for turns in converted:
        same = same_share(texts["plain"], texts["ctranslate2"])
        means = "plain way / engine ctranslate2, int8"
        yield ratio("translation", "speed-up of ctranslate2", means, plain, turns, same_texts=same, **facts)


@torch.inference_mode()
def plain_way(engine: Seq2SeqEngine, sentences: list[str]) -> Texts:
    """One language after the other, sentences in the order of the file, the encoder every time.

    Returns:
        The translations in the order of the sentences, by language.
    """
    model, tokenizer = engine.model, engine.tokens.tokenizer
    tokenizer.src_lang = ENGLISH
    texts: Texts = {target: [] for target in TARGETS}
    for target in TARGETS:
        for start in range(0, len(sentences), PLAIN_BATCH):
            inputs = tokenizer(sentences[start : start + PLAIN_BATCH], return_tensors="pt", padding=True)
            rows = model.generate(
                **inputs.to(model.device),
                forced_bos_token_id=tokenizer.convert_tokens_to_ids(target),
                num_beams=1,
                do_sample=False,
                max_new_tokens=engine.max_new_tokens,
            )
            texts[target] += [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
    return texts


def by_engine(engine: Engine, sentences: list[str]) -> Texts:
    """The same by an engine."""
    done: dict[str, dict[str, SentenceTranslation]] = {target: {} for target in TARGETS}
    for target, batch in engine.translate(sentences, source=ENGLISH, targets=TARGETS):
        done[target].update(batch)
    return {target: [done[target][sentence].text for sentence in sentences] for target in TARGETS}


def _converted(checkpoint: Path, size: Size, folder: Path) -> Engine:
    from mlc.translation.engines.converted import ConvertedEngine

    before = os.environ.get("MLC_CACHE")
    os.environ["MLC_CACHE"] = str(folder / "cache")
    try:
        settings = TranslatorSettings(
            engine="ctranslate2", model=str(checkpoint), device="cpu", max_new_tokens=size.max_new_tokens
        )
        return ConvertedEngine.from_settings(settings)
    finally:
        del os.environ["MLC_CACHE"]
        if before is not None:
            os.environ["MLC_CACHE"] = before


def same_share(left: Texts, right: Texts) -> float:
    """Share of the texts that two ways agree on."""
    same = [a == b for target in TARGETS for a, b in zip(left[target], right[target], strict=True)]
    return sum(same) / len(same)


def random_checkpoint(folder: Path, size: Size) -> int:
    """Writes a checkpoint of the NLLB architecture with random weights.

    Returns:
        Number of its parameters.
    """
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    learned = json.loads((shipped_data("nano") / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocabulary = dict(learned["vocab"])
    vocabulary |= {f"▁token{number}": number for number in range(len(vocabulary), size.vocabulary)}
    tokenizer = NllbTokenizer(
        vocab=vocabulary,
        merges=[tuple(merge) for merge in learned["merges"]],
        extra_special_tokens=[ENGLISH, *TARGETS],
        src_lang=ENGLISH,
    )
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=size.width,
        encoder_layers=size.layers,
        decoder_layers=size.layers,
        encoder_ffn_dim=4 * size.width,
        decoder_ffn_dim=4 * size.width,
        encoder_attention_heads=max(2, size.width // 64),
        decoder_attention_heads=max(2, size.width // 64),
        decoder_start_token_id=2,
        # Tied, every token would choose itself again.
        tie_word_embeddings=False,
    )
    # Billions of random numbers take a GPU seconds, and a processor minutes.
    gpu = torch.cuda.is_available()
    with torch.device("cuda" if gpu else "cpu"):
        model = M2M100ForConditionalGeneration._from_config(config, dtype=torch.float16 if gpu else torch.float32)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= END_SCALE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


def random_sentences(size: Size) -> list[str]:
    """Distinct sentences without meaning, of the words of the quickstart's answers."""
    lines = shipped_data("quickstart/train.jsonl").read_text(encoding="utf-8").splitlines()
    words = sorted({word for line in lines for word in json.loads(line)["chosen"].split()})
    generator = random.Random(0)
    return [
        " ".join([str(number), *generator.choices(words, k=generator.randint(size.shortest, size.longest))])
        for number in range(size.sentences)
    ]


def _memory_of_the_process(size: Size, folder: Path) -> Figure:
    """Peak memory of a process that translates many sentences, and of one that translates few."""
    checkpoint = folder / "small"
    random_checkpoint(checkpoint, QUICK)
    peaks = []
    for count in (size.few, size.many):
        progress(f"  {count} sentences")
        command = [sys.executable, "-m", __name__, str(checkpoint), str(folder / f"memory-{count}"), str(count)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    value = float(f"{peaks[1] / peaks[0]:.4g}")
    detail = {
        "means": f"peak memory with {size.many} sentences / with {size.few}",
        "min": value,
        "max": value,
        "megabytes": [peak // 1024 for peak in peaks],
        "languages": 2,
    }
    return Figure("translation", "memory", value, "ratio", detail)


def _lookup(size: Size, folder: Path) -> Figure:
    """Looking up every sentence of a memory, against reading the same rows into lists with pyarrow."""
    memory = TranslationMemory(folder / "lookup", "0" * 64, {})
    pair = {"source": ENGLISH, "target": TARGETS[0]}
    sentences = [f"{number} is the number of a sentence of ordinary length." for number in range(size.many)]
    step = max(1, size.many // 200)
    for start in range(0, size.many, step):
        batch = {name: SentenceTranslation(name.upper(), -1.0, 9, True) for name in sentences[start : start + step]}
        memory.store(batch, **pair)
    begun = time.perf_counter()
    found = memory.lookup(sentences, **pair)
    first = time.perf_counter() - begun
    require_agreement("numbers of sentences", abs(len(found) - size.many), 0)

    def plain() -> list[dict[str, Any]]:
        files = sorted(memory.folder.rglob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    own, other = alternate([lambda: memory.lookup(sentences, **pair), plain], rounds=3)
    means = "TranslationMemory.lookup / pyarrow.parquet.read_table and to_pylist of the same rows"
    seconds = {
        "seconds": float(f"{statistics.median(own.wall):.3g}"),
        "seconds_with_merging": float(f"{first:.3g}"),
    }
    return ratio("translation", "look-up", means, own, other, sentences=size.many, **seconds)


def main() -> None:
    """Translates numbered sentences with a memory and prints the peak memory in KiB."""
    checkpoint, root, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    engine = Seq2SeqEngine.from_folder_or_hub(checkpoint, device="cpu", max_new_tokens=4, batch_tokens=16_384)
    translator = Translator(engine, TranslationMemory(root, engine.identity, engine.facts))
    translator.fill(
        (f"This is sentence {number} of many" for number in range(count)), source=ENGLISH, targets=TARGETS[:2]
    )
    print(peak_kib())


if __name__ == "__main__":
    main()
