"""Stage ``dataset``: prompts and the kept translations of every language become one training set."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.store import ArtifactRef, Draft
from tasks.files import DATASET_FOLDER, PROMPTS_FILE, VERDICTS_FILE
from tasks.running import current_run
from tasks.settings import DatasetSettings
from tasks.stage import Stage, Work, produce, stage_task

STAGE = Stage("dataset", version=1, module=__name__, libraries=("datasets", "pyarrow"))


@stage_task("dataset", "dataset")
def build_dataset(prompts: ArtifactRef, verdicts: Mapping[str, ArtifactRef], settings: DatasetSettings) -> ArtifactRef:
    """Joins the languages.

    Returns:
        The folder ``dataset``, which ``datasets.load_from_disk`` opens: the columns of the prompts, ``languages``
        (English first), ``variants`` (the prompt in each of them, empty where it is missing) and ``mask`` (True where
        it is there).

    Raises:
        UserError: ``min_languages`` leaves no prompt.
    """
    parts = STAGE.parts({"dataset": settings.model_dump(mode="json")}, {"prompts": prompts, **verdicts})

    def write(draft: Draft) -> None:
        from datasets import Dataset

        store = current_run().store
        rows = pq.read_table(store.folder(prompts) / PROMPTS_FILE).to_pylist()
        kept = {
            language: _kept(pq.read_table(store.folder(ref) / VERDICTS_FILE, columns=["id", "translation", "keep"]))
            for language, ref in sorted(verdicts.items())
        }
        joined = [_join(row, kept) for row in rows]
        usable = [row for row in joined if sum(row["mask"]) - 1 >= settings.min_languages]
        if not usable:
            raise UserError(
                f"No prompt has {settings.min_languages} kept translations (dataset.min_languages): lower it, or "
                "look at the filter's reasons in the report."
            )
        # A given fingerprint, because the library's own one holds the time.
        Dataset(pa.Table.from_pylist(usable), fingerprint=parts.key[:16]).save_to_disk(draft.path / DATASET_FOLDER)
        draft.rows = len(usable)
        draft.facts |= {"left_out": len(joined) - len(usable), "languages": [ENGLISH, *kept]}

    return produce(STAGE, parts, write, work=Work(prompts.rows))


def _kept(verdicts: pa.Table) -> dict[str, str]:
    return {row["id"]: row["translation"] for row in verdicts.to_pylist() if row["keep"]}


def _join(row: dict[str, Any], kept: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    texts = [translations.get(row["id"]) for translations in kept.values()]
    return {
        **row,
        "languages": [ENGLISH, *kept],
        "variants": [row["prompt"], *(text or "" for text in texts)],
        "mask": [True, *(text is not None for text in texts)],
    }
