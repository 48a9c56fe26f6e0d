"""`mlc show`: the rows of a run, from its artifacts."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.terminal import completion
from flows.terminal.options import JsonOption, WorkspaceOption, chosen_run, existing
from flows.terminal.output import print_json, results, terminal
from mlc.choices import words_of

if TYPE_CHECKING:
    from flows.looking.rows import Part

SHOWN_ROWS = 20
WARNING = "These texts hold harmful requests, and answers to them that nobody has reviewed."
EXAMPLES = (
    "mlc show rejects --language sw --reason length",
    "mlc show failures -l sw --model consistency --texts",
    "mlc show answers --run 3 --limit 0",
)


def command(
    what: Annotated[
        Literal["rejects", "translations", "duplicates", "answers", "failures"],
        typer.Argument(help="Which rows; failures are harmful prompts answered and harmless ones not."),
    ],
    workspace: WorkspaceOption = None,
    languages: Annotated[
        list[str] | None,
        typer.Option(
            "--language", "-l", help="Only these languages, such as sw or es,fr.", autocompletion=completion.languages
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only rows with this reason or outcome, such as length or complied.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Only this model, such as consistency, or 'consistency · seed 0'.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Number of the run, or the beginning of its id.", autocompletion=completion.runs)
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows at most; 0 for the counts alone.")] = SHOWN_ROWS,
    texts: Annotated[bool, typer.Option("--texts", help="Show prompts, translations and answers, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show rows of a run: rejects, answers, failures and others.

    No text is shown without --texts.
    """
    # They bring pyarrow.
    from flows.looking.rows import HARMFUL, TEXTS, parts_of
    from flows.terminal.row_tables import show_counts, show_rows
    from mlc.store import ArtifactStore

    store = ArtifactStore(existing(workspace), looking=True)
    record = chosen_run(store.workspace, run)
    parts = parts_of(store, record, what, languages=words_of(languages or ()), model=model, outcome=reason, texts=texts)
    counts = [{**_head(part), "outcomes": part.counts()} for part in parts]
    total = sum(len(part.rows) for part in parts)
    rows = spread_rows(parts, limit)
    if texts and any(row["label"] in (HARMFUL, None) for row in rows):
        terminal.print(WARNING, highlight=False, soft_wrap=True)
    if as_json:
        print_json({"run": record.number, "what": what, "total": total, "counts": counts, "rows": rows})
        return
    results.print(f"Run {record.number}, {what}: {total:,} row{'s' * (total != 1)}.", highlight=False)
    if counts:
        show_counts(counts, results)
    if rows:
        results.print()
        show_rows(rows, TEXTS[what] if texts else (), results)
    if 0 < len(rows) < total:
        results.print(f"{len(rows)} of {total:,} rows are shown: --limit {total} shows all.", highlight=False)


def spread_rows(parts: "Sequence[Part]", limit: int) -> list[dict[str, Any]]:
    """The first rows of every part, as even as can be; rows of suites where those of held-out prompts leave room.

    Args:
        parts: The parts.
        limit: Rows at most.

    Returns:
        Rows in the order of the parts: ``id``, ``language``, ``suite``, ``model``, ``label``, ``outcome``, and what
        else the tables hold.
    """
    own = [part for part in parts if _head(part)["suite"] is None]
    rows = _spread(own, limit)
    return rows + _spread([part for part in parts if part not in own], limit - len(rows))


def _head(part: "Part") -> dict[str, str | None]:
    from flows.looking.reading import suite_of

    suite, model = suite_of(part.model or "")
    return {"language": part.language, "suite": suite, "model": model or None}


def _spread(parts: "Sequence[Part]", limit: int) -> list[dict[str, Any]]:
    places = [[(number, row) for row in range(min(limit, len(part.rows)))] for number, part in enumerate(parts)]
    taken = sorted([place for place in chain(*zip_longest(*places)) if place is not None][:limit])
    rows = []
    for number, row in taken:
        part = parts[number]
        values = part.rows.slice(row, 1).to_pylist()[0]
        rows.append({"id": values.pop("id"), **_head(part)} | values)
    return rows
