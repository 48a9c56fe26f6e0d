"""All answers to some prompts, each distinct one asked once, also over several attempts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlc.evaluation.engines.protocol import AnswerEngine, Completion, Prompt, Rendered
from mlc.stopping import ShouldStop, never
from mlc.store.hashing import digest_data
from mlc.store.lines import append_line, read_lines


def answer_all(
    engine: AnswerEngine,
    prompts: Sequence[Prompt],
    *,
    record: Path | None = None,
    on_answer: Callable[[Completion], None] = lambda completion: None,
    should_stop: ShouldStop = never,
) -> list[Completion]:
    """Asks an engine for answers.

    Args:
        engine: Answers them.
        prompts: What to ask; equal ones are asked once.
        record: File to which each answer is added as soon as it is there. What it holds already, of the same engine, is
            not asked again; lines that a kill cut off are.
        on_answer: Called with each answer, those of the record too.
        should_stop: See :class:`~mlc.evaluation.engines.protocol.AnswerEngine`.

    Returns:
        One completion for each prompt, in order.

    Raises:
        Stopped: It was asked to stop; what is in the record stays.
    """
    digests = [digest_data(asdict(prompt) if isinstance(prompt, Rendered) else prompt) for prompt in prompts]
    distinct = dict(zip(digests, prompts, strict=True))
    known = _recorded(record, engine.identity) if record else {}
    done = {digest: known[digest] for digest in distinct if digest in known}
    for completion in done.values():
        on_answer(completion)
    asked = list(distinct)
    answered = {place for place, digest in enumerate(asked) if digest in done}
    for completion in engine.answer(list(distinct.values()), answered=answered, should_stop=should_stop):
        digest = asked[completion.position]
        if record:
            record.parent.mkdir(parents=True, exist_ok=True)
            append_line(record, {"engine": engine.identity, "prompt": digest, **asdict(completion)})
        done[digest] = completion
        on_answer(completion)
    return [replace(done[digest], position=position) for position, digest in enumerate(digests)]


def _recorded(record: Path, engine: str) -> dict[str, Completion]:
    """Answers by the digest of their prompts."""
    found: dict[str, Completion] = {}
    for line in read_lines(record):
        entry: dict[str, Any] = dict(line)
        if entry.pop("engine", None) == engine:
            digest = entry.pop("prompt")
            found[digest] = Completion(**entry)
    return found
