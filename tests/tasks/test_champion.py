"""The gate against the live champion: real registrations, a real registry, decisions on made-up outcomes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows.promoting import promote_by_person, was_promoted
from flows.terminal.server import Server
from mlc.errors import UserError
from mlc.evaluation.gate.settings import GateSettings
from mlc.evaluation.results import EvaluationResult
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import resolve_model
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from tasks.promote import REGISTERED_DECISION, promote
from tasks.register import register_model
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, read_decision
from tasks.runtime.champion import Champion, find_champion
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.registry.champions import CHAMPION, champion, promote_version
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.promotions import PROMOTIONS_FILE
from tasks.runtime.registry.versions import read_version
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings, RegistrySettings, Roles
from tests.evaluation.outcomes import BAD, GOOD, everywhere
from tests.tasks.registering import tracked, written_report

pytestmark = pytest.mark.slow

BETWEEN = ("r" * 12 + "c" * 8, "c" * 18 + "rr")
GATE = GateSettings.model_validate(
    {
        "name": "trial",
        "conditions": [
            {"figure": "selectivity", "scope": "mean", "against": "base", "at_least": 0.0},
            {"figure": "selectivity", "scope": "mean", "against": "champion", "at_least": 0.0, "confidence": "point"},
        ],
    }
)
SETTINGS = RegistrySettings()


@pytest.fixture(scope="module", autouse=True)
def watched(server: Server) -> Iterator[None]:
    """The server of the session, where the decision is shown; without one, Prefect starts another."""
    with temporary_settings({PREFECT_API_URL: server.api, PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(ArtifactStore(tmp_path_factory.mktemp("champions") / "workspace"))


def reference(done: Any) -> ArtifactRef:
    return done if isinstance(done, ArtifactRef) else done.data


def trained(run: Run, name: str) -> Model:
    policy = load_policy(resolve_model("shipped:tiny"), device="cpu")
    parts = KeyParts("align", 1, settings={"name": name})
    with torch.no_grad():
        # So that no two of them are the same model.
        policy.model.lm_head.weight.add_(len(name) * 1e-3)
    with run.store.writing("align", parts) as draft:
        save_policy(policy, draft.path / CHECKPOINT_FOLDER, dtype=torch.float32)
    return Model("new", 0, run.store.reference("align", parts.key), "cpu")


def registered(run: Run, model: Model) -> ArtifactRef:
    report = written_report(run, model.method, [])
    return reference(register_model.fn(run, model, {}, report, tracked(model), SETTINGS))


def stored(run: Run, results: list[EvaluationResult]) -> dict[str, ArtifactRef]:
    refs = {}
    for result in results:
        summary = result.summary
        name = f"{summary.model} {summary.language}"
        parts = KeyParts("evaluate", 1, settings={"name": name, "refused": summary.harmful_refused.value})
        if run.store.find("evaluate", parts.key) is None:
            with run.store.writing("evaluate", parts) as draft:
                result.write(draft.path)
        refs[name] = run.store.reference("evaluate", parts.key)
    return refs


def decided(
    run: Run,
    version: ArtifactRef,
    found: Champion | None,
    settings: RegistrySettings = SETTINGS,
    **texts: tuple[str, str],
) -> dict[str, Any]:
    results = [one for model, pair in texts.items() for one in everywhere(model, *pair)]
    roles = Roles("new", "base", champion=CHAMPION if found else None)
    done = promote.fn(run, version, stored(run, results), GATE, settings, roles, found.version if found else None)
    return read_decision(run.store, reference(done))


@pytest.fixture(scope="module")
def first(run: Run) -> tuple[Model, dict[str, Any]]:
    model = trained(run, "first")
    assert find_champion(run, model, SETTINGS) is None
    return model, decided(run, registered(run, model), None, base=BAD, new=GOOD)


@pytest.fixture(scope="module")
def second(run: Run, first: Any) -> tuple[Model, ArtifactRef, Champion]:
    model = trained(run, "the second")
    version = registered(run, model)
    found = find_champion(run, model, SETTINGS)
    assert found is not None
    return model, version, found


def test_the_first_champion_has_none_to_beat(run: Run, first: Any) -> None:
    model, decision = first
    assert decision["passed"]
    assert [check["verdict"] for check in decision["checks"]] == ["passed", "no other champion"]
    assert decision["champion"] is None
    assert champion(connect(SETTINGS, run.workspace), SETTINGS.model_name) == "1"
    # A run that is repeated finds its own model as champion, and its decision.
    assert find_champion(run, model, SETTINGS) is None


def test_the_champion_is_the_checkpoint_of_its_version(run: Run, first: Any, second: Any) -> None:
    _, _, found = second
    assert found == Champion("1", Model(CHAMPION, None, first[0].weights, "cpu"))
    planned = Run(run.store, planning=True)
    assert find_champion(planned, second[0], SETTINGS) == found


def test_better_than_base_and_worse_than_the_champion_is_refused(run: Run, second: Any) -> None:
    _, version, found = second
    decision = decided(run, version, found, base=BAD, new=BETWEEN, champion=GOOD)
    assert not decision["passed"]
    assert [(check["name"], check["verdict"]) for check in decision["checks"]] == [
        ("selectivity − base", "passed"),
        ("selectivity − champion", "failed"),
    ]
    client = connect(SETTINGS, run.workspace)
    assert champion(client, SETTINGS.model_name) == "1"
    registered_as = read_version(run.store, version)
    tags = client.get_model_version(registered_as.name, registered_as.version).tags
    assert {name: tags[name] for name in tags if name.startswith("gate")} == {
        "gate": "failed",
        "gate.policy": "trial",
        "gate.failed": "selectivity − champion (mean of 3 languages)",
        "gate.champion": "1",
        "gate.waits": "false",
    }
    place = mlflow.artifacts.download_artifacts(run_id=registered_as.run_id, artifact_path=REGISTERED_DECISION)
    assert json.loads(Path(place).read_text(encoding="utf-8"))["checks"] == decision["checks"]


def test_a_champion_that_cannot_be_measured_is_not_beaten(run: Run, second: Any) -> None:
    _, version, found = second
    decision = decided(run, version, Champion(found.version, None), base=BAD, new=GOOD)
    assert [check["verdict"] for check in decision["checks"]] == ["passed", "not measured"]
    assert not decision["passed"]


def test_a_champion_that_changed_meanwhile_is_told(run: Run, second: Any) -> None:
    _, version, _ = second
    with pytest.raises(UserError, match="changed while the run went on, from version 7 to version 1: run again"):
        decided(run, version, Champion("7", None), base=BAD, new=GOOD, champion=BETWEEN)


def test_a_registry_alone_gives_its_champion(run: Run, second: Any, tmp_path: Path) -> None:
    """In another workspace there is no checkpoint of it: the registry's files are copied, once."""
    elsewhere = Run(ArtifactStore(tmp_path / "other"))
    shared = RegistrySettings(tracking_uri=f"sqlite:///{run.workspace / 'mlflow' / 'mlflow.db'}")
    model = trained(elsewhere, "elsewhere")
    try:
        assert find_champion(Run(elsewhere.store, planning=True), model, shared) == Champion("1", None)
        found = find_champion(elsewhere, model, shared)
        assert found is not None
        assert found.model is not None
        assert isinstance(found.model.weights, PolicySettings)
        with loaded_policy(elsewhere, found.model) as policy, loaded_policy(run, second[2].model) as original:
            assert torch.equal(policy.model.lm_head.weight, original.model.lm_head.weight)
        folder = Path(found.model.weights.model)
        stamp = folder.stat().st_mtime_ns
        again = find_champion(elsewhere, model, shared)
        assert again == found
        assert folder.stat().st_mtime_ns == stamp
        assert source_of(elsewhere, found.model).identity != source_of(elsewhere, model).identity
    finally:
        connect(SETTINGS, run.workspace)


def test_a_plan_goes_without_a_registry_that_cannot_be_asked(run: Run, second: Any, tmp_path: Path) -> None:
    planned = Run(run.store, planning=True)
    for text in (None, "no database"):
        file = tmp_path / "there" / "mlflow.db"
        settings = RegistrySettings(tracking_uri=f"sqlite:///{file}")
        if text is not None:
            file.parent.mkdir()
            file.write_text(text, encoding="utf-8")
        assert find_champion(planned, second[0], settings) is None
        # Nothing was made there.
        assert file.exists() == (text is not None)
    try:
        with pytest.raises(UserError, match="is damaged"):
            find_champion(run, second[0], settings)
    finally:
        connect(SETTINGS, run.workspace)


def test_one_that_beats_the_champion_takes_its_place(run: Run, second: Any) -> None:
    model, version, found = second
    decision = decided(run, version, found, base=BAD, new=GOOD, champion=BETWEEN)
    assert decision["passed"]
    assert (decision["champion"], decision["previous"]) == ("1", "1")
    client = connect(SETTINGS, run.workspace)
    assert champion(client, SETTINGS.model_name) == "2"
    # Repeated, it is held against the one before, as in its own run.
    assert find_champion(run, model, SETTINGS) == found


def test_one_that_passed_waits_for_a_person_where_a_person_decides(run: Run, second: Any) -> None:
    by_person = RegistrySettings(promoted_by="person")
    model = trained(run, "for a person")
    version = registered(run, model)
    # Who promotes changes nothing of the version.
    assert (
        reference(register_model.fn(run, model, {}, written_report(run, "new", []), tracked(model), by_person))
        == version
    )
    found = find_champion(run, model, by_person)
    decision = decided(run, version, found, by_person, base=BAD, new=GOOD, champion=BETWEEN)
    assert (decision["passed"], decision["waits"], decision["previous"]) == (True, True, None)
    client = connect(SETTINGS, run.workspace)
    assert champion(client, SETTINGS.model_name) == "2"
    told = "It waits for a person to make it champion."
    assert told in client.get_model_version(SETTINGS.model_name, decision["version"]).description
    assert not was_promoted(run.workspace, decision)
    promote_by_person(run.store, decision["version"], reason="looked at by hand")
    assert champion(client, SETTINGS.model_name) == decision["version"]
    assert told not in client.get_model_version(SETTINGS.model_name, decision["version"]).description
    assert was_promoted(run.workspace, decision)
    # By the gate, the same decision promotes at once.
    assert not decided(run, version, found, base=BAD, new=GOOD, champion=BETWEEN)["waits"]


def test_a_version_of_unknown_making_cannot_be_compared_with(run: Run, second: Any) -> None:
    client = connect(SETTINGS, run.workspace)
    foreign = client.create_model_version(SETTINGS.model_name, "file:///nowhere/at/all")
    before = champion(client, SETTINGS.model_name)
    other = read_version(run.store, second[1])
    record = run.workspace / PROMOTIONS_FILE
    target = type(other)(str(foreign.run_id), SETTINGS.model_name, str(foreign.version))
    promote_version(client, record, target, ["a trial"], by="person")
    try:
        assert find_champion(run, second[0], SETTINGS) == Champion(str(foreign.version), None)
    finally:
        promote_version(client, record, type(other)("", SETTINGS.model_name, before or ""), ["back"], by="person")
