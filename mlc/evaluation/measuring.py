"""Measures any engine on any suite: answers in every language, judged, without training, workspace or stages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.evaluation.answering import answer_all
from mlc.evaluation.choosing import Chosen
from mlc.evaluation.engines.protocol import AnswerEngine, in_language
from mlc.evaluation.gate.deciding import GateDecision, decide_gate
from mlc.evaluation.gate.settings import GateSettings
from mlc.evaluation.judges.judge import Answer, ask
from mlc.evaluation.metrics import summarise
from mlc.evaluation.outcomes import outcome_table, verdict_table
from mlc.evaluation.results import OUTCOMES_FILE, OUTCOMES_SCHEMA, ROWS_SCHEMA, EvaluationResult
from mlc.evaluation.suites.loading import JOINED, LoadedSuite
from mlc.evaluation.suites.mixing import MIXED, ask_mixed, read_in
from mlc.stopping import ShouldStop, never

ANSWER_TOKENS = 128
"""Longest answer, in tokens, unless somebody says otherwise."""
MEASURED_SCHEMA = pa.schema([("model", pa.string()), ("language", pa.string()), *OUTCOMES_SCHEMA])
"""Outcomes of several models in several languages, without any text."""

Bar = Callable[[str, int], Callable[..., None]]
"""Adds a bar, by name and number of steps; what comes back takes steps and tokens."""


@dataclass(frozen=True)
class Measured:
    """What one model did on a suite. No margin is measured, so figures of margins are missing."""

    model: str
    """What tables call it."""
    results: tuple[EvaluationResult, ...]
    """One a language."""
    answers: pa.Table
    """``model``, ``language`` and the columns of :data:`mlc.evaluation.outcomes.JUDGED_COLUMNS`: texts, never shown."""

    @property
    def outcomes(self) -> pa.Table:
        """As in :data:`MEASURED_SCHEMA`."""
        tables = [_labelled(one.outcomes, self.model, one.summary.language) for one in self.results]
        return pa.concat_tables(tables).cast(MEASURED_SCHEMA)


def _no_bar(name: str, total: int) -> Callable[..., None]:
    return lambda steps, tokens=0: None


def measure(
    engine: AnswerEngine,
    suite: LoadedSuite,
    judges: Sequence[Chosen],
    *,
    model: str,
    record: Path | None = None,
    bar: Bar = _no_bar,
    should_stop: ShouldStop = never,
) -> Measured:
    """Asks a model for answers to all prompts of a suite, and judges them.

    Args:
        engine: Answers the prompts.
        suite: The prompts, see :meth:`mlc.evaluation.suites.loading.LoadedSuite.take`.
        judges: From :func:`mlc.evaluation.choosing.choose`; the first one decides.
        model: What tables call the model.
        record: File that keeps answers, see :func:`mlc.evaluation.answering.answer_all`; whoever makes it decides who
            may read it.
        bar: Shows progress.
        should_stop: Looked at between answers.

    Raises:
        UserError: The engine or a judge cannot be asked.
        Stopped: It was asked to stop; what is in the record stays.
    """
    results, texts = [], []
    for code, prompts in suite.prompts.items():
        moved = bar(f"{model} · {code}", len(prompts))
        given = answer_all(
            in_language(engine, code),
            [one.prompt for one in prompts],
            record=record,
            on_answer=lambda completion, moved=moved: moved(1, completion.answer_tokens or 0),  # type: ignore[misc]
            should_stop=should_stop,
        )
        mixed = code == MIXED
        languages = [own[0] for own in read_in([one.text for one in given], suite.mixed_of)] if mixed else None
        answers = [
            Answer(one.prompt, completion.text, language, completion.finish != "length")
            for one, completion, language in zip(prompts, given, languages or [code] * len(given), strict=True)
        ]
        verdicts = {
            one.label: ask_mixed(one.judge, answers, suite.mixed_of) if mixed else ask(one.judge, answers)
            for one in judges
        }
        rows = [
            {"id": one.id, "label": one.label, "kind": one.kind, "prompt": one.prompt, "answer": answer.text}
            for one, answer in zip(prompts, answers, strict=True)
        ]
        outcomes = outcome_table(rows, answers, verdicts)
        results.append(_result(model, code, _of_the_mixture(outcomes, suite.mixed_of) if mixed else outcomes))
        texts.append(_labelled(verdict_table(rows, verdicts), model, code))
    return Measured(model, tuple(results), pa.concat_tables(texts))


def decide(measured: Sequence[Measured], suite: LoadedSuite, policy: GateSettings) -> GateDecision:
    """How a model stands to the policy of a gate.

    Args:
        measured: The model, and perhaps the one that it is held against, which then is base, baseline and champion.
        suite: What was asked. Conditions without a suite are about all of it; those that name it, or one of the suites
            that it is joined of, about that.
        policy: The policy. What a condition needs beyond that is not measured, and fails: another model, another suite,
            a figure of the margin.
    """
    candidate, *others = measured
    unmixed = [one for each in measured for one in each.results if one.summary.language != MIXED]
    parts = suite.name.split(JOINED)
    named = [_of_part(one, name, f"{name}:" if len(parts) > 1 else "") for name in parts for one in unmixed]
    other = others[0].model if others else ""
    asked = [*unmixed, *(one for one in named if one is not None)]
    return decide_gate(asked, policy, candidate=candidate.model, baseline=other, base=other, champion=other)


def _of_part(result: EvaluationResult, suite: str, prefix: str) -> EvaluationResult | None:
    """The prompts of one suite of several that were asked as one; None where none of them is there."""
    own = result.outcomes.filter(pc.starts_with(result.outcomes["id"], prefix))
    if not len(own):
        return None
    part = _result(result.summary.model, result.summary.language, own)
    return replace(part, summary=replace(part.summary, suite=suite))


def read_measured(folder: Path, model: str) -> Measured:
    """What an earlier evaluation measured, without its texts.

    Args:
        folder: Has the outcomes as :attr:`Measured.outcomes` gives them; of several models the first one counts.
        model: What tables shall call it.

    Raises:
        UserError: The folder does not hold outcomes.
    """
    path = folder / OUTCOMES_FILE
    try:
        table = pq.read_table(path).cast(MEASURED_SCHEMA)
    except (OSError, pa.ArrowException, ValueError):
        raise UserError(
            f"The file {str(path)!r} holds no outcomes of an evaluation: name a model, or the folder of one."
        ) from None
    own = table.filter(pc.equal(table["model"], table["model"][0])) if len(table) else table
    codes = dict.fromkeys(own["language"].to_pylist())
    results = tuple(
        _result(model, code, own.filter(pc.equal(own["language"], code)).select(OUTCOMES_SCHEMA.names))
        for code in codes
    )
    return Measured(model, results, pa.table({}))


def is_measured(folder: Path) -> bool:
    """Whether a folder is one that an evaluation wrote, and no model."""
    return (folder / OUTCOMES_FILE).is_file()


def _result(model: str, language: str, outcomes: pa.Table) -> EvaluationResult:
    """The figures of one language; its rows are the prompts, once each."""
    first = outcomes.filter(pc.equal(outcomes["judge"], outcomes["judge"][0]))
    count = len(first)
    rows = pa.table(
        {
            **{name: first[name] for name in ("id", "label", "kind")},
            "split": pa.array(["test"] * count, pa.string()),
            "margin": pa.nulls(count, pa.float64()),
            "matched_cosine": pa.nulls(count, pa.float64()),
        }
    ).cast(ROWS_SCHEMA)
    summary = summarise(rows, model=model, seed=None, language=language, threshold=math.nan, outcomes=outcomes)
    return EvaluationResult(summary, rows, outcomes)


def _of_the_mixture(outcomes: pa.Table, pool: Sequence[str]) -> pa.Table:
    """The outcomes of mixed prompts, where an answer in any language of the mixture is in the prompt's."""
    said = outcomes["answer_language"]
    held = pc.is_in(said, value_set=pa.array(pool, pa.string()))
    place = outcomes.column_names.index("answer_language")
    return outcomes.set_column(place, outcomes.schema.field(place), pc.if_else(held, MIXED, said))


def _labelled(table: pa.Table, model: str, language: str) -> pa.Table:
    columns = {
        "model": pa.array([model] * len(table), pa.string()),
        "language": pa.array([language] * len(table), pa.string()),
    }
    return pa.table({**columns, **{name: table[name] for name in table.column_names}})
