"""How sure was the translator?"""

from mlc.quality.signals.signal import Column, Direction, Signal

CONFIDENCE = Signal(
    name="confidence",
    columns=(
        Column(
            "signal_logprob",
            Direction.HIGHER_IS_BETTER,
            "Mean log-probability a token that the translator gave its output.",
        ),
    ),
    source="Fomicheva et al. (2020), TP of unsupervised quality estimation.",
)
