"""Fixtures of the quality tests: pairs in, measured or judged rows out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlc.languages import ENGLISH
from mlc.making.calibrate import read_ntrex
from mlc.making.corruptions import Corpus
from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
EVERYDAY = Path(__file__).resolve().parents[1] / "data" / "everyday.jsonl"

Judge = Callable[..., dict[str, Any]]


@pytest.fixture
def judge() -> Judge:
    """Returns the verdict on one pair, as a dictionary of its columns."""

    def verdict(source: str, translation: str | None, language: str, **columns: Any) -> dict[str, Any]:
        settings = columns.pop("settings", QualitySettings())
        row = {
            "source": source,
            "translation": translation,
            "source_language": "eng_Latn",
            "target_language": language,
            **columns,
        }
        return filter_pairs(pa.Table.from_pylist([row]), settings).to_pylist()[0]

    return verdict


@pytest.fixture(scope="module")
def judged(request: pytest.FixtureRequest) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Returns the verdicts on all ``CASES`` of the module, measured at once, by (source, translation, language)."""
    keys = [tuple(case[:3]) for case in request.module.CASES]
    names = ("source", "translation", "target_language")
    rows = [{**dict(zip(names, key, strict=True)), "source_language": "eng_Latn"} for key in keys]
    verdicts = filter_pairs(pa.Table.from_pylist(rows), QualitySettings()).to_pylist()
    return dict(zip(keys, verdicts, strict=True))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Returns a folder of the shared test data, or skips the test with the reason."""

    def folder(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"no test data {name} beside the project (see tests/data/README.md)")
        return path

    return folder


@pytest.fixture(scope="session")
def everyday() -> Corpus:
    """Returns clean translations of our own: few, and in every clone."""
    rows = [json.loads(line) for line in EVERYDAY.read_text(encoding="utf-8").splitlines()]
    languages = [name for name in rows[0] if name not in ("id", ENGLISH)]
    return Corpus([row[ENGLISH] for row in rows], {code: [row[code] for row in rows] for code in languages})


@pytest.fixture(params=["everyday", "ntrex128"])
def corpus(request: pytest.FixtureRequest, everyday: Corpus, shared_data: Callable[[str], Path]) -> Corpus:
    """Returns the few everyday sentences, and in turn every fourth sentence of the news, where they are."""
    return everyday if request.param == "everyday" else read_ntrex(shared_data("ntrex128")).rows(1, 4)
