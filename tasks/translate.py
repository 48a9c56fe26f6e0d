"""Stage ``translate``: English prompts into one language."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.catalogue import REFUSALS
from mlc.languages import ENGLISH, resolve_language
from mlc.models.sources import resolve_model
from mlc.store import ArtifactRef, Draft, KeyParts
from mlc.translation.engines.protocol import identity_of
from mlc.translation.identity import facts_of
from mlc.translation.memory import MEMORY_FOLDER
from mlc.translation.news import new_texts
from mlc.translation.settings import TranslatorSettings
from mlc.translation.table import SCHEMA, made_by, row_of
from tasks.runtime.artifacts import FALLBACK_COLUMN, PROMPTS_FILE, TRANSLATIONS_FILE, VERDICTS_FILE
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

    Returns:
        ``translations.parquet``, one row a prompt, in the order of the prompts: id, source, translation,
        source_language, target_language, logprob (mean per token), finished, sentences_in, sentences_out, refusal,
        sentence_logprobs, lost (kinds of protected parts), repaired, translator (identity of the model), decoding
        (settings, as JSON).
    """
    facts = facts_of(settings)
    told = None if subject == "prompts" else subject

    def new(code: str) -> int:
        texts = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE, columns=["prompt"])["prompt"].to_pylist()
        return new_texts(texts, facts, run.workspace / MEMORY_FOLDER, source=ENGLISH, target=code)

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE, columns=["id", "prompt"])
        advance = run.display.bar(label_of(STAGE.name, told, language), len(rows))

        def moved(step: "Step") -> None:
            advance(step.texts)

        texts = rows["prompt"].to_pylist()
        with _translator(run, settings, facts) as translator:
            others = [code for code in together if code != language and _waits(run, code, facts, prompts)]
            if others:
                # What the others take belongs to this language's time, so it belongs to its work.
                draft.facts["effort"] += sum(map(new, others))
                # The bar belongs to one language, but here all of them are done at once.
                translator.fill(
                    texts,
                    source=ENGLISH,
                    targets=(language, *others),
                    on_progress=moved,
                    should_stop=run.should_stop,
                )
            done = translator.translate(
                texts,
                source=ENGLISH,
                target=language,
                on_progress=None if others else moved,
                should_stop=run.should_stop,
            )
        table = _table(rows, done, language, facts)
        pq.write_table(table, draft.path / TRANSLATIONS_FILE)
        draft.rows = len(table)
        if wordless := sum(not item.sentences_in for item in done):
            run.display.note(f"{language}: {wordless} of {len(done)} prompts have no words and stay as they are.")
        _count_refusals(run, draft, done, f"The translator refused {{}} of {len(rows)} prompts into {language}")

    parts = _parts(language, facts, {"prompts": prompts})
    return produce(
        run,
        STAGE,
        parts,
        write,
        language=language,
        subject=told,
        work=Work(prompts.rows, new=lambda: new(language)),
    )


@stage_task("translate", "translate · {subject} · {language}")
def retranslate(
    run: Run, earlier: ArtifactRef, language: str, settings: TranslatorSettings, number: int, subject: str
) -> ArtifactRef:
    """Asks a fallback for the prompts that have no usable translation so far.

    Args:
        run: The run.
        earlier: Artifact with ``verdicts.parquet``, of which those rows are asked that the filter drops, or with
            ``translations.parquet``, of which those are asked that have no translation.
        language: NLLB code of the target.
        settings: The fallback.
        number: Its number, counted from 1.
        subject: For the display.

    Returns:
        ``translations.parquet`` as :func:`translate` makes it, with the column ``fallback``: the rows that were asked
        are the fallback's, and all others as they were. Without verdicts, a row stays as it was where the fallback has
        no translation either.
    """
    facts = facts_of(settings)

    def write(draft: Draft) -> None:
        table, asked, judged = _so_far(run.store.folder(earlier))
        texts = [table["source"][place].as_py() for place in asked]
        done: Sequence[Translation] = ()
        if texts:
            advance = run.display.bar(label_of(STAGE.name, subject, language), len(texts))
            with _translator(run, settings, facts) as translator:
                done = translator.translate(
                    texts,
                    source=ENGLISH,
                    target=language,
                    on_progress=lambda step: advance(step.texts),
                    should_stop=run.should_stop,
                )
        rows = table.to_pylist()
        made = made_by(facts) | {FALLBACK_COLUMN: number}
        for place, text, item in zip(asked, texts, done, strict=True):
            if judged or item.text:
                rows[place] |= row_of(text, item, source=ENGLISH, target=language) | made
        pq.write_table(pa.Table.from_pylist(rows, table.schema), draft.path / TRANSLATIONS_FILE)
        draft.rows = len(rows)
        draft.facts["asked"] = len(asked)
        _count_refusals(run, draft, done, f"Fallback {number} refused {{}} of {len(asked)} prompts into {language}")

    def waiting() -> int | None:
        folder = run.store.folder(earlier)
        return len(_so_far(folder)[1]) if folder.is_dir() else earlier.rows

    parts = _parts(language, facts, {"earlier": earlier})
    work = Work(earlier.rows, new=None if earlier.rows is None else lambda: waiting() or 0)
    return produce(run, STAGE, parts, write, language=language, subject=subject, work=work)


def _so_far(folder: Path) -> tuple[pa.Table, list[int], bool]:
    """The translations so far, the rows that have none that is usable, and whether a filter has judged them."""
    judged = (folder / VERDICTS_FILE).is_file()
    rows = pq.read_table(folder / (VERDICTS_FILE if judged else TRANSLATIONS_FILE))
    if FALLBACK_COLUMN not in rows.column_names:
        rows = rows.append_column(FALLBACK_COLUMN, pa.array([0] * len(rows), pa.int64()))
    usable = rows["keep"].to_pylist() if judged else [bool(text) for text in rows["translation"].to_pylist()]
    sources = rows["source"].to_pylist()
    asked = [place for place, (text, kept) in enumerate(zip(sources, usable, strict=True)) if text.strip() and not kept]
    return rows.select(["id", *SCHEMA.names, FALLBACK_COLUMN]), asked, judged


@contextmanager
def _translator(run: Run, settings: TranslatorSettings, facts: Mapping[str, Any]) -> "Iterator[Translator]":
    key = f"translator:{facts['model']}:{settings.model_dump_json()}:{run.workspace}"
    # Runs that share the workspace take turns, so that each finds in the memory what the other one translated.
    with (
        run.store.making("translator", identity_of(facts), should_stop=run.should_stop),
        loaded(run, key, settings.device, lambda: _load(settings, run)) as translator,
    ):
        yield translator


def _count_refusals(run: Run, draft: Draft, done: "Sequence[Translation]", told: str) -> None:
    refused = Counter(row.refusal for row in done if row.refusal)
    if refused:
        draft.facts["refused"] = dict(sorted(refused.items()))
        reasons = ", ".join(f"{count} × {reason}" for reason, count in sorted(refused.items()))
        run.display.note(f"{told.format(refused.total())}: {reasons}.")


def _parts(language: str, facts: dict[str, Any], inputs: Mapping[str, ArtifactRef]) -> KeyParts:
    return STAGE.parts(
        {
            "language": asdict(resolve_language(language)),
            "translator": {"engine": facts["engine"], **facts["decoding"]},
            **({"refusals": REFUSALS.load("rules").version} if facts["engine"] == "http" else {}),
        },
        inputs,
        models={"translator": facts["model"]},
        modules=[REFUSALS.module("rules")] if facts["engine"] == "http" else [],
    )


def _waits(run: Run, language: str, facts: dict[str, Any], prompts: ArtifactRef) -> bool:
    return run.store.find(STAGE.name, _parts(language, facts, {"prompts": prompts}).key) is None


def _load(settings: TranslatorSettings, run: Run) -> "Translator":
    from mlc.translation.translator import Translator

    if settings.engine in ("transformers", "ctranslate2"):
        # The very commit that the key names, not whatever a branch points to by now.
        source = resolve_model(settings.model, revision=settings.revision)
        settings = settings.model_copy(update={"model": source.target, "revision": source.revision})
    return Translator.from_settings(settings, run.workspace / MEMORY_FOLDER)


def _table(rows: pa.Table, done: "Sequence[Translation]", language: str, facts: dict[str, Any]) -> pa.Table:
    made = made_by(facts)
    texts = zip(rows["prompt"].to_pylist(), done, strict=True)
    translated = [row_of(text, item, source=ENGLISH, target=language) | made for text, item in texts]
    return pa.Table.from_pylist(translated, SCHEMA).add_column(0, "id", rows["id"])
