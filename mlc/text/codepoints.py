"""Many texts as one array of code points, so that numpy can look at all of them at once."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Codepoints:
    """The code points of N texts, one text after the other."""

    codes: NDArray[np.uint32]
    """[C] code points."""
    starts: NDArray[np.int64]
    """[N] where each text begins in ``codes``."""
    lengths: NDArray[np.int64]
    """[N] code points of each text; 0 for NULL."""

    @classmethod
    def of(cls, texts: pa.Array) -> Self:
        """Reads the texts of an array of strings; NULL is an empty text."""
        filled = texts.fill_null("")
        lengths = pc.utf8_length(filled).to_numpy(zero_copy_only=False).astype(np.int64)
        content = utf8_of(filled)[2].tobytes()
        codes = np.frombuffer(content.decode("utf-8").encode("utf-32-le"), np.uint32)
        return cls(codes, np.cumsum(lengths) - lengths, lengths)

    def rows_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which text each place belongs to."""
        # Texts without a character begin where the next one does; the last of those is the one that holds the place.
        return np.searchsorted(self.starts, places, side="right") - 1


def utf8_of(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Starts [N] and lengths [N] of the texts of an array of strings, in bytes, and all their bytes [B]."""
    if not len(texts) or texts.buffers()[2] is None:
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    starts = offsets.astype(np.int64) - offsets[0]
    return starts[:-1], np.diff(starts), content
