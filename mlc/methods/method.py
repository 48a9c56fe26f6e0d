"""What a method is: how one model of a comparison is made, from which data, and what it is held against."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mlc.choices import OwnPairs
from mlc.training.settings import AlignSettings

Need = Literal[
    "english answers", "translated prompts", "translated answers", "class labels", "unpaired prompts", "feedback"
]
"""Data that a method takes beside the policy: English prompts with their answers, translations of the prompts, of the
answers too, labels (harmful or harmless) of the prompts, prompts of other languages with answers of their own, answers
that people called good or bad. A method that trains takes translated or unpaired prompts, not both, and translated
answers only with translated prompts."""

Recipe = Literal["train", "edit", "steer", "gate"]
"""How the model comes about: ``train`` is the stage ``align``; ``edit`` is the stage ``edit`` for each language, and
``merge`` over them; ``steer`` is the stage of that name, which reads English prompts alone; ``gate`` is the stage of
that name, which leaves the weights as they are."""

BASE = "base"
"""The model as it is, before any method; what every method is compared with."""
BASE_LABEL = "Base"
CHAMPION = "champion"
"""The live model of the registry, which a run evaluates beside its own."""


def _as_configured(settings: AlignSettings) -> AlignSettings:
    return settings


@dataclass(frozen=True)
class Method:
    """One way to make a model safe in other languages, or a baseline or control of one."""

    name: str
    """As in ``models`` of a configuration; lower-case words with hyphens, joined by ``+``."""
    label: str
    """As people read it, in tables and plots."""
    about: str
    """What it does, in one sentence without its full stop."""
    needs: frozenset[Need]
    """Data that it takes. What no method of a run needs is not made."""
    recipe: Recipe = "train"
    start: str = BASE
    """Name of the method whose model it starts from."""
    own_answers: bool = False
    """Whether its answers are those of the model that it starts from, in place of the given ones; for ``train``, with
    translated answers."""
    localized: bool = False
    """For ``train``, with class labels: whether translated prompts are answered in their languages, harmful ones by a
    refusal, the others as the model that it starts from answers them."""
    own_pairs: OwnPairs | None = None
    """For ``train``: how pairs of answers of the model that it starts from are chosen, in every language, in place of
    the given answers; None where they are not made."""
    permuted: bool = False
    """Whether labels are dealt anew before weights are edited, a direction is read or a gate is fitted, or what people
    said before answers are trained on, which makes it a control."""
    baseline: str = BASE
    """Name of the method that it is held against: what its claim says that it improves on."""
    controls: tuple[str, ...] = ()
    """Names of methods that share its costs and lack its idea; a claim names those that it passed."""
    alignment: Callable[[AlignSettings], AlignSettings] = field(default=_as_configured)
    """For ``train``: the alignment of this method, made from the configured one."""
    reads_translations: bool = False
    """For ``gate``: whether it reads prompts in the anchor language, into which they are translated when they are
    asked, whatever ``serve.reads`` says."""
    reads: tuple[str, ...] = ("align",)
    """Sections of the configuration that decide its model, for the table of settings."""

    @property
    def translates(self) -> bool:
        """Whether it takes translations of the training prompts."""
        return "translated prompts" in self.needs

    @property
    def translates_answers(self) -> bool:
        """Whether it takes translations of the answers to the training prompts, too."""
        return "translated answers" in self.needs

    @property
    def reads_unpaired(self) -> bool:
        """Whether it takes prompts of other languages that stand beside no English one."""
        return "unpaired prompts" in self.needs

    @property
    def reads_feedback(self) -> bool:
        """Whether it takes answers that people called good or bad, in place of examples."""
        return self.recipe == "train" and "feedback" in self.needs
