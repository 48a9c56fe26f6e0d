"""`mlc gc`: room."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from flows.terminal.options import WorkspaceOption, existing
from flows.terminal.output import plain_table, results, terminal
from flows.terminal.quiet import be_quiet
from mlc.store import ArtifactStore
from mlc.store.runs import damaged_records

if TYPE_CHECKING:
    from mlc.store.housekeeping import Garbage
EXAMPLES = (
    "mlc gc --dry-run",
    "mlc gc --keep-last 2 --memory",
)


def command(
    keep_last: Annotated[int, typer.Option(min=1, help="Completed runs whose artifacts stay.")] = 5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Also memories of translators that no run uses.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove artifacts that nobody needs any more.

    Those of no recent run and no registered model version, and old runs from Prefect.
    """
    be_quiet()
    from tasks.runtime.housekeeping import sweep

    store = ArtifactStore(existing(workspace))
    for problem in damaged_records(store.workspace):
        terminal.print(f"Damaged record: {problem}.", highlight=False, soft_wrap=True)
    found = sweep(store, keep_last=keep_last, memory=memory, dry_run=dry_run)
    _show(found)
    total = sum(item.bytes for item in found)
    verb = "would be removed" if dry_run else "removed"
    results.print(f"{len(found)} things, {total} bytes ({total / 2**20:.1f} MiB) {verb}.", highlight=False)


def _show(found: "Iterable[Garbage]") -> None:
    sizes: dict[str, list[int]] = {}
    for item in found:
        sizes.setdefault(item.what, []).append(item.bytes)
    table = plain_table("what", "count", "bytes", right=("count", "bytes"))
    for what, members in sizes.items():
        table.add_row(what, str(len(members)), str(sum(members)))
    if sizes:
        results.print(table)
