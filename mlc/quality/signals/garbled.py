"""Did the characters themselves survive?"""

from mlc.quality.signals.signal import Column, Direction, Signal

GARBLED = Signal(
    name="garbled",
    columns=(
        Column(
            "signal_garbled",
            Direction.HIGHER_IS_WORSE,
            "Control, private-use and replacement characters, and UTF-8 read as Latin-1 or Windows-1252, counted "
            "beyond the source's.",
            0,
            kind="BIGINT",
        ),
    ),
    source="Mojibake repair as in ftfy (Speer, 2019) and control-character removal as in the Moses scripts; here "
    "counted in one pattern and not repaired, because a garbled translation is a broken export.",
)
