import re

import pytest
import yaml

from mlc.report.card import model_card
from mlc.report.wording import interval, number


def card_of(make_data, **changes):
    settings = {
        "policy": "owner/model-1b",
        "translator": "shipped:nano",
        "licence of the policy": "apache-2.0 (by model card)",
        "licence of the translator": "cc-by-nc-4.0 (by its name)",
        "consistency form": "cosine",
    }
    return model_card(make_data(("eng_Latn", "spa_Latn", "swh_Latn"), (0,), settings={**settings, **changes}))


def test_the_head_is_what_the_hub_reads(make_data):
    _, head, body = card_of(make_data).split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["language"] == ["en", "es", "sw"]
    assert facts["license"] == "apache-2.0"
    assert facts["base_model"] == "owner/model-1b"
    assert body.count("\n## ") == 6


def test_the_card_has_figures_licences_methods_and_limits(make_data):
    text = card_of(make_data)
    assert "- translator (shipped:nano): cc-by-nc-4.0 (by its name)" in text
    assert "May not be released, by the policy strict" in text
    assert "- not kept: Over-refusal − champion ≤ 0.05 (95 %): worst: Swahili" in text
    assert "Trained on translations into: Spanish." in text
    assert "- consistency form: cosine" in text
    assert "were translated by machine" not in text
    summary = next(
        result.summary
        for result in make_data(("eng_Latn", "spa_Latn", "swh_Latn"), (0,)).results
        if (result.summary.model, result.summary.language) == ("consistency", "swh_Latn")
    )
    row = re.search(r"^\| Swahili \| ([^|]+) \|", text, re.MULTILINE).group(1)
    assert row.startswith(f"{number(summary.selectivity.value)} [")
    assert row.endswith(f"n {summary.selectivity.n}")
    assert interval(summary.selectivity)


def test_an_unnamed_base_is_no_hub_id(make_data):
    head = yaml.safe_load(card_of(make_data, policy="shipped:tiny").split("---\n")[1])
    assert "base_model" not in head


def test_a_card_needs_a_candidate(make_data):
    with pytest.raises(ValueError, match="candidate"):
        model_card(make_data(compared=None))
