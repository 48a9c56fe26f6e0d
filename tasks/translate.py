"""Stage ``translate``: prompts into one language."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.catalogue import REFUSALS
from mlc.languages import ENGLISH, resolve_language
from mlc.models.sources import resolve_model
from mlc.shapes.history import SOURCE_TURNS, TURNS, retold, texts_in, turns_in, with_turns
from mlc.store import ArtifactRef, Draft, KeyParts
from mlc.store.hashing import digest_data
from mlc.translation.engines.protocol import identity_of
from mlc.translation.identity import facts_of
from mlc.translation.memory import MEMORY_FOLDER
from mlc.translation.news import new_texts
from mlc.translation.settings import TranslatorSettings
from mlc.translation.table import SCHEMA, as_one, made_by, row_of
from tasks.runtime.artifacts import FALLBACK_COLUMN, PROMPTS_FILE, TRANSLATIONS_FILE, VERDICTS_FILE
from tasks.runtime.compute import loaded
from tasks.runtime.run import Run, label_of
from tasks.runtime.shards import Shard, content_shards, rows_of
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
        subject: ``prompts``, ``held-out`` or which answers, for the display.
        together: NLLB codes that the same run translates these prompts into. Those of them whose artifact is not there
            are translated too, so that the translator reads each sentence once for all; they wait in the translation
            memory.
        source: NLLB code of the prompts' language.

    Returns:
        ``translations.parquet``, one row a prompt, in the order of the prompts: id, source, translation,
        source_language, target_language, logprob (mean per token), finished, sentences_in, sentences_out, refusal,
        sentence_logprobs, lost (kinds of protected parts), repaired, translator (identity of the model), decoding
        (settings, as JSON). Where prompts have earlier turns, each turn is translated with its role: ``source_turns``
        and ``turns`` hold them in both languages, the figures are about all of them, and there is a translation if
        each of them has one.
    """
    told = None if subject == "prompts" else subject
    return _translated(run, _Asked(prompts), language, settings, told, together, source)


@stage_task("translate", "translate · {subject} · {language}")
def translate_shard(
    run: Run,
    prompts: ArtifactRef,
    shard: Shard,
    content: str,
    language: str,
    settings: TranslatorSettings,
    subject: str,
    together: Sequence[str] = (),
    source: str = ENGLISH,
) -> ArtifactRef:
    """Translates some of the prompts; arguments and artifact as of :func:`translate`.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``.
        shard: Which rows of it.
        content: Digest of all that is read of these, see :func:`prompt_shards`: the other rows have no part in the key.
        language: NLLB code of the target.
        settings: The translator.
        subject: For the display, with the shard.
        together: NLLB codes.
        source: NLLB code.
    """
    return _translated(run, _Asked(prompts, shard, content), language, settings, subject, together, source)


@stage_task("translate", "translate · {subject} · {language}")
def join_translations(
    run: Run,
    shards: Sequence[ArtifactRef],
    language: str,
    settings: TranslatorSettings,
    subject: str = "prompts",
    source: str = ENGLISH,
) -> ArtifactRef:
    """Puts the translations of all shards together, to what :func:`translate` makes of all prompts at once.

    Args:
        run: The run.
        shards: Their artifacts, in order.
        language: NLLB code of the target.
        settings: The translator.
        subject: As of :func:`translate`.
        source: NLLB code of the prompts' language.
    """

    def write(draft: Draft) -> None:
        tables = [pq.read_table(run.store.folder(ref) / TRANSLATIONS_FILE) for ref in shards]
        # Columns of earlier turns are there where a row has any.
        read = pa.concat_tables(tables, promote_options="default").combine_chunks()
        # Parquet gives the parts of lists another name, by which the file would have other bytes.
        own = [SCHEMA.field(field.name) if field.name in SCHEMA.names else field for field in read.schema]
        table = read.cast(pa.schema(own))
        pq.write_table(table, draft.path / TRANSLATIONS_FILE)
        draft.rows = len(table)
        if refused := Counter(reason for reason in table["refusal"].to_pylist() if reason):
            draft.facts["refused"] = dict(sorted(refused.items()))

    inputs = {f"shard {number}": ref for number, ref in enumerate(shards, start=1)}
    parts = _parts(language, facts_of(settings), inputs, source)
    told = None if subject == "prompts" else subject
    work = Work(rows_of(shards), new=lambda: 0)
    return produce(run, STAGE, parts, write, language=language, subject=told, work=work)


def prompt_shards(run: Run, prompts: ArtifactRef, rows: int | None) -> list[tuple[Shard, str]]:
    """The shards that prompts are translated in, with the digest of what is read of each.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``.
        rows: As of :func:`tasks.runtime.shards.content_shards`.

    Returns:
        None where they are translated at once, or are only foreseen.
    """
    if rows is None or not run.store.folder(prompts).is_dir():
        return []
    table = _read(run, prompts)
    shards = content_shards(table["id"].to_pylist(), rows)
    return [(shard, digest_data(shard.of(table).to_pylist())) for shard in shards]


@dataclass(frozen=True)
class _Asked:
    """The prompts that are translated: those of an artifact, or of one of its shards."""

    prompts: ArtifactRef
    shard: Shard | None = None
    content: str | None = None

    @property
    def inputs(self) -> dict[str, ArtifactRef | str]:
        return {"prompts": self.content or self.prompts}

    @property
    def count(self) -> int | None:
        return self.shard.stop - self.shard.start if self.shard else self.prompts.rows

    def read(self, run: Run) -> pa.Table:
        rows = _read(run, self.prompts)
        return self.shard.of(rows) if self.shard else rows


def _translated(
    run: Run,
    asked: _Asked,
    language: str,
    settings: TranslatorSettings,
    told: str | None,
    together: Sequence[str],
    source: str,
) -> ArtifactRef:
    facts = facts_of(settings)

    def new(code: str) -> int:
        if not run.store.folder(asked.prompts).is_dir():
            # They are foreseen only.
            return asked.count or 0
        texts = [text for said in _said(asked.read(run)) for text in said]
        return new_texts(texts, facts, run.workspace / MEMORY_FOLDER, source=source, target=code)

    def write(draft: Draft) -> None:
        rows = asked.read(run)
        said = _said(rows)
        texts = [text for each in said for text in each]
        advance = run.display.bar(label_of(STAGE.name, told, language), len(texts))

        def moved(step: "Step") -> None:
            advance(step.texts, step.tokens)

        with _translator(run, settings, facts) as translator:
            # Other machines have memories of their own, and each would do the work of all; and what an engine does not
            # remember would be made for nothing.
            shared = together if translator.engine.remembers and not run.apart else ()
            others = [code for code in shared if code != language and _waits(run, code, facts, asked, source)]
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
        turns = _by_row(done, said)
        whole = list(map(as_one, turns))
        table = _table(rows, whole, turns, language, facts, source)
        pq.write_table(table, draft.path / TRANSLATIONS_FILE)
        draft.rows = len(table)
        if wordless := sum(not item.sentences_in for item in whole):
            run.display.note(f"{language}: {wordless} of {len(whole)} prompts have no words and stay as they are.")
        _count_refusals(run, draft, whole, f"The translator refused {{}} of {len(rows)} prompts into {language}")

    parts = _parts(language, facts, asked.inputs, source)
    work = Work(asked.count, new=lambda: new(language))
    return produce(run, STAGE, parts, write, language=language, subject=told, work=work)


@stage_task("translate", "translate · {subject} · {language}")
def retranslate(
    run: Run,
    earlier: ArtifactRef,
    language: str,
    settings: TranslatorSettings,
    number: int,
    subject: str,
    source: str = ENGLISH,
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
        source: NLLB code of the prompts' language.

    Returns:
        ``translations.parquet`` as :func:`translate` makes it, with the column ``fallback``: the rows that were asked
        are the fallback's, all turns of them, and all others as they were. Without verdicts, a row stays as it was
        where the fallback has no translation either.
    """
    facts = facts_of(settings)

    def write(draft: Draft) -> None:
        table, asked, judged = _so_far(run.store.folder(earlier))
        rows = table.to_pylist()
        said = [texts_in(rows[place]["source"], rows[place].get(SOURCE_TURNS)) for place in asked]
        texts = [text for each in said for text in each]
        turns: list[list[Translation]] = []
        if texts:
            advance = run.display.bar(label_of(STAGE.name, subject, language), len(texts))
            with _translator(run, settings, facts) as translator:
                done = translator.translate(
                    texts,
                    source=source,
                    target=language,
                    on_progress=lambda step: advance(step.texts, step.tokens),
                    should_stop=run.should_stop,
                )
            turns = _by_row(done, said)
        made = made_by(facts) | {FALLBACK_COLUMN: number}
        whole = list(map(as_one, turns))
        for place, own, item in zip(asked, turns, whole, strict=True):
            row = rows[place]
            if judged or item.text:
                row |= row_of(row["source"], item, source=source, target=language) | made
                if TURNS in row:
                    row[TURNS] = _retold(row[SOURCE_TURNS], own)
        pq.write_table(pa.Table.from_pylist(rows, table.schema), draft.path / TRANSLATIONS_FILE)
        draft.rows = len(rows)
        draft.facts["asked"] = len(asked)
        _count_refusals(run, draft, whole, f"Fallback {number} refused {{}} of {len(asked)} prompts into {language}")

    def waiting() -> int | None:
        folder = run.store.folder(earlier)
        return len(_so_far(folder)[1]) if folder.is_dir() else earlier.rows

    parts = _parts(language, facts, {"earlier": earlier}, source)
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
    kept = [name for name in (SOURCE_TURNS, TURNS) if name in rows.column_names]
    return rows.select(["id", *SCHEMA.names, *kept, FALLBACK_COLUMN]), asked, judged


@contextmanager
def _translator(run: Run, settings: TranslatorSettings, facts: Mapping[str, Any]) -> "Iterator[Translator]":
    key = f"translator:{facts['model']}:{settings.model_dump_json()}:{run.workspace}"
    # Runs that share the workspace take turns, so that each finds in the memory what the other one translated.
    with (
        run.store.making(
            "translator",
            identity_of(facts),
            on_wait=lambda: run.waits("another translation"),
            should_stop=run.should_stop,
        ),
        loaded(run, key, settings.device, lambda: _load(settings, run)) as translator,
    ):
        yield translator


def _count_refusals(run: Run, draft: Draft, done: "Sequence[Translation]", told: str) -> None:
    refused = Counter(row.refusal for row in done if row.refusal)
    if refused:
        draft.facts["refused"] = dict(sorted(refused.items()))
        reasons = ", ".join(f"{count} × {reason}" for reason, count in sorted(refused.items()))
        run.display.note(f"{told.format(refused.total())}: {reasons}.")


def _parts(language: str, facts: dict[str, Any], inputs: Mapping[str, ArtifactRef | str], source: str) -> KeyParts:
    return STAGE.parts(
        {
            "language": asdict(resolve_language(language)),
            "translator": {"engine": facts["engine"], **facts["decoding"]},
            **({"refusals": REFUSALS.load("rules").version} if facts["engine"] == "http" else {}),
            **({} if source == ENGLISH else {"source": source}),
        },
        inputs,
        models={"translator": facts["model"]},
        modules=[REFUSALS.module("rules")] if facts["engine"] == "http" else [],
    )


def _waits(run: Run, language: str, facts: dict[str, Any], asked: _Asked, source: str) -> bool:
    return run.store.find(STAGE.name, _parts(language, facts, asked.inputs, source).key) is None


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


def _by_row(done: "Sequence[Translation]", said: Sequence[Sequence[str]]) -> "list[list[Translation]]":
    """Translations of all that is said, row by row."""
    each = iter(done)
    return [[next(each) for _ in texts] for texts in said]


def _retold(turns: str | None, parts: "Sequence[Translation]") -> str | None:
    """Earlier turns in the language of the translations, of which the last one is the prompt's."""
    return retold(turns, (part.text for part in parts[:-1]))


def _table(
    rows: pa.Table,
    whole: "Sequence[Translation]",
    parts: "Sequence[Sequence[Translation]]",
    language: str,
    facts: dict[str, Any],
    source: str,
) -> pa.Table:
    made = made_by(facts)
    texts = zip(rows["prompt"].to_pylist(), whole, strict=True)
    translated = [row_of(text, item, source=source, target=language) | made for text, item in texts]
    table = pa.Table.from_pylist(translated, SCHEMA).add_column(0, "id", rows["id"])
    before = turns_in(rows)
    if not any(before):
        return table
    told = [_retold(turns, said) for turns, said in zip(before, parts, strict=True)]
    return with_turns(table.append_column(SOURCE_TURNS, pa.array(before, pa.string())), told)
