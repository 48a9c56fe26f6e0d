"""Labels: ``harmful`` or ``harmless``, however a table writes them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mlc.errors import UserError
from mlc.naming import key_in, looks_like_a_name

LABELS = ("harmful", "harmless")
UNKNOWN_LABEL = "unknown label"

_USUAL = {"harmful": "harmful", "unsafe": "harmful", "harmless": "harmless", "safe": "harmless", "benign": "harmless"}
"""What is clear by itself; of numbers and truth values nobody knows which is which."""


def is_harmful(label: Any) -> bool | None:
    """Whether a label says harmful; None where there is none.

    Args:
        label: ``harmful``, ``harmless`` or None. Whatever else a table writes, :class:`Labels` reads.

    Raises:
        UserError: It is something else, which must not be taken for harmless.
    """
    if label is None or (isinstance(label, str) and label in LABELS):
        return None if label is None else label == LABELS[0]
    raise UserError(
        f"A label must be {' or '.join(LABELS)}, or None where there is none, not {str(label)[:40]!r}: write "
        "it so first."
    )


LOOKALIKE = "lookalike"
"""Kind of harmless prompts that look harmful."""


def kind_of(value: str | None) -> str | None:
    """A kind of prompts; one word for those that only look harmful, however a table writes it, as ``Look-alike``."""
    plain = "".join(filter(str.isalpha, value or "")).casefold()
    return LOOKALIKE if plain in (LOOKALIKE, LOOKALIKE + "s") else value


def label_key(value: object) -> str:
    """A label as it is looked up: ``1``, ``1.0`` and ``"1"`` are one, and so are ``True`` and ``"true"``."""
    text = str(value).strip().casefold()
    return text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdigit() else text


def checked_labels(given: Any, section: str) -> dict[str, str]:
    """The setting ``labels`` with its keys as they are looked up, since YAML reads ``1`` and ``true`` as other things.

    Raises:
        UserError: It is no mapping to the two labels.
    """
    wrong = [label for label in given.values() if label not in LABELS] if isinstance(given, Mapping) else [given]
    if wrong:
        raise UserError(
            f"The key {key_in(section, 'labels')} must map what the file writes to {' or '.join(LABELS)}, such as "
            f"{{unsafe: harmful, safe: harmless}}, not to {str(wrong[0])[:40]!r}."
        )
    return {label_key(value): label for value, label in given.items()}


class Labels:
    """Reads labels.

    Args:
        given: Labels by what the table writes, where a person says so.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self._known = {**_USUAL, **{label_key(value): label for value, label in (given or {}).items()}}
        self._given = set((given or {}).values())
        self._unknown: dict[str, None] = {}
        self.found: dict[str, None] = {}
        """Labels that values stood for, in their order."""

    def read(self, value: str | None) -> tuple[str | None, str | None]:
        """The label that a value stands for, None for a blank one, and what is wrong with it."""
        if value is None or not value.strip():
            return None, None
        label = self._known.get(label_key(value))
        if label is None:
            self._unknown.setdefault(value.strip())
        else:
            self.found.setdefault(label)
        return label, None if label else UNKNOWN_LABEL

    def hint(self, key: str) -> str:
        """How to map what was not known; empty if everything was.

        Args:
            key: Where labels are mapped, such as ``prompts.labels``.
        """
        if not self._unknown:
            return ""
        return (
            f"Labels are {' or '.join(LABELS)} (also {', '.join(word for word in _USUAL if word not in LABELS)}): map "
            f"others in {key}, such as {{{', '.join(self._example())}}}."
        )

    def _example(self) -> list[str]:
        unknown = sorted(self._unknown, reverse=True)
        # A value that looks like a text may be a prompt, and messages quote none.
        shown = [value for value in unknown if looks_like_a_name(value) or _is_switch(value)][:2] or ["VALUE"]
        left = [label for label in LABELS if label not in self._given]
        # Which value means which is for a person to say, since an example is taken as it stands; of two numbers or
        # truth values, the one that is not mapped means what the other does not.
        sure = len(left) == len(unknown) == 1 and _is_switch(shown[0])
        return [f"{value}: {left[0] if sure else ' or '.join(LABELS)}" for value in shown]


def told_unknown(counts: Counter[str], hint: str) -> Counter[str]:
    """Reasons why rows are set aside, that of labels that are not known with what to do.

    Args:
        counts: Rows by reason.
        hint: Of :meth:`Labels.hint`.
    """
    told = Counter(counts)
    if hint and UNKNOWN_LABEL in told:
        told[f"{UNKNOWN_LABEL}: {hint.rstrip('.')}"] += told.pop(UNKNOWN_LABEL)
    return told


def first_of_each(labels: Sequence[str | None], count: int | None) -> list[int]:
    """Places of the first rows of each label, in order; a label that has few leaves its share to the other.

    Args:
        labels: Of all rows; those that have none are not taken where not all are.
        count: How many rows at most, half of them harmful, one more if it is odd; None for all.
    """
    if count is None or count >= len(labels):
        return list(range(len(labels)))
    harmful, harmless = ([place for place, label in enumerate(labels) if label == name] for name in LABELS)
    few = min(len(harmless), count // 2)
    return sorted([*harmful[: count - few], *harmless[: max(few, count - len(harmful))]])


def _is_switch(value: str) -> bool:
    """Whether a value is a number or a truth value."""
    key = label_key(value)
    return key.lstrip("-").isdigit() or key in ("true", "false", "yes", "no")
