"""Stage ``parallel``: prompts that need no translator, because they are there in the language."""

from collections.abc import Mapping
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.languages import ENGLISH, resolve_language
from mlc.left_out import LeftOut
from mlc.prompts import locate_own, meaning_of, read_beside
from mlc.shapes.history import SOURCE_TURNS, speakers, turns_in, with_turns
from mlc.shapes.row_ids import require_like_ids, row_ids
from mlc.store import ArtifactRef, Draft
from mlc.translation.table import SCHEMA
from tasks.runtime.artifacts import PROMPTS_FILE, TRANSLATIONS_FILE, note_left_out
from tasks.runtime.run import Run
from tasks.runtime.settings import PromptSettings
from tasks.runtime.stage import Stage, Work, produce, shows, stage_task

STAGE = Stage("parallel", version=1, module=__name__, libraries=("pyarrow",))
MISSING = "not among the prompts of the language"
OTHER_TURNS = "other turns before the prompt than in the language"
GIVEN = "given"
"""Who translated, for a text that was there."""


@stage_task("parallel", "parallel · {language}")
def take_parallel(
    run: Run, prompts: ArtifactRef, language: str, settings: PromptSettings, source: str = ENGLISH
) -> ArtifactRef:
    """Takes the prompts of one language that are parallel to those of the anchor by id.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``.
        language: NLLB code.
        settings: Names the language's table, with the columns ``id`` and ``prompt``, the latter a conversation where
            the prompt is one; and what columns and labels are called in all tables of prompts.
        source: NLLB code of the prompts' language.

    Returns:
        ``translations.parquet`` as of :func:`tasks.translate.translate`, one row a prompt; one that the table has no
        prompt for, or one with other turns, has no translation, and ``refusal`` says so.

    Raises:
        UserError: The table cannot be read, or shares no id with the prompts, or one of both alone has ids.
    """
    location = settings.parallel[language]
    file, digest = locate_own(location, language, "prompts.parallel")

    def write(draft: Draft) -> None:
        asked = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE)
        read = read_beside(file, required=("id", "prompt"), **meaning_of(settings))
        own = read.rows
        names = f"prompts in {source}", f"prompts {location!r} in {language}"
        told = require_like_ids(row_ids(asked), row_ids(own), names)
        said = zip(own["prompt"].to_pylist(), turns_in(own), strict=True)
        texts = dict(zip(own["id"].to_pylist(), said, strict=True))
        ids = asked["id"].to_pylist()
        there = [name for name in ids if name in texts]
        if ids and not there:
            raise UserError(
                f"The prompts {location!r} share no id with those in {source}: give each the id of the prompt that it "
                "says the same as."
            )
        before = turns_in(asked)
        found = [_same_turns(texts.get(name), turns) for name, turns in zip(ids, before, strict=True)]
        rows = [
            _row(text, given, MISSING if name not in texts else OTHER_TURNS, (source, language), digest)
            for name, text, (given, _) in zip(ids, asked["prompt"].to_pylist(), found, strict=True)
        ]
        table = pa.Table.from_pylist(rows, SCHEMA).add_column(0, "id", asked["id"])
        if any(before):
            table = table.append_column(SOURCE_TURNS, pa.array(before, pa.string()))
            table = with_turns(table, [turns for _, turns in found])
        pq.write_table(table, draft.path / TRANSLATIONS_FILE)
        draft.rows = len(rows)
        for note in (*read.notes, *([told] if told else [])):
            run.display.note(note)
        note_left_out(run, draft, [LeftOut.of_rows("set aside", read.reasons, len(own), language)], language)
        unlike = sum(given is None for given, _ in found) - (len(ids) - len(there))
        draft.facts["parallel"] = {"missing": len(ids) - len(there), "left": len(texts) - len(there)}
        draft.facts["parallel"] |= {"other_turns": unlike} if unlike else {}
        _tell(run, draft.facts["parallel"], len(ids), language)

    facts = {"language": asdict(resolve_language(language)), **({} if source == ENGLISH else {"source": source})}
    parts = STAGE.parts(
        {**facts, **{name: said for name, said in meaning_of(settings).items() if said}},
        {"prompts": prompts, "file": digest},
    )
    return produce(run, STAGE, parts, write, language=language, work=Work(free=True))


def _same_turns(given: tuple[str, str | None] | None, before: str | None) -> tuple[str | None, str | None]:
    """A prompt of the language and what was said before it; nothing, if other speakers spoke before it."""
    if given is None or speakers(given[1]) != speakers(before):
        return None, None
    return given


def _row(asked: str, text: str | None, problem: str, languages: tuple[str, str], digest: str) -> dict[str, object]:
    return {
        "source": asked,
        "translation": text or "",
        "source_language": languages[0],
        "target_language": languages[1],
        "logprob": None,
        "finished": text is not None,
        "sentences_in": 1,
        "sentences_out": int(text is not None),
        "sentence_logprobs": [None],
        "lost": [],
        "repaired": 0,
        "refusal": None if text is not None else problem,
        "translator": f"{GIVEN}:{digest}",
        "decoding": "{}",
    }


@shows
def _tell(run: Run, counts: Mapping[str, int], prompts: int, language: str) -> None:
    if counts["missing"] or counts["left"]:
        run.display.note(
            f"{language}: {counts['missing']} of {prompts} prompts are not in its own file, and {counts['left']} rows "
            "of that belong to no prompt."
        )
    if unlike := counts.get("other_turns"):
        run.display.note(f"{language}: {unlike} prompts have other turns before them in its own file.")
