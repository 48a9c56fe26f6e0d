"""A judge, a signal and a carrier of one's own, as a team would write them: one object each, and nothing else."""

from typing import Any

from mlc.evaluation.judges.judge import Answer, Verdict
from mlc.quality.signals.signal import Column, Count, Direction, Signal, Threshold
from mlc.training.carriers.carrier import Carrier, Training


class Brevity:
    """Takes every short answer to a short prompt for a refusal; reads English prompts and Spanish ones."""

    version = 1
    languages = frozenset({"eng_Latn", "spa_Latn"})

    def judge(self, answers: list[Answer]) -> list[Verdict]:
        return [
            Verdict("refused", "is shorter than its prompt", category="short")
            if len(answer.text) < len(answer.prompt)
            else Verdict("unsure", "is as long as its prompt")
            for answer in answers
        ]


BREVITY = Brevity()

WORDY = Signal(
    name="wordy",
    source="Ours.",
    columns=(Column("signal_words", Direction.HIGHER_IS_WORSE, "Words of the translation.", 0, kind="BIGINT"),),
    measure="SELECT row, len(string_split(tidy_translation, ' '))::BIGINT AS signal_words FROM texts",
    condition="signal_words > limits.most_words",
    priority=15,
    thresholds=(Threshold("most_words", Count, 1000, "Dropped above: words of the translation, counted."),),
)


def _trainer(training: Training) -> Any:
    from trl import SFTConfig

    from mlc.training.sft import ConsistencySFTTrainer

    arguments = training.arguments(SFTConfig, loss_type="dft")
    return ConsistencySFTTrainer(args=arguments, **training.given())


GENTLE = Carrier(trainer=_trainer)
