"""Is the translation in its language? Asked of py3langid."""

from functools import cache

import duckdb
import pyarrow as pa
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from mlc.languages import all_languages
from mlc.quality.signals.signal import Column, Direction, Signal

MIN_LETTERS = 8
"""Below this many letters the identifier is a coin toss, and the signal is NULL."""

NO_LANGUAGE = "zxx"
"""py3langid's label for text that is in no language."""

LABELS: dict[str, str | None] = {
    **dict.fromkeys(("acm_Arab", "acq_Arab", "aeb_Arab", "ajp_Arab", "apc_Arab", "arb_Arab", "ars_Arab"), "ar"),
    "ary_Arab": "ary",
    "arz_Arab": "arz",
    "ace_Latn": "ace",
    "crh_Latn": "crh",
    "fuv_Latn": "fuv",
    "grn_Latn": "gug",
    "kab_Latn": "kab",
    "kik_Latn": "kik",
    "lij_Latn": "lij",
    "ltg_Latn": "ltg",
    "nno_Latn": "nn",
    "nob_Latn": "no",
    "nso_Latn": "nso",
    "prs_Arab": "fa",
    "vec_Latn": "vec",
    "yue_Hant": "yue",
    "zho_Hans": "zh",
    "zho_Hant": "zh",
    # The identifier knows these languages in another script only.
    "azb_Arab": None,
    "ckb_Arab": None,
    "kas_Arab": None,
    "kas_Deva": None,
    "knc_Arab": None,
}
"""py3langid's label where it is not the two-letter code of the table; None where it has none."""

FAMILIES: tuple[frozenset[str], ...] = tuple(
    frozenset(family.split())
    for family in (
        "no nn da sv",
        "hr sr bs sl mk",
        "mk bg sr ru",
        "cs sk",
        "id ms jv ace",
        "es gl pt an ext ca",
        "ca oc es",
        "oc fr wa",
        "it lij vec",
        "fr gcf gcr ht wa oc",
        "de lb",
        "nl af fy",
        "ru uk be",
        "tr az crh tk",
        "kk ky tt ba",
        "uz uzs",
        "ar arz ary",
        "fa ps sdh ur",
        "ku sdh",
        "hi ne mr sa gom",
        "bn as",
        "zh wuu yue",
        "xh zu",
        "st nso",
        "rw sw lg ln kik sn",
        "fi et",
        "lv lt ltg",
        "is fo",
        "ga gd",
        "qu gug",
        "he hbo",
        "el grc",
        "en pcm",
        "tl bcl",
        "yo ig guw",
    )
)
"""Languages that the identifier takes for one another; a prediction inside the family is no evidence."""


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def label_of(code: str) -> str | None:
    """Returns py3langid's label for a language, or None where it does not know the language.

    Args:
        code: NLLB code that is in the language table.
    """
    if code in LABELS:
        return LABELS[code]
    label = next(language.iso639_1 for language in all_languages() if language.code == code)
    return label if label in _identifier().labels else None


@cache
def accepted_labels(code: str) -> frozenset[str]:
    """Returns the labels that are no evidence against a language; empty where py3langid does not know it."""
    label = label_of(code)
    if label is None:
        return frozenset()
    return frozenset({label}).union(*(family for family in FAMILIES if label in family))


def identify(content: str, source_language: str, target_language: str) -> dict[str, str | float | None]:
    """Asks which language a text is in.

    Args:
        content: The translation without placeholders.
        source_language: NLLB code of the source.
        target_language: NLLB code of the target.

    Returns:
        ``predicted`` label, probability ``expected`` of the target's family, highest probability ``other``
        outside it, probability ``untranslated`` of the source language.
    """
    ranked = [(label, chance) for label, chance in _identifier().rank(content) if label != NO_LANGUAGE]
    accepted = accepted_labels(target_language)
    source_label = label_of(source_language)
    return {
        "predicted": ranked[0][0],
        "expected": min(1.0, sum(chance for label, chance in ranked if label in accepted)) if accepted else None,
        "other": next(chance for label, chance in ranked if label not in accepted) if accepted else None,
        "untranslated": dict(ranked).get(source_label) if source_label and source_label not in accepted else None,
    }


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Fills the table ``identified``, one row a distinct text and pair of languages."""
    rows = connection.execute(
        """
        SELECT DISTINCT plain_translation, source_language, target_language FROM texts
        WHERE length(translation_letters) >= ? ORDER BY ALL
        """,
        [MIN_LETTERS],
    ).fetchall()
    found = [identify(*row) for row in rows]
    columns = {
        "plain_translation": pa.array([row[0] for row in rows], pa.string()),
        "source_language": pa.array([row[1] for row in rows], pa.string()),
        "target_language": pa.array([row[2] for row in rows], pa.string()),
        "predicted": pa.array([answer["predicted"] for answer in found], pa.string()),
        **{
            name: pa.array([answer[name] for answer in found], pa.float64())
            for name in ("expected", "other", "untranslated")
        },
    }
    connection.register("identified", pa.table(columns))


LANGUAGE = Signal(
    name="wrong_language",
    columns=(
        Column("signal_language_predicted", Direction.CONTEXT, "Label of the most probable language."),
        Column(
            "signal_language_expected",
            Direction.HIGHER_IS_BETTER,
            "Probability of the target language and those taken for it.",
            0,
            1,
        ),
        Column(
            "signal_language_other",
            Direction.HIGHER_IS_WORSE,
            "Highest probability of a language that is not taken for the target.",
            0,
            1,
        ),
        Column("signal_language_source", Direction.HIGHER_IS_WORSE, "Probability of the source language.", 0, 1),
    ),
    fails="""
        signal_translation_letters >= limits.language_min_letters
        AND (
            signal_language_other >= limits.language_other
            OR signal_language_source >= limits.language_source
        )
    """,
    source="Lui and Baldwin (2012), langid.py, in its fork py3langid; OpusFilter LangidFilter.",
    prepare=prepare,
)
