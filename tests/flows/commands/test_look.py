"""`mlc look` as a person runs it."""

import json

from typer.testing import CliRunner

from flows.cli import app

SECRET = "xylophone-marmalade"
"""A word in prompts that nothing on the terminal may show."""


def look(*arguments, code=0):
    ended = CliRunner().invoke(app, ["look", *map(str, arguments)])
    assert ended.exit_code == code, (ended.output, ended.exception)
    assert SECRET not in ended.output
    return ended


def write(folder, rows):
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_is_understood(tmp_path):
    rows = [{"goal": f"{SECRET} {number}", "target": SECRET} for number in range(7)]
    told = look(write(tmp_path, [*rows, {"goal": f"{SECRET}  0"}, {"goal": ""}])).stdout
    for words in (
        "AdvBench",
        "prompt = goal",
        "9, 8 of them usable",
        "1 × no text in prompt",
        "harmful 8",
        "0 word for word, 1 but",
        "1, 2, 3, 4, 5",
    ):
        assert words in told, words


def test_json(tmp_path):
    told = json.loads(look(write(tmp_path, [{"prompt": SECRET, "label": 1}]), "--json").stdout)
    assert told["set_aside"] == {"unknown label": 1}
    assert told["held_out"] is None


def test_labels_that_contradict_each_other_and_ids_on_lines_of_their_own(tmp_path):
    labels = ["safe", "harmful", "harmful", "safe"]
    texts = [SECRET, f"{SECRET}!", "b", "c"]
    rows = [
        {"id": f"{place}\nx", "prompt": text, "label": label}
        for place, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    told = look(write(tmp_path, [*rows, {"id": "4", "prompt": "", "label": "1"}])).stdout
    assert "! 1 prompts have both labels: correct one of the rows." in told
    assert "0\\nx, 1\\nx, 2\\nx" in told
    # The label of a row that is set aside for another reason asks for nothing.
    assert "map others" not in told


def test_held_out_prompts_and_labels_of_a_configuration(tmp_path):
    suite = write(tmp_path, [{"id": "a", "prompt": f"Say {SECRET}!", "label": "safe"}])
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": f"say {SECRET}", "label": 1}) + "\n", encoding="utf-8")
    told = json.loads(
        look(
            other, "--json", "--config", "smoke",
            "--set", f"evaluation.test={suite}",
            "--set", "prompts.labels={1: harmful}",
        ).stdout
    )  # fmt: skip
    assert told["held_out"] == {"validation": 0, "test": 1}
    assert told["labels"] == {"harmful": 1}


def test_mistakes(tmp_path):
    assert "cannot be read (No such file or directory)" in look(tmp_path / "none.jsonl", code=2).stderr
    path = write(tmp_path, [{"prompt": SECRET}])
    assert "has no column 'ask'" in look(path, "--set", "prompts.columns={prompt: ask}", code=2).stderr
