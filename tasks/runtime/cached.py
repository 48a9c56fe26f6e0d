"""What Prefect's pages show of the stages that needed no task, because a run found their artifacts: one table."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from mlc.errors import UserError
from mlc.stopping import Stopped
from tasks.runtime.run import Outcome, Run, harmless
from tasks.runtime.unexpected import Unexpected

TABLE = "cached"
_KEY_DIGITS = 12


@contextmanager
def cached_shown(run: Run) -> Iterator[None]:
    """Shows at the end of a flow run, in one table and one line of its log, what was cached; for the body of a flow.

    A run that ends because Prefect does not answer shows nothing.
    """
    try:
        yield
    except (UserError, Unexpected, Stopped):
        harmless(_show)(run)
        raise
    harmless(_show)(run)


def _show(run: Run) -> None:
    run.catch_up()
    cached = [outcome for outcome in run.outcomes if outcome.state == "cached"]
    if not cached:
        return
    counts = Counter(outcome.stage for outcome in cached)
    told = ", ".join(f"{stage} {count}" for stage, count in counts.items())
    get_run_logger().info("%d of %d stages were cached: %s.", len(cached), len(run.outcomes), told)
    create_table_artifact(
        key=TABLE, table=_rows(cached), description="Stages whose artifacts were there and intact, and needed no task."
    )


def _rows(cached: Sequence[Outcome]) -> list[dict[str, str]]:
    return [
        {
            "stage": outcome.stage,
            "subject": outcome.subject or "",
            "language": outcome.language or "",
            "key": outcome.key[:_KEY_DIGITS],
            "state": outcome.state,
        }
        for outcome in cached
    ]
