"""Does the translation say something where the source says nothing?"""

from mlc.quality.signals.signal import Column, Direction, Signal

MEASURE = r"""
-- Words in the translation of a source that has neither letters nor numbers, placeholders aside: an emoji, a rule of a
-- table. Translators make sentences of them.
SELECT
    row,
    NOT regexp_matches(plain_source, '[\pL\pN]') AND regexp_matches(plain_translation, '\pL') AS signal_invented
FROM texts
WHERE source IS NOT NULL AND translation IS NOT NULL
"""

INVENTED = Signal(
    name="invented",
    priority=25,
    columns=(
        Column(
            "signal_invented",
            Direction.HIGHER_IS_WORSE,
            "The source has neither letters nor numbers, and the translation has words.",
            0,
            1,
            "BOOLEAN",
        ),
    ),
    source="Lee et al. (2018), hallucinations: what a translator makes of an input that says nothing.",
    measure=MEASURE,
    condition="signal_invented",
)
