"""What a run checks and tells before it costs anything, and of the rows that it is given."""

from collections.abc import Sequence

from flows.attempts import Attempts
from flows.configuration.pipeline import PipelineConfig
from mlc.evaluation.overlap import read_overlaps, require_little_overlap
from mlc.evaluation.settings import SPLITS
from mlc.left_out import require_few
from mlc.methods import Method, in_order
from mlc.methods.layers import require_layers
from mlc.methods.needs import require_data
from mlc.store import ArtifactRef
from mlc.translation.checkpoints import require_translatable
from mlc.translation.kept import require_keepable
from tasks.runtime.artifacts import PROMPTS_FILE, facts_of, left_out_of, read_rows
from tasks.runtime.models import Model
from tasks.runtime.policies import depth_of_policy
from tasks.runtime.registry.addresses import from_environment
from tasks.runtime.run import Run

SHIPPED_TRANSLATOR = "shipped:nano"
"""A toy, trained on the sentences of the quickstart's prompts."""


def check_layers(run: Run, config: PipelineConfig, policy: Model, methods: Sequence[Method]) -> None:
    """Checks that the policy has the layers that the settings name, where its number of layers is known."""
    depth = depth_of_policy(run, policy)
    if depth is not None:
        require_layers(
            depth,
            methods,
            align=config.align,
            evaluation=config.evaluation.layer,
            edit=config.edit.search.layers or (config.edit.layers,),
            direction=config.direction.layer,
            gate=config.serve.layer,
        )


def check_gates(config: PipelineConfig, methods: Sequence[Method], attempts: Attempts) -> None:
    """Checks that the translator can serve the gates that read translations."""
    for method in methods:
        if config.reads_translations(method):
            attempts.of(method, require_keepable, config.translator.first)
            languages = (config.anchor_language, *config.languages)
            attempts.of(method, require_translatable, config.translator.first, languages)


def tell_where(run: Run, config: PipelineConfig) -> None:
    """Tells that the environment decides where models are registered."""
    if names := from_environment(config.registry):
        run.display.note(f"Models are registered where {' and '.join(names)} say{'s' if len(names) == 1 else ''}.")


def tell_unread(run: Run, config: PipelineConfig) -> None:
    """Tells which settings decide nothing, because no method of the run reads them."""
    if unread := config.unread:
        named = ", ".join(f"{section} ({method} would)" for section, method in unread.items())
        run.display.note(f"No method of models reads what is set in {named}.")


def tell_of_toy(run: Run, config: PipelineConfig, methods: Sequence[Method]) -> None:
    """Tells where answers are translated by the shipped translator, which was made for prompts."""
    told = [method.name for method in methods if method.translates_answers]
    if told and config.translator.model == SHIPPED_TRANSLATOR:
        run.display.note(
            f"{SHIPPED_TRANSLATOR} knows the quickstart's prompts alone: what it makes of answers is invented, and "
            f"most of that is fluent enough to be kept. Name another translator.model for {' and '.join(told)}."
        )


def check_prompts(run: Run, config: PipelineConfig, prompts: ArtifactRef, attempts: Attempts) -> None:
    """Checks that the training prompts hold what the methods need, before they are translated."""
    rows = read_rows(run.store.folder(prompts) / PROMPTS_FILE)
    left_out = left_out_of(run.store, prompts)
    require_few([count for count in left_out if count.kind == "set aside"], config.align.max_dropped)
    for method in in_order(config.models):
        labels = config.gate_of(method).labels if method.recipe == "gate" else 0
        attempts.of(method, require_data, rows, [], [method], config.align, gate_labels=labels)


def check_left_out(run: Run, config: PipelineConfig, rows: ArtifactRef) -> None:
    """Checks that few rows are left out: what is trained or measured would be something else than what was given."""
    require_few(left_out_of(run.store, rows), config.align.max_dropped)


def check_overlap(
    run: Run, config: PipelineConfig, overlap: ArtifactRef, where: str | None = None, *, within: bool = True
) -> None:
    """Tells which prompts are there twice, and that too many held-out ones are trained on.

    Args:
        run: The run.
        config: The pipeline.
        overlap: What was found.
        where: A language or a suite, for what is told.
        within: Whether to tell of training prompts that are there twice, too.
    """
    lead = f"{where}: " if where else ""
    found = read_overlaps(facts_of(run.store, overlap))
    require_little_overlap(found, config.prompts.max_overlap)
    for part in found:
        if part.rows and (within or part.where in SPLITS):
            run.display.note(f"{lead}{part.sentence}.")
