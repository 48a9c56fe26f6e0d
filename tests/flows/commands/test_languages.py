"""`mlc languages` as a person runs it."""

import json

from typer.testing import CliRunner

from flows.cli import app
from mlc.languages import all_languages


def languages(*arguments):
    return CliRunner().invoke(app, ["languages", *arguments])


def test_all_of_them(monkeypatch):
    # A pipe whose environment doesn't say how wide it should be taken to be.
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = languages().stdout.splitlines()
    assert lines[0].split() == ["code", "name", "own", "name", "tag", "script", "dir"]
    # No code is cut, however narrow the place.
    assert [line.split()[0] for line in lines[1:]] == [language.code for language in all_languages()]


def test_a_word():
    lines = languages("swahili").stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["swh_Latn", "Swahili", "Kiswahili", "sw", "Latn", "ltr"]
    assert {line.split()[0] for line in languages("KURD").stdout.splitlines()[1:]} == {"ckb_Arab", "kmr_Latn"}


def test_json():
    (found,) = json.loads(languages("hebrew", "--json").stdout)
    assert (found["code"], found["script"], found["direction"], found["bcp47"]) == ("heb_Hebr", "Hebr", "rtl", "he")


def test_nothing():
    ended = languages("zzzzzz")
    assert ended.exit_code == 2
    assert "The language 'zzzzzz' is unknown: choose one of the list (`mlc languages`)." in ended.stderr


def test_a_word_that_is_nearly_a_name():
    assert "did you mean swh_Latn (Swahili)" in languages("swahilli").stderr
