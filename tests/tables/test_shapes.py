"""What the columns of people's tables mean."""

import json

import pytest

from mlc.errors import UserError
from mlc.prompts import read_prompts
from mlc.quality.pairs import PairFile
from mlc.shapes.overview import look_at
from mlc.shapes.repeats import normalized

Q, A, B = "How do I bake bread?", "With flour.", "No."
USER, ANSWER, OTHER = (
    {"role": "user", "content": Q},
    {"role": "assistant", "content": A},
    {"role": "assistant", "content": B},
)
HUMAN, GPT = {"from": "human", "value": Q}, {"from": "gpt", "value": A}
SYSTEM = {"role": "system", "content": "Be brief."}


def put(folder, rows, name="x.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": Q, "chosen": A, "rejected": B}, ""),
        ({"Prompt": Q, "CHOSEN": A, "rejected": B}, "prompt from Prompt, chosen from CHOSEN"),
        ({"prompt": [USER], "chosen": [ANSWER], "rejected": [OTHER]}, ""),
        ({"prompt": json.dumps([USER]), "chosen": json.dumps([USER, ANSWER])}, ""),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": Q}]}], "chosen": A}, ""),
        ({"chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, "TRL preferences with implicit prompts"),
        ({"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: {B}"}, "HH-RLHF"),
        ({"messages": [USER, ANSWER]}, "chat messages: prompt from messages, chosen from messages"),
        ({"prompt": Q, "messages": [USER, ANSWER]}, "chat messages"),
        ({"conversations": [HUMAN, GPT]}, "ShareGPT conversations"),
        ({"instruction": Q, "input": "", "output": A}, "Alpaca: prompt from instruction, chosen from output"),
        ({"question": Q, "answer": A}, "prompt from question, chosen from answer"),
        ({"instruction": Q, "response": A}, "prompt from instruction, chosen from response"),
        ({"prompt": Q, "completion": A}, "chosen from completion"),
        (
            {"prompt": Q, "response_0": B, "response_1": A, "safer_response_id": 1, "is_response_1_safe": True},
            "PKU-SafeRLHF: chosen is the safer answer",
        ),
        (
            {
                "instruction": Q,
                "completions": [{"response": B, "overall_score": 2.0}, {"response": A, "overall_score": 8.5}],
            },
            "UltraFeedback: prompt from instruction, chosen is the answer with the best score",
        ),
        ({"prompt_id": "p", "prompt": Q, "chosen": [USER, ANSWER], "rejected": [USER, OTHER]}, "id from prompt_id"),
        ({"prompt": Q, "response": A, "is_safe": True, "category": {}}, "BeaverTails"),
    ],
)
def test_known_shapes(tmp_path, row, said):
    found = read_prompts(put(tmp_path, [row]), required=("prompt", "chosen"))
    (read,) = found.rows.to_pylist()
    assert (read["prompt"], read["chosen"]) == (Q, A)
    assert read.get("rejected") in (None, B)
    told = " ".join(found.notes)
    assert said in told
    assert Q not in told
    if not said:
        assert told == ""


@pytest.mark.parametrize(
    ("row", "label", "kind"),
    [
        ({"goal": Q, "target": "Sure"}, "harmful", None),
        ({"Index": 0, "Goal": Q, "Target": "Sure", "Behavior": "Name", "Category": "c"}, "harmful", "c"),
        (
            {"Behavior": Q, "FunctionalCategory": "standard", "SemanticCategory": "s", "BehaviorID": "b"},
            "harmful",
            "standard",
        ),
        ({"id": 1, "source": "s", "en": Q, "zh": "x", "it": "x", "vi": "x", "tags": "t"}, "harmful", "t"),
        ({"id": 1, "prompt": Q, "type": "homonyms", "label": "safe", "focus": "f"}, "harmless", "homonyms"),
    ],
)
def test_known_suites(tmp_path, row, label, kind):
    found = read_prompts(put(tmp_path, [row]), required=("prompt", "label"))
    (read,) = found.rows.to_pylist()
    assert (read["prompt"], read["label"], read.get("kind")) == (Q, label, kind)


def test_a_harmful_completion_is_not_learned(tmp_path):
    path = put(tmp_path, [{"goal": Q, "target": "Sure"}])
    with pytest.raises(UserError, match=r"target begins a harmful answer.*say so in prompts\.columns"):
        read_prompts(path, required=("prompt", "chosen"))
    mapped = read_prompts(path, required=("prompt", "chosen"), columns={"chosen": "target"})
    assert mapped.rows["chosen"].to_pylist() == ["Sure"]


def test_what_stands_beside_a_prompt_is_part_of_it(tmp_path):
    found = read_prompts(put(tmp_path, [{"instruction": Q, "input": "rye", "output": A}]))
    assert found.rows["prompt"].to_pylist() == [f"{Q}\n\nrye"]
    row = {"Behavior": Q, "SemanticCategory": "s", "ContextString": "A mill."}
    found = read_prompts(put(tmp_path, [row]))
    assert found.rows["prompt"].to_pylist() == [f"A mill.\n\n---\n\n{Q}"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [USER, SYSTEM, USER, ANSWER]}, "a system prompt in the middle in prompt (messages)"),
        ({"messages": [USER, USER, ANSWER]}, "two turns of one speaker in a row in prompt (messages)"),
        ({"messages": [USER, ANSWER, OTHER]}, "several answers in chosen (messages)"),
        ({"messages": [USER, ANSWER, USER]}, "no answer in chosen (messages)"),
        ({"messages": [ANSWER, USER, ANSWER]}, "a turn before the first prompt in prompt (messages)"),
        ({"messages": [USER, {"role": "assistant", "content": ""}, USER, ANSWER]}, "no text before the prompt"),
        ({"messages": [USER]}, "no answer in chosen (messages)"),
        ({"messages": [ANSWER]}, "no user turn in prompt (messages)"),
        ({"messages": [USER, {"role": "tool", "content": "x"}, ANSWER]}, "a turn of a tool in prompt (messages)"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, ANSWER]}, "not a text in prompt (messages)"),
        ({"messages": []}, "not a text in prompt (messages)"),
    ],
)
def test_conversations_without_turns_that_are_taken_are_set_aside(tmp_path, row, reason):
    good = {"messages": [USER, ANSWER]}
    found = read_prompts(put(tmp_path, [good, row]), required=("prompt", "chosen"))
    assert len(found.rows) == 1
    assert found.rejected.to_pylist() == [{"row": 2, "reason": reason}]


ASIDE = "How much salt?"
BEFORE = [SYSTEM, {"role": "user", "content": ASIDE}, OTHER]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*BEFORE, USER, ANSWER]},
        {"prompt": [*BEFORE, USER], "chosen": A},
        {"prompt": [*BEFORE, USER], "chosen": [ANSWER], "rejected": [*BEFORE, USER, OTHER]},
        {"prompt": Q, "chosen": [*BEFORE, USER, ANSWER]},
        {"chosen": [*BEFORE, USER, ANSWER], "rejected": [*BEFORE, USER, OTHER]},
        {"system": "Be brief.", "messages": [*BEFORE[1:], USER, ANSWER]},
        {"system_prompt": "Be brief.", "messages": [*BEFORE, USER, ANSWER]},
    ],
)
def test_what_was_said_before_is_kept(tmp_path, row):
    found = read_prompts(put(tmp_path, [row]), required=("prompt", "chosen"))
    (read,) = found.rows.to_pylist()
    assert (read["prompt"], read["chosen"], json.loads(read["turns"])) == (Q, A, BEFORE)


def test_transcripts_keep_what_was_said_before(tmp_path):
    talk = f"\n\nHuman: {ASIDE}\n\nAssistant: {B}\n\nHuman: {Q}\n\nAssistant: "
    (read,) = read_prompts(put(tmp_path, [{"chosen": talk + A, "rejected": talk + B}])).rows.to_pylist()
    assert (read["prompt"], read["chosen"], json.loads(read["turns"])) == (Q, A, BEFORE[1:])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"chosen": [*BEFORE, USER, ANSWER], "rejected": [SYSTEM, USER, OTHER]},
            "prompt and answers with different turns before",
        ),
        ({"prompt": "Why?", "chosen": [*BEFORE, USER, ANSWER]}, "another prompt in the conversation"),
    ],
)
def test_conversations_that_contradict_themselves_are_set_aside(tmp_path, row, reason):
    good = {"prompt": Q, "chosen": [USER, ANSWER]} if "prompt" in row else {"chosen": [USER, ANSWER]}
    found = read_prompts(put(tmp_path, [good, row]), required=("prompt", "chosen"))
    assert found.rejected.to_pylist() == [{"row": 2, "reason": reason}]


def test_plain_prompts_have_no_column_of_turns(tmp_path):
    rows = read_prompts(put(tmp_path, [{"prompt": Q, "chosen": A, "turns": 3, "system": " "}])).rows
    assert rows.to_pylist() == [{"id": "1", "prompt": Q, "chosen": A, "file_turns": "3", "system": " "}]
    mixed = [{"prompt": Q, "chosen": A, "turns": 3, "system": "Be brief."}, {"prompt": Q, "chosen": A}]
    rows = read_prompts(put(tmp_path, mixed)).rows
    assert rows["file_turns"].to_pylist() == ["3", None]
    assert [turns and json.loads(turns) for turns in rows["turns"].to_pylist()] == [[SYSTEM], None]


@pytest.mark.parametrize("value", [3, ["first", "second"], [USER], json.dumps([USER])])
def test_columns_with_reserved_names_are_carried_along_under_others(tmp_path, value):
    row = {"prompt": Q, "turns": value, "mask": "x", "file_mask": "y", "prompt_language": "fr", "notes": "z"}
    found = read_prompts(put(tmp_path, [row]))
    names = ("prompt", "file_turns", "file_file_mask", "file_mask", "file_prompt_language", "notes")
    assert found.rows.column_names == ["id", *names]
    assert "carried along, turns as file_turns, mask as file_file_mask" in " ".join(found.notes)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": Q, "response": A, "is_safe": False},
        {"prompt": Q, "response_0": B, "response_1": A, "safer_response_id": 1, "is_response_1_safe": False},
    ],
)
def test_unsafe_answers_are_not_learned(tmp_path, row):
    with pytest.raises(UserError, match="set aside: no safe answer in chosen"):
        read_prompts(put(tmp_path, [row]), required=("prompt", "chosen"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": Q, "query": Q, "answer": A}, r"question or query could be meant: say which in prompts\.columns"),
        ({"prompt": Q, "answer": A, "response": B}, r"response or answer could be meant: say which"),
        ({"prompt": Q}, r"has no column 'chosen' \(it has prompt\): it needs prompt, chosen"),
    ],
)
def test_what_could_mean_several_things_is_asked(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read_prompts(put(tmp_path, [row]), required=("prompt", "chosen"))


def test_a_person_says_what_columns_are(tmp_path):
    path = put(tmp_path, [{"prompt": "old", "ask": Q, "reply": A, "kind": "k"}])
    found = read_prompts(path, required=("prompt", "chosen"), columns={"prompt": "ask", "chosen": "Reply"})
    assert found.rows.to_pylist() == [{"id": "1", "file_prompt": "old", "prompt": Q, "chosen": A, "kind": "k"}]
    for columns, message in (({"prompt": "asked"}, "has no column 'asked'"), ({"text": "ask"}, "names 'text': map id")):
        with pytest.raises(UserError, match=message):
            read_prompts(path, columns=columns)


# Pairs.


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"source": "a", "translation": "b", "source_language": "en-US", "target_language": "es-MX"}, {}),
        ({"src": "a", "tgt": "b", "src_lang": "en", "tgt_lang": "es"}, {}),
        ({"original": "a", "translation": "b"}, {"source_language": "en", "target_language": "es"}),
        ({"src": "a", "ref": "c", "translation": "b"}, {"source_language": "en", "target_language": "es-419"}),
        ({"es": "b", "en": "a"}, {}),
        ({"de": "c", "es": "b", "en": "a"}, {"source_language": "en", "target_language": "spa_Latn"}),
        ({"translation": {"es": "b", "en": "a"}}, {}),
        ({"translation": {"en": "a", "es": "b", "de": "c"}}, {"source_language": "en", "target_language": "es"}),
        (
            {"x": "a", "y": "b", "source": "web"},
            {"columns": {"source": "x", "translation": "y"}, "source_language": "en", "target_language": "es"},
        ),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_shapes_of_pairs(tmp_path, row, options, ending):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from mlc.quality.pairs import coded

    path = put(tmp_path, [row]) if ending == "jsonl" else tmp_path / "x.parquet"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    file = PairFile(path, **options)
    ((chunk, problems),) = file.chunks()
    (pair,) = coded(chunk, problems, 0).to_pylist()
    assert (pair["source"], pair["translation"]) == ("a", "b")
    assert (pair["source_code"], pair["target_code"], pair["problem"]) == ("eng_Latn", "spa_Latn", None)
    assert chunk.schema == file.schema
    if "source" in row and "x" in row:
        # What is carried along from JSON is JSON.
        assert chunk["file_source"].to_pylist() == ['"web"' if ending == "jsonl" else "web"]


def test_pairs_that_are_not_told(tmp_path):
    with pytest.raises(UserError, match="has no column 'source_language'") as told:
        PairFile(put(tmp_path, [{"source": "a", "translation": "b"}]))
    assert told.value.about == "pair columns"
    with pytest.raises(UserError, match=r"has texts in 3 languages .*say which"):
        PairFile(put(tmp_path, [{"en": "a", "es": "b", "de": "c"}]))
    with pytest.raises(UserError, match="not in fra_Latn"):
        PairFile(put(tmp_path, [{"en": "a", "es": "b"}]), target_language="fr")


def test_lines_side_by_side_are_pairs(tmp_path):
    (tmp_path / "c.en").write_text("a\nb\n")
    (tmp_path / "c.es").write_text("x\n")
    file = PairFile(f"{tmp_path}/c.{{en,es}}")
    ((chunk, problems),) = file.chunks()
    assert chunk["target_language"].to_pylist() == ["spa_Latn"] * 2
    assert problems.to_pylist() == [None, "no line beside it"]


# What `mlc look` shows.


def test_an_overview_counts_everything_and_shows_no_text(tmp_path):
    rows = [
        {"id": "a", "prompt": "Bake bread!", "label": "safe", "es": "x"},
        {"id": "b", "prompt": "Bake bread!", "label": "unsafe", "es": ""},
        {"id": "c", "prompt": "bake  BREAD", "label": "", "es": "y"},
        {"id": "c", "prompt": "Plant a rose.", "label": "safe"},
        {"id": "d", "prompt": "", "label": "safe"},
        {"id": "e", "prompt": "Sew.", "label": "so-so"},
        {"id": "f", "prompt": "Plant a róse"},
    ]
    seen = look_at(put(tmp_path, rows), held_out={"test": ["plant a rose"], "validation": ["nothing"]})
    assert seen.rows == len(rows) == seen.usable + sum(seen.set_aside.values())
    assert seen.set_aside == {"repeated id": 1, "no text in prompt": 1, "unknown label": 1}
    assert seen.labels == {"harmless": 1, "harmful": 1, "none": 2}
    assert seen.languages == {"spa_Latn": 2}
    assert (seen.repeated, seen.repeated_nearly) == (1, 1)
    assert seen.held_out == {"test": 1, "validation": 0}
    assert seen.ids == ["a", "b", "c", "f"]
    assert "bread" not in repr(seen).casefold()


def test_normal_forms():
    assert normalized("Plant  a Róse!") == normalized("plant a rose")
    assert normalized("ＡＢ") == normalized("ab")
    assert normalized("東京") != normalized("京都")


@pytest.mark.parametrize(
    ("row", "shape", "hint"),
    [
        ({"source": "a", "translation": "b"}, "pairs of source and translation", "Nothing says the source language"),
        ({"text": "a"}, "texts", ""),
        ({"words": "a"}, "", "Neither prompts nor pairs are found (it has words)"),
        ({"question": "a", "query": "b"}, "", "question or query could be meant"),
    ],
)
def test_an_overview_of_what_is_no_prompt_file(tmp_path, row, shape, hint):
    seen = look_at(put(tmp_path, [row]))
    assert seen.shape == shape
    assert hint in " ".join(seen.hints)


@pytest.mark.parametrize("content", ["", "\n", "prompt,chosen\r\n", "\ufeffprompt,chosen"])
def test_an_overview_of_a_file_without_rows_says_so(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_text(content, encoding="utf-8")
    seen = look_at(path)
    assert (seen.rows, seen.usable, seen.hints) == (0, 0, ["The file holds no row."])


def test_an_overview_of_texts_in_an_array_says_why_none_is_usable(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('["a", "b"]', encoding="utf-8")
    assert look_at(path).set_aside == {"not a JSON object": 2}


def test_a_number_that_is_none_is_a_missing_text(tmp_path):
    # So json.dumps writes what a table of pandas lacks.
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"prompt": NaN, "chosen": "{A}"}}\n{{"prompt": "{Q}", "chosen": "{A}"}}\n', encoding="utf-8")
    found = read_prompts(path, required=("prompt", "chosen"))
    assert len(found.rows) == 1
    assert found.rejected["reason"].to_pylist() == ["no text in prompt"]
