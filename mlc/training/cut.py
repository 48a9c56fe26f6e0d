"""Answers that are longer than training reads: they are cut, and what ends an answer is not taught behind them.

So it is with answers that a model gave itself and that were stopped at that length: where all of it is used up, nobody
knows whether the answer was at its end.
"""

from collections.abc import Sequence
from typing import Any

IGNORED = -100
"""Label of a token that is not learned."""
CUT = "cut_answers"
"""In a dataset for the trainers of TRL: names of the answers of a row that are cut."""


def cut_answer(tokenizer: Any, text: str, tokens: int) -> str:
    """The beginning of an answer.

    Args:
        tokenizer: Fast tokenizer of the policy.
        text: The answer.
        tokens: Most tokens that may remain.
    """
    places = _places(tokenizer, text)
    return text if len(places) <= tokens else text[: places[tokens - 1][1]]


def is_open(tokenizer: Any, text: str, tokens: int) -> bool:
    """Whether an answer may go on behind what is read of it: it is cut, or fills all that may be read.

    Args:
        tokenizer: Fast tokenizer of the policy.
        text: The answer.
        tokens: Most tokens that are read.
    """
    return len(_places(tokenizer, text)) >= tokens


def _places(tokenizer: Any, text: str) -> Any:
    return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]


def without_ends(dataset: Any, stop_tokens: Sequence[int]) -> Any:
    """A dataset as a trainer of TRL prepared it, in which open answers do not end.

    Args:
        dataset: With the column :data:`CUT`; as it is without.
        stop_tokens: Ids of the tokens that end an answer.

    Returns:
        Without that column. Labels of the end are :data:`IGNORED`; where answers are tokens alone, as for DPO, these
        stop before it.
    """
    if CUT not in (dataset.column_names or []):
        return dataset
    stops = set(stop_tokens)

    def opened(row: dict[str, Any]) -> dict[str, Any]:
        changed = {}
        for name in row[CUT]:
            labels = "labels" if name == "completion" else f"{name}_labels"
            if labels in row:
                end = _end(row[labels], stops)
                changed[labels] = [*row[labels][:end], *[IGNORED] * (len(row[labels]) - end)]
            elif (ids := f"{name}_ids") in row:
                changed[ids] = row[ids][: _end(row[ids], stops)]
        return changed

    return dataset.map(opened, remove_columns=[CUT])


def _end(ids: Sequence[int], stops: set[int]) -> int:
    """Where an answer ends: at its first token that ends one; behind the last where there is none, or nothing else."""
    labelled = next((place for place, token in enumerate(ids) if token != IGNORED), len(ids))
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return end if end > labelled else len(ids)
