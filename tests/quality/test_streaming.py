"""Files of any size: the same verdicts as in memory, in order, for any number of threads, whatever is in the file."""

import csv
import json
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.quality import pairs, streaming
from mlc.quality.filtering import filter_pairs
from mlc.quality.measuring import tables
from mlc.quality.settings import QualitySettings
from mlc.quality.signals import TEXT_COLUMNS
from mlc.quality.streaming import filter_file
from mlc.stopping import Stopped, never
from tests.benchmarks.filter import generated_pairs

SETTINGS = QualitySettings(length_batch_rows=50)
SENTENCE = "The library is closed on Sunday morning."
SPANISH = "La biblioteca está cerrada el domingo por la mañana."


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a few rows, so that a short file has many."""
    for module in (tables, pairs):
        monkeypatch.setattr(module, "CHUNK_ROWS", 150)


@pytest.fixture(scope="module")
def table():
    generated = generated_pairs(300)
    collapsed = pa.Table.from_pylist(
        [
            {"source": f"Question number {n} of many", "translation": "Siempre la misma respuesta para todo",
             "source_language": ENGLISH, "target_language": "spa_Latn"}
            for n in range(100)
        ]
    )  # fmt: skip
    both = pa.concat_tables([generated.slice(0, 150), collapsed, generated.slice(150)])
    return both.append_column("note", pa.array([f"row {n}" for n in range(len(both))]))


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def row(source=SENTENCE, translation=SPANISH, target="es", **more):
    return {"source": source, "translation": translation, "source_language": "en", "target_language": target, **more}


@pytest.mark.parametrize("threads", [1, 3])
def test_file_gives_what_the_table_gives(tmp_path, table, small_chunks, threads):
    pq.write_table(table, tmp_path / "in.parquet")
    told = {"measured": 0, "judged": 0}

    def count(name, rows):
        told[name] += rows

    summary = filter_file(
        tmp_path / "in.parquet", tmp_path / "out.parquet", SETTINGS, threads=threads, on_progress=count
    )
    found = pq.read_table(tmp_path / "out.parquet")
    expected = filter_pairs(table, SETTINGS)
    assert found.column_names == expected.column_names
    assert found.equals(expected.cast(found.schema))
    assert found["signal_collapsed_sources"].to_pylist()[150:250] == [100] * 100
    assert told == {"measured": 400, "judged": 400}
    assert (summary.rows, summary.kept) == (400, sum(expected["keep"].to_pylist()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_result_is_the_same_for_any_chunks_and_threads_and_a_second_time(tmp_path, table, monkeypatch):
    pq.write_table(table, tmp_path / "in.parquet")
    found = []
    for chunk_rows, threads in ((150, 1), (211, 3)):
        for module in (tables, pairs):
            monkeypatch.setattr(module, "CHUNK_ROWS", chunk_rows)
        filter_file(tmp_path / "in.parquet", tmp_path / "out.jsonl", SETTINGS, threads=threads)
        found.append((tmp_path / "out.jsonl").read_bytes())
    filter_file(tmp_path / "out.jsonl", tmp_path / "again.jsonl", SETTINGS)
    assert len({*found, (tmp_path / "again.jsonl").read_bytes()}) == 1


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_in_and_out(tmp_path, table, small_chunks, ending):
    part = table.slice(0, 80)
    pq.write_table(part, tmp_path / "in.parquet")
    filter_file(tmp_path / "in.parquet", tmp_path / f"first.{ending}", SETTINGS)
    filter_file(tmp_path / f"first.{ending}", tmp_path / "second.parquet", SETTINGS)
    found = pq.read_table(tmp_path / "second.parquet")
    assert found.column_names == [*part.column_names, *TEXT_COLUMNS, "quality", "keep", "reason", "reasons"]
    assert found.equals(filter_pairs(part, SETTINGS).cast(found.schema))


def test_json_keeps_its_types_and_csv_has_one_text_a_field(tmp_path):
    rows = [row(id=7, tags=["a", 1], more={"x": None}, logprob=-0.5), row(id="8", translation=SENTENCE)]
    write_jsonl(tmp_path / "in.jsonl", rows)
    filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", SETTINGS)
    first, second = read_jsonl(tmp_path / "out.jsonl")
    assert {name: first[name] for name in rows[0]} == rows[0]
    assert first["signal_logprob"] == -0.5
    assert (second["id"], second["tags"]) == ("8", None)
    filter_file(tmp_path / "in.jsonl", tmp_path / "out.csv", SETTINGS)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as handle:
        first, second = csv.DictReader(handle)
    assert (first["id"], first["tags"], second["id"]) == ("7", '["a", 1]', "8")
    assert second["reasons"] == "copied wrong_language"


def test_bad_rows_take_no_other_row_with_them(tmp_path):
    lines = [
        json.dumps(row()),
        "not json",
        '{"source": "x", "translation": "half \\ud800 pair", "source_language": "en", "target_language": "es"}',
        json.dumps(row(target="swahilli")),
        json.dumps(row(target=None)),
        json.dumps(row(source=None)),
        json.dumps(row(translation="")),
        json.dumps(row(translation="Tiene\0un nul en medio del texto aquí")),
        json.dumps(row(source="Long words here " * 7000, translation="Palabras largas " * 7000)),
        json.dumps(row(translation=["a list"])),
        json.dumps(row(target="spanish")),
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    summary = filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", SETTINGS)
    found = read_jsonl(tmp_path / "out.jsonl")
    assert [each["reason"] for each in found] == [
        None, "unusable", "unusable", "unusable", "unusable", "unusable", "empty", "garbled", None, "unusable", None
    ]  # fmt: skip
    problems = [each["signal_problem"] for each in found]
    assert "JSON" in problems[1]
    assert "surrogate" in problems[2]
    assert "swh_Latn" in problems[3]
    assert "target language is missing" in problems[4]
    assert "source is missing" in problems[5]
    assert found[3]["target_language"] == "swahilli"
    assert [each["quality"] for each in found if each["reason"] == "unusable"] == [0.0] * 6
    assert summary.counts["unknown", "unusable"] == 3


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_empty_files_give_empty_files(tmp_path, content):
    (tmp_path / "in.jsonl").write_bytes(content)
    assert filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", SETTINGS).rows == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    (tmp_path / "in.csv").write_bytes(content + b"source,translation,source_language,target_language\n")
    filter_file(tmp_path / "in.csv", tmp_path / "out.csv", SETTINGS)
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("source,translation,")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.jsonl", None, ["none.jsonl", "No such file"]),
        ("in.xlsx", b"x", [".xlsx", ".jsonl"]),
        ("in.csv", b"source,other\na,b\n", ["'translation'", "source"]),
        ("in.parquet", b"no parquet", ["not valid parquet"]),
        ("in.jsonl", json.dumps(row(target="klingonese")).encode(), ["No row", "klingonese"]),
    ],
)
def test_mistakes_are_told(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        filter_file(tmp_path / name, tmp_path / "out.jsonl", SETTINGS)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failure_leaves_nothing_behind(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [row()])

    def fail(name, rows):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", SETTINGS, on_progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    with pytest.raises(UserError, match="does not exist"):
        filter_file(tmp_path / "in.jsonl", tmp_path / "missing" / "out.jsonl", SETTINGS)


def test_a_stop_leaves_nothing_behind(tmp_path, small_chunks):
    write_jsonl(tmp_path / "in.jsonl", [row()] * 600)
    looks = 0

    def after_a_chunk():
        nonlocal looks
        looks += 1
        return looks > 1

    with pytest.raises(Stopped):
        filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", SETTINGS, should_stop=after_a_chunk)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


class PatientModel:
    """Takes long, batch by batch."""

    columns = ("signal_similarity",)

    def __init__(self):
        self.begun, self.ended_by = threading.Event(), []

    def measure(self, pairs, should_stop=never):
        self.begun.set()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if should_stop():
                self.ended_by.append("a stop")
                raise Stopped
            time.sleep(0.01)
        raise AssertionError("it was never stopped")


@pytest.mark.parametrize("way", ["asked", "interrupted"])
def test_a_model_at_work_is_stopped_at_its_next_batch(tmp_path, monkeypatch, way):
    write_jsonl(tmp_path / "in.jsonl", [row()] * 3)
    model = PatientModel()
    if way == "interrupted":
        original = streaming._in_order

        def interrupting(pool, threads, work, items):
            if work.__name__ != "judge":
                yield from original(pool, threads, work, items)
                return
            for item in items:
                pool.submit(work, item)
            assert model.begun.wait(20)
            raise KeyboardInterrupt

        monkeypatch.setattr(streaming, "_in_order", interrupting)
    with pytest.raises(KeyboardInterrupt if way == "interrupted" else Stopped):
        filter_file(
            tmp_path / "in.jsonl",
            tmp_path / "out.jsonl",
            SETTINGS,
            signals=("empty", "meaning"),
            model=model,
            should_stop=never if way == "interrupted" else model.begun.is_set,
        )
    assert model.ended_by == ["a stop"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_chosen_signals_only(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [row(translation=SENTENCE), row(translation="")])
    filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", SETTINGS, signals=("copied",))
    first, second = read_jsonl(tmp_path / "out.jsonl")
    assert [name for name in first if name.startswith("signal_")] == [
        "signal_empty", "signal_source_letters", "signal_translation_letters", "signal_copied"
    ]  # fmt: skip
    assert (first["reasons"], second["reasons"]) == (["copied"], [])


def test_language_that_the_identifier_does_not_know_is_counted(tmp_path):
    ewe = "Wotu agbalẽdzraɖoƒea le Kɔsiɖagbe ŋdi."
    write_jsonl(tmp_path / "in.jsonl", [row(translation=ewe, target="ewe_Latn"), row()])
    assert filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", SETTINGS).not_identified == {"ewe_Latn": 1}


class CountingModel:
    """Gives each pair the length of its source."""

    columns = ("signal_similarity",)

    def __init__(self):
        self.asked = []

    def measure(self, pairs, should_stop=never):
        self.asked += pairs.to_pylist()
        return pa.table(
            {"signal_similarity": pa.array([0.9 if "open" in s else 0.1 for s in pairs["source"].to_pylist()])}
        )


def test_a_model_is_asked_only_about_rows_that_passed(tmp_path, small_chunks):
    rows = [row(), row(source="The library is open on Sunday morning."), row(translation=SENTENCE), row(translation="")]
    write_jsonl(tmp_path / "in.jsonl", rows * 20)
    model = CountingModel()
    settings = QualitySettings.model_validate({"default": {"similarity": 0.5, "collapsed_sources": 5}})
    names = ("empty", "copied", "wrong_language", "meaning")
    filter_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", settings, signals=names, model=model, threads=2)
    found = read_jsonl(tmp_path / "out.jsonl")
    assert [each["reason"] for each in found] == ["meaning", None, "copied", "empty"] * 20
    assert [each["signal_similarity"] for each in found] == [0.1, 0.9, None, None] * 20
    assert {(each["source_code"], each["target_code"]) for each in model.asked} == {("eng_Latn", "spa_Latn")}
    assert len(model.asked) == 40
