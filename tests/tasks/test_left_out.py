"""What a run goes without, from the prompts to the words of a report, and the limit for it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.configuration.reading import load_config
from flows.steps.checking import check_left_out
from mlc.errors import UserError
from mlc.evaluation.settings import EvaluationSettings
from mlc.left_out import LeftOut, read_left_out, require_few, told
from mlc.store import ArtifactRef, KeyParts
from mlc.training.settings import AlignSettings
from tasks.align import align_model
from tasks.ingest import ingest, ingest_suite
from tasks.runtime.artifacts import LEFT_OUT_FILE, PROMPTS_FILE, left_out_in_words, left_out_of
from tasks.runtime.models import Model
from tasks.runtime.run import Notes, Run
from tasks.runtime.settings import PolicySettings, PromptSettings


def made(done: Any) -> ArtifactRef:
    return done if isinstance(done, ArtifactRef) else done.data


def aligned(run: Run, examples: ArtifactRef, **settings: Any) -> ArtifactRef:
    alignment = AlignSettings.model_validate({"steps": 1, "batch_size": 2, "consistency": {"weight": 0}, **settings})
    model = Model("english-only", 0, PolicySettings(model="shipped:tiny"), "cpu")
    return made(align_model.fn(run, model, examples, alignment))


def test_prompts_that_are_too_long_are_told_and_limited(run: Run, notes: Notes) -> None:
    texts = ["Hello", "Good morning", "very " * 100]
    parts = KeyParts("ingest", 1, settings={})
    with run.store.writing("ingest", parts) as draft:
        table = pa.table({"id": ["a", "b", "c"], "prompt": texts, "chosen": ["Hi", "Hello", "No"]})
        pq.write_table(table, draft.path / PROMPTS_FILE)
    examples = run.store.reference("ingest", parts.key)
    with pytest.raises(UserError, match="1 of 3 prompts are longer than 64 tokens"):
        aligned(run, examples, max_prompt_tokens=64)
    assert not run.store.manifests("align")
    trained = aligned(run, examples, max_prompt_tokens=64, max_dropped=0.5)
    assert notes.sentences == ["english-only · seed 0: 1 of 3 prompts are longer than 64 tokens."]
    assert left_out_of(run.store, trained) == [LeftOut("long prompt", 1, 3, 64)]
    # The limit is in no key, and a model that is there already is held against it all the same, by a plan as well.
    assert aligned(run, examples, max_prompt_tokens=64, max_dropped=0.4) == trained
    for later in (run, replace(run, planning=True)):
        with pytest.raises(UserError, match="1 of 3 prompts are longer than 64 tokens"):
            aligned(later, examples, max_prompt_tokens=64)
    assert run.store.reference("align", trained.key) == trained


def test_rows_that_are_set_aside_and_without_a_label(run: Run, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "chosen": "b", "label": "harmful"}, {"prompt": "c", "chosen": "d"}, {"prompt": "e"}]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prompts = made(ingest.fn(run, PromptSettings(path=str(path))))
    assert left_out_of(run.store, prompts) == [
        LeftOut("set aside", 1, 3, details="1 × no text in chosen"),
        LeftOut("no label", 1, 2),
    ]


def test_held_out_rows_that_are_set_aside(run: Run, notes: Notes, tmp_path: Path) -> None:
    for split, more in (("validation", []), ("test", [{"prompt": "g"}, {"prompt": "h", "label": "perhaps"}])):
        labels = ("harmful", "harmless")
        rows = [{"id": f"{split} {label}", "prompt": f"{split} {label}", "label": label} for label in labels]
        path = tmp_path / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more]), encoding="utf-8")
    settings = EvaluationSettings.model_validate(
        {**{split: str(tmp_path / f"{split}.jsonl") for split in ("validation", "test")}, "references": None}
    )
    english = made(ingest_suite.fn(run, settings, "eng_Latn"))
    assert left_out_of(run.store, english) == [
        LeftOut("test set aside", 2, 4, details="1 × no id, 1 × no text in label")
    ]
    aside = "2 of 4 rows of the test prompts cannot be used and are set aside (1 × no id, 1 × no text in label)"
    assert notes.sentences == [f"held-out prompts: {aside}."]
    check_left_out(run, load_config("smoke", overrides={"align.max_dropped": 0.5}), english)
    with pytest.raises(UserError) as error:
        check_left_out(run, load_config("smoke"), english)
    assert str(error.value) == (
        f"{aside}, which is more than the share of 0.2 that "
        "may be left out of evaluation: correct the file, or its columns and labels under evaluation, or raise "
        "align.max_dropped."
    )


def test_the_words_of_a_report(run: Run) -> None:
    counts = told([LeftOut("no translation", 2, 8, language="swh_Latn"), LeftOut("set aside", 0, 8)])
    parts = KeyParts("report", 1, settings={})
    with run.store.writing("report", parts) as draft:
        (draft.path / LEFT_OUT_FILE).write_text(json.dumps([{"where": "training set", **one} for one in counts]))
    words = left_out_in_words(run.store, run.store.reference("report", parts.key))
    assert words == ["training set: 2 of 8 prompts have no kept translation into swh_Latn"]


def test_what_the_filter_decides_is_within_any_limit() -> None:
    require_few([LeftOut("no translation", 8, 8, language="swh_Latn"), LeftOut("few languages", 7, 8, 2)], 0)
    require_few([LeftOut("long prompt", 0, 0)], 0)
    with pytest.raises(UserError, match=r"align\.max_dropped"):
        require_few([LeftOut("long prompt", 1, 8, 5)], 0.1)


def test_manifests_of_an_earlier_release_hold_a_number() -> None:
    assert read_left_out({"left_out": 3}) == []
    assert read_left_out({}) == []


def test_too_many_rows_of_a_file_say_why_and_where_to_help() -> None:
    count = LeftOut.of_rows("set aside", {"unknown label": 40, "no id": 2, "no text in prompt": 2, "a NUL": 1}, 4)
    with pytest.raises(UserError) as error:
        require_few([count], 0.2)
    assert str(error.value) == (
        "45 of 49 rows of the prompt file cannot be used and are set aside (40 × unknown label, 2 × no id, 2 × no text "
        "in prompt), which is more than the share of 0.2 that may be left out of training: correct the file, or its "
        "columns and labels under prompts, or raise align.max_dropped."
    )
