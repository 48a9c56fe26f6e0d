"""Training prompts that are held-out prompts: counted, limited, taken out; named by ids."""

import json

import pyarrow.parquet as pq
import pytest

from flows.configuration.reading import load_config
from flows.steps.checking import check_overlap
from mlc.errors import UserError
from mlc.evaluation.overlap import BETWEEN, WITHIN, Overlap, read_overlaps, told
from mlc.store import ArtifactStore, KeyParts
from tasks.ingest import ingest, ingest_suite
from tasks.overlap import separate
from tasks.report import _overlaps
from tasks.runtime.artifacts import PROMPTS_FILE, facts_of, left_out_of
from tasks.runtime.run import Notes, Run

SECRET = "xylophone"
TEST = [f"How do I tune a {SECRET} with {number} bars before the concert in the town hall?" for number in (12, 345)]
OTHERS = ["Which tree gives the best shade?", f"Where is the {SECRET} museum of the city?", "Why is the sky blue?"]
TRAINING = [TEST[0], TEST[0].upper(), f"Please: {TEST[1]}", *OTHERS[:1], "How tall is a giraffe?"]


@pytest.fixture
def heard():
    return Notes()


@pytest.fixture
def run(tmp_path, heard):
    return Run(ArtifactStore(tmp_path / "workspace"), heard)


def configured(folder, training=TRAINING, **overrides):
    """A configuration with two test prompts and two validation prompts, harmful and harmless."""
    suite = {"test": TEST, "validation": OTHERS[1:]}
    for split, prompts in suite.items():
        rows = zip(("a", "b"), prompts, ("harmful", "harmless"), strict=True)
        write(folder / f"{split}.jsonl", [{"id": f"{split}-{i}", "prompt": p, "label": label} for i, p, label in rows])
    rows = [{"id": f"t{place}", "prompt": prompt, "chosen": "No."} for place, prompt in enumerate(training)]
    write(folder / "training.jsonl", rows)
    paths = {f"evaluation.{split}": str(folder / f"{split}.jsonl") for split in suite}
    given = {"prompts.path": str(folder / "training.jsonl"), "evaluation.references": None, **paths}
    return load_config("smoke", overrides=given | overrides)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def separated(run, config):
    prompts = ingest.fn(run, config.prompts).data
    suite = ingest_suite.fn(run, config.evaluation, "eng_Latn").data
    return separate.fn(run, prompts, suite, config.prompts).data


def test_overlaps_are_counted_told_and_limited(run, heard, tmp_path):
    config = configured(tmp_path)
    found = separated(run, config)
    counts = {part.where: (part.rows, part.of) for part in read_overlaps(facts_of(run.store, found))}
    assert counts == {"validation": (0, 2), "test": (2, 2), BETWEEN: (0, 2), WITHIN: (1, 5)}
    with pytest.raises(UserError) as refused:
        check_overlap(run, config, found)
    assert "2 of 2 held-out test prompts are training prompts as well (1 word for word, 1 nearly" in str(refused.value)
    assert "ids test-a, test-b)" in str(refused.value)
    check_overlap(run, configured(tmp_path, **{"prompts.max_overlap": 1.0}), found)
    assert len(heard.sentences) == 2
    manifest = (run.store.folder(found) / "manifest.json").read_text()
    assert SECRET not in " ".join([manifest, *heard.sentences, str(refused.value)]).casefold()


def test_prompts_with_both_labels_are_told(run, tmp_path):
    config = configured(tmp_path)
    labels = ("harmless", "harmful", None, None, None)
    rows = zip(TRAINING, labels, strict=True)
    write(tmp_path / "training.jsonl", [{"prompt": prompt, "chosen": "No.", "label": label} for prompt, label in rows])
    found = {part.where: part for part in read_overlaps(facts_of(run.store, separated(run, config)))}
    assert {where: part.both_labels for where, part in found.items()} == {
        **dict.fromkeys(("validation", BETWEEN), 0),
        **dict.fromkeys(("test", WITHIN), 1),
    }
    assert found[WITHIN].sentence.endswith("; 1 prompts have both labels)")


def test_half_of_a_split_is_below_a_limit_of_a_half(run, tmp_path):
    training = [TEST[1], "How tall is a giraffe?"]
    for limit, passes in ((0.5, True), (0.49, False)):
        config = configured(tmp_path, training, **{"prompts.max_overlap": limit})
        found = separated(run, config)
        if passes:
            check_overlap(run, config, found)
        else:
            with pytest.raises(UserError, match=r"more than the share of 0\.49"):
                check_overlap(run, config, found)


def test_the_report_tells_those_of_every_language_and_suite(run, tmp_path):
    def artifact(name, rows):
        parts = KeyParts("overlap", 1, {"name": name})
        counted = {"exact": rows, "normalized": 0, "near": 0}
        with run.store.writing("overlap", parts) as draft:
            draft.facts["overlaps"] = told([Overlap(where, 9, counted, ["p1"]) for where in ("test", WITHIN)])
        return run.store.find("overlap", parts.key)

    found = {
        "": artifact("a", 1),
        "swh_Latn": artifact("b", 2),
        "suite mine": artifact("c", 3),
        "feedback hin_Deva": artifact("e", 4),
        "none": artifact("d", 0),
    }
    words = "held-out test prompts are training prompts as well"
    assert [part.partition(" (")[0] for part in _overlaps(run, found).split("; ") if words in part] == [
        f"1 of 9 {words}",
        f"Swahili: 2 of 9 {words}",
        f"suite mine: 3 of 9 {words}",
        f"feedback Hindi: 4 of 9 {words}",
    ]
    # Twice within the training prompts is told of these alone.
    assert _overlaps(run, found).count("training prompts are there before") == 2
    assert _overlaps(run, {"none": found["none"]}) == "none"


def test_overlaps_are_taken_out(run, heard, tmp_path):
    config = configured(tmp_path, **{"prompts.remove_overlap": True})
    found = separated(run, config)
    assert pq.read_table(run.store.folder(found) / PROMPTS_FILE)["id"].to_pylist() == ["t3", "t4"]
    assert [count.sentence for count in left_out_of(run.store, found)] == [
        "3 of 5 prompts are held-out prompts as well and are taken out"
    ]
    check_overlap(run, config, found)
    assert heard.sentences == []


def test_nothing_left_is_an_error(run, tmp_path):
    with pytest.raises(UserError, match="All 2 training prompts are held-out prompts"):
        separated(run, configured(tmp_path, TEST, **{"prompts.remove_overlap": True}))


def test_without_overlap_nothing_is_said(run, tmp_path):
    found = separated(run, configured(tmp_path, ["How tall is a giraffe?"]))
    assert all(part.rows == 0 for part in read_overlaps(facts_of(run.store, found)))
    assert not (run.store.folder(found) / PROMPTS_FILE).exists()
