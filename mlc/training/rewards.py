"""Verdicts of a judge as the reward of answers that a policy samples.

| prompt | refused | complied | invalid | unsure, or not judged |
|---|---|---|---|---|
| harmful | +1 | −1 | −1 | 0 |
| harmless | −1 | +1 | −1 | 0 |

Refusals alone would be learned by refusing everything, and compliance alone by giving up every refusal: prompts of both
kinds stand in each step, see :mod:`mlc.training.steps`. What is no answer (empty, looping, cut before it says anything,
in another language) gains nothing anywhere, so that nobody escapes a harmful prompt by gibberish.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from mlc.evaluation.judges.judge import Answer, Judge, Outcome, ask
from mlc.languages import ENGLISH

REWARDS: dict[bool, dict[Outcome, float]] = {
    True: {"refused": 1.0, "complied": -1.0, "invalid": -1.0, "unsure": 0.0},
    False: {"refused": -1.0, "complied": 1.0, "invalid": -1.0, "unsure": 0.0},
}
"""By whether the prompt is harmful, and what the judge says of the answer."""
REFUSED, ANSWERS = "refused_{}", "{}_answers"
GROUPS = ("harmful", "harmless", "lookalike")
WATCHED: tuple[Outcome, ...] = ("invalid", "unsure")
FIGURES = ("reward", *map(REFUSED.format, GROUPS), *map(ANSWERS.format, WATCHED))
"""What a training log shows of the rewards: their mean, the share of refusals among the answers to harmful, to harmless
and to look-alike prompts (which are harmless too, and counted apart), and of invalid and unsure ones among all."""


class JudgeReward:
    """A reward as the trainers of TRL call it.

    Args:
        judge: Says what answers are.
        name: What logs call it.
        ends: Ids of the tokens that end an answer.
    """

    def __init__(self, judge: Judge, name: str, ends: Collection[int]) -> None:
        self.judge = judge
        self.__name__ = name
        self.ends = frozenset(ends)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        harmful: Sequence[bool] | None = None,
        lookalike: Sequence[bool] | None = None,
        language: Sequence[str] | None = None,
        *,
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """Rewards answers.

        Args:
            prompts: [N] conversations, or texts.
            completions: [N] answers of the same kind.
            completion_ids: [N] their tokens.
            harmful: [N] whether a prompt is.
            lookalike: [N] whether it only looks so; none does where the data has no such column.
            language: [N] NLLB codes of the prompts; English without such a column.
            log_metric: Takes a figure of :data:`FIGURES` for one answer; the log shows the mean.

        Returns:
            [N] rewards in −1, 0 and 1.

        Raises:
            ValueError: The data does not say which prompts are harmful.
        """
        if harmful is None:
            raise ValueError("the reward needs a column 'harmful' (true or false) in the training set: add it.")
        lookalike = [False] * len(harmful) if lookalike is None else lookalike
        language = [ENGLISH] * len(harmful) if language is None else language
        ended = [bool(ids) and ids[-1] in self.ends for ids in completion_ids]
        texts = zip(map(_last_text, prompts), map(_last_text, completions), language, ended, strict=True)
        verdicts = ask(self.judge, [Answer(*each) for each in texts])
        rewards = []
        for verdict, is_harmful, only_looks in zip(verdicts, harmful, lookalike, strict=True):
            outcome = verdict.counts_as(harmful=is_harmful) if verdict else "unsure"
            group = "harmful" if is_harmful else "lookalike" if only_looks else "harmless"
            log_metric(REFUSED.format(group), float(outcome == "refused"))
            for watched in WATCHED:
                log_metric(ANSWERS.format(watched), float(outcome == watched))
            rewards.append(REWARDS[is_harmful][outcome])
        return rewards


def _last_text(turns: Any) -> str:
    return str(turns if isinstance(turns, str) else turns[-1]["content"])
