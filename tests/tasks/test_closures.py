"""What the code of each stage depends on: enough, and nothing that would rerun it for no reason."""

import ast
from pathlib import Path

import pytest

from mlc.store.sources import RESOURCE_SUFFIXES, source_digests

ROOT = Path(__file__).parents[2]
JUDGING = tuple(f"mlc.evaluation.{part}" for part in ("judges", "engines", "settings", "scoring", "metrics", "suite"))
APART = ("mlc.translation", "mlc.training", "mlc.models", "mlc.evaluation")


@pytest.mark.parametrize(
    ("stage", "needs", "spared"),
    [
        (
            "translate",
            "mlc.translation.engines.seq2seq",
            ("mlc.quality", "mlc.training", "mlc.evaluation", "mlc.report", "mlc.models.loading", "mlc.models.states"),
        ),
        ("signals", "mlc.quality.measuring.tables", ("mlc.quality.deciding", "mlc.quality.calibration", *APART)),
        ("filter", "mlc.quality.deciding", ("mlc.quality.measuring", *APART)),
        ("dataset", "tasks.dataset", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.models")),
        ("align", "mlc.training.align", ("mlc.quality", "mlc.translation", *JUDGING, "mlc.report")),
        ("edit", "mlc.editing.solve", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.losses", "mlc.report")),
        ("merge", "mlc.editing.apply", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.losses", "mlc.report")),
        ("generate", "mlc.evaluation.scoring", ("mlc.quality", "mlc.training", "mlc.report", "mlc.evaluation.judges")),
        (
            "evaluate",
            "mlc.evaluation.judges.judge",
            ("mlc.evaluation.judges.openings", "mlc.quality", "mlc.translation", "mlc.training", "mlc.models"),
        ),
        ("report", "mlc.report.page", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.models")),
        ("promote", "mlc.evaluation.gate.deciding", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.report")),
    ],
)
def test_stage_depends_on_its_own_part_of_the_library(stage: str, needs: str, spared: tuple[str, ...]) -> None:
    found = source_digests(f"tasks.{stage}")
    assert f"{needs.replace('.', '/')}.py" in found
    assert [name for name in found if name.replace("/", ".").startswith(spared)] == []


def test_sql_and_tables_count_where_they_are_read() -> None:
    measuring, deciding = source_digests("tasks.signals"), source_digests("tasks.filter")
    tables = {name for name in {**measuring, **deciding} if not name.endswith(".py")}
    assert {name for name in tables if name in measuring} >= {
        f"mlc/quality/measuring/{name}" for name in ("prepare.sql", "centres.sql", "length_ratios.csv")
    }
    assert {name for name in tables if name in deciding} == {"mlc/quality/calibration/quality_model.json"}


@pytest.mark.parametrize(
    ("stage", "module", "needs", "spared"),
    [
        ("signals", "mlc.quality.signals.language", "mlc.text.identification", ("mlc.quality.deciding",)),
        ("evaluate", "mlc.evaluation.judges.openings", "mlc.evaluation.judges.openings", ()),
        ("align", "mlc.training.carriers.sft", "mlc.training.sft", ("mlc.training.kl", "mlc.training.dpo")),
        (
            "align",
            "mlc.training.carriers.grpo",
            "mlc.training.rewards",
            ("mlc.training.sft", "mlc.evaluation.judges.r"),
        ),
        ("align", "mlc.training.carriers.kl", "mlc.losses.consistency", ("mlc.training.sft", "mlc.training.orpo")),
    ],
)
def test_what_is_chosen_by_name_counts_and_nothing_beside_it(
    stage: str, module: str, needs: str, spared: tuple[str, ...]
) -> None:
    found = source_digests(f"tasks.{stage}", module)
    assert f"{needs.replace('.', '/')}.py" in found
    assert [name for name in found if name.replace("/", ".").startswith(spared)] == []


def test_no_computing_code_reads_a_default_of_settings() -> None:
    """Fields of settings are in no digest, because a stage puts their values into its key."""
    # The first is given its settings by the stage, the second serves a command, the third only tries a method.
    given_by_others = {"mlc/translation/engines/seq2seq.py", "mlc/editing/folders.py", "mlc/methods/sound.py"}
    found = {
        path.relative_to(ROOT).as_posix()
        for root in ("mlc", "tasks")
        for path in (ROOT / root).rglob("*.py")
        if path.name != "settings.py" and "making" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Settings")
        if not node.args and not node.keywords
    }
    assert found == given_by_others


def test_no_computing_code_is_found_by_its_name() -> None:
    """What is imported by a name that a program makes is in no closure; packages that load late are looked at below.

    Of what is chosen from the catalogue, stages name the modules. Libraries are in keys by their versions.
    """
    found = {
        path.relative_to(ROOT).as_posix()
        for root in ("mlc", "tasks")
        for path in (ROOT / root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute)
        and (node.id if isinstance(node, ast.Name) else node.attr) in ("import_module", "__import__", "iter_modules")
    }
    assert found == {
        "mlc/catalogue.py",
        "mlc/editing/__init__.py",
        "mlc/pipeline.py",
        "mlc/training/__init__.py",
        "tasks/runtime/libraries.py",
    }


def test_every_file_beside_the_modules_counts() -> None:
    beside = [path for root in ("mlc", "tasks") for path in (ROOT / root).rglob("*") if path.is_file()]
    assert {path.suffix for path in beside if "__pycache__" not in path.parts} <= {".py", *RESOURCE_SUFFIXES}


def test_no_computing_code_imports_from_a_package_that_loads_its_names_late() -> None:
    """Such an import hides from the key which module computes."""
    late = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "mlc").rglob("__init__.py")
        if "def __getattr__" in path.read_text(encoding="utf-8")
    }
    assert late >= {"mlc.editing", "mlc.training"}
    found = [
        (path.relative_to(ROOT).as_posix(), node.lineno)
        for root in ("mlc", "tasks")
        for path in (ROOT / root).rglob("*.py")
        if path.name != "__init__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in late
    ]
    assert found == []


def test_what_is_listed_to_be_chosen_is_in_no_key() -> None:
    """So that a judge, a signal or a carrier more changes no artifact that does not use it."""
    for path in (ROOT / "tasks").glob("*.py"):
        assert "mlc/catalogue.py" not in source_digests(f"tasks.{path.stem}")
