"""`mlc status`: what a workspace holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.looking.holdings import Held, damages_of, held_artifacts, short_time
from flows.terminal.options import JsonOption, WorkspaceOption, existing
from flows.terminal.output import plain_table, print_json, results, shown
from flows.terminal.quiet import be_quiet
from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord, run_records

SHOWN_RUNS = 5
SCHEMA = 1
"""Of what programs get, see docs/workspace.md; raised where a field goes or changes its meaning, not for a new one."""
EXAMPLES = (
    "mlc status",
    "mlc status --workspace /data/models --json",
)


def command(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show what a workspace holds.

    Artifacts by stage, the last runs, the newest report, the registered versions.
    """
    be_quiet()
    if as_json:
        print_json(plain_status(existing(workspace)))
    else:
        show_status(existing(workspace), results)


def plain_status(workspace: Path) -> dict[str, Any]:
    """What :func:`show_status` prints, as plain data.

    Args:
        workspace: Folder of the workspace.

    Returns:
        The ``schema``, ``artifacts`` by stage, every one of the ``runs``, the newest ``report``, the registered
        ``model`` (None where none is registered here), and the ``damages`` in sentences. A registry that does not
        answer leaves ``model`` with its ``problem`` alone.
    """
    store = ArtifactStore(workspace, looking=True)
    return {
        "schema": SCHEMA,
        "workspace": str(store.workspace),
        "artifacts": {stage: asdict(held) for stage, held in _held(store).items()},
        "runs": [asdict(run) for run in map(_run, run_records(store.workspace))],
        "report": None if (page := _newest_report(store)) is None else str(page),
        "model": _plain_model(store),
        "damages": damages_of(store),
    }


def show_status(workspace: Path, console: Console) -> None:
    """Prints the artifacts by stage, the last runs, the newest report, and the registered versions.

    Args:
        workspace: Folder of the workspace.
        console: Where to print.
    """
    store = ArtifactStore(workspace, looking=True)
    _show_artifacts(store, console)
    _show_runs(store.workspace, console)
    if page := _newest_report(store):
        console.print(f"\nReport: {shown(page)}", highlight=False, soft_wrap=True)
    if store.manifests("register"):
        try:
            _show_versions(_model(store), console)
        except UserError as error:
            # What the workspace itself holds is told in any case.
            console.print(f"\n{shown(error)}", highlight=False, soft_wrap=True)
    for number, sentence in enumerate(damages_of(store)):
        console.print(f"{'' if number else chr(10)}{shown(sentence)}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class _Run:
    """One run."""

    run: int
    configuration: str
    started: str
    end: str | None
    ran: int
    cached: int


@dataclass(frozen=True)
class _Version:
    """A registered version."""

    version: str
    gate: str
    policy: str
    languages: str
    seed: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class _Model:
    """The registered model."""

    name: str
    versions: tuple[_Version, ...]
    promotion: dict[str, Any] | None
    """The last one."""


def _held(store: ArtifactStore) -> dict[str, Held]:
    # It brings Prefect.
    from flows.stages import STAGES

    return held_artifacts(store, (stage.name for stage in STAGES))


def _run(record: RunRecord) -> _Run:
    ran, cached = (sum(task["state"] == state for task in record.tasks) for state in ("ran", "cached"))
    return _Run(record.number, record.name, record.started, record.end, ran, cached)


def _newest_report(store: ArtifactStore) -> Path | None:
    reports = store.manifests("report")
    return store.root / "report" / reports[-1]["key"] / "report.html" if reports else None


def _plain_model(store: ArtifactStore) -> dict[str, Any] | None:
    if not store.manifests("register"):
        return None
    try:
        model = _model(store)
        return asdict(model) if model.versions else None
    except UserError as error:
        return {"problem": str(error)}


def _show_artifacts(store: ArtifactStore, console: Console) -> None:
    table = plain_table("stage", "artifacts", "rows", "MiB", "newest", right=("artifacts", "rows", "MiB"))
    for stage, held in _held(store).items():
        size = f"{held.bytes / 2**20:.1f}"
        table.add_row(stage, str(held.artifacts), str(held.rows or ""), size, shown(short_time(held.newest)))
    console.print(table)


def _show_runs(workspace: Path, console: Console) -> None:
    runs = [_run(record) for record in run_records(workspace)[-SHOWN_RUNS:]]
    if not runs:
        return
    table = plain_table("run", "configuration", "started", "ended", "ran", "cached", right=("run", "ran", "cached"))
    for run in runs:
        told = (run.configuration, short_time(run.started), run.end or "killed or still going")
        table.add_row(str(run.run), *map(shown, told), str(run.ran), str(run.cached))
    console.print()
    console.print(table)


def _model(store: ArtifactStore) -> _Model:
    """What the registry says.

    Raises:
        UserError: It does not answer.
    """
    from tasks.runtime.registry.addresses import registry_of
    from tasks.runtime.registry.champions import CANDIDATE, CHAMPION, candidate, champion, note_champion
    from tasks.runtime.registry.connecting import looking_at
    from tasks.runtime.registry.promotions import PROMOTIONS_FILE, read_promotions

    settings, record = registry_of(store), store.workspace / PROMOTIONS_FILE
    with looking_at(settings, store) as client:
        aliases = {CANDIDATE: candidate(client, settings.model_name)}
        look = partial(note_champion, record=record) if store.writable else champion
        aliases[CHAMPION] = look(client, name=settings.model_name)
        versions = client.search_model_versions(f"name = '{settings.model_name}'")
    promotions = read_promotions(record, settings.model_name)
    return _Model(
        settings.model_name,
        tuple(_version(found, aliases) for found in sorted(versions, key=lambda found: int(found.version))),
        promotions[-1] if promotions else None,
    )


def _version(found: Any, aliases: Mapping[str, str | None]) -> _Version:
    tags = found.tags
    return _Version(
        version=str(found.version),
        gate="cannot answer" if tags.get("asked") == "failed" else tags.get("gate", "not judged"),
        policy=tags.get("gate.policy", ""),
        languages=tags.get("languages", ""),
        seed=tags.get("seed", ""),
        aliases=tuple(name for name, number in aliases.items() if number == str(found.version)),
    )


def _show_versions(model: _Model, console: Console) -> None:
    from mlc.report.wording import named

    if not model.versions:
        # What was imported may tell of a registration in another workspace.
        console.print("\nNothing is registered here yet.", highlight=False)
        return
    table = plain_table("version", "gate", "policy", "languages", "seed", "alias")
    for one in model.versions:
        told = (one.version, one.gate, one.policy, named(one.languages), one.seed, ", ".join(one.aliases))
        table.add_row(*map(shown, told))
    console.print(f"\nRegistered model {shown(model.name)}:", highlight=False)
    console.print(table)
    if last := model.promotion:
        what = f"Last promotion: version {last['version']}" if last["version"] else "The alias champion was taken away"
        console.print(f"\n{shown(what)}, {shown(short_time(last['time']))}, by {shown(last['by'])}.", highlight=False)
