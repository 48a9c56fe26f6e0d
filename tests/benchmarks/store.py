"""Finding an intact artifact, which means hashing all of it, against hashing the same bytes in memory."""

import hashlib
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mlc.store.artifacts import ArtifactStore
from mlc.store.keys import KeyParts
from tests.benchmarks.measuring import Figure, alternate, ratio

KIND = "benchmark"


@dataclass(frozen=True)
class Size:
    """The artifact, and how often it is measured."""

    files: int
    megabytes: int
    rounds: int


FULL = Size(files=4, megabytes=64, rounds=21)
QUICK = Size(files=2, megabytes=1, rounds=3)


def run(*, quick: bool) -> Iterator[Figure]:
    """The files were just written, so they are read from the system's cache."""
    size = QUICK if quick else FULL
    blocks = [random.Random(index).randbytes((size.megabytes << 20) // size.files) for index in range(size.files)]
    parts = KeyParts(stage=KIND, version=1)
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(Path(folder))
        _write(store, parts, blocks)

        def find() -> None:
            if store.find(KIND, parts.key) is None:
                raise RuntimeError("the artifact that was just written is not found intact.")

        def plain() -> list[str]:
            return [hashlib.sha256(block).hexdigest() for block in blocks]

        find()
        own, other = alternate([find, plain], rounds=size.rounds)
    means = "ArtifactStore.find / hashlib.sha256 of the same bytes in memory"
    yield ratio("store", "overhead of find", means, own, other, **asdict(size))


def _write(store: ArtifactStore, parts: KeyParts, blocks: list[bytes]) -> None:
    with store.writing(KIND, parts) as draft:
        for index, block in enumerate(blocks):
            (draft.path / f"part-{index}.bin").write_bytes(block)
