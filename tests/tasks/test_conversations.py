"""Prompts with a system prompt and earlier turns, through the stages that read them."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.configuration.reading import load_config
from mlc.errors import UserError
from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.evaluation.scoring import score_prompts
from mlc.evaluation.suite import read_references, read_suite
from mlc.methods import BASE
from mlc.store import ArtifactStore
from tasks.align import align_model
from tasks.dataset import build_dataset
from tasks.filter import filter_translations
from tasks.generate import generate
from tasks.ingest import ingest, ingest_suite
from tasks.runtime.artifacts import (
    DATASET_FOLDER,
    GENERATED_FILE,
    MARGINS_FILE,
    PROMPTS_FILE,
    SIGNALS_FILE,
    TRAINING_LOG_FILE,
    TRANSLATIONS_FILE,
    HeldOut,
)
from tasks.runtime.models import Model
from tasks.runtime.run import Notes, Run, Silent
from tasks.signals import measure_signals
from tasks.translate import translate

ENGLISH, SPANISH = "eng_Latn", "spa_Latn"
EARLIER = [
    {"role": "system", "content": "You are a friendly gardener."},
    {"role": "user", "content": "How do I bake bread at home?"},
    {"role": "assistant", "content": "Mix flour and water."},
]
LAST = ["How do I water a plant?", "How do I paint a wall?", "How do I repair a chair?", "How do I open a window?"]


def made(done):
    return getattr(done, "data", done)


def conversations(prompts, answer=None):
    """Every second prompt has earlier turns."""
    for place, prompt in enumerate(prompts):
        before = EARLIER if place % 2 else []
        end = [{"role": "assistant", "content": answer}] if answer else []
        yield [*before, {"role": "user", "content": prompt}, *end]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The run, its configuration, and what each stage made."""
    folder = tmp_path_factory.mktemp("talk")
    labels = ("harmful", "harmless") * 2
    splits = {
        split: write(
            folder / f"{split}.jsonl",
            [
                {"id": f"{split}{place}", "prompt": talk, "label": label}
                for place, (talk, label) in enumerate(zip(conversations(texts), labels, strict=False))
            ],
        )
        for split, texts in {"validation": LAST[:2], "test": LAST[2:]}.items()
    }
    training = [
        {"messages": talk} for talk in conversations(["How do I clean a lamp?", "How do I plant a tree?"], "So.")
    ]
    config = load_config(
        "smoke",
        workspace=str(folder / "workspace"),
        overrides={
            "prompts.path": write(folder / "training.jsonl", training),
            **{f"evaluation.{split}": path for split, path in splits.items()},
            "evaluation.references": None,
            "quality.allow_low_yield": True,
            "quality.default.length_z": 100.0,
        },
    )
    run = Run(ArtifactStore(folder / "workspace"), Notes())
    prompts = made(ingest.fn(run, config.prompts))
    suite = made(ingest_suite.fn(run, config.evaluation, ENGLISH))
    translated = made(translate.fn(run, prompts, SPANISH, config.translator.first))
    signals = made(measure_signals.fn(run, translated, SPANISH, config.quality))
    verdicts = made(filter_translations.fn(run, signals, SPANISH, config.quality))
    texts = made(translate.fn(run, suite, SPANISH, config.translator.first, subject="held-out"))
    found = {"prompts": prompts, "suite": suite, "translated": translated, "signals": signals, "verdicts": verdicts}
    return run, config, found | {"texts": texts}


def rows_of(stages, name, file):
    run, _, found = stages
    return pq.read_table(run.store.folder(found[name]) / file)


def test_every_turn_is_translated_with_its_role(stages):
    plain, talk = rows_of(stages, "translated", TRANSLATIONS_FILE).to_pylist()
    assert (plain["turns"], plain["source_turns"]) == (None, None)
    assert json.loads(talk["source_turns"]) == EARLIER
    turns = json.loads(talk["turns"])
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant"]
    assert all(turn["content"] and turn["content"] != old["content"] for turn, old in zip(turns, EARLIER, strict=True))
    assert talk["sentences_in"] == 4 == len(talk["sentence_logprobs"])
    assert talk["source"] == "How do I plant a tree?"


def test_a_turn_is_translated_as_it_is_alone(stages, tmp_path):
    run, config, _ = stages
    path = write(tmp_path / "plain.jsonl", [{"prompt": turn["content"], "chosen": "-"} for turn in EARLIER])
    alone = made(ingest.fn(run, config.prompts.model_copy(update={"path": path})))
    translated = made(translate.fn(run, alone, SPANISH, config.translator.first))
    expected = pq.read_table(run.store.folder(translated) / TRANSLATIONS_FILE)["translation"].to_pylist()
    turns = json.loads(rows_of(stages, "translated", TRANSLATIONS_FILE)["turns"][1].as_py())
    assert [turn["content"] for turn in turns] == expected


def test_the_filter_sees_the_whole_conversation(stages, tmp_path):
    signals = rows_of(stages, "signals", SIGNALS_FILE)
    translated = rows_of(stages, "translated", TRANSLATIONS_FILE)
    assert signals.select(translated.column_names).equals(translated)
    run, config, found = stages
    # A turn in the wrong script is a reason against the row, though its last turn is right.
    turns = json.loads(translated["turns"][1].as_py())
    turns[2]["content"] = "これはまったく別の言語で書かれた文章です。" * 3
    broken = translated.set_column(
        translated.schema.get_field_index("turns"), "turns", [[None, json.dumps(turns, ensure_ascii=False)]]
    )
    pq.write_table(broken, tmp_path / TRANSLATIONS_FILE)
    folder = run.store.folder(found["translated"])
    before = (folder / TRANSLATIONS_FILE).read_bytes()
    (folder / TRANSLATIONS_FILE).write_bytes((tmp_path / TRANSLATIONS_FILE).read_bytes())
    try:
        other = Run(ArtifactStore(run.store.workspace), Silent())
        quality = config.quality.model_copy(update={"length_batch_rows": 7})
        again = made(measure_signals.fn(other, found["translated"], SPANISH, quality))
        verdicts = made(filter_translations.fn(other, again, SPANISH, quality))
        kept = pq.read_table(run.store.folder(verdicts) / "verdicts.parquet")["keep"].to_pylist()
    finally:
        (folder / TRANSLATIONS_FILE).write_bytes(before)
    assert kept[1] is False


def test_training_reads_the_turns(stages):
    from datasets import load_from_disk

    run, config, found = stages
    examples = made(build_dataset.fn(run, found["prompts"], {SPANISH: found["verdicts"]}, config.dataset))
    plain, talk = load_from_disk(run.store.folder(examples) / DATASET_FOLDER)
    assert plain["variant_turns"] == [None, None]
    assert json.loads(talk["turns"]) == json.loads(talk["variant_turns"][0]) == EARLIER
    align = config.align.model_copy(update={"steps": 1, "batch_size": 2})
    model = Model("consistency", 0, config.policy, "cpu")
    trained = made(align_model.fn(run, model, examples, align))
    (step,) = (run.store.folder(trained) / TRAINING_LOG_FILE).read_text().splitlines()
    assert json.loads(step)["consistency_loss"] > 0


def test_a_policy_is_asked_the_whole_conversation(stages, tiny_policy):
    run, config, found = stages
    suite = found["suite"]
    made_by = made(
        generate.fn(run, Model(BASE, None, config.policy, "cpu"), ENGLISH, HeldOut(suite, suite), config.evaluation)
    )
    folder = run.store.folder(made_by)
    margins = pq.read_table(folder / MARGINS_FILE)["margin"].to_pylist()
    asked = [talk for part in (LAST[:2], LAST[2:]) for talk in conversations(part)]
    evaluation = config.evaluation
    expected = score_prompts(
        tiny_policy,
        asked,
        refusal_openings=evaluation.refusal_openings,
        compliance_openings=evaluation.compliance_openings,
        layer=evaluation.layer,
        batch_size=evaluation.batch_size,
    )
    assert margins == expected.margins.tolist()
    bare = score_prompts(
        tiny_policy,
        LAST,
        refusal_openings=evaluation.refusal_openings,
        compliance_openings=evaluation.compliance_openings,
        layer=evaluation.layer,
        batch_size=evaluation.batch_size,
    )
    different = np.array(margins) != bare.margins
    assert different.tolist() == [False, True, False, True]
    answers = pq.read_table(folder / GENERATED_FILE).to_pylist()
    assert [row["prompt"] for row in answers] == LAST[2:]
    engine = TransformersEngine(tiny_policy, max_new_tokens=evaluation.answer_tokens)
    assert [row["answer"] for row in answers] == [given.text for given in answer_all(engine, asked[2:])]


def test_references_of_conversations_are_conversations(tmp_path):
    paths = {}
    for split, texts in {"validation": LAST[:2], "test": LAST[2:]}.items():
        rows = [
            {"id": f"{split}{place}", "prompt": talk, "label": label}
            for place, (talk, label) in enumerate(zip(conversations(texts), ("harmful", "harmless"), strict=True))
        ]
        paths[split] = write(tmp_path / f"{split}.jsonl", rows)
        own = [{"id": row["id"], "es": row["prompt"] if len(row["prompt"]) > 1 else "Hola"} for row in rows]
        (tmp_path / "references").mkdir(exist_ok=True)
        write(tmp_path / "references" / f"{split}.jsonl", own)
    suite = read_suite(paths["validation"], paths["test"])
    read = read_references(suite, tmp_path / "references", SPANISH)
    assert read["turns"].to_pylist() == suite["turns"].to_pylist()
    assert read["prompt"].to_pylist() == ["Hola", LAST[1], "Hola", LAST[3]]
    write(tmp_path / "references" / "test.jsonl", [{"id": f"test{place}", "es": "Hola"} for place in range(2)])
    with pytest.raises(UserError, match="other turns in spa_Latn than the prompt 'test1'"):
        read_references(suite, tmp_path / "references", SPANISH)


def test_prompts_file_holds_the_last_turn(stages):
    assert rows_of(stages, "prompts", PROMPTS_FILE)["chosen"].to_pylist() == ["So.", "So."]
    assert rows_of(stages, "suite", PROMPTS_FILE)["prompt"].to_pylist() == LAST
