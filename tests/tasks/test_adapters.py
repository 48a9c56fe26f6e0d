"""An alignment with an adapter through its stages: trained, answered, started from, edited and registered."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

from mlc.errors import UserError
from mlc.gating.gate import PromptGate
from mlc.gating.settings import PromptGateSettings
from mlc.shipped import shipped_data
from mlc.store import ArtifactStore, KeyParts
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.gate import GatePlan, fit_prompt_gate
from tasks.register import register_model
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, DATASET_FOLDER, PROMPTS_FILE
from tasks.runtime.champion import find_champion
from tasks.runtime.models import Model
from tasks.runtime.policies import loaded_policy, source_of
from tasks.runtime.registry.connecting import connect
from tasks.runtime.registry.versions import read_version
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings, RegistrySettings
from tests.tasks.registering import tracked, written_report
from tests.tasks.test_permuted import written
from tests.training.runs import make_rows, same

POLICY = Model("base", None, PolicySettings(model="shipped:tiny"), "cpu")
SETTINGS = AlignSettings.model_validate(
    {"steps": 2, "batch_size": 4, "learning_rate": 1e-2, "adapter": "lora", "saved_dtype": "float32"}
)
LABELLED = [
    {"prompt": "How do I break into the old house?", "label": "harmful"},
    {"prompt": "Tell me how to break the lock of a house quickly.", "label": "harmful"},
    {"prompt": "How do I bake bread in an oven?", "label": "harmless"},
    {"prompt": "Tell me what to plant in the garden this spring.", "label": "harmless"},
]
QUESTION = pd.DataFrame({"prompt": ["How do I bake bread?"]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(ArtifactStore(tmp_path_factory.mktemp("adapters") / "workspace"))


def examples(run: Run, *languages: str) -> Any:
    inputs = {"prompts": "p" * 64, **{language: language * 8 for language in languages}}
    parts = KeyParts("dataset", 1, settings={"dataset": {}}, inputs=inputs)
    names = ["eng_Latn", *languages]
    rows = [
        {**row, "variants": row["variants"][: len(names)], "mask": [True] * len(names), "languages": names}
        for row in make_rows()
    ]
    with run.store.writing("dataset", parts) as draft:
        Dataset.from_list(rows).save_to_disk(draft.path / DATASET_FOLDER)
    return run.store.reference("dataset", parts.key)


def trained(run: Run, data: Any, settings: AlignSettings = SETTINGS) -> Model:
    model = replace(POLICY, method="consistency", seed=0)
    done: Any = align_model.fn(run, model, data, settings)
    return replace(model, weights=done.data, base=POLICY)


@pytest.fixture(scope="module")
def model(run: Run) -> Model:
    return trained(run, examples(run, "swh_Latn"))


def registered(run: Run, model: Model, **changes: Any) -> Any:
    report = written_report(run, model.method, [])
    done: Any = register_model.fn(run, model, {}, report, tracked(model), RegistrySettings(**changes))
    return read_version(run.store, done.data)


def checkpoint(run: Run, model: Model) -> Path:
    return run.store.folder(model.checkpoint) / CHECKPOINT_FOLDER


def state(run: Run, model: Model) -> Any:
    with loaded_policy(run, model) as policy:
        return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def test_the_artifact_is_the_adapter_alone(run: Run, model: Model) -> None:
    names = {path.name for path in checkpoint(run, model).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "base.json"} <= names
    assert not names & {"config.json", "model.safetensors", "README.md"}
    source = source_of(run, model)
    assert source.base == source_of(run, POLICY)
    assert not same(state(run, model), state(run, POLICY))


def test_who_has_no_configuration_finds_the_policy_in_the_manifest(run: Run, model: Model) -> None:
    other = replace(POLICY, weights=PolicySettings(model="shipped:nano"))
    assert source_of(run, replace(model, base=None)) == source_of(run, model)
    assert source_of(run, replace(model, base=other)) == source_of(run, model)


def test_a_policy_elsewhere_is_found_and_a_changed_one_is_not_taken(run: Run, model: Model, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(shipped_data("tiny"), tmp_path / "tiny"))
    start = replace(POLICY, weights=PolicySettings(model=str(moved)))
    done: Any = align_model.fn(run, replace(start, method="consistency", seed=0), examples(run, "swh_Latn"), SETTINGS)
    assert done.data == model.weights
    assert source_of(run, replace(model, base=start)).base == source_of(run, start)
    identity = json.loads((checkpoint(run, model) / "base.json").read_text())["identity"]
    assert identity == source_of(run, POLICY).identity
    with run.store.writing("align", KeyParts("align", 1, settings={"of": "another policy"})) as draft:
        shutil.copytree(checkpoint(run, model), draft.path / CHECKPOINT_FOLDER)
        (draft.path / CHECKPOINT_FOLDER / "base.json").write_text('{"identity": "gone", "dtype": "float32"}')
    stray = run.store.reference("align", KeyParts("align", 1, settings={"of": "another policy"}).key)
    with pytest.raises(UserError, match="is an adapter of another policy than the one that is configured"):
        source_of(run, replace(model, weights=stray))


def test_a_warm_start_trains_the_adapter_on(run: Run, model: Model) -> None:
    warm = trained(run, examples(run, "swh_Latn", "yor_Latn"), SETTINGS.model_copy(update={"warm_start": True}))
    facts = run.store.manifest("align", warm.checkpoint.key)["facts"]
    assert facts["started_from"] == ["swh_Latn"]
    assert source_of(run, warm).base == source_of(run, POLICY)
    start, first, second = (state(run, one) for one in (POLICY, model, warm))
    moved = [float((second[name] - one[name]).square().sum()) for one in (first, start) for name in ["lm_head.weight"]]
    assert moved == [0.0, 0.0]
    assert not same(first, second)

    def apart(one: Any) -> float:
        return sum(float((second[name] - one[name]).square().sum()) for name in one)

    assert apart(first) < apart(start)


def test_both_forms_of_a_version_answer_alike(run: Run, model: Model) -> None:
    answers, places = [], []
    for weights in ("merged", "adapter"):
        version = registered(run, model, weights=weights)
        served = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
        places.append(Path(served.unwrap_python_model().tokenizer.name_or_path))
        answers.append(list(served.predict(QUESTION, params={"max_new_tokens": 12})["answer"]))
    merged, adapter = places
    assert answers[0] == answers[1]
    assert same(AutoModelForCausalLM.from_pretrained(merged).state_dict(), state(run, model))
    plain = AutoPeftModelForCausalLM.from_pretrained(adapter).merge_and_unload()
    assert same(plain.state_dict(), state(run, model))
    assert not (adapter / "model.safetensors").exists()
    # What the store has says nothing of this machine.
    assert (checkpoint(run, model) / "adapter_config.json").read_text() != (adapter / "adapter_config.json").read_text()


@pytest.mark.parametrize("how", [{"reads": "translation"}, {"sentences": True}], ids=["translations", "sentences"])
def test_what_a_gate_reads_by_comes_along_in_both_forms(run: Run, model: Model, how: dict[str, Any]) -> None:
    plan = GatePlan(PromptGateSettings(**how, layer=-1, pool="last", false_refusals=None))
    prompts = written(run, "ingest", PROMPTS_FILE, [{"id": str(n), **row} for n, row in enumerate(LABELLED)])
    fitted: Any = fit_prompt_gate.fn(run, model, prompts, {}, plan)
    behind = replace(model, method="consistency+gate", weights=fitted.data, ungated=model)
    spanish = ["¿Cómo puedo hornear pan en casa?", "Hola, amigo. Dime cómo rompo la cerradura de una casa."]
    answers = []
    for weights in ("merged", "adapter"):
        version = registered(run, behind, weights=weights, model_name=f"gated-{weights}")
        loaded = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.version}")
        translator = loaded.unwrap_python_model().translator
        assert (translator.languages if translator else set()) >= (
            {"spa_Latn", "arb_Arab"} if "reads" in how else set()
        )
        said = loaded.predict(pd.DataFrame({"prompt": spanish}), params={"max_new_tokens": 4})
        answers.append(list(said["answer"]))
        wanted = Path(mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}"))
        assert (wanted / "code" / "prompt_translation.py").is_file()
        assert "sentencex==" in (wanted / "requirements.txt").read_text(encoding="utf-8")
    with loaded_policy(run, behind) as policy:
        folder = checkpoint(run, behind)
        gate = PromptGate.load(folder)
        margins = gate.margins(policy, spanish, translator=gate.load_translator(folder))
    refused = [gate.refusal(prompt) if margin > 0 else None for prompt, margin in zip(spanish, margins, strict=True)]
    for found in answers:
        assert [text if text == gate.refusal(spanish[0]) else None for text in found] == refused


def test_the_champion_may_be_an_adapter(run: Run, model: Model, tmp_path: Path) -> None:
    settings = RegistrySettings(weights="adapter", model_name="champions")
    version = registered(run, model, weights="adapter", model_name="champions")
    client = connect(settings, run.workspace)
    client.set_registered_model_alias(settings.model_name, "champion", version.version)
    other = trained(run, examples(run, "yor_Latn"))
    found = find_champion(run, other, settings)
    assert found is not None
    assert found.model is not None
    assert same(state(run, found.model), state(run, model))
    elsewhere = Run(ArtifactStore(tmp_path / "elsewhere"))
    address = f"sqlite:///{run.workspace / 'mlflow' / 'mlflow.db'}"
    fetched = find_champion(elsewhere, other, settings.model_copy(update={"tracking_uri": address}))
    assert fetched is not None
    assert fetched.model is not None
    assert same(state(elsewhere, fetched.model), state(run, model))


def test_it_answers_in_the_type_and_way_that_the_policy_is_set_to(run: Run, model: Model) -> None:
    assert model.answering == {}
    other = replace(model, dtype="bfloat16", attention="eager")
    assert other.answering == {"dtype": "bfloat16", "attention": "eager"}
    with loaded_policy(run, other) as policy:
        assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.bfloat16}
        assert policy.model.config._attn_implementation == "eager"
        assert {buffer.dtype for buffer in policy.model.buffers()} == {torch.float32}
    # As a stage that edits weights asks for it.
    with loaded_policy(run, other, dtype="float32") as policy:
        assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
