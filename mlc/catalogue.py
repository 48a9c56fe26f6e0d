"""What can be chosen by name: quality signals, judges, methods, carriers. Here each of them is listed.

A new one is a file that declares an object, and a line here. Code of one's own needs no line: wherever a configuration
takes a name, it takes ``module:object`` too, for a module that Python finds or that lies in the current folder.

Nothing is imported before it is asked for, and this module is not in the key of any artifact: a stage names the modules
of what it uses (see :meth:`tasks.runtime.stage.Stage.parts`), so that one entry more changes no other key.
"""

import difflib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc.errors import UserError


@dataclass(frozen=True)
class Catalogue:
    """Names of one kind of thing, and where each of them is declared."""

    kind: str
    """What it is, for errors."""
    declared: str
    """``module:class`` of which each of them is an instance; it says what one has to declare."""
    places: Mapping[str, str]
    """``module:object`` by name."""

    def __getitem__(self, name: str) -> str:
        """``module:object`` of a name; a name of that form stands for itself.

        Raises:
            UserError: The name is unknown.
        """
        if name in self.places:
            return self.places[name]
        module, _, attribute = name.partition(":")
        if attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")):
            return name
        parts = sorted(name.split("+"))
        turned = [known for known in self.places if sorted(known.split("+")) == parts]
        near = turned or difflib.get_close_matches(name, self.places, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(self.leading)},"
        more = "" if near else " or name an object of your own as module:object."
        raise UserError(f"The {self.kind} {name!r} is unknown: {hint}{more}")

    @property
    def leading(self) -> list[str]:
        """The names without those that stand behind another one and a hyphen, as controls of methods do."""
        return [name for name in self.places if not any(name.startswith(f"{other}-") for other in self.places)]

    def module(self, name: str) -> str:
        """Dotted name of the module that declares it; see :meth:`__getitem__`."""
        return self[name].partition(":")[0]

    def load(self, name: str) -> Any:
        """The object itself, of the class :attr:`declared`.

        Args:
            name: A name of the catalogue, or ``module:object``.

        Raises:
            UserError: The name is unknown, its module cannot be imported, or the object is something else.
        """
        module, _, attribute = self[name].partition(":")
        if name in self.places:
            return getattr(importlib.import_module(module), attribute)
        try:
            found = getattr(_own_module(module), attribute)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"The {self.kind} {name!r} cannot be loaded ({reason}): put {module}.py into the current folder, or "
                f"install it, and declare {attribute} there."
            ) from error
        place, _, declared = self.declared.partition(":")
        if not isinstance(found, getattr(importlib.import_module(place), declared)):
            raise UserError(
                f"{name!r} is no {self.kind} but of the type {type(found).__name__}: see {declared} in {place} for "
                "what it has to declare."
            )
        return found


def _own_module(module: str) -> object:
    # A console script does not look into the current folder by itself.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return importlib.import_module(module)


SIGNALS = Catalogue(
    "signal",
    "mlc.quality.signals.signal:Signal",
    {
        name: f"mlc.quality.signals.{place}"
        for name, place in {
            "unusable": "unusable:UNUSABLE",
            "empty": "empty:EMPTY",
            "invented": "invented:INVENTED",
            "garbled": "garbled:GARBLED",
            "copied": "copied:COPIED",
            "wrong_script": "script:SCRIPT",
            "wrong_language": "language:LANGUAGE",
            "caps": "caps:CAPS",
            "repetition": "repetition:REPETITION",
            "cut_off": "cut_off:CUT_OFF",
            "placeholders": "placeholders:PLACEHOLDERS",
            "numbers": "numbers:NUMBERS",
            "length": "length:LENGTH",
            "lines": "lines:LINES",
            "sentences": "sentences:SENTENCES",
            "collapsed": "collapsed:COLLAPSED",
            "confidence": "confidence:CONFIDENCE",
            "reverse": "reverse:REVERSE",
            "round_trip": "round_trip:ROUND_TRIP",
            "meaning": "meaning:MEANING",
            "estimate": "estimate:ESTIMATE",
        }.items()
    },
)
"""Quality signals; all of them are measured."""

JUDGES = Catalogue(
    "judge",
    "mlc.evaluation.judges.judge:Judge",
    {
        name: f"mlc.evaluation.judges.{place}"
        for name, place in {
            "openings": "openings:OPENINGS",
            "rules": "rules:RULES",
            "llm": "llm:LLM",
            "qwen3guard": "guards.qwen3guard:QWEN3GUARD",
            "polyguard": "guards.polyguard:POLYGUARD",
            "llama-guard-3": "guards.llama_guard:LLAMA_GUARD_3",
            "llama-guard-4": "guards.llama_guard:LLAMA_GUARD_4",
            "wildguard": "guards.wildguard:WILDGUARD",
            "shieldgemma": "guards.shieldgemma:SHIELDGEMMA",
            "granite-guardian": "guards.granite_guardian:GRANITE_GUARDIAN",
            "nemotron-safety-guard": "guards.nemotron:NEMOTRON_SAFETY_GUARD",
            "crest": "guards.crest:CREST",
        }.items()
    },
)
"""Judges of answers."""

REFUSALS = Catalogue(
    "reader of refusals",
    "mlc.evaluation.judges.refusing:RefusalReader",
    {"rules": "mlc.evaluation.judges.refusing:READER"},
)
"""Readers of what translators write in place of a translation."""


def _with_controls(name: str, place: str) -> dict[str, str]:
    """A method that reads translations, and its controls, which stand in the same file."""
    module = f"mlc.methods.{place}"
    return {
        name: module,
        f"{name}-shuffled": f"{module.partition(':')[0]}:SHUFFLED",
        f"{name}-shuffled-within-class": f"{module.partition(':')[0]}:SHUFFLED_WITHIN_CLASS",
        f"{name}-permuted-labels": f"{module.partition(':')[0]}:PERMUTED_LABELS",
    }


def _with_control(name: str, place: str) -> dict[str, str]:
    """A method that trains nothing, and its control with permuted labels, which stands beside it."""
    return {name: f"mlc.methods.{place}", f"{name}-permuted-labels": f"mlc.methods.{place}_PERMUTED"}


METHODS = Catalogue(
    "method",
    "mlc.methods.method:Method",
    {
        "english-only": "mlc.methods.english_only:ENGLISH_ONLY",
        "english-more-steps": "mlc.methods.controls:ENGLISH_MORE_STEPS",
        **_with_controls("consistency", "consistency:CONSISTENCY"),
        "consistency-by-risk": "mlc.methods.weighted:CONSISTENCY_BY_RISK",
        "consistency-by-temperature": "mlc.methods.weighted:CONSISTENCY_BY_TEMPERATURE",
        **_with_controls("answer", "answer:ANSWER"),
        **_with_controls("decision", "decision:DECISION"),
        **_with_controls("consistency+answer", "consistency_answer:CONSISTENCY_ANSWER"),
        **_with_controls("consistency+decision", "consistency_decision:CONSISTENCY_DECISION"),
        **_with_controls("answer+decision", "answer_decision:ANSWER_DECISION"),
        **_with_controls("consistency+answer+decision", "consistency_answer_decision:ALL_TERMS"),
        **_with_controls("translated-sft", "translated_sft:TRANSLATED_SFT"),
        **_with_controls("translated-pairs", "translated_pairs:TRANSLATED_PAIRS"),
        **_with_controls("localized-refusals", "localized_refusals:LOCALIZED_REFUSALS"),
        **_with_controls("mpo", "mpo:MPO"),
        **_with_controls("msd", "msd:MSD"),
        **_with_controls("sdrrl", "sdrrl:SDRRL"),
        "cm-align": "mlc.methods.cm_align:CM_ALIGN",
        "cm-align-by-chance": "mlc.methods.cm_align:CHANCE",
        "feedback": "mlc.methods.feedback:FEEDBACK",
        "feedback-permuted": "mlc.methods.feedback:PERMUTED",
        "consistency+feedback": "mlc.methods.feedback:CONSISTENCY_FEEDBACK",
        **_with_control("gate", "gate:GATE"),
        **_with_control("policy-gate", "gate:POLICY_GATE"),
        **_with_control("translate-test", "gate:TRANSLATE_TEST"),
        **_with_control("consistency+gate", "gate:CONSISTENCY_GATE"),
        "own-prompts": "mlc.methods.own_prompts:OWN_PROMPTS",
        **_with_control("edit", "edit:EDIT"),
        **_with_control("policy-edit", "edit:POLICY_EDIT"),
        **_with_control("consistency+edit", "edit:CONSISTENCY_EDIT"),
        **_with_control("refusal-direction", "refusal_direction:REFUSAL_DIRECTION"),
        **_with_control("policy-refusal-direction", "refusal_direction:POLICY_DIRECTION"),
    },
)
"""Ways to make a model, baselines and controls among them, in the order in which tables show them."""

CARRIERS = Catalogue(
    "carrier",
    "mlc.training.carriers.carrier:Carrier",
    {
        "sft": "mlc.training.carriers.sft:SFT",
        "dpo": "mlc.training.carriers.dpo:DPO",
        "simpo": "mlc.training.carriers.simpo:SIMPO",
        "orpo": "mlc.training.carriers.orpo:ORPO",
        "kl": "mlc.training.carriers.kl:KL",
        "grpo": "mlc.training.carriers.grpo:GRPO",
        "mpo": "mlc.training.carriers.mpo:MPO",
        "msd": "mlc.training.carriers.msd:MSD",
        "kto": "mlc.training.carriers.kto:KTO",
    },
)
"""English losses that carry the consistency term, and losses on pairs that methods train with."""
