"""The commands that only look, on a workspace that nobody may write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.smoked import PROJECT
from tests.privileges import obey_permissions


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "plan", "why", "export", "show", "runs", "compare"])
def test_they_work_and_change_nothing(copy: Path, tmp_path: Path, environment: dict[str, str], command: str) -> None:
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    before = snapshot(copy)
    arguments = {
        "status": ["status"],
        "plan": ["plan", "smoke", "--languages", "es,fr"],
        "why": ["why", "align"],
        "export": ["export", "last", str(tmp_path / "run.tar")],
        "show": ["show", "answers"],
        "runs": ["runs"],
        "compare": ["compare", "1", "2"],
    }[command]
    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "--workspace", str(copy)],
        cwd=PROJECT,
        env={**environment, "PYTHONPATH": str(PROJECT)},
        preexec_fn=obey_permissions,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    for path in (copy, *copy.rglob("*")):
        os.chmod(path, 0o700)
    assert ended.returncode == 0, ended.stderr
    assert snapshot(copy) == before
    told = ended.stdout + ended.stderr
    words = {
        "status": "Registered model",
        "plan": "0 tasks would run",
        "why": "cached",
        "export": "artifacts of run 2",
        "show": "Run 2, answers",
        "runs": "gate failed",
        "compare": "French",
    }
    assert words[command] in told
