import gc
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from mlc.shipped import shipped_data

if TYPE_CHECKING:
    from flows.terminal.server import Server
    from tests.flows.smoked import Mlc, Smoked
    from tests.forked import Forks

# A test that is slow for once, on a busy machine, has not failed.
settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("full", deadline=None, max_examples=500)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="take the whole products, as `make test-all` does")


def pytest_configure(config: pytest.Config) -> None:
    # Before torch is loaded. Threads of OpenMP do not live on in a process that is forked, which would wait for them
    # for ever; and trainings in processes with other numbers of them end in other bits.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A shell that starts the tests in the background has them ignore it, and every process of theirs too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.load_profile("full" if config.getoption("--full") else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    full = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=full)
    items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says what was not run here, and why."""
    # A skip is told as (file, line, "Skipped: reason").
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    told = [f"{count} with {reason}" for reason, count in reasons.items()]
    if not config.getoption("--full"):
        told.append("the rest of the whole products (make test-all)")
    if told:
        terminalreporter.write_line(f"Not run here: {'; '.join(told)}.")


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the tests share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def server(together: Path) -> "Iterator[Server]":
    """One Prefect server for all processes of the tests."""
    from tests.flows.serving import shared_server

    with shared_server(together) as shared:
        yield shared


@pytest.fixture(scope="session")
def database(server: "Server", together: Path) -> Path:
    """The database of that server."""
    from flows.terminal.server import DATABASE_FILE, SERVER_FOLDER

    return together / SERVER_FOLDER / DATABASE_FILE


@pytest.fixture(scope="session")
def environment(server: "Server", tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a command that uses that server."""
    from flows.terminal.quiet import quiet_environment

    return {
        **os.environ,
        **quiet_environment(),
        "PREFECT_API_URL": server.api,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def forked(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Forks]":
    """Starts commands that find the libraries loaded."""
    from tests.flows.smoked import PROJECT
    from tests.forked import LOADED, forks

    folder = tmp_path_factory.mktemp("forked")
    with forks("flows.cli:main", LOADED, environment=environment, project=PROJECT, folder=folder) as starting:
        yield starting


@pytest.fixture(scope="session")
def mlc(environment: dict[str, str], forked: "Forks") -> "Mlc":
    """Runs `mlc` as a person does, in a process of its own."""
    from tests.flows.smoked import PROJECT, RUN_SECONDS, Ended

    def run(*arguments: str, cwd: Path = PROJECT, obedient: bool = False, **variables: str) -> Ended:
        if not variables:
            started = forked.start(*arguments, cwd=cwd, obedient=obedient)
            return Ended(*started.communicate(RUN_SECONDS), addresses=frozenset(started.addresses))
        ended = subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=cwd,
            env={**environment, "PYTHONPATH": str(PROJECT), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture(scope="session")
def smoked(together: Path, mlc: "Mlc") -> "Smoked":
    """Two smoke runs, for reading and copying only; one process of the tests makes them for all."""
    from tests.flows.smoked import smoked_in

    return smoked_in(together, mlc)


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """A kill loses nothing that the system has; to outlast a loss of power is what a test that looks at it asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def libraries_are_no_garbage() -> None:
    """A training looks for garbage, which takes a quarter of a second where it goes through all libraries."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_registry_of_another_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow writes the address that a test uses into the environment, where the next one would find it."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME"):
        os.environ.pop(name, None)


@pytest.fixture
def load_tiny():
    """Loads the committed random policy anew, so that a test may train it."""
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model

    return lambda: load_policy(resolve_model("shipped:tiny"), device="cpu")


@pytest.fixture(scope="session")
def tiny_policy():
    """The committed random policy, shared: for reading only."""
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model

    return load_policy(resolve_model("shipped:tiny"), device="cpu")


@pytest.fixture(scope="session")
def tiny_folder():
    return shipped_data("tiny")
