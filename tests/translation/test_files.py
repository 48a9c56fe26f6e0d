"""Rows of a file on their way through the translator: none is lost, moved or doubled at the end of any buffer."""

import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.languages import ENGLISH
from mlc.tables import TableFile, TableWriter
from mlc.translation import files, translator
from mlc.translation.engines.given import GivenEngine
from mlc.translation.files import Count, Tally, output_schema, texts_of, translate_rows
from mlc.translation.memory import TranslationMemory
from mlc.translation.translator import Translator

SWAHILI, GERMAN = "swh_Latn", "deu_Latn"
SENTENCES = ("This topic is new to me.", "I have a quick question.", "How can I boil potatoes for a salad?")
SIZES = (1, 2, 3)
LONGEST = 2 * max(SIZES) + 1


def rows_of(count):
    """Rows with texts that differ, some of which cannot be translated or come again."""
    for number in range(count):
        text = " ".join(SENTENCES[: 1 + number % 3]) if number % 5 != 3 else ""
        yield {"id": f"row {number // 2 if number == 5 else number}", "text": text}


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def translated(source, out, made, targets, *, back=False):
    file = TableFile(source)
    texts = texts_of(file, None)
    tally = Tally({target: Count() for target in targets})
    with TableWriter(out, "jsonl", output_schema(file, texts, back=back)) as writer:
        translate_rows(
            file,
            texts,
            writer,
            made,
            tally,
            source=ENGLISH,
            on_step=lambda step: None,
            on_step_back=(lambda step: None) if back else None,
        )
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()], tally


@pytest.fixture(scope="module")
def remembering(nano, tmp_path_factory):
    """The nano translator with a memory, so that it takes texts window by window."""
    memory = TranslationMemory(tmp_path_factory.mktemp("memory"), nano.engine.identity, nano.engine.facts)
    return Translator(nano.engine, memory)


@pytest.fixture(scope="module")
def alone(nano):
    """The translation of a text that is translated alone."""
    found = {}

    def translate(text, target):
        if (text, target) not in found:
            (done,) = nano.translate([text], source=ENGLISH, target=target)
            found[text, target] = done.text or None
        return found[text, target]

    return translate


@pytest.mark.parametrize(("window", "batch"), itertools.product(SIZES, SIZES))
def test_every_buffer_ends_anywhere(remembering, alone, tmp_path, monkeypatch, window, batch):
    monkeypatch.setattr(translator, "WINDOW", window)
    monkeypatch.setattr(files, "BATCH_ROWS", batch)
    for count in range(1, LONGEST + 1):
        given = list(rows_of(count))
        source = write(tmp_path / "in.jsonl", given)
        for targets in ((SWAHILI,), (GERMAN, SWAHILI)):
            done, tally = translated(source, tmp_path / "out.jsonl", remembering, targets)
            expected = [(row["id"], row["text"], target) for row in given for target in targets]
            assert [(row["id"], row["source"], row["target_language"]) for row in done] == expected
            assert [row["translation"] for row in done] == [alone(text, target) for _, text, target in expected]
            assert tally.rows == count
            assert tally.problems.get("no text", 0) == sum(not row["text"] for row in given)


@pytest.mark.parametrize("batch", SIZES)
def test_the_way_back_ends_anywhere(remembering, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(files, "BATCH_ROWS", batch)
    for count in range(1, batch + 2):
        given = [{"id": str(number), "text": SENTENCES[0]} for number in range(count)]
        source = write(tmp_path / "in.jsonl", given)
        done, _ = translated(source, tmp_path / "out.jsonl", remembering, (GERMAN,), back=True)
        assert [row["back_translation"] for row in done] == [SENTENCES[0]] * count


@pytest.mark.parametrize("difference", [-1, 0, 1])
def test_a_batch_of_a_parquet_file_ends_anywhere(remembering, tmp_path, difference):
    given = [{"id": str(number), "text": SENTENCES[number % 3]} for number in range(files.BATCH_ROWS + difference)]
    source = write(tmp_path / "in.parquet", given)
    done, tally = translated(source, tmp_path / "out.jsonl", remembering, (SWAHILI,))
    assert [(row["id"], row["source"]) for row in done] == [(row["id"], row["text"]) for row in given]
    assert tally.languages[SWAHILI].translated == len(given)


def test_a_fallback_is_asked_for_what_has_no_translation(tmp_path, nano):
    """A table of translations by people first, then a model for the rest."""
    source = write(tmp_path / "in.jsonl", rows_of(7))
    given = [{"source": SENTENCES[0], "target_language": SWAHILI, "translation": "Mada hii ni mpya."}]
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "given.parquet")
    first = Translator(GivenEngine(tmp_path / "given.parquet"))
    plain = translated(source, tmp_path / "plain.jsonl", nano, [SWAHILI])[0]
    file, asked = TableFile(source), []
    texts = texts_of(file, None)
    tally = Tally({SWAHILI: Count()})

    def load():
        asked.append("nano")
        return nano

    with TableWriter(tmp_path / "out.jsonl", "jsonl", output_schema(file, texts, back=False)) as writer:
        translate_rows(
            file,
            texts,
            writer,
            first,
            tally,
            source=ENGLISH,
            on_step=lambda step: None,
            fallbacks={SWAHILI: [load]},
        )
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    own = [row["translator"].startswith("given:") for row in rows]
    assert own == [True, False, False, True, False, False, True]
    for row, mine, other in zip(rows, own, plain, strict=True):
        text = "" if other["translation"] is None else other["translation"]
        assert (row["translation"] or "") == ("Mada hii ni mpya." if mine and text else text)
    assert tally.languages[SWAHILI].by_fallback == 4
    assert asked == ["nano"]
