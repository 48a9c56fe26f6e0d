"""The methods of a run as attempts: one that fails ends the run, or is set aside where the configuration says so."""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import Any, ParamSpec, TypeVar

from flows.configuration.pipeline import PipelineConfig
from mlc.errors import UserError
from mlc.methods import BASE, Method, in_order, resolve_method
from mlc.stopping import stop_if
from tasks.runtime.run import Run
from tasks.runtime.stage import CAUSE_SECONDS, NEVER_BEGAN
from tasks.runtime.unexpected import Unexpected

P = ParamSpec("P")
T = TypeVar("T")


class Attempts:
    """Tries to make and to measure each method, and knows why some were set aside.

    Args:
        run: The run.
        config: The pipeline; its ``failures`` says what a failure does.
    """

    def __init__(self, run: Run, config: PipelineConfig) -> None:
        self.run = run
        # A run that only looks leaves a failure, and the record of it, to the flow.
        self.lenient = config.failures == "set_aside" and not run.looking
        self.reasons: dict[str, str] = {}
        """Why each method that was set aside was, in a sentence."""
        self._futures: defaultdict[str, list[Any]] = defaultdict(list)
        self._first: Exception | None = None
        self._shared: Exception | None = None

    def of(self, method: Method, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Does a piece of the work for a method, such as submitting its stages.

        Args:
            method: The method.
            work: What is done.
            *args: What it takes.
            **kwargs: What it takes by name.

        Returns:
            What that gives; None for a method that is set aside, now or before.
        """
        if self.lenient and method.start in self.reasons:
            self._set_aside(method, f"It starts from {method.start}, which is set aside.")
        if method.name in self.reasons:
            return None
        submitted = len(self.run.futures)
        try:
            return work(*args, **kwargs)
        except (UserError, Unexpected) as error:
            self._failed(method, error)
            return None
        finally:
            self._futures[method.name] += self.run.futures[submitted:]

    def settle(self, config: PipelineConfig) -> PipelineConfig:
        """Waits for all that was submitted for methods, where failures set them aside, and takes these out.

        Args:
            config: The pipeline.

        Returns:
            The pipeline without the methods that are set aside. Its candidate is the last method that is left if its
            own one is not.

        Raises:
            Exception: The first failure, where nothing can be compared without what failed.
        """
        if not self.lenient:
            return config
        for method in in_order(config.models):
            self.of(method, self._wait_for, method)
        return self.without(config)

    def without(self, config: PipelineConfig) -> PipelineConfig:
        """The pipeline without the methods that are set aside so far; see :meth:`settle`."""
        if not self.reasons:
            return config
        left = tuple(name for name in config.models if resolve_method(name).name not in self.reasons)
        there = {BASE, *(resolve_method(name).name for name in left)}
        judged = [name for name in left if resolve_method(name).baseline in there]
        needed = {condition.against for condition in config.gate.conditions}.intersection(self.reasons)
        if needed or not judged:
            assert self._first is not None
            raise self._first
        candidate = config.candidate if config.candidate in judged else judged[-1]
        return config.model_copy(update={"models": left, "candidate": candidate})

    def _wait_for(self, method: Method) -> None:
        """Raises the failure of one of the stages of a method; of those that never began, what kept them from it."""
        never: BaseException | None = None
        for future in self._futures[method.name]:
            try:
                future.result()
            except BrokenExecutor:
                raise
            except NEVER_BEGAN as error:
                never = error
        stop_if(self.run.should_stop)
        if never:
            # What several methods share, such as translated answers, belongs to none of them.
            # It is forgiven after the first of them, and what is known already is not waited for.
            self._shared = self.run.first_failure(0.0 if self._shared else CAUSE_SECONDS) or self._shared
            raise self._shared or never

    def _failed(self, method: Method, error: Exception) -> None:
        if not self.lenient:
            raise error
        self._first = self._first or error
        self.run.forgive(error)
        self._set_aside(method, error.sentence if isinstance(error, Unexpected) else str(error))

    def _set_aside(self, method: Method, reason: str) -> None:
        if method.name in self.reasons:
            return
        self.reasons[method.name] = reason
        self.run.display.note(f"{method.name} is set aside. {reason}")
        if self.run.journal:
            self.run.journal.write({"set_aside": {"method": method.name, "reason": reason}})
