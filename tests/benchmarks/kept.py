"""What the filter drops of translations that people wrote: by language, by reason, and for both halves of the rows.

Rules are written with the rows of even number in sight; those of odd number show what they are worth. Texts are never
printed: a row is told by its set and its number.
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

import pyarrow as pa

from mlc.errors import UserError
from mlc.evaluation.intervals import wilson
from mlc.languages import ENGLISH, resolve_language
from mlc.making.calibrate import read_ntrex
from mlc.quality.filtering import filter_pairs
from mlc.quality.settings import QualitySettings
from tests.benchmarks.measuring import Figure, progress, rounded

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CHINESE = "zho_Hans"
XCOPA_PIVOT = "zh"
"""XCOPA has no English side: its translations are judged against the Chinese ones."""
TWO_SENTENCES = "The garden is green in the spring. We sat there until the evening."
SENTENCE_ENDS = tuple(".!?。！？।։؟۔…")
UNSPACED = frozenset({"Hans", "Hant", "Jpan"})
HALVES = ("even", "odd")
QUICK_ROWS = 40


@dataclass(frozen=True)
class HumanText:
    """Pairs of one language out of one set, aligned by row."""

    name: str
    """The set."""
    source: str
    """NLLB code."""
    target: str
    """NLLB code."""
    pairs: Sequence[tuple[int, str, str]]
    """Number of the row in its file, source, translation."""

    def rows(self, half: int, limit: int | None) -> "HumanText":
        """The pairs of even (0) or odd (1) number, the first ones if there is a limit."""
        return replace(self, pairs=[pair for pair in self.pairs if pair[0] % 2 == half][:limit])

    def table(self) -> pa.Table:
        """The pairs as the filter reads them."""
        columns = {
            "source": [source for _, source, _ in self.pairs],
            "translation": [translation for _, _, translation in self.pairs],
            "source_language": [self.source] * len(self.pairs),
            "target_language": [self.target] * len(self.pairs),
        }
        return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def run(*, quick: bool) -> Iterator[Figure]:
    """The share of each language that is dropped; the full size takes all rows."""
    if not SHARED_DATA.is_dir():
        progress("  no test data beside the project: nothing to measure")
        return
    texts = list(human_text(SHARED_DATA))
    for half in range(2):
        dropped = dropped_rows(texts, half, limit=QUICK_ROWS if quick else None)
        yield _figure(f"human translations dropped, {HALVES[half]} rows", dropped)
    for half in range(2):
        lost = sentences_lost(SHARED_DATA / "language_id", half, limit=QUICK_ROWS if quick else None)
        yield _figure(f"two sentences counted as fewer, {HALVES[half]} rows", lost)


def human_text(folder: Path) -> Iterator[HumanText]:
    """Everything in the shared data that people translated, blank rows aside.

    Args:
        folder: The folder of the sets.
    """
    news = read_ntrex(folder / "ntrex128")
    for code, translations in news.translations.items():
        yield _text("ntrex128", ENGLISH, code, dict(enumerate(news.sources)), dict(enumerate(translations)))
    for kind in ("harmless_train", "harmless_val", "harmful_train", "harmful_val"):
        english = _prompts(folder / "polyrefuse" / f"{kind}_en.jsonl")
        for path in sorted((folder / "polyrefuse").glob(f"{kind}_*.jsonl")):
            tag = path.stem.rpartition("_")[2]
            if tag != "en":
                yield _text(f"polyrefuse {kind}", ENGLISH, _code(tag), english, _prompts(path))
    with (folder / "multijail" / "multijail_1_150.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for tag in ("ar", "bn", "sw", "zh"):
        columns = ({number: row[name] for number, row in enumerate(rows)} for name in ("en", tag))
        yield _text("multijail", ENGLISH, _code(tag), *columns)
    pivot = _choices(folder / "xcopa_val" / f"val.{XCOPA_PIVOT}.jsonl")
    for path in sorted((folder / "xcopa_val").glob("val.*.jsonl")):
        tag = path.stem.rpartition(".")[2]
        if tag != XCOPA_PIVOT:
            yield _text("xcopa_val", _code(XCOPA_PIVOT), _code(tag), pivot, _choices(path))


@dataclass(frozen=True)
class Dropped:
    """What became of the rows of one language."""

    rows: int
    reasons: Mapping[str, int]
    """Dropped rows by first reason."""
    places: Sequence[tuple[str, int, str]]
    """Set, number and reason of each dropped row."""


def dropped_rows(texts: Sequence[HumanText], half: int, limit: int | None = None) -> dict[str, Dropped]:
    """Judges one half of all rows, each set by itself, and counts what is dropped by language.

    Args:
        texts: The pairs.
        half: 0 for rows of even number, 1 for odd ones.
        limit: Rows of each set and language at most; all, if not given.
    """
    rows: Counter[str] = Counter()
    places: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    for name, of_set in groupby(texts, key=lambda text: text.name):
        chosen = [text.rows(half, limit) for text in of_set]
        verdicts = filter_pairs(pa.concat_tables([text.table() for text in chosen]), QualitySettings())
        pairs = ((text.target, number) for text in chosen for number, _, _ in text.pairs)
        for (code, number), reason in zip(pairs, verdicts["reason"].to_pylist(), strict=True):
            rows[code] += 1
            if reason is not None:
                places[code].append((name, number, reason))
    return {
        code: Dropped(rows[code], Counter(reason for _, _, reason in places[code]), places[code])
        for code in sorted(rows)
    }


def sentences_lost(folder: Path, half: int, limit: int | None = None) -> dict[str, Dropped]:
    """Counts pairs of labelled sentences, put together as their script does, that are taken for one sentence.

    Args:
        folder: One file of sentences a language; only those that end as a sentence does.
        half: 0 for pairs of even number, 1 for odd ones.
        limit: Pairs of each language at most.
    """
    texts = []
    for path in sorted(folder.glob("*.txt")):
        code = _code_or_none(path.stem)
        if code is not None:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            space = "" if code.split("_")[1] in UNSPACED else " "
            pairs = [
                (number, TWO_SENTENCES, space.join(pair))
                for number, pair in enumerate(pairwise(lines))
                if all(line.endswith(SENTENCE_ENDS) for line in pair)
            ]
            texts.append(HumanText("language_id", ENGLISH, code, pairs).rows(half, limit))
    verdicts = filter_pairs(pa.concat_tables([text.table() for text in texts]), QualitySettings())
    shares = iter(verdicts["signal_sentences"].to_pylist())
    found = {}
    for text in texts:
        lost = [number for number, _, _ in text.pairs if (next(shares) or 1.0) < 1]
        places = [("language_id", number, "sentences") for number in lost]
        found[text.target] = Dropped(len(text.pairs), Counter(reason for _, _, reason in places), places)
    return {code: one for code, one in found.items() if one.rows}


def _figure(name: str, found: Mapping[str, Dropped]) -> Figure:
    total, all_dropped = sum(one.rows for one in found.values()), sum(len(one.places) for one in found.values())
    shares = {code: wilson(len(one.places), one.rows) for code, one in found.items()}
    worst = max(shares, key=lambda code: shares[code].value)
    progress(f"  {name}")
    for code, share in shares.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(found[code].reasons.items()))
        progress(f"  {code} {share.value:7.4f} [{share.low:.4f}, {share.high:.4f}] n {share.n:5d}  {reasons}")
    whole, of_worst = wilson(all_dropped, total), shares[worst]
    reasons = sum((Counter(one.reasons) for one in found.values()), Counter())
    return Figure(
        "kept",
        name,
        rounded(whole.value),
        "share",
        {
            "min": rounded(whole.low),
            "max": rounded(whole.high),
            "n": total,
            "worst": {worst: [rounded(value) for value in (of_worst.value, of_worst.low, of_worst.high)]},
            "reasons": dict(reasons.most_common()),
            "share_and_n": {code: [rounded(share.value), share.n] for code, share in shares.items()},
        },
    )


def _text(
    name: str, source: str, target: str, sources: Mapping[int, str], translations: Mapping[int, str]
) -> HumanText:
    both = sorted(sources.keys() & translations.keys())
    pairs = [(row, sources[row], translations[row]) for row in both]
    return HumanText(name, source, target, [pair for pair in pairs if pair[1].strip() and pair[2].strip()])


def _prompts(path: Path) -> dict[int, str]:
    return {row["row"]: row["prompt"] for row in _lines(path)}


def _choices(path: Path) -> dict[int, str]:
    """The premise and both choices of each question, as rows of their own."""
    names = ("premise", "choice1", "choice2")
    rows = (row[name] for row in _lines(path) for name in names)
    return dict(enumerate(rows))


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _code(tag: str) -> str:
    return CHINESE if tag == "zh" else resolve_language(tag).code


def _code_or_none(tag: str) -> str | None:
    """None for a language that the table lacks (Latin)."""
    try:
        return _code(tag)
    except UserError:
        return None
