"""A process under a worker goes on writing when nobody reads any more; one without a worker is told of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
WRITING = """
import sys, time
from tasks.runtime.outliving import outlive_the_worker

outlive_the_worker()
print("begun", flush=True)
sys.stdin.readline()
time.sleep(0.2)
for _ in range(3):
    print("still here", flush=True)
open(sys.argv[1], "w").close()
"""


@pytest.mark.parametrize("worker", [True, pytest.param(False, marks=pytest.mark.full)])
def test_a_run_outlives_who_reads_it(worker: bool, tmp_path: Path) -> None:
    variables = {"PREFECT__FLOW_RUN_ID": "a flow run"} if worker else {}
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, str(tmp_path / "done")],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PREFECT_HOME": str(tmp_path), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait(60)
    assert (tmp_path / "done").exists() is worker
    assert (process.returncode == 0) is worker
