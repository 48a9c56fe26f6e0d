"""The stage ``align`` with answers that a judge rewards: what is in its key, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from mlc.errors import UserError
from mlc.store import ArtifactStore, KeyParts
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.runtime.artifacts import DATASET_FOLDER, PROMPTS_FILE, TRAINING_LOG_FILE
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.settings import PolicySettings
from tests.flows import own_parts
from tests.training.runs import make_rows

BREVITY = "tests.flows.own_parts:BREVITY"
SETTINGS: dict[str, Any] = {"carrier": "grpo", "steps": 1, "batch_size": 2, "consistency": {"weight": 0.5}}
GRPO = {"num_generations": 2, "max_completion_length": 3, "judge": BREVITY}
MODEL = Model("consistency", 0, PolicySettings(model="shipped:tiny"), "cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(ArtifactStore(tmp_path_factory.mktemp("grpo") / "workspace"))


def examples(run: Run, anchor: str = "eng_Latn", **changes: Any) -> Any:
    parts = KeyParts("dataset", 1, settings={"anchor": anchor, **changes})
    more = {"mask": [True] * 3, "languages": [anchor, "swh_Latn", "yor_Latn"], "kind": "plain"}
    with run.store.writing("dataset", parts) as draft:
        Dataset.from_list([row | more | changes for row in make_rows()]).save_to_disk(draft.path / DATASET_FOLDER)
    return run.store.reference("dataset", parts.key)


def trained(run: Run, data: Any, anchor: str = "eng_Latn", **grpo: Any) -> Any:
    settings = AlignSettings.model_validate({**SETTINGS, "grpo": {**GRPO, **grpo}})
    done: Any = align_model.fn(run, MODEL, data, settings, anchor)
    return done.data


@pytest.fixture(scope="module")
def made(run: Run) -> Any:
    return trained(run, examples(run))


def test_the_log_of_the_artifact_shows_the_rewards(run: Run, made: Any) -> None:
    (line,) = (Path(run.store.folder(made)) / TRAINING_LOG_FILE).read_text().splitlines()
    assert json.loads(line).keys() >= {"reward", "refused_harmful", "refused_harmless", "consistency_loss"}
    assert not list(run.store.folder(made).glob("**/*completions*"))


def test_the_judge_is_in_the_key_with_its_version_and_its_code(
    run: Run, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = run.store.manifest("align", made.key)["parts"]
    assert parts["settings"]["align"]["grpo"]["judge"] == own_parts.BREVITY.version == 1
    assert any("own_parts" in name for name in parts["sources"])
    assert trained(run, examples(run)) == made
    assert run.outcomes[-1].state == "cached"
    monkeypatch.setattr(own_parts.Brevity, "version", 2)
    assert trained(run, examples(run)).key != made.key


def test_without_the_carrier_its_section_is_in_no_key(run: Run) -> None:
    plain = AlignSettings.model_validate({**SETTINGS, "carrier": "sft"})
    other = AlignSettings.model_validate({**SETTINGS, "carrier": "sft", "grpo": {"epsilon": 0.5}})
    assert "grpo" in plain.unused
    first, second = (align_model.fn(run, MODEL, examples(run), settings) for settings in (plain, other))
    assert first.data == second.data


def test_a_judge_is_told_the_anchor_language(run: Run) -> None:
    parts = KeyParts("ingest", 1, settings={})
    rows = [{name: row[name] for name in ("prompt", "chosen", "label")} for row in make_rows()]
    with run.store.writing("ingest", parts) as draft:
        pq.write_table(pa.Table.from_pylist(rows), draft.path / PROMPTS_FILE)
    prompts = run.store.reference("ingest", parts.key)
    keys = {trained(run, prompts, anchor).key for anchor in ("eng_Latn", "spa_Latn")}
    assert len(keys) == 2
    with pytest.raises(UserError, match=r"BREVITY of align\.grpo\.judge may not be asked about swh_Latn"):
        trained(run, prompts, "swh_Latn")


def test_no_harmless_prompt_is_one_sentence(run: Run) -> None:
    with pytest.raises(UserError, match="cannot be used: no prompt has the label harmless, and a policy"):
        trained(run, examples(run, label="harmful"))
