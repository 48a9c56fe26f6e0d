"""Bytes and text of a file, whatever it is packed or encoded as; by content, because endings lie."""

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from mlc.errors import UserError

HEAD_BYTES = 65_536
"""How much of a file is looked at to see what it is."""

_BLOCK = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_UNPACKERS: dict[str, Callable[[IO[bytes]], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
_ARCHIVES = {b"PK\x03\x04": "a zip archive or a workbook", b"7z\xbc\xaf": "a 7-zip archive"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MOST_FOREIGN = 0.2
"""Share of bytes beyond ASCII above which a text is not of Western Europe, so that Windows-1252 would be a guess."""
_NOT_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"


@dataclass(frozen=True)
class Packing:
    """How the bytes of a file become text."""

    compression: str | None
    """``gzip``, ``bzip2``, ``xz`` or ``zstd``."""
    encoding: str
    """Name of Python's codec."""
    old_line_ends: bool
    """Whether lines end as on old Macs, with a carriage return alone."""
    guessed: bool = False
    """Whether the encoding is likely rather than certain."""

    @property
    def plain(self) -> bool:
        """Whether it is UTF-8 whose lines end with a line feed, so that its bytes may be read as they are."""
        return self.encoding in ("utf-8", "utf-8-sig") and not self.old_line_ends

    @property
    def errors(self) -> str:
        """How what is no text becomes surrogates, which :func:`mlc.tables.rows.text_of` finds."""
        return "surrogatepass" if self.encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"

    @property
    def encoding_name(self) -> str:
        """The encoding as people write it."""
        return {"cp1252": "Windows-1252", "utf-8-sig": "UTF-8"}.get(self.encoding, self.encoding.upper())


def compression_of(path: Path) -> str | None:
    """How a file is compressed.

    Raises:
        UserError: It is an archive of files.
        OSError: It cannot be read.
    """
    with path.open("rb") as handle:
        head = handle.read(8)
    for magic, what in _ARCHIVES.items():
        if head.startswith(magic):
            raise UserError(f"The file {str(path)!r} is {what}: take the table out of it.")
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


@contextmanager
def opened(path: Path, compression: str | None) -> Iterator[IO[bytes]]:
    """Opens a file as its unpacked bytes."""
    with path.open("rb") as raw:
        if compression is None:
            yield raw
        elif compression == "zstd":
            with pa.CompressedInputStream(pa.PythonFile(raw), "zstd") as stream:
                yield cast("IO[bytes]", io.BufferedReader(_Raw(stream), _BLOCK))
        else:
            with _UNPACKERS[compression](raw) as stream:
                yield cast("IO[bytes]", stream)


def head_of(path: Path, compression: str | None) -> bytes:
    """The first unpacked bytes of a file."""
    with opened(path, compression) as handle:
        return handle.read(HEAD_BYTES)


def packing_of(path: Path, compression: str | None, *, old_encodings: bool) -> Packing:
    """Finds out how to read a file of text.

    A file that is not UTF-8 is taken for Windows-1252 if nothing in it is UTF-8 and it reads like a language of Western
    Europe; otherwise its bytes that are not UTF-8 cost the rows in which they stand.

    Args:
        path: The file.
        compression: How it is compressed.
        old_encodings: Whether its format may be in another encoding than Unicode's; JSON may not.
    """
    head = head_of(path, compression)
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None) or _unmarked_wide(head)
    guessed = False
    if encoding is None:
        guessed = old_encodings and _is_windows_text(path, compression)
        encoding = "cp1252" if guessed else "utf-8"
    wide = encoding.startswith(("utf-16", "utf-32"))
    text = head.decode(encoding, "ignore") if wide else head.decode("latin-1")
    return Packing(compression, encoding, "\r" in text and "\n" not in text.rstrip("\r\n"), guessed)


@contextmanager
def opened_text(path: Path, packing: Packing, *, newline: str | None) -> Iterator[IO[str]]:
    """Opens a file as text; what is none becomes surrogates."""
    with opened(path, packing.compression) as handle:
        yield io.TextIOWrapper(
            handle,
            encoding=packing.encoding,
            errors=packing.errors,
            newline="\r" if packing.old_line_ends and newline else newline,
        )


@contextmanager
def opened_utf8(path: Path, packing: Packing) -> Iterator[IO[bytes]]:
    """Opens a file as its text in UTF-8 without a mark, whatever it is encoded as; old line ends become line feeds."""
    if packing.plain:
        with opened(path, packing.compression) as handle:
            if packing.encoding == "utf-8-sig":
                handle.read(len(codecs.BOM_UTF8))
            yield handle
        return
    with opened_text(path, packing, newline=None if packing.old_line_ends else "") as text:
        yield cast("IO[bytes]", io.BufferedReader(_Encoded(text, packing.errors), _BLOCK))


class _Encoded(io.RawIOBase):
    """A text as its bytes in UTF-8."""

    def __init__(self, text: IO[str], errors: str) -> None:
        self._text = text
        self._errors = errors
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = self._text.read(_BLOCK).encode("utf-8", self._errors)
        block, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(block)] = block
        return len(block)


class _Raw(io.RawIOBase):
    """A stream of pyarrow as Python's readers want it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _unmarked_wide(head: bytes) -> str | None:
    """UTF-16 without a mark shows by its zero bytes, all of them in even or all in odd places."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    most = 0.4 * (len(head) // 2)
    if len(head) < 4 or max(even, odd) <= most or min(even, odd) > 0.01 * len(head):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _is_windows_text(path: Path, compression: str | None) -> bool:
    """Whether bytes beyond ASCII are there, none of them as UTF-8 writes them, and few enough."""
    foreign = total = 0
    any_utf8 = False
    with opened(path, compression) as handle:
        while block := handle.read(_BLOCK):
            total += len(block)
            if block.isascii():
                continue
            beyond = block.translate(None, bytes(range(128)))
            foreign += len(beyond)
            if any(byte in _NOT_IN_CP1252 for byte in beyond):
                return False
            # A character that a block cuts in two is missed, not misread: there are others.
            any_utf8 = any_utf8 or len(block.decode("utf-8", "ignore")) > len(block) - len(beyond)
            if any_utf8:
                return False
    return 0 < foreign <= _MOST_FOREIGN * total
