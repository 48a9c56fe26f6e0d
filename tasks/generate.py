"""Stage ``generate``: what one model does with the held-out prompts in one language, before anything is judged."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlc.chat.client import Server
from mlc.chat.serving import served
from mlc.errors import UserError
from mlc.evaluation.answering import answer_all
from mlc.evaluation.settings import EvaluationSettings
from mlc.shapes.history import TURNS, Prompt, conversation, last_text
from mlc.shapes.labels import LABELS, first_of_each
from mlc.store import ArtifactRef, Draft, KeyParts
from mlc.store.hashing import digest_data
from mlc.store.keys import PENDING
from tasks.runtime.artifacts import (
    GENERATED_FILE,
    HELD_OUT,
    MARGINS_FILE,
    PROMPTS_FILE,
    STATES_FILE,
    HeldOut,
    Suite,
    held_out_texts,
)
from tasks.runtime.compute import computing, release
from tasks.runtime.models import Model
from tasks.runtime.policies import SYSTEM_MOVED, loaded_policy, source_of, whole_checkpoint
from tasks.runtime.run import Run
from tasks.runtime.shards import Shard, content_shards, rows_of
from tasks.runtime.stage import Stage, Work, produce, shows, stage_task

if TYPE_CHECKING:
    from mlc.evaluation.engines.protocol import AnswerEngine, Completion
    from mlc.evaluation.engines.vllm import Reader
    from mlc.evaluation.scoring import Scorer
    from mlc.models.loading import Policy

STAGE = Stage("generate", version=3, module=__name__, libraries=("torch", "transformers", "numpy"))
MOST_MISSING = 0.05
"""Share of the held-out prompts of a language that may have no translation; each is asked as an empty prompt, and more
of them would make the figures meaningless."""
READ = ("refusal_openings", "compliance_openings", "layer", "answers", "answer_tokens")
"""The settings of the evaluation that decide what the model is asked; the others are about judging."""
OWN_THRESHOLD = "own_threshold"
"""The same, beside the anchor language only."""
FACTS = ["id", "label", "kind", "split"]
"""Columns of the held-out prompts that say which are scored and which answered."""
RECORD_FILE = "answers.jsonl"
"""Answers of an attempt that is not finished; the next one goes on from them."""
SERVER_LOG = "server.log"
"""What a server wrote; it goes with the attempt."""
SERVE_KEY = "evaluation.engine.serve"
KEY_VARIABLE = "MLC_MODEL_KEY"
"""Environment variable that holds the key of servers that want one."""


@stage_task("generate", "generate · {suite.lead}{model.label} · {language}")
def generate(
    run: Run, model: Model, language: str, held_out: HeldOut, settings: EvaluationSettings, suite: Suite = HELD_OUT
) -> ArtifactRef:
    """Runs a model on the held-out prompts. No judge and no threshold has a part in it.

    Args:
        run: The run.
        model: The model; its method and seed are for the display.
        language: NLLB code.
        held_out: The prompts.
        settings: The evaluation.
        suite: What the prompts are called.

    Returns:
        ``margins.parquet`` (id, label, kind, split, margin; without the validation prompts that ``own_threshold``
        leaves out), ``states.npy`` ([test prompts, H]) and
        ``generated.parquet`` (id, label, kind, prompt, answer, finish, prompt_tokens and answer_tokens of the test
        prompts that were answered; never shown). The column ``prompt`` is what the person says last.
    """
    return _generated(run, model, language, held_out, settings, suite, None)


@stage_task("generate", "generate · {suite.lead}{model.label} · shard {shard.number} · {language}")
def generate_shard(
    run: Run,
    model: Model,
    language: str,
    held_out: HeldOut,
    settings: EvaluationSettings,
    shard: Shard,
    suite: Suite = HELD_OUT,
) -> ArtifactRef:
    """Runs a model on some of the prompts; arguments and artifact as of :func:`generate`.

    Args:
        run: The run.
        model: The model.
        language: NLLB code.
        held_out: All prompts. Of these the key has those of the shard alone.
        settings: The evaluation.
        shard: Which of the prompts that are scored, see :func:`scored_shards`.
        suite: What the prompts are called.
    """
    return _generated(run, model, language, held_out, settings, suite, shard)


@stage_task("generate", "generate · {suite.lead}{model.label} · {language}")
def join_generated(
    run: Run,
    model: Model,
    language: str,
    shards: Sequence[ArtifactRef],
    anchor: bool,
    settings: EvaluationSettings,
    suite: Suite = HELD_OUT,
) -> ArtifactRef:
    """Puts what a model did with all shards together, to what :func:`generate` makes of all prompts at once.

    Args:
        run: The run.
        model: The model.
        language: NLLB code.
        shards: Their artifacts, in order.
        anchor: Whether it is the anchor language.
        settings: The evaluation.
        suite: What the prompts are called.
    """
    inputs = {f"shard {number}": ref for number, ref in enumerate(shards, start=1)}
    parts = _parts(run, model, language, inputs, settings, _validation(anchor, settings))

    def write(draft: Draft) -> None:
        folders = [run.store.folder(ref) for ref in shards]
        margins, said = (
            pa.concat_tables([pq.read_table(folder / file) for folder in folders]).combine_chunks()
            for file in (MARGINS_FILE, GENERATED_FILE)
        )
        if settings.answers != "all":
            # The harmful ones come first, as they are chosen.
            harmful = [label == "harmful" for label in said["label"].to_pylist()]
            order = sorted(range(len(said)), key=lambda row: not harmful[row])
            said = said.take(pa.array(order, pa.int64()))
        pq.write_table(margins, draft.path / MARGINS_FILE)
        np.save(draft.path / STATES_FILE, np.concatenate([np.load(folder / STATES_FILE) for folder in folders]))
        pq.write_table(said, draft.path / GENERATED_FILE)
        draft.rows = len(margins)

    work = Work(rows_of(shards), new=lambda: 0)
    return produce(run, STAGE, parts, write, language=language, subject=f"{suite.lead}{model.label}", work=work)


def scored_shards(run: Run, suite: ArtifactRef, anchor: bool, settings: EvaluationSettings) -> list[Shard]:
    """The shards of the prompts that are scored in a language; none where they are asked at once, or only foreseen.

    Args:
        run: The run.
        suite: The prompts, with labels.
        anchor: Whether it is the anchor language.
        settings: The evaluation.
    """
    if settings.shard_rows is None or not run.store.folder(suite).is_dir():
        return []
    rows = pq.read_table(run.store.folder(suite) / PROMPTS_FILE)
    scored = _scored(rows, _validation(anchor, settings))
    return content_shards(rows["id"].take(pa.array(scored, pa.int64())).to_pylist(), settings.shard_rows)


def _validation(anchor: bool, settings: EvaluationSettings) -> int | Literal["all"]:
    """How many validation prompts are scored: in the anchor language they set the threshold that counts."""
    return "all" if anchor else settings.own_threshold


def _scored(rows: pa.Table, validation: int | Literal["all"]) -> list[int]:
    return sorted([*_chosen(rows, "validation", validation), *_chosen(rows, "test", "all")])


def _parts(
    run: Run,
    model: Model,
    language: str,
    inputs: Mapping[str, ArtifactRef | str],
    settings: EvaluationSettings,
    validation: int | Literal["all"],
) -> KeyParts:
    reads = {*READ} if validation == "all" else {*READ, OWN_THRESHOLD}
    return STAGE.parts(
        {
            "language": language,
            "evaluation": settings.model_dump(mode="json", include=reads),
            **model.answering,
            **({"engine": facts} if (facts := settings.engine.facts) else {}),
        },
        inputs,
        {"model": source_of(run, model).identity},
    )


def _content(
    run: Run,
    held_out: HeldOut,
    settings: EvaluationSettings,
    shard: Shard,
    validation: int | Literal["all"],
) -> str:
    """Digest of all that is read of a shard; of one that is only foreseen, what stands for it in a plan."""
    suite, texts = run.store.folder(held_out.suite), run.store.folder(held_out.texts)
    if not (suite.is_dir() and texts.is_dir()):
        return f"{PENDING}{held_out.suite.key}{held_out.texts.key}{shard.number}"
    rows = pq.read_table(suite / PROMPTS_FILE, columns=FACTS)
    asked = set(_chosen(rows, "test", settings.answers))
    facts, said = rows.to_pylist(), list(held_out_texts(texts, TURNS).values())
    scored = _scored(rows, validation)[shard.start : shard.stop]
    return digest_data([[facts[row], said[row], row in asked] for row in scored])


def _generated(
    run: Run,
    model: Model,
    language: str,
    held_out: HeldOut,
    settings: EvaluationSettings,
    suite: Suite,
    shard: Shard | None,
) -> ArtifactRef:
    whole = f"{suite.lead}{model.label}"
    subject = shard.subject(whole) if shard else whole
    validation = _validation(held_out.suite == held_out.texts, settings)
    inputs: dict[str, ArtifactRef | str] = {"suite": held_out.suite, "texts": held_out.texts}
    if shard:
        inputs = {"prompts": _content(run, held_out, settings, shard, validation)}
    parts = _parts(run, model, language, inputs, settings, validation)

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(held_out.suite) / PROMPTS_FILE)
        texts = held_out_texts(run.store.folder(held_out.texts), TURNS).values()
        prompts = [conversation(text, turns) for text, turns in texts]
        missing = require_texts([text for text, _ in texts], language)
        if missing and (shard is None or shard.number == 1):
            run.display.note(
                f"{language}: {missing} of {len(prompts)} held-out prompts have no translation and are asked as empty "
                "prompts."
            )
        splits = rows["split"].to_pylist()
        scored = _scored(rows, validation)
        chosen = _chosen(rows, "test", settings.answers)
        if shard:
            scored = scored[shard.start : shard.stop]
            own = set(scored)
            chosen = [row for row in chosen if row in own]
        asked = [prompts[row] for row in chosen]
        partial = run.store.partial(STAGE.name, parts.key)

        def answer(engine: "AnswerEngine") -> "list[Completion]":
            answered = run.display.bar(f"generate · {subject} · {language}", len(chosen))
            return answer_all(
                engine,
                asked,
                record=partial / RECORD_FILE,
                on_answer=lambda completion: answered(1, completion.answer_tokens or 0),
                should_stop=run.should_stop,
            )

        here = settings.engine.kind == "transformers"
        with loaded_policy(run, model, encodes=True) as policy:
            _tell_of_system(run, policy, prompts)
            if suite == HELD_OUT and held_out.suite == held_out.texts:
                _require_source_language(policy, language)
            _tell_of_language(run, policy, language)
            scorer = _scorer(policy, language, settings)
            names = rows["id"].to_pylist()
            _require_room(scorer, {names[row]: prompts[row] for row in scored}, settings)
            given = answer(_engine_here(scorer, settings)) if here else []
            # Those that were answered just now are scored already.
            scores = scorer.score(
                [prompts[row] for row in scored],
                batch_size=settings.batch_size,
                on_progress=run.display.bar(f"generate · {subject} · {language}", len(scored)),
                should_stop=run.should_stop,
            )
            reader = _reader(policy) if settings.engine.kind == "vllm" else None
        # Whatever answers then needs the memory.
        del policy, scorer
        if not here and chosen:
            with _engine_elsewhere(run, model, reader, settings, partial / SERVER_LOG) as engine:
                given = answer(engine)
        kept = rows.take(pa.array(scored, pa.int64()))
        pq.write_table(
            pa.table({**{name: kept[name] for name in ("id", "label", "kind", "split")}, "margin": scores.margins}),
            draft.path / MARGINS_FILE,
        )
        np.save(draft.path / STATES_FILE, scores.states[[splits[row] == "test" for row in scored]])
        pq.write_table(_table(rows.take(pa.array(chosen, pa.int64())), asked, given), draft.path / GENERATED_FILE)
        draft.rows = len(scored)

    known = run.store.folder(held_out.suite) / PROMPTS_FILE
    count = held_out.texts.rows
    if shard:
        count = shard.stop - shard.start
    elif run.planning and known.is_file():
        count = len(_scored(pq.read_table(known, columns=FACTS), validation))
    work = Work(count)
    return produce(run, STAGE, parts, write, language=language, subject=subject, work=work)


def require_texts(prompts: Sequence[str], language: str) -> int:
    """How many prompts of a language are blank, because no translator had a translation of them.

    Raises:
        UserError: They are more than :data:`MOST_MISSING`.
    """
    missing = sum(not text.strip() for text in prompts)
    if missing > MOST_MISSING * len(prompts):
        raise UserError(
            f"{missing} of {len(prompts)} held-out prompts have no translation into {language}, and more than "
            f"{MOST_MISSING:.0%} would make its figures meaningless: add a translator to translator.fallbacks, or "
            "human translations to evaluation.references."
        )
    return missing


@shows
def _tell_of_system(run: Run, policy: "Policy", prompts: list[Prompt]) -> None:
    from mlc.models.prompts import moves_system

    if moves_system(policy.tokenizer, prompts):
        run.display.note(SYSTEM_MOVED)


def _require_source_language(policy: "Policy", anchor: str) -> None:
    """Checks that a policy reads prompts without a word about their language as those in the anchor language.

    Raises:
        UserError: It does not.
    """
    from mlc.models.encoders import language_token

    if language_token(policy.tokenizer, anchor) != language_token(policy.tokenizer, None):
        raise UserError(
            f"The policy's source language is {policy.tokenizer.src_lang}, and the anchor language {anchor}: set "
            "src_lang in its tokenizer_config.json to the anchor language, or change anchor_language."
        )


@shows
def _tell_of_language(run: Run, policy: "Policy", language: str) -> None:
    from mlc.models.encoders import unknown_language

    if sentence := unknown_language(policy.tokenizer, language):
        run.display.note(sentence)


def _scorer(policy: "Policy", language: str, settings: EvaluationSettings) -> "Scorer":
    from mlc.evaluation.scoring import Scorer
    from mlc.models.bounds import depth_of, layer_index

    try:
        layer_index(settings.layer, depth_of(policy.model.config.to_dict()))
    except ValueError as problem:
        # The policy was asked before; a champion may have fewer.
        raise UserError(
            f"The model {policy.source.location!r} cannot be measured: {problem} Change evaluation.layer."
        ) from None
    return Scorer(
        policy,
        refusal_openings=settings.refusal_openings,
        compliance_openings=settings.compliance_openings,
        layer=settings.layer,
        language=language,
    )


def _require_room(scorer: "Scorer", prompts: Mapping[str, Prompt], settings: EvaluationSettings) -> None:
    from mlc.evaluation.room import require_room

    follows = max(settings.answer_tokens, *map(len, scorer.openings))
    require_room(scorer.policy, prompts, follows=follows, language=scorer.language or "")


def _engine_here(scorer: "Scorer", settings: EvaluationSettings) -> "AnswerEngine":
    from mlc.evaluation.engines.transformers import TransformersEngine

    return TransformersEngine(
        scorer.policy,
        max_new_tokens=settings.answer_tokens,
        batch_size=settings.batch_size,
        begin=scorer.begin,
        language=scorer.language,
    )


def _reader(policy: "Policy") -> "Reader":
    from mlc.evaluation.engines.vllm import Reader

    return Reader(policy)


@contextmanager
def _engine_elsewhere(
    run: Run, model: Model, reader: "Reader | None", settings: EvaluationSettings, log: Path
) -> "Iterator[AnswerEngine]":
    """An engine that takes the device for itself: a server of the model, or vLLM where there is a reader for it."""
    source, wanted = source_of(run, model), settings.engine
    with computing(run, model.device), whole_checkpoint(run, model) as folder:
        release()
        if reader:
            from mlc.evaluation.engines.vllm import VllmEngine, load_vllm

            yield VllmEngine(
                load_vllm(str(folder), model.dtype),
                reader,
                max_new_tokens=settings.answer_tokens,
                identity=source.identity,
            )
            return
        from mlc.evaluation.engines.http import HttpEngine

        assert wanted.serve is not None  # the settings have checked it
        starting = served(
            wanted.serve,
            str(folder),
            log,
            setting=SERVE_KEY,
            seconds=wanted.start_seconds,
            should_stop=run.should_stop,
        )
        with starting as serving:
            yield HttpEngine(
                Server(serving.address, serving.model, KEY_VARIABLE, wanted.concurrency, (SERVE_KEY, SERVE_KEY)),
                max_new_tokens=settings.answer_tokens,
                # Its port is another one each time.
                model=f"{source.identity} by {wanted.serve}",
                template=dict(source.chat_template_kwargs),
            )


def _table(rows: pa.Table, prompts: list[Prompt], given: "list[Completion]") -> pa.Table:
    return pa.table(
        {
            **{name: rows[name] for name in ("id", "label", "kind")},
            "prompt": pa.array(map(last_text, prompts), pa.string()),
            "answer": pa.array([completion.text for completion in given], pa.string()),
            "finish": pa.array([completion.finish for completion in given], pa.string()),
            "prompt_tokens": pa.array([completion.prompt_tokens for completion in given], pa.int64()),
            "answer_tokens": pa.array([completion.answer_tokens for completion in given], pa.int64()),
        }
    )


def _chosen(rows: pa.Table, split: str, count: int | Literal["all"]) -> list[int]:
    """Positions of prompts of a split: all, or the first ones, half of them harmful, which come first."""
    labels = rows["label"].to_pylist()
    own = [row for row, name in enumerate(rows["split"].to_pylist()) if name == split]
    if count == "all":
        return own
    chosen = [own[place] for place in first_of_each([labels[row] for row in own], count)]
    return sorted(chosen, key=lambda row: labels[row] != LABELS[0])
