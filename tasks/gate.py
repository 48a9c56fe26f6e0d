"""Stage ``gate``: a classifier of prompts beside the weights of a model, which refuses before anything is answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from mlc.gating.refusals import refusals_of_a_gate
from mlc.gating.settings import PromptGateSettings
from mlc.languages import ENGLISH, resolve_language
from mlc.models.sources import ModelSource
from mlc.permuted import dealt_anew
from mlc.shapes.history import TURNS, Prompt, conversation
from mlc.store import ArtifactRef, Draft
from mlc.store.drafts import link_file
from mlc.store.hashing import folder_files
from mlc.translation.kept import checkpoint_of, keep_translator
from mlc.translation.settings import TranslatorSettings
from tasks.runtime.artifacts import CHECKPOINT_FOLDER, PROMPT_GATE_FILE, PROMPTS_FILE, TRANSLATOR_FOLDER, VERDICTS_FILE
from tasks.runtime.compute import computing
from tasks.runtime.memory import remembering_memory
from tasks.runtime.models import Model
from tasks.runtime.policies import BASE_FACT, loaded_policy, source_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

WEAK = 0.6
"""A score with a lower AUROC hardly tells harmful from harmless prompts; .5 is chance."""

STAGE = Stage("gate", version=1, module=__name__, libraries=("torch", "transformers"))


@dataclass(frozen=True)
class GatePlan:
    """How a gate is fitted."""

    gate: PromptGateSettings
    anchor: str = ENGLISH
    """NLLB code of the language whose labels it is fitted on."""
    permuted: bool = False
    """Whether labels are dealt anew, by the seed of the model: a control."""
    translator: TranslatorSettings = field(default_factory=TranslatorSettings)
    """What makes translations for a gate that reads them."""

    @property
    def translates(self) -> bool:
        """Whether it reads translations of what it is asked about."""
        return self.gate.reads == "translation"


@stage_task("gate", "gate · {model.label}")
def fit_prompt_gate(
    run: Run,
    model: Model,
    prompts: ArtifactRef,
    verdicts: Mapping[str, ArtifactRef],
    settings: GatePlan,
) -> ArtifactRef:
    """Fits a gate on the labelled prompts, and sets its thresholds by their kept translations.

    Args:
        run: The run.
        model: The model that it is for.
        prompts: Artifact with ``prompts.parquet``, with labels.
        verdicts: The filter's verdicts by NLLB code; none for a gate that reads translations.
        settings: The gate.

    Returns:
        The folder ``checkpoint``: that of the model, or the policy as it was loaded, ``prompt_gate.json`` in it, and
        the folder ``translator`` for a gate that reads translations.
    """
    facts = {
        "gate": settings.gate.model_dump(mode="json", exclude={"refusals"}),
        "refusals": refusals_of_a_gate((settings.anchor, *sorted(verdicts)), settings.gate.refusals),
        "anchor": settings.anchor,
        "permuted": settings.permuted,
        **model.answering,
    }
    translator = checkpoint_of(settings.translator) if settings.translates else None
    if translator:
        facts |= {"translator": translator.identity}
    inputs = {"prompts": prompts} | {f"verdicts {language}": ref for language, ref in sorted(verdicts.items())}
    parts = STAGE.parts(facts, inputs, {"model": source_of(run, model).identity}, model.seed)

    def write(draft: Draft) -> None:
        rows = pq.read_table(run.store.folder(prompts) / PROMPTS_FILE).to_pylist()
        ids, labels = [row["id"] for row in rows], [row.get("label") for row in rows]
        if settings.permuted:
            labels = dealt_anew(labels, model.seed)
        translations = {language: _translated(run, ref, ids) for language, ref in sorted(verdicts.items())}
        texts = [conversation(row["prompt"], row.get(TURNS)) for row in rows]
        moved = run.display.bar(f"gate · {model.label}", len(rows) * (1 + len(translations)))
        if translator:
            # All that it knows, so that a language more changes nothing.
            folder = draft.path / CHECKPOINT_FOLDER / TRANSLATOR_FOLDER
            translations = {
                language: [None] * len(rows) for language in _kept(run, model, translator, folder, settings)
            }
        with loaded_policy(run, model) as policy, remembering_memory(draft.facts, model.device):
            from mlc.gating.gate import fit_gate
            from mlc.models.loading import save_policy

            gate = fit_gate(
                policy,
                texts,
                labels,
                translations,
                settings.gate,
                anchor=settings.anchor,
                translator=translator.identity if translator else None,
                on_prompts=moved,
                should_stop=run.should_stop,
            )
            if not isinstance(model.weights, ArtifactRef):
                save_policy(policy, draft.path / CHECKPOINT_FOLDER, dtype=policy.model.dtype)
        if isinstance(start := model.weights, ArtifactRef):
            whole = run.store.folder(start) / CHECKPOINT_FOLDER
            # What is written below must not be a second name of something.
            for file in folder_files(whole):
                if file != whole / PROMPT_GATE_FILE:
                    link_file(file, draft.path / CHECKPOINT_FOLDER / file.relative_to(whole))
            if base := run.store.manifest(start.kind, start.key)["facts"].get(BASE_FACT):
                # The weights may be an adapter.
                draft.facts[BASE_FACT] = base
        gate.save(draft.path / CHECKPOINT_FOLDER)
        draft.facts |= {"layer": gate.layer, "pool": gate.pool, "separation": gate.separation}
        for language, value in gate.separation.items():
            if value is not None and value < WEAK:
                name = resolve_language(language).english_name
                run.display.note(
                    f"{model.label}: its gate hardly tells harmful from harmless prompts in {name}: AUROC "
                    f"{value:.2f} on prompts that it was not fitted on, and .5 is chance."
                )
        draft.rows = len(rows)

    return produce(run, STAGE, parts, write, subject=model.label, work=Work(prompts.rows))


def _kept(run: Run, model: Model, translator: ModelSource, folder: Path, settings: GatePlan) -> list[str]:
    """NLLB codes of the languages of a translator that was put beside a gate, those that have a refusal first."""
    # Transformers sets the type of all weights that are made while it loads.
    with computing(run, model.device):
        known = keep_translator(translator, folder, settings.anchor)
    first = [code for code in refusals_of_a_gate((settings.anchor,), settings.gate.refusals) if code in known]
    return [code for code in dict.fromkeys((*first, *known)) if code != settings.anchor]


def _translated(run: Run, verdicts: ArtifactRef, ids: list[str]) -> list[Prompt | None]:
    """The kept translations of prompts into one language, None where there is none."""
    rows = pq.read_table(run.store.folder(verdicts) / VERDICTS_FILE).to_pylist()
    kept = {row["id"]: conversation(row["translation"], row.get(TURNS)) for row in rows if row["keep"]}
    return [kept.get(name) for name in ids]
