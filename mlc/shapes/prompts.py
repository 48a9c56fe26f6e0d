"""Prompts and answers in the shapes that public data sets have."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from mlc.errors import UserError
from mlc.naming import key_in
from mlc.shapes.history import written
from mlc.shapes.turns import (
    Turn,
    conversation_in,
    field_text,
    history_in,
    prompt_in,
    transcript_turns,
    turns_of,
)
from mlc.tables import NO_TEXT, Row, TableFile, columns_in_words, plain_text, text_of

ROLES = ("id", "system", "prompt", "chosen", "rejected", "label", "kind")
"""What a column may be for."""
SAMPLE_ROWS = 100
"""Rows that are looked at to tell shapes with equal columns apart."""

_PROMPTS = ("question", "instruction", "query", "goal", "behavior")
"""Columns that hold prompts where none is called so."""
_SYSTEM = "system_prompt"
"""The column of system prompts where none is called ``system``."""
_ANSWERS = ("response", "answer", "completion", "output")
"""Columns that hold answers where none is called ``chosen``."""
_CONVERSATIONS = {
    "messages": "chat messages",
    "conversations": "ShareGPT conversations",
    "conversation": "chat messages",
}
_TALKS = ("prompt", "chosen", "rejected")
"""Roles whose fields may hold a conversation."""
_Answers = Callable[[Mapping[str, Any]], Mapping[str, Any] | str]


@dataclass(frozen=True)
class Shape:
    """A known shape of data sets."""

    name: str
    needs: tuple[str, ...]
    """Columns that all must be there, in lower case."""
    roles: Mapping[str, str]
    """Columns by role, in lower case; those that are not there are left out."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Values that all rows of such a data set have."""
    before: str | None = None
    """A column whose text stands before the prompt."""
    after: str | None = None
    """A column whose text stands behind the prompt."""
    answers: _Answers | None = None
    """Finds the answers in a row, or says why there is none."""
    hint: str = ""
    """What else a person should know."""


def _is_no(value: Any) -> bool:
    return str(value).strip().casefold() in ("false", "0", "no")


def _saferlhf_answers(row: Mapping[str, Any]) -> Mapping[str, Any] | str:
    try:
        safer = int(row["safer_response_id"])
        answers = row["response_0"], row["response_1"]
        chosen, rejected = answers[safer], answers[1 - safer]
    except (KeyError, TypeError, ValueError, IndexError):
        return "no safer answer is named"
    return (
        "no safe answer" if _is_no(row.get(f"is_response_{safer}_safe")) else {"chosen": chosen, "rejected": rejected}
    )


def _marked_answers(row: Mapping[str, Any]) -> Mapping[str, Any] | str:
    return "no safe answer" if _is_no(row.get("is_safe")) else {"chosen": row.get("response")}


def _scored_answers(row: Mapping[str, Any]) -> Mapping[str, Any] | str:
    given = [item for item in row.get("completions") or [] if isinstance(item, Mapping) and item.get("response")]
    try:
        ordered = sorted(given, key=lambda item: float(item["overall_score"]))
    except (KeyError, TypeError, ValueError):
        return "no scores of the answers"
    if not ordered:
        return "no answer"
    return {"chosen": ordered[-1]["response"], "rejected": ordered[0]["response"] if len(ordered) > 1 else None}


SHAPES = (
    Shape(
        "PKU-SafeRLHF",
        ("prompt", "response_0", "response_1", "safer_response_id"),
        {"prompt": "prompt"},
        answers=_saferlhf_answers,
        hint="chosen is the safer answer",
    ),
    Shape(
        "UltraFeedback",
        ("instruction", "completions"),
        {"prompt": "instruction"},
        answers=_scored_answers,
        hint="chosen is the answer with the best score",
    ),
    Shape(
        "BeaverTails",
        ("prompt", "response", "is_safe"),
        {"prompt": "prompt"},
        answers=_marked_answers,
        hint="rows whose answer is unsafe are set aside",
    ),
    Shape("UltraFeedback", ("prompt", "prompt_id", "chosen"), {"id": "prompt_id"}),
    Shape(
        "MultiJail",
        ("en", "zh", "it", "vi", "source"),
        {"prompt": "en", "kind": "tags"},
        {"label": "harmful"},
    ),
    Shape(
        "AdvBench",
        ("goal", "target"),
        {"prompt": "goal", "kind": "category"},
        {"label": "harmful"},
        hint="target begins a harmful answer, so it is not taken for chosen",
    ),
    Shape(
        "HarmBench",
        ("behavior", "semanticcategory"),
        {"id": "behaviorid", "prompt": "behavior", "kind": "functionalcategory"},
        {"label": "harmful"},
        before="contextstring",
    ),
    Shape("XSTest", ("prompt", "type", "label"), {"kind": "type"}),
    Shape("Alpaca", ("instruction", "output"), {"prompt": "instruction", "chosen": "output"}, after="input"),
)
"""Known shapes; the first that fits counts."""


@dataclass(frozen=True)
class Reading:
    """How the rows of a table become prompts."""

    shape: Shape | None
    columns: Mapping[str, str]
    """Columns of the table by role, as the table writes them."""
    transcripts: bool = False
    """Whether fields hold transcripts with ``Human:`` and ``Assistant:``."""
    name: str = ""
    """What the shape is called."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles for which there is something."""
        found = {**self.columns, **(self.shape.constants if self.shape else {})}
        if self.shape is not None and self.shape.answers is not None:
            found |= {"chosen": "", "rejected": ""}
        return tuple(role for role in ROLES if role in found)

    @property
    def in_words(self) -> str:
        """What was understood, for people; empty if there is nothing to say."""
        taken = [f"{role} from {plain_name(name)}" for role, name in self.columns.items() if role != name]
        if self.shape is not None:
            taken += [f"{role} {value} in every row" for role, value in self._constants().items()]
            taken += [self.shape.hint] if self.shape.hint else []
        return f"{self.name}: {', '.join(taken)}" if taken else ""

    def values(self, row: Row) -> tuple[dict[str, str | None], dict[str, str]]:
        """The roles of a row, and for each that has no usable text the reason."""
        values: dict[str, str | None] = {}
        problems: dict[str, str] = {}
        fields = {role: row.values.get(name) for role, name in self.columns.items()}
        if self.shape is not None:
            fields = {**self._constants(), **fields}
            if self.shape.answers is not None and "chosen" not in self.columns:
                found = self.shape.answers({name.casefold(): value for name, value in row.values.items()})
                if isinstance(found, str):
                    problems["chosen"] = found
                else:
                    fields |= found
        for role, value in fields.items():
            text, problem = field_text(value, role, transcripts=self._is_transcript(role))
            # What no stage reads may stay as it is; what one needs may not.
            values[role] = text if problem is None else plain_text(value)
            if problem is not None:
                problems.setdefault(role, problem)
        if values.get("prompt") and "prompt" not in problems:
            values["prompt"] = self._joined(values["prompt"] or "", row)
        return values, problems

    def history(self, row: Row) -> tuple[str | None, str | None]:
        """What was said before the prompt of a row, as :mod:`mlc.shapes.history` has it, and why it cannot be used."""
        fields = {role: row.values.get(self.columns[role]) for role in _TALKS if role in self.columns}
        talks = {role: conversation_in(value, transcripts=self.transcripts) for role, value in fields.items()}
        told = {
            role: history_in(turns)
            for role, turns in talks.items()
            if turns and any(turn.role == "user" for turn in turns)
        }
        if problem := next((problem for _, problem in told.values() if problem), None):
            return None, problem
        histories = [history for history, _ in told.values()]
        history = next(iter(histories), [])
        if any(other != history for other in histories[1:]):
            return None, "prompt and answers with different turns before"
        if history and (prompt := fields.get("prompt")) and not talks["prompt"] and not _asks(told, talks, prompt):
            return None, "another prompt in the conversation"
        system = self.columns.get("system")
        text, missing = text_of(row.values.get(system)) if system else ("", NO_TEXT)
        if missing is None and not (history and history[0]["role"] == "system"):
            history = [{"role": "system", "content": text}, *history]
        return written(history), None

    def _is_transcript(self, role: str) -> bool:
        return self.transcripts and role in ("prompt", "chosen", "rejected")

    def _constants(self) -> dict[str, Any]:
        constants = self.shape.constants if self.shape else {}
        return {role: value for role, value in constants.items() if role not in self.columns}

    def _joined(self, prompt: str, row: Row) -> str:
        if self.shape is None or self.columns["prompt"].casefold() != self.shape.roles.get("prompt"):
            return prompt
        folded = {name.casefold(): value for name, value in row.values.items()}
        before = plain_text(folded.get(self.shape.before)) if self.shape.before else None
        after = plain_text(folded.get(self.shape.after)) if self.shape.after else None
        parts = [before.strip() + "\n\n---" if before and before.strip() else "", prompt, after or ""]
        return "\n\n".join(part for part in parts if part.strip())


def _asks(told: Iterable[str], talks: Mapping[str, list[Turn] | None], prompt: Any) -> bool:
    return all(prompt_in(talks[role] or [])[0] == prompt for role in told)


def reading_of(
    file: TableFile, *, required: Sequence[str] = (), columns: Mapping[str, str] | None = None, section: str = "prompts"
) -> Reading:
    """Finds out what the columns of a table mean.

    Args:
        file: The table.
        required: Roles that must be there.
        columns: Columns by role, where a person says so.
        section: Section of the configuration whose ``columns`` these are, for messages; empty if they stand in none.

    Raises:
        UserError: A required role is not there, or several columns could be meant.
    """
    given = {role: _given(file, role, name, section) for role, name in (columns or {}).items()}
    names = _folded(file.columns)
    exact = {role: names[role] for role in ROLES if role in names}
    if _SYSTEM in names:
        exact.setdefault("system", names[_SYSTEM])
    shape = next((shape for shape in SHAPES if names.keys() >= set(shape.needs)), None)
    found = dict(exact)
    name = shape.name if shape else ""
    transcripts = False
    if shape is not None:
        found = {**{role: names[column] for role, column in shape.roles.items() if column in names}, **exact}
        if shape.roles.get("prompt") in names:
            found["prompt"] = names[shape.roles["prompt"]]
    elif talk := next((column for column in _CONVERSATIONS if column in names), None):
        if "chosen" not in found:
            name = _CONVERSATIONS[talk]
            found |= {"prompt": names[talk], "chosen": names[talk]}
    elif "chosen" in found and "prompt" not in found:
        kind = _inside(file, found["chosen"])
        if kind is not None:
            found["prompt"], name, transcripts = found["chosen"], kind, kind == "HH-RLHF"
    elif "prompt" not in {**found, **given}:
        found |= _one_of(file, "prompt", [names[column] for column in _PROMPTS if column in names], section)
    # Lists of harmful requests bring no answer to learn, whatever their columns are called.
    answered = shape is None or not (shape.answers or shape.constants)
    if answered and "chosen" not in {**found, **given} and "chosen" in required:
        found |= _one_of(file, "chosen", [names[column] for column in _ANSWERS if column in names], section)
    chosen = _in_order({**found, **given})
    reading = Reading(shape, chosen, transcripts, name or _plain_shape(chosen))
    _require(file, reading, required, section)
    return reading


def _plain_shape(columns: Mapping[str, str]) -> str:
    if {"prompt", "chosen", "rejected"} <= columns.keys():
        return "TRL preferences"
    return "prompts and answers" if {"prompt", "chosen"} <= columns.keys() else "prompts"


def _require(file: TableFile, reading: Reading, required: Sequence[str], section: str) -> None:
    there = {"id", *reading.roles, *file.columns}
    missing = next((role for role in required if role not in there), None)
    # Without a row there is no column either, and that it is empty says more.
    if missing is None or not file.columns:
        return
    hint = f" In {reading.name} data, {reading.shape.hint}." if reading.shape and reading.shape.hint else ""
    raise UserError(
        f"The {file.what} {file.location!r} has no column {missing!r} ({columns_in_words(file.columns)}): it needs "
        f"{', '.join(required)}.{hint} If another column holds it, say so in {key_in(section, 'columns')}, such as "
        f"{{{missing}: NAME}}."
    )


def _given(file: TableFile, role: str, name: str, section: str) -> str:
    if role not in ROLES:
        raise UserError(f"The key {key_in(section, 'columns')} names {role!r}: map {', '.join(ROLES)} to columns.")
    found = name if name in file.columns else _folded(file.columns).get(name.casefold())
    if found is None:
        raise UserError(
            f"The {file.what} {file.location!r} has no column {name!r} ({columns_in_words(file.columns)}): correct "
            f"{key_in(section, 'columns')}."
        )
    return found


def _one_of(file: TableFile, role: str, candidates: Sequence[str], section: str) -> dict[str, str]:
    if len(candidates) > 1:
        raise UserError(
            f"The {file.what} {file.location!r} has no column {role!r}, and {' or '.join(candidates)} could be meant: "
            f"say which in {key_in(section, 'columns')}, such as {{{role}: {candidates[0]}}}."
        )
    return {role: candidates[0]} if candidates else {}


def _inside(file: TableFile, column: str) -> str | None:
    """What a column of answers holds that holds the prompts as well."""
    for row in islice(file, SAMPLE_ROWS):
        value = row.values.get(column)
        if transcript_turns(value):
            return "HH-RLHF"
        if turns := turns_of(value):
            return "TRL preferences with implicit prompts" if turns[0].role != "assistant" else None
    return None


def _folded(names: Iterable[str]) -> dict[str, str]:
    """Names by how they are written in lower case; one that is so already goes before others."""
    folded: dict[str, str] = {}
    for name in names:
        if name == name.casefold() or name.casefold() not in folded:
            folded[name.casefold()] = name
    return folded


def _in_order(columns: Mapping[str, str]) -> dict[str, str]:
    return {role: columns[role] for role in ROLES if role in columns}


def plain_name(name: str) -> str:
    """The name of a column for a message, which must not be a prompt of a file without a header."""
    return columns_in_words([name]).removeprefix("it has ")
