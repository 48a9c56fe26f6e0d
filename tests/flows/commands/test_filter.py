"""`mlc filter` as a person runs it; mistakes are one plain sentence and exit code 2."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from flows.cli import app
from mlc.shipped import shipped_data
from tests.flows.smoked import PROJECT

SOON = 30
"""Seconds in which it has ended; about one where nothing else runs."""

SECRET = "xylophone-marmalade"
"""A word in the texts that nothing on the terminal may show."""
GOOD = {
    "source": f"The library {SECRET} is closed on Sunday morning.",
    "translation": f"La biblioteca {SECRET} está cerrada el domingo por la mañana.",
    "source_language": "en",
    "target_language": "es",
}


@pytest.fixture
def run(tmp_path):
    def with_rows(rows, *arguments, out="out.jsonl"):
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ended = CliRunner().invoke(app, ["filter", str(path), "--out", str(tmp_path / out), *map(str, arguments)])
        written = tmp_path / out
        lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else None
        return ended, lines and [json.loads(line) for line in lines]

    return with_rows


def test_funnel_and_verdicts(run):
    ended, rows = run([GOOD, {**GOOD, "translation": GOOD["source"]}, {**GOOD, "target_language": "swahilli"}])
    assert ended.exit_code == 0, ended.stderr
    assert [row["reason"] for row in rows] == [None, "copied", "unusable"]
    for words in ("Spanish", "kept", "50.0%", "copied", "1 of 3 pairs kept", "did you mean swh_Latn"):
        assert words in ended.stdout.replace("\n", " "), words
    assert SECRET not in ended.output


def test_an_option_that_overrules_the_file_is_told_with_the_count(run):
    rows = [GOOD, {**GOOD, "target_language": "Spanish"}, {**GOOD, "target_language": "fr"}]
    ended, _ = run(rows, "--to", "sw", "--go-on")
    warning = "3 of 3 rows say es, Spanish, fr in target_language, and are judged as Swahili: leave out --to"
    assert warning in " ".join(ended.stderr.split())
    assert "1 of 3 rows say fr" in " ".join(run(rows, "--to", "es", "--go-on")[0].stderr.split())
    assert "rows say" not in run(rows[:2], "--to", "es", "--go-on")[0].stderr


def test_json(run):
    ended, _ = run([GOOD], "--json")
    told = json.loads(ended.stdout)
    assert (told["rows"], told["kept"]) == (1, 1)
    assert told["funnel"][0] == {"target_language": "spa_Latn", "reason": "kept", "rows": 1, "share": 1.0}


def test_nothing_kept_is_a_mistake_unless_told_to_go_on(run):
    rows = [{**GOOD, "translation": ""}] * 3 + [{**GOOD, "translation": GOOD["source"]}]
    ended, written = run(rows)
    assert ended.exit_code == 2
    assert "empty (3), copied (1)" in ended.stderr
    assert "--go-on" in ended.stderr
    assert [row["keep"] for row in written] == [False] * 4
    assert run(rows, "--go-on")[0].exit_code == 0


def test_thresholds_from_a_file_and_from_the_command_line(run, tmp_path):
    config = tmp_path / "strict.yaml"
    config.write_text("languages:\n  es: {length_z: 0.01}\n", encoding="utf-8")
    assert run([GOOD], "--config", config)[0].exit_code == 2
    assert run([GOOD], "--config", config, "--set", "pairs.en-es.length_z=5")[0].exit_code == 0
    assert run([GOOD], "--config", config, "--set", "quality.languages.es.length_z=5")[0].exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "default.lenght_z=3"), ["quality.default.lenght_z", "did you mean 'quality.default.length_z'"]),
        (("--set", "languages.sw.lenght_z=3"), ["quality.languages.sw.lenght_z", "length_z"]),
        (("--set", "scripts.Arabb.length_z=3"), ["'Arabb'", "Arab"]),
        (("--set", "pairs.enes.length_z=3"), ["'enes'", "en-sw"]),
        (("--set", "default.length_z=-1"), ["quality.default.length_z", "-1"]),
        (("--set", "default.similarity=0.5"), ["default.similarity", "'meaning'"]),
        (("--signals", "lenght"), ["'lenght'", "did you mean 'length'"]),
        (("--signals", "meaning"), ["'meaning'", "name one"]),
        (("--config", "missing.yaml"), ["missing.yaml"]),
    ],
)
def test_mistakes_are_one_sentence(run, arguments, words):
    ended, written = run([GOOD], *arguments)
    assert ended.exit_code == 2
    assert all(word in ended.stderr for word in words), ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert SECRET not in ended.output
    assert written is None


def test_verdicts_do_not_replace_the_pairs(run):
    ended, _ = run([GOOD], out="in.jsonl")
    assert ended.exit_code == 2
    assert "name another file" in ended.stderr


def test_a_signal_of_ones_own_is_measured_and_drops(run):
    rows = [GOOD, {**GOOD, "source": f"{SECRET} today.", "translation": f"{SECRET} hoy."}]
    own = ("--set", "more_signals=[tests.flows.own_parts:WORDY]", "--set", "default.most_words=5")
    ended, written = run(rows, *own)
    assert ended.exit_code == 0, ended.stderr
    assert [(row["signal_words"], row["reason"]) for row in written] == [(10, "wordy"), (2, None)]
    ended, written = run(rows, *own, "--signals", "wordy")
    assert [row["reason"] for row in written] == ["wordy", None]
    assert "signal_copied" not in written[0]


def test_a_pickled_translator_only_by_an_option(run, tmp_path):
    old = shutil.copytree(shipped_data("nano"), tmp_path / "old")
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    asked = ("--signals", "meaning", "--translator", old)
    refused, _ = run([GOOD], *asked)
    assert refused.exit_code == 2
    assert "only pickled weights" in refused.stderr
    _, rows = run([GOOD], *asked, "--allow-pickle", "--go-on")
    _, same = run([GOOD], "--signals", "meaning", "--translator", "shipped:nano", "--go-on")
    assert rows == same
    assert rows[0]["signal_similarity"] is not None


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_without_a_trace(tmp_path, number, code):
    source = tmp_path / "in.jsonl"
    source.write_text((json.dumps(GOOD) + "\n") * 60_000, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "filter", str(source), "--out", str(tmp_path / "out.jsonl")],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".mlc-filter-*/measured.parquet")) and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(number)
        asked = time.monotonic()
        _, told = running.communicate(timeout=60)
    assert running.returncode == code
    assert time.monotonic() - asked < SOON
    assert "Traceback" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
