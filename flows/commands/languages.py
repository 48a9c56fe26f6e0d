"""`mlc languages`: the languages and what they are called."""

from typing import Annotated

import typer

from flows.terminal.options import JsonOption
from flows.terminal.output import plain_table, print_json, results
from mlc.languages import all_languages, resolve_language

EXAMPLES = (
    "mlc languages",
    "mlc languages swahili",
    "mlc languages --json",
)


def command(
    word: Annotated[str | None, typer.Argument(help="Part of a name or code.")] = None, as_json: JsonOption = False
) -> None:
    """List the languages, or those that a word matches."""
    wanted = (word or "").casefold()
    found = [language for language in all_languages() if any(wanted in name for name in language.names())]
    if not found:
        # What a person would type elsewhere may be found by more than a part of a name.
        found = [resolve_language(word or "")]
    if as_json:
        print_json([vars(language) for language in found])
        return
    table = plain_table("code", "name", "own name", "tag", "script", "dir")
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
        # Names may be cut, codes may not.
        column.min_width = None if str(column.header).endswith("name") else len(str(column.header))
    table.columns[0].min_width = max(len(language.code) for language in found)
    for one in found:
        table.add_row(one.code, one.english_name, one.own_name, one.bcp47, one.script, one.direction)
    results.print(table)
