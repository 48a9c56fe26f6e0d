"""What the script that breaks code finds to break, and whether it tells a break that is seen from one that is not."""

import ast
from pathlib import Path

import pytest

from mlc.errors import UserError
from tests import addresses, forked, mutants, privileges
from tests.mutants import Mutant, Verdict, area_of, computing_files, draw, line_of, sites_of

SOURCE = '''
"""Text that computes nothing."""
import logging

logger = logging.getLogger(__name__)
LIMIT: int = 3


def share(kept: int, total: int = 10) -> float:
    """How many."""
    logger.info("nothing to see at %d", 1)
    if not total or kept > LIMIT:
        raise ValueError("at least 1 and " + "more")
    seen = []
    seen.append(kept)
    return kept / total
'''


def broken(source):
    found = [site.mutant(source) for site in sites_of("mlc/some.py", source)]
    return {(mutant.line, mutant.kind, mutant.before, mutant.after) for mutant in found if mutant is not None}


def test_each_kind_of_break():
    assert broken(SOURCE) == {
        (6, "constant", "3", "4"),
        (9, "constant", "10", "11"),
        (12, "condition", "not total or kept > LIMIT", "not total and kept > LIMIT"),
        (12, "condition", "not total", "total"),
        (12, "comparison", "kept > LIMIT", "kept >= LIMIT"),
        (15, "deleted", "seen.append(kept)", "pass"),
        (16, "return value", "return kept / total", "return None"),
        (16, "arithmetic", "kept / total", "kept * total"),
    }


def test_a_break_is_one_change_of_the_module():
    for site in sites_of("mlc/some.py", SOURCE):
        mutant = site.mutant(SOURCE)
        assert mutant is not None
        changed = [
            number
            for number, (one, two) in enumerate(zip(SOURCE.splitlines(), mutant.source.splitlines(), strict=True), 1)
            if one != two
        ]
        assert changed == [mutant.line]
        ast.parse(mutant.source)


def test_every_module_that_computes_has_tests():
    files = computing_files()
    assert "mlc/losses/consistency.py" in files
    assert not any(path.startswith(("mlc/store", "tasks/runtime")) for path in files)
    assert {area_of(path) for path in files} == set(mutants.AREAS)
    assert all((mutants.PROJECT / test).exists() for tests in mutants.AREAS.values() for test in tests)


def test_the_draw_repeats_and_takes_the_areas_in_turn():
    areas = ["mlc/losses", "mlc/models"]
    drawn = draw(6, 1, areas)
    assert [one.source for one in draw(6, 1, areas)] == [one.source for one in drawn]
    assert [one.area for one in drawn] == areas * 3
    assert len({(one.path, one.line) for one in drawn}) == 6
    assert [one.source for one in draw(6, 2, areas)] != [one.source for one in drawn]


@pytest.mark.parametrize(("after", "end"), [("text.strip()", "caught"), ("text.strip().lower()", "survived")])
def test_a_break_is_judged_by_the_tests_that_reach_it(tmp_path, monkeypatch, after, end):
    (tmp_path / "mlc" / "losses").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    for package in ("mlc", "mlc/losses", "tests"):
        (tmp_path / package / "__init__.py").touch()
    whole = "def name(text):\n    return text.lower().strip()\n"
    (tmp_path / "mlc" / "losses" / "some.py").write_text(whole)
    (tmp_path / "tests" / "test_some.py").write_text(
        "from mlc.losses.some import name\n\ndef test_name():\n    assert name(' A ') == 'a'\n"
    )
    monkeypatch.setitem(mutants.AREAS, "mlc/losses", ("tests/test_some.py",))
    monkeypatch.setattr(mutants, "LIBRARIES", ())
    for module in (forked, addresses, privileges):
        (tmp_path / "tests" / Path(module.__file__).name).write_text(Path(module.__file__).read_text())
    mutant = Mutant("mlc/losses/some.py", 2, "kind", "a", "b", whole.replace("text.lower().strip()", after))
    with mutants.testing(tmp_path, tmp_path) as tests:
        verdict = mutants.judge(mutant, tmp_path, tests, full=False)
    assert verdict.end == end
    assert verdict.test == ("tests/test_some.py::test_name" if end == "caught" else "")
    assert (tmp_path / "mlc" / "losses" / "some.py").read_text() == whole


def test_tests_that_cannot_run_prove_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "LIBRARIES", ())
    for folder in ("mlc", "tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    for module in (forked, addresses, privileges):
        (tmp_path / "tests" / Path(module.__file__).name).write_text(Path(module.__file__).read_text())
    (tmp_path / "mlc" / "some.py").write_text("")
    mutant = Mutant("mlc/some.py", 1, "kind", "a", "b", "")
    with mutants.testing(tmp_path, tmp_path) as tests, pytest.raises(UserError, match="because no tests ran"):
        mutants.judge(mutant, tmp_path, tests, full=False)


def test_a_row_of_the_table():
    mutant = Mutant("mlc/some.py", 7, "comparison", "a | b", "a & b", "")
    assert line_of(mutant, {"default": Verdict("caught", 1.0, "")}) == (
        "| mlc/some.py:7 | comparison | `a \\| b` → `a & b` | caught | – |"
    )
