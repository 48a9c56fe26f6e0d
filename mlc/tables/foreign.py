"""Files that are no table though they are called one: what they are instead, by how they begin."""

import re

_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head)\b", re.IGNORECASE | re.DOTALL)
_TAR_MARK, _TAR_PLACE = b"ustar", 257
_EXCEL = re.compile(rb'"?sep=.?"?\s*$', re.IGNORECASE)
_COMMENT = re.compile(rb"#\s+\S")
_MARK = b"\xef\xbb\xbf"


def pointer_in(head: bytes) -> str | None:
    """What stands where a file should, so that there is nothing to read in it: words that follow its name."""
    if head.startswith(_LFS):
        return "is a pointer of Git LFS and not the file itself: get that with git lfs pull"
    if _PAGE.match(head.removeprefix(_MARK)):
        return "is a web page: get the file itself, not the page that shows it"
    return None


def foreign_in(head: bytes, *, separated: bool) -> str | None:
    """What a file is that is no table, in words that follow its name; None if nothing speaks against it.

    Args:
        head: Its first bytes, unpacked.
        separated: Whether it is to be CSV or TSV.
    """
    if head[_TAR_PLACE:].startswith(_TAR_MARK):
        return "is a tar archive: take the table out of it"
    first = head.removeprefix(_MARK).lstrip(b"\r\n").partition(b"\n")[0]
    if separated and _EXCEL.match(first):
        return "begins with a line for Excel (sep=), not with the names of columns: take that line out"
    if separated and _COMMENT.match(first):
        return "begins with a comment, not with the names of columns: take that line out"
    return pointer_in(head)
