"""A configuration in words: what decides the results, as the report and the registry show it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlc.languages import ENGLISH, resolve_language
from mlc.methods import in_order, sections_read
from mlc.training.settings import TRANSLATED_SHARE, OpeningSettings

if TYPE_CHECKING:
    from flows.configuration.pipeline import PipelineConfig


def summarised(config: "PipelineConfig") -> dict[str, str]:
    """What decides the results, in a few lines, for the report and the registry. No paths, no name."""
    told = {
        "policy": _model_name(config.policy.model),
        "translator": _model_name(config.translator.model),
        **{
            f"fallback {number}": _model_name(fallback.model)
            for number, fallback in enumerate(config.translator.fallbacks, start=1)
        },
        **({"anchor language": config.anchor_language} if config.anchor_language != ENGLISH else {}),
        "languages": ", ".join(config.languages),
        **({"measured, not trained": ", ".join(config.unseen_languages)} if config.unseen_languages else {}),
        **({"suites": ", ".join(config.suites)} if config.evaluation.suites else {}),
        **({"not translated": ", ".join(sorted(config.prompts.parallel))} if config.prompts.parallel else {}),
        **({"unpaired prompts": ", ".join(sorted(config.prompts.unpaired))} if config.prompts.unpaired else {}),
        **_left_out_in_words(config),
        "models": ", ".join(method.name for method in config.methods),
        "candidate": config.roles.candidate,
    }
    words = {
        "align": _alignment_in_words,
        "align.consistency": _term_in_words,
        "align.balance": _balance_in_words,
        "align.decision": _decision_in_words,
        "align.answer": _answer_in_words,
        "align.translated": _translated_in_words,
        "align.mpo": _mpo_in_words,
        "align.msd": _msd_in_words,
        "align.cm_align": _cm_align_in_words,
        "align.feedback": _feedback_in_words,
        "edit": _edit_in_words,
        "direction": _direction_in_words,
        "serve": _gate_in_words,
    }
    read = sections_read(in_order(config.models))
    for section, tell in words.items():
        if section in read:
            told |= tell(config)
    return told


def _left_out_in_words(config: "PipelineConfig") -> dict[str, str]:
    alone = [code for code in config.languages if code not in config.paired_languages]
    needing = ", ".join(method.name for method in in_order(config.models) if config.translates(method))
    return {f"not in {needing}": ", ".join(alone)} if alone and needing else {}


def _alignment_in_words(config: "PipelineConfig") -> dict[str, str]:
    anchor = resolve_language(config.anchor_language).english_name
    return {
        "seeds": ", ".join(map(str, config.seeds)),
        f"{anchor} loss": f"{config.align.carrier}, {config.align.steps} steps of {config.align.batch_size} prompts, "
        f"learning rate {config.align.learning_rate:g}",
        **_adapter_in_words(config),
        **_launch_in_words(config),
    }


def _launch_in_words(config: "PipelineConfig") -> dict[str, str]:
    launch = config.align.launch
    return {"processes": f"{launch.count}, {launch.engine}"} if launch and launch.count > 1 else {}


def _adapter_in_words(config: "PipelineConfig") -> dict[str, str]:
    adapter = config.align.adapter
    if adapter is None:
        return {}
    kind = {"lora": "LoRA", "qlora": "QLoRA"}[adapter.kind]
    ways = [word for word, used in (("DoRA", adapter.use_dora), ("rsLoRA", adapter.use_rslora)) if used]
    return {"adapter": ", ".join([kind, f"rank {adapter.r}", f"alpha {adapter.alpha}", *ways])}


def _term_in_words(config: "PipelineConfig") -> dict[str, str]:
    term = config.align.consistency
    return {
        "consistency form": f"{term.form}{', signed' if term.signed else ''}",
        "consistency weight": f"{term.weight:g}",
        "anchor": term.anchor,
        "centring": term.center if term.center == "none" else f"{term.center}, {term.center_scope}",
        "layer": f"{term.layer:g}" if isinstance(term.layer, float) else str(term.layer),
        "pool": term.pool,
        "language weights": _weights_in_words(term.language_weights),
        "extractor": "none" if term.dim is None else f"linear, {term.dim}",
        "control": term.control,
    }


def _balance_in_words(config: "PipelineConfig") -> dict[str, str]:
    balance = config.align.balance
    risk = f"risk on {balance.prompts} prompts every {balance.every} steps"
    return {"languages by": f"temperature {balance.temperature:g}, or {risk}"}


def _decision_in_words(config: "PipelineConfig") -> dict[str, str]:
    term = config.align.decision
    return {
        "decision weight": f"{term.weight or term.usual_weight:g}",
        "decision difference": f"{term.difference}, {term.delta:g}" if term.difference == "huber" else "squared",
        **_openings_in_words("decision", term),
    }


def _answer_in_words(config: "PipelineConfig") -> dict[str, str]:
    term = config.align.answer
    return {
        "answer weight": f"{term.weight or term.usual_weight:g}",
        "answer divergence": f"{term.divergence}, {term.tokens} tokens of the {term.source} answer",
        "answer teacher": "the model itself" if term.teacher == "self" else "a copy from the start",
        "answers to harmless prompts": term.harmless,
        **_openings_in_words("answer", term),
    }


def _translated_in_words(config: "PipelineConfig") -> dict[str, str]:
    switched = config.align.translated.switched
    return {
        "translated examples": f"a share of {config.align.translated.share or TRANSLATED_SHARE:g}",
        **({"code-switched prompts": f"a share of {switched:g} of them"} if switched else {}),
    }


def _mpo_in_words(config: "PipelineConfig") -> dict[str, str]:
    return {"MPO": f"beta {config.align.mpo.beta:g}, retention {config.align.mpo.retention:g}"}


def _msd_in_words(config: "PipelineConfig") -> dict[str, str]:
    msd = config.align.msd
    weights = f"weighted among the {msd.top} likeliest tokens" if msd.weighted else "tokens alike"
    return {"MSD": f"{msd.policy}-policy, {msd.answer_tokens} tokens of an answer, {weights}"}


def _feedback_in_words(config: "PipelineConfig") -> dict[str, str]:
    own = config.align.feedback
    return {"feedback": f"beta {own.beta:g}, weights {own.good_weight:g} and {own.bad_weight:g} of good and bad"}


def _cm_align_in_words(config: "PipelineConfig") -> dict[str, str]:
    own = config.align.cm_align
    return {"CM-Align": f"{own.answers} answers a prompt and language, cross-entropy {own.nll:g}"}


def _edit_in_words(config: "PipelineConfig") -> dict[str, str]:
    edit = config.edit
    layers = edit.layers if isinstance(edit.layers, str) else ", ".join(map(str, edit.layers))
    return {
        "edit": "searched for each language" if edit.search.wanted else "given",
        "edit layers": f"{layers}{', one after the other' if edit.sequential else ''}",
        "edit rank": str(edit.rank),
        "edit penalties": f"gamma {edit.gamma:g}, ridge {edit.ridge:g}, {edit.scale}",
        "edit pool": edit.pool,
        "safety units": f"z > {edit.units.z_threshold:g} {'or' if edit.units.combine == 'union' else 'and'} "
        f"d > {edit.units.d_threshold:g}",
    }


def _gate_in_words(config: "PipelineConfig") -> dict[str, str]:
    gate = config.serve
    gates = [method for method in in_order(config.models) if method.recipe == "gate"]
    thresholds = f"{gate.labels} labelled prompts of a class" if gate.labels else "shares of translations"
    if gates and all(map(config.reads_translations, gates)):
        thresholds = "even odds, one for all languages"
    layer = gate.layer if isinstance(gate.layer, str) else f"{gate.layer:g}"
    fitted = f"rank {gate.rank}, ridge {gate.ridge:g}, layer {layer}, pool {gate.pool}"
    bound = gate.false_refusals
    bounded = "" if bound is None else f", false refusals at most {bound:g}"
    return {"gate on prompts": f"{fitted}, thresholds by {thresholds}{bounded}"}


def _direction_in_words(config: "PipelineConfig") -> dict[str, str]:
    direction = config.direction
    return {
        "refusal direction": f"added {direction.add:g} times, scaled by {direction.scale:g}",
        "direction layer": f"{direction.layer:g}, {direction.pool}",
    }


def _weights_in_words(weights: Mapping[str, float] | None) -> str:
    return "equal" if not weights else ", ".join(f"{code} {weight:g}" for code, weight in sorted(weights.items()))


def _openings_in_words(name: str, term: OpeningSettings) -> dict[str, str]:
    both = (term.refusal_openings, term.compliance_openings)
    return {f"{name} openings": " / ".join(", ".join(map(repr, openings)) for openings in both)}


def _model_name(location: str) -> str:
    """A model as it may be shown anywhere: a folder by its last name only."""
    return Path(location).name if Path(location).expanduser().is_absolute() else location
