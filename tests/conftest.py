import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from mlc.shipped import shipped_data

if TYPE_CHECKING:
    from flows.terminal.server import Server

# A test that is slow for once, on a busy machine, has not failed.
settings.register_profile("default", deadline=None, max_examples=50)
settings.register_profile("full", deadline=None, max_examples=500)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="take the whole products, as `make test-all` does")


def pytest_configure(config: pytest.Config) -> None:
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
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """One Prefect server for all tests of a process."""
    from flows.terminal.server import free_port, started_server

    with started_server(tmp_path_factory.mktemp("prefect"), free_port()) as started:
        yield started


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
