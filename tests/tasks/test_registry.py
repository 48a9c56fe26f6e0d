"""Promotions on a real registry: each is written down once, whatever happens in between."""

import json

import pytest
from mlflow.tracking import MlflowClient

from tasks.runtime.registry import PROMOTIONS_FILE, ModelVersion, champion, connect, promote_version, read_promotions
from tasks.runtime.settings import RegistrySettings


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def registry(workspace) -> MlflowClient:
    return connect(RegistrySettings(), workspace)


@pytest.fixture
def name(request):
    """Each test has a model of its own."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


@pytest.fixture
def client(registry, name) -> MlflowClient:
    registry.create_registered_model(name)
    return registry


@pytest.fixture
def versions(client, name):
    made = [client.create_model_version(name, f"file:///nowhere/{number}") for number in range(2)]
    return [ModelVersion(f"run {found.version}", name, str(found.version)) for found in made]


@pytest.fixture
def record(workspace):
    return workspace / PROMOTIONS_FILE


def test_promotions_are_written_down_in_order(client, name, versions, record):
    first, second = versions
    assert promote_version(client, record, first, ["good"], by="gate") is None
    assert promote_version(client, record, second, ["better"], by="gate") == "1"
    assert promote_version(client, record, first, ["back"], by="person") == "2"
    assert champion(client, name) == "1"
    told = [(entry["version"], entry["previous"], entry["by"]) for entry in read_promotions(record, name)]
    assert told == [("1", None, "gate"), ("2", "1", "gate"), ("1", "2", "person")]
    assert read_promotions(record, "another") == []


@pytest.mark.parametrize("failing", ["before the alias", "after the alias"])
def test_a_promotion_that_was_killed_is_finished(client, name, versions, record, monkeypatch, failing):
    first, second = versions
    promote_version(client, record, first, ["good"], by="gate")
    real = client.set_registered_model_alias

    def killed(*arguments):
        if failing == "after the alias":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "set_registered_model_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            promote_version(client, record, second, ["better"], by="gate")
    assert promote_version(client, record, second, ["better"], by="gate") == "1"
    assert champion(client, name) == "2"
    assert [entry["version"] for entry in read_promotions(record, name)] == ["1", "2"]


def test_a_person_may_give_another_reason(client, name, versions, record):
    promote_version(client, record, versions[0], ["good"], by="gate")
    assert promote_version(client, record, versions[0], ["looked at by hand"], by="person") == "1"
    assert [entry["reasons"] for entry in read_promotions(record, name)] == [["good"], ["looked at by hand"]]


def test_a_line_that_was_cut_off_costs_no_other(client, name, versions, record):
    promote_version(client, record, versions[0], ["good"], by="gate")
    whole = record.read_bytes()
    record.write_bytes(whole + b'{"time": "2026-')
    promote_version(client, record, versions[1], ["better"], by="gate")
    assert [entry["version"] for entry in read_promotions(record, name)] == ["1", "2"]
    assert json.loads(record.read_text().splitlines()[-1])["version"] == "2"
