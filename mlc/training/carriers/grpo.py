"""Group relative policy optimisation: the policy's own answers, with a judge's verdicts as reward."""

import copy
import logging
from dataclasses import replace
from typing import Any

from mlc.evaluation.choosing import choose
from mlc.training.carriers.carrier import Carrier, Training

logger = logging.getLogger(__name__)


def _trainer(training: Training) -> Any:
    from trl import GRPOConfig

    from mlc.training.grpo import ConsistencyDealtGRPOTrainer
    from mlc.training.rewards import JudgeReward
    from mlc.training.steps import balanced_steps

    align, dataset = training.settings, training.dataset
    settings = align.grpo
    (chosen,) = choose((settings.judge,))
    known = chosen.judge.languages
    if unknown := sorted(set(dataset["language"]) - (known or set(dataset["language"]))):
        raise ValueError(f"the judge {chosen.label} of align.grpo.judge may not be asked about {unknown[0]}.")
    harmful, lookalike = list(dataset["harmful"]), list(dataset["lookalike"])
    if settings.lookalike_share and not any(lookalike):
        logger.warning(
            "No harmless training prompt has the kind lookalike, so that refusals of those that only look harmful cost "
            "nothing in training: add some, or set align.grpo.lookalike_share to 0."
        )
    dealt = balanced_steps(
        harmful,
        lookalike,
        steps=align.steps,
        prompts=align.batch_size * align.accumulation,
        harmless_share=settings.harmless_share,
        lookalike_share=settings.lookalike_share,
        seed=training.options["seed"],
    )
    # Prompts and answers have limits of their own here, and a batch is counted in answers.
    options = {name: value for name, value in training.options.items() if name != "max_length"}
    options["per_device_train_batch_size"] *= settings.num_generations
    arguments = replace(training, options=options).arguments(
        GRPOConfig,
        num_generations=settings.num_generations,
        max_completion_length=settings.max_completion_length,
        temperature=settings.temperature,
        beta=settings.beta,
        epsilon=settings.epsilon,
        shuffle_dataset=False,
    )
    # Beside an adapter the reference is the policy without the adapter.
    copied = settings.beta and align.adapter is None
    return ConsistencyDealtGRPOTrainer(
        args=arguments,
        reward_funcs=JudgeReward(chosen.judge, chosen.label, training.policy.stop_tokens),
        dealt=dealt,
        ref_model=copy.deepcopy(training.policy.model) if copied else None,
        **training.given(),
    )


GRPO = Carrier(trainer=_trainer, samples=True, warm_start=False)
