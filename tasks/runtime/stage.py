"""The caching of stages: an artifact that is there and intact is served, anything else is made again."""

import asyncio
import inspect
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import PrefectException
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed

from mlc.errors import OutOfReachError, UserError
from mlc.stopping import Stopped, stop_if
from mlc.store import ArtifactRef, ArtifactStore, Draft, KeyParts
from mlc.store.keys import PENDING, RULE, library_versions
from mlc.store.sources import source_digests
from tasks.runtime.libraries import load_libraries
from tasks.runtime.progress import watch
from tasks.runtime.run import (
    INPUT_IS_NEW,
    Outcome,
    Run,
    RunReference,
    failing_in,
    harmless,
    label_of,
    open_run,
    waited_time,
    waiting,
    working_on,
    working_time,
)
from tasks.runtime.shards import without_shard
from tasks.runtime.stopping import under_a_worker
from tasks.runtime.unexpected import Unexpected, confined

P = ParamSpec("P")
T = TypeVar("T")
NEVER_BEGAN = (PrefectException, CancelledError, asyncio.CancelledError)
"""A task waited for another one, which failed, or the run ended before it began. Prefect raises asyncio's error in
threads too, which is no Exception."""
RETRY_SECONDS = (30.0, 120.0)
"""When a stage is tried again, in runs that nobody waits for."""
LOOK_SECONDS = 0.5
"""How often who waits for that looks whether the run was asked to stop."""
CAUSE_SECONDS = 5.0
"""How long to wait for the failure that ended others; it is known at about the same time."""


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
    outside: bool = False
    """Whether its artifacts stand for something outside the store, so that a plan must read them."""

    def parts(
        self,
        settings: Mapping[str, Any],
        inputs: Mapping[str, ArtifactRef | str],
        models: Mapping[str, str] | None = None,
        seed: int | None = None,
        modules: Sequence[str] = (),
    ) -> KeyParts:
        """The key parts of one artifact of this stage.

        Args:
            settings: The part of the configuration that decides the output, as plain data.
            inputs: Role of each input, and its reference or digest.
            models: Identity of each model that is loaded.
            seed: Seed, where one is used.
            modules: Dotted names of the modules of what is chosen by name, see :mod:`mlc.catalogue`.
        """
        return KeyParts(
            stage=self.name,
            version=self.version,
            settings=settings,
            inputs={role: ref if isinstance(ref, str) else ref.sha256 for role, ref in inputs.items()},
            sources=source_digests(self.module, *modules),
            libraries=library_versions(self.libraries),
            models=models or {},
            seed=seed,
            rule=RULE,
        )


@dataclass(frozen=True)
class Known:
    """Stands for a future where nothing needs to run: a plan foresees a task, or a run found its artifact."""

    reference: ArtifactRef

    def result(self) -> ArtifactRef:
        """The artifact that is there, or the one that would be made."""
        return self.reference


class NotThereError(Exception):
    """A stage that was only to look has no intact artifact in this place."""


@dataclass(frozen=True)
class _Given:
    """A future inside something else: Prefect counts a bare one twice, as an input and as a task around this one."""

    value: Any


def _wrapped(value: Any) -> Any:
    return _Given(value) if isinstance(value, PrefectFuture) else value


def _unwrapped(value: Any) -> Any:
    return value.value if isinstance(value, _Given) else value


class StageTask(Task[..., Any]):
    """A Prefect task that a plan can foresee, that a run starts only for work, and that any process can run.

    Where all of its inputs are known, the body runs at once in the flow, as far as finding out whether its artifact is
    there; a Prefect task of which nothing is left but that look would cost more than the look. What must be made, or
    waits for something that is, becomes an ordinary task, which is handed a reference to the run. While a plan is made,
    nothing reaches Prefect.
    """

    def submit(self, run: Run, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Finds what the task would make, foresees it, or starts the task.

        Raises:
            NotThereError: The run only looks, and there is nothing.
            Stopped: The run was asked to stop.
        """
        args, kwargs = _known(args), _known(kwargs)
        if run.planning:
            return Known(self.fn(run, *args, **kwargs))
        stop_if(run.should_stop)
        if run.looking:
            return Known(self._look(run, args, kwargs))
        if not _waits((args, kwargs)):
            # Whatever else a look fails by, the task fails by too, where everybody sees it.
            with suppress(Exception):
                return Known(self._look(run.only_looking(), args, kwargs))
        given = {name: _wrapped(value) for name, value in kwargs.items()}
        future = super().submit(run.reference, *map(_wrapped, args), **given)
        run.futures.append(future)
        future.add_done_callback(partial(_note_failure, run))
        return future

    def _look(self, run: Run, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ArtifactRef:
        return cast(ArtifactRef, inspect.unwrap(self.fn)(run, *args, **kwargs))

    def __reduce__(self) -> str:
        """Its name: another process imports the stage instead of taking over its code."""
        return self.fn.__qualname__


def _known(value: Any) -> Any:
    """Replaces what is known by its reference, inside lists, mappings and dataclasses too."""
    if isinstance(value, Known):
        return value.reference
    if isinstance(value, list | tuple):
        return type(value)(_known(item) for item in value)
    if isinstance(value, dict):
        return {name: _known(item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _known(getattr(value, field.name)) for field in fields(value)})
    return value


def _waits(value: Any) -> bool:
    """Whether anything waits for a task, inside lists, mappings and dataclasses too."""
    if isinstance(value, PrefectFuture):
        return True
    if isinstance(value, list | tuple):
        return any(map(_waits, value))
    if isinstance(value, dict):
        return any(map(_waits, value.values()))
    if is_dataclass(value) and not isinstance(value, type):
        return any(_waits(getattr(value, field.name)) for field in fields(value))
    return False


def _note_failure(run: Run, future: PrefectFuture[Any]) -> None:
    try:
        future.result()
    except NEVER_BEGAN:
        pass
    except BrokenExecutor:
        run.fail(
            UserError(
                "A process that computed stages of this run was killed, for example because memory ran out: run again; "
                "what is finished is kept."
            )
        )
    except Exception as error:
        run.fail(error)


@contextmanager
def naming_the_cause(run: Run) -> Iterator[None]:
    """Raises the failure of a task in place of what it did to others: they never started, or were killed with it.

    Raises:
        Stopped: The run was asked to stop, which ended its tasks.
    """
    try:
        yield
    except (*NEVER_BEGAN, BrokenExecutor):
        if run.should_stop():
            raise Stopped from None
        failure = run.first_failure(CAUSE_SECONDS)
        if failure is None:
            raise
        raise failure from None


def stage_task(name: str, run_name: str) -> Callable[[Callable[Concatenate[Run, P], ArtifactRef]], StageTask]:
    """Makes a function a task of the pipeline; it takes the run first, which is opened wherever it works.

    Prefect's own cache is off: it would replay a reference to an artifact that is gone. :func:`produce` looks at the
    artifact itself.

    Args:
        name: Name of the stage.
        run_name: Name of a task run, with parameters in braces.
    """

    def make(body: Callable[Concatenate[Run, P], ArtifactRef]) -> StageTask:
        @wraps(body)
        def opening(run: Run | RunReference, *args: P.args, **kwargs: P.kwargs) -> ArtifactRef:
            given: dict[str, Any] = {name: _unwrapped(value) for name, value in kwargs.items()}
            opened = open_run(run)
            watch(opened)
            try:
                stop_if(opened.is_over)
                with failing_in(name):
                    return confined(opened.workspace, name, lambda: body(opened, *map(_unwrapped, args), **given))
            except Stopped:
                return cast(ArtifactRef, Cancelled(message="Stopped; what it did so far is kept."))

        return StageTask(
            opening,
            name=name,
            task_run_name=run_name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=len(RETRY_SECONDS),
            retry_delay_seconds=list(RETRY_SECONDS),
            retry_condition_fn=_may_pass,
        )

    return make


def _may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a stage that failed is tried again: where something outside did not answer, and no person waits."""
    return under_a_worker() and isinstance(state.data, OutOfReachError)


def insisting(run: Run, ask: Callable[[], T]) -> T:
    """What is asked of something outside in the body of a flow; asked again as stages are.

    Args:
        run: The run.
        ask: Asks.

    Raises:
        OutOfReachError: There is no answer, and a person waits or it was asked again.
        Stopped: The run was asked to stop meanwhile.
    """
    for seconds in RETRY_SECONDS:
        try:
            return ask()
        except OutOfReachError as error:
            if not under_a_worker():
                raise
            run.display.note(f"{error} It is asked again in {seconds:g} s.")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            stop_if(run.should_stop)
            time.sleep(LOOK_SECONDS)
    return ask()


def shows(body: Callable[P, None]) -> Callable[P, None]:
    """Marks a function of a stage that only shows people something: its code is in no key, so it gives nothing back."""
    return body


@dataclass(frozen=True)
class Work:
    """How much a stage would have to do for one artifact."""

    rows: int | None = None
    """Rows of the artifact, or that it is made from; what a plan tells the stages that follow."""
    new: Callable[[], int] | None = None
    """How many of them are new; all, if left out. Asked only if the artifact is not there."""
    effort: float | None = None
    """What the time is in proportion to; the new rows, if left out."""
    free: bool = False
    """Whether it costs so little that a plan may do it, in a folder of its own."""


@dataclass(frozen=True)
class _Job:
    """One artifact that is asked for."""

    stage: Stage
    parts: KeyParts
    language: str | None
    subject: str | None
    work: Work

    @property
    def label(self) -> str:
        return label_of(self.stage.name, self.subject, self.language)

    def outcome(self, state: Any, seconds: float, reason: str, **more: Any) -> Outcome:
        return Outcome(
            self.stage.name, self.language, self.subject, state, round(seconds, 3), reason, self.parts.key, **more
        )


def produce(
    run: Run,
    stage: Stage,
    parts: KeyParts,
    write: Callable[[Draft], None],
    *,
    language: str | None = None,
    subject: str | None = None,
    work: Work = Work(),
    still_valid: Callable[[ArtifactRef], str | None] = lambda ref: None,
) -> ArtifactRef:
    """Serves an artifact from the store, or makes it; if another run is making it, waits and takes what that one made.

    Args:
        run: The run that asks for it.
        stage: The stage.
        parts: Key parts of the artifact.
        write: Writes the artifact's files into the draft's folder.
        language: Language that the artifact belongs to.
        subject: What else tells it from others of its stage.
        work: How much there is to do.
        still_valid: For artifacts that stand for something outside the store: why a stored one no longer
            holds, or None.

    Returns:
        The reference. Inside a Prefect task it comes wrapped in a completed state, named ``Cached`` when the
        artifact was there, so that the Prefect UI and API show which tasks did work.

    Raises:
        NotThereError: The run only looks, and there is no such artifact in this place.
        UserError: The workspace cannot be written.
        Unexpected: The artifact could not be made, for a reason that nobody foresaw.
    """
    job = _Job(stage, parts, language, subject, work)
    if run.planning:
        return _foresee(run, job, write, still_valid)
    started, waited = working_time(), waited_time()
    if run.looking and not run.store.place(stage.name, parts.key).exists():
        # A copy from the storage is work for a task.
        raise NotThereError
    ref = run.store.find(stage.name, parts.key, own=stage.outside)
    if ref is None or still_valid(ref) is not None:
        if run.looking:
            raise NotThereError
        with _turn(run, job):
            ref = run.store.find(stage.name, parts.key, own=stage.outside)
            problem = still_valid(ref) if ref else None
            if ref is None or problem is not None:
                what = f"{job.label} (artifact {parts.key[:12]})"
                try:
                    with failing_in(job.label), working_on(job.label), _shown_to_its_end(run, job):
                        return confined(
                            run.workspace, what, lambda: _make(run, job, write, ref, problem, started, waited)
                        )
                except (UserError, Unexpected):
                    # A full disk must not hide what it led to.
                    harmless(run.record_failure)(stage.name, language, subject, working_time() - started)
                    raise
    saved = _seconds_of(run.store, ref)
    reason = "its artifact is there and intact"
    run.record(job.outcome("cached", working_time() - started, reason, rows_new=0, seconds_saved=saved))
    if run.looking:
        return ref
    state: State[ArtifactRef] = Completed(
        name="Cached", message=f"Artifact {ref.key[:12]} is there and intact.", data=ref
    )
    return cast(ArtifactRef, state)


@contextmanager
def _turn(run: Run, job: _Job) -> Iterator[None]:
    stage, key = job.stage, job.parts.key

    def told(where: str) -> Callable[[], None]:
        return lambda: run.display.note(f"{job.label} is being made by {where}; waiting for it.")

    turn = run.store.making(stage.name, key, on_wait=told("another run in this workspace"), should_stop=run.should_stop)
    with waiting(turn):
        if stage.outside:
            yield
            return
        claim = run.store.claiming(stage.name, key, on_wait=told("another machine"), should_stop=run.should_stop)
        with waiting(claim):
            yield


@contextmanager
def _shown_to_its_end(run: Run, job: _Job) -> Iterator[None]:
    """Shows no longer that a task works, however it ends."""
    try:
        yield
    except BaseException:
        run.display.failed(job.label)
        raise


def _make(
    run: Run,
    job: _Job,
    write: Callable[[Draft], None],
    stale: ArtifactRef | None,
    problem: str | None,
    started: float,
    waited: float,
) -> ArtifactRef:
    reason = problem or why(run.store, job.parts, job.language, job.subject)
    run.display.started(job.label, reason)
    load_libraries(job.stage.libraries)
    if stale:
        run.store.discard(stale)
    rows_new, effort = _amount(job.work)
    with run.store.writing(job.stage.name, job.parts, clock=working_time, own=job.stage.outside) as draft:
        draft.facts |= {"language": job.language, "subject": job.subject, "effort": effort}
        write(draft)
    shutil.rmtree(run.store.partial(job.stage.name, job.parts.key), ignore_errors=True)
    made = run.store.reference(job.stage.name, job.parts.key)
    rows_new = made.rows if job.work.free else rows_new
    seconds = working_time() - started
    run.record(job.outcome("ran", seconds, reason, rows_new=rows_new))
    # Prefect's own time of the task counts the waiting too.
    spent = f"{seconds:.1f} s of work, {waited_time() - waited:.1f} s of waiting for the device or another run"
    return cast(ArtifactRef, Completed(message=f"Made artifact {made.key[:12]} ({reason}): {spent}.", data=made))


def _fetched_aside(run: Run, kind: str, key: str) -> ArtifactRef | None:
    """An artifact of the storage, in the temporary folder of a plan, which writes nothing into the workspace."""
    if run.scratch is None:
        return None
    aside = ArtifactStore(run.scratch, run.store.remote, durable=False)
    ref = aside.find(kind, key)
    # Absolute, so that it is found from the workspace too.
    return replace(ref, path=str(aside.folder(ref))) if ref else None


def _foresee(
    run: Run, job: _Job, write: Callable[[Draft], None], still_valid: Callable[[ArtifactRef], str | None]
) -> ArtifactRef:
    stage, parts = job.stage, job.parts
    run.parts[parts.key] = parts
    ref = run.store.glance(stage.name, parts.key)
    if ref and not run.store.folder(ref).exists() and (job.work.free or stage.outside):
        # It is in the storage only, and what is in it is looked at here: small tables, the name of a version.
        ref = _fetched_aside(run, stage.name, parts.key)
    problem = still_valid(ref) if ref else None
    if ref and problem is None:
        saved = _seconds_of(run.store, ref)
        reason = "its artifact is there"
        run.record(job.outcome("cached", 0.0, reason, rows_new=0, seconds_estimated=0.0, seconds_saved=saved))
        return ref
    pending = any(digest.startswith(PENDING) for digest in (*parts.inputs.values(), *parts.models.values()))
    reason = INPUT_IS_NEW if pending else problem or why(run.store, parts, job.language, job.subject)
    rows_new, effort = _amount(job.work)
    place = f"artifacts/{stage.name}/{parts.key}"
    foreseen = ArtifactRef(stage.name, parts.key, place, PENDING + parts.key, job.work.rows)
    if job.work.free and run.scratch and not pending:
        aside = ArtifactStore(run.scratch, durable=False)
        with aside.writing(stage.name, parts) as draft:
            write(draft)
        made = aside.reference(stage.name, parts.key)
        # Absolute, so that it is found from the workspace too.
        foreseen, rows_new = replace(made, path=str(aside.folder(made))), made.rows
    estimate = _estimate(run.store, job, effort)
    run.record(job.outcome("run", 0.0, reason, rows_new=rows_new, seconds_estimated=estimate))
    return foreseen


def _amount(work: Work) -> tuple[int | None, float]:
    """New rows, and what the time is in proportion to."""
    rows = work.new() if work.new else work.rows
    return rows, work.effort if work.effort is not None else 1.0 if rows is None else float(rows)


def _seconds_of(store: ArtifactStore, ref: ArtifactRef) -> float:
    return float(store.manifest(ref.kind, ref.key).get("seconds", 0.0))


def _estimate(store: ArtifactStore, job: _Job, effort: float) -> float | None:
    """Seconds by what the most similar work so far took for each unit of effort."""
    past = [manifest for manifest in store.past(job.stage.name) if manifest["facts"].get("effort") is not None]
    for alike in (
        [m for m in past if m["parts"]["models"] == job.parts.models and _role(m["facts"]) == _role(vars(job))],
        [m for m in past if _role(m["facts"]) == _role(vars(job))],
        past,
    ):
        done = sum(manifest["facts"]["effort"] for manifest in alike)
        if done > 0:
            return float(round(effort * sum(manifest["seconds"] for manifest in alike) / done, 2))
    return None


def _role(facts: Mapping[str, Any]) -> str:
    return re.sub(r" · seed \d+", "", without_shard(facts.get("subject")) or "")


def why(store: ArtifactStore, parts: KeyParts, language: str | None, subject: str | None) -> str:
    """What changed since a stage last ran for the same language and subject, in a few words."""
    if (damage := store.damage_of(parts.stage, parts.key)) is not None:
        return f"its artifact was damaged: {damage}"
    same = [
        manifest
        for manifest in store.past(parts.stage)
        if manifest["facts"].get("language") == language and manifest["facts"].get("subject") == subject
    ]
    if not same:
        return "new"
    changes = parts.differences(KeyParts(**same[-1]["parts"]))
    if not changes:
        return "its artifact is missing or damaged"
    rest = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
    return f"{changes[0]}{rest}"
