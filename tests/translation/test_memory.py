import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.translation import memory as module
from mlc.translation.engines.protocol import SentenceTranslation
from mlc.translation.memory import MERGE_AT, SCHEMA, TranslationMemory

PAIR = {"source": "eng_Latn", "target": "deu_Latn"}


@pytest.fixture
def memory(tmp_path):
    return TranslationMemory(tmp_path, "0" * 64, {"engine": "transformers"})


def row(text, **fields):
    return SentenceTranslation(**{"text": text, "logprob_sum": -1.5, "tokens": 3, "finished": True, **fields})


def parts(memory):
    return sorted((memory.folder / "eng_Latn" / "deu_Latn").glob("*.parquet"))


def test_comes_back_as_it_was_stored(memory):
    batch = {"one\n\U0001f642": row("eins\u0000"), "two": row("", logprob_sum=None, tokens=0, finished=False)}
    memory.store(batch, **PAIR)
    assert memory.lookup(["two", "one\n\U0001f642", "three"], **PAIR) == batch


def test_nothing_is_known_at_first(memory):
    assert memory.lookup(["one"], **PAIR) == {}
    assert memory.lookup([], **PAIR) == {}
    assert memory.rows(**PAIR) == 0
    memory.store({}, **PAIR)
    assert parts(memory) == []


def test_languages_and_translators_are_apart(memory, tmp_path):
    memory.store({"one": row("eins")}, **PAIR)
    assert memory.lookup(["one"], source="eng_Latn", target="fra_Latn") == {}
    assert memory.lookup(["one"], source="deu_Latn", target="eng_Latn") == {}
    assert TranslationMemory(tmp_path, "1" * 64, {}).lookup(["one"], **PAIR) == {}
    assert TranslationMemory(tmp_path, "0" * 64, {}).lookup(["one"], **PAIR) == {"one": row("eins")}


def test_says_whose_it_is(memory):
    told = json.loads((memory.folder / "translator.json").read_text())
    assert told == {"engine": "transformers", "identity": "0" * 64}


def test_the_first_of_two_counts(memory):
    memory.store({"one": row("eins")}, **PAIR)
    memory.store({"one": row("anders")}, **PAIR)
    assert memory.lookup(["one"], **PAIR)["one"].text == "eins"
    assert memory.rows(**PAIR) == 1


def test_many_parts_become_one(memory):
    for number in range(MERGE_AT + 1):
        memory.store({f"{number}": row(f"t{number}"), "same": row(f"s{number}")}, **PAIR)
    wanted = [str(number) for number in range(MERGE_AT + 1)]
    found = memory.lookup([*wanted, "same"], **PAIR)
    assert [found[name].text for name in wanted] == [f"t{name}" for name in wanted]
    assert found["same"].text == "s0"
    (merged,) = parts(memory)
    assert pq.read_table(merged).num_rows == MERGE_AT + 2


def test_a_merge_that_was_killed_before_its_end_doubles_nothing(memory):
    for number in range(3):
        memory.store({f"{number}": row(f"t{number}")}, **PAIR)
    old = {path: path.read_bytes() for path in parts(memory)}
    folder = parts(memory)[0].parent
    memory._merge(folder)
    for path, content in old.items():
        path.write_bytes(content)
    assert sum(len(part.table) for part in module._intact_parts(folder)) == 3
    assert len(parts(memory)) == 1
    assert memory.rows(**PAIR) == 3


def test_large_parts_are_left_alone(memory, monkeypatch):
    monkeypatch.setattr(module, "SMALL_PART", 2)
    memory.store({"a": row("A"), "b": row("B")}, **PAIR)
    large = parts(memory)[0]
    for name in "cd":
        memory.store({name: row(name.upper())}, **PAIR)
    memory._merge(large.parent)
    assert large in parts(memory)
    assert len(parts(memory)) == 2
    assert memory.rows(**PAIR) == 4


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "columns"])
def test_a_damaged_part_is_set_aside(memory, damage, caplog):
    memory.store({"a secret": row("ein Geheimnis" * 50)}, **PAIR)
    memory.store({"two": row("zwei")}, **PAIR)
    broken = parts(memory)[0]
    content = bytearray(broken.read_bytes())
    if damage == "columns":
        pq.write_table(pa.table({"sentence": ["a"]}), broken)
    elif damage == "bit":
        # A byte of the first column's page, which the checksum of the page covers.
        content[content.index(b"secret")] ^= 1
        broken.write_bytes(content)
    else:
        broken.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with caplog.at_level(logging.WARNING):
        assert memory.lookup(["a secret", "two"], **PAIR).keys() == {"two"}
    assert "is set aside" in caplog.text
    assert "secret" not in caplog.text
    assert "Geheimnis" not in caplog.text
    assert [path.name for path in (broken.parent / "damaged").iterdir()] == [broken.name]
    memory.store({"a secret": row("ein Geheimnis")}, **PAIR)
    assert memory.rows(**PAIR) == 2


def test_unfinished_files_are_not_read_and_go_when_they_are_old(memory, monkeypatch):
    for number in range(2):
        memory.store({f"{number}": row("x")}, **PAIR)
    folder = parts(memory)[0].parent
    (folder / ".torn.parquet.tmp").write_bytes(b"PAR1")
    assert memory.rows(**PAIR) == 2
    memory._merge(folder)
    assert (folder / ".torn.parquet.tmp").exists()
    monkeypatch.setattr(module, "ABANDONED_SECONDS", -1)
    memory._merge(folder)
    assert not (folder / ".torn.parquet.tmp").exists()


def test_threads_that_write_and_merge_at_once_lose_nothing(memory):
    def work(writer):
        for number in range(40):
            memory.store({f"{writer} {number}": row("x"), f"shared {number}": row("y")}, **PAIR)
            assert memory.lookup([f"{writer} {number}"], **PAIR)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert memory.rows(**PAIR) == 4 * 40 + 40


def test_the_columns(memory):
    memory.store({"one": row("eins")}, **PAIR)
    assert pq.read_table(parts(memory)[0]).schema.equals(SCHEMA)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        TranslationMemory(tmp_path / "file", "0" * 64, {})
