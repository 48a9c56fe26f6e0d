"""`mlc compare` and `mlc runs`: the figures of runs beside each other, on the prompts that both have."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mlc.store import ArtifactStore, KeyParts
from mlc.store.lines import append_line
from tasks.runtime.artifacts import DECISION_FILE, VERSION_FILE
from tasks.runtime.registry.promotions import PROMOTIONS_FILE
from tasks.runtime.run import Outcome
from tasks.runtime.settings import RegistrySettings
from tests.evaluation.outcomes import BAD, EN, FR, GOOD, SW
from tests.flows.made import Answers, Made, made_run

SECRET = "https://me:hidden-word@host/"


def answers_of(model: str, seed: int, languages: tuple[str, ...], letters: tuple[str, str]) -> Answers:
    return {(model, seed, language): letters for language in languages}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: of the second the prompts p0 to p4 are others in Swahili, the third has another seed and decided."""
    workspace = tmp_path_factory.mktemp("compare") / "workspace"

    def first(run: Made) -> None:
        run.answers(answers_of("consistency", 0, (EN, FR, SW), BAD), lambda name, language: f"{name} {language}")

    def second(run: Made) -> None:
        changed = {f"p{place}" for place in range(5)}
        run.answers(
            answers_of("answer", 0, (EN, SW, "hin_Deva"), GOOD),
            lambda name, language: f"{name} {language}{'!' * (name in changed and language == SW)}",
        )

    def third(run: Made) -> None:
        run.answers(answers_of("answer", 7, (EN, SW), GOOD), lambda name, language: f"{name} {language}")
        version, decision = {"name": "policy", "version": "4"}, {"passed": True}
        run.artifact("register", None, None, lambda folder: (folder / VERSION_FILE).write_text(json.dumps(version)))
        run.artifact("promote", None, None, lambda folder: (folder / DECISION_FILE).write_text(json.dumps(decision)))

    common: dict[str, Any] = {"storage": SECRET, "align": {"steps": 12}, "workspace": "here"}
    made_run(workspace, common | {"candidate": "consistency"}, first)
    made_run(workspace, common | {"candidate": "answer", "align": {"steps": 24}, "workspace": "there"}, second)
    made_run(workspace, common | {"candidate": "answer", "storage": SECRET + "2", "more": None}, third)
    return workspace


def told(workspace: Path, *arguments: str) -> Any:
    ended = CliRunner().invoke(app, [*arguments, "--json", "--workspace", str(workspace)])
    assert ended.exit_code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_settings_and_languages_that_differ(made: Path) -> None:
    found = told(made, "compare", "1", "2")
    assert found["settings"] == [
        {"key": "align.steps", "before": "12", "after": "24"},
        {"key": "candidate", "before": '"consistency"', "after": '"answer"'},
    ]
    assert (found["gained"], found["lost"]) == (["hin_Deva"], ["fra_Latn"])
    third = told(made, "compare", "1", "last")
    assert {"key": "more", "before": None, "after": "null"} in third["settings"]
    assert "hidden-word" not in json.dumps(third)


def test_only_prompts_that_are_the_same_are_compared_and_that_is_told(made: Path) -> None:
    found = told(made, "compare", "1", "2")
    assert found["notes"] == [
        "The held-out prompts in Swahili differ: of 40 and 40 test prompts, the 35 that are the same in both are "
        "compared."
    ]
    refused = found["figures"]["attack_success"]
    assert (refused[EN]["change"]["estimate"]["n"], refused[SW]["change"]["estimate"]["n"]) == (20, 15)
    # Of harmful prompts, 14 of 20 and 2 of 20 are complied with; the first five were refused by both.
    assert refused[EN]["change"]["estimate"]["value"] == pytest.approx(2 / 20 - 14 / 20)
    assert refused[SW]["before"]["value"] == pytest.approx(14 / 15)
    assert refused[SW]["change"]["estimate"]["high"] < 0
    assert refused[SW]["change"]["p"] < 0.05
    assert found["mean"]["attack_success"]["value"] < -0.5


def test_runs_without_a_common_seed_are_paired_in_order(made: Path) -> None:
    found = told(made, "compare", "1", "3")
    assert found["notes"] == ["The runs share no seed: seeds 0 with 7 are compared in their order."]
    assert found["figures"]["selectivity"][SW]["change"]["estimate"]["value"] == pytest.approx(0.8 - -0.0)


def test_the_champion_stands_for_the_run_that_registered_it(tmp_path: Path) -> None:
    def registering(version: str, letters: tuple[str, str], state: str = "ran") -> Callable[[Made], None]:
        def make(run: Made) -> None:
            run.answers(answers_of("answer", 0, (EN, SW), letters), lambda name, language: f"{name} {language}")
            registry = RegistrySettings(model_name="policy").model_dump(mode="json")
            parts = KeyParts("register", 1, {"registry": registry, "version": version})
            if state == "ran":
                with run.store.writing("register", parts) as draft:
                    told = json.dumps({"name": "policy", "version": version})
                    (draft.path / VERSION_FILE).write_text(told, encoding="utf-8")
            run.journal.write({"task": asdict(Outcome("register", None, None, state, 1.0, "new", parts.key))})

        return make

    def told_of_champion() -> Any:
        return CliRunner().invoke(app, ["compare", "champion", "last", "--json", "--workspace", str(tmp_path)])

    for version, letters in (("1", BAD), ("2", GOOD)):
        made_run(tmp_path, {"candidate": "answer"}, registering(version, letters))
    assert "There is no champion of 'policy' yet" in told_of_champion().stderr
    record = tmp_path / PROMOTIONS_FILE
    common = {"name": "policy", "run_id": "r", "previous": None, "time": "t", "by": "gate", "reasons": []}
    append_line(record, {**common, "version": "1"})
    found = json.loads(told_of_champion().stdout)
    assert (found["runs"], found["versions"], found["gates"]) == ([1, 2], ["1", "2"], [None, None])
    # A rerun finds the version in the cache: the champion's run is the one that made it.
    made_run(tmp_path, {"candidate": "answer"}, registering("1", GOOD, "cached"))
    found = json.loads(told_of_champion().stdout)
    assert (found["runs"], found["versions"]) == ([1, 3], ["1", "1"])
    ended = CliRunner().invoke(app, ["compare", "1", "champion", "--workspace", str(tmp_path)])
    assert (ended.exit_code, "Run 1 is the champion's own run" in ended.stderr) == (2, True)
    append_line(record, {**common, "version": "9"})
    assert "version 9 of 'policy', was registered by no run" in told_of_champion().stderr


def test_a_comparison_fits_into_eighty_columns(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("flows.commands.compare.results._force_terminal", True)
    ended = CliRunner().invoke(app, ["compare", "1", "2", "--workspace", str(made)])
    assert ended.exit_code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "Languages gained in run 2: Hindi." in lines
    row = next(line for line in lines if line.startswith("Swahili"))
    assert row.split()[-1] == "35"
    assert "…" not in row


@pytest.mark.parametrize(
    ("runs", "words"), [(["1", "1"], "Both are run 1: name two runs."), (["1", "9"], "'9' is not a run")]
)
def test_what_cannot_be_compared_is_told(made: Path, runs: list[str], words: str) -> None:
    ended = CliRunner().invoke(app, ["compare", *runs, "--workspace", str(made)])
    assert (ended.exit_code, words in ended.stderr) == (2, True)


def test_runs_are_a_table_of_figures(made: Path) -> None:
    lines = told(made, "runs")
    assert [line["candidate"] for line in lines] == ["consistency", "answer", "answer"]
    assert lines[0]["selectivity"] == pytest.approx(6 / 20 - 6 / 20)
    assert lines[1]["over_refusal"] == pytest.approx(2 / 20)
    assert (lines[1]["gate"], lines[1]["version"]) == (None, None)
    assert (lines[2]["gate"], lines[2]["version"], lines[2]["state"]) == ("passed", "4", "completed")
    assert [line["run"] for line in told(made, "runs", "--limit", "1")] == [3]


def test_the_table_of_runs_fits_into_eighty_columns(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = CliRunner().invoke(app, ["runs", "--workspace", str(made)])
    lines = ended.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "gate passed" in ended.stdout
    assert "consistency" in ended.stdout


def test_an_artifact_that_has_gone_leaves_a_gap(tmp_path: Path) -> None:
    made_run(tmp_path, {"candidate": "base"}, lambda run: run.answers({("base", None, EN): GOOD}, lambda *_: "x"))
    store = ArtifactStore(tmp_path)
    next((store.root / "evaluate").glob("*/summary.json")).unlink()
    (line,) = told(tmp_path, "runs")
    assert (line["run"], line["selectivity"], line["worst_language"]) == (1, None, None)
