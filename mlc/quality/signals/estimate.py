"""What does a model say that was trained on people's judgements of translations?"""

from mlc.quality.signals.signal import Column, Direction, Scope, Signal, Threshold

ESTIMATE = Signal(
    name="estimate",
    priority=195,
    columns=(
        Column(
            "signal_estimate",
            Direction.HIGHER_IS_BETTER,
            "Quality by the named estimator: 1 - score / 25 of MetricX, and of other regressors what they give.",
        ),
    ),
    source="Juraska et al. (2024), MetricX-24, without reference; Rei et al. (2022), CometKiwi. Here any checkpoint of "
    "transformers that is a regressor in one of the two ways.",
    scope=Scope.MODEL,
    condition="signal_estimate < limits.estimate",
    thresholds=(
        Threshold(
            "estimate",
            float | None,
            None,
            "Dropped below: quality by `quality.estimator`; of MetricX 0 to 1, where 0.8 are 5 of 25 error points. "
            "Unset is off.",
        ),
    ),
)
