import datetime
import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.errors import UserError
from mlc.prompts import read_prompts

SECRET = "zanzibar marmalade"
"""A prompt that no error may quote."""

ROWS = [
    {"id": "a", "prompt": 'One, "quoted"', "label": "harmful"},
    {"id": "b", "prompt": "Two\nlines\tand a tab", "label": "harmless"},
    {"id": "c", "prompt": "Où est 東京 🙂?", "label": "harmless"},
]


def quoted(value):
    return '"' + value.replace('"', '""') + '"'


def write_rows(path, rows=ROWS):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        joint = "\t" if path.suffix == ".tsv" else ","
        # In TSV, marks hold fields together where the header has them.
        names = map(quoted, rows[0]) if path.suffix == ".tsv" else rows[0]
        lines = [joint.join(names), *(joint.join(quoted(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def read(tmp_path):
    def read(name, content, **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_text(content, encoding="utf-8")
        found = read_prompts(path, **options)
        return found.rows.to_pylist(), [(row["row"], row["reason"]) for row in found.rejected.to_pylist()]

    return read


def refusal(read, name, content, **options):
    with pytest.raises(UserError) as error:
        read(name, content, **options)
    text = str(error.value)
    assert name in text
    assert "\n" not in text
    assert "zanzibar" not in text
    assert "marmalade" not in text
    return text


# Formats.


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, ending):
    found = read_prompts(write_rows(tmp_path / f"prompts.{ending}"))
    assert found.rows.to_pylist() == ROWS
    assert found.rejected.to_pylist() == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"\xef\xbb\xbfid,prompt\r\n01,one\r\n\r\n1,two\r\n"),
        ("x.tsv", b"\xef\xbb\xbfid\tprompt\r\n01\tone\r\n\r\n1\ttwo\r\n"),
        ("x.jsonl", b'\xef\xbb\xbf{"id": "01", "prompt": "one"}\r\n\r\n   \r\n{"id": "1", "prompt": "two"}\r\n\r\n'),
        ("x.jsonl", b'{"id": "01", "prompt": "one"}\n{"id": "1", "prompt": "two"}'),
    ],
)
def test_byte_order_mark_crlf_and_blank_lines(read, name, content):
    assert read(name, content) == ([{"id": "01", "prompt": "one"}, {"id": "1", "prompt": "two"}], [])


@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_tables_of_text_do_not_guess_types(read, name):
    content = "id,prompt,tag\n1,007,01\n2,NA,true\n3,2020-01-01,1e3\n4,null,\n".replace(
        ",", "\t" if "tsv" in name else ","
    )
    rows, rejected = read(name, content)
    assert [row["prompt"] for row in rows] == ["007", "NA", "2020-01-01", "null"]
    assert [row["tag"] for row in rows] == ["01", "true", "1e3", None]
    assert rejected == []


def test_a_line_separator_inside_a_json_text_is_text(read):
    rows, _ = read("x.jsonl", '{"prompt": "one\u2028two"}\n{"prompt": "three\\r\\nfour"}\n')
    assert [row["prompt"] for row in rows] == ["one\u2028two", "three\r\nfour"]


any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(lambda text: text.strip())


@given(st.lists(any_text, min_size=1))
def test_any_text_survives_json_lines(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    write_rows(path, [{"prompt": text} for text in texts])
    assert read_prompts(path).rows["prompt"].to_pylist() == texts


# Values that are no text.


def test_nested_values_become_json(read):
    expected = [{"id": "1", "prompt": "one", "x": '["é", 1]'}, {"id": "2", "prompt": "two", "x": None}]
    content = '{"id": 1, "prompt": "one", "x": ["é", 1]}\n{"id": 2, "prompt": "two"}\n'
    assert read("x.jsonl", content) == (expected, [])


def test_nested_values_of_parquet_become_json(read):
    table = pa.table(
        {
            "prompt": ["one", "two"],
            "tags": [["é"], None],
            "made": [{"on": datetime.date(2020, 1, 2)}, None],
        }
    )
    rows, _ = read("x.parquet", table)
    assert [row["tags"] for row in rows] == ['["é"]', None]
    assert [row["made"] for row in rows] == ['{"on": "2020-01-02"}', None]


def test_numbers_dates_and_categories_become_text(read):
    table = pa.table(
        {
            "id": pa.array([7, 8]),
            "prompt": pa.array(["one", "two"]).dictionary_encode(),
            "score": [0.5, None],
            "day": [datetime.date(2020, 1, 2), None],
            "flag": [True, False],
        }
    )
    rows, _ = read("x.parquet", table)
    assert rows[0] == {"id": "7", "prompt": "one", "score": "0.5", "day": "2020-01-02", "flag": "true"}
    assert rows[1] == {"id": "8", "prompt": "two", "score": None, "day": None, "flag": "false"}


# Rows that are set aside.


def test_ids_are_row_numbers_where_there_are_none(read):
    rows, rejected = read("x.jsonl", '{"prompt": "one"}\n{"prompt": " "}\n{"prompt": "three"}\n')
    assert [row["id"] for row in rows] == ["1", "3"]
    assert rejected == [(2, "no text in prompt")]


@pytest.mark.parametrize("blank", ['""', '"  \\n"', "null"])
def test_blank_prompts(read, blank):
    rows, rejected = read("x.jsonl", f'{{"id": 7, "prompt": {blank}}}\n{{"id": 8, "prompt": "x"}}\n{{"id": 9}}\n')
    assert rows == [{"id": "8", "prompt": "x"}]
    assert rejected == [(1, "no text in prompt"), (3, "no text in prompt")]


def test_repeated_and_missing_ids(read):
    content = "id,prompt\na,one\na,two\n,three\nb,four\na,five\n"
    rows, rejected = read("x.csv", content)
    assert [(row["id"], row["prompt"]) for row in rows] == [("a", "one"), ("b", "four")]
    assert rejected == [(2, "repeated id"), (3, "no id"), (5, "repeated id")]


def test_the_id_of_a_rejected_row_is_free(read):
    rows, rejected = read("x.csv", "id,prompt\na,\na,two\n")
    assert rows == [{"id": "a", "prompt": "two"}]
    assert rejected == [(1, "no text in prompt")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.jsonl", f'{{"prompt": "{SECRET}"\n{{"prompt": "x"}}\n', "not a JSON object"),
        ("x.jsonl", f'\n\n["{SECRET}"]\n{{"prompt": "x"}}\n', "not a JSON object"),
        ("x.jsonl", "[" * 100_000 + '\n{"prompt": "x"}\n', "not a JSON object"),
        ("x.jsonl", f'{{"prompt": "{SECRET} \\ud800"}}\n{{"prompt": "x"}}\n', "half a surrogate pair in prompt"),
        ("x.jsonl", f'{{"prompt": "{SECRET} \\u0000"}}\n{{"prompt": "x"}}\n', "a NUL character in prompt"),
        ("x.jsonl", f'{{"prompt": ["{SECRET}"]}}\n{{"prompt": "x"}}\n', "not a text in prompt"),
        (
            "x.jsonl",
            f'{{"prompt": "{SECRET} é"}}\n{{"prompt": "x"}}\n'.encode("latin-1"),
            "bytes that are not UTF-8 in prompt",
        ),
        (
            "x.csv",
            b"prompt,tag\n" + f"{SECRET} é,y\n".encode("latin-1") + "x,é\n".encode(),
            "bytes that are not UTF-8 in prompt",
        ),
        ("x.csv", f"prompt,tag\n{SECRET},more,most\nx,y\n", "3 fields where the header has 2"),
        ("x.csv", f'prompt,tag\n"{SECRET},y\nx,y\n', "a quotation mark out of place"),
        ("x.csv", f'prompt,tag\n"{SECRET}" and,y\nx,y\n', "a quotation mark out of place"),
        ("x.tsv", f"prompt\ttag\n{SECRET}\nx\ty\n", "1 field where the header has 2"),
        ("x.parquet", pa.table({"prompt": [SECRET.encode() + b"\xff", b"x"]}), "bytes that are not UTF-8 in prompt"),
    ],
)
def test_a_bad_row_takes_no_other_with_it(read, name, content, reason):
    rows, rejected = read(name, content)
    assert [row["prompt"] for row in rows] == ["x"]
    assert rejected == [(1, reason)]


def test_a_quotation_mark_that_is_never_closed_costs_its_own_line(read):
    content = 'id,prompt\n1,one\n2,"two\n3,three\n4,"four\nand more"\n5,"five\n6,six\n'
    rows, rejected = read("x.csv", content)
    assert [(row["id"], row["prompt"]) for row in rows] == [
        ("1", "one"),
        ("3", "three"),
        ("4", "four\nand more"),
        ("6", "six"),
    ]
    assert rejected == [(2, "a quotation mark out of place"), (5, "a quotation mark out of place")]


def test_unknown_labels(read):
    content = "prompt,label\none,harmful\ntwo,Harmful\nthree,bad\nfour,harmless\nfive,\n"
    rows, rejected = read("x.csv", content)
    assert [(row["prompt"], row["label"]) for row in rows] == [
        ("one", "harmful"),
        ("two", "harmful"),
        ("four", "harmless"),
        ("five", None),
    ]
    assert rejected == [(3, "unknown label")]


def test_a_required_label_must_be_there(read):
    rows, rejected = read("x.csv", "prompt,label\none,harmful\ntwo,\n", required=("prompt", "label"))
    assert len(rows) == 1
    assert rejected == [(2, "no text in label")]


# Files that cannot be used.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *(
            ("x.json", json.dumps(table), r"is a table by columns: write it by rows, with orient='records', lines=True")
            for table in (
                {"prompt": {"0": SECRET, "1": "b"}, "label": {"0": 1, "1": 0}},
                {"0": {"prompt": SECRET, "label": 1}, "1": {"prompt": "b", "label": 0}},
                {"prompt": [SECRET, "b"], "label": [1, 0]},
                {"columns": ["prompt"], "index": [0], "data": [[SECRET]]},
            )
        ),
        ("x.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "is a pointer of Git LFS"),
        ("x.jsonl", f"<!DOCTYPE html>\n<p>{SECRET}", "is a web page"),
        ("x.csv", f"sep=;\nprompt;label\n{SECRET};safe\n", r"begins with a line for Excel \(sep=\)"),
        ("x.csv", f"# {SECRET}\nprompt,label\na,safe\n", "begins with a comment"),
        ("x.tar.gz", gzip.compress(b"a".ljust(257, b"\0") + b"ustar", mtime=0), "is a tar archive: take the table out"),
        ("x.zip", b"PK\x03\x04", "is a zip archive"),
        ("x.jsonl", f"{SECRET}\n", r"holds no usable prompt \(set aside: not a JSON object\)"),
        ("x.jsonl", f'"{SECRET}"\n'.encode("utf-16"), r"holds no usable prompt \(set aside: not a JSON object\)"),
        ("x.csv", "", "holds no usable prompt"),
        ("x.parquet", f"{SECRET}", "is not valid parquet"),
        ("x.txt", SECRET, r"ends in '\.txt': use one of \.jsonl, \.csv, \.tsv, \.parquet"),
        ("x.jsonl", "", "holds no usable prompt: give at least one row"),
        ("x.jsonl", "\n \n", "holds no usable prompt"),
        ("x.csv", "id,prompt\n1,\n", r"holds no usable prompt \(set aside: no text in prompt\)"),
        ("x.csv", f"prompt,label\n{SECRET},bad\n", r"holds no usable prompt \(set aside: unknown label\)"),
        ("x.csv", f"text,id\n{SECRET},1\n", r"has no column 'prompt' \(it has text, id\): it needs prompt"),
        (
            "x.csv",
            f"{SECRET},harmful\n{SECRET} again,harmless\n",
            r"no column 'prompt' \(it has harmful, 1 that do not",
        ),
        ("x.csv", f"prompt,prompt\n{SECRET},{SECRET}\n", r"repeats a column \(it has prompt\): rename one"),
    ],
)
def test_unusable_files_are_refused_without_a_word_of_a_prompt(read, name, content, message):
    text = refusal(read, name, content)
    assert re.search(message, text), text


def test_a_missing_column_is_named(read):
    text = refusal(read, "x.csv", f"prompt\n{SECRET}\n", required=("prompt", "label"))
    assert "has no column 'label' (it has prompt): it needs prompt, label." in text


def test_a_file_that_is_not_there(tmp_path):
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\): check the path"):
            read_prompts(tmp_path / f"missing.{ending}")


def test_an_empty_folder_holds_no_rows(tmp_path):
    for ending in ("jsonl", "csv", "tsv"):
        (tmp_path / f"x.{ending}").mkdir()
        with pytest.raises(UserError, match="holds no file of rows: name a file, or a folder or pattern of shards"):
            read_prompts(tmp_path / f"x.{ending}")


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_the_shipped_prompts_are_sound(name):
    from mlc.shipped import shipped_data

    found = read_prompts(shipped_data(f"quickstart/{name}.jsonl"), required=("id", "prompt", "label"))
    assert len(found.rejected) == 0
    assert len(found.rows) >= 80
    labels = found.rows["label"].to_pylist()
    assert abs(labels.count("harmful") - labels.count("harmless")) <= len(labels) / 4


def test_a_look_alike_is_one_however_it_is_written(tmp_path):
    kinds = ["Look-alike", "lookalike", "look_alikes", "LOOK ALIKE", "alike", None, "harmful"]
    rows = [{"prompt": f"{place}?", "kind": kind} for place, kind in enumerate(kinds)]
    path = tmp_path / "kinds.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_prompts(path).rows["kind"].to_pylist() == ["lookalike"] * 4 + ["alike", None, "harmful"]
