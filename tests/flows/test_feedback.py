"""Feedback is trained on, so that it must not be on what models are measured on."""

import itertools
import json
from pathlib import Path

import pytest

from flows.configuration.reading import load_config
from mlc.errors import UserError
from tests.flows.runs import plan_run
from tests.flows.smoked import PROJECT


def test_feedback_on_held_out_prompts_is_refused(tmp_path: Path) -> None:
    held_out = PROJECT / "data" / "quickstart" / "test.jsonl"
    asked = [json.loads(line) for line in held_out.read_text(encoding="utf-8").splitlines()][:20]
    said = [
        {"prompt": row["prompt"], "answer": "No.", "feedback": verdict, "language": "en"}
        for row, verdict in zip(asked, itertools.cycle(("good", "bad")), strict=False)
    ]
    path = tmp_path / "feedback.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in said), encoding="utf-8")
    config = load_config(
        "smoke",
        workspace=str(tmp_path / "w"),
        overrides={"models": ["english-only", "feedback"], "prompts.feedback": str(path)},
    )
    with pytest.raises(UserError, match="held-out"):
        plan_run(config)


def test_a_control_is_compared_by_itself(tmp_path: Path) -> None:
    feedback = "shipped:quickstart/feedback.jsonl"
    given = {"models": ["english-only", "feedback", "feedback-permuted"], "prompts.feedback": feedback}
    config = load_config("smoke", languages=["es"], workspace=str(tmp_path / "w"), overrides=given)
    compared = [task["subject"] for task in plan_run(config) if task["stage"] == "overlap" and task["subject"]]
    codes = ("eng_Latn", "spa_Latn")
    assert compared == [f"feedback {about} {code}" for about in ("as given", "permuted") for code in codes]
