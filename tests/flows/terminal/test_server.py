"""Which Prefect server is used: named by a variable or a profile, with ``/api`` or without it, past any proxy."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from flows.terminal.proxies import LOOPBACK, loopback_past_proxies
from flows.terminal.server import answers, configured_api, prefect_server
from mlc.errors import UserError


class Page(BaseHTTPRequestHandler):
    """Answers as Prefect's server does: its API below ``/api``, its own page everywhere else."""

    def do_GET(self) -> None:
        api = self.path == "/api/health"
        self.send_response(200)
        self.send_header("content-type", "application/json" if api else "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"true" if api else b"<html></html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine, and nothing that stays."""
    names = [name for name in os.environ if name.startswith("PREFECT_") or name.lower().endswith("_proxy")]
    for name in {*names, "NO_PROXY", "no_proxy", "PREFECT_API_KEY"}:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))


@pytest.mark.parametrize("ending", ["", "/", "/api", "/api/"])
def test_an_address_with_or_without_its_ending(address: str, ending: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PREFECT_API_URL", address + ending)
    with prefect_server(tmp_path) as server:
        assert (server.url, server.api, server.process) == (address, f"{address}/api", None)


def profile(folder: Path, text: str) -> None:
    (folder / "profiles.toml").write_text(text, encoding="utf-8")


def test_the_active_profile(address: str, monkeypatch, tmp_path) -> None:
    profile(
        tmp_path,
        f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{address}/api"\nPREFECT_API_KEY = "key"\n'
        '[profiles.other]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n',
    )
    with prefect_server(tmp_path) as server:
        assert server.api == f"{address}/api"
        assert os.environ["PREFECT_API_KEY"] == "key"
    monkeypatch.setenv("PREFECT_PROFILE", "other")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/api.*profile 'other'"), prefect_server(tmp_path):
        pass
    monkeypatch.setenv("PREFECT_API_URL", address)
    with prefect_server(tmp_path) as server:
        assert server.url == address


@pytest.mark.parametrize(
    "text", ["", "not toml", "profiles = 3", 'active = "a"\n[profiles.b]\n', 'active = "a"\n[profiles.a]\nX = "1"\n']
)
def test_profiles_that_name_no_server(text: str, tmp_path) -> None:
    profile(tmp_path, text)
    assert configured_api() is None


@pytest.mark.parametrize("given", [None, "", "internal.example", "internal.example, localhost", "*"])
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_loopback_goes_past_proxies(address: str, given: str | None, variable: str, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    if given is not None:
        monkeypatch.setenv(variable, given)
    for _ in range(2):
        loopback_past_proxies()
    assert answers(f"{address}/api")
    for name in ("NO_PROXY", "no_proxy"):
        hosts = os.environ.get(name, "").split(",")
        if given != "*":
            assert set(LOOPBACK) <= set(hosts)
            assert len(set(hosts)) == len(hosts)
            assert ("internal.example" in hosts) == bool(given)
            with pytest.raises(httpx.ConnectError):
                httpx.get("http://outside.example")
