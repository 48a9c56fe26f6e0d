"""The caching of stages: an artifact that is there and intact is served, anything else is made again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from mlc.store import ArtifactRef, ArtifactStore, Draft, KeyParts
from mlc.store.keys import PENDING, library_versions
from mlc.store.sources import source_digests
from tasks.clock import working_time
from tasks.running import Outcome, Run, current_run


@dataclass(frozen=True)
class Stage:
    """What identifies the code of a stage in its keys."""

    name: str
    version: int
    """Raised by hand when the meaning of the stage's output changes."""
    module: str
    """Dotted name of the module whose imports decide the output; usually ``__name__``."""
    libraries: tuple[str, ...] = ()
    """Distributions whose minor version decides numbers."""

    def parts(
        self,
        settings: Mapping[str, Any],
        inputs: Mapping[str, ArtifactRef | str],
        models: Mapping[str, str] | None = None,
        seed: int | None = None,
    ) -> KeyParts:
        """The key parts of one artifact of this stage.

        Args:
            settings: The part of the configuration that decides the output, as plain data.
            inputs: Role of each input, and its reference or digest.
            models: Identity of each model that is loaded.
            seed: Seed, where one is used.
        """
        return KeyParts(
            stage=self.name,
            version=self.version,
            settings=settings,
            inputs={role: ref if isinstance(ref, str) else ref.sha256 for role, ref in inputs.items()},
            sources=source_digests(self.module),
            libraries=library_versions(self.libraries),
            models=models or {},
            seed=seed,
        )


@dataclass(frozen=True)
class Foreseen:
    """Stands for a future where a plan foresees a task instead of running it."""

    reference: ArtifactRef

    def result(self) -> ArtifactRef:
        """The artifact that is there, or the one that would be made."""
        return self.reference


class StageTask(Task[..., Any]):
    """A Prefect task that a plan can foresee.

    In a run it is an ordinary task. While a plan is made, nothing reaches Prefect: the body runs at once, as far as
    finding out whether its artifact is there.
    """

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Starts the task, or foresees it."""
        if not current_run().planning:
            return super().submit(*args, **kwargs)
        return Foreseen(self(*args, **kwargs))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the task and waits for it, or foresees it."""
        if not current_run().planning:
            outcome = super().__call__(*args, **kwargs)
            return outcome.result() if isinstance(outcome, State) else outcome
        return self.fn(*_known(args), **_known(kwargs))


def _known(value: Any) -> Any:
    """Replaces what was foreseen by its reference, inside lists and mappings too."""
    if isinstance(value, Foreseen):
        return value.reference
    if isinstance(value, list | tuple):
        return type(value)(_known(item) for item in value)
    return {name: _known(item) for name, item in value.items()} if isinstance(value, dict) else value


def stage_task(name: str, run_name: str | Callable[[], str]) -> Callable[[Callable[..., Any]], StageTask]:
    """Makes a function a task of the pipeline.

    Prefect's own cache is off: it would replay a reference to an artifact that is gone. :func:`produce` looks at the
    artifact itself.

    Args:
        name: Name of the stage.
        run_name: Name of a task run, with parameters in braces, or a function that makes it.
    """
    return partial(StageTask, name=name, task_run_name=run_name, cache_policy=NO_CACHE, persist_result=False)


def produce(
    stage: Stage,
    parts: KeyParts,
    write: Callable[[Draft], None],
    *,
    language: str | None = None,
    subject: str | None = None,
    still_valid: Callable[[ArtifactRef], str | None] = lambda ref: None,
) -> ArtifactRef:
    """Serves an artifact from the store, or makes it.

    Args:
        stage: The stage.
        parts: Key parts of the artifact.
        write: Writes the artifact's files into the draft's folder.
        language: Language that the artifact belongs to.
        subject: What else tells it from others of its stage.
        still_valid: For artifacts that stand for something outside the store: why a stored one no longer
            holds, or None.

    Returns:
        The reference. Inside a Prefect task it comes wrapped in a completed state, named ``Cached`` when the
        artifact was there, so that the Prefect UI and API show which tasks did work.
    """
    run = current_run()
    label = " · ".join(text for text in (stage.name, subject, language) if text)
    started = working_time()
    ref = run.store.find(stage.name, parts.key)
    problem = still_valid(ref) if ref else None
    if run.planning:
        return _foresee(run, stage, parts, language, subject, ref if problem is None else None, problem)
    if ref and problem is None:
        _finish(run, label, stage, language, subject, "cached", started, "its artifact is there and intact", ref)
        state: State[ArtifactRef] = Completed(
            name="Cached", message=f"Artifact {ref.key[:12]} is there and intact.", data=ref
        )
        return cast(ArtifactRef, state)
    reason = problem or _why(run.store, stage, parts, language, subject)
    run.display.started(label, reason)
    if ref:
        run.store.discard(ref)
    with run.store.writing(stage.name, parts) as draft:
        draft.facts |= {"language": language, "subject": subject}
        write(draft)
    made = run.store.reference(stage.name, parts.key)
    _finish(run, label, stage, language, subject, "ran", started, reason, made)
    return cast(ArtifactRef, Completed(message=f"Made artifact {made.key[:12]} ({reason}).", data=made))


def _foresee(
    run: Run,
    stage: Stage,
    parts: KeyParts,
    language: str | None,
    subject: str | None,
    ref: ArtifactRef | None,
    problem: str | None,
) -> ArtifactRef:
    if ref:
        run.record(stage.name, Outcome(stage.name, language, subject, "cached", 0.0, "its artifact is there", ref.key))
        return ref
    pending = any(digest.startswith(PENDING) for digest in (*parts.inputs.values(), *parts.models.values()))
    reason = "what it reads is made first" if pending else problem or _why(run.store, stage, parts, language, subject)
    run.record(stage.name, Outcome(stage.name, language, subject, "run", 0.0, reason, parts.key))
    return ArtifactRef(stage.name, parts.key, f"artifacts/{stage.name}/{parts.key}", PENDING + parts.key)


def _finish(
    run: Run,
    label: str,
    stage: Stage,
    language: str | None,
    subject: str | None,
    state: Any,
    started: float,
    reason: str,
    ref: ArtifactRef,
) -> None:
    seconds = round(working_time() - started, 3)
    run.record(label, Outcome(stage.name, language, subject, state, seconds, reason, ref.key))


def _why(store: ArtifactStore, stage: Stage, parts: KeyParts, language: str | None, subject: str | None) -> str:
    """What changed since this stage last ran for the same language and subject."""
    same = [
        manifest
        for manifest in store.manifests(stage.name)
        if manifest["facts"].get("language") == language and manifest["facts"].get("subject") == subject
    ]
    if not same:
        return "new"
    changes = parts.differences(KeyParts(**same[-1]["parts"]))
    if not changes:
        return "its artifact is missing or damaged"
    rest = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{changes[0]}{rest}"
