"""The commands that only look, on a workspace that nobody may write."""

import os
from pathlib import Path

import pytest

from tests.flows.smoked import Mlc


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "plan", "why", "export", "show", "runs", "compare"])
def test_they_work_and_change_nothing(copy: Path, tmp_path: Path, mlc: Mlc, command: str) -> None:
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
    ended = mlc(*arguments, "--workspace", str(copy), obedient=True)
    for path in (copy, *copy.rglob("*")):
        os.chmod(path, 0o700)
    assert ended.code == 0, ended.err
    assert snapshot(copy) == before
    told = ended.out + ended.err
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
