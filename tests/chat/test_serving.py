"""Servers that are started for one model: waited for, asked, and gone afterwards, whatever happens."""

import re
import shlex
import sys
import time
from pathlib import Path

import httpx
import pytest

from mlc.chat.client import ChatClient, Request, Server
from mlc.chat.serving import Serving, require_marks, served
from mlc.errors import UserError
from mlc.stopping import Stopped

COMMAND = f"{shlex.quote(sys.executable)} -m tests.chat.server {{path}} {{port}}"
PYTHON = f"{shlex.quote(sys.executable)} -c"


def gone(address: str) -> bool:
    try:
        httpx.get(f"{address}/models", timeout=5)
    except httpx.ConnectError:
        return True
    return False


def use(serving: Serving) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", serving.address)
    client = ChatClient(Server(serving.address, serving.model, "NO_KEY", 1, ("the address", "the model")))
    assert client.ask(Request([{"role": "user", "content": "hello"}])).text == " HELLO\n"
    raise RuntimeError("in the block")


def test_a_server_answers_in_the_block_and_is_gone_after_it(tmp_path: Path) -> None:
    log = tmp_path / "new" / "server.log"
    with (
        pytest.raises(RuntimeError, match="in the block"),
        served(COMMAND, str(tmp_path / "a folder"), log, setting="serve") as serving,
    ):
        use(serving)
    assert serving.model == str(tmp_path / "a folder")
    assert gone(serving.address)
    assert log.read_text() == "serving\n"
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"{PYTHON} 'import sys; print(1); sys.exit(3)' {{path}} {{port}}", "ended with code 3 before it answered"),
        (f"{PYTHON} 'import time; time.sleep(60)' {{path}} {{port}}", "did not answer within 0.5 s"),
        ("no-such-command {path} {port}", "no command 'no-such-command', which serve starts"),
    ],
    ids=["ends", "silent", "not there"],
)
def test_one_that_does_not_come_is_told(tmp_path: Path, command: str, told: str) -> None:
    with (
        pytest.raises(UserError, match=told),
        served(command, "model", tmp_path / "log", setting="serve", seconds=0.5 if "sleep" in command else 60),
    ):
        pytest.fail("It answered.")


def test_whoever_stops_does_not_wait_for_it(tmp_path: Path) -> None:
    command = f"{PYTHON} 'import time; time.sleep(60)' {{path}} {{port}}"
    started = time.monotonic()
    with pytest.raises(Stopped), served(command, "m", tmp_path / "log", setting="serve", should_stop=lambda: True):
        pytest.fail("It answered.")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("command", "told"),
    [("serve {path}", "lacks .port."), ("serve it", "lacks .path. and .port."), ("serve '{path} {port}", "a quote")],
)
def test_a_command_has_a_place_for_model_and_port(command: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        require_marks(command)
