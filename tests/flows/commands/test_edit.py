"""`mlc edit` as a person runs it; mistakes are one plain sentence and exit code 2."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from flows.cli import app
from mlc.evaluation.parallel import deal, one_language, read_parallel
from mlc.shipped import shipped_data

OPTIONS = ("--set", "rank=4", "--set", "layers=all", "--device", "cpu")


def run(*arguments):
    # Where standard error goes apart from standard output, as on a terminal.
    return CliRunner().invoke(app, ["edit", *map(str, arguments)])


def told(*arguments):
    ended = run(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("edit")


@pytest.fixture(scope="module")
def model(folder):
    """A copy of the shipped model, whose weights are in float32."""
    shutil.copytree(shipped_data("tiny"), folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def computed(folder, model):
    return told("compute", model, "-l", "es,sw", *OPTIONS, "--out", folder / "deltas")


def test_a_delta_for_each_language(computed, folder):
    assert {path.name for path in (folder / "deltas").iterdir()} == {"spa_Latn", "swh_Latn"}
    assert set(computed["deltas"]) == {"spa_Latn", "swh_Latn"}
    delta = computed["deltas"]["swh_Latn"]
    assert delta["languages"] == ["swh_Latn"]
    assert [layer["layer"] for layer in delta["layers"]] == [0, 1, 2, 3]
    assert delta["units"] > 0
    # Both are found with English prompts, so their units are the same.
    assert {one["jaccard"] for one in computed["overlaps"]} == {1.0}
    assert computed["out"] == str(folder / "deltas")


def test_a_joint_delta(folder, model):
    found = told("compute", model, "-l", "es,sw", "--joint", *OPTIONS, "--out", folder / "joint")
    assert found["deltas"]["joint"]["languages"] == ["spa_Latn", "swh_Latn"]
    assert found["overlaps"] == []


def test_merged_and_reverted(computed, folder, model):
    deltas = sorted((folder / "deltas").iterdir())
    merged = told("merge", model, *deltas, "--out", folder / "merged")
    assert merged["notes"] == []
    before, after = (load_file(place / "model.safetensors") for place in (model, folder / "merged"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".mlp.gate_proj." in name or ".mlp.up_proj." in name for name in changed)
    assert told("revert", folder / "merged", "--out", folder / "reverted")["taken_out"] == ["spa_Latn", "swh_Latn"]
    reverted = load_file(folder / "reverted" / "model.safetensors")
    assert all(torch.equal(before[name], reverted[name]) for name in before)
    again = told("merge", folder / "merged", deltas[0], "--out", folder / "twice")
    assert again["notes"] == ["The delta spa_Latn was computed for another model or another state of this one."]


def test_pickled_weights_only_by_an_option(computed, folder, model, tmp_path):
    old = shutil.copytree(model, tmp_path / "old")
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    delta = folder / "deltas" / "swh_Latn"
    for action in (["compute", old, "-l", "sw", *OPTIONS], ["merge", old, delta]):
        refused = run(*action, "--out", tmp_path / "out")
        assert refused.exit_code == 2
        assert "only pickled weights" in refused.output.replace("\n", " ")
    told("merge", old, delta, "--allow-pickle", "--out", tmp_path / "merged")
    told("merge", model, delta, "--out", tmp_path / "same")
    merged, same = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "same"))
    assert all(torch.equal(merged[name], same[name]) for name in same)


def test_show(computed, folder):
    found = told("show", *sorted((folder / "deltas").iterdir()))
    assert found["deltas"] == computed["deltas"]
    ended = run("show", *sorted((folder / "deltas").iterdir()))
    assert ended.exit_code == 0
    for word in ("Safety units, spa_Latn", "swh_Latn 0.", "Overlap", "cosine"):
        assert word in ended.output


def test_search_shows_every_trial(folder, model):
    options = ("--set", "search.ridges=[0.1,10]", "--set", "search.max_bits_gain=100", "--set", "search.gammas=[1]")
    arguments = ("search", model, "-l", "sw", *OPTIONS, *options)
    found = told(*arguments, "--out", folder / "search")
    rows = found["searches"]["swh_Latn"]
    assert [row["trial"] for row in rows] == ["unedited", "1", "2"]
    assert [row["ridge"] for row in rows[1:]] == [0.1, 10]
    assert json.loads((folder / "search" / "swh_Latn" / "search.json").read_text()) == rows
    best = [row for row in rows if row["best"]]
    assert len(best) == len(found["deltas"])
    assert (folder / "search" / "swh_Latn" / "delta.json").is_file() == bool(best)


def test_prompts_are_dealt_by_class():
    prompts = read_parallel(
        shipped_data("quickstart/validation.jsonl"), references=shipped_data("quickstart/references"), languages=["sw"]
    )
    given, validation = deal(one_language(prompts, "swh_Latn"))
    assert given.languages == validation.languages == ("eng_Latn", "swh_Latn")
    assert sorted((*given.ids, *validation.ids)) == sorted(prompts.ids)
    assert [validation.labels.count(label) for label in ("harmful", "harmless")] == [13, 13]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("compute", "shipped:tiny", "--set", "rnk=3", "--out", "x"),
            "'edit.rnk' is unknown: did you mean 'edit.rank'?",
        ),
        (("compute", "shipped:tiny", "--set", "rank=0", "--out", "x"), "'edit.rank' has the value 0"),
        (
            ("compute", "shipped:tiny", "--set", "search.ranks=[0]", "--out", "x"),
            "'edit.search.ranks.0' has the value 0",
        ),
        (("compute", "shipped:tiny", "--set", "layers=[9]", "-l", "sw", "--out", "x"), "The layer 9 does not exist"),
        (("compute", "shipped:tiny", "--set", "rank=500", "-l", "sw", "--out", "x"), "fewer than the rank 500"),
        (("compute", "shipped:tiny", "-l", "sw"), "with --out"),
        (
            ("compute", "shipped:tiny", "-l", "sw", "--template", "enable_thinking=false", "--out", "x"),
            "reads no variable 'enable_thinking'",
        ),
        (("compute", "shipped:nano", "-l", "sw", "--out", "x"), "is an encoder-decoder"),
        (("compute", "one", "two", "--out", "x"), "takes one model, not 2 arguments"),
        (
            ("compute", "shipped:tiny", "--set", "saved_dtype=bfloat16", "--out", "x"),
            "'saved_dtype' is for the pipeline",
        ),
        (("compute", "shipped:tiny", "--set", "search.ranks=[8]", "--out", "x"), "use `mlc edit search`"),
        (("revert", "shipped:tiny", "--set", "rank=8", "--out", "x"), "takes no settings: take 'rank=8' out"),
        (("search", "shipped:tiny", "--out", "x"), "A search needs values to compare"),
        (("merge", "shipped:tiny", "--out", "x"), "takes a model and at least one delta"),
        (("merge", "shipped:tiny", "shipped:tiny", "--out", "x"), "holds no delta"),
        (("revert", "shipped:tiny", "--out", "x"), "holds no edit that can be taken out"),
        (("show", "nothing/there"), "holds no delta"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    ended = run(*arguments)
    assert ended.exit_code == 2, ended.output
    assert message in ended.output
    assert "Traceback" not in ended.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty(tmp_path):
    (tmp_path / "kept").write_text("mine")
    ended = run("compute", "shipped:tiny", "-l", "sw", "--out", tmp_path)
    assert ended.exit_code == 2
    assert "is not empty" in " ".join(ended.output.split())
    assert (tmp_path / "kept").read_text() == "mine"
