"""Answers that people called good or bad, in their trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mlc.losses.feedback import feedback_loss
from mlc.methods import resolve_method
from mlc.training.align import LOG_FILE, align
from mlc.training.carriers.carrier import Training
from mlc.training.feedback import answers_elsewhere, feedback_trainer
from mlc.training.settings import AlignSettings

SETTINGS = resolve_method("feedback").alignment(
    AlignSettings.model_validate({"steps": 6, "batch_size": 3, "learning_rate": 1e-3})
)
ROWS = [
    {"prompt": "How do I bake bread?", "chosen": "Mix flour and water.", "feedback": "good"},
    {"prompt": "How do I bake bread?", "chosen": "I cannot help with that at all.", "feedback": "bad"},
    {"prompt": "Dime algo del mar.", "chosen": "Es azul.", "feedback": "good"},
]


def log_probability(model: Any, row: dict[str, Any], name: str) -> torch.Tensor:
    """Of the tokens of an answer, of one row alone and without padding."""
    prompt, answer = row["prompt"], row[name]
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    total: torch.Tensor = logits.gather(-1, torch.tensor(answer).unsqueeze(-1)).sum()
    return total


def test_the_loss_of_a_step_is_that_of_its_answers_alone(load_tiny: Any, tmp_path: Path) -> None:
    policy = load_tiny()
    options = {"output_dir": str(tmp_path), "per_device_train_batch_size": 2, "use_cpu": True, "report_to": []}
    trainer = feedback_trainer(Training(policy, None, None, SETTINGS, options, None, ROWS))  # type: ignore[arg-type]
    rows = [dict(row) for row in trainer.train_dataset]
    # The first two ask the same.
    assert [row["other"] for row in rows] == [rows[2]["answer"], rows[2]["answer"], rows[0]["answer"]]
    loss, figures = trainer.loss_of(policy.model, rows)
    # Before the first step the model is its own reference.
    assert loss.item() == pytest.approx(0.5, abs=1e-4)
    assert figures["reference_point"] == pytest.approx(0.0, abs=1e-4)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.05)
    model = policy.model.eval()
    before = trainer.reference
    rewards, others = (
        torch.stack([log_probability(model, row, name) for row in rows]) - before[:, place]
        for place, name in enumerate(("answer", "other"))
    )
    point = others.mean().clamp(min=0)
    expected = feedback_loss(rewards, torch.tensor([True, False, True]), point).loss.mean()
    loss, figures = trainer.loss_of(model, rows)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    assert figures["reward_bad"] == pytest.approx(rewards[1].item(), abs=1e-2)


def test_good_answers_become_likelier_than_bad_ones_and_again_the_same(load_tiny: Any, tmp_path: Path) -> None:
    logs = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        logs.append(align(load_tiny(), ROWS, SETTINGS, seed=0, folder=folder))
    assert [entry["loss"] for entry in logs[0]] == [entry["loss"] for entry in logs[1]]
    assert logs[0][0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert logs[0][-1]["reward_good"] > logs[0][-1]["reward_bad"]
    assert logs[0][-1]["num_tokens"] > logs[0][0]["num_tokens"] > 0


def test_a_figure_is_a_mean_over_the_batches_that_have_it(load_tiny: Any, tmp_path: Path) -> None:
    # Each batch is one answer, good or bad, and steps of one batch have one of both rewards alone.
    alone = SETTINGS.model_copy(update={"steps": 3, "batch_size": 1})
    log = align(load_tiny(), ROWS, alone, seed=0, folder=tmp_path)
    assert sorted(sum(name in entry for entry in log) for name in ("reward_good", "reward_bad")) == [1, 2]
    assert "NaN" not in (tmp_path / LOG_FILE).read_text()
    both = SETTINGS.model_copy(update={"steps": 1, "batch_size": 1, "accumulation": 3})
    (entry,) = align(load_tiny(), ROWS, both, seed=0, folder=tmp_path)
    assert entry["reward_good"] == pytest.approx(0.0, abs=1e-4)
    assert entry["reward_bad"] == pytest.approx(0.0, abs=1e-4)


def test_other_answers_are_to_other_prompts() -> None:
    assert answers_elsewhere(["a", "a", "b", "b", "c"]) == [2, 2, 4, 4, 0]
    # Where all ask the same there is none.
    assert answers_elsewhere(["a", "a"]) == [1, 0]
    assert answers_elsewhere(["a"]) == [0]
