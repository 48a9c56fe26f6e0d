"""Stage ``feedback``: single answers in any languages, and what people said of them."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from mlc.errors import UserError
from mlc.languages import resolve_language
from mlc.left_out import LeftOut
from mlc.permuted import dealt_anew
from mlc.prompts import identify, locate
from mlc.shapes.feedback import BAD, FEEDBACK, GOOD, feedback_of
from mlc.store import ArtifactRef, Draft
from mlc.tables import TABLE_ENDINGS, TableFile, columns_in_words, plain_text
from tasks.runtime.artifacts import PROMPTS_FILE, note_left_out
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage, Work, produce, stage_task

STAGE = Stage("feedback", version=1, module=__name__, libraries=("pyarrow", "py3langid"))
LANGUAGE = "language"
COLUMNS = ("prompt", "answer", FEEDBACK, LANGUAGE)
OTHERWISE = {"answer": ("completion", "response"), FEEDBACK: ("label", GOOD, BAD)}
ELSEWHERE = "in no language of the run, as far as the identifier can tell"


@stage_task("feedback", "feedback · {about}")
def take_feedback(
    run: Run,
    location: str,
    about: str,
    *,
    permuted: bool = False,
    unseen: Sequence[str] = (),
    languages: Sequence[str] = (),
) -> ArtifactRef:
    """Reads feedback.

    Args:
        run: The run.
        location: A table with the columns ``prompt``, ``answer``, ``feedback`` (good or bad) and perhaps ``language``;
            TRL's ``completion`` and ``label`` (true or false), or ``good`` or ``bad`` (true or false) will do.
        about: What it is called, for the display.
        permuted: Whether what people said is dealt anew: a control.
        unseen: NLLB codes of languages in which models are measured as in ones that no method has seen.
        languages: NLLB codes of the run's languages, one of which a prompt is taken to be in where no column says so.

    Returns:
        ``prompts.parquet``: ``id``, ``prompt``, ``chosen`` (the answer), ``feedback`` and ``language`` (NLLB code).

    Raises:
        UserError: The table cannot be read, lacks a column, holds no good or no bad answer, or one in a language that
            is not to be seen.
    """
    file = locate(location)
    try:
        digest = identify(file)
    except OSError as error:
        raise UserError(
            f"The feedback {location!r} cannot be read ({error.strerror or error}): correct prompts.feedback."
        ) from None

    given, wrong, identified = _read(location, languages)
    if seen := sorted({row["language"] for row in given} & set(unseen)):
        raise UserError(
            f"The language {seen[0]} has feedback in prompts.feedback, and is measured as one that no method has seen: "
            "add it to languages, or take it out of evaluation.languages or of the feedback."
        )

    def write(draft: Draft) -> None:
        verdicts = [row[FEEDBACK] for row in given]
        if permuted:
            verdicts = dealt_anew(verdicts, seed=None)
        rows = [{**row, FEEDBACK: verdict} for row, verdict in zip(given, verdicts, strict=True)]
        pq.write_table(pa.Table.from_pylist(rows), draft.path / PROMPTS_FILE)
        draft.rows = len(rows)
        if identified:
            run.display.note(f"{location} has no column {LANGUAGE!r}: the language of each prompt is identified.")
        note_left_out(run, draft, [LeftOut.of_rows("feedback set aside", wrong, len(rows))], "feedback")

    facts = {"permuted": permuted, **({"languages": list(languages)} if identified else {})}
    parts = STAGE.parts(facts, {"file": digest})
    return produce(run, STAGE, parts, write, subject=about, work=Work(free=True))


def _read(location: str, languages: Sequence[str]) -> tuple[list[dict[str, str]], Counter[str], bool]:
    """The rows that can be used, how many cannot, by reason, and whether languages were identified."""
    file = TableFile(locate(location), formats=TABLE_ENDINGS, what="feedback file")
    columns = _columns(file.columns)
    identified = LANGUAGE not in columns and bool(languages)
    if missing := [name for name in COLUMNS if name not in columns and not (identified and name == LANGUAGE)]:
        raise UserError(
            f"The feedback {location!r} lacks the column {missing[0]!r} ({columns_in_words(file.columns)}): give each "
            f"answer {', '.join(COLUMNS)}."
        )
    says_bad = columns[FEEDBACK].strip().casefold() == BAD
    rows, wrong = [], Counter[str]()
    for row in file:
        found = row.problem or _row({name: row.values.get(own) for name, own in columns.items()}, says_bad)
        if isinstance(found, str):
            wrong[found] += 1
        else:
            rows.append({"id": str(row.number), **found})
    if identified:
        spoken = _identified([row["prompt"] for row in rows], languages)
        wrong[ELSEWHERE] += spoken.count(None)
        rows = [{**row, LANGUAGE: code} for row, code in zip(rows, spoken, strict=True) if code]
    if len({row[FEEDBACK] for row in rows}) < 2:
        raise UserError(
            f"The feedback {location!r} holds {len(rows)} usable answers, and needs good and bad ones: write good or "
            f"bad into the column {FEEDBACK!r}."
        )
    return rows, +wrong, identified


def _identified(texts: Sequence[str], languages: Sequence[str]) -> list[str | None]:
    """NLLB codes of the languages that texts are in; None for one of none of those, or of several that look alike."""
    from mlc.text.identification import identify as languages_of
    from mlc.text.identification import label_of

    labels = [label_of(code) for code in languages]
    codes = {label: code for label, code in zip(labels, languages, strict=True) if labels.count(label) == 1}
    found = languages_of(pa.array([unicodedata.normalize("NFC", text) for text in texts], pa.string()))
    return [codes.get(found.labels[place]) for place in found.values.argmax(axis=1)]


def _columns(there: Sequence[str]) -> dict[str, str]:
    """Columns by what they hold: by their own names, whatever the case, else by those of TRL's data for KTO."""
    plain = {name.strip().casefold(): name for name in reversed(there)}
    names = {role: next((name for name in (role, *OTHERWISE.get(role, ())) if name in plain), None) for role in COLUMNS}
    return {role: plain[name] for role, name in names.items() if name}


def _row(values: Mapping[str, object], says_bad: bool) -> dict[str, str] | str:
    """One answer, or why its texts, verdict or language cannot be used."""
    read = ("prompt", "answer", *((LANGUAGE,) if LANGUAGE in values else ()))
    texts = {name: (plain_text(values.get(name)) or "").strip() for name in read}
    if spoken := [name for name in texts if isinstance(values.get(name), list | dict)]:
        return f"{spoken[0]} is no text"
    verdict = feedback_of(values.get(FEEDBACK), says_bad=says_bad)
    if empty := [name for name, text in texts.items() if not text]:
        return f"no text in {empty[0]}"
    if verdict is None:
        return f"neither good nor bad in {FEEDBACK}"
    found = {"prompt": texts["prompt"], "chosen": texts["answer"], FEEDBACK: verdict}
    if LANGUAGE not in texts:
        return found
    try:
        return {**found, LANGUAGE: resolve_language(texts[LANGUAGE]).code}
    except UserError:
        return "unknown language"
