"""Labels: ``harmful`` or ``harmless``, however a table writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlc.errors import UserError
from mlc.naming import looks_like_a_name

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
            f"The key {section}.labels must map what the file writes to {' or '.join(LABELS)}, such as "
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
        # What nothing is mapped to yet is likely to be meant.
        meant = [label for label in LABELS if label not in self._given] or list(LABELS)
        return (
            f"Labels are {' or '.join(LABELS)} (also {', '.join(word for word in _USUAL if word not in LABELS)}): map "
            f"others in {key}, such as {{{', '.join(_example(sorted(self._unknown, reverse=True), meant))}}}."
        )


def _example(values: Sequence[str], meant: Sequence[str]) -> list[str]:
    # A value that looks like a text may be a prompt, and messages quote none.
    shown = [value for value in values if looks_like_a_name(value) or _is_switch(value)][:2]
    if not all(map(_is_switch, shown)):
        # Which word means which is for a person to say: an example would be taken as it stands.
        return [f"{value}: {' or '.join(LABELS)}" for value in shown]
    return [f"{value}: {label}" for value, label in zip(shown or ["VALUE"], meant, strict=False)]


def _is_switch(value: str) -> bool:
    """Whether a value is a number or a truth value, of which the greater one is likely to say that there is harm."""
    key = label_key(value)
    return key.lstrip("-").isdigit() or key in ("true", "false", "yes", "no")
