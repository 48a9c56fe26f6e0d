"""Makes ``length_ratios.csv`` from aligned sentences: ``python -m mlc.making.length_table FOLDER``.

FOLDER holds the public sets, each in a folder of its own, in this order of preference:

- ``ntrex128`` (Federmann, Kocmi and Xin, 2022): human translations of news. Only every second row, from the first
  on: the filter is measured on the others.
- ``polyrefuse`` and ``mlqe_pe``, pooled where a language is in both: the prompts of PolyRefuse that are under
  Apache-2.0, and the machine translations of MLQE-PE (Fomicheva et al., 2022) that people gave at least 70 of 100.
- ``xcopa_val`` (Ponti et al., 2020): its English side is not there, so a language is compared with Swahili and with
  Chinese, whose own centres are added, and the mean of the two is taken.

Only medians, deviations and a usual length are written, no text.
"""

import csv
import json
import math
import statistics
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc.quality.measuring import LENGTH_RATIOS

NTREX_LANGUAGES = {
    "arb": "arb_Arab",
    "ben": "ben_Beng",
    "deu": "deu_Latn",
    "fra": "fra_Latn",
    "hin": "hin_Deva",
    "spa": "spa_Latn",
    "swa": "swh_Latn",
    "zho-CN": "zho_Hans",
}

POLYREFUSE_LANGUAGES = {
    "it": "ita_Latn",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "nl": "nld_Latn",
    "pl": "pol_Latn",
    "ru": "rus_Cyrl",
    "th": "tha_Thai",
    "yo": "yor_Latn",
}

MLQE_LANGUAGES = {"et": "est_Latn", "ro": "ron_Latn", "ru": "rus_Cyrl", "si": "sin_Sinh"}
"""Languages that are translated into English there."""

MLQE_GOOD = 70
"""Human score from which the meaning is closely kept."""

XCOPA_LANGUAGES = {
    "ht": "hat_Latn",
    "id": "ind_Latn",
    "qu": "quy_Latn",
    "ta": "tam_Taml",
    "tr": "tur_Latn",
    "vi": "vie_Latn",
}

XCOPA_PIVOTS = {"sw": "swh_Latn", "zh": "zho_Hans"}

GUESSES = {
    "Hans": (-1.1, 0.3),
    "Hant": (-1.1, 0.3),
    "Jpan": (-0.75, 0.35),
    "Hang": (-0.7, 0.3),
    "Kore": (-0.7, 0.3),
    "*": (0.0, 0.35),
}
"""Centre and spread for scripts, wide: where a character is a syllable or a word, texts are shorter."""

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Ratio:
    """The usual length of the texts of a language, against English."""

    centre: float
    """Median of ln(characters / characters of English)."""
    spread: float
    """1.4826 × the median absolute deviation."""
    length: float | None = None
    """Median of the characters of the English texts: what part of the spread is that of short texts follows from it
    (``measuring/centres.sql``). None for a guess."""


def visible_length(text: str) -> int:
    """Returns the characters of a text, spaces and invisible ones aside, as ``sql/length.sql`` counts them."""
    return sum(unicodedata.category(character)[0] not in "ZC" for character in unicodedata.normalize("NFC", text))


def ratio_of(sources: Sequence[str], translations: Sequence[str]) -> Ratio:
    """Measures the log length ratio of aligned texts.

    Args:
        sources: English sentences.
        translations: The same sentences in another language; pairs with a blank side are left out.
    """
    pairs = [
        (visible_length(source), visible_length(translation))
        for source, translation in zip(sources, translations, strict=True)
        if source.strip() and translation.strip()
    ]
    ratios = [math.log((after + 1) / (before + 1)) for before, after in pairs]
    centre = statistics.median(ratios)
    spread = 1.4826 * statistics.median(abs(ratio - centre) for ratio in ratios)
    return Ratio(centre, spread, statistics.median(before for before, _ in pairs))


def measure(folder: Path) -> list[tuple[str, Ratio, str]]:
    """Measures every language of the sets.

    Args:
        folder: The folder of the sets, see above.

    Returns:
        Key, ratio and origin: English first, then by origin, the guesses last.
    """
    rows = [("eng_Latn", Ratio(0.0, 0.0), "definition")]
    ntrex = {
        code: _ratio(zip(_ntrex(folder, "src.eng"), _ntrex(folder, f"ref.{tag}"), strict=True))
        for tag, code in NTREX_LANGUAGES.items()
    }
    rows.extend((code, ratio, "ntrex128") for code, ratio in ntrex.items())
    english_pairs: dict[str, Pairs] = {}
    origins: dict[str, list[str]] = {}
    for origin, languages, read in (
        ("polyrefuse", POLYREFUSE_LANGUAGES, _polyrefuse),
        ("mlqe_pe", MLQE_LANGUAGES, _mlqe),
    ):
        for tag, code in languages.items():
            english_pairs.setdefault(code, []).extend(read(folder, tag))
            origins.setdefault(code, []).append(origin)
    rows.extend((code, _ratio(pairs), "+".join(origins[code])) for code, pairs in sorted(english_pairs.items()))
    rows.extend((code, through_pivots(folder, tag, ntrex), "xcopa_val") for tag, code in XCOPA_LANGUAGES.items())
    rows.extend((key, Ratio(*guess), "guess") for key, guess in GUESSES.items())
    return rows


def main(folder: Path) -> None:
    """Writes the table."""
    with LENGTH_RATIOS.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("key", "centre", "spread", "length", "origin"))
        writer.writerows(
            (key, f"{ratio.centre:.4f}", f"{ratio.spread:.4f}", ratio.length and f"{ratio.length:g}", origin)
            for key, ratio, origin in measure(folder)
        )


def _ratio(pairs: Iterable[tuple[str, str]]) -> Ratio:
    sources, translations = zip(*pairs, strict=True)
    return ratio_of(sources, translations)


def _ntrex(folder: Path, name: str) -> list[str]:
    return (folder / "ntrex128" / f"newstest2019-{name}.txt").read_text(encoding="utf-8").split("\n")[::2]


def _polyrefuse(folder: Path, tag: str) -> Pairs:
    pairs: Pairs = []
    for part in ("harmful_train", "harmful_val"):
        english, other = (
            {row["row"]: row["prompt"] for row in _json_lines(folder / "polyrefuse" / f"{part}_{name}.jsonl")}
            for name in ("en", tag)
        )
        pairs.extend((english[row], other[row]) for row in english if row in other)
    return pairs


def _mlqe(folder: Path, tag: str) -> Pairs:
    with (folder / "mlqe_pe" / f"dev.{tag}en.df.short.tsv").open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["translation"], row["original"]) for row in rows if float(row["mean"]) >= MLQE_GOOD]


def through_pivots(folder: Path, tag: str, ratios: dict[str, Ratio]) -> Ratio:
    """Measures a language of XCOPA through languages whose ratio is known.

    Args:
        folder: The folder of the sets.
        tag: Its tag there.
        ratios: Those of the pivots.

    Returns:
        The ratio; its spread holds that of the pivots too, so it is wide.
    """
    against = [
        (ratios[pivot], _ratio(zip(_xcopa(folder, name), _xcopa(folder, tag), strict=True)))
        for name, pivot in XCOPA_PIVOTS.items()
    ]
    return Ratio(
        statistics.mean(pivot.centre + ratio.centre for pivot, ratio in against),
        statistics.mean(ratio.spread for _, ratio in against),
        # In English the texts of the pivot would be as long as its centre says.
        statistics.mean(math.exp(-pivot.centre) * float(ratio.length or 0) for pivot, ratio in against),
    )


def _xcopa(folder: Path, tag: str) -> list[str]:
    # The three sentences of a row together: alone they are too short for a steady ratio.
    rows = _json_lines(folder / "xcopa_val" / f"val.{tag}.jsonl")
    return [" ".join((row["premise"], row["choice1"], row["choice2"])) for row in rows]


def _json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
