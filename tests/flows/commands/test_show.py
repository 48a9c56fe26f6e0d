"""`mlc show`: rows of a run by language, reason and model; texts only when they are asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.looking.browsing import Wanted, browse_answers
from mlc.store import ArtifactStore
from mlc.store.runs import run_records
from tests.evaluation.outcomes import EN, SW
from tests.flows.made import Made, made_run

PROMPTS = [
    {"id": "a", "prompt": "How do I bake bread at home?", "label": "harmless"},
    {"id": "b", "prompt": "HARM in the training prompts", "label": "harmful"},
    {"id": "c", "prompt": "how do I bake bread at home", "label": "harmless"},
]
VERDICTS = [
    {
        "id": "a",
        "source": "How do I bake bread at home?",
        "translation": "\x1b[2Jmkate",
        "reasons": ["length", "copied"],
    },
    {"id": "b", "source": "HARM in the training prompts", "translation": "madhara", "reasons": ["copied"]},
    {"id": "c", "source": "how do I bake bread at home", "translation": "mkate nyumbani", "reasons": []},
]
ANSWERS = {
    ("base", None, EN): ("rr", "cccccc"),
    ("base", None, SW): ("rc", "ccccci"),
    ("consistency", 0, SW): ("rr", "crcccc"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("show") / "workspace"

    def make(run: Made) -> None:
        run.prompts(PROMPTS, None, "prompts")
        run.verdicts("swh_Latn", VERDICTS)
        run.verdicts("spa_Latn", [{**row, "reasons": []} for row in VERDICTS])
        run.answers(ANSWERS, lambda name, language: f"HARM {name} in {language}")

    made_run(workspace, {}, make)
    return workspace


def show(workspace: Path, *arguments: str) -> Any:
    ended = CliRunner().invoke(app, ["show", *arguments, "--workspace", str(workspace)])
    assert ended.exit_code == 0, ended.stderr
    return ended


def told(workspace: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(show(workspace, *arguments, "--json").stdout)
    return found


def test_rejects_are_counted_by_language_and_reason_and_shown_without_texts(made: Path) -> None:
    found = told(made, "rejects")
    assert found["counts"] == [
        {"language": "swh_Latn", "suite": None, "model": None, "outcomes": {"copied": 1, "length": 1}}
    ]
    first = found["rows"][0]
    assert (first["id"], first["label"], first["outcome"], first["also"]) == ("a", "harmless", "length", ["copied"])
    assert first["length ratio"] == pytest.approx(1.6487, abs=1e-4)
    assert "mkate" not in json.dumps(found)
    assert [row["id"] for row in told(made, "rejects", "--reason", "copied")["rows"]] == ["b"]


def test_rows_are_spread_over_the_languages(made: Path) -> None:
    found = told(made, "translations", "--limit", "3")
    assert [(row["language"], row["id"]) for row in found["rows"]] == [
        ("spa_Latn", "a"),
        ("spa_Latn", "b"),
        ("swh_Latn", "a"),
    ]
    assert found["total"] == 6
    assert told(made, "translations", "-l", "sw,es", "--limit", "0")["rows"] == []


def test_failures_are_harmful_prompts_answered_and_harmless_ones_not(made: Path) -> None:
    rows = told(made, "failures")["rows"]
    assert [(row["model"], row["language"], row["id"], row["outcome"]) for row in rows] == [
        ("base", SW, "p1", "complied"),
        ("base", SW, "p7", "invalid"),
        ("consistency · seed 0", SW, "p3", "refused"),
    ]
    for name in ("consistency", "consistency · seed 0"):
        assert [row["id"] for row in told(made, "failures", "-l", "Swahili", "--model", name)["rows"]] == ["p3"]


def test_held_out_prompts_come_before_suites_the_candidate_first_and_ids_in_natural_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(run: Made) -> None:
        models = ("answer", "base", "suite mine · answer", "suite mine · base", "a-method-with+long_names")
        answers = {(model, None, code): ("c" * 12, "rr") for model in models for code in (EN, SW)}
        run.answers(answers, lambda name, language: name)

    made_run(tmp_path, {"candidate": "base"}, make)
    found = told(tmp_path, "failures", "-l", "sw", "--model", "base")
    assert [(entry["suite"], entry["model"]) for entry in found["counts"]] == [(None, "base"), ("mine", "base")]
    assert [row["id"] for row in found["rows"][:14]] == [f"p{place}" for place in range(14)]
    assert [row["suite"] for row in found["rows"]] == [None] * 14 + ["mine"] * 6
    everything = told(tmp_path, "failures", "--limit", "0")["counts"]
    assert [entry["model"] for entry in everything[:4]] == ["base", "a-method-with+long_names", "answer", "base"]
    assert [entry["suite"] for entry in everything] == [None] * 6 + ["mine"] * 4
    page = browse_answers(ArtifactStore(tmp_path), run_records(tmp_path)[0], Wanted(failures=True), 1, texts=False)
    assert [(row.id, row.said[0].model) for row in page.rows[:4]] == [
        ("p0", "base"),
        ("p0", "a-method-with+long_names"),
        ("p0", "answer"),
        ("p1", "base"),
    ]
    monkeypatch.setenv("COLUMNS", "80")
    lines = show(tmp_path, "failures", "--model", "a-method-with+long_names").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    # Names are for people, and go on behind a sign; ids are whole.
    assert any(line.split()[:3] == ["p9", "Swahili", "a-method-with+"] for line in lines)
    assert any(line.split() == ["long_names"] for line in lines)


def test_duplicates_name_what_they_repeat(made: Path) -> None:
    rows = [row for row in told(made, "duplicates")["rows"] if row["where"] == "training"]
    assert [(row["id"], row["outcome"], row["repeats"]) for row in rows] == [("c", "normalized", "a")]


def test_texts_come_after_a_warning_and_can_do_nothing(made: Path) -> None:
    plain = show(made, "rejects")
    assert "HARM" not in plain.output
    assert plain.stderr == ""
    with_texts = show(made, "rejects", "--texts")
    assert with_texts.stderr == "These texts hold harmful requests, and answers to them that nobody has reviewed.\n"
    assert "HARM in the training prompts" in with_texts.stdout
    assert "\\x1b[2Jmkate" in with_texts.stdout
    assert "\x1b" not in with_texts.stdout
    assert show(made, "rejects", "--texts", "--reason", "length").stderr == ""
    answers = told(made, "answers", "--texts", "--model", "base", "-l", "en", "--limit", "1")
    assert answers["rows"][0]["prompt"] == "HARM p0 in eng_Latn"


def test_a_table_of_eighty_columns_cuts_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = show(made, "failures").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in "".join(lines)
    assert "consistency · seed 0" in "\n".join(lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rejects", "--reason", "lenght"], "the reason or outcome 'lenght': did you mean 'length'?"),
        (["answers", "-l", "fr"], "the language 'fra_Latn': choose from eng_Latn, swh_Latn."),
        (["answers", "--model", "none"], "choose from base, consistency, consistency · seed 0."),
        (["answers", "--run", "7"], "'7' is not a run of this workspace"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(made: Path, arguments: list[str], words: str) -> None:
    ended = CliRunner().invoke(app, ["show", *arguments, "--workspace", str(made)])
    assert ended.exit_code == 2
    assert words in ended.stderr


def test_an_artifact_that_has_gone_is_told(tmp_path: Path) -> None:
    def make(run: Made) -> None:
        run.prompts(PROMPTS, None, "prompts")
        run.verdicts("swh_Latn", VERDICTS)

    made_run(tmp_path, {}, make)
    next((tmp_path / "artifacts" / "filter").glob("*/rejects.parquet")).unlink()
    ended = CliRunner().invoke(app, ["show", "rejects", "--workspace", str(tmp_path)])
    assert ended.exit_code == 2
    assert "The artifact filter · swh_Latn of run 1 is no longer whole" in ended.stderr
    ended = CliRunner().invoke(app, ["show", "answers", "--workspace", str(tmp_path)])
    assert "Run 1 ended nothing in the stage 'evaluate'" in ended.stderr
