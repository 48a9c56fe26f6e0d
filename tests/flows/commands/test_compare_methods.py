"""`mlc compare-methods`: what the methods of a run do and cost, and which of them the data allows."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.compare_methods import _applicable, _chosen
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from flows.terminal.method_tables import GROUPS, _name
from flows.terminal.options import load
from mlc.errors import UserError
from mlc.evaluation.results import Estimate
from mlc.evaluation.skills import BITS, NO_LANGUAGE, Skill, plain_skills
from mlc.store import KeyParts
from mlc.store.plain import without_nan
from tasks.runtime.artifacts import SKILLS_FILE, TOKENS_FACT
from tasks.runtime.memory import FACT as MEMORY_FACT
from tasks.runtime.memory import remembering_memory
from tasks.runtime.run import Outcome
from tests.evaluation.outcomes import BAD, EN, FR, GOOD, SW
from tests.flows.made import Made, made_run

SEEDS = (0, 1)
VERSION_2 = {"fsdp_config": {"fsdp_version": 2}}
MODELS = ["english-only", "msd", "refusal-direction"]
COSTS = {
    ("align", "english-only"): {TOKENS_FACT: 100, MEMORY_FACT: 2**30},
    ("align", "msd"): {TOKENS_FACT: 400, MEMORY_FACT: 3 * 2**30},
    ("steer", "refusal-direction"): {},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("methods") / "workspace"

    def write(run: Made) -> None:
        answers = {("base", None, code): BAD for code in (EN, FR, SW)}
        for name in MODELS:
            letters = GOOD if name == "msd" else BAD
            answers |= {(name, seed, code): letters for seed in SEEDS for code in (EN, FR, SW)}
        run.answers(answers, lambda name, language: f"{name} {language}")
        for (stage, method), facts in COSTS.items():
            for seed in SEEDS:
                subject = f"{method} · seed {seed}"
                parts = KeyParts(stage, 1, {"subject": subject})
                with run.store.writing(stage, parts, clock=iter([1.0, 3.0]).__next__) as draft:
                    draft.facts |= facts
                    (draft.path / "made").touch()
                run.journal.write(
                    {"task": {**vars(Outcome(stage, None, subject, "ran", 1.0, "new", parts.key))}},
                )

        for method, bits in (("english-only", 2.0), ("msd", 3.0)):
            for seed in SEEDS:
                figures = {EN: bits, FR: bits + seed, SW: bits + 1}
                skills = [Skill(BITS, code, Estimate(figure, 0, 9, 40), False) for code, figure in figures.items()]
                skills.append(Skill("arc · acc", NO_LANGUAGE, Estimate(math.nan if seed else 0.5, 0, 1, 9), True))
                rows = json.dumps([without_nan(row) for row in plain_skills({method: skills})])
                run.artifact("ability", None, f"{method} · seed {seed}", _text(SKILLS_FILE, rows))

    made_run(workspace, {"models": MODELS, "candidate": "msd", "languages": [FR]}, write)
    return workspace


def _text(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def told(workspace: Path) -> Any:
    ended = CliRunner().invoke(app, ["compare-methods", "--run", "last", "--json", "--workspace", str(workspace)])
    assert ended.exit_code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_every_method_has_its_figures_by_group_and_seed(made: Path) -> None:
    found = told(made)
    assert [line["method"] for line in found["methods"]] == ["base", *MODELS]
    assert found["languages"] == {"english": [EN], "other": [FR, SW], "trained": [FR], "unseen": [SW]}
    base, _, best, _ = found["methods"]
    # Of 20 harmful prompts 18 are refused, of 20 harmless ones 2.
    assert best["groups"]["unseen"]["selectivity"]["value"] == pytest.approx(18 / 20 - 2 / 20)
    assert best["groups"]["trained"]["attack_success"]["value"] == pytest.approx(2 / 20)
    assert base["groups"]["other"]["harmful_refused"]["value"] == pytest.approx(6 / 20)
    assert [seed for seed, _ in best["by_seed"]["other"]["auroc"]] == [0, 1]
    assert best["variance"] == pytest.approx(0.0)
    assert best["needs"] == ["english answers", "translated prompts"]


def test_costs_hold_those_of_the_start_and_what_nobody_counted_is_missing(made: Path) -> None:
    costs = {line["method"]: line["cost"] for line in told(made)["methods"]}
    assert costs["base"] == dict.fromkeys(("seconds", "own_seconds", "tokens", "peak_memory_bytes"))
    assert costs["msd"]["tokens"] == 500
    assert costs["msd"]["peak_memory_bytes"] == 3 * 2**30
    assert (costs["msd"]["seconds"], costs["msd"]["own_seconds"]) == (4.0, 2.0)
    assert costs["refusal-direction"]["tokens"] == 100
    assert costs["refusal-direction"]["peak_memory_bytes"] == 2**30


def test_abilities_are_means_over_seeds_and_languages(made: Path) -> None:
    found = {(one["measure"], one["group"]): one for one in told(made)["abilities"]}
    assert list(found) == [(BITS, "english"), (BITS, "other"), ("arc · acc", None)]
    assert found[BITS, "english"]["values"] == {"english-only": 2.0, "msd": 3.0}
    # French 2 and 3, Swahili 3 and 3.
    assert found[BITS, "other"]["values"] == {"english-only": 2.75, "msd": 3.75}
    # What one seed lacks is in no mean.
    assert found["arc · acc", None]["values"] == {"english-only": 0.5, "msd": 0.5}
    assert [one["higher_is_better"] for one in found.values()] == [False, False, True]


@pytest.mark.parametrize("width", [80, 140])
def test_the_tables_name_all_of_it(made: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("flows.commands.compare_methods.results._force_terminal", True)
    ended = CliRunner().invoke(app, ["compare-methods", "--run", "1", "--workspace", str(made)])
    assert ended.exit_code == 0
    for words in (
        *MODELS,
        "languages that no method saw: Swahili",
        "look",
        "translated",
        "3.0",
        "General ability",
        "3.750",
    ):
        assert words in ended.stdout, words
    assert max(map(len, ended.stdout.splitlines())) <= width
    lines = ended.stdout.splitlines()
    assert sum(line.startswith("method") and "by seed" in line for line in lines) == len(GROUPS)
    # Per cent, with the interval over prompts; both seeds are alike.
    cells = ["msd", "*", "80", "52", "to", "93", "80", "to", "80"]
    assert [line.split()[: len(cells)] for line in lines].count(cells) == len(GROUPS)
    assert "English, the anchor" in lines


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("consistency+answer", ["consistency+answer"]),
        ("consistency-by-temperature", ["consistency-by-", "temperature"]),
        ("policy-gate-permuted-labels", ["policy-gate-", "permuted-labels"]),
        ("tests.methods.of_ones_own:SLOW", ["tests.methods.of_ones_own:SLOW"]),
    ],
)
def test_a_long_name_goes_on_behind_a_hyphen(name: str, lines: list[str]) -> None:
    assert _name(name).splitlines() == lines


def test_a_run_without_one_of_its_methods_is_refused(tmp_path: Path) -> None:
    def write(run: Made) -> None:
        run.answers({("base", None, EN): BAD}, lambda name, language: name)

    made_run(tmp_path / "w", {"models": MODELS, "candidate": "msd", "languages": [FR]}, write)
    ended = CliRunner().invoke(app, ["compare-methods", "--run", "1", "--workspace", str(tmp_path / "w")])
    assert ended.exit_code == 2
    assert "did not evaluate 'english-only'" in ended.stderr


def test_what_applies_to_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    found = _applicable(load_config("smoke"))
    assert {"english-only", "consistency", "answer", "edit", "mpo", "msd", "sdrrl", "refusal-direction"} <= set(found)
    assert not [name for name in found if "shuffled" in name or "permuted" in name]
    # A gate before the policy needs no safe policy, and edits of its weights do.
    assert "policy-gate" in found
    assert not {"policy-edit", "policy-refusal-direction", "own-prompts", "english-more-steps"} & set(found)
    named = ["english-only", "english-more-steps", "tests.methods.own:SLOW"]
    assert set(_applicable(load_config("smoke", overrides={"models": named}))) == {*found, *named}
    assert not capsys.readouterr().err
    launched = {"align.launch": {"config": {"num_processes": 2, "distributed_type": "FSDP", **VERSION_2}}}
    few = _applicable(load_config("smoke", overrides={**launched, "align.answer": {"harmless": "none"}}))
    assert set(found) - set(few) == {name for name in found if "answer" in name.split("+")} > {"answer"}
    assert "answer is left out. Processes that share a model" in " ".join(capsys.readouterr().err.split())


def test_methods_that_were_set_aside_are_rows_with_their_reasons(tmp_path: Path) -> None:
    def write(run: Made) -> None:
        run.answers({(name, None, EN): BAD for name in ("base", "english-only")}, lambda name, language: name)
        run.journal.write({"set_aside": {"method": "msd", "reason": "It answers nothing."}})

    models = MODELS[:2]
    made_run(tmp_path / "w", {"models": models, "candidate": "msd", "languages": [FR]}, write)
    found = told(tmp_path / "w")
    assert [line["method"] for line in found["methods"]] == ["base", "english-only"]
    (aside,) = found["set_aside"]
    assert (aside["method"], aside["label"], aside["reason"]) == ("msd", "MSD", "It answers nothing.")
    ended = CliRunner().invoke(app, ["compare-methods", "--run", "1", "--workspace", str(tmp_path / "w")])
    assert [line.split()[:1] for line in ended.stdout.splitlines()].count(["msd"]) == 2
    assert "It answers nothing." in ended.stdout


def test_the_peak_begins_anew_with_each_block() -> None:
    facts: dict[str, Any] = {}
    with remembering_memory(facts, "cpu"):
        block = bytearray(64 * 2**20)
    large = facts[MEMORY_FACT]
    del block
    with remembering_memory(facts, "cpu"):
        pass
    assert large > 64 * 2**20
    assert facts[MEMORY_FACT] <= large


def chosen(settings: list[str], methods: str | None) -> PipelineConfig:
    return _chosen(settings, methods, lambda own: load("smoke", settings=own))


def test_a_comparison_promotes_nothing_and_takes_no_control_for_its_candidate() -> None:
    found = chosen([], "english-only,consistency,policy-gate-permuted-labels")
    assert found.registry.promoted_by == "person"
    assert found.candidate == load_config("smoke").candidate
    assert chosen([], "english-only,answer,gate-permuted-labels,gate,policy-gate-permuted-labels").candidate == "gate"
    assert chosen([], "english-only,english-more-steps").candidate == "english-only"


def test_methods_and_a_candidate_that_the_configuration_does_not_have() -> None:
    found = chosen(["candidate=gate"], "english-only,consistency,gate")
    assert (found.candidate, found.models) == ("gate", ("english-only", "consistency", "gate"))
    # What a person sets is what is compared.
    found = chosen(['models=["english-only", "answer"]', "seeds=[3]"], None)
    assert (found.models, found.seeds) == (("english-only", "answer"), (3,))
    with pytest.raises(UserError, match="both name the methods"):
        chosen(['models=["english-only"]'], "answer")
    with pytest.raises(
        UserError, match="held against 'english-only': write --methods english-only,consistency-shuffled"
    ):
        chosen([], "consistency-shuffled")
    for nothing in (",", " ", ""):
        with pytest.raises(UserError, match="names no method"):
            chosen([], nothing)


def test_a_plan_of_a_comparison_makes_nothing(tmp_path: Path) -> None:
    named = ("compare-methods", "smoke", "--methods", "english-only,answer", "--plan", "--json")
    ended = CliRunner().invoke(app, [*named, "--workspace", str(tmp_path / "w")])
    assert ended.exit_code == 0, ended.stderr
    trained = {task["subject"] for task in json.loads(ended.stdout)["tasks"] if task["stage"] == "align"}
    assert trained == {"english-only · seed 0", "answer · seed 0"}
    assert not (tmp_path / "w").exists()


def test_a_plan_of_a_run_that_is_there_is_none(made: Path) -> None:
    ended = CliRunner().invoke(app, ["compare-methods", "--run", "1", "--plan", "--workspace", str(made)])
    assert (ended.exit_code, "give one of them" in " ".join(ended.stderr.split())) == (2, True)


@pytest.mark.parametrize("more", [["--methods", "mpo"], ["--set", "align.steps=9"], ["--languages", "fr"]])
def test_a_run_that_is_there_is_shown_as_it_is(more: list[str], tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["compare-methods", "--run", "last", "--workspace", str(tmp_path), *more])
    assert ended.exit_code == 2
    assert "--run shows a run as it is" in " ".join(ended.output.split())
