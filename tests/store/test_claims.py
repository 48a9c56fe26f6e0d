"""Claims of machines on artifacts: one makes it, the others wait, and a dead one is in nobody's way."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc.stopping import Stopped
from mlc.store import ArtifactStore, claims
from mlc.store.remote import RemoteArtifacts

KEY = "a" * 64


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.full)])
def machines(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ArtifactStore]:
    for name, seconds in (("LOOK_SECONDS", 0.02), ("RENEW_SECONDS", 0.05), ("LEASE_SECONDS", 0.5)):
        monkeypatch.setattr(claims, name, seconds)
    url = request.getfixturevalue("bucket") if request.param == "s3" else (tmp_path / "storage").as_uri()
    return [ArtifactStore(tmp_path / name, RemoteArtifacts(url)) for name in ("one", "two")]


def waiting(store: ArtifactStore, then: Callable[[], None]) -> tuple[threading.Thread, threading.Event]:
    noted = threading.Event()

    def wait() -> None:
        with store.claiming("stage", KEY, on_wait=noted.set):
            then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, noted


def test_the_second_machine_waits_as_long_as_the_first_one_works(machines: list[ArtifactStore]) -> None:
    one, two = machines
    order: list[str] = []
    with one.claiming("stage", KEY):
        thread, noted = waiting(two, lambda: order.append("two"))
        assert noted.wait(10)
        # Longer than a claim may stay as it is: it is renewed meanwhile.
        time.sleep(1.2)
        order.append("one")
    thread.join(10)
    assert order == ["one", "two"]


def test_who_waits_goes_on_when_the_artifact_is_there(
    machines: list[ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    with one.claiming("stage", KEY):
        monkeypatch.setattr(two.remote, "manifest", lambda kind, key: {"sha256": KEY})
        with two.claiming("stage", KEY):
            pass
        # It is still the first one's.
        assert one.remote is not None
        assert one.remote.claim("stage", KEY, b"other") is not None


def test_the_claim_of_a_dead_machine_is_taken_over(machines: list[ArtifactStore]) -> None:
    one, two = machines
    assert one.remote is not None
    assert one.remote.claim("stage", KEY, b"elsewhere\nnobody\n") is None
    began = time.monotonic()
    with two.claiming("stage", KEY):
        assert time.monotonic() - began > claims.LEASE_SECONDS


def test_what_was_killed_in_this_workspace_is_taken_over_at_once(
    machines: list[ArtifactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    monkeypatch.setattr(claims, "LEASE_SECONDS", 1e9)
    held = one.claiming("stage", KEY)
    held.__enter__()
    with one.claiming("stage", KEY):
        pass
    held.__exit__(None, None, None)


def test_who_waits_can_be_stopped(machines: list[ArtifactStore]) -> None:
    one, two = machines
    with one.claiming("stage", KEY), pytest.raises(Stopped), two.claiming("stage", KEY, should_stop=lambda: True):
        pass


def test_without_a_storage_there_is_nothing_to_claim(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.claiming("stage", KEY), store.claiming("stage", KEY):
        pass
