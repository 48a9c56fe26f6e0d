"""`mlc keep`: a person says that a change of code or of a library does not change a result."""

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.commands.plan import foresee
from flows.commands.why import last_config, outcomes_of, require_stage
from flows.looking.holdings import SHOWN_DIGITS
from flows.terminal import completion
from flows.terminal.options import (
    EarlierConfigOption,
    JsonOption,
    OneLanguageOption,
    SetOption,
    WorkspaceOption,
    existing,
    load_or_earlier,
)
from flows.terminal.output import print_json, results, terminal
from mlc.choices import hint_among
from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.keeping import Kept, find_keepable, keep
from mlc.store.keys import PENDING
from mlc.store.locks import workspace_lock
from mlc.store.runs import run_records
from tasks.runtime.run import Outcome, Run

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig

Task = tuple[str, str | None, str | None]
"""Stage, language and subject."""
EVERY_STAGE = "all"
EXAMPLES = (
    "mlc keep align --reason 'only an error message changed' --dry-run",
    "mlc keep all --reason 'torch 2.13.1 computes the same'",
)


def command(
    stage: Annotated[
        str, typer.Argument(help="A stage, such as align; or all.", autocompletion=completion.stages_or_all)
    ],
    reason: Annotated[str, typer.Option(help="Why the result is the same; written down.")],
    language: OneLanguageOption = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only this model, such as consistency.")] = None,
    by: Annotated[str | None, typer.Option(help="Who says so; the name of the user if left out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be kept.")] = False,
    config: EarlierConfigOption = None,
    workspace: WorkspaceOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep results although code or a library has changed.

    A person says, with a reason, that a change does not change a result, so that it is not made again.
    """
    folder = existing(workspace)
    chosen = load_or_earlier(config, folder, settings)
    answers = keep_results(
        folder, stage, reason=reason, language=language, model=model, by=by, config=chosen, dry_run=dry_run
    )
    show_answers(answers, terminal if as_json else results, dry_run=dry_run)
    if as_json:
        print_json({"answers": [vars(item) for item in answers]})


@dataclass(frozen=True)
class Answer:
    """What became of the wish to keep one artifact."""

    stage: str
    language: str | None
    subject: str | None
    key: str
    """Key that the artifact has now, or that the one has which is to be made."""
    old_key: str | None
    """Key of the artifact that was kept; None if none was."""
    words: Sequence[str]
    """What differs between the two; or why none was kept."""


def keep_results(
    workspace: Path,
    stage: str,
    *,
    reason: str,
    language: str | None = None,
    model: str | None = None,
    by: str | None = None,
    config: "PipelineConfig | None" = None,
    dry_run: bool = False,
) -> list[Answer]:
    """Gives artifacts that would be made anew the keys that they would have, where only code and libraries differ.

    Args:
        workspace: Folder of the workspace.
        stage: Name of the stage; or ``all``, for every stage, those in front first.
        reason: Why the results are the same.
        language: Only artifacts of this language, by name, tag or code.
        model: Only artifacts of this model, such as ``consistency``.
        by: Who says so; the name of the user, if left out.
        config: The configuration; that of the last run, if left out.
        dry_run: Only look.

    Returns:
        One answer for each artifact that would be made anew; none if all are cached.

    Raises:
        UserError: There is no such stage, language, model or run, the reason is empty, no artifact may be kept, or
            housekeeping holds the workspace.
    """
    if not reason.strip():
        raise UserError("The reason is empty: say with --reason why the result is the same.")
    if stage == EVERY_STAGE and (language or model):
        raise UserError("A language or a model belongs to one stage: name the stage instead of all.")
    if stage != EVERY_STAGE:
        require_stage(stage)
    saying = Saying(by or _user(), reason.strip(), dry_run)
    config = config or last_config(run_records(workspace), workspace)
    store = config.open_store()
    answers: dict[Task, Answer] = {}
    going_on = True
    with workspace_lock(store.workspace, shared=True):
        while going_on:
            planned = foresee(config)
            outcomes = planned.outcomes if stage == EVERY_STAGE else outcomes_of(planned, stage, language)
            chosen = [outcome for outcome in outcomes if _is_of(outcome, model)]
            if not chosen:
                models = sorted({(outcome.subject or "").split(" · ")[0] for outcome in outcomes} - {""})
                hint = hint_among(model or "", models) if models else "it depends on no model."
                raise UserError(f"The stage {stage!r} has no artifact of a model {model!r}: {hint}")
            here = [_answer(store, planned, outcome, saying) for outcome in chosen if outcome.state == "run"]
            answers |= {(answer.stage, answer.language, answer.subject): answer for answer in here}
            # What was to be made is there now, so that its content is known to the stages behind it.
            going_on = stage == EVERY_STAGE and not dry_run and any(answer.old_key for answer in here)
    if answers and not any(answer.old_key for answer in answers.values()):
        first = next(iter(answers.values()))
        raise UserError(f"Nothing is kept: {_label(first)} is made anew because {_told(first.words)}.")
    return list(answers.values())


@dataclass(frozen=True)
class Saying:
    """What a person says."""

    by: str
    reason: str
    dry_run: bool


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UserError("The system has no name for this user: say with --by who keeps the result.") from None


def _is_of(outcome: Outcome, model: str | None) -> bool:
    return model is None or (outcome.subject or "").split(" · ")[0] == model


def _answer(store: ArtifactStore, planned: Run, outcome: Outcome, saying: Saying) -> Answer:
    parts = planned.parts[outcome.key]

    def answer(words: Sequence[str], old_key: str | None = None) -> Answer:
        return Answer(outcome.stage, outcome.language, outcome.subject, outcome.key, old_key, words)

    waiting = [key for digest in (*parts.inputs.values(), *parts.models.values()) if (key := _awaited(digest))]
    if waiting:
        stages = dict.fromkeys(planned.parts[key].stage for key in waiting)
        return answer([f"its input is made anew: keep or run {' and '.join(stages)} first"])
    found = find_keepable(store, parts, outcome.language, outcome.subject)
    if found is None or found.key == outcome.key:
        return answer([outcome.reason])
    if not found.allowed:
        return answer(found.differences)
    when = datetime.now(UTC).isoformat()
    note = Kept(saying.by, when, saying.reason, found.key, outcome.key, found.differences)
    if not saying.dry_run and not keep(store, parts, note):
        return answer(["its artifact is damaged"])
    return answer(found.differences, found.key)


def _awaited(digest: str) -> str | None:
    """Key of the artifact whose content a plan does not know yet."""
    return digest.removeprefix(PENDING) if digest.startswith(PENDING) else None


def _label(answer: Answer) -> str:
    from mlc.report.wording import named

    return named(" · ".join(text for text in (answer.stage, answer.subject, answer.language) if text))


def _told(words: Sequence[str]) -> str:
    rest = f", and {len(words) - 3} more" if len(words) > 3 else ""
    return "; ".join(words[:3]) + rest


def show_answers(answers: Sequence[Answer], console: Console, *, dry_run: bool) -> None:
    """Prints what was kept and what differs, and what was not kept and why."""
    if not answers:
        console.print("Nothing would be made anew: there is nothing to keep.")
    for answer in answers:
        verb = (
            f"{'would be kept' if dry_run else 'kept'} (was {answer.old_key[:SHOWN_DIGITS]})"
            if (answer.old_key)
            else "not kept"
        )
        line = f"{_label(answer)}: {verb}: {_told(answer.words)}"
        console.print(escape(line), highlight=False, soft_wrap=True)
