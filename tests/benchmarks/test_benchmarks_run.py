import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import BENCHMARKS
from tests.benchmarks.__main__ import main
from tests.benchmarks.measuring import Turns, alternate, ratio, require_agreement

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize(
    "names", [("loss", "store"), pytest.param(tuple(BENCHMARKS), id="all", marks=pytest.mark.full)]
)
def test_benchmarks_print_their_figures(names):
    ended = run("--quick", *names)
    assert ended.returncode == 0, ended.stderr
    figures = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {figure["benchmark"] for figure in figures} == set(names)
    assert len({(figure["benchmark"], figure["figure"]) for figure in figures}) == len(figures)
    for figure in figures:
        assert set(figure) == {"benchmark", "figure", "value", "unit", "detail"}
        assert figure["unit"] == ("share" if figure["benchmark"] == "quality" else "ratio")
        assert figure["unit"] == "share" or 0 < figure["value"] < float("inf")
        assert figure["detail"]["min"] <= figure["value"] <= figure["detail"]["max"]


def test_every_benchmark_can_be_loaded():
    for name in BENCHMARKS:
        assert callable(importlib.import_module(f"tests.benchmarks.{name}").run)


def test_every_module_is_listed():
    helpers = {"__init__", "__main__", "measuring", "models"}
    modules = {path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("test_")}
    assert modules - helpers == set(BENCHMARKS)


def test_unknown_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "lost"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert "there is no benchmark 'lost': choose from loss, states" in told.err
    assert told.out == ""


def test_works_take_turns_and_every_second_round_is_reversed():
    calls = []
    turns = alternate([lambda: calls.append("a"), lambda: calls.append("b")], rounds=3, repeats=2)
    assert "".join(calls) == "aabb" + "bbaa" + "aabb"
    assert [(len(turn.wall), len(turn.cpu)) for turn in turns] == [(3, 3), (3, 3)]


def test_the_ratio_is_the_median_over_the_rounds():
    above, below = Turns(wall=[2, 9, 8], cpu=[1, 1, 5]), Turns(wall=[1, 1, 2], cpu=[2, 1, 1])
    figure = ratio("a", "b", "c / d", above, below, rows=5)
    # Quotients 2, 9, 4: their median is not the quotient of the median times, 8 / 1.
    assert figure.value == 4
    assert figure.detail == {"means": "c / d", "min": 2, "max": 9, "cpu": 1, "rounds": 3, "rows": 5}
    assert json.loads(figure.to_json())["value"] == 4
    added = ratio("a", "b", "c / d", above, below, quotient=lambda longer, shorter: longer / shorter - 1)
    assert added.value == 3


@pytest.mark.parametrize("difference", [0.2, float("nan")])
def test_ways_that_disagree_are_not_compared(difference):
    require_agreement("margins", 0.1, 0.1)
    with pytest.raises(RuntimeError, match="margins differ by"):
        require_agreement("margins", difference, 0.1)
