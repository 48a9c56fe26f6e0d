"""`mlc why`: the parts of a stage's key, and which of them differ from an earlier run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.plan import foresee
from flows.looking.planning import without_keys
from flows.terminal import completion
from flows.terminal.explanations import show_explanations
from flows.terminal.options import (
    EarlierConfigOption,
    JsonOption,
    OneLanguageOption,
    SetOption,
    WorkspaceOption,
    existing,
    load_or_earlier,
)
from flows.terminal.output import print_json, results, shown, terminal
from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.store import ArtifactStore, KeyParts
from mlc.store.keeping import kept_notes
from mlc.store.keys import PENDING
from mlc.store.runs import RunRecord, find_run, run_records
from tasks.runtime.run import Outcome, Run

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig
EXAMPLES = (
    "mlc why align",
    "mlc why translate --language sw --against 3",
    "mlc why align --config own.yaml --set align.steps=24",
)


def command(
    stage: Annotated[
        str, typer.Argument(help="A stage, such as translate, filter or align.", autocompletion=completion.stages)
    ],
    language: OneLanguageOption = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Run to compare with: its number, or the beginning of its id.", autocompletion=completion.runs
        ),
    ] = None,
    config: EarlierConfigOption = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show why a stage would run, or why it would not.

    What is different from the previous run comes first, then all that the result depends on.
    """
    folder = existing(workspace)
    chosen = load_or_earlier(config, folder, settings)
    found = explain(folder, stage, language=language, against=against, config=chosen)
    show_explanations(found, terminal if as_json else results)
    if as_json:
        print_json({"explanations": [vars(item) for item in found]})


@dataclass(frozen=True)
class Explanation:
    """What decides one artifact, and what is different from an earlier run."""

    stage: str
    language: str | None
    subject: str | None
    key: str
    action: str
    """``run`` or ``cached``: what a run would do now."""
    parts: dict[str, Any]
    against: int | None
    """Number of the run that it is compared with; None if no run made such an artifact with another key."""
    differences: list[str] | None
    """In words, the one that explains most first; empty if nothing differs, None if there is nothing to compare."""
    sentence: str
    """The comparison in one sentence."""
    kept: list[dict[str, Any]]
    """Who kept the artifact and why, oldest first, as :class:`mlc.store.keeping.Kept` has it; empty if nobody did."""


def explain(
    workspace: Path,
    stage: str,
    *,
    language: str | None = None,
    against: str | None = None,
    config: "PipelineConfig | None" = None,
) -> list[Explanation]:
    """Explains the keys of a stage as they are now, with the code, the data and the libraries that are there now.

    Args:
        workspace: Folder of the workspace.
        stage: Name of the stage.
        language: Only artifacts of this language, by name, tag or code.
        against: The run to compare with, by number or id; else the last one whose key was another.
        config: The configuration; that of the last run, if left out.

    Returns:
        One explanation for each artifact of the stage.

    Raises:
        UserError: There is no such stage, language or run.
    """
    require_stage(stage)
    records = run_records(workspace)
    if config is None:
        config = last_config(records, workspace)
    chosen = find_run(records, against) if against else None
    planned = foresee(config)
    return [
        _explanation(ArtifactStore(workspace, looking=True), records, chosen, outcome, planned.parts[outcome.key])
        for outcome in outcomes_of(planned, stage, language)
    ]


def require_stage(stage: str) -> None:
    """Checks a name before anything that takes long.

    Raises:
        UserError: There is no such stage.
    """
    if stage not in completion.STAGES:
        hint = hint_among(stage, completion.STAGES, f"the stages are {', '.join(completion.STAGES)}.")
        raise UserError(f"There is no stage {stage!r}: {hint}")


def outcomes_of(planned: Run, stage: str, language: str | None) -> list[Outcome]:
    """What a plan says of a stage.

    Args:
        planned: The plan.
        stage: Name of the stage.
        language: Only artifacts of this language, by name, tag or code.

    Raises:
        UserError: There is no such stage or language.
    """
    code = resolve_language(language).code if language else None
    stages = list(dict.fromkeys(outcome.stage for outcome in planned.outcomes))
    if stage not in stages:
        raise UserError(f"This configuration has no stage {stage!r}: its stages are {', '.join(stages)}.")
    outcomes = [outcome for outcome in planned.outcomes if outcome.stage == stage]
    if code is not None:
        known = sorted({resolve_language(outcome.language).english_name for outcome in outcomes if outcome.language})
        outcomes = [outcome for outcome in outcomes if outcome.language == code]
        if not outcomes:
            which = f"has one for each of {', '.join(known)}" if known else "does not depend on the language"
            raise UserError(
                f"The stage {stage!r} has no artifact for {resolve_language(code).english_name}: it {which}."
            )
    return outcomes


def last_config(records: list[RunRecord], workspace: Path) -> "PipelineConfig":
    """The configuration of the last run of a workspace.

    Raises:
        UserError: There was none.
    """
    from flows.configuration.reading import known_values, validate_config

    if not records:
        raise UserError(
            f"No run is recorded in the workspace {str(workspace)!r}: name a configuration with --config, or run "
            "`mlc run` first."
        )
    last = records[-1]
    # The workspace may have been moved since.
    values, dropped = known_values({**last.config, "workspace": str(workspace)})
    if dropped:
        terminal.print(f"[yellow]![/] {shown(without_keys(last, dropped))}", highlight=False, soft_wrap=True)
    try:
        return validate_config(values)
    except UserError as error:
        raise UserError(
            f"The configuration of run {last.number} is none of this release: {str(error).rstrip('.')}. Give one with "
            "--config."
        ) from None


def _explanation(
    store: ArtifactStore, records: list[RunRecord], chosen: RunRecord | None, outcome: Outcome, parts: KeyParts
) -> Explanation:
    task = (outcome.stage, outcome.language, outcome.subject)
    candidates = [chosen] if chosen else [record for record in reversed(records) if record.key_of(*task)]
    earlier = next((r for r in candidates if r.key_of(*task) not in (None, outcome.key)), None)
    same = next((record for record in candidates if record.key_of(*task) == outcome.key), None)
    reference = earlier if earlier is not None else same
    differences = None
    if reference is None:
        whom = f"run {chosen.number}" if chosen else "an earlier run"
        sentence = f"{whom} had no such artifact; there is nothing to compare with"
    elif reference is same:
        differences, sentence = [], f"nothing differs from run {reference.number}: the key is the same"
    else:
        old = _parts_of(store, outcome.stage, str(reference.key_of(*task)))
        if old is None:
            sentence = f"the artifact of run {reference.number} is no longer there; its key was another one"
        else:
            differences = [_pending_words(words, parts) for words in parts.differences(old)]
            sentence = f"different from run {reference.number}"
    return Explanation(
        *task,
        key=outcome.key,
        action="cached" if outcome.state == "cached" else "run",
        parts=asdict(parts),
        against=reference.number if reference else None,
        differences=differences,
        sentence=sentence,
        kept=_kept(store, outcome),
    )


def _kept(store: ArtifactStore, outcome: Outcome) -> list[dict[str, Any]]:
    try:
        return [asdict(note) for note in kept_notes(store.manifest(outcome.stage, outcome.key))]
    except (OSError, ValueError):
        return []


def _parts_of(store: ArtifactStore, stage: str, key: str) -> KeyParts | None:
    try:
        return KeyParts(**store.manifest(stage, key)["parts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pending_words(words: str, parts: KeyParts) -> str:
    """An input that is not there yet has no content to compare."""
    for role, digest in (*parts.inputs.items(), *parts.models.items()):
        if digest.startswith(PENDING) and words.endswith(f" {role} changed"):
            return f"{words.removesuffix(' changed')} is made first"
    return words
