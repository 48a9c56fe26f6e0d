"""Judges a table of answers that somebody brings, whatever is wrong with some rows."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlc.errors import UserError
from mlc.evaluation.agreement import cohens_kappa
from mlc.evaluation.judges.judge import Answer, Judge, Verdict, ask
from mlc.languages import resolve_language
from mlc.tables import TABLE_ENDINGS, Row, TableFile, TableWriter, format_of, text_of

NEEDED = ("prompt", "answer", "language")
ADDED = ("outcome", "judge", "reason")
NOT_JUDGED = "not judged"
AGREE = "agree"
"""Column that says of several judges whether they agree on the outcome: yes, no, or nothing where one did not judge."""
ROWS_AT_ONCE = 256


@dataclass
class Judged:
    """What judges said about a table."""

    judges: tuple[str, ...]
    rows: int = 0
    outcomes: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    """Answers by (language, outcome or ``not judged``), for each judge."""
    problems: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be judged, by reason."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """Answers about which a judge said nothing that can be read, by judge; their outcome is ``unsure``."""
    pairs: dict[tuple[str, str], Counter[tuple[str, str]]] = field(default_factory=dict)
    """Answers by the outcomes of two judges, for each two of them; only those that both judged."""

    def kappa(self, one: str, other: str) -> float | None:
        """See :func:`mlc.evaluation.agreement.cohens_kappa`."""
        return cohens_kappa(self.pairs[one, other])

    def disagreements(self, one: str, other: str) -> int:
        """Answers on which two judges differ."""
        return sum(count for (left, right), count in self.pairs[one, other].items() if left != right)


def judge_file(
    location: Path | str,
    out: Path,
    judges: Mapping[str, Judge],
    *,
    cells: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Judged:
    """Judges a table and writes it again with the verdicts.

    The first judge fills ``outcome``, ``judge`` and ``reason``, each further one ``outcome_NAME`` and ``reason_NAME``;
    with several judges there is :data:`AGREE`. An empty answer is judged; a row that has no prompt, no known language
    or cannot be read is kept, without an outcome and with the reason.

    Args:
        location: A table with the columns of ``NEEDED``; see :func:`mlc.tables.find_place`.
        out: Where to write; the ending names the format.
        judges: Judges by name.
        cells: Whether no text in CSV or TSV may begin a formula of a spreadsheet.
        on_progress: Called with a number of rows that are done.

    Raises:
        UserError: A file cannot be read or written, a column is missing, or one would be replaced.
    """
    table = TableFile(location, formats=TABLE_ENDINGS, what="table of answers")
    table.require(NEEDED)
    if out.exists() and any(out.samefile(path) for path in table.place.files):
        raise UserError(f"The verdicts would replace the answers in {table.location!r}: name another file to write.")
    added = _columns(list(judges))
    taken = [name for name in added if name in table.columns]
    if taken:
        raise UserError(f"The table of answers {table.location!r} has a column {taken[0]!r} already: rename it.")
    schema = pa.schema([*table.schema, *((name, pa.string()) for name in added)])
    judged = Judged(
        tuple(judges),
        outcomes={name: Counter() for name in judges},
        pairs={pair: Counter() for pair in itertools.combinations(judges, 2)},
    )
    with TableWriter(
        out, format_of(out, formats=TABLE_ENDINGS, what="file of verdicts"), schema, cells=cells
    ) as writer:
        for rows in _batches(table, ROWS_AT_ONCE):
            writer.write(_judge_rows(rows, judges, judged))
            on_progress(len(rows))
    return judged


def _columns(names: Sequence[str]) -> list[str]:
    more = [f"{column}_{name}" for name in names[1:] for column in ("outcome", "reason")]
    return [*ADDED, *more, *([AGREE] if more else [])]


def _batches(rows: Iterable[Row], size: int) -> Iterable[list[Row]]:
    """As itertools.batched, which Python has from 3.12 on."""
    waiting = iter(rows)
    while part := list(itertools.islice(waiting, size)):
        yield part


def _judge_rows(rows: Sequence[Row], judges: Mapping[str, Judge], judged: Judged) -> list[dict[str, Any]]:
    read = [_answer_of(row) for row in rows]
    usable = [place for place, found in enumerate(read) if isinstance(found, Answer)]
    answers = [found for found in read if isinstance(found, Answer)]
    verdicts = {name: dict(zip(usable, ask(judge, answers), strict=True)) for name, judge in judges.items()}
    judged.rows += len(rows)
    written = []
    for place, (row, found) in enumerate(zip(rows, read, strict=True)):
        if isinstance(found, Answer):
            told = {name: given[place] for name, given in verdicts.items()}
            _count(judged, found.language, told)
            written.append({**row.values, **_verdict_columns(told)})
        else:
            judged.problems[found] += 1
            written.append({**row.values, "reason": f"{NOT_JUDGED}: {found}"})
    return written


def _answer_of(row: Row) -> Answer | str:
    """The answer of a row, or why it cannot be judged."""
    if row.problem:
        return row.problem
    prompt, problem = text_of(row.values.get("prompt"))
    if problem:
        return f"{problem} in prompt"
    answer, problem = text_of(row.values.get("answer"))
    if problem and answer.strip():
        return f"{problem} in answer"
    if isinstance(row.values.get("answer"), (list, dict, bool)):
        return f"{problem} in answer"
    language, _ = text_of(row.values.get("language"))
    try:
        return Answer(prompt, answer, resolve_language(language).code)
    except UserError:
        # Whatever stands in the column is not repeated: it may be a text in the wrong place.
        return "an unknown language" if language.strip() else "no language"


def _count(judged: Judged, language: str, told: Mapping[str, Verdict | None]) -> None:
    for name, verdict in told.items():
        judged.outcomes[name][language, verdict.outcome if verdict else NOT_JUDGED] += 1
        judged.unreadable[name] += bool(verdict and not verdict.readable)
    for (one, other), counts in judged.pairs.items():
        left, right = told[one], told[other]
        if left and right:
            counts[left.outcome, right.outcome] += 1


def _verdict_columns(told: Mapping[str, Verdict | None]) -> dict[str, str | None]:
    columns: dict[str, str | None] = {}
    for number, (name, verdict) in enumerate(told.items()):
        ending = f"_{name}" if number else ""
        columns[f"outcome{ending}"] = verdict.outcome if verdict else None
        columns[f"reason{ending}"] = (
            verdict.reason if verdict else f"{NOT_JUDGED}: the judge does not know the language"
        )
        if not number:
            columns["judge"] = name
    if len(told) > 1:
        outcomes = {verdict.outcome if verdict else None for verdict in told.values()}
        columns[AGREE] = None if None in outcomes else "yes" if len(outcomes) == 1 else "no"
    return columns
