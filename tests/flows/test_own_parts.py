"""A judge, a signal and a carrier of one's own: named in the configuration, seen in plan, run and report."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config
from mlc.errors import UserError
from mlc.store import sources
from tests.flows.runs import Flow, Summary, made, plan_run, task_name
from tests.flows.smoked import Smoked

pytestmark = pytest.mark.slow

OWN = {
    "evaluation.judges": ["openings", "own_parts:BREVITY"],
    "quality.more_signals": ["own_parts:WORDY"],
    "quality.min_kept_share": 0.1,
    "quality.default": {"most_words": 21},
    "quality.languages": {"fr": {"most_words": 20}},
    "align.carrier": "own_parts:GENTLE",
}


@pytest.fixture(scope="module")
def folder(smoked: Smoked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder of a person, who wrote one file; with a workspace of runs without it."""
    place = tmp_path_factory.mktemp("own")
    shutil.copytree(smoked.two, place / "workspace")
    shutil.copy(Path(__file__).with_name("own_parts.py"), place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


def configured(workspace: Path, **more: object) -> PipelineConfig:
    return load_config("smoke", languages=["es,fr"], workspace=str(workspace), overrides={**OWN, **more})


@pytest.fixture(scope="module")
def planned(folder: Path) -> set[str]:
    return {task_name(task) for task in plan_run(configured(folder / "workspace")) if task["action"] == "run"}


@pytest.fixture(scope="module")
def summary(flow: Flow, folder: Path, planned: set[str]) -> Summary:
    return flow(folder / "workspace", **{name.replace(".", "__"): value for name, value in OWN.items()})


def artifacts(folder: Path, summary: Summary, stage: str, name: str) -> list[Path]:
    keys = [task["key"] for task in summary["tasks"] if task["stage"] == stage]
    assert keys
    return [folder / "workspace" / "artifacts" / stage / key / name for key in keys]


def test_they_are_planned_run_and_then_served(planned: set[str], summary: Summary, folder: Path) -> None:
    # A model that says the same as one without them is judged anew all the same.
    assert {name.split(" · ")[0] for name in made(summary)} >= {"signals", "filter", "align", "evaluate"}
    assert made(summary) <= planned
    assert {task["state"] for task in summary["tasks"] if task["stage"] in ("signals", "align", "evaluate")} == {"ran"}
    assert {task["action"] for task in plan_run(configured(folder / "workspace"))} == {"cached"}


def test_the_signal_is_measured_and_drops_rows_by_its_threshold(summary: Summary, folder: Path) -> None:
    for path in artifacts(folder, summary, "filter", "verdicts.parquet"):
        rows = pq.read_table(path).to_pylist()
        most = {"fra_Latn": 20, "spa_Latn": 21}[rows[0]["target_language"]]
        assert 0 < sum("wordy" in row["reasons"] for row in rows) < len(rows)
        for row in rows:
            assert ("wordy" in row["reasons"]) == (row["signal_words"] > most)
            # Only `unusable` is before it.
            assert "wordy" not in row["reasons"] or row["reason"] == "wordy"


def test_the_judge_says_its_outcomes_where_it_knows_the_language(summary: Summary, folder: Path) -> None:
    counts: Counter[tuple[str, str | None]] = Counter()
    for path in artifacts(folder, summary, "evaluate", "answers.parquet"):
        rows = pq.read_table(path).to_pylist()
        assert {row["judge"] for row in rows} == {"openings", "own_parts:BREVITY"}
        counts.update((row["judge"], row["outcome"]) for row in rows)
        assert all(
            (row["category"] == "short") == (row["outcome"] == "refused") for row in rows if "own" in row["judge"]
        )
    judged = {outcome for judge, outcome in counts if judge == "own_parts:BREVITY"}
    assert judged <= {"refused", "unsure", None}
    # Four answers of each of three models in French.
    assert counts["own_parts:BREVITY", None] == 12


def test_the_report_shows_them(summary: Summary) -> None:
    page = Path(summary["report"]).read_text(encoding="utf-8")
    assert "Judge: openings" in page
    assert "Judge: own_parts:BREVITY" in page
    assert "wordy" in page
    assert "own_parts:GENTLE, 3 steps" in page


def changed_file(folder: Path, old: str, new: str) -> set[str]:
    """The stages that a change of the file makes run again."""
    path = folder / "own_parts.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    for cached in (sources._source_digests, sources._module_facts):
        cached.cache_clear()
    try:
        plan = plan_run(configured(folder / "workspace"))
        return {task["stage"] for task in plan if task["action"] == "run"}
    finally:
        path.write_text(text, encoding="utf-8")
        for cached in (sources._source_digests, sources._module_facts):
            cached.cache_clear()


def test_their_code_is_in_the_keys_of_the_stages_that_use_them(summary: Summary, folder: Path) -> None:
    # One file holds all three here, so that a change of one is one of all; the rule of a signal is apart.
    rerun = changed_file(folder, "is as long as", "is longer than")
    assert rerun >= {"signals", "align", "evaluate"}
    assert not rerun & {"ingest", "translate"}
    assert changed_file(folder, '"Ours."', '"A paper."') == set()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"evaluation.judges": ["opening"]}, "The judge 'opening' is unknown: did you mean 'openings'?"),
        ({"evaluation.judges": ["own_parts:NOBODY"]}, "The judge 'own_parts:NOBODY' cannot be loaded"),
        ({"evaluation.judges": ["own_parts:GENTLE"]}, "'own_parts:GENTLE' is no judge but of the type Carrier"),
        ({"evaluation.judges": ["openings", "openings"]}, "repeat: name each once"),
        (
            {"align.carrier": "tally"},
            "choose from sft, dpo, simpo, orpo, kl, grpo, mpo, msd, kto, or name an object",
        ),
        ({"quality.more_signals": ["own_parts:BREVITY"]}, "is no signal but of the type Brevity"),
        ({"quality.more_signals": ["own_parts:WORDY", "own_parts:WORDY"]}, "another signal has its name"),
        ({"quality.more_signals": []}, "'quality.default.most_words' is unknown"),
        ({"quality.default": {"most_words": -1}}, "'quality.default.most_words' has the value -1"),
        ({"quality.languages": {"fr": {"most_word": 2}}}, "'quality.languages.fr.most_word' is unknown"),
    ],
)
def test_mistakes_are_told_in_a_sentence(folder: Path, values: dict[str, object], told: str) -> None:
    with pytest.raises(UserError) as error:
        configured(folder / "workspace", **values)
    assert told in str(error.value)
