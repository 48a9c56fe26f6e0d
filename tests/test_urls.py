"""Secrets in addresses: never shown, never written down, taken from the environment."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.configuration.reading import load_config, validate_config
from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from mlc.store.remote import RemoteArtifacts
from mlc.store.runs import recorded
from mlc.translation.engines.endpoint import EndpointEngine, http_facts
from mlc.urls import expanded, redacted
from tasks.runtime.registry.addresses import tracking_uri
from tasks.runtime.registry.failures import registry_errors
from tasks.runtime.run import Run

TOKEN = "planted-T0ken"
HELD = (
    f"https://me:{TOKEN}@host/x",
    f"https://{TOKEN}@host/x",
    f"https://me:{TOKEN}/+?#@host/x",
    f"postgresql+psycopg://me:{TOKEN}@host:5432/db",
    f"https://host/x?token={TOKEN}",
    f"https://host/x?a=1&api_key={TOKEN}&b=2",
    f"https://host/x?X-Amz-Signature={TOKEN}",
    f"https://host/x?sig={TOKEN}",
    f"https://host/x#access_token={TOKEN}",
    f"s3://AKIA:{TOKEN}@bucket/folder",
)
PLAIN = (
    "https://host:5000/x",
    "https://host:5000/a@b",
    "file:///home/a@b/c",
    "sqlite:////tmp/x@y/z.db",
    "postgresql://mlflow@host/db",
    "https://host/x?page=2&design=blue",
    "https://me:${PASSWORD}@host/x?token=${TOKEN}",
    "${WHOLE}",
    "memory://x",
)


@pytest.mark.parametrize("url", HELD)
def test_secrets_are_hidden_and_the_rest_stays(url: str) -> None:
    told = redacted(f"The server '{url}' is gone, see https://example.org/help.")
    assert TOKEN not in told
    assert "host" in told or "bucket" in told
    assert told.endswith("' is gone, see https://example.org/help.")
    assert redacted(told) == told


@pytest.mark.parametrize("text", ["x" * 500_000, "://" * 20_000, "?a" * 200_000, "a@" * 200_000], ids=len)
def test_long_texts_take_no_time(text: str) -> None:
    started = time.process_time()
    assert redacted(text) == text
    assert time.process_time() - started < 5


@pytest.mark.parametrize("url", PLAIN)
def test_what_is_no_secret_stays(url: str) -> None:
    assert redacted(url) == url


KEYS = ("storage", "registry.tracking_uri", "translator.endpoint")


@pytest.mark.parametrize("url", HELD)
@pytest.mark.parametrize("key", KEYS)
def test_a_configuration_holds_no_secret(url: str, key: str) -> None:
    overrides = {key: url, **({"translator.engine": "http"} if key.startswith("translator") else {})}
    with pytest.raises(UserError, match=rf"'{key}' holds a secret .* \$\{{NAME\}}") as caught:
        load_config("smoke", overrides=overrides)
    assert TOKEN not in str(caught.value)


def test_no_other_mistake_shows_one() -> None:
    for overrides in ({"storage": [HELD[0]]}, {"translator.endpoint": HELD[0], "seeds": "x"}, {"gate": HELD[0]}):
        with pytest.raises(UserError) as caught:
            load_config("smoke", overrides=overrides)
        assert TOKEN not in str(caught.value)


def test_variables_are_read_where_they_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLANTED", TOKEN)
    url = "http://me:${PLANTED}@127.0.0.1:9/v1"
    config = load_config(
        "smoke",
        overrides={
            "registry.tracking_uri": url,
            "translator.endpoint": url,
            "translator.engine": "http",
            "storage": "memory://bucket/${PLANTED}",
            "workspace": str(tmp_path / "workspace"),
        },
    )
    store = config.open_store()
    with recorded(store.workspace, run_id="id", name="x", config=config.model_dump(mode="json")) as journal:
        reference = Run(store, journal=journal).reference
    # All that a flow and its tasks are told, that is written down, or that enters keys and rows.
    told = [
        config.model_dump_json(),
        json.dumps(vars(reference)),
        journal.path.read_text(),
        json.dumps(config.summary()),
    ]
    told.append(json.dumps(http_facts(config.translator)))
    assert not any(TOKEN in text for text in told)
    assert validate_config(config.model_dump(mode="json")) == config
    assert tracking_uri(config.registry, store.workspace) == f"http://me:{TOKEN}@127.0.0.1:9/v1"
    assert EndpointEngine.from_settings(config.translator.first)._client._address.startswith(
        f"http://me:{TOKEN}@127.0.0.1:9/v1/"
    )


def test_failures_of_servers_show_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("PLANTED", HELD[0])
    registry = load_config("smoke", overrides={"registry.tracking_uri": "${PLANTED}"}).registry
    with pytest.raises(UserError, match=r"https://\*\*\*@host/x") as caught, registry_errors(registry, tmp_path):
        raise MlflowException(HELD[0])
    assert TOKEN not in str(caught.value)
    assert caught.value.__suppress_context__
    with pytest.raises(UserError, match="cannot be used") as caught:
        RemoteArtifacts("nothing://${PLANTED}")
    assert TOKEN not in str(caught.value)


def test_a_variable_that_is_not_set() -> None:
    with pytest.raises(UserError, match="'NOT_SET_ANYWHERE', which 'storage' names, is not set"):
        expanded("s3://${NOT_SET_ANYWHERE}@bucket", "storage")


def test_what_earlier_releases_wrote_down_is_not_shown(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "workspace")
    parts = KeyParts("register", 1, settings={"registry": {"tracking_uri": HELD[0].replace("host", "127.0.0.1:9")}})
    with store.writing("register", parts) as draft:
        (draft.path / "version.json").write_text("{}")
    config = {"storage": HELD[5], "name": "x"}
    with recorded(store.workspace, run_id="id", name="x", config=config) as journal:
        journal.write({"task": {"stage": "register", "key": parts.key, "state": "ran"}})
    ended = CliRunner().invoke(
        app, ["status", "--workspace", str(store.workspace)], env={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    )
    assert (ended.exit_code, TOKEN in ended.output) == (0, False)
    assert "***@127.0.0.1:9" in ended.output
    exported = CliRunner().invoke(app, ["export", "1", str(tmp_path / "x.tar"), "--workspace", str(store.workspace)])
    assert exported.exit_code == 0
    assert f"api_key={TOKEN}".encode() not in (tmp_path / "x.tar").read_bytes()
