"""Makes ``length_ratios.csv`` from aligned sentences: ``python -m mlc.quality.length_table FOLDER``.

FOLDER holds NTREX-128 (Federmann, Kocmi and Xin, 2022): ``newstest2019-src.eng.txt`` and
``newstest2019-ref.<tag>.txt``. Only medians and deviations are written, no text.
"""

import csv
import math
import statistics
import sys
import unicodedata
from pathlib import Path

from mlc.quality.signals.length import LENGTH_RATIOS

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

GUESSES = {
    "Hans": (-1.1, 0.3),
    "Hant": (-1.1, 0.3),
    "Jpan": (-0.75, 0.35),
    "Hang": (-0.7, 0.3),
    "Kore": (-0.7, 0.3),
    "*": (0.0, 0.35),
}
"""Centre and spread for scripts, wide: where a character is a syllable or a word, texts are shorter."""


def visible_length(text: str) -> int:
    """Returns the characters of a text, spaces and invisible ones aside, as ``sql/length.sql`` counts them."""
    return sum(unicodedata.category(character)[0] not in "ZC" for character in unicodedata.normalize("NFC", text))


def centre_and_spread(sources: list[str], translations: list[str]) -> tuple[float, float]:
    """Returns the median of the log length ratio and 1.4826 × its median absolute deviation.

    Args:
        sources: English sentences.
        translations: The same sentences in another language; pairs with a blank side are left out.
    """
    ratios = [
        math.log((visible_length(translation) + 1) / (visible_length(source) + 1))
        for source, translation in zip(sources, translations, strict=True)
        if source.strip() and translation.strip()
    ]
    centre = statistics.median(ratios)
    return centre, 1.4826 * statistics.median(abs(ratio - centre) for ratio in ratios)


def main(folder: Path) -> None:
    """Writes the table."""
    sources = (folder / "newstest2019-src.eng.txt").read_text(encoding="utf-8").split("\n")
    rows = [("eng_Latn", 0.0, 0.0, "definition")]
    for tag, code in NTREX_LANGUAGES.items():
        translations = (folder / f"newstest2019-ref.{tag}.txt").read_text(encoding="utf-8").split("\n")
        rows.append((code, *centre_and_spread(sources, translations), "ntrex128"))
    rows.extend((key, centre, spread, "guess") for key, (centre, spread) in GUESSES.items())
    with LENGTH_RATIOS.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("key", "centre", "spread", "origin"))
        writer.writerows((key, f"{centre:.4f}", f"{spread:.4f}", origin) for key, centre, spread, origin in rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
