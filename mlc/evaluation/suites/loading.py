"""From what a suite file says to prompts, by language."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path, PurePosixPath

from mlc.errors import UserError
from mlc.evaluation.suites.finding import find_suite, local_copy
from mlc.evaluation.suites.settings import COLUMNS, LANGUAGE_MARK, SECTION, SuitePart, SuiteSettings
from mlc.languages import ENGLISH, looks_like_a_tag, resolve_language
from mlc.shapes.labels import LABELS, UNKNOWN_LABEL, Labels, first_of_each, kind_of, told_unknown
from mlc.shapes.prompts import Reading, reading_of
from mlc.shipped import resolve_path
from mlc.store.hashing import digest_data
from mlc.tables import TABLE_ENDINGS, Row, TableFile, columns_in_words, find_place, is_remote, plain_text, text_of

WHAT = "file of the suite"
HUB_PREFIX = "hf:"
JOINED = "+"
"""Stands between the names of suites that are asked as one."""
ROW_NUMBER = "row"
"""Column that identifies a row where there is no ``id``."""
_LANGUAGE = r"(?P<language>[A-Za-z]{2,3}(?:[_-][A-Za-z0-9]{2,8})*)"


@dataclass(frozen=True)
class SuitePrompt:
    """One prompt in one language. Its text never goes to logs, reports or errors."""

    id: str
    """The same in every language."""
    prompt: str
    label: str
    """``harmful`` or ``harmless``."""
    kind: str
    """The label where the suite names no kind."""


@dataclass(frozen=True)
class LoadedSuite:
    """The prompts of a suite."""

    name: str
    version: str
    licence: str
    prompts: Mapping[str, Sequence[SuitePrompt]]
    """By NLLB code, English first."""
    set_aside: Mapping[str, int] = field(default_factory=dict)
    """Rows that cannot be used, by reason."""
    mixed_of: tuple[str, ...] = ()
    """NLLB codes of the languages in mixed prompts, see :func:`mlc.evaluation.suites.mixing.mix_suite`."""

    @property
    def identity(self) -> str:
        """Digest of all prompts that are there."""
        rows = [[code, one.id, one.label, one.kind, one.prompt] for code, own in self.prompts.items() for one in own]
        return digest_data(rows)

    def take(self, languages: Sequence[str] | None, answers: int | None = None) -> "LoadedSuite":
        """The suite in some languages.

        English comes along where the suite has it: the gap to it is a figure.

        Args:
            languages: Codes, tags or names; None for all.
            answers: Only so many prompts a language, the first ones, half of them harmful; None for all.

        Raises:
            UserError: The suite has no prompt in one of the languages.
        """
        codes = list(self.prompts) if languages is None else [resolve_language(name).code for name in languages]
        missing = [code for code in codes if code not in self.prompts]
        if missing:
            raise UserError(
                f"The suite {self.name!r} has no prompts in {', '.join(missing)}, only in {', '.join(self.prompts)}: "
                "name some of these, or a suite with translations."
            )
        kept = [code for code in self.prompts if code in codes or code == ENGLISH]
        return replace(self, prompts={code: first_prompts(self.prompts[code], answers) for code in kept})


def load_suite(settings: SuiteSettings, base: Path, *, local: Path | None = None) -> LoadedSuite:
    """Reads the prompts of a suite.

    Args:
        settings: What the suite file says.
        base: Folder that relative paths start from.
        local: A local copy: the file of a suite with one source, or a folder with its files.

    Raises:
        UserError: A source cannot be had or read, lacks a column, or holds no usable prompt.
    """
    reader = _Reader(settings)
    for number, part in enumerate(settings.parts):
        for place in _places(settings, part, base, local):
            prefix = ":".join(name for name in (str(number) if len(settings.parts) > 1 else "", place.group) if name)
            reader.read(part, place, f"{prefix}:" if prefix else "")
        if part.translations is not None:
            reader.translate(_at(part.translations, base), f"{number}:" if len(settings.parts) > 1 else "")
    if not reader.prompts:
        reasons = ", ".join(sorted(reader.set_aside)) or "it has no row"
        raise UserError(f"The suite {settings.name!r} holds no usable prompt ({reasons}): correct its file or source.")
    ordered = sorted(reader.prompts, key=lambda code: (code != ENGLISH, code))
    return LoadedSuite(
        settings.name,
        settings.version,
        settings.licence,
        {code: list(reader.prompts[code].values()) for code in ordered},
        dict(reader.set_aside),
    )


def suite_languages(location: str, base: Path) -> tuple[str, ...]:
    """NLLB codes of the languages that a suite has prompts in, English first; its sources are read for it.

    Args:
        location: As :func:`mlc.evaluation.suites.finding.find_suite` takes it.
        base: Folder that a relative path starts from.

    Raises:
        UserError: There is no such suite, or it cannot be read.
    """
    settings, folder = find_suite(location, base)
    return tuple(load_suite(settings, folder, local=local_copy(settings.name)).prompts)


def identify_suite(settings: SuiteSettings, base: Path, *, local: Path | None = None) -> str:
    """Digest of what the sources of a suite hold, without reading a prompt.

    Args:
        settings: What the suite file says.
        base: Folder that relative paths start from.
        local: A local copy, as :func:`load_suite` takes it.

    Raises:
        UserError: A source cannot be had.
    """
    places = [place.location for part in settings.parts for place in _places(settings, part, base, local)]
    places += [_at(part.translations, base) for part in settings.parts if part.translations is not None]
    try:
        return digest_data([find_place(place, what=WHAT).identity() for place in places])
    except OSError as error:
        raise UserError(
            f"A file of the suite {settings.name!r} cannot be read ({error.strerror or error}): correct its source."
        ) from None


def join_suites(suites: Sequence[LoadedSuite]) -> LoadedSuite:
    """Several suites as one, in the languages that all of them have; their names begin the ids.

    Raises:
        UserError: They have no language in common, or one is named twice.
    """
    if len(suites) == 1:
        return suites[0]
    names = [suite.name for suite in suites]
    if len(set(names)) < len(names):
        raise UserError(f"The suites {', '.join(names)} repeat a name: name each once.")
    codes = [code for code in suites[0].prompts if all(code in suite.prompts for suite in suites)]
    if not codes:
        raise UserError(f"The suites {', '.join(names)} have no language in common: evaluate them one by one.")
    prompts = {
        code: [replace(one, id=f"{suite.name}:{one.id}") for suite in suites for one in suite.prompts[code]]
        for code in codes
    }
    set_aside: Counter[str] = Counter()
    for suite in suites:
        set_aside.update(suite.set_aside)
    versions, licences = (
        list(dict.fromkeys(values)) for values in ([s.version for s in suites], [s.licence for s in suites])
    )
    return LoadedSuite(JOINED.join(names), JOINED.join(versions), ", ".join(licences), prompts, dict(set_aside))


@dataclass(frozen=True)
class _Place:
    """A table with prompts."""

    location: Path | str
    language: str | None = None
    """What its name calls the language of all its prompts; None where it is none."""
    group: str = ""
    """Tells it from other files of the same part in the same language."""


def _places(settings: SuiteSettings, part: SuitePart, base: Path, local: Path | None) -> list[_Place]:
    if local is None:
        source = part.source
        if source.startswith(HUB_PREFIX):
            source += (f"/{part.split}" if part.split else "") + (f"@{part.revision}" if part.revision else "")
        return _by_language(part, source, base)
    if local.is_file():
        if len(settings.parts) > 1 or LANGUAGE_MARK in part.source:
            raise UserError(
                f"The suite {settings.name!r} has several files, and {str(local)!r} is one: name a folder with them."
            )
        return [_Place(local)]
    patterns = part.local or (PurePosixPath(part.source.split("?")[0]).name,)
    for pattern in patterns:
        if found := _matching(local, pattern):
            return found
    if part.source.startswith(HUB_PREFIX) and local.is_dir() and not part.local:
        return [_Place(local)]
    raise UserError(
        f"The folder {str(local)!r} has no copy of the suite {settings.name!r}: it needs files such as "
        f"{' or '.join(patterns)}."
    )


def _by_language(part: SuitePart, source: str, base: Path) -> list[_Place]:
    if LANGUAGE_MARK not in source:
        return [_Place(_at(source, base))]
    if isinstance(part.languages, str):
        if not is_remote(source):
            path = resolve_path(source, base)
            if found := _matching(path.parent, path.name):
                return found
        raise UserError(
            f"The source {part.source!r} is there in no language: name the languages of the suite, such as [en, es]."
        )
    named = part.languages if isinstance(part.languages, dict) else {name: name for name in part.languages}
    return [_Place(_at(source.replace(LANGUAGE_MARK, called), base), language) for language, called in named.items()]


def _matching(folder: Path, pattern: str) -> list[_Place]:
    """Files of a folder whose names match a pattern with ``*`` and the mark of a language."""
    # A star at the end stands for the ending, which tells no file from another.
    stem, ending = (pattern.removesuffix("*"), ".*") if pattern.endswith("*") else (pattern, "")
    pieces = re.split(r"(\*|" + re.escape(LANGUAGE_MARK) + ")", stem)
    made = "".join({"*": "(.*?)", LANGUAGE_MARK: _LANGUAGE}.get(piece, re.escape(piece)) for piece in pieces) + ending
    matches = [(path, re.fullmatch(made, path.name)) for path in sorted(folder.glob("*")) if path.is_file()]
    found = []
    for path, match in matches:
        if match is not None:
            language = match.groupdict().get("language")
            group = "-".join(text for text in match.groups() if text and text != language)
            found.append(_Place(path, language, group))
    several = len({place.group for place in found}) > 1
    return [place if several else replace(place, group="") for place in found]


def _at(location: str, base: Path) -> Path | str:
    return location if is_remote(location) else resolve_path(location, base)


class _Reader:
    """Collects the prompts of all parts."""

    def __init__(self, settings: SuiteSettings) -> None:
        self.settings = settings
        self.prompts: dict[str, dict[str, SuitePrompt]] = {}
        self.set_aside: Counter[str] = Counter()
        self._without_ids: dict[str, str] = {}

    def read(self, part: SuitePart, place: _Place, prefix: str) -> None:
        """Reads one table."""
        file = TableFile(place.location, formats=TABLE_ENDINGS, what=WHAT)
        columns = {role: name for role, name in part.columns.items() if role != "language"}
        texts = self._texts(file, part, place)
        reading = reading_of(file, required=() if texts.wide else ("prompt",), columns=columns, section=SECTION)
        if part.label is None and "label" not in reading.roles:
            raise UserError(
                f"The {WHAT} {file.location!r} has no column 'label' ({columns_in_words(file.columns)}): name it in "
                "columns of the suite's file, or give all prompts one label, such as label: harmful."
            )
        if "id" not in reading.roles and ROW_NUMBER not in file.columns:
            self._without_ids[prefix] = file.location
        labels = Labels(part.labels)
        for row in file:
            self._add(row, part, reading, labels, texts, prefix)
        hint = labels.hint("labels")
        if hint and len(labels.found) < len(LABELS):
            raise UserError(
                f"The {WHAT} {file.location!r} has {self.set_aside[UNKNOWN_LABEL]} rows with labels that are not "
                f"known, and {' and '.join(labels.found) or 'no other'} ones beside them: {hint}"
            )
        self.set_aside = told_unknown(self.set_aside, hint)

    def translate(self, location: Path | str, prefix: str) -> None:
        """Adds the translations of prompts that are there in English."""
        file = TableFile(location, formats=TABLE_ENDINGS, what=WHAT)
        file.require(["id"])
        if bare := self._without_ids.get(prefix):
            raise UserError(
                f"The {WHAT} {bare!r} has no column 'id', and its translations {file.location!r} have one, so that "
                "row numbers would be taken for ids: give the same prompts the same ids in both."
            )
        columns = _language_columns(file, COLUMNS, ("id",))
        for row in file:
            english = self.prompts.get(ENGLISH, {}).get(f"{prefix}{plain_text(row.values.get('id'))}")
            for code, column in columns.items():
                text, problem = text_of(row.values.get(column))
                if english and code != ENGLISH and not problem and text.strip():
                    self._keep(code, replace(english, prompt=text))

    def _texts(self, file: TableFile, part: SuitePart, place: _Place) -> "_Texts":
        column = part.columns.get("language")
        # A column of that name is known by itself where no other one is called by a language.
        listed = place.language is None and isinstance(part.languages, tuple)
        if column is None and listed and "language" in file.columns and not any(map(_tag, file.columns)):
            column = "language"
        if column is not None:
            file.require([column])
            named = part.languages if isinstance(part.languages, dict) else {}
            return _Texts(column=column, named={called: code for code, called in named.items()})
        if place.language is not None:
            return _Texts(fixed=_code_of(place.language, part))
        if isinstance(part.languages, str) and part.languages != COLUMNS:
            return _Texts(fixed=resolve_language(part.languages).code)
        roles = [name for role, name in part.columns.items() if role != "prompt"]
        if part.languages == COLUMNS:
            for name in file.columns:
                if name not in roles and _is_ambiguous(name):
                    unclear = f"the column {name} may be of several languages: map it in languages"
                    self.set_aside[unclear] += len(file)
        return _Texts(wide=_language_columns(file, part.languages, roles))

    def _add(self, row: Row, part: SuitePart, reading: Reading, labels: Labels, texts: "_Texts", prefix: str) -> None:
        if any(plain_text(row.values.get(column)) in values for column, values in part.without.items()):
            return
        if row.problem:
            self.set_aside[row.problem] += 1
            return
        values, problems = reading.values(row)
        label, problem = (part.label, None) if part.label else labels.read(values.get("label"))
        if problem or label is None:
            self.set_aside[problem or "no label"] += 1
            return
        name = values.get("id") or plain_text(row.values.get(ROW_NUMBER)) or str(row.number)
        kinds: Mapping[str, str | None] = (
            dict(part.kind.items()) if isinstance(part.kind, dict) else dict.fromkeys(LABELS, part.kind)
        )
        prompt = SuitePrompt(f"{prefix}{name}", "", label, kind_of(kinds.get(label) or values.get("kind")) or label)
        found = texts.of(row, values.get("prompt"), problems.get("prompt"))
        if isinstance(found, str):
            self.set_aside[found] += 1
            return
        for code, text in found.items():
            self._keep(code, replace(prompt, prompt=text))

    def _keep(self, code: str, prompt: SuitePrompt) -> None:
        own = self.prompts.setdefault(code, {})
        if prompt.id in own:
            self.set_aside["repeated id"] += 1
        else:
            own[prompt.id] = prompt


@dataclass(frozen=True)
class _Texts:
    """Where the texts of a row are; one of the first three is given."""

    fixed: str | None = None
    """NLLB code of all prompts."""
    column: str | None = None
    """Column that names the language."""
    wide: Mapping[str, str] = field(default_factory=dict)
    """Columns with texts, by NLLB code."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Languages by what :attr:`column` writes."""

    def of(self, row: Row, prompt: str | None, problem: str | None) -> dict[str, str] | str:
        """Texts of a row by NLLB code, or why there are none."""
        if self.wide:
            read = {code: text_of(row.values.get(column)) for code, column in self.wide.items()}
            found = {code: text for code, (text, wrong) in read.items() if not wrong and text.strip()}
            return found or "no text"
        if problem or not (prompt or "").strip():
            return problem or "no text"
        if self.fixed is not None:
            return {self.fixed: prompt or ""}
        written = plain_text(row.values.get(self.column or "")) or ""
        try:
            return {_resolved(self.named.get(written, written)): prompt or ""}
        except UserError:
            return "an unknown language" if written.strip() else "no language"


@cache
def _resolved(name: str) -> str:
    return resolve_language(name).code


def _code_of(called: str, part: SuitePart) -> str:
    named = part.languages if isinstance(part.languages, dict) else {}
    return resolve_language(next((code for code, name in named.items() if name == called), called)).code


def _language_columns(
    file: TableFile, languages: str | Sequence[str] | Mapping[str, str], roles: Sequence[str]
) -> dict[str, str]:
    """Columns with texts, by NLLB code."""
    if isinstance(languages, Mapping):
        named = {resolve_language(code).code: column for code, column in languages.items()}
        there = {code: column for code, column in named.items() if column in file.columns}
    else:
        known: dict[str, str] = {}
        for name in file.columns:
            code = None if name in roles else _tag(name)
            if code is not None and known.setdefault(code, name) != name:
                raise UserError(
                    f"The {WHAT} {file.location!r} has two columns for {code}, {known[code]!r} and {name!r}: drop one."
                )
        wanted = None if isinstance(languages, str) else {resolve_language(name).code for name in languages}
        there = {code: name for code, name in known.items() if wanted is None or code in wanted}
    if not there:
        raise UserError(
            f"The {WHAT} {file.location!r} names no language of the suite ({columns_in_words(file.columns)}): call "
            f"columns by codes such as es or spa_Latn, map them in languages, or name the column with the "
            f"language of each row in columns.language."
        )
    return there


def _tag(name: str) -> str | None:
    """The language that the name of a column is a code or tag of."""
    # "id" is also the tag of Indonesian, and a word such as "source" may be near some language's name.
    if name == "id" or not (looks_like_a_tag(name) or re.fullmatch(r"[a-z]{2,3}", name)):
        return None
    try:
        return resolve_language(name).code
    except UserError:
        return None


def _is_ambiguous(name: str) -> bool:
    """Whether the name of a column is a code that several languages have, such as ``zh``."""
    if not re.fullmatch(r"[a-z]{2,3}", name):
        return False
    try:
        resolve_language(name)
    except UserError as error:
        return "is ambiguous" in str(error)
    return False


def first_prompts(prompts: Sequence[SuitePrompt], count: int | None) -> list[SuitePrompt]:
    """The first prompts of each label, in their order; a label that has few leaves its share to the other."""
    return [prompts[place] for place in first_of_each([one.label for one in prompts], count)]
