"""Ordinary training on prompts and answers of each language's own, beside the English ones; no term, no translator."""

from mlc.methods.controls import names_of
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import Method
from mlc.training.settings import AlignSettings

OWN_PROMPTS = Method(
    name="own-prompts",
    label="Own prompts",
    about="ordinary training on the English answers, and on unpaired prompts of other languages with their own answers",
    needs=frozenset({"english answers", "unpaired prompts"}),
    baseline=ENGLISH_ONLY.name,
    controls=names_of(()),
    alignment=AlignSettings.without_consistency,
)
