"""Stage ``dataset``: prompts and the kept translations of every language become one training set."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.left_out import LeftOut
from mlc.shapes.history import TURNS, VARIANT_TURNS
from mlc.store import ArtifactRef, Draft
from mlc.tables.saved import write_saved
from tasks.runtime.artifacts import DATASET_FOLDER, PROMPTS_FILE, VERDICTS_FILE, note_left_out
from tasks.runtime.run import Run
from tasks.runtime.settings import DatasetSettings
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("dataset", version=2, module=__name__, libraries=("datasets", "pyarrow"))

COLUMNS = ["id", "translation", "quality", "keep"]
Kept = tuple[str, float, str | None]
"""A translation, its quality, and what was said before it."""


@stage_task("dataset", "dataset")
def build_dataset(
    run: Run,
    prompts: ArtifactRef,
    verdicts: Mapping[str, ArtifactRef],
    settings: DatasetSettings,
    anchor: str = ENGLISH,
    about: str | None = None,
) -> ArtifactRef:
    """Joins the languages.

    Args:
        run: The run.
        prompts: Artifact with ``prompts.parquet``.
        verdicts: The filter's verdicts by NLLB code.
        settings: How languages are joined.
        anchor: NLLB code of the prompts' language.
        about: Whose answers the prompts have, if not those that were given, for the display.

    Returns:
        The folder ``dataset``, which ``datasets.load_from_disk`` opens: the columns of the prompts, ``languages``
        (the anchor first), ``variants`` (the prompt in each of them, empty where it is missing), ``mask`` (True where
        it is there), with prompts that have earlier turns also ``variant_turns`` (those in each language), and with
        ``quality_weights`` also ``variant_weights`` (the quality of each, 1 for the anchor and 0
        where it is missing).

    Raises:
        UserError: ``min_languages`` leaves no prompt.
    """
    facts = {"dataset": settings.model_dump(mode="json"), **({} if anchor == ENGLISH else {"anchor": anchor})}
    parts = STAGE.parts(facts, {"prompts": prompts, **verdicts})

    def write(draft: Draft) -> None:
        store = run.store
        rows = pq.read_table(store.folder(prompts) / PROMPTS_FILE).to_pylist()
        kept = {
            language: _kept(pq.read_table(store.folder(ref) / VERDICTS_FILE))
            for language, ref in sorted(verdicts.items())
        }
        joined = [_join(row, kept, anchor, weighted=settings.quality_weights) for row in rows]
        usable = [row for row in joined if sum(row["mask"]) - 1 >= settings.min_languages]
        if not usable:
            raise UserError(
                f"No prompt has {settings.min_languages} kept translations (dataset.min_languages): lower it, or "
                "look at the filter's reasons in the report."
            )
        write_saved(pa.Table.from_pylist(usable), draft.path / DATASET_FOLDER, parts.key)
        draft.rows = len(usable)
        left_out = _left_out(joined, usable, list(kept), settings)
        draft.facts["languages"] = [anchor, *kept]
        note_left_out(run, draft, left_out, "training set")

    return produce(run, STAGE, parts, write, subject=about, work=Work(prompts.rows))


def _kept(verdicts: pa.Table) -> dict[str, Kept]:
    wanted = verdicts.select([*COLUMNS, *(name for name in (TURNS,) if name in verdicts.column_names)])
    rows = [row for row in wanted.to_pylist() if row["keep"]]
    return {row["id"]: (row["translation"], row["quality"], row.get(TURNS)) for row in rows}


def _left_out(
    joined: Sequence[dict[str, Any]],
    usable: Sequence[dict[str, Any]],
    languages: Sequence[str],
    settings: DatasetSettings,
) -> list[LeftOut]:
    few = LeftOut("few languages", len(joined) - len(usable), len(joined), settings.min_languages)
    missing = [sum(not row["mask"][place] for row in usable) for place in range(1, len(languages) + 1)]
    return [
        few,
        *(
            LeftOut("no translation", count, len(usable), language=language)
            for language, count in zip(languages, missing, strict=True)
        ),
    ]


def _join(
    row: dict[str, Any], kept: Mapping[str, Mapping[str, Kept]], anchor: str, *, weighted: bool
) -> dict[str, Any]:
    found = [translations.get(row["id"]) for translations in kept.values()]
    joined = {
        **row,
        "languages": [anchor, *kept],
        "variants": [row["prompt"], *(each[0] if each else "" for each in found)],
        "mask": [True, *(each is not None for each in found)],
    }
    if TURNS in row:
        joined[VARIANT_TURNS] = [row[TURNS], *(each[2] if each else None for each in found)]
    if weighted:
        joined["variant_weights"] = [1.0, *(each[1] if each else 0.0 for each in found)]
    return joined
