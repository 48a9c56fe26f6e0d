"""What methods need of the training prompts, checked before any work is spent on them."""

from collections.abc import Sequence

import pyarrow as pa

from mlc.catalogue import CARRIERS
from mlc.errors import UserError
from mlc.evaluation.settings import EvaluationSettings
from mlc.left_out import LeftOut, require_few
from mlc.methods import BASE, Method, Need, resolve_method
from mlc.prompts import LABELS
from mlc.shapes.answers import ANSWERS
from mlc.shapes.labels import is_harmful
from mlc.training.apart import set_aside
from mlc.training.settings import HARMFUL_LABEL, LABELLED_CONTROLS, AlignSettings


def needs_of(method: Method, reads: str) -> frozenset[Need]:
    """Data that a method takes.

    Args:
        method: The method.
        reads: What gates read, ``serve.reads``. Before translations none of the training prompts has to be translated,
            unless the model behind the gate was made of some.
    """
    if method.recipe != "gate" or not (method.reads_translations or reads == "translation"):
        return method.needs
    behind = resolve_method(method.start).needs if method.start != BASE else frozenset[Need]()
    return method.needs - (frozenset[Need]({"translated prompts"}) - behind)


def require_data(
    prompts: pa.Table,
    left_out: Sequence[LeftOut],
    methods: Sequence[Method],
    align: AlignSettings,
    *,
    gate_labels: int = 0,
) -> None:
    """Checks that the training prompts hold what methods need.

    Args:
        prompts: The training prompts, with ``label`` and ``rejected`` where the file has them.
        left_out: What reading them left out.
        methods: All that are made.
        align: The alignment as it is configured.
        gate_labels: Labelled prompts of a class from which a gate's thresholds are set.

    Raises:
        UserError: Too many rows are set aside, or a method lacks rejected answers or labels.
    """
    require_few([count for count in left_out if count.kind == "set aside"], align.max_dropped)
    for method in methods:
        if method.recipe != "train":
            _require_both_labels(prompts, method, align)
            if method.recipe == "gate":
                _require_gate_labels(prompts, gate_labels)
            continue
        alignment = method.alignment(align)
        if method.localized:
            _require_both_labels(prompts, method, align)
        if alignment.terms.measures_risk:
            set_aside([is_harmful(label) for label in _values(prompts, "label")], alignment.balance.prompts, 0)
        if alignment.english_loss.needs_rejected and not method.own_pairs:
            _require_rejected(prompts, alignment)
        if alignment.english_loss.samples:
            _require_both_kinds(prompts, alignment)
        controls = {term.control for term in alignment.terms.active.values()}
        if alignment.translated.share:
            controls.add(alignment.translated.control)
        for control in sorted(controls.intersection(LABELLED_CONTROLS)):
            _require_labels(prompts, method, control)
        if alignment.answer.weight > 0 and alignment.answer.harmless != "vocabulary":
            _require_harmful(prompts, method)


def require_for_encoder(
    location: str, methods: Sequence[Method], align: AlignSettings, evaluation: EvaluationSettings
) -> None:
    """Checks that methods and evaluation can be had of an encoder-decoder.

    Args:
        location: The policy, as a person named it.
        methods: All that are made.
        align: The alignment as it is configured.
        evaluation: The evaluation.

    Raises:
        UserError: Something needs a model that only decodes.
    """
    lead = f"The policy {location!r} is an encoder-decoder, and"
    carriers = ", ".join(name for name in CARRIERS.places if CARRIERS.load(name).encoder_trainer)
    for method in methods:
        if method.recipe != "train":
            raise UserError(
                f"{lead} the method {method.name!r} changes models that only decode: take methods that train, such as "
                "consistency, or another policy."
            )
        alignment = method.alignment(align)
        if alignment.english_loss.encoder_trainer is None:
            raise UserError(
                f"{lead} the method {method.name!r} trains by the carrier {alignment.carrier}, which has no trainer "
                f"for one: take a method that trains by align.carrier, and one of {carriers} for that."
            )
    if any(method.recipe == "train" for method in methods):
        if align.adapter and align.adapter.kind == "qlora":
            raise UserError(f"{lead} qlora is for models that only decode: set align.adapter to lora or none.")
        if align.sharded:
            raise UserError(f"{lead} FSDP shards models that only decode: let align.launch start DDP, or one process.")
    if evaluation.engine.kind == "vllm":
        raise UserError(f"{lead} vLLM answers for models that only decode: set evaluation.engine.kind to transformers.")
    if evaluation.ability.wanted:
        raise UserError(f"{lead} general ability is measured of models that only decode: leave evaluation.ability out.")


def translated_columns(method: Method, align: AlignSettings) -> tuple[str, ...]:
    """Columns of the answers that a method needs in every language.

    Args:
        method: One that needs translated answers.
        align: The alignment as it is configured.
    """
    return ANSWERS if method.alignment(align).english_loss.needs_rejected else ANSWERS[:1]


def require_one_control(methods: Sequence[Method], align: AlignSettings) -> None:
    """Checks that the terms of each method take the same control, for they share their translations.

    Args:
        methods: All that are made.
        align: The alignment as it is configured.

    Raises:
        UserError: The terms of a method differ in it.
    """
    for method in methods:
        if method.recipe == "train":
            try:
                _ = method.alignment(align).terms.control
            except ValueError as problem:
                raise UserError(f"The method {method.name!r} cannot be made: {problem}") from None


def require_own_openings(methods: Sequence[Method], align: AlignSettings, measured: Sequence[str]) -> None:
    """Checks that training does not read the openings that the evaluation measures with.

    Args:
        methods: All that are made.
        align: The alignment as it is configured.
        measured: Openings of the evaluation, of a refusal and of an answer.

    Raises:
        UserError: An opening of a term is one of them, or begins like one.
    """
    for method in methods:
        trained = method.alignment(align).terms.openings if method.recipe == "train" else ()
        for own in trained:
            for other in measured:
                short, long = sorted((_bare(own), _bare(other)), key=len)
                if long.startswith(short):
                    raise UserError(
                        f"The method {method.name!r} trains on the opening {own!r}, and the evaluation measures with "
                        f"{other!r}: name openings under align that do not begin like those of evaluation, or the "
                        "figures would measure what was trained."
                    )


def _bare(opening: str) -> str:
    """An opening as it is compared: without case, and with one kind of apostrophe and space."""
    return " ".join(opening.casefold().replace("\u2019", "'").split())


def _values(prompts: pa.Table, column: str) -> list[str | None]:
    if column not in prompts.column_names:
        return [None] * len(prompts)
    values: list[str | None] = prompts[column].to_pylist()
    return values


def _require_rejected(prompts: pa.Table, align: AlignSettings) -> None:
    lacking = sum(not text for text in _values(prompts, "rejected"))
    if lacking == len(prompts):
        raise UserError(
            f"The carrier {align.carrier} compares answers, and none of the {len(prompts)} training prompts has a "
            "rejected one: add the column rejected, or take a carrier that reads the chosen answers alone, such as sft."
        )
    require_few([LeftOut("no rejected", lacking, len(prompts))], align.max_dropped)


def _require_both_kinds(prompts: pa.Table, align: AlignSettings) -> None:
    labels = _values(prompts, "label")
    for label in LABELS:
        if label not in labels:
            raise UserError(
                f"The carrier {align.carrier} rewards refusals of harmful prompts and answers to harmless ones, and "
                f"none of the {len(prompts)} training prompts has the label {label}: add prompts with that label, or "
                "take another carrier; rewarded for one of the two alone, a policy would do nothing else."
            )
    require_few([LeftOut("no label", labels.count(None), len(prompts))], align.max_dropped)


def _require_labels(prompts: pa.Table, method: Method, control: str) -> None:
    lacking = _values(prompts, "label").count(None)
    if lacking:
        raise UserError(
            f"The control {control!r} of the method {method.name!r} needs a label for every training prompt, and "
            f"{lacking} of {len(prompts)} have none: add the column label (harmful or harmless), or use the control "
            "'shuffled'."
        )


def _require_harmful(prompts: pa.Table, method: Method) -> None:
    if HARMFUL_LABEL not in _values(prompts, "label"):
        raise UserError(
            f"The method {method.name!r} compares the answers to harmful prompts, and none of the {len(prompts)} "
            f"training prompts has the label {HARMFUL_LABEL}: add the column label (harmful or harmless)."
        )


def _require_gate_labels(prompts: pa.Table, wanted: int) -> None:
    labels = _values(prompts, "label")
    fewest = min(LABELS, key=labels.count)
    if labels.count(fewest) < wanted:
        raise UserError(
            f"serve.labels asks for {wanted} prompts of a class in each language, and {labels.count(fewest)} of the "
            f"{len(prompts)} training prompts have the label {fewest}: lower it, or add some."
        )


def _require_both_labels(prompts: pa.Table, method: Method, align: AlignSettings) -> None:
    labels = _values(prompts, "label")
    for label in LABELS:
        if label not in labels:
            raise UserError(
                f"The method {method.name!r} needs harmful and harmless prompts, and none of the {len(prompts)} "
                f"training prompts has the label {label}: add the column label, or prompts with that label."
            )
    require_few([LeftOut("no label", labels.count(None), len(prompts))], align.max_dropped)
