"""Promotions on a real registry: each is written down once, whatever happens in between."""

import json
import shutil
import sqlite3

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from mlc.errors import UserError
from tasks.runtime.registry.addresses import experiment_name, from_environment, tracking_uri
from tasks.runtime.registry.champions import CHAMPION, champion, look_at_champion, note_champion, promote_version
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.promotions import PROMOTIONS_FILE, previous_champion, read_promotions
from tasks.runtime.registry.versions import ModelVersion
from tasks.runtime.settings import RegistrySettings
from tasks.runtime.version_page import REPLACES


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


# Whoever changes the champion.


def history(record, name):
    return [(entry["version"], entry["previous"], entry["by"]) for entry in read_promotions(record, name)]


@pytest.mark.parametrize("look", ["status", "run", "promotion"])
def test_an_alias_that_was_moved_by_hand_is_written_down(client, workspace, name, versions, record, look):
    first, second = versions
    promote_version(client, record, first, ["good"], by="gate")
    client.set_registered_model_alias(name, CHAMPION, second.version)
    expected = [("1", None, "gate"), ("2", "1", "outside")]
    if look == "promotion":
        # To the very version, for the very reason of the last line that is ours.
        promote_version(client, record, first, ["good"], by="gate")
        expected.append(("1", "2", "gate"))
    for _ in range(2):
        if look == "status":
            assert note_champion(client, record, name) == "2"
        if look == "run":
            look_at_champion(RegistrySettings(model_name=name), workspace)
    assert history(record, name) == expected


def test_an_alias_that_was_moved_back_by_hand(client, name, versions, record):
    for version in versions:
        promote_version(client, record, version, ["good"], by="gate")
    client.set_registered_model_alias(name, CHAMPION, "1")
    note_champion(client, record, name)
    assert history(record, name)[-1] == ("1", "2", "outside")


def test_an_alias_that_was_taken_away_and_given_again(client, name, versions, record):
    promote_version(client, record, versions[0], ["good"], by="gate")
    client.delete_registered_model_alias(name, CHAMPION)
    assert note_champion(client, record, name) is None
    client.set_registered_model_alias(name, CHAMPION, "1")
    assert note_champion(client, record, name) == "1"
    assert history(record, name) == [("1", None, "gate"), (None, "1", "outside"), ("1", None, "outside")]


def test_a_model_that_was_deleted(client, name, versions, record):
    promote_version(client, record, versions[0], ["good"], by="gate")
    client.delete_registered_model(name)
    for _ in range(2):
        assert note_champion(client, record, name) is None
    assert history(record, name) == [("1", None, "gate"), (None, "1", "outside")]


def test_a_promotion_that_was_killed_is_nobody_elses(client, workspace, name, versions, record, monkeypatch):
    promote_version(client, record, versions[0], ["good"], by="gate")
    with monkeypatch.context() as patch:
        patch.setattr(client, "set_registered_model_alias", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            promote_version(client, record, versions[1], ["better"], by="gate")
    assert note_champion(client, record, name) == "1"
    look_at_champion(RegistrySettings(model_name=name), workspace)
    assert history(record, name) == [("1", None, "gate"), ("2", "1", "gate")]


def test_the_champion_before(client, name, versions, record):
    first, second = versions
    promote_version(client, record, first, ["good"], by="gate")
    assert previous_champion(record, name, "1") is None
    promote_version(client, record, second, ["better"], by="gate")
    promote_version(client, record, second, ["looked at"], by="person")
    assert previous_champion(record, name, "2") == "1"
    assert "| Replaces | version 1, the champion before |" in client.get_model_version(name, "2").description
    promote_version(client, record, first, ["rollback from version 2"], by="person")
    assert client.get_model_version(name, "1").tags[REPLACES] == "2"
    assert previous_champion(record, name, "1") == "2"


def test_a_server_that_fails_is_no_missing_champion(client, name, versions, record, monkeypatch):
    promote_version(client, record, versions[0], ["good"], by="gate")

    def fails(*arguments):
        raise mlflow.MlflowException("away")

    monkeypatch.setattr(client, "get_model_version_by_alias", fails)
    with pytest.raises(mlflow.MlflowException):
        note_champion(client, record, name)
    assert len(history(record, name)) == 1


# Where models are registered.


def test_the_environment_decides_what_the_configuration_leaves_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    free, bound = RegistrySettings(), RegistrySettings(tracking_uri="http://elsewhere:5000", experiment="ours")
    assert tracking_uri(free, tmp_path) == f"sqlite:///{tmp_path / 'other.db'}"
    assert tracking_uri(bound, tmp_path) == "http://elsewhere:5000"
    assert (experiment_name(free), experiment_name(bound)) == ("theirs", "ours")
    assert from_environment(free) == ["MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"]
    assert from_environment(bound) == []
    (tmp_path / "workspace").mkdir()
    assert connect(free, tmp_path / "workspace").get_experiment_by_name("theirs")
    assert (tmp_path / "other.db").is_file()
    assert not (tmp_path / "workspace" / "mlflow" / "mlflow.db").exists()


@pytest.fixture
def moved_back(registry, workspace):
    """MLflow holds its addresses for the whole process."""
    yield
    connect(RegistrySettings(), workspace)


@pytest.mark.usefixtures("moved_back")
def test_a_deleted_experiment(tmp_path, monkeypatch):
    client = connect(RegistrySettings(), tmp_path)
    client.delete_experiment(client.get_experiment_by_name("mlc").experiment_id)
    # Of our own database it is restored; on a server somebody had a reason.
    server = RegistrySettings(tracking_uri=f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    with pytest.raises(UserError, match="experiment 'mlc' was deleted on the server"):
        connect(server, tmp_path)
    assert connect(RegistrySettings(), tmp_path).get_experiment_by_name("mlc").lifecycle_stage == "active"


@pytest.mark.usefixtures("moved_back")
@pytest.mark.parametrize("name", ["plain", "with space", "50% of # é文", "a;b&c=d"])
def test_files_of_a_workspace_that_was_moved_are_found(tmp_path, name):
    before, after = tmp_path / "before", tmp_path / name
    before.mkdir()
    connect(RegistrySettings(), before)
    mlflow.set_experiment("mlc")
    with mlflow.start_run() as run:
        mlflow.log_text("kept", "note.txt")
    foreign = mlflow.create_experiment("foreign", artifact_location="file:///elsewhere/artifacts")
    shutil.move(before, after)
    client = connect(RegistrySettings(), after)
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/note.txt") == "kept"
    assert client.get_experiment(foreign).artifact_location == "file:///elsewhere/artifacts"
    with sqlite3.connect(after / "mlflow" / "mlflow.db") as database:
        assert "/before/" not in "".join(database.iterdump())
    assert not before.exists()


def test_mlflow_does_not_name_a_server_for_others(registry, workspace):
    connect(RegistrySettings(), workspace)
    assert from_environment(RegistrySettings()) == []
