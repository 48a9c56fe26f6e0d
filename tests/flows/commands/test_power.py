"""`mlc power` as a person runs it."""

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mlc.evaluation.paired import difference_shown, prompts_needed


def power(*arguments):
    return CliRunner().invoke(app, ["power", *arguments])


def test_the_table():
    lines = power("5", "15", "--prompts", "234").stdout.splitlines()
    assert lines[1].split() == ["5", *(f"{prompts_needed(0.05, share):,}" for share in (0.1, 0.2, 0.3, 0.5))]
    # More than the prompts that differ cannot be.
    assert lines[2].split()[:2] == ["15", "–"]
    assert lines[3].split()[:2] == ["234", "prompts"]
    assert lines[3].split()[-2:] == [f"{100 * difference_shown(234, 0.5):.1f}", "points"]


def test_json():
    told = json.loads(power("10", "--differ", "30", "--prompts", "234", "--power", "90", "--json").stdout)
    assert told["power"] == 0.9
    assert told["needed"] == [{"difference": 0.1, "differ": 0.3, "prompts": prompts_needed(0.1, 0.3, 0.9)}]
    assert told["shown"] == [{"differ": 0.3, "prompts": 234, "difference": difference_shown(234, 0.3, 0.9)}]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["0"], "'0'"), (["many"], "'many'"), (["5", "--differ", "101"], "'101.0'"), (["5", "--power", "100"], "'100.0'")],
)
def test_what_is_no_share_is_refused(arguments, named):
    ended = power(*arguments)
    assert ended.exit_code == 2
    assert named in ended.stderr
