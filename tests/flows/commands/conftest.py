"""A workspace that the commands look at; whoever changes it takes a copy."""

import shutil
from pathlib import Path

import pytest

from tests.flows.smoked import Smoked


@pytest.fixture(scope="session")
def workspace(smoked: Smoked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of two runs, the second with a language more."""
    # Commands leave locks where they look, which must not come and go while another process copies.
    return Path(shutil.copytree(smoked.two, tmp_path_factory.mktemp("commands") / "workspace"))


@pytest.fixture
def copy(workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workspace, tmp_path / "copy"))
