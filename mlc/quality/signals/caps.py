"""Does the translation shout?"""

from mlc.quality.signals.signal import Column, Direction, Signal

CAPS = Signal(
    name="caps",
    columns=(
        Column(
            "signal_caps",
            Direction.HIGHER_IS_WORSE,
            "Share of the letters that stand in words of capitals alone, beyond the source's share.",
            0,
            1,
        ),
    ),
    source="Raffel et al. (2020) and Rae et al. (2021) drop text that is not written as sentences are; capital noise "
    "also passes for acronyms, which the script of a text is not judged by.",
    uses=("empty",),
)
