"""Stage ``translate``: prompts into one language."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.languages import ENGLISH, resolve_language
from mlc.models.sources import resolve_model
from mlc.shapes.history import SOURCE_TURNS, TURNS, retold, texts_in, turns_in, with_turns
from mlc.store import ArtifactRef, Draft, KeyParts
from mlc.translation.engines.protocol import identity_of
from mlc.translation.identity import facts_of
from mlc.translation.memory import MEMORY_FOLDER
from mlc.translation.news import new_texts
from mlc.translation.settings import TranslatorSettings
from mlc.translation.table import SCHEMA, as_one, made_by, row_of
from tasks.runtime.artifacts import PROMPTS_FILE, TRANSLATIONS_FILE
from tasks.runtime.compute import loaded
from tasks.runtime.run import Run, label_of
from tasks.runtime.stage import Stage, Work, produce, stage_task

if TYPE_CHECKING:
    from mlc.translation.translator import Step, Translation, Translator

STAGE = Stage("translate", version=2, module=__name__, libraries=("torch", "transformers", "sentencex"))


@stage_task("translate", "translate · {language}")
def translate(
    run: Run,
    prompts: ArtifactRef,
    language: str,
    settings: TranslatorSettings,
    subject: str = "prompts",
    together: Sequence[str] = (),
    source: str = ENGLISH,
) -> ArtifactRef:
    """Translates prompts.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``.
        language: NLLB code of the target.
        settings: The translator.
        subject: ``prompts`` or ``held-out``, for the display.
        together: NLLB codes that the same run translates these prompts into. Those of them whose artifact is not there
            are translated too, so that the translator reads each sentence once for all; they wait in the translation
            memory.
        source: NLLB code of the prompts' language.

    Returns:
        ``translations.parquet``, one row a prompt, in the order of the prompts: id, source, translation,
        source_language, target_language, logprob (mean per token), finished, sentences_in, sentences_out,
        sentence_logprobs, lost (kinds of protected parts), repaired, translator (identity of the model), decoding
        (settings, as JSON). Where prompts have earlier turns, each turn is translated with its role: ``source_turns``
        and ``turns`` hold them in both languages, the figures are about all of them, and there is a translation if
        each of them has one.
    """
    facts = facts_of(settings)
    told = None if subject == "prompts" else subject

    def new(code: str) -> int:
        texts = [text for said in _said(_read(run, prompts)) for text in said]
        return new_texts(texts, facts, run.workspace / MEMORY_FOLDER, source=source, target=code)

    def write(draft: Draft) -> None:
        rows = _read(run, prompts)
        texts = [text for said in _said(rows) for text in said]
        advance = run.display.bar(label_of(STAGE.name, told, language), len(texts))

        def moved(step: "Step") -> None:
            advance(step.texts)

        key = f"translator:{facts['model']}:{settings.model_dump_json()}:{run.workspace}"
        # Runs that share the workspace take turns, so that each finds in the memory what the other one translated.
        with (
            run.store.making("translator", identity_of(facts), should_stop=run.should_stop),
            loaded(run, key, settings.device, lambda: _load(settings, run)) as translator,
        ):
            others = [code for code in together if code != language and _waits(run, code, facts, prompts, source)]
            if others:
                # What the others take belongs to this language's time, so it belongs to its work.
                draft.facts["effort"] += sum(map(new, others))
                # The bar belongs to one language, but here all of them are done at once.
                translator.fill(
                    texts,
                    source=source,
                    targets=(language, *others),
                    on_progress=moved,
                    should_stop=run.should_stop,
                )
            done = translator.translate(
                texts,
                source=source,
                target=language,
                on_progress=None if others else moved,
                should_stop=run.should_stop,
            )
        table = _table(rows, done, language, facts, source)
        pq.write_table(table, draft.path / TRANSLATIONS_FILE)
        draft.rows = len(table)

    parts = _parts(language, facts, prompts, source)
    return produce(
        run,
        STAGE,
        parts,
        write,
        language=language,
        subject=told,
        work=Work(prompts.rows, new=lambda: new(language)),
    )


def _parts(language: str, facts: dict[str, Any], prompts: ArtifactRef, source: str) -> KeyParts:
    return STAGE.parts(
        {
            "language": asdict(resolve_language(language)),
            "translator": {"engine": facts["engine"], **facts["decoding"]},
            **({} if source == ENGLISH else {"source": source}),
        },
        {"prompts": prompts},
        models={"translator": facts["model"]},
    )


def _waits(run: Run, language: str, facts: dict[str, Any], prompts: ArtifactRef, source: str) -> bool:
    return run.store.find(STAGE.name, _parts(language, facts, prompts, source).key) is None


def _load(settings: TranslatorSettings, run: Run) -> "Translator":
    from mlc.translation.translator import Translator

    if settings.engine in ("transformers", "ctranslate2"):
        # The very commit that the key names, not whatever a branch points to by now.
        source = resolve_model(settings.model, revision=settings.revision)
        settings = settings.model_copy(update={"model": source.target, "revision": source.revision})
    return Translator.from_settings(settings, run.workspace / MEMORY_FOLDER)


def _read(run: Run, prompts: ArtifactRef) -> pa.Table:
    file = run.store.folder(prompts) / PROMPTS_FILE
    wanted = [name for name in ("id", "prompt", TURNS) if name in pq.read_schema(file).names]
    return pq.read_table(file, columns=wanted)


def _said(rows: pa.Table) -> list[list[str]]:
    """All that is said in each row, the prompt last."""
    return [texts_in(prompt, turns) for prompt, turns in zip(rows["prompt"].to_pylist(), turns_in(rows), strict=True)]


def _table(
    rows: pa.Table, done: "Sequence[Translation]", language: str, facts: dict[str, Any], source: str
) -> pa.Table:
    made = made_by(facts)
    each = iter(done)
    parts = [[next(each) for _ in said] for said in _said(rows)]
    texts = zip(rows["prompt"].to_pylist(), map(as_one, parts), strict=True)
    translated = [row_of(text, item, source=source, target=language) | made for text, item in texts]
    table = pa.Table.from_pylist(translated, SCHEMA).add_column(0, "id", rows["id"])
    before = turns_in(rows)
    if not any(before):
        return table
    told = [retold(turns, (part.text for part in said[:-1])) for turns, said in zip(before, parts, strict=True)]
    return with_turns(table.append_column(SOURCE_TURNS, pa.array(before, pa.string())), told)
