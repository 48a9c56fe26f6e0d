"""What a gate says in place of an answer, by language."""

from collections.abc import Mapping, Sequence
from functools import cache

from mlc.languages import ENGLISH
from mlc.shipped import shipped_data
from mlc.yaml_text import read_mapping

FILE = "judges/refusals.yaml"


@cache
def shipped_refusals() -> Mapping[str, str]:
    """The shipped sentences, by NLLB code."""
    return read_mapping(shipped_data(FILE), "The file of refusals", "of sentences by language")


def refusals_in(languages: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """One sentence a language: a given one, the shipped one, or the English one.

    Args:
        languages: NLLB codes.
        given: Sentences in place of shipped ones, by NLLB code.
    """
    known = {**shipped_refusals(), **given}
    return {code: known.get(code, known[ENGLISH]) for code in languages}


def refusals_of_a_gate(languages: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """What a gate may have to say: a sentence in each of its languages, and in every other one that has a sentence.

    Args:
        languages: NLLB codes of languages with a threshold.
        given: Sentences in place of shipped ones, by NLLB code.
    """
    return refusals_in(languages, given) | {**shipped_refusals(), **given}
