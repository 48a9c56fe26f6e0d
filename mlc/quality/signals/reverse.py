"""Does the translator, asked the other way round, expect the source?"""

from mlc.quality.signals.signal import Column, Direction, Level, LogProbability, Scope, Signal, Threshold

REVERSE = Signal(
    name="reverse",
    priority=170,
    columns=(
        Column(
            "signal_forward_logprob",
            Direction.HIGHER_IS_BETTER,
            "Mean log-probability a token of the translation, given the source.",
            None,
            0,
        ),
        Column(
            "signal_reverse_logprob",
            Direction.HIGHER_IS_BETTER,
            "Mean log-probability a token of the source, given the translation.",
            None,
            0,
        ),
        Column(
            "signal_dual_cross_entropy",
            Direction.HIGHER_IS_WORSE,
            "|H(translation | source) - H(source | translation)| + the mean of the two, in nats a token.",
            0,
        ),
    ),
    source="Junczys-Dowmunt (2018), Dual Conditional Cross-Entropy Filtering of Noisy Parallel Corpora, equation 2; "
    "the paper's score is exp of minus this. Here one multilingual model serves both directions.",
    scope=Scope.MODEL,
    condition="""
        signal_reverse_logprob < limits.reverse_logprob OR signal_dual_cross_entropy > limits.dual_cross_entropy
    """,
    thresholds=(
        Threshold(
            "reverse_logprob",
            LogProbability | None,
            None,
            "Dropped below: mean log-probability a token of the source, given the translation. Unset is off.",
        ),
        Threshold(
            "dual_cross_entropy",
            Level | None,
            None,
            "Dropped above: dual conditional cross-entropy, 0 for two sure and agreeing directions. Unset is off.",
        ),
    ),
)
