"""Stage ``feedback``: what can be used of a table, and what is told of the rest."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from tasks.feedback import take_feedback
from tasks.runtime.artifacts import PROMPTS_FILE, left_out_of
from tasks.runtime.run import Notes, Run


def table(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "feedback.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def row(feedback: object, language: str = "es", answer: str = "Sí.") -> dict[str, Any]:
    return {"prompt": "¿Qué tal?", "answer": answer, "feedback": feedback, "language": language}


def rows_of(run: Run, location: str, **more: Any) -> tuple[Any, list[dict[str, Any]]]:
    made = take_feedback.fn(run, location, "x", **more)
    ref = getattr(made, "data", made)
    return ref, pq.read_table(run.store.folder(ref) / PROMPTS_FILE).to_pylist()


def test_what_is_shipped(run: Run) -> None:
    ref, rows = rows_of(run, "shipped:quickstart/feedback.jsonl")
    assert {(row["language"], row["feedback"]) for row in rows} == {
        (code, said) for code in ("spa_Latn", "fra_Latn", "swh_Latn") for said in ("good", "bad")
    }
    assert rows[0]["chosen"].startswith("Pon las macetas")
    control, permuted = rows_of(run, "shipped:quickstart/feedback.jsonl", permuted=True)
    assert control.key != ref.key
    assert sorted(row["feedback"] for row in permuted) == sorted(row["feedback"] for row in rows)
    assert [row["feedback"] for row in permuted] != [row["feedback"] for row in rows]
    assert rows_of(run, "shipped:quickstart/feedback.jsonl")[0] == ref


def test_verdicts_are_read_as_people_write_them(run: Run, tmp_path: Path) -> None:
    given = [row(True), row(0), row("GOOD"), row("-1"), row("meh"), row("bad", "xx-none"), row("bad", answer=" ")]
    ref, rows = rows_of(run, table(tmp_path, *given))
    assert [own["feedback"] for own in rows] == ["good", "bad", "good", "bad"]
    (count,) = left_out_of(run.store, ref)
    assert count.sentence == (
        "3 of 7 answers with feedback cannot be used and are set aside (1 × neither good nor bad in feedback, "
        "1 × no text in answer, 1 × unknown language)"
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("good"), row("good")], "holds 2 usable answers, and needs good and bad ones"),
        ([{"prompt": "?", "answer": "!"}], "lacks the column 'feedback'"),
    ],
)
def test_too_little_is_refused(run: Run, tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        rows_of(run, table(tmp_path, *rows))


def test_languages_are_identified_where_no_column_names_them(run: Run, notes: Notes, tmp_path: Path) -> None:
    asked = [
        "¿Cómo puedo hornear pan en casa mañana?",
        "How do I bake bread at home?",
        "Wie backe ich zu Hause ein Brot?",
    ]
    given = [{"prompt": prompt, "answer": "!", "feedback": said} for prompt in asked for said in ("good", "bad")]
    ref, rows = rows_of(run, table(tmp_path, *given), languages=["eng_Latn", "spa_Latn"])
    assert [own["language"] for own in rows] == ["spa_Latn"] * 2 + ["eng_Latn"] * 2
    (count,) = left_out_of(run.store, ref)
    assert "2 × in no language of the run" in count.sentence
    assert "has no column 'language': the language of each prompt is identified." in " ".join(notes.sentences)
    assert rows_of(run, table(tmp_path, *given), languages=["eng_Latn", "deu_Latn"])[0].key != ref.key


def test_a_missing_file_is_told(run: Run) -> None:
    with pytest.raises(UserError, match=r"correct prompts\.feedback"):
        rows_of(run, "nowhere.jsonl")


def test_what_is_measured_as_unseen_has_no_feedback(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path, row("good"), row("bad", "sw"))
    assert rows_of(run, path, unseen=["hin_Deva"])
    with pytest.raises(UserError, match=r"swh_Latn has feedback in prompts\.feedback, and is measured as one that no"):
        rows_of(run, path, unseen=["swh_Latn", "hin_Deva"])


def test_a_conversation_is_no_text(run: Run, tmp_path: Path) -> None:
    spoken = {**row("good"), "prompt": [{"role": "user", "content": "¿Qué tal?"}]}
    ref, rows = rows_of(run, table(tmp_path, spoken, row("good"), row("bad")))
    assert [own["prompt"] for own in rows] == ["¿Qué tal?"] * 2
    (count,) = left_out_of(run.store, ref)
    assert "prompt is no text" in count.sentence


def test_columns_are_known_by_other_names(run: Run, tmp_path: Path) -> None:
    given = [
        {"Prompt": "¿Qué tal?", "completion": "Bien.", "label": True, "LANGUAGE": "es"},
        {"Prompt": "¿Y tú?", "completion": "Mal.", "label": False, "LANGUAGE": "es"},
    ]
    _, rows = rows_of(run, table(tmp_path, *given))
    assert [(row["prompt"], row["chosen"], row["feedback"]) for row in rows] == [
        ("¿Qué tal?", "Bien.", "good"),
        ("¿Y tú?", "Mal.", "bad"),
    ]
    liked = [{"prompt": "¿Qué tal?", "answer": "Bien.", "language": "es", "good": said} for said in (True, False)]
    assert [own["feedback"] for own in rows_of(run, table(tmp_path, *liked))[1]] == ["good", "bad"]
    disliked = [{"prompt": "¿Qué tal?", "answer": "Bien.", "language": "es", "bad": said} for said in (True, "no")]
    assert [own["feedback"] for own in rows_of(run, table(tmp_path, *disliked))[1]] == ["bad", "good"]
    # A column's own name counts before another one that would do.
    both = [{**row(said), "label": not said} for said in (True, False)]
    assert [own["feedback"] for own in rows_of(run, table(tmp_path, *both))[1]] == ["good", "bad"]
