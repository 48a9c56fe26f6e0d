"""What the quality filter finds, and what its calibrated quality is worth.

Read from the test data beside the project: NTREX-128, MLQE-PE and the labelled sentences of lingua-py. Thresholds and
coefficients were chosen on rows with an even number; everything here is of the odd ones.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from mlc.errors import UserError
from mlc.evaluation.intervals import wilson
from mlc.evaluation.metrics import BOOTSTRAP_SEED, auroc
from mlc.evaluation.results import Estimate
from mlc.languages import ENGLISH, all_languages, resolve_language
from mlc.making.calibrate import MLQE_PAIRS, is_good, read_judged, read_ntrex, without_model
from mlc.making.corruptions import CORRUPTIONS, Corpus, Corruption, batches
from mlc.quality.calibration import quality_of
from mlc.quality.filtering import filter_pairs
from mlc.quality.measuring.tables import compute_signals
from mlc.quality.reliability import calibration_error, reliability_bins
from mlc.quality.rows import REQUIRED_COLUMNS
from mlc.quality.settings import QualitySettings
from mlc.shipped import shipped_data
from mlc.text.identification import label_of
from tests.benchmarks.measuring import Figure, progress, rounded

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SEED = 0
RESAMPLES = 1000
QUICK_KINDS = 4
AROUND_EVERY = 4
"""One NTREX row in so many, all with an even number, fills the batches."""
FOREIGN_SENTENCES = 4
"""Sentences of each other language that are given out for a language."""

Tally = dict[str, list[int]]
"""Found and all, by language."""

Scores = Mapping[str, np.ndarray]


def run(*, quick: bool) -> Iterator[Figure]:
    """Quick is the damage alone, on references of the quickstart; the full size needs the test data."""
    if quick:
        yield from detection(_quickstart(rows=6), corruptions=CORRUPTIONS[:QUICK_KINDS])
        return
    if not SHARED_DATA.is_dir():
        progress("  no test data beside the project: nothing to measure")
        return
    news = read_ntrex(SHARED_DATA / "ntrex128")
    yield from detection(news.rows(1, 2), around=news.rows(0, AROUND_EVERY))
    yield from judged(SHARED_DATA / "mlqe_pe")
    yield from identification(SHARED_DATA / "language_id")


def detection(
    corpus: Corpus, around: Corpus | None = None, corruptions: Sequence[Corruption] = CORRUPTIONS
) -> Iterator[Figure]:
    """The share of damaged pairs that the default thresholds drop, by kind and language, beside that of clean ones.

    Args:
        corpus: Clean pairs to damage.
        around: Clean pairs that fill the batches, enough for the filter to measure what is usual in them.
        corruptions: The kinds of damage.
    """
    found: dict[tuple[str, bool], Tally] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    qualities: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for batch in batches(corpus, seed=SEED, around=around, corruptions=corruptions):
        verdicts = filter_pairs(batch.select(REQUIRED_COLUMNS), QualitySettings())
        columns = (batch["kind"], batch["damaged"], batch["target_language"], verdicts["keep"], quality_of(verdicts))
        for kind, damaged, language, keep, quality in zip(*(column.to_pylist() for column in columns), strict=True):
            if kind == "around":
                continue
            tally = found[kind, damaged][language]
            tally[0] += not keep
            tally[1] += 1
            qualities[kind, damaged].append(quality)
    clean = _added(tally for (_, damaged), tally in found.items() if not damaged)
    means = "dropped / all, default thresholds"
    # Each clean pair was judged beside every kind: the interval is that of the pairs, not of the judgements.
    distinct = sum(bool(text.strip()) for texts in corpus.translations.values() for text in texts)
    yield _share("false rejects", means, clean, distinct=distinct)
    for corruption in corruptions:
        if not found[corruption.name, True]:
            continue  # No row could be made suitable, as in a very small corpus.
        yield _share(
            f"detection of {corruption.name}",
            means,
            found[corruption.name, True],
            text_shows=corruption.text_shows,
            false_rejects=rounded(_estimate(found[corruption.name, False]).value),
            quality_auroc=rounded(auroc(qualities[corruption.name, False], qualities[corruption.name, True])),
        )
    rows = {"clean": clean} | {name: tally for (name, damaged), tally in found.items() if damaged and tally}
    _table(["dropped"], list(corpus.translations), rows)


def judged(folder: Path) -> Iterator[Figure]:
    """Agreement of the quality with the scores that people gave, beside that of the translator's own score."""
    signals = compute_signals(read_judged(folder).half(1))
    human, pair = signals["human"].to_numpy(), np.asarray(signals["pair"].to_pylist())
    good = is_good(signals)
    scores = {
        "text": quality_of(without_model(signals)).to_numpy(),
        "text and model": quality_of(signals).to_numpy(),
        "model alone": signals["logprob"].to_numpy(),
    }
    for name, score in scores.items():
        for code in MLQE_PAIRS:
            chosen = pair == code
            figure = bootstrapped(spearman, human[chosen], score[chosen])
            yield _interval("Spearman", name, code, "rank correlation with human scores", figure)
            figure = bootstrapped(_auroc_of, good[chosen], score[chosen])
            yield _interval("AUROC", name, code, "human score of 70 or more against less", figure)
        if name != "model alone":
            means = "expected calibration error, 10 bins of equal size"
            levels = {
                code: [rounded(score[pair == code].mean()), rounded(good[pair == code].mean())] for code in MLQE_PAIRS
            }
            figure = bootstrapped(_error_of, good, score)
            yield _interval("calibration error", name, "all", means, figure, mean_and_share_good=levels)

    for code in MLQE_PAIRS:
        chosen = pair == code
        both = np.stack([scores["text and model"][chosen], scores["model alone"][chosen]], axis=1)
        means = "rank correlation with human scores, text and model minus model alone, the same rows"
        yield _interval(
            "Spearman gained", "by the text", code, means, bootstrapped(_spearman_gained, human[chosen], both)
        )


def identification(folder: Path) -> Iterator[Figure]:
    """How often the identifier names the language, and what the filter makes of right and of foreign sentences."""
    sentences = _labelled(folder)
    known = [code for code in sentences if label_of(code)]
    named = _named(sentences)
    yield _share(
        "language named", "py3langid's first label is the language's / sentences", {c: named[c] for c in known}
    )
    right = _dropped({code: [(code, text) for text in texts] for code, texts in sentences.items()})
    yield _share("right language dropped", "dropped for language or script / sentences in their language", right)
    foreign = {
        code: [(other, text) for other in sentences if other != code for text in sentences[other][:FOREIGN_SENTENCES]]
        for code in sentences
    }
    for name, akin in (("same", True), ("another", False)):
        chosen = {
            code: [row for row in rows if (_script(row[0]) == _script(code)) is akin] for code, rows in foreign.items()
        }
        caught = _dropped({code: rows for code, rows in chosen.items() if rows})
        means = f"dropped for language or script / sentences in another language of {name} script"
        if akin:
            unknown = {code: tally for code, tally in caught.items() if code not in known}
            yield _share("foreign language dropped, unknown to the identifier", means, unknown)
            caught = {code: tally for code, tally in caught.items() if code in known}
        yield _share(f"foreign language dropped, {name} script", means, caught)
    without = [language.code for language in all_languages() if label_of(language.code) is None]
    total = len(all_languages())
    yield Figure(
        "quality",
        "languages that the identifier knows",
        rounded(1 - len(without) / total),
        "share",
        {"means": "languages of the table with a label / languages of the table", "n": total, "min": 0, "max": 1},
    )


def spearman(human: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of two arrays of one shape."""
    first, second = (rankdata(values, axis=-1) for values in (human, scores))
    first = first - first.mean(axis=-1, keepdims=True)
    second = second - second.mean(axis=-1, keepdims=True)
    return (first * second).sum(axis=-1) / np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))


def bootstrapped(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], outcome: np.ndarray, scores: np.ndarray
) -> Estimate:
    """A statistic of paired rows, with its percentile interval over resampled rows."""
    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(len(outcome), size=(RESAMPLES, len(outcome)))
    low, high = np.quantile(statistic(outcome[draws], scores[draws]), [0.025, 0.975])
    return Estimate(float(statistic(outcome[None], scores[None])[0]), float(low), float(high), len(outcome))


def _spearman_gained(human: np.ndarray, both: np.ndarray) -> np.ndarray:
    return spearman(human, both[..., 0]) - spearman(human, both[..., 1])


def _auroc_of(good: np.ndarray, scores: np.ndarray) -> np.ndarray:
    pairs = zip(good, scores, strict=True)
    return np.array([auroc(score[outcome == 1], score[outcome == 0]) for outcome, score in pairs])


def _error_of(good: np.ndarray, scores: np.ndarray) -> np.ndarray:
    pairs = zip(good, scores, strict=True)
    return np.array([calibration_error(reliability_bins(score, outcome)) for outcome, score in pairs])


def _quickstart(rows: int) -> Corpus:
    lines = shipped_data("quickstart/references/test.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    references = [json.loads(line) for line in lines]
    codes = [key for key in references[0] if key not in ("id", ENGLISH)]
    return Corpus([row[ENGLISH] for row in references], {code: [row[code] for row in references] for code in codes})


def _labelled(folder: Path) -> dict[str, list[str]]:
    """Sentences by language; a language that the table lacks (Latin) is left out."""
    found = {}
    for path in sorted(folder.glob("*.txt")):
        try:
            code = "zho_Hans" if path.stem == "zh" else resolve_language(path.stem).code
        except UserError:
            progress(f"  {path.stem} is not in the table of languages")
            continue
        found[code] = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return found


def _judge(rows: Mapping[str, Sequence[tuple[str, str]]]) -> pa.Table:
    """Verdicts on texts, given out for a language, by that language."""
    declared = [(code, text) for code, texts in rows.items() for _, text in texts]
    columns = {
        "source": ["This sentence is the same for all of them."] * len(declared),
        "translation": [text for _, text in declared],
        "source_language": [ENGLISH] * len(declared),
        "target_language": [code for code, _ in declared],
    }
    return filter_pairs(
        pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), QualitySettings()
    )


def _dropped(rows: Mapping[str, Sequence[tuple[str, str]]]) -> Tally:
    verdicts = _judge(rows)
    tally: Tally = {code: [0, 0] for code in rows}
    for code, reasons in zip(verdicts["target_language"].to_pylist(), verdicts["reasons"].to_pylist(), strict=True):
        tally[code][0] += bool({"wrong_language", "wrong_script"} & set(reasons))
        tally[code][1] += 1
    return tally


def _named(sentences: Mapping[str, Sequence[str]]) -> Tally:
    verdicts = _judge({code: [(code, text) for text in texts] for code, texts in sentences.items()})
    tally: Tally = {code: [0, 0] for code in sentences}
    labels = verdicts["signal_language_predicted"].to_pylist()
    for code, label in zip(verdicts["target_language"].to_pylist(), labels, strict=True):
        tally[code][0] += label is not None and label == label_of(code)
        tally[code][1] += 1
    return tally


def _added(tallies: Iterable[Tally]) -> Tally:
    total: Tally = defaultdict(lambda: [0, 0])
    for tally in tallies:
        for language, (found, count) in tally.items():
            total[language][0] += found
            total[language][1] += count
    return total


def _estimate(tally: Tally) -> Estimate:
    return wilson(sum(found for found, _ in tally.values()), sum(count for _, count in tally.values()))


def _share(name: str, means: str, tally: Tally, *, distinct: int | None = None, **more: object) -> Figure:
    whole = _estimate(tally)
    if distinct is not None:
        whole = wilson(round(whole.value * distinct), distinct)
    languages = {language: [rounded(found / count), count] for language, (found, count) in tally.items() if count}
    detail = {"means": means, "min": rounded(whole.low), "max": rounded(whole.high), "n": whole.n, **more}
    return Figure("quality", name, rounded(whole.value), "share", {**detail, "share_and_n": languages})


def _interval(figure: str, score: str, pair: str, means: str, found: Estimate, **more: object) -> Figure:
    progress(f"  {figure:17s} {score:15s} {pair:5s} {found.value:6.3f} [{found.low:.3f}, {found.high:.3f}] n {found.n}")
    detail = {"means": means, "min": rounded(found.low), "max": rounded(found.high), "n": found.n, **more}
    return Figure("quality", f"{figure}, {score}, {pair}", rounded(found.value), "score", detail)


def _table(head: list[str], languages: list[str], rows: Mapping[str, Tally]) -> None:
    progress(f"  {head[0]:20s} {'all':>6s} " + " ".join(code[:3].rjust(6) for code in languages) + "      n")
    for name, tally in rows.items():
        shares = [tally[code][0] / tally[code][1] if tally.get(code, [0, 0])[1] else np.nan for code in languages]
        whole = _estimate(tally)
        progress(f"  {name:20s} {whole.value:6.3f} " + " ".join(f"{share:6.3f}" for share in shares) + f" {whole.n:6d}")


def _script(code: str) -> str:
    return code.split("_")[1]
