"""How sure was the translator?"""

from mlc.quality.signals.signal import Column, Direction, LogProbability, Signal, Threshold

MEASURE = r"""
-- What the translator thought of its own output; NULL where it did not say.
SELECT row, CASE WHEN translation IS NOT NULL AND isfinite(logprob) THEN logprob END::DOUBLE AS signal_logprob
FROM texts
"""

CONFIDENCE = Signal(
    name="confidence",
    priority=160,
    columns=(
        Column(
            "signal_logprob",
            Direction.HIGHER_IS_BETTER,
            "Mean log-probability a token that the translator gave its output.",
        ),
    ),
    source="Fomicheva et al. (2020), TP of unsupervised quality estimation.",
    measure=MEASURE,
    condition="signal_logprob < limits.logprob",
    thresholds=(
        Threshold(
            "logprob",
            LogProbability | None,
            None,
            "Dropped below: mean log-probability a token (natural logarithm). Unset is off: it depends on the "
            "translator.",
        ),
    ),
)
