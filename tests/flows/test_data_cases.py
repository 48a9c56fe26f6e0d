"""Files in the shapes that people's data has: each does what the list of cases expects."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.configuration.reading import load_config
from mlc.errors import UserError
from mlc.evaluation.suite import read_references, read_suite, reference_languages
from mlc.prompts import read_prompts

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "data"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not at {CASES}")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MLC_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments, code=0):
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    assert ended.exit_code == code, (ended.output, ended.exception)
    return ended


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompts(name, **settings):
    """What the stage `ingest` reads with a configuration."""
    given = load_config("smoke", overrides={"prompts.path": str(CASES / name), **settings}).prompts
    return read_prompts(given.path, required=("prompt", "chosen"), columns=given.columns, labels=given.labels)


# 2: TSV.


@pytest.mark.parametrize(("name", "count"), [("f_tsv_merge.tsv", 3), ("f_tsv_quotes.tsv", 6)])
def test_filter_keeps_every_line_of_a_tsv(tmp_path, name, count):
    run("filter", CASES / name, "--out", tmp_path / "o.jsonl")
    rows = rows_of(tmp_path / "o.jsonl")
    written = [line.split("\t") for line in (CASES / name).read_text(encoding="utf-8").splitlines()[1:]]
    assert len(rows) == len(written) == count
    assert [[row["source"], row["translation"]] for row in rows] == [line[:2] for line in written]


def test_translate_keeps_every_line_of_a_tsv(tmp_path):
    run("translate", CASES / "t_quotes.tsv", "--to", "es", "--out", tmp_path / "o.jsonl")
    written = (CASES / "t_quotes.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [f"{row['id']}\t{row['source']}" for row in rows_of(tmp_path / "o.jsonl")] == written


# 3 and 9: columns and messages of `translate`.


def test_a_column_that_may_be_provenance_is_asked_about(tmp_path):
    told = run("translate", CASES / "t_source_is_provenance.jsonl", "--to", "es", code=2)
    assert "has the columns source and prompt" in told.stderr
    assert "--column" in told.stderr
    out = tmp_path / "o.jsonl"
    run("translate", CASES / "t_source_is_provenance.jsonl", "--to", "es", "--column", "prompt", "--out", out)
    assert [row["file_source"] for row in rows_of(out)] == ["handbook", "forum"]
    assert rows_of(out)[0]["source"] == "How do I bake bread at home?"


def test_a_column_without_texts_keeps_its_values_and_is_an_error(tmp_path):
    out = tmp_path / "o.jsonl"
    told = run("translate", CASES / "p_messages.jsonl", "--column", "messages", "--to", "es", "--out", out, code=2)
    assert "Nothing was translated (8 × not a text)" in told.stderr
    given = rows_of(CASES / "p_messages.jsonl")
    assert [json.loads(row["source"]) for row in rows_of(out)] == [row["messages"] for row in given]
    told = run("translate", CASES / "p_messages.jsonl", "--to", "es", "--out", out)
    assert "the prompts in the column 'messages' (chat messages)" in told.stderr
    assert [row["source"] for row in rows_of(out)] == [row["messages"][0]["content"] for row in given]


@pytest.mark.parametrize("arguments", [("p_array_in.jsonl",), ("p_good.jsonl.gz", "--input-format", "jsonl")])
def test_an_array_and_a_packed_file_are_read(tmp_path, arguments):
    name, *options = arguments
    told = run("translate", CASES / name, *options, "--to", "es", "--out", tmp_path / "o.jsonl")
    assert "The texts are in the column 'prompt'." in told.stderr
    assert len(rows_of(tmp_path / "o.jsonl")) == 8


# 5: human references.


def test_references_by_tag_are_found_and_none_are_ignored(tmp_path):
    suite = read_suite(CASES / "ref_suite/validation.jsonl", CASES / "ref_suite/test.jsonl")
    for folder in ("ref_tags", "ref_codes"):
        assert reference_languages(CASES / folder) == {"spa_Latn", "fra_Latn"}
        assert len(read_references(suite, CASES / folder, "spa_Latn")) == len(suite)


def test_a_plan_with_references(tmp_path):
    settings = [
        *("--set", f"evaluation.validation={CASES}/ref_suite/validation.jsonl"),
        *("--set", f"evaluation.test={CASES}/ref_suite/test.jsonl", "--workspace", tmp_path, "--languages", "es,fr"),
    ]
    told = run("plan", "smoke", *settings, "--set", f"evaluation.references={CASES}/ref_tags", "--json")
    tasks = json.loads(told.stdout.splitlines()[-1])["tasks"]
    assert not [task for task in tasks if (task["stage"], task["subject"]) == ("translate", "held-out")]
    told = run("plan", "smoke", *settings, "--set", "evaluation.references=/nowhere", code=2)
    assert "The folder of references '/nowhere' does not exist" in told.stderr


# 8 and 13: shapes and formats of prompts.

UNDERSTOOD = [
    *("p_messages.jsonl", "p_messages.parquet", "p_sharegpt.jsonl", "p_trl.parquet", "p_trl_conversational.jsonl"),
    *("p_trl_mixed.jsonl", "p_chosen_list.jsonl", "p_hh.jsonl", "p_alpaca.jsonl", "p_qa.jsonl", "p_response.jsonl"),
    *("p_completion.jsonl", "p_good.jsonl.gz", "p_good.jsonl.zst", "p_good.csv.gz", "p_good.ndjson", "p_lines.json"),
    *("p_array.json", "p_array_in.jsonl", "p_pretty_in.jsonl", "P_GOOD_UPPER.JSONL", "p_folder", "p_save_to_disk"),
    *("p_save_to_disk_dict", "p_semicolon.csv", "p_backslash.csv", "p_space_header.csv", "p_utf16.csv"),
    *("p_cp1252.csv", "p_caps_header.csv", "p_index_col.csv", "p_two_unnamed.csv", "p_good.csv", "p_good.jsonl"),
    *("p_large_string.parquet", "p_string_view.parquet", "p_dictionary.parquet", "p_binary.parquet"),
    *("p_quote_inside.csv", "p_newline_in_field.csv", "p_bom_crlf.jsonl"),
]


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_prompts_are_understood(name):
    found = prompts(name)
    assert (len(found.rows), len(found.rejected)) == (8, 0)
    assert "How do I bake bread at home?" in found.rows["prompt"][0].as_py()
    assert found.rows["chosen"][0].as_py() == "Mix flour, water, salt and yeast, let it rise and bake it."


def test_characters_of_windows_are_read_and_told():
    found = prompts("p_cp1252.csv")
    assert found.rows["prompt"][0].as_py().endswith("– s’il vous plaît")
    assert "taken for Windows-1252" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("p_advbench_like.csv", {"chosen": "target"}),
        ("p_harmbench_like.csv", {"prompt": "Behavior", "chosen": "SemanticCategory"}),
    ],
)
def test_columns_are_mapped_by_the_configuration(name, columns):
    with pytest.raises(UserError, match=r"say so in prompts\.columns"):
        prompts(name)
    assert len(prompts(name, **{"prompts.columns": columns}).rows) == 8


def test_system_prompts_and_earlier_turns_are_kept():
    rows = prompts("p_messages_system_multiturn.jsonl").rows
    roles = [[message["role"] for message in json.loads(turns)] for turns in rows["turns"].to_pylist()]
    assert all(found[0] == "system" for found in roles)
    assert any("assistant" in found for found in roles)


def test_a_file_without_a_header_is_refused_without_its_text():
    with pytest.raises(UserError, match="so a header may be missing") as error:
        prompts("p_bom_headerless.csv")
    assert "bread" not in str(error.value)


# Labels.


@pytest.mark.parametrize(
    ("name", "labels", "found"),
    [
        ("p_labels_safe.jsonl", {}, {"harmful", "harmless"}),
        ("p_labels_caps.jsonl", {}, {"harmless"}),
        ("p_labels_empty.jsonl", {}, {None}),
        ("p_labels_int.jsonl", {0: "harmless", 1: "harmful"}, {"harmful", "harmless"}),
    ],
)
def test_labels(name, labels, found):
    read = prompts(name, **{"prompts.labels": labels})
    assert len(read.rows) == 8
    assert set(read.rows["label"].to_pylist()) == found


def test_labels_that_could_mean_either_are_asked_about():
    with pytest.raises(UserError, match=r"Labels are .* prompts\.labels, such as \{1: harmful or harmless, 0: h"):
        prompts("p_labels_int.jsonl")


# 12: region tags.


def test_region_tags_in_the_filter(tmp_path):
    run("filter", CASES / "f_region_tags.jsonl", "--out", tmp_path / "o.jsonl", "--go-on")
    first, second, third = rows_of(tmp_path / "o.jsonl")
    assert first["keep"]
    assert third["keep"]
    assert "write zho_Hans (Chinese (Simplified)) or zho_Hant" in second["signal_problem"]


def test_region_tags_in_a_configuration():
    assert load_config("smoke", languages=["es-419", "hi-IN", "cmn"]).languages == ("hin_Deva", "spa_Latn", "zho_Hans")


# Further shapes of pairs.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("f_hf_translation.jsonl", ()),
        ("f_no_lang.csv", ("--from", "en", "--to", "es")),
        ("f_mlqe_names.tsv", ("--from", "en", "--to", "es-MX")),
        ("f_indic_names.jsonl", ("--source-column", "src", "--target-column", "ref", "--from", "en", "--to", "es")),
    ],
)
def test_pairs_by_other_names(tmp_path, name, options):
    run("filter", CASES / name, "--out", tmp_path / "o.jsonl", *options)
    (row,) = rows_of(tmp_path / "o.jsonl")
    assert row["source"].startswith("Good morning")
    assert row["keep"]


def test_pairs_without_languages_are_asked_about(tmp_path):
    told = run("filter", CASES / "f_no_lang.csv", "--out", tmp_path / "o.jsonl", code=2)
    assert "(--source-column, --target-column, --from and --to)." in told.stderr
