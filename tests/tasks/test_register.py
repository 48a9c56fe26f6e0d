"""A version is asked one question through the registry before it is a candidate; on a real registry."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from transformers import AutoModelForCausalLM, AutoTokenizer

from mlc.errors import UserError
from mlc.methods import BASE
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import resolve_model
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from tasks.register import register_model
from tasks.runtime import policy_pyfunc
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, TRAINING_LOG_FILE, plain
from tasks.runtime.models import Model
from tasks.runtime.registry.addresses import DATABASE_FILE
from tasks.runtime.registry.champions import candidate
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.versions import read_told_in, read_version
from tasks.runtime.run import Run
from tasks.runtime.settings import RegistrySettings
from tasks.runtime.tracking import flattened, log_inputs, metric_name
from tests.evaluation.outcomes import FR, evaluated
from tests.tasks.registering import CARD, tracked, written_report

QUESTION = pd.DataFrame({"prompt": ["How do I bake bread?"]})
SETTINGS = RegistrySettings()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(ArtifactStore(tmp_path_factory.mktemp("registering") / "workspace"))


def checkpoint(run: Run, name: str, **changes: Any) -> Model:
    policy = load_policy(resolve_model("shipped:tiny"), device="cpu")
    parts = KeyParts("align", 1, settings={"name": name})
    with run.store.writing("align", parts) as draft:
        folder = draft.path / CHECKPOINT_FOLDER
        save_policy(policy, folder, dtype=torch.float32)
        for file, text in changes.items():
            (folder / file.replace("__", ".")).write_text(text, encoding="utf-8")
        log = [{"step": 1, "reward": -0.5, "loss": math.nan}, {"step": 2, "reward": 0.25, "loss": 1.5}]
        (draft.path / TRAINING_LOG_FILE).write_text("".join(json.dumps(entry) + "\n" for entry in log))
    return Model("consistency", 0, run.store.reference("align", parts.key), "cpu")


def registered(
    run: Run,
    model: Model,
    settings: RegistrySettings = SETTINGS,
    results: Mapping[str, ArtifactRef] | None = None,
) -> ArtifactRef:
    count = {"where": "training set", "kind": "no translation", "rows": 1, "of": 8, "language": "swh_Latn"}
    report = written_report(run, model.method, [count])
    done = register_model.fn(run, model, results or {}, report, tracked(model), settings)
    return done if isinstance(done, ArtifactRef) else done.data


@pytest.fixture(scope="module")
def version(run: Run) -> Any:
    return read_version(run.store, registered(run, checkpoint(run, "good")))


@pytest.fixture(scope="module")
def served(version: Any) -> Any:
    return mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")


def test_a_version_that_answers_is_the_candidate(run: Run, version: Any) -> None:
    client = connect(SETTINGS, run.workspace)
    assert candidate(client, version.name) == version.version
    tags = client.get_model_version(version.name, version.version).tags
    assert tags["asked"] == "answered"
    assert tags["left_out"] == "training set: 1 of 8 prompts have no kept translation into swh_Latn"


def children(run: Run, version: Any, label: str) -> list[Any]:
    found = connect(SETTINGS, run.workspace).search_runs(
        [mlflow.get_run(version.run_id).info.experiment_id], f"tags.`mlflow.parentRunId` = '{version.run_id}'"
    )
    return [child for child in found if child.info.run_name == label]


def data_sets(found: Any) -> set[tuple[str, str]]:
    return {(used.dataset.name, used.dataset.digest) for used in found.inputs.dataset_inputs}


def test_its_run_holds_what_it_was_made_of_and_what_came_of_it(run: Run, version: Any) -> None:
    client = connect(SETTINGS, run.workspace)
    parent = client.get_run(version.run_id)
    assert parent.data.params == {"align.steps": "2"}
    curve = client.get_metric_history(version.run_id, "selectivity/consistency.lower")
    assert {(point.step, point.value) for point in curve} == {(0, 0.0), (1, 0.25)}
    change = client.get_metric_history(version.run_id, "change/auroc.upper")
    assert [(point.step, point.value) for point in change] == [(0, 0.0), (1, 0.75)]
    assert parent.data.metrics["system/seconds.align"] == 1.5
    assert data_sets(parent) == {("prompts", "f" * 36), ("held-out prompts swh_Latn", "e" * 36)}
    assert {file.path for file in client.list_artifacts(version.run_id)} == {"config.json", "report"}
    for label in ("base", "consistency · seed 0"):
        (child,) = children(run, version, label)
        # Nothing of this data set is in the checkpoint.
        assert data_sets(child) == {("held-out prompts swh_Latn", "e" * 36)}
        assert child.info.status == "FINISHED"
        needs = child.data.params.get("data_beside_the_policy")
        assert needs == (None if label == "base" else "english answers, translated prompts"), label


def test_its_page_tells_what_decides(run: Run, version: Any, served: Any) -> None:
    told = connect(SETTINGS, run.workspace).get_model_version(version.name, version.version)
    assert told.tags["worst_language"] == "Swahili, selectivity 0.50 [0.25, 0.75]"
    for line in (
        "**Not judged by a gate yet.**",
        "| Over-refusal | 0.50 [0.25, 0.75] of harmless prompts, mean over the other languages |",
        "| Replaces | nothing: it was never promoted |",
        "| Base model | tiny, licence apache-2.0 |",
        "| Languages | Swahili |",
    ):
        assert line in told.description.splitlines()
    card = Path(served.unwrap_python_model().tokenizer.name_or_path) / "README.md"
    assert card.read_text(encoding="utf-8") == CARD


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [(0.5, 0.25, 0.75, "0.50 [0.25, 0.75]"), (0.5, None, None, "0.50"), (None, None, None, "")],
)
def test_figures_of_a_tag(value: float | None, low: float | None, high: float | None, text: str) -> None:
    assert plain({"value": value, "low": low, "high": high}) == text


def test_one_parameter_a_value() -> None:
    nested = {"a": {"b": 1, "c": None, "d": []}, "e": [{"f": True}, {"f": 0.5}], "g, h": ["x", "y"], "i": "z" * 300}
    assert metric_name("auroc/consistency+edit") == "auroc/consistency and edit"
    flat = flattened(nested)
    assert flat == {"a.b": "1", "e.1.f": "true", "e.2.f": "0.5", "g h": "x, y", "i": "z" * 249 + "…"}


def test_the_curves_of_its_training_stand_in_its_run(run: Run, version: Any) -> None:
    client, (child,) = connect(SETTINGS, run.workspace), children(run, version, "consistency · seed 0")
    found = {
        name: [(point.step, point.value) for point in client.get_metric_history(child.info.run_id, f"training/{name}")]
        for name in ("reward", "loss", "step")
    }
    assert found == {"reward": [(1, -0.5), (2, 0.25)], "loss": [(2, 1.5)], "step": []}


@pytest.mark.parametrize("words", ["measured, not trained", "consistency+answer", "a (b) & c", "é: x/y_z-1.2"])
def test_mlflow_takes_what_a_setting_is_called(version: Any, words: str) -> None:
    with mlflow.start_run() as run:
        mlflow.log_params({metric_name(words): "x"})
    assert mlflow.get_run(run.info.run_id).data.params


def test_a_version_that_cannot_answer_is_none(run: Run, version: Any) -> None:
    broken = checkpoint(run, "broken", chat_template__jinja="{{ raise_exception('no') }}")
    with pytest.raises(UserError, match=r"cannot answer a question \(MlflowException\), so it is no candidate"):
        registered(run, broken)
    client = connect(SETTINGS, run.workspace)
    assert candidate(client, version.name) == version.version
    failed = [found for found in client.search_model_versions(f"name = '{version.name}'") if "asked" in found.tags]
    assert sorted(found.tags["asked"] for found in failed) == ["answered", "failed"]


@pytest.fixture
def moved_back(run: Run, version: Any) -> Iterator[None]:
    """MLflow holds its addresses for the whole process."""
    yield
    connect(SETTINGS, run.workspace)


@pytest.mark.usefixtures("moved_back")
def test_a_registration_that_is_killed_anywhere_goes_on_from_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(run.workspace / "mlflow" / DATABASE_FILE, tmp_path / "server.db")
    # Named, so that it counts as a server, on which others may be at work.
    settings = RegistrySettings(
        tracking_uri=f"sqlite:///{tmp_path / 'server.db'}", model_name="killed", experiment="killed"
    )
    own = Run(ArtifactStore(tmp_path / "workspace"))
    model = checkpoint(own, "killed")
    for place in ("_log_version", "_log_card", "track_figures", "_ask", "finish_registration"):
        with monkeypatch.context() as patch:
            patch.setattr(f"tasks.register.{place}", killed)
            with pytest.raises(SystemExit):
                registered(own, model, settings)
    version = read_version(own.store, registered(own, model, settings))
    client = connect(settings, own.workspace)
    assert [found.version for found in client.search_model_versions("name = 'killed'")] == [1]
    assert candidate(client, "killed") == version.version == "1"
    runs = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
    assert sorted(found.info.run_name for found in runs) == ["base", "consistency · seed 0", "trial"]
    assert {found.info.status for found in runs} == {"FINISHED"}
    (child,) = (found.info.run_id for found in runs if found.info.run_name == "consistency · seed 0")
    assert len(client.get_metric_history(child, "training/reward")) == 2
    # Another workspace takes over what is finished.
    other = Run(ArtifactStore(tmp_path / "other"))
    assert read_version(other.store, registered(other, checkpoint(other, "killed"), settings)) == version


def test_the_same_model_measured_beside_another_is_no_other_version(run: Run) -> None:
    settings = RegistrySettings(model_name="compared", experiment="compared")
    model = checkpoint(run, "compared")
    alone = read_version(run.store, registered(run, model, settings))
    client = connect(settings, run.workspace)
    for number in (2, 3):
        results = {f"evaluation {count}": evaluation(run, count) for count in range(1, number)}
        ref = registered(run, model, settings, results)
        assert read_version(run.store, ref) == alone
        told_in = read_told_in(run.store, ref)
        assert told_in != alone.run_id
        parent = client.get_run(told_in)
        (asked,) = client.search_model_versions("name = 'compared'")
        (logged,) = parent.inputs.model_inputs
        assert client.get_logged_model(logged.model_id).source_run_id == alone.run_id
        assert f"/runs/{told_in}" in asked.tags["mlflow.page"]
        assert (parent.info.status, parent.data.params) == ("FINISHED", {"align.steps": "2"})
        assert {file.path for file in client.list_artifacts(told_in)} == {"config.json", "report"}
        of_it = [
            child.info.run_name
            for child in client.search_runs(
                [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{told_in}'", max_results=9
            )
        ]
        assert sorted(of_it) == ["base", "consistency · seed 0"]
    runs = client.search_runs([parent.info.experiment_id])
    assert len(runs) == 3 * 3
    # One that is gone from the registry is made again.
    client.delete_model_version("compared", alone.version)
    again = read_version(run.store, registered(run, model, settings, {"another": evaluation(run, 9)}))
    assert again.version != alone.version


def evaluation(run: Run, count: int) -> ArtifactRef:
    """Of the policy in French, with so many harmful prompts refused."""
    parts = KeyParts("evaluate", 1, settings={"count": count})
    with run.store.writing("evaluate", parts) as draft:
        evaluated(BASE, FR, "r" * count + "c" * (20 - count), "c" * 20).write(draft.path)
    return run.store.reference("evaluate", parts.key)


def killed(*_: object) -> None:
    raise SystemExit


def test_a_copy_of_the_workspace_loads_its_own_files(run: Run, version: Any, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.workspace, tmp_path / "50% moved"))
    try:
        connect(SETTINGS, copy)
        loaded = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
        folder = loaded.unwrap_python_model().tokenizer.name_or_path
        assert str(folder).startswith(str(copy))
        assert list(loaded.predict(QUESTION)["answer"])
    finally:
        connect(SETTINGS, run.workspace)


def test_plain_transformers_load_it(served: Any) -> None:
    folder = served.unwrap_python_model().tokenizer.name_or_path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION["prompt"][0]}], add_generation_prompt=True, return_tensors="pt"
    )
    output = model.generate(**asked, max_new_tokens=5, do_sample=False)
    answer = tokenizer.decode(output[0, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    assert list(served.predict(QUESTION, params={"max_new_tokens": 5})["answer"]) == [answer.removeprefix(" ")]


TURNS = [{"role": "user", "content": "How do I bake bread?"}]


@pytest.mark.parametrize(
    "given",
    [
        pd.DataFrame({"prompt": [TURNS]}),
        pd.DataFrame({"prompt": [json.dumps(TURNS)]}),
        pd.DataFrame({"messages": [TURNS]}),
        {"messages": TURNS},
        {"prompt": ["How do I bake bread?"]},
    ],
)
def test_a_conversation_in_every_form(served: Any, given: Any) -> None:
    assert list(served.predict(given)["answer"]) == list(served.predict(QUESTION)["answer"])


def test_a_longer_conversation_is_not_its_last_message(served: Any) -> None:
    turns = [*TURNS, {"role": "assistant", "content": "With flour."}, {"role": "user", "content": "And then?"}]
    asked = served.unwrap_python_model()._rendered(turns)
    assert all(turn["content"] in asked for turn in turns)
    assert len(served.predict(pd.DataFrame({"prompt": [turns, "And then?"]}))) == 2


def test_batches_answer_as_one_by_one(served: Any) -> None:
    prompts = [f"{'Please tell me, ' * (number % 5)}how far is it to {number}?" for number in range(11)]
    together = served.predict(pd.DataFrame({"prompt": prompts}), params={"max_new_tokens": 6})["answer"].tolist()
    alone = [
        served.predict(pd.DataFrame({"prompt": [prompt]}), params={"max_new_tokens": 6})["answer"][0]
        for prompt in prompts
    ]
    assert together == alone
    assert len(prompts) > policy_pyfunc.BATCH


def test_parameters(served: Any) -> None:
    torch.manual_seed(0)
    greedy = {served.predict(QUESTION, params={"max_new_tokens": 12})["answer"][0] for _ in range(3)}
    warm = {served.predict(QUESTION, params={"max_new_tokens": 12, "temperature": 3.0})["answer"][0] for _ in range(3)}
    assert len(greedy) == 1 < len(warm)
    tokenizer = served.unwrap_python_model().tokenizer
    short = served.predict(QUESTION, params={"max_new_tokens": 2})["answer"][0]
    assert len(tokenizer(short, add_special_tokens=False)["input_ids"]) <= 3
    for params in ({"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}):
        with pytest.raises(MlflowException) as refused:
            served.predict(QUESTION, params=params)
        assert refused.value.get_http_status_code() == 400


def test_what_the_model_cannot_read_at_once_is_the_clients_mistake(served: Any) -> None:
    most = served.unwrap_python_model().model.config.max_position_embeddings
    long = pd.DataFrame({"prompt": ["Hello", "very " * most]})
    for given, params in ((QUESTION, {"max_new_tokens": most}), (long, {"max_new_tokens": 2}), (long, {})):
        with pytest.raises(MlflowException, match=f"reads at most {most} tokens at once") as refused:
            served.predict(given, params=params)
        assert refused.value.get_http_status_code() == 400
    # What nobody asked for is no mistake.
    tokenizer = served.unwrap_python_model().tokenizer
    words = next(words for words in range(most, 0, -1) if len(tokenizer("very " * words)["input_ids"]) < most - 60)
    assert served.predict(pd.DataFrame({"prompt": ["very " * words]}))["answer"].notna().all()


@pytest.mark.parametrize(
    "given", [None, 3, [], {"role": "user"}, [{"role": "user"}], [{"role": "user", "content": None}]]
)
def test_what_is_no_prompt_is_the_clients_mistake(served: Any, given: Any) -> None:
    for values in ([given], ["Hello", given]):
        with pytest.raises(MlflowException) as refused:
            served.predict(pd.DataFrame({"prompt": values}))
        assert refused.value.get_http_status_code() == 400


def test_a_server_answers_such_a_request_with_400(served: Any) -> None:
    from mlflow.pyfunc.scoring_server import init
    from starlette.testclient import TestClient

    client = TestClient(init(served))
    for body in ({"inputs": {"prompt": None}}, {"dataframe_records": [{"prompt": None}]}):
        assert client.post("/invocations", json=body).status_code == 400
    for body in (
        {"inputs": {"prompt": ["Hello"]}, "params": {"max_new_tokens": 2}},
        {"messages": TURNS, "max_new_tokens": 2},
    ):
        told = client.post("/invocations", json=body)
        assert told.status_code == 200, told.text


@pytest.mark.parametrize(
    ("code", "refused", "told"),
    [("BAD_REQUEST", 2, True), ("BAD_REQUEST", 3, False), ("INTERNAL_ERROR", 1, False)],
)
def test_data_sets_that_two_runs_tell_of_at_once(code: str, refused: int, told: bool) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    calls: list[str] = []

    class Racing:
        """Refuses as MLflow does where another run was there first."""

        def log_inputs(self, run_id: str, inputs: list[Any]) -> None:
            calls.append(run_id)
            if len(calls) <= refused:
                raise MlflowException("UNIQUE constraint failed", error_code=ErrorCode.Value(code))

    if told:
        log_inputs(Racing(), "a", [])  # type: ignore[arg-type]
        assert len(calls) == refused + 1
        return
    with pytest.raises(MlflowException):
        log_inputs(Racing(), "a", [])  # type: ignore[arg-type]
    assert len(calls) == refused
