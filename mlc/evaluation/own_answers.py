"""What a model itself answers to prompts that a training set is made of."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlc.evaluation.answering import answer_all
from mlc.evaluation.engines.protocol import Completion
from mlc.models.together import ANSWERED_TOGETHER
from mlc.shapes.history import Prompt
from mlc.stopping import ShouldStop, never

if TYPE_CHECKING:
    from mlc.models.loading import Policy

RECORD_FILE = "answers.jsonl"
"""Answers of an attempt that is not finished; the next one goes on from them."""


def greedy_texts(
    policy: "Policy",
    asked: Sequence[Prompt],
    tokens: int,
    *,
    record: Path,
    moved: Callable[..., None],
    should_stop: ShouldStop = never,
) -> list[str]:
    """What a model answers, greedily; an attempt that was cut off goes on from its record.

    Args:
        policy: The model.
        asked: The prompts.
        tokens: Longest answer.
        record: File of the answers that are there already.
        moved: Called with 1 and the number of tokens for each answer.
        should_stop: Asked between batches.

    Returns:
        The answers, without blanks around them; empty where there is none.

    Raises:
        Stopped: ``should_stop`` said so.
    """
    from mlc.evaluation.engines.transformers import TransformersEngine

    def count(completion: Completion) -> None:
        moved(1, completion.answer_tokens)

    engine = TransformersEngine(policy, max_new_tokens=tokens, batch_size=ANSWERED_TOGETHER)
    given = answer_all(engine, asked, record=record, on_answer=count, should_stop=should_stop)
    return [completion.text.strip() for completion in given]
