"""Nothing but loopback is connected to, from the start of a run to the registered version.

Two things watch. In the default form an audit hook of Python is in the process of a smoke run (``test_smoke.py``): it
sees each address that Python connects to, sends to or looks up, whether that succeeds or not, and nothing that native
code or the Prefect server does. The long form starts a run for itself, with a Prefect server of its own, in a network
namespace that has loopback and nothing else (``unshare``), and strace tells each address that any process of it tried.
Where a machine allows no namespace the run has the whole network; where there is no strace the hook watches all its
processes.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from flows.terminal.quiet import quiet_environment
from flows.terminal.server import free_port
from tests.addresses import cut_off, outside, watches
from tests.flows.smoked import PROJECT

ELSEWHERE = "192.0.2.1"
"""An address for documentation (RFC 5737): nobody has it."""
CONNECTS = f"""
import socket
for address in ("127.0.0.1", "{ELSEWHERE}"):
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            pass
"""
RUN_SECONDS = 1200


def variables() -> dict[str, str]:
    """A person's own environment, without a server or registry of the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return {**own, **quiet_environment(), "PYTHONPATH": str(PROJECT)}


@pytest.mark.parametrize("watch", watches())
@pytest.mark.parametrize("before", [[], cut_off()] if cut_off() else [[]], ids=len)
def test_what_watches_sees_a_connection(watch: str, before: list[str], tmp_path: Path) -> None:
    seen = watches()[watch]([*before, sys.executable, "-c", CONNECTS], variables(), tmp_path, cwd=PROJECT, seconds=60)
    assert seen.code == 0, seen.err
    assert seen.addresses >= {"127.0.0.1", ELSEWHERE}
    assert outside(seen.addresses) == {ELSEWHERE}


@pytest.mark.slow
@pytest.mark.full
def test_a_run_with_its_server_connects_to_loopback_alone(tmp_path: Path) -> None:
    command = [*cut_off(), sys.executable, "-m", "flows.cli", "run", "smoke", "--port", str(free_port()), "--json"]
    watch = list(watches().values())[-1]
    command += ["--workspace", str(tmp_path / "workspace")]
    seen = watch(command, variables(), tmp_path, cwd=PROJECT, seconds=RUN_SECONDS)
    assert seen.code == 0, seen.err[-3000:]
    assert json.loads(seen.out)["model_version"]["version"]
    assert "127.0.0.1" in seen.addresses
    assert outside(seen.addresses) == set()
