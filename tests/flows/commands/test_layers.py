"""`mlc layers` as a person runs it; mistakes are one plain sentence and exit code 2."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file
from typer.testing import CliRunner

from flows.cli import app
from mlc.evaluation.layers import layer_states, measure_layer
from mlc.evaluation.parallel import choose_prompts, read_parallel
from mlc.shipped import shipped_data

PROJECT = Path(__file__).resolve().parents[3]
SECRET = "xylophone-marmalade"
"""A word in prompts that no message may show."""
FILES = {"layers.png", "layers.csv", "layers.json"}


def run(folder, *arguments, columns="80"):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "layers", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": columns, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("layers")


@pytest.fixture(scope="module")
def told(mlc, folder):
    """The JSON of a run with the shipped prompts and nothing but defaults, and what stood on the terminal."""
    ended = mlc("layers", "shipped:tiny", "--limit", "20", "--json", cwd=folder)
    assert ended.code == 0, ended.err[-2000:]
    return ended.result, ended


@pytest.fixture(scope="module")
def shown(folder):
    """A run with gaps, without labels and with one pooling, at 80 columns."""
    prompts = read_parallel(
        shipped_data("quickstart/validation.jsonl"), references=shipped_data("quickstart/references")
    )
    place = {code: column for column, code in enumerate(prompts.languages)}
    rows = [
        {"en": texts[0], "sw": texts[place["swh_Latn"]] if row else None, "de": texts[place["deu_Latn"]], "fr": None}
        for row, texts in enumerate(prompts.texts[:8])
    ]
    rows[0]["fr"] = SECRET
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ended = run(folder, "shipped:tiny", "--prompts", str(path), "--pool", "mean", "--out", "mine")
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended


def test_the_shipped_prompts_need_no_option(told):
    found, _ = told
    assert (found["model"], found["depth"], found["prompts"]) == ("shipped:tiny", 4, 20)
    assert found["labels"] == {"harmful": 10, "harmless": 10}
    assert found["languages"]["eng_Latn"] == 20
    assert len(found["languages"]) == 7
    assert found["chance"] == pytest.approx({"retrieval": 1 / 20, "separation": 0.5, "collinearity": 1 / 7})


def test_the_model_is_loaded_as_the_options_say(tmp_path):
    old = shutil.copytree(shipped_data("tiny"), tmp_path / "old")
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    asked = ["layers", str(old), "--limit", "4", "--pool", "mean", "--out", str(tmp_path / "out")]
    for more, message in (
        ([], "only pickled weights"),
        (["--allow-pickle", "--template", "thinking=false"], "reads no variable 'thinking'"),
        (["--allow-pickle", "--template", "thinking"], "is not of the form key=value"),
    ):
        refused = CliRunner().invoke(app, [*asked, *more])
        assert refused.exit_code == 2
        assert message in refused.output
    assert CliRunner().invoke(app, [*asked, "--allow-pickle"]).exit_code == 0


def test_json_holds_every_layer_and_a_recommendation(told):
    found, _ = told
    assert [(one["pool"], one["layer"]) for one in found["layers"]] == [
        (pool, layer) for pool in ("last", "last_content", "mean") for layer in range(5)
    ]
    for one in found["layers"]:
        for name in ("retrieval", "separation", "transfer"):
            assert one[name].keys() == {"value", "low", "high", "n"}
            assert 0 <= one[name]["low"] <= one[name]["value"] <= one[name]["high"] <= 1
        assert {language["language"] for language in one["languages"]} == set(found["languages"]) - {"eng_Latn"}
        assert 0 <= one["centred_collinearity"] <= 1
    choice = found["recommended"]
    assert choice["layer"] in (1, 2, 3)
    assert found["settings"] == {"align.consistency.layer": choice["layer"], "align.consistency.pool": choice["pool"]}
    assert choice["share"] == choice["layer"] / 4
    assert found["by_pool"][choice["pool"]].keys() == choice.keys()
    assert "retrieval" in choice["rule"]


def test_the_settings_are_those_of_a_configuration(told):
    from flows.configuration.reading import load_config

    found, _ = told
    term = load_config("quickstart", overrides=found["settings"]).align.consistency
    assert (term.layer, term.pool) == (found["recommended"]["layer"], found["recommended"]["pool"])


def test_the_figures_are_those_of_the_library(told, tiny_policy):
    found, _ = told
    prompts, _ = choose_prompts(
        read_parallel(shipped_data("quickstart/validation.jsonl"), references=shipped_data("quickstart/references")), 20
    )
    states = layer_states(tiny_policy, prompts, pools=("mean",), batch_size=7)["mean"]
    figures = measure_layer(states[2], prompts, layer=2, pool="mean")
    one = next(one for one in found["layers"] if (one["pool"], one["layer"]) == ("mean", 2))
    assert one["collinearity"] == pytest.approx(figures.collinearity, abs=1e-4)
    assert one["separation"]["value"] == pytest.approx(figures.separation.value, abs=0.02)
    assert one["retrieval"]["value"] == pytest.approx(figures.retrieval.value, abs=0.02)


def test_files_beside_it(told, folder):
    found, _ = told
    assert {path.name for path in (folder / "layers-tiny").iterdir()} == FILES
    assert found["files"] == [str(Path("layers-tiny") / name) for name in ("layers.png", "layers.csv", "layers.json")]
    assert json.loads((folder / "layers-tiny" / "layers.json").read_text(encoding="utf-8")) == found
    with (folder / "layers-tiny" / "layers.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 15
    for row, one in zip(rows, found["layers"], strict=True):
        assert (row["pool"], int(row["layer"])) == (one["pool"], one["layer"])
        assert float(row["retrieval"]) == one["retrieval"]["value"]
        assert float(row["separation_low"]) == one["separation"]["low"]


def test_the_picture_shows_something(told, shown, folder):
    heights = {}
    for name in ("layers-tiny", "mine"):
        path = folder / name / "layers.png"
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        picture = imread(path)
        heights[name], width = picture.shape[:2]
        assert 1000 < width < 1400
        colours = {tuple(pixel) for pixel in np.round(255 * picture[..., :3]).astype(int).reshape(-1, 3)[::7]}
        # The line of the recommended layer and that of a pooling; the rest is white.
        assert {(0x33, 0x33, 0x33), (0x00, 0x9E, 0x73)} <= colours
        assert 0.01 < (picture[..., :3].min(axis=2) < 0.9).mean() < 0.5
    # Without labels the third panel is not there.
    assert heights["mine"] < 0.75 * heights["layers-tiny"]


def test_no_prompt_is_shown(told, shown, folder):
    texts = [json.loads(line) for line in (folder / "mine.jsonl").read_text(encoding="utf-8").splitlines()]
    prompts = read_parallel(
        shipped_data("quickstart/validation.jsonl"), references=shipped_data("quickstart/references")
    )
    _, ended = told
    written = "".join((folder / name / "layers.json").read_text(encoding="utf-8") for name in ("layers-tiny", "mine"))
    everything = ended.out + ended.err + shown.stdout + shown.stderr + written
    for text in [text for row in texts for text in row.values() if text] + [t for row in prompts.texts for t in row]:
        assert text not in everything


def test_the_table_fits_80_columns(shown):
    lines = shown.stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 80  # the last one holds a path
    assert "…" not in shown.stdout
    table = lines[lines.index("Pooling mean, by layer") + 3 :][:5]
    assert [line.replace("→", "").split()[0] for line in table] == ["0", "1", "2", "3", "4"]
    assert sum("→" in line for line in table) == 1
    assert shown.stderr == ""


def test_what_was_left_out_is_told(shown):
    text = " ".join(shown.stdout.split())
    assert "8 prompts in English and German, Swahili" in text
    assert "Left out for too few translations: French." in text
    assert "Translations that are missing: Swahili 1." in text
    assert "No separation: it takes at least 2 prompts with each label" in text
    assert "without labels separation had no say" in text
    assert "--set align.consistency.pool=mean" in text
    assert "A heuristic" in text


# Mistakes.


@pytest.fixture
def mistake(tmp_path, monkeypatch):
    """Runs the command in this process; the environment is as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)

    def invoke(*arguments):
        ended = CliRunner().invoke(app, ["layers", *map(str, arguments)])
        assert ended.exit_code == 2, ended.output
        assert ended.stdout == ""
        assert "Traceback" not in ended.output
        assert SECRET not in ended.output
        return " ".join(ended.stderr.split())

    yield invoke
    os.environ.clear()
    os.environ.update(before)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


PARALLEL = [{"en": f"{SECRET} {row}", "de": f"Wort {row}"} for row in range(6)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shipped:tiny", "--prompts", "gone.jsonl"), ("gone.jsonl", "cannot be read")),
        (("shipped:tiny", "--prompts", "shipped:nothing"), ("no shipped data named 'nothing'",)),
        (("shipped:tiny", "--languages", "klingonish"), ("klingonish", "unknown")),
        (("shipped:tiny", "--languages", "es,yo"), ("yor_Latn", "choose from")),
        (("shipped:tiny", "--languages", "en"), ("English", "source language")),
        (("nowhere/",), ("nowhere", "not a model folder")),
        (("shipped:nano", "--limit", "4"), ("shipped:nano", "is an encoder-decoder")),
        (("shipped:tiny", "--device", "abacus"), ("abacus", "auto, cpu")),
        (("shipped:tiny", "--limit", "3"), ("--limit",)),
        (("shipped:tiny", "--pool", "first"), ("first", "last_content")),
    ],
)
def test_options(mistake, arguments, words):
    said = mistake(*arguments)
    for word in words:
        assert word in said
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (PARALLEL[:3], ("3 with English text", "at least 4")),
        ([{"de": row["de"]} for row in PARALLEL], ("no English text", "deu_Latn")),
        ([{"en": row["en"]} for row in PARALLEL], ("English only",)),
        ([{**row, "swx_Latn": "x"} for row in PARALLEL], ("swx_Latn", "did you mean")),
        ([row if number < 3 else {"en": row["en"]} for number, row in enumerate(PARALLEL)], ("4 of the 6",)),
    ],
)
def test_prompt_files(mistake, tmp_path, rows, words):
    said = mistake("shipped:tiny", "--prompts", write(tmp_path / "mine.jsonl", *rows))
    for word in words:
        assert word in said


def test_a_place_that_cannot_be_written(mistake, tmp_path):
    path = write(tmp_path / "mine.jsonl", *PARALLEL)
    assert "cannot be written" in mistake("shipped:tiny", "--prompts", path, "--out", path / "below")
