import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.evaluation.suite import read_references, read_suite, reference_languages
from mlc.shapes.labels import first_of_each
from mlc.shipped import shipped_data


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(split, labels, **extra):
    return [
        {"id": f"{split}-{number}", "prompt": f"zanzibar {split} {number}", "label": label, **extra}
        for number, label in enumerate(labels)
    ]


BOTH = ["harmful", "harmless", "harmful", "harmless"]


@pytest.fixture
def files(tmp_path):
    return (
        write(tmp_path / "validation-prompts.jsonl", rows_of("validation", BOTH)),
        write(tmp_path / "test-prompts.jsonl", rows_of("test", BOTH[:3], kind="lookalike")),
    )


def test_both_splits_in_order(files):
    suite = read_suite(*files)
    assert suite.column_names == ["id", "prompt", "label", "kind", "split"]
    assert suite["id"].to_pylist() == [f"validation-{n}" for n in range(4)] + [f"test-{n}" for n in range(3)]
    assert suite["split"].to_pylist() == ["validation"] * 4 + ["test"] * 3
    # Without a kind the label stands for it.
    assert suite["kind"].to_pylist() == [*BOTH, *["lookalike"] * 3]


def test_a_limit_takes_the_first_of_each_split(files):
    assert read_suite(*files, limit=2)["id"].to_pylist() == ["validation-0", "validation-1", "test-0", "test-1"]


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("label", ["harmful", "harmless"])
def test_both_classes_are_needed_in_each_split(files, broken, label):
    write(files[broken], rows_of("only", [label] * 3))
    split = ("validation", "test")[broken]
    with pytest.raises(UserError, match=rf"The {split} prompts .* hold only the label {label}: both"):
        read_suite(*files)


def test_a_limit_takes_both_classes_of_a_sorted_file(files):
    write(files[0], rows_of("validation", ["harmful"] * 50 + ["harmless"] * 50))
    write(files[1], rows_of("test", ["harmless"] * 9 + ["harmful"]))
    suite = read_suite(*files, limit=4)
    assert suite["id"].to_pylist() == [
        *("validation-0", "validation-1", "validation-50", "validation-51"),
        *("test-0", "test-1", "test-2", "test-9"),
    ]


@pytest.mark.parametrize(
    ("written", "given"),
    [
        (("Harmful", "HARMLESS"), None),
        (("unsafe", "safe"), None),
        (("Unsafe", "benign"), None),
        ((1, 0), {"1": "harmful", "0": "harmless"}),
        ((True, False), {"true": "harmful", "false": "harmless"}),
        (("bad", "good"), {"Bad": "harmful", "good": "harmless"}),
    ],
)
def test_labels_as_people_write_them(files, written, given):
    write(files[0], rows_of("validation", written))
    write(files[1], rows_of("test", written))
    assert read_suite(*files, labels=given)["label"].to_pylist() == ["harmful", "harmless"] * 2


@pytest.mark.parametrize(
    ("written", "example"),
    [
        ((1, 0), "{1: harmful or harmless, 0: harmful or harmless}"),
        ((True, False), "{true: harmful or harmless, false: harmful or harmless}"),
        (("seguro", "dañino"), "{seguro: harmful or harmless, dañino: harmful or harmless}"),
    ],
)
def test_labels_that_could_mean_either_are_asked_about(files, written, example):
    write(files[0], rows_of("validation", written))
    with pytest.raises(UserError) as error:
        read_suite(*files)
    assert "Labels are harmful or harmless (also unsafe, safe, benign)" in str(error.value)
    assert f"evaluation.labels, such as {example}" in str(error.value)


def test_columns_of_the_suite_are_mapped(files):
    for path, split in zip(files, ("validation", "test"), strict=True):
        rows = [{"id": row["id"], "goal": row["prompt"], "type": row["label"]} for row in rows_of(split, BOTH)]
        write(path, rows)
    suite = read_suite(*files, columns={"prompt": "goal", "label": "type"})
    assert suite["label"].to_pylist() == BOTH * 2
    assert suite["prompt"].to_pylist()[0] == "zanzibar validation 0"


def test_a_limit_that_leaves_one_class(files):
    with pytest.raises(UserError, match="hold only the label harmful"):
        read_suite(*files, limit=1)


@pytest.mark.parametrize("column", ["id", "prompt"])
def test_splits_may_not_share(files, column):
    rows = rows_of("test", BOTH)
    rows[3][column] = "validation-1" if column == "id" else "zanzibar validation 1"
    write(files[1], rows)
    with pytest.raises(UserError, match=rf"share or repeat a {column}") as error:
        read_suite(*files)
    assert "zanzibar" not in str(error.value)


def test_a_split_may_not_repeat_a_prompt(files):
    rows = rows_of("test", BOTH)
    rows[3]["prompt"] = rows[0]["prompt"]
    write(files[1], rows)
    with pytest.raises(UserError, match="share or repeat a prompt"):
        read_suite(*files)


def test_labels_are_needed(files):
    write(files[1], [{"id": "x", "prompt": "text"}])
    with pytest.raises(UserError, match="has no column 'label'"):
        read_suite(*files)


# References.


@pytest.fixture
def references(tmp_path, files):
    folder = tmp_path / "references"
    folder.mkdir()
    for split, count, languages in (("validation", 4, ("fra_Latn", "deu_Latn")), ("test", 3, ("deu_Latn", "fra_Latn"))):
        rows = [
            {"id": f"{split}-{n}", "eng_Latn": "-", **{code: f"{code} {split} {n}" for code in languages}}
            for n in range(count)
        ]
        write(folder / f"{split}.jsonl", reversed(rows))
    return folder


def test_languages_of_the_references(references):
    assert reference_languages(references) == {"fra_Latn", "deu_Latn"}


def test_a_language_must_be_in_both_splits(references):
    write(references / "test.jsonl", [{"id": "test-0", "fra_Latn": "x", "spa_Latn": "y"}])
    assert reference_languages(references) == {"fra_Latn"}


def test_without_references():
    assert reference_languages(None) == frozenset()


def test_references_that_are_not_there_are_an_error(references, tmp_path):
    with pytest.raises(UserError, match=r"missing' does not exist: correct evaluation\.references"):
        reference_languages(tmp_path / "missing")
    (references / "test.jsonl").unlink()
    with pytest.raises(UserError, match="holds no table for the split test: give one, such as"):
        reference_languages(references)
    write(references / "test.jsonl", [{"id": "test-0", "fra_Latn": "x"}])
    (references / "test.csv").write_text("id,fra_Latn\n")
    with pytest.raises(UserError, match=r"holds 2 tables \(test\.csv, test\.jsonl\) for the split test"):
        reference_languages(references)


def test_an_empty_file_of_references_names_no_language(references):
    (references / "test.jsonl").write_text("")
    with pytest.raises(UserError, match=r"names no language \(it has none\)"):
        reference_languages(references)


def test_columns_that_name_no_language_are_an_error(references):
    write(references / "test.jsonl", [{"id": "test-0", "translation": "x"}])
    with pytest.raises(UserError, match=r"names no language \(it has id, translation\): call the columns by codes"):
        reference_languages(references)
    write(references / "test.jsonl", [{"id": "test-0", "fra_Latm": "x"}])
    with pytest.raises(UserError, match="'fra_Latm' is unknown: did you mean fra_Latn"):
        reference_languages(references)


def test_a_wanted_language_in_one_split_alone_is_an_error(references):
    write(references / "test.jsonl", [{"id": "test-0", "fra_Latn": "x", "spa_Latn": "y"}])
    assert reference_languages(references, ["fra_Latn", "swh_Latn"]) == {"fra_Latn"}
    with pytest.raises(UserError, match="have spa_Latn for the test prompts only"):
        reference_languages(references, ["spa_Latn"])


@pytest.mark.parametrize(
    ("french", "german"), [("fr", "de"), ("fr-CA", "de_AT"), ("fra_Latn", "deu"), ("French", "de")]
)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "csv.gz"])
def test_references_in_any_format_with_any_tags(files, references, french, german, ending):
    for split, count in (("validation", 4), ("test", 3)):
        (references / f"{split}.jsonl").unlink()
        rows = [{"id": f"{split}-{n}", french: f"fra {split} {n}", german: f"deu {n}"} for n in range(count)]
        path = references / f"{split}.{ending}"
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif ending == "jsonl":
            write(path, rows)
        else:
            joint = "\t" if ending == "tsv" else ","
            text = "".join(joint.join(line) + "\n" for line in (rows[0], *(row.values() for row in rows)))
            path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    assert reference_languages(references) == {"fra_Latn", "deu_Latn"}
    translated = read_references(read_suite(*files), references, "fra_Latn")
    assert translated["prompt"].to_pylist()[:2] == ["fra validation 0", "fra validation 1"]


@pytest.mark.parametrize(
    ("harmful", "harmless", "count", "taken"),
    [
        (8, 0, 6, (6, 0)),
        (0, 8, 6, (0, 6)),
        (4, 4, 3, (2, 1)),
        (1, 8, 6, (1, 5)),
        (8, 1, 6, (5, 1)),
        (2, 2, None, (2, 2)),
    ],
)
def test_the_first_of_each_label(harmful, harmless, count, taken):
    labels = [*["harmful"] * harmful, *["harmless"] * harmless]
    found = [labels[place] for place in first_of_each(labels, count)]
    assert (found.count("harmful"), found.count("harmless")) == taken


def test_two_columns_for_one_language(references):
    write(references / "test.jsonl", [{"id": "test-0", "es-MX": "x", "es-ES": "y"}])
    with pytest.raises(UserError, match="two columns for spa_Latn, 'es-MX' and 'es-ES': drop one"):
        reference_languages(references)


def test_references_with_a_byte_order_mark_and_blank_lines(references):
    for path in references.iterdir():
        path.write_bytes(b"\xef\xbb\xbf\r\n\n" + path.read_bytes())
    assert reference_languages(references) == {"fra_Latn", "deu_Latn"}


@pytest.mark.parametrize("line", ["{", "[1]", '"zanzibar"', "3", "null"])
def test_references_that_are_no_json_lines(references, line):
    (references / "test.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=r"test\.jsonl' names no language") as error:
        reference_languages(references)
    assert "zanzibar" not in str(error.value)


def test_the_suite_in_another_language(files, references):
    suite = read_suite(*files)
    french = read_references(suite, references, "fra_Latn")
    # By id, not by position: the files of references are in another order.
    assert french["prompt"].to_pylist() == [
        *(f"fra_Latn validation {n}" for n in range(4)),
        *(f"fra_Latn test {n}" for n in range(3)),
    ]
    assert french.drop_columns("prompt").equals(suite.drop_columns("prompt"))
    assert french.schema == suite.schema


def test_references_whose_columns_and_labels_are_called_otherwise(files, references):
    for split, count in (("validation", 4), ("test", 3)):
        rows = [{"name": f"{split}-{n}", "fr": f"fra {n}", "label": str(n % 2)} for n in range(count)]
        write(references / f"{split}.jsonl", rows)
    meaning = {"columns": {"id": "name", "prompt": "goal"}, "labels": {"0": "harmless", "1": "harmful"}}
    french = read_references(read_suite(*files), references, "fra_Latn", **meaning)
    assert french["prompt"].to_pylist() == [f"fra {n}" for n in (*range(4), *range(3))]


def test_references_may_hold_more_than_a_limited_suite(files, references):
    assert len(read_references(read_suite(*files, limit=2), references, "deu_Latn")) == 4


def test_a_missing_translation(files, references):
    rows = [{"id": f"test-{n}", "fra_Latn": "text" if n == 1 else "  "} for n in range(3)]
    write(references / "test.jsonl", rows)
    with pytest.raises(UserError, match="lack fra_Latn for 2 prompts, the first is 'test-0'"):
        read_references(read_suite(*files), references, "fra_Latn")


def test_references_without_ids(files, references):
    write(references / "test.jsonl", [{"fra_Latn": f"text {n}"} for n in range(3)])
    with pytest.raises(UserError, match=r"The test prompts have ids and the references '.*' have none"):
        read_references(read_suite(*files), references, "fra_Latn")


def test_a_missing_language(files, references):
    with pytest.raises(UserError, match="has no column 'swh_Latn'"):
        read_references(read_suite(*files), references, "swh_Latn")


def test_the_shipped_suite_and_its_references():
    quickstart = shipped_data("quickstart")
    suite = read_suite(quickstart / "validation.jsonl", quickstart / "test.jsonl")
    assert len(suite) == 160
    languages = reference_languages(quickstart / "references")
    assert {"fra_Latn", "swh_Latn"} <= languages
    for language in sorted(languages):
        translated = read_references(suite, quickstart / "references", language)
        same = [a == b for a, b in zip(suite["prompt"].to_pylist(), translated["prompt"].to_pylist(), strict=True)]
        assert not any(same)
