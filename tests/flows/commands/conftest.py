"""A workspace that the commands look at; whoever changes it takes a copy."""

import shutil
from pathlib import Path

import pytest

from flows.terminal.server import Server
from tests.flows.runs import flow_on


@pytest.fixture(scope="session")
def workspace(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of two runs, the second with a language more."""
    folder = tmp_path_factory.mktemp("commands") / "workspace"
    with flow_on(server.api) as flow:
        for languages in ("es", "es,fr"):
            flow(folder, languages)
    return folder


@pytest.fixture
def copy(workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workspace, tmp_path / "copy"))
