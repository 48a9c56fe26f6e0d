"""What a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlc.evaluation.results import EvaluationResult
from mlc.evaluation.skills import Skills
from mlc.left_out import LeftOut


class FunnelRow(NamedTuple):
    """How many translations into one language one rule dropped, or how many were kept."""

    language: str
    """NLLB code."""
    reason: str
    """The first failing rule, or ``kept``."""
    rows: int
    share: float
    """Share of the language's rows, 0 to 1."""


class TranslatorRow(NamedTuple):
    """What one translator brought for one language."""

    language: str
    """NLLB code."""
    translator: str
    """``translator``, or ``fallback`` and its number."""
    asked: int
    """Prompts."""
    refused: int
    """Those of them that it refused to translate."""
    kept: int
    """Those whose translation by it is kept."""


class Gate(NamedTuple):
    """The decision about promotion."""

    passed: bool
    policy: str
    """What the policy is called."""
    checks: Sequence[Mapping[str, Any]]
    """Every condition, as :meth:`mlc.evaluation.gate.deciding.Check.row` has it."""


class Input(NamedTuple):
    """One table that went into the figures."""

    name: str
    sha256: str
    rows: int | None


class Texts(NamedTuple):
    """A prompt, as the person says it last, and what was answered."""

    prompt: str
    answer: str


class MethodCost(NamedTuple):
    """What one model of a method takes, mean over seeds; what nobody measured is None."""

    method: str
    """Its name, as in the results."""
    seconds: float | None
    """With the models that it starts from."""
    own_seconds: float | None
    """Without these."""
    tokens: float | None
    """Tokens that its training reads, with those of the models that it starts from."""
    peak_memory_bytes: float | None
    needs: Sequence[str]
    """Data that it takes beside the policy."""


Evaluated = tuple[str, int | None, str, str]
"""One evaluation: model, seed, language and suite, which is empty for the held-out prompts."""


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows. No text of a prompt or an answer belongs in it, but in :attr:`texts`."""

    name: str
    """Name of the run, the title of the page."""
    settings: Mapping[str, Any]
    """What was done, for the table of settings, in this order: base model, translator, seeds and so on. NLLB codes
    in lists are shown as names."""
    results: Sequence[EvaluationResult]
    """One for each model, seed and language, on the held-out prompts; their order does not matter."""
    suites: Mapping[str, Sequence[EvaluationResult]] = field(default_factory=dict)
    """The same on each suite, by its name."""
    skills: Skills = field(default_factory=dict)
    """What models can do beside refusing, by what they are called; empty where that was not measured."""
    funnel: Sequence[FunnelRow] = ()
    translators: Sequence[TranslatorRow] = ()
    """Where a fallback was asked or a translator refused, what each of them brought; empty elsewhere."""
    costs: Sequence[MethodCost] = ()
    """Of every method that made a model."""
    training_logs: Mapping[tuple[str, int], Sequence[Mapping[str, float]]] = field(default_factory=dict)
    """By model and seed, one entry a step: ``step`` and any of ``loss``, ``alignment_loss``, ``consistency_loss``,
    ``decision_loss``, ``answer_loss``, ``collinearity``, ``between_prompt_cosine``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the models are called, in the order in which they are shown; others follow by name."""
    compared: tuple[str, str] | None = None
    """The candidate, and the model that it is held against; None where there is nothing to compare."""
    champion: str | None = None
    """The live champion, if it was evaluated too."""
    controls: Mapping[str, str] = field(default_factory=dict)
    """What the candidate's controls are called, by name; also of those that were not measured."""
    searches: Mapping[tuple[str, int | None, str], Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By model, seed and language, every trial of a search for an edit, as
    :meth:`mlc.editing.search.Search.rows` has them."""
    trained_languages: Sequence[str] | None = None
    """Languages whose translations were trained on; given, trained and unseen languages are told apart."""
    machine_translated_languages: Sequence[str] = ()
    """Languages whose evaluation prompts no person translated."""
    kept: Sequence[str] = ()
    """Sentences without their full stop: which results a person kept although code or a library had changed."""
    set_aside: Sequence[tuple[str, str, str]] = ()
    """Label, name and reason of each method that the run went on without."""
    left_out: Sequence[tuple[str, LeftOut]] = ()
    """What the run went without: in which of its parts, and how much."""
    gate: Gate | None = None
    made: Mapping[str, str] = field(default_factory=dict)
    """When and by what the page was made: date, run, release, revision; whatever is known."""
    inputs: Sequence[Input] = ()
    """The data that the figures stand on."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Files that the caller writes beside the page, and what each is; the page links them."""
    texts: Mapping[Evaluated, Mapping[str, Texts]] = field(default_factory=dict)
    """By evaluation and id, what was asked and answered. They are in the page's file, behind a switch that is off; with
    none given there is no switch."""
