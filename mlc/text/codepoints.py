"""Many texts as one table of code points, so that numpy can look at all of them at once."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BEHIND = np.uint32(0xFFFFFFFF)
"""No code point: what stands behind the end of a text."""


@dataclass(frozen=True)
class Padded:
    """The code points of N texts, one text a row."""

    codes: NDArray[np.uint32]
    """[N, C] code points, :data:`BEHIND` where a text has ended; C is the length of the longest."""
    lengths: NDArray[np.int64]
    """[N] code points of each text; 0 for NULL."""

    @classmethod
    def of(cls, texts: pa.Array) -> Self:
        """Reads the texts of an array of strings; NULL is an empty text."""
        filled = texts.fill_null("")
        lengths = pc.utf8_length(filled).to_numpy(zero_copy_only=False).astype(np.int64)
        content = utf8_of(filled)[2].tobytes()
        codes = np.full((len(lengths), int(lengths.max(initial=0))), BEHIND)
        inside = np.arange(codes.shape[1]) < lengths[:, None]
        codes[inside] = np.frombuffer(content.decode("utf-8").encode("utf-32-le"), np.uint32)
        return cls(codes, lengths)


def utf8_of(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Starts [N] and lengths [N] of the texts of an array of strings, in bytes, and all their bytes [B]."""
    if not len(texts) or texts.buffers()[2] is None:
        return np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    starts = offsets.astype(np.int64) - offsets[0]
    return starts[:-1], np.diff(starts), content
