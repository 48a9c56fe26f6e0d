"""Is there a translation at all?"""

from mlc.quality.signals.signal import Column, Direction, Signal

EMPTY = Signal(
    name="empty",
    columns=(
        Column("signal_empty", Direction.HIGHER_IS_WORSE, "The translation has nothing to read.", 0, 1, "BOOLEAN"),
        Column(
            "signal_source_letters", Direction.CONTEXT, "Letters in the source, placeholders aside.", 0, kind="BIGINT"
        ),
        Column(
            "signal_translation_letters",
            Direction.CONTEXT,
            "Letters in the translation, placeholders aside.",
            0,
            kind="BIGINT",
        ),
    ),
    source="OpusFilter LengthFilter with a minimum of one; here characters that cannot be seen count as nothing.",
)
