"""Does the translation, translated back, say what the source says?"""

from mlc.quality.signals.signal import Column, Direction, Scope, Share, Signal, Threshold

ROUND_TRIP = Signal(
    name="round_trip",
    priority=180,
    columns=(
        Column(
            "signal_round_trip_chrf",
            Direction.HIGHER_IS_BETTER,
            "chrF of the back-translation against the source, by sacrebleu, over 100.",
            0,
            1,
        ),
    ),
    source="Popović (2015), chrF; round trips as in Rapp (2009). The back-translation is the column back_translation "
    "where there is one, else the translator's own.",
    scope=Scope.MODEL,
    condition="signal_round_trip_chrf < limits.round_trip_chrf",
    thresholds=(
        Threshold(
            "round_trip_chrf",
            Share | None,
            None,
            "Dropped below: chrF of the back-translation against the source, 0 to 1. Unset is off.",
        ),
    ),
)
