"""Every reader: what comes in comes out, or is set aside and counted."""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc.errors import UserError
from mlc.tables import TableFile, TableWriter, find_place
from mlc.tables.blocks import RECORD_LINES
from mlc.tables.json_rows import CUT_OFF, NO_OBJECT, SECOND_ARRAY, rows_of_values
from mlc.tables.reader import NO_LINE_BESIDE

ROWS = [{"id": str(number), "prompt": f"Où est le numéro {number} ?", "tag": "a;b|c, d"} for number in range(5)]
PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": lambda data: zstd(data)}


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(rows, separator=",", **options):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator="\n", **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def read(path, **options):
    file = TableFile(path, **options)
    rows = list(file)
    assert len(rows) == len(file)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return rows


def good(path, **options):
    return [dict(row.values) for row in read(path, **options) if row.problem is None]


def problems(path, **options):
    return [(row.number, row.problem) for row in read(path, **options) if row.problem is not None]


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Formats and packings.


@pytest.mark.parametrize("packing", ["", "gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", lines(ROWS)),
        ("x.ndjson", lines(ROWS)),
        ("X.JSONL", lines(ROWS)),
        ("x.json", lines(ROWS)),
        ("x.json", json.dumps(ROWS).encode()),
        ("x.jsonl", json.dumps(ROWS, indent=2).encode()),
        ("x.json", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
        ("x.json", json.dumps({"version": [1, 2], "about": {"n": 5}, "data": ROWS}).encode()),
        ("x.csv", separated(ROWS)),
        ("x.csv", separated(ROWS, ";")),
        ("x.csv", separated(ROWS, "\t")),
        ("x.csv", separated(ROWS, "|")),
        ("x.csv", lines(ROWS)),
        ("x.tsv", separated(ROWS, "\t")),
        ("x.tsv", separated(ROWS, "\t", quoting=csv.QUOTE_ALL)),
        ("x.tsv", separated(ROWS)),
    ],
)
def test_every_form_gives_the_same_rows(tmp_path, name, content, packing):
    path = put(tmp_path, f"{name}.{packing}" if packing else name, PACKERS[packing](content) if packing else content)
    assert good(path) == ROWS
    assert problems(path) == []


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst"])
def test_the_content_counts_more_than_the_ending(tmp_path, packing):
    assert good(put(tmp_path, "x.jsonl", PACKERS[packing](lines(ROWS)))) == ROWS
    assert good(put(tmp_path, "x.jsonl.gz", lines(ROWS))) == ROWS


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst"])
def test_a_packed_file_that_is_cut_off_is_told(tmp_path, packing):
    rows = [{"n": number, "text": f"{number * 7919 % 10007}"} for number in range(5000)]
    path = put(tmp_path, f"x.jsonl.{packing}", PACKERS[packing](lines(rows))[:-100])
    with pytest.raises(UserError, match="cut off"):
        TableFile(path)


@pytest.mark.parametrize("form", ["parquet", "under another name", "feather", "stream"])
def test_tables_of_columns(tmp_path, form):
    table = pa.Table.from_pylist(ROWS)
    path = tmp_path / {"parquet": "x.parquet", "under another name": "x.jsonl"}.get(form, "x.arrow")
    if path.suffix == ".arrow":
        if form == "feather":
            feather.write_feather(table, path, compression="lz4")
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
    else:
        pq.write_table(table, path)
    assert good(path) == ROWS
    assert pa.Table.from_batches(TableFile(path).batches(2)).to_pylist() == ROWS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.txt"])
def test_encodings(tmp_path, name, encoding):
    content = separated(ROWS, "\t" if name == "x.tsv" else ",").decode()
    path = put(tmp_path, name, content.encode(encoding))
    if name == "x.txt":
        assert [row["text"] for row in good(path)] == content.splitlines()
    else:
        assert good(path) == ROWS
    told = " ".join(TableFile(path).notes)
    assert ("Windows-1252" in told) == (encoding == "cp1252")
    assert ("UTF-16" in told) == encoding.startswith("utf-16")


def test_another_alphabet_is_not_taken_for_windows_1252(tmp_path):
    path = put(tmp_path, "x.csv", "id,prompt\n1,Где мой чай?\n".encode("cp1251"))
    assert good(path) == [{"id": "1", "prompt": "Где мой чай?".encode("cp1251").decode("utf-8", "surrogateescape")}]
    assert TableFile(path).notes == ()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
def test_line_ends(tmp_path, name, end):
    content = lines(ROWS) if name == "x.jsonl" else separated(ROWS, "\t" if name == "x.tsv" else ",")
    assert good(put(tmp_path, name, content.replace(b"\n", end.encode()))) == ROWS


@pytest.mark.parametrize(
    "content",
    [
        '"prompt" , "chosen"\n"a, b" , "c"\n"d ""e"" , f" , "g"\n',
        '"prompt","chosen"\n"a, b","c"\n"d ""e"" , f","g"\n',
        '"prompt","chosen"\n"a, b","c"\n"d \\"e\\" , f","g"\n',
        'prompt;chosen\na, b;c\n"d ""e"" , f";g\n',
        ' prompt , chosen\n"a, b",c\n"d ""e"" , f",g\n',
    ],
)
def test_dialects_of_csv(tmp_path, content):
    assert [list(row.values()) for row in good(put(tmp_path, "x.csv", content))] == [["a, b", "c"], ['d "e" , f', "g"]]
    assert TableFile(tmp_path / "x.csv").columns == ("prompt", "chosen")


def test_columns_without_a_name(tmp_path):
    path = put(tmp_path, "x.csv", ",prompt,\n0,a,\n1,b,\n")
    assert TableFile(path).columns == ("unnamed_1", "prompt", "unnamed_3")
    assert good(path)[1] == {"unnamed_1": "1", "prompt": "b", "unnamed_3": None}


# TSV: a line is a row.


def test_marks_are_text_in_tsv(tmp_path):
    rows = ['1\t"Bake bread, she said.', '2\tPlant a rose."', '3\t"All of it."', '4\t""', '5\t5" wide', '6\t"a""b"']
    path = put(tmp_path, "x.tsv", "id\tprompt\n" + "\n".join(rows))
    assert [row["prompt"] for row in good(path)] == [row.split("\t")[1] for row in rows]


def test_marks_hold_together_what_does_not_fit_otherwise(tmp_path):
    path = put(tmp_path, "x.tsv", 'id\tprompt\ttag\n1\t"one\ntwo"\tx\n2\t"a\tb"\ty\n3\t"broken\n4\tplain\tz\n')
    assert [list(row.values()) for row in good(path)] == [
        ["1", "one\ntwo", "x"],
        ["2", "a\tb", "y"],
        ["4", "plain", "z"],
    ]
    assert problems(path) == [(3, "2 fields where the header has 3")]


# JSON that is broken.


@pytest.mark.parametrize(
    ("content", "kept", "reasons"),
    [
        ('[{"a": 1}, {"a": 2,}, {"a": [{"b": "}"}]}]', 2, [(2, NO_OBJECT)]),
        ('[{"a": 1},\n {"a": "open},\n {"a": 3}\n]', 2, [(2, NO_OBJECT)]),
        ('[{"a": 1}, 7, "x", {"a": 3}]', 2, [(2, NO_OBJECT), (3, NO_OBJECT)]),
        ('[{"a": 1}, {"a": 2}', 2, [(3, CUT_OFF)]),
        ('[{"a": 1}, {"a": ', 1, [(2, CUT_OFF), (3, CUT_OFF)]),
        ('{"train": [{"a": 1}], "test": [{"a": 2}]}', 1, [(2, SECOND_ARRAY)]),
        ("[]", 0, []),
    ],
)
def test_broken_arrays(tmp_path, content, kept, reasons):
    path = put(tmp_path, "x.json", content)
    assert len(good(path)) == kept
    assert problems(path) == reasons


def test_an_array_is_read_in_pieces(tmp_path):
    rows = [{"id": str(number), "text": '{"]' * (number % 5_000)} for number in range(300)]
    assert good(put(tmp_path, "x.json", json.dumps(rows))) == rows
    assert good(put(tmp_path, "y.json", json.dumps(rows, indent=1))) == rows


def test_conversations_in_a_pretty_object_are_not_rows(tmp_path):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for content in (json.dumps(row, indent=1), json.dumps(row)):
        assert good(put(tmp_path, "x.json", content)) == [row]


# Places.


def test_shards_in_a_folder_and_by_a_pattern(tmp_path):
    for number in (0, 1, 2, 10):
        put(tmp_path, f"part-{number}.jsonl.gz", gzip.compress(lines([{"id": str(number)}])))
    put(tmp_path, "README.md", "words")
    put(tmp_path, "_SUCCESS", "")
    put(tmp_path, "dataset_info.json", "{}")
    assert [row["id"] for row in good(tmp_path)] == ["0", "1", "2", "10"]
    assert [row["id"] for row in good(f"{tmp_path}/part-1*.jsonl.gz")] == ["1", "10"]
    with pytest.raises(UserError, match="holds no file of rows"):
        TableFile(f"{tmp_path}/shard-*.jsonl")


def test_shards_with_other_columns(tmp_path):
    put(tmp_path, "a.csv", "id,prompt\n1,x\n")
    put(tmp_path, "b.csv", "prompt,tag,id\ny,t,2\n")
    assert TableFile(tmp_path).columns == ("id", "prompt", "tag")
    assert [(row["id"], row["prompt"], row.get("tag")) for row in good(tmp_path)] == [("1", "x", None), ("2", "y", "t")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train-0.jsonl", "test-0.jsonl"), r"several splits \(test, train\): name one, such as .*test\*"),
        (("a.jsonl", "b.csv"), r"files of several formats \(csv, jsonl\)"),
    ],
)
def test_folders_that_could_mean_several_tables(tmp_path, names, message):
    for name in names:
        put(tmp_path, name, lines(ROWS))
    with pytest.raises(UserError, match=message):
        TableFile(tmp_path)


def test_folders_of_the_library_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(str(tmp_path / "one"), num_shards=2)
    assert good(tmp_path / "one") == ROWS
    datasets.DatasetDict(train=whole, test=whole).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(UserError, match=r"several splits \(train, test\): name one, such as .*two/train"):
        TableFile(tmp_path / "two")
    assert good(tmp_path / "two" / "test") == ROWS


def test_lines_side_by_side(tmp_path):
    put(tmp_path, "c.en", "one\n\u2028two\nthree\n")
    put(tmp_path, "c.hi", "एक\nदो\n")
    path = f"{tmp_path}/c.{{en,hi}}"
    assert good(path) == [{"en": "one", "hi": "एक"}, {"en": "\u2028two", "hi": "दो"}]
    assert problems(path) == [(3, NO_LINE_BESIDE)]
    with pytest.raises(UserError, match=r"has \.hi beside it: for lines side by side write both endings, such as"):
        TableFile(tmp_path / "c.en")


def test_a_url_is_fetched_again_when_it_has_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLC_CACHE", str(tmp_path / "cache"))
    served = put(tmp_path, "served/x.jsonl.gz", gzip.compress(lines(ROWS)))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served.parent))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *arguments: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.jsonl.gz"
        assert good(url) == ROWS
        first = find_place(url).identity()
        served.write_bytes(gzip.compress(lines(ROWS[:2])))
        assert good(url) == ROWS[:2]
        assert find_place(url).identity() != first
        with pytest.raises(UserError, match="cannot be fetched"):
            TableFile(f"{url}.nothing")
        server.shutdown()


def test_the_place_does_not_enter_the_identity(tmp_path):
    one = put(tmp_path, "a/x.jsonl", lines(ROWS))
    other = put(tmp_path, "b/y.jsonl", lines(ROWS))
    assert find_place(one).identity() == find_place(other).identity()
    put(tmp_path, "b/z.jsonl", lines(ROWS[:1]))
    folder = find_place(tmp_path / "b").identity()
    assert folder != find_place(other).identity()
    put(tmp_path, "b/z.jsonl", lines(ROWS[1:2]))
    assert find_place(tmp_path / "b").identity() != folder


def test_a_data_set_of_the_hub_must_be_well_named():
    with pytest.raises(UserError, match="is not of the form hf:owner/name"):
        TableFile("hf:nobody")


# Properties.

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WILD = st.text(st.sampled_from("a\"',;|\\ \t\n\r\0{}[]\u2028é🙂"), max_size=10)
NAMES = st.lists(st.sampled_from(["id", "prompt", "chosen", "tag", "näme"]), min_size=2, max_size=4, unique=True)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def tables(draw, *, ragged=False, fields=TEXT | WILD):
    names = draw(NAMES)
    width = st.integers(1, 6) if ragged else st.just(len(names))
    rows = draw(st.lists(width.flatmap(lambda count: st.lists(fields, min_size=count, max_size=count)), max_size=6))
    return names, rows


@MANY
@given(tables())
def test_json_gives_back_every_row(tmp_path, table):
    names, rows = table
    rows = [dict(zip(names, row, strict=True)) for row in rows]
    assert good(put(tmp_path, "x.jsonl", lines(rows))) == rows
    for indent in (None, 1):
        assert good(put(tmp_path, "x.json", json.dumps(rows, indent=indent))) == rows


@MANY
@given(tables(), st.sampled_from(",;|"), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
def test_csv_gives_back_every_row(tmp_path, table, separator, quoting):
    names, rows = table
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=quoting).writerows([names, *rows])
    path = put(tmp_path, "x.csv", text.getvalue())
    found = [list(row.values.values()) for row in read(path) if row.problem is None]
    if separator == "," or rows:
        assert found == [[field or None for field in row] for row in rows]


@MANY
@given(tables(fields=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), max_size=12)))
def test_tsv_gives_back_every_line(tmp_path, table):
    names, rows = table
    path = put(tmp_path, "x.tsv", "\n".join("\t".join(row) for row in [names, *rows]) + "\n")
    found = [list(row.values.values()) for row in read(path)]
    assert found == [[field or None for field in row] for row in rows]


@MANY
@given(tables(ragged=True, fields=st.text(st.sampled_from('ab",;'), max_size=6)))
def test_ragged_lines_are_rows_or_are_set_aside(tmp_path, table):
    names, rows = table
    written = ["\t".join(row) for row in rows]
    path = put(tmp_path, "x.tsv", "\n".join(["\t".join(names), *written]) + "\n")
    found = read(path)
    # Marks may join lines that fit nowhere; those that fit are never touched, and no line is lost.
    of_rows = [1 + "".join(value or "" for value in row.values.values()).count("\n") for row in found]
    assert sum(of_rows) == sum(bool(line) for line in written)
    kept = [dict(row.values) for row in found if row.problem is None]
    for row in rows:
        if len(row) == len(names):
            assert dict(zip(names, (field or None for field in row), strict=True)) in kept


@MANY
@given(st.binary(max_size=200), st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.tsv", "x.txt"]))
def test_any_bytes_are_read_or_refused_in_one_sentence(tmp_path, content, name):
    path = put(tmp_path, name, content)
    told = ""
    try:
        read(path)
    except UserError as error:
        told = str(error)
    assert "\n" not in told


@MANY
@given(tables())
def test_what_is_written_is_read_again(tmp_path, table):
    names, rows = table
    rows = [dict(zip(names, (field.replace("\r", "") for field in row), strict=True)) for row in rows]
    schema = pa.schema([(name, pa.string()) for name in names])
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        path = tmp_path / f"x.{ending}"
        with TableWriter(path, ending, schema) as writer:
            writer.write(rows)
        assert [{name: value or "" for name, value in row.items()} for row in good(path)] == rows


def test_a_mark_that_is_never_closed_is_found_in_bounded_work(tmp_path):
    count = 3 * RECORD_LINES
    fields = ['"open' if number % 500 == 0 else "x" for number in range(count)]
    path = put(tmp_path, "x.csv", "id,prompt\n" + "".join(f"{number},{field}\n" for number, field in enumerate(fields)))
    assert [row["id"] for row in good(path)] == [str(number) for number in range(count) if number % 500]
    assert [number for number, _ in problems(path)] == list(range(1, count, 500))


@pytest.mark.parametrize("name", ["a.arrow", "a.parquet"])
def test_a_damaged_file_of_columns_is_read_or_told_of(tmp_path, name):
    """Offsets that point out of an Arrow file end the process where they are followed."""
    table = pa.table({"prompt": ["How do I bake bread?", "=1+1"] * 3, "note": [1, None] * 3})
    if name == "a.arrow":
        feather.write_feather(table, tmp_path / name, compression="uncompressed")
    else:
        pq.write_table(table, tmp_path / name)
    whole, draw, told = (tmp_path / name).read_bytes(), random.Random(0), 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            content[draw.randrange(len(whole))] = draw.randrange(256)
        (tmp_path / name).write_bytes(content)
        try:
            list(TableFile(tmp_path / name))
        except UserError:
            told += 1
    assert told > 50


ODD_RECORDS = {
    "csv": (
        *("a,b,c", '"open,b', 'x,"y"z', 'x,"y, "z', '"many\nlines",b', "", " ", '"a ""b""",c', "only", '"1\n2","3\n4"'),
        *('5" wide,b', '""x,b', 'x,""', '"",""', 'a""b,c', '"a",b\r', "a\rb,c", '"a\r\nb",c\r', "\0,b", "\ufeffa,b"),
        *('",",","', '"a,"b","c"', "a,b\r\n\r", b"\xff,\xc3", b"a,\xed\xa0\x80"),
    ),
    "tsv": (
        *("a\tb\tc", '"a\nb"\tc', '"a\tb"\tc', '"open\tb', "only", "", '"a"\t""', "a\tb\r", "a\rb\tc", "\r", "\t"),
        *(' "\t" ', "a\tb\r\r", "\0\tb", "\u2028\tb", b"\xff\tb", '"', '""\t"\t'),
    ),
    "jsonl": (
        *("", " ", "\ufeff", "[1]", "7", "null", '"text"', "{}", '{"a": "x', '{"a": NaN}', '{"a": 1, "a": [2]}'),
        *('{"a": [1', '2], "a": 3}', '{"c": 3},7,{"d": 4}', '{"c": 3},0,{"d": 4}', '{"a": [{"b": 1}', '{"c": 2}]}'),
        *('{"a": {"b": 1}', '"b": 2},{"c": 3}', '{"a": 12345678901234567890123}', '{"a": [-9223372036854775809]}'),
        *('{"a": "\\ud800"}', '{"a": [1.5, -0.0, 1e400]}', '{"a": 9007199254740993, "b": []}', " {\t} ", '{"a": 1}\r'),
        *('{"a": "{[,0,]}"}', '{"a": ' + "[" * 300 + "]" * 300 + "}", '{"new": null}', "{} {}", ",", "{},{}", "{", "}"),
        *("\0", '{"a": "\0"}', "\x85", '{"a": true, "b": 1.0}', b'{"a": "\xff"}', b"\xed\xa0\x80"),
    ),
}
"""Lines of other widths, with marks out of place, in several pieces, blank, or no text; after ``csv`` among others."""
USUAL_RECORDS = {
    "csv": '{0},"text, ""{0}"""',
    "tsv": '{0}\t"text, "{0}',
    "jsonl": '{{"id": "{0}", "turns": [{{"a": {0}}}]}}',
}


@MANY
@given(st.data(), st.sampled_from(list(ODD_RECORDS)), st.sampled_from([1, 40, 300, 1 << 16]))
def test_blocks_of_lines_change_nothing(tmp_path, data, name, block):
    odd = data.draw(st.lists(st.tuples(st.integers(0, 15), st.sampled_from(ODD_RECORDS[name])), max_size=6))
    end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    records = [USUAL_RECORDS[name].format(number).encode() for number in range(data.draw(st.sampled_from([0, 1, 15])))]
    for place, record in odd:
        records.insert(place, record if isinstance(record, bytes) else record.encode())
    header = {"csv": [b"id,prompt"], "tsv": [b"id\tprompt"], "jsonl": []}[name]
    content = end.join([*header, *records]) + data.draw(st.sampled_from([b"", end]))
    found = []
    for in_blocks in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            for size in ("blocks.TABLE_BYTES", "json_rows.BLOCK_BYTES"):
                patch.setattr(f"mlc.tables.{size}", block)
            if not in_blocks:
                patch.setattr("mlc.tables.json_rows.objects_in", lambda block, names_only: None)
                patch.setattr("mlc.tables.separated.fields_in", lambda *arguments, **options: None)
                patch.setattr("mlc.tables.separated._strict_records", lambda *arguments: [])
            path = put(tmp_path, f"x.{name}", content)
            try:
                found.append((TableFile(path).columns, [(*row, repr(row.values)) for row in read(path)]))
            except UserError as error:
                found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("mark", [",", "]"])
def test_a_mark_that_stands_between_objects_is_passed_over(mark):
    rows = rows_of_values(io.StringIO(f'{mark}{{"a": 1}}{mark}{mark} {{"a": 2}}'), "objects")
    assert [row.values for row in rows] == [{}, {"a": 1}, {}, {}, {"a": 2}]


def test_a_row_at_the_end_of_a_block_is_read_once(tmp_path, monkeypatch):
    prompts = ["c", 'a\n"b"', "c"] * 100
    path = put(tmp_path, "x.csv", separated([{"id": str(n), "prompt": text} for n, text in enumerate(prompts)]))
    for size in (*range(100, 120), path.stat().st_size - 1, path.stat().st_size):
        monkeypatch.setattr("mlc.tables.blocks.TABLE_BYTES", size)
        assert [(row["id"], row["prompt"]) for row in good(path)] == [(str(n), text) for n, text in enumerate(prompts)]


def test_easy_files_are_read_in_blocks(tmp_path, monkeypatch):
    """What is slow is not needed for them, whatever language, braces or breaks their texts hold."""
    rows = [{"id": str(number), "prompt": f'Où {{est}} "[{number}]" ?\nIci, là.', "n": ""} for number in range(50)]
    nested = [{"turns": [{"text": row["prompt"], "score": 0.5, "n": 10**17}]} for row in rows]
    for slow in ("json_rows._line_by_line", "separated._strict_records"):
        monkeypatch.setattr(f"mlc.tables.{slow}", lambda *arguments, **options: pytest.fail("row by row"))
    assert good(put(tmp_path, "x.jsonl", lines(rows))) == rows
    assert good(put(tmp_path, "x.jsonl", lines(nested).replace(b"\n", b"\r\n"))) == nested
    assert good(put(tmp_path, "x.csv", separated(rows).replace(b"\n", b"\r\n"))) == [
        {**row, "prompt": row["prompt"].replace("\n", "\r\n"), "n": None} for row in rows
    ]
    monkeypatch.setattr("mlc.tables.separated._held_together", lambda *arguments: pytest.fail("row by row"))
    plain = [{**row, "prompt": row["prompt"].replace("\n", " ")} for row in rows]
    content = "\n".join(["id\tprompt\tn", *("\t".join(row.values()) for row in plain)])
    assert good(put(tmp_path, "x.tsv", content)) == [{**row, "n": None} for row in plain]


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 123456789012345678901234567890}',
        '{"a": [123456789012345678901234567890]}',
        '{"a": {"b": -9223372036854775809}}',
        '{"a": NaN}',
        '{"a": 1e400}',
        '{"a": "\\ud800"}',
        '{"a": 1, "a": 2}',
        '{"a": -0.0}',
        '\ufeff{"a": "é"}',
    ],
)
def test_json_lines_are_what_python_reads(tmp_path, line):
    (row,) = read(put(tmp_path, "x.jsonl", f"\n{line}\n \n"))
    assert repr(row.values) == repr(json.loads(line.lstrip("\ufeff")))


def test_json_lines_with_bytes_that_are_no_text_keep_their_place(tmp_path):
    path = put(tmp_path, "x.jsonl", b'{"a": "x"}\n{"a": "\xff"}\n[1]\n' + b"[" * 5000 + b'\n{"b": 1}\n')
    assert TableFile(path).columns == ("a", "b")
    assert [row.problem for row in read(path)] == [None, None, "not a JSON object", "not a JSON object", None]
