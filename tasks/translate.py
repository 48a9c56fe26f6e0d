"""Stage ``translate``: English prompts into one language."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.languages import ENGLISH, resolve_language
from mlc.models.sources import ModelSource, resolve_model
from mlc.store import ArtifactRef, Draft
from mlc.translation.settings import TranslatorSettings
from tasks.compute import loaded
from tasks.files import PROMPTS_FILE, TRANSLATIONS_FILE
from tasks.running import current_run
from tasks.stage import Stage, produce, stage_task

if TYPE_CHECKING:
    from mlc.translation.engine import NllbTranslator

STAGE = Stage("translate", version=1, module=__name__, libraries=("torch", "transformers", "sentencex"))


@stage_task("translate", "translate · {language}")
def translate(
    prompts: ArtifactRef, language: str, settings: TranslatorSettings, subject: str = "prompts"
) -> ArtifactRef:
    """Translates prompts.

    Args:
        prompts: Artifact with ``prompts.parquet``.
        language: NLLB code of the target.
        settings: The translator.
        subject: ``prompts`` or ``held-out``, for the display.

    Returns:
        ``translations.parquet``: id, source, translation, source_language, target_language, logprob (mean per token),
        finished, sentences_in, sentences_out; one row a prompt, in the order of the prompts.
    """
    source = resolve_model(settings.model, revision=settings.revision)
    parts = STAGE.parts(
        {
            "language": asdict(resolve_language(language)),
            "num_beams": settings.num_beams,
            "max_new_tokens": settings.max_new_tokens,
        },
        {"prompts": prompts},
        models={"translator": source.identity},
    )

    def write(draft: Draft) -> None:
        run = current_run()
        rows = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE, columns=["id", "prompt"])
        moved = run.display.bar(f"translate · {language}", len(rows))
        texts = rows["prompt"].to_pylist()
        with loaded(
            f"translator:{source.identity}:{settings.model_dump_json()}", lambda: _load(source, settings)
        ) as translator:
            done = translator.translate(texts, source=ENGLISH, target=language, on_progress=moved)
        table = pa.table(
            {
                "id": rows["id"],
                "source": rows["prompt"],
                "translation": pa.array([item.text for item in done], pa.string()),
                "source_language": pa.array([ENGLISH] * len(done), pa.string()),
                "target_language": pa.array([language] * len(done), pa.string()),
                "logprob": pa.array([item.logprob for item in done], pa.float64()),
                "finished": pa.array([item.finished for item in done], pa.bool_()),
                "sentences_in": pa.array([item.sentences_in for item in done], pa.int64()),
                "sentences_out": pa.array([item.sentences_out for item in done], pa.int64()),
            }
        )
        pq.write_table(table, draft.path / TRANSLATIONS_FILE)
        draft.rows = len(table)

    return produce(STAGE, parts, write, language=language, subject=None if subject == "prompts" else subject)


def _load(source: ModelSource, settings: TranslatorSettings) -> "NllbTranslator":
    from mlc.translation.engine import NllbTranslator

    # The very commit that the key names, not whatever a branch points to by now.
    exact = settings.model_copy(update={"model": source.target, "revision": source.revision})
    return NllbTranslator.from_settings(exact)
