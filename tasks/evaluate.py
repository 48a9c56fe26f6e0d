"""Stage ``evaluate``: judges what one model did in one language."""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlc.catalogue import JUDGES
from mlc.evaluation.choosing import VERDICTS_FOLDER, Surroundings, choose
from mlc.evaluation.judges.judge import Answer, ask
from mlc.evaluation.metrics import choose_threshold, summarise
from mlc.evaluation.outcomes import outcome_table, verdict_table
from mlc.evaluation.representation import PairFigures, pair_figures
from mlc.evaluation.results import ANSWERS_FILE, EvaluationResult
from mlc.evaluation.settings import EvaluationSettings
from mlc.languages import ENGLISH
from mlc.store import ArtifactRef, Draft
from tasks.runtime.artifacts import GENERATED_FILE, HELD_OUT, MARGINS_FILE, STATES_FILE, Suite
from tasks.runtime.compute import loaded
from tasks.runtime.models import Model
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("evaluate", version=4, module=__name__, libraries=("numpy",))


@stage_task("evaluate", "evaluate · {suite.lead}{model.label} · {language}")
def evaluate(
    run: Run,
    model: Model,
    language: str,
    generated: ArtifactRef,
    english: ArtifactRef | None,
    settings: EvaluationSettings,
    anchor: str = ENGLISH,
    suite: Suite = HELD_OUT,
) -> ArtifactRef:
    """Judges a model in a language, without the model.

    Args:
        run: The run.
        model: The model; its weights are not read.
        language: NLLB code.
        generated: What the model did in the language, of the stage ``generate``.
        english: What the same model did with the held-out prompts of the anchor language, which set the threshold; None
            for that one itself.
        settings: The evaluation.
        anchor: NLLB code of the anchor language.
        suite: What was asked. The prompts of a suite stand beside none, so that no states are compared, and set no
            threshold of their own.

    Returns:
        ``rows.parquet``, ``summary.json``, ``outcomes.parquet`` (a row for each judge and answer, see
        :data:`mlc.evaluation.results.OUTCOMES_SCHEMA`) and ``answers.parquet`` (the same with the texts, and what the
        judge itself said; never shown).
    """
    inputs = {"generated": generated} | ({"english": english} if english else {})
    surroundings = Surroundings(
        run.workspace / VERDICTS_FOLDER,
        run.should_stop,
        partial(loaded, run),
        lambda questions: run.display.bar(f"evaluate · {suite.lead}{model.label} · {language}", questions),
    )
    chosen = choose(settings.judges, surroundings)
    facts = {
        "role": model.method,
        "language": language,
        "judges": {one.label: one.key for one in chosen},
        **({} if anchor == ENGLISH else {"anchor": anchor}),
        **({"suite": suite.name} if suite.name else {}),
    }
    parts = STAGE.parts(facts, inputs, seed=model.seed, modules=[JUDGES.module(one.name) for one in chosen])

    def write(draft: Draft) -> None:
        store = run.store
        own = store.folder(generated)
        scored = pq.read_table(own / MARGINS_FILE)
        calibration = store.folder(english) if english else own
        states = np.load(calibration / STATES_FILE), np.load(own / STATES_FILE)
        pair = pair_figures(*states) if english and suite == HELD_OUT else None
        answered = pq.read_table(own / GENERATED_FILE).to_pylist()
        answers = [Answer(row["prompt"], row["answer"], language, row["finish"] != "length") for row in answered]
        verdicts = {one.label: ask(one.judge, answers) for one in chosen}
        table = scored.append_column("matched_cosine", _cosines(scored, pair))
        outcomes = outcome_table(answered, answers, verdicts)
        summary = summarise(
            table,
            model=model.method,
            seed=model.seed,
            language=language,
            anchor=anchor,
            threshold=_threshold(pq.read_table(calibration / MARGINS_FILE)),
            own_threshold=_own_threshold(scored) if suite == HELD_OUT else None,
            outcomes=outcomes,
            collinearity=pair.collinearity if pair else None,
            centred_collinearity=pair.centred_collinearity if pair else None,
            unmatched_cosine=pair.unmatched if pair else None,
            suite=suite.name or None,
        )
        EvaluationResult(summary, table, outcomes).write(draft.path)
        pq.write_table(verdict_table(answered, verdicts), draft.path / ANSWERS_FILE)
        draft.rows = len(scored)

    work = Work(generated.rows)
    return produce(run, STAGE, parts, write, language=language, subject=f"{suite.lead}{model.label}", work=work)


def _cosines(scored: pa.Table, pair: PairFigures | None) -> pa.Array:
    """The matched cosine of each row; only the states of test prompts are compared."""
    found: list[float | None] = [None] * len(scored)
    if pair:
        places = [row for row, split in enumerate(scored["split"].to_pylist()) if split == "test"]
        for row, cosine in zip(places, pair.matched.tolist(), strict=True):
            found[row] = cosine
    return pa.array(found, pa.float64())


def _own_threshold(scored: pa.Table) -> float | None:
    """The threshold of a language, where validation prompts were scored in it."""
    return _threshold(scored) if pc.any(pc.equal(scored["split"], "validation")).as_py() else None


def _threshold(scored: pa.Table) -> float:
    """Set on the validation split of a language."""
    validation = scored.filter(pc.equal(scored["split"], "validation"))
    harmful = np.array(validation["label"].to_pylist()) == "harmful"
    return float(choose_threshold(validation["margin"].to_numpy(), harmful))
