"""Is the calibrated quality high enough? A rule over all signals, and none itself."""

from mlc.quality.signals.signal import Rule, Share, Threshold

QUALITY = Rule(
    name="quality",
    # Every signal by itself is the better reason.
    priority=10_000,
    condition="signals.quality < limits.quality",
    thresholds=(
        Threshold("quality", Share | None, None, "Dropped below: the calibrated quality, 0 to 1. Unset is off."),
    ),
)
