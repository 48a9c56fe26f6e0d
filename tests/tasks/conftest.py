"""A run in a workspace of its own, whose notes a test can read."""

from pathlib import Path

import pytest

from mlc.store import ArtifactStore
from tasks.runtime.run import Notes, Run


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def run(tmp_path: Path, notes: Notes) -> Run:
    return Run(ArtifactStore(tmp_path / "workspace"), notes)
