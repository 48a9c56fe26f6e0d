"""A plan is quick because it loads nothing that computes."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.flows.conftest import PROJECT

PLAN = """
import sys
from flows.config import load_config
from flows.plan import plan_run

tasks = plan_run(load_config("smoke", workspace=sys.argv[1]))
print(len(tasks), *sorted({"torch", "transformers", "mlflow", "trl"} & set(sys.modules)))
"""


@pytest.mark.skipif(not metadata.version("torch").endswith("+cpu"), reason="this build of torch is asked for a GPU")
def test_no_library_that_computes_is_loaded(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PLAN, str(tmp_path / "workspace")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    count, *loaded = ended.stdout.split()
    assert int(count) > 20
    assert loaded == []
