"""`mlc translate` as a person runs it: any file, any content; every row is accounted for."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli import app
from mlc.tables import FORMATS, plain_text
from mlc.translation.files import WORDLESS
from mlc.translation.translator import WINDOW

PROJECT = Path(__file__).resolve().parents[3]
TOPIC, QUESTION, POTATOES = (
    "This topic is new to me.",
    "I have a quick question.",
    "How can I boil potatoes for a salad?",
)
GERMAN = {
    TOPIC: "Dies Thema ist neu für mich.",
    QUESTION: "Ich habe eine kurze Frage.",
    POTATOES: "Wie kann ich Kartoffeln für einen Salat kochen?",
}
SECRET = "xylophone-marmalade"
"""A word in a file that no message may show."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MLC_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments, code=0, **options):
    ended = CliRunner().invoke(app, ["translate", *map(str, arguments)], **options)
    assert ended.exit_code == code, (ended.stderr, ended.exception)
    return ended


def mistake(*arguments, **options):
    ended = run(*arguments, code=2, **options)
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr
    return ended.stderr.strip().rpartition("mlc: ")[2]


def write(path, rows):
    """Rows in the format of the path's ending."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".txt":
        path.write_text("".join(row["text"] + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))


# What comes out.


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_every_format_in_and_out(tmp_path, ending):
    texts = [TOPIC, f"{QUESTION} {POTATOES}", TOPIC]
    source = write(tmp_path / f"in{ending}", [{"text": text} for text in texts])
    out = tmp_path / f"out{ending}"
    run(source, "--to", "de", "--out", out)
    expected = [GERMAN[TOPIC], f"{GERMAN[QUESTION]} {GERMAN[POTATOES]}", GERMAN[TOPIC]]
    if ending == ".txt":
        assert out.read_text(encoding="utf-8").splitlines() == expected
        return
    rows = read(out)
    assert [row["translation"] for row in rows] == expected
    assert [row["source"] for row in rows] == texts
    assert [str(row["id"]) for row in rows] == ["1", "2", "3"]
    assert {row["target_language"] for row in rows} == {"deu_Latn"}
    assert [int(row["sentences_in"]) for row in rows] == [1, 2, 1]
    assert all(float(row["logprob"]) < 0 for row in rows)
    assert [str(row["finished"]).lower() for row in rows] == ["true"] * 3
    assert not any(row["problem"] for row in rows)
    assert all(row["translator"].startswith("transformers:") for row in rows)
    assert all(json.loads(row["decoding"])["num_beams"] == 1 for row in rows)


def test_other_columns_come_along_in_their_types(tmp_path):
    rows = [
        {"id": 7, "prompt": TOPIC, "tags": ["a", "é"], "score": 0.5},
        {"id": 8, "prompt": QUESTION, "tags": None, "score": 1.0},
    ]
    source = write(tmp_path / "in.parquet", rows)
    run(source, "--to", "de,sw", "--out", tmp_path / "out.parquet")
    done = read(tmp_path / "out.parquet")
    assert [(row["id"], row["tags"], row["score"]) for row in done] == [
        (7, ["a", "é"], 0.5),
        (7, ["a", "é"], 0.5),
        (8, None, 1.0),
        (8, None, 1.0),
    ]
    assert [row["target_language"] for row in done] == ["deu_Latn", "swh_Latn"] * 2
    assert pq.read_schema(tmp_path / "out.parquet").field("id").type == pa.int64()
    run(source, "--to", "de", "--out", tmp_path / "out.csv")
    assert [(row["id"], row["tags"], row["score"]) for row in read(tmp_path / "out.csv")] == [
        ("7", '["a", "é"]', "0.5"),
        ("8", "", "1.0"),
    ]


def test_json_lines_keep_values_and_gaps(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(f'{{"prompt": "{TOPIC}", "meta": {{"a": [1]}}}}\n{{"prompt": "{QUESTION}", "n": 3}}\n')
    run(source, "--to", "de", "--out", tmp_path / "out.jsonl")
    first, second = read(tmp_path / "out.jsonl")
    assert first["meta"] == {"a": [1]}
    assert "n" not in first
    assert second["n"] == 3
    run(source, "--to", "de", "--out", tmp_path / "out.parquet")
    assert [(row["meta"], row["n"]) for row in read(tmp_path / "out.parquet")] == [('{"a": [1]}', None), (None, "3")]


def test_standard_input_and_output_are_plain_lines():
    ended = run("-", "--to", "de", input=f"{TOPIC}\n\n{POTATOES}\n")
    assert ended.stdout == f"{GERMAN[TOPIC]}\n\n{GERMAN[POTATOES]}\n"
    assert "1 × no text" in ended.stderr
    ended = run("-", "--to", "de,sw", "--input-format", "csv", "--output-format", "jsonl", input=f"text\n{TOPIC}\n")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["target_language"] for row in rows] == ["deu_Latn", "swh_Latn"]


def test_there_and_back(tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": TOPIC}, {"text": ""}, {"text": POTATOES}])
    run(source, "--to", "de,es", "--back", "--out", tmp_path / "out.jsonl")
    rows = read(tmp_path / "out.jsonl")
    assert rows[0]["back_translation"] == TOPIC
    assert rows[2]["back_translation"] is None
    assert len(rows) == 6


def test_json_counts(tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": TOPIC}, {"text": " "}])
    told = json.loads(run(source, "--to", "de", "--out", tmp_path / "out.jsonl", "--json").stdout)
    assert told["rows"] == 2
    assert told["problems"] == {"no text": 1}
    assert told["languages"] == {"deu_Latn": {"translated": 1, "unfinished": 0, "lost": 0, "by_fallback": 0}}


def test_a_second_run_translates_nothing(tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": TOPIC}, {"text": POTATOES}])
    memory = tmp_path / "memory"
    run(source, "--to", "de", "--out", tmp_path / "a.jsonl", "--memory", memory)
    before = sorted(memory.rglob("*.parquet"))
    run(source, "--to", "de", "--out", tmp_path / "b.jsonl", "--memory", memory)
    assert before
    assert sorted(memory.rglob("*.parquet")) == before
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_without_a_memory_nothing_is_kept(tmp_path):
    run(write(tmp_path / "in.txt", [{"text": TOPIC}]), "--to", "de", "--no-memory")
    assert not list(Path(os.environ["MLC_CACHE"]).rglob("*.parquet"))


@pytest.mark.parametrize("difference", [0, 1])
def test_a_file_as_long_as_what_the_translator_takes_at_once(tmp_path, difference):
    texts = [(TOPIC, QUESTION, POTATOES)[number % 3] for number in range(WINDOW + difference)]
    source = write(tmp_path / "in.txt", [{"text": text} for text in texts])
    run(source, "--to", "de", "--memory", tmp_path / "memory", "--out", tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines() == [GERMAN[text] for text in texts]


def test_the_toy_is_named_a_toy(tmp_path):
    source = write(tmp_path / "in.txt", [{"text": TOPIC}])
    assert "is a toy" in run(source, "--to", "de").stderr
    given = write(tmp_path / "given.csv", [{"source": TOPIC, "target_language": "de", "translation": "Gut."}])
    told = run(source, "--to", "de", "--set", "translator.engine=given", "--model", given)
    assert told.stdout == "Gut.\n"
    assert "toy" not in told.stderr


# Rows with a problem.


ODD = {
    "empty": ("", "no text"),
    "blank": (" \t ", "no text"),
    "null": (None, "no text"),
    "a list": ([SECRET], "not a text"),
    "a NUL": (f"{TOPIC}\0", "a NUL character"),
    "half a pair": (f"{TOPIC} \ud83d", "half a surrogate pair"),
    "emoji": ("🙂👩‍👩‍👧‍👦", WORDLESS),
    "right to left": ("مرحبا، كيف حالك؟", None),
    "mixed": ("Use שלום and 你好 in {name}'s reply.", None),
    "byte order mark": (f"\ufeff{TOPIC}", None),
    "line ends": (f"{TOPIC}\r\n- {QUESTION}\r\n", None),
    "long": (f"{TOPIC} " * 4_000, None),
    "one endless word": ("a" * 100_000, None),
    "no full stop": ("boil the potatoes for a salad " * 40, None),
    "number": (42, WORDLESS),
}


def test_odd_texts_take_no_other_with_them(tmp_path):
    rows = [{"id": name, "prompt": text} for name, (text, _) in ODD.items()]
    rows += [{"id": "empty", "prompt": POTATOES}, {"id": "last", "prompt": TOPIC}]
    source = write(tmp_path / "in.jsonl", rows)
    with source.open("ab") as handle:
        handle.write(b'{"id": "torn", "prompt": "' + SECRET.encode() + b'\n{"id": "bytes", "prompt": "\xe9 ' + b'"}\n')
    ended = run(source, "--to", "de", "--out", tmp_path / "out.jsonl", "--set", "translator.max_new_tokens=24")
    assert SECRET not in ended.stderr
    done = read(tmp_path / "out.jsonl")
    assert len(done) == len(rows) + 2
    by_id = {row["id"]: row for row in done[: len(ODD)]}
    for name, (text, problem) in ODD.items():
        row = by_id[name]
        assert row["problem"] == problem or (row["problem"] == "no translation" and problem is None), name
        assert bool(row["translation"]) == (row["problem"] in (None, WORDLESS)), name
        if isinstance(text, str):
            assert row["source"] == plain_text(text) or problem == "no text"
    assert by_id["line ends"]["translation"] == f"{GERMAN[TOPIC]}\r\n- {GERMAN[QUESTION]}\r\n"
    assert by_id["long"]["sentences_in"] == 4_000
    assert by_id["one endless word"]["finished"] is not True
    assert by_id["no full stop"]["sentences_in"] > 1
    repeated, last, torn, undecoded = done[len(ODD) :]
    assert (repeated["problem"], repeated["translation"]) == ("repeated id", GERMAN[POTATOES])
    assert (last["problem"], last["translation"]) == (None, GERMAN[TOPIC])
    assert (torn["id"], torn["problem"]) == (str(len(rows) + 1), "not a JSON object")
    assert undecoded["problem"] == "bytes that are not UTF-8"


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_bad_rows_of_a_table(tmp_path, ending):
    head = '"id","text"' if ending == "tsv" else "id,text"
    lines = [head, f"1,{TOPIC}", f'2,"{SECRET}', f"3,{TOPIC},more", "", f'4,"{QUESTION}"', "5,"]
    source = tmp_path / f"in.{ending}"
    joined = "\r\n".join(lines)
    source.write_bytes(b"\xef\xbb\xbf" + (joined.replace(",", "\t") if ending == "tsv" else joined).encode())
    ended = run(source, "--to", "de", "--out", tmp_path / f"out.{ending}")
    assert SECRET not in ended.stderr
    rows = read(tmp_path / f"out.{ending}")
    assert [(row["id"], row["translation"], row["problem"]) for row in rows] == [
        ("1", GERMAN[TOPIC], ""),
        ("2", "", "a quotation mark out of place"),
        ("3", "", "3 fields where the header has 2"),
        ("4", GERMAN[QUESTION], ""),
        ("5", "", "no text"),
    ]


def test_a_lost_part_and_a_cut_translation_are_told(tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": "Call 555 now."}, {"text": POTATOES}])
    told = json.loads(
        run(
            source, "--to", "de", "--out", tmp_path / "out.jsonl", "--json", "--set", "translator.max_new_tokens=3"
        ).stdout
    )
    rows = read(tmp_path / "out.jsonl")
    assert rows[0]["lost"] == ["number"]
    assert rows[1]["finished"] is False
    assert told["languages"]["deu_Latn"]["unfinished"] >= 1
    assert told["languages"]["deu_Latn"]["lost"] == 1


# Mistakes.


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("x.jsonl", None, [], "cannot be read (No such file or directory): check the path."),
        ("x.docx", b"", [], "ends in '.docx': use one of .jsonl, .csv, .tsv, .parquet, .txt."),
        ("x.parquet", SECRET.encode(), [], "is not valid parquet: check its content."),
        (
            "x.zip",
            b"PK\x03\x04",
            ["--input-format", "csv"],
            "is a zip archive or a workbook: take the table out of it.",
        ),
        ("x.csv", b"", [], "holds no row: give at least one text."),
        ("x.jsonl", b"", [], "holds no row: give at least one text."),
        (
            "x.csv",
            f"id,words\n1,{SECRET}\n".encode(),
            [],
            "has no column source, prompt, text or sentence (it has id, words): name the column of the texts "
            "(--column).",
        ),
        ("x.csv", b"id,text\n1,x\n", ["--column", "prompt"], "has no column 'prompt' (it has id, text)"),
        ("x.csv", b"text,translation\nx,y\n", [], "has a column 'translation' already"),
        ("x.csv", b"text,text\nx,y\n", [], "repeats a column (it has text): rename one."),
        ("x.txt", b"x\n", ["--to", "sw"], "Plain lines hold one language, not 2"),
        ("x.txt", b"x\n", ["--to", "klingon"], "The language 'klingon' is unknown: did you mean"),
        ("x.txt", b"x\n", ["--to", "ku"], "The language 'ku' is ambiguous: write ckb_Arab"),
        ("x.txt", b"x\n", ["--from", "de"], "deu_Latn is the language of the texts"),
        ("x.csv", b"text\nx\n", ["--to", "zu"], "has no language 'zul_Latn'"),
        ("x.txt", b"x\n", ["--model", "nowhere/at/all"], "'nowhere/at/all'"),
        ("x.txt", b"x\n", ["--set", "translator.beams=4"], "did you mean 'translator.num_beams'?"),
        ("x.txt", b"x\n", ["--json"], "name a file with --out"),
        ("x.txt", b"x\n", ["--output-format", "parquet"], "Parquet cannot be written to standard output"),
        ("x.txt", b"x\n", ["--out", "nowhere/out.txt"], "cannot be written (No such file or directory)"),
        ("x.txt", b"x\n", ["--out", "out.doc"], "The output 'out.doc' ends in '.doc'"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, name, content, options, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    told = mistake(name, "--to", "de", *options)
    assert message in told
    assert "\n" not in told
    assert not [path for path in tmp_path.iterdir() if path.name != name]


def test_no_language_at_all(tmp_path):
    assert "write --to es,sw" in mistake(write(tmp_path / "x.txt", [{"text": "x"}]), "--to", ",")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "x.jsonl").mkdir()
    assert "holds no file of rows" in mistake(tmp_path / "x.jsonl", "--to", "de")


# The process.


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "translate", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


@pytest.mark.slow
def test_a_killed_run_leaves_no_file_and_goes_on(tmp_path):
    rows = [{"text": f"{TOPIC} This is the question of number {number}."} for number in range(80)]
    source, out, memory = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", tmp_path / "memory"
    arguments = [source, "--to", "de", "--out", out, "--memory", memory, "--set", "translator.batch_tokens=64"]
    first = process(*arguments, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(memory.rglob("*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not out.exists()
    kept = set(memory.rglob("*.parquet"))
    assert len(kept) >= 3
    run(*arguments)
    assert [row["source"] for row in read(out)] == [row["text"] for row in rows]
    sentences = [name for part in memory.rglob("*.parquet") for name in pq.read_table(part)["sentence"].to_pylist()]
    assert len(sentences) == len(set(sentences)) == 81


@pytest.mark.slow
def test_a_reader_that_has_read_enough(tmp_path):
    rows = [{"text": TOPIC} for _ in range(4_000)]
    running = process(write(tmp_path / "in.txt", rows), "--to", "de", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.readline().decode() == f"{GERMAN[TOPIC]}\n"
    running.stdout.close()
    told = running.stderr.read().decode()
    assert running.wait(timeout=120) == 1
    assert "Traceback" not in told
    assert "Error" not in told
