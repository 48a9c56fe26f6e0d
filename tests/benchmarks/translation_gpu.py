"""The engine ``transformers`` on a GPU at the shapes of NLLB-200; ``--quick`` shows that it runs.

Weights and sentences are random. Without a GPU there is nothing to measure, and nothing is printed.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from mlc.translation.engines.seq2seq import Seq2SeqEngine
from tests.benchmarks.measuring import Figure, alternate, progress, ratio
from tests.benchmarks.translation import (
    QUICK,
    TARGETS,
    Size,
    Texts,
    by_engine,
    plain_way,
    random_checkpoint,
    random_sentences,
    same_share,
)

SHAPES = {
    "nllb-200-distilled-600M": Size(1024, 12, 256_206, 128, 4, 40, 32, rounds=1, few=0, many=0),
    "nllb-200-3.3B": Size(2048, 24, 256_206, 128, 4, 40, 32, rounds=1, few=0, many=0),
}
SMALL_BATCH = 1_024


def run(*, quick: bool) -> Iterator[Figure]:
    """Sentences a second against the plain way, and the share of them that change with the batch."""
    if not torch.cuda.is_available() and not quick:
        progress("  no GPU here: nothing to measure")
        return
    for name, size in ({"toy": QUICK} if quick else SHAPES).items():
        with tempfile.TemporaryDirectory() as folder:
            yield _measure(name, size, Path(folder))


def _measure(name: str, size: Size, folder: Path) -> Figure:
    parameters = random_checkpoint(folder, size)
    sentences = random_sentences(size)

    def load(**settings: int) -> Seq2SeqEngine:
        return Seq2SeqEngine.from_folder_or_hub(folder, max_new_tokens=size.max_new_tokens, **settings)

    engine = load()
    texts: dict[str, Texts] = {}

    def keep(way: str) -> None:
        texts[way] = plain_way(engine, sentences) if way == "plain" else by_engine(engine, sentences)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    # Once for nothing: kernels are chosen, memory is reserved.
    by_engine(engine, sentences[:16])
    plain, own = alternate([partial(keep, "plain"), partial(keep, "own")], rounds=size.rounds)
    engine.batch_tokens = SMALL_BATCH
    in_small_batches = by_engine(engine, sentences)
    return ratio(
        "translation_gpu",
        f"speed-up, {name}",
        "plain way / engine transformers",
        plain,
        own,
        sentences_per_second=[round(size.sentences * len(TARGETS) / min(turns.wall), 1) for turns in (plain, own)],
        same_texts=same_share(texts["plain"], texts["own"]),
        same_texts_in_small_batches=same_share(texts["own"], in_small_batches),
        parameters=parameters,
        dtype=str(engine.model.dtype),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **asdict(size),
    )
