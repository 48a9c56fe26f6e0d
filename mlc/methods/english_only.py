"""The baseline that every method must beat: ordinary alignment on English alone."""

from mlc.methods.method import Method
from mlc.training.settings import AlignSettings

ENGLISH_ONLY = Method(
    name="english-only",
    label="English-only",
    about="ordinary training on the English answers",
    needs=frozenset({"english answers"}),
    alignment=AlignSettings.without_consistency,
)
