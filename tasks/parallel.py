"""Stage ``parallel``: prompts that need no translator, because they are there in the language."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.languages import ENGLISH, resolve_language
from mlc.prompts import read_prompts
from mlc.shipped import resolve_path
from mlc.store import ArtifactRef, Draft
from mlc.tables import find_place, is_remote
from mlc.translation.table import SCHEMA
from tasks.runtime.artifacts import PROMPTS_FILE, TRANSLATIONS_FILE
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, shows, stage_task

STAGE = Stage("parallel", version=1, module=__name__, libraries=("pyarrow",))
MISSING = "not among the prompts of the language"
GIVEN = "given"
"""Who translated, for a text that was there."""


@stage_task("parallel", "parallel · {language}")
def take_parallel(run: Run, prompts: ArtifactRef, language: str, location: str) -> ArtifactRef:
    """Takes the prompts of one language that are parallel to the English ones by id.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``.
        language: NLLB code.
        location: A table with the columns ``id`` and ``prompt``.

    Returns:
        ``translations.parquet`` as of :func:`tasks.translate.translate`, one row an English prompt; one that the table
        has no prompt for has no translation, and ``refusal`` says so.

    Raises:
        UserError: The table cannot be read, or shares no id with the prompts.
    """
    file = location if is_remote(location) else resolve_path(location, Path.cwd())
    try:
        digest = find_place(file, what="prompt file").identity()
    except OSError as error:
        raise UserError(
            f"The prompts {location!r} in {language} cannot be read ({error.strerror or error}): correct "
            "prompts.parallel."
        ) from None

    def write(draft: Draft) -> None:
        english = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE, columns=["id", "prompt"])
        own = read_prompts(file, required=("id", "prompt")).rows
        texts = dict(zip(own["id"].to_pylist(), own["prompt"].to_pylist(), strict=True))
        ids = english["id"].to_pylist()
        there = [name for name in ids if name in texts]
        if ids and not there:
            raise UserError(
                f"The prompts {location!r} share no id with the English ones: give each the id of the English prompt "
                "that it says the same as."
            )
        rows = [
            _row(text, texts.get(name), language, digest)
            for name, text in zip(ids, english["prompt"].to_pylist(), strict=True)
        ]
        pq.write_table(
            pa.Table.from_pylist(rows, SCHEMA).add_column(0, "id", english["id"]), draft.path / TRANSLATIONS_FILE
        )
        draft.rows = len(rows)
        draft.facts["parallel"] = {"missing": len(ids) - len(there), "left": len(texts) - len(there)}
        _tell(run, draft.facts["parallel"], len(ids), language)

    parts = STAGE.parts({"language": asdict(resolve_language(language))}, {"prompts": prompts, "file": digest})
    return produce(run, STAGE, parts, write, language=language, work=Work(prompts.rows))


def _row(source: str, text: str | None, language: str, digest: str) -> dict[str, object]:
    return {
        "source": source,
        "translation": text or "",
        "source_language": ENGLISH,
        "target_language": language,
        "logprob": None,
        "finished": text is not None,
        "sentences_in": 1,
        "sentences_out": int(text is not None),
        "sentence_logprobs": [None],
        "lost": [],
        "repaired": 0,
        "refusal": None if text is not None else MISSING,
        "translator": f"{GIVEN}:{digest}",
        "decoding": "{}",
    }


@shows
def _tell(run: Run, counts: Mapping[str, int], prompts: int, language: str) -> None:
    if counts["missing"] or counts["left"]:
        run.display.note(
            f"{language}: {counts['missing']} of {prompts} prompts are not in its own file, and {counts['left']} rows "
            "of that belong to no English prompt."
        )
