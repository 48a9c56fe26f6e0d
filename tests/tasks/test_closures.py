"""What the code of each stage depends on: enough, and nothing that would rerun it for no reason."""

import pytest

from mlc.store.sources import source_digests


@pytest.mark.parametrize(
    ("stage", "needs", "spared"),
    [
        (
            "translate",
            "mlc.translation.engines.seq2seq",
            ("mlc.quality", "mlc.training", "mlc.evaluation", "mlc.report"),
        ),
        ("signals", "mlc.quality.filtering", ("mlc.translation", "mlc.training", "mlc.models", "mlc.evaluation")),
        ("filter", "mlc.quality.filtering", ("mlc.translation", "mlc.training", "mlc.models", "mlc.evaluation")),
        ("dataset", "tasks.dataset", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.models")),
        ("align", "mlc.losses.consistency", ("mlc.quality", "mlc.translation", "mlc.evaluation", "mlc.report")),
        ("edit", "mlc.editing.solve", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.losses", "mlc.report")),
        ("merge", "mlc.editing.apply", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.losses", "mlc.report")),
        ("generate", "mlc.evaluation.scoring", ("mlc.quality", "mlc.training", "mlc.report", "mlc.evaluation.judges")),
        (
            "evaluate",
            "mlc.evaluation.judges.openings",
            ("mlc.quality", "mlc.translation", "mlc.training", "mlc.models"),
        ),
        ("report", "mlc.report.page", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.models")),
        ("promote", "mlc.evaluation.gate", ("mlc.quality", "mlc.translation", "mlc.training", "mlc.report")),
    ],
)
def test_stage_depends_on_its_own_part_of_the_library(stage: str, needs: str, spared: tuple[str, ...]) -> None:
    found = source_digests(f"tasks.{stage}")
    assert f"{needs.replace('.', '/')}.py" in found
    assert [name for name in found if name.replace("/", ".").startswith(spared)] == []


def test_sql_and_tables_of_the_filter_count() -> None:
    found = source_digests("tasks.filter")
    assert any(name.endswith(".sql") for name in found)
    assert any(name.endswith("length_ratios.csv") for name in found)
