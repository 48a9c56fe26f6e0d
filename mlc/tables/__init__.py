"""Tables that people bring: many formats, read row by row with little memory, whatever is wrong with some rows.

A row that cannot be read comes with the reason and takes no other row with it. Messages never quote the content of a
table, because it may hold prompts.
"""

from mlc.tables.formats import FORMATS, LINE_COLUMN, TABLE_ENDINGS, format_of, written_as
from mlc.tables.places import Place, find_place, is_remote
from mlc.tables.reader import TableFile
from mlc.tables.rows import BATCH_ROWS, NO_TEXT, Row, columns_in_words, plain_text, text_of
from mlc.tables.writer import TableWriter, writing_told

__all__ = [
    "BATCH_ROWS",
    "FORMATS",
    "LINE_COLUMN",
    "NO_TEXT",
    "TABLE_ENDINGS",
    "Place",
    "Row",
    "TableFile",
    "TableWriter",
    "columns_in_words",
    "find_place",
    "format_of",
    "is_remote",
    "plain_text",
    "text_of",
    "writing_told",
    "written_as",
]
