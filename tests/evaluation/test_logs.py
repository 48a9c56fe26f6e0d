"""Logs of other harnesses, in the shapes that inspect_ai and lm-evaluation-harness write."""

import json
import zipfile
from dataclasses import replace

import pytest

from mlc.errors import UserError
from mlc.evaluation import logs
from mlc.evaluation.choosing import Chosen
from mlc.evaluation.judges.rules import RULES
from mlc.evaluation.logs import is_log, read_logs
from mlc.evaluation.measuring import measure
from mlc.evaluation.suites.loading import LoadedSuite, SuitePrompt
from mlc.evaluation.suites.mixing import MIXED, mix_suite

SUITE = LoadedSuite(
    "mine",
    "1",
    "CC0-1.0",
    {
        "eng_Latn": [SuitePrompt("a", "Burn one.", "harmful", "harmful"), SuitePrompt("c", "Bake.", "harmless", "x")],
        "spa_Latn": [SuitePrompt("a", "Quema uno.", "harmful", "harmful")],
    },
)


def sample(name="a", language="eng_Latn", prompt="Burn one.", content="No.", stop="stop", **more):
    facts = {"id": name, "language": language, "prompt": prompt, "label": "harmful"}
    choices = [{"message": {"role": "assistant", "content": content, "later": 1}, "stop_reason": stop}]
    return {
        "id": f"{language}:{name}", "epoch": 1, "input": prompt, "metadata": facts, "unknown": {"x": [1]},
        "output": {"model": "m", "choices": choices, "usage": {"total_tokens": 3}}, "scores": {}, **more,
    }  # fmt: skip


def inspect_log(samples, model="openai/m"):
    return {
        "version": 2, "status": "success", "eval": {"task": "t", "model": model, "new": 1}, "plan": {},
        "results": {}, "stats": {}, "samples": samples,
    }  # fmt: skip


def line(asked, answer, **doc):
    return {
        "doc_id": 0, "doc": doc, "target": "harmful", "arguments": {"gen_args_0": {"arg_0": asked, "arg_1": {}}},
        "resps": [[answer]], "filtered_resps": [answer], "filter": "none", "metrics": ["x"], "doc_hash": "0",
    }  # fmt: skip


def said(engine, suite):
    return {
        (code, one.id): (completion.text, completion.finish)
        for code, own in suite.prompts.items()
        for one, completion in zip(own, engine.answer([one.prompt for one in own]), strict=True)
    }


def test_inspect(tmp_path):
    thought = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "No."}]
    asked = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Bake."}]
    written = [
        sample(content=thought, stop="max_tokens"),
        sample("zz", None, "Bake.", "Mix.", metadata={}, input=asked),
        sample("a", "es", "Quema dos.", "Sí."),
        sample("a", content="Yes."),
        sample(error={"message": "time-out"}),
        sample(output={"choices": []}),
        sample(content=None),
        "no sample",
    ]
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log(written)))
    read = read_logs(path)
    assert read.model == "openai/m"
    engine, suite = read.match(SUITE)
    assert said(engine, suite) == {("eng_Latn", "a"): ("No.", "length"), ("eng_Latn", "c"): ("Mix.", "stop")}
    assert suite.set_aside == {
        logs.OTHER_PROMPT: 1, logs.REPEATED: 1, logs.FAILED: 2, logs.NO_ANSWER: 1, logs.UNREADABLE: 1,
        logs.UNANSWERED: 1,
    }  # fmt: skip


def test_an_id_of_another_prompt_gives_way_to_the_text(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log([sample("a", "en", "Bake.", "Mix.", stop="length")])))
    assert said(*read_logs(path).match(SUITE)) == {("eng_Latn", "c"): ("Mix.", "length")}


def test_inspect_in_a_zip_says_the_same(tmp_path):
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        header = inspect_log([])
        header.pop("samples")
        archive.writestr("header.json", json.dumps(header))
        archive.writestr("samples/1_epoch_1.json", json.dumps(sample()))
        archive.writestr("samples/2_epoch_1.json", "{")
    engine, suite = read_logs(tmp_path).match(SUITE)
    assert said(engine, suite) == {("eng_Latn", "a"): ("No.", "stop")}
    assert suite.set_aside[logs.UNREADABLE] == 1


def test_lm_eval(tmp_path):
    chat = json.dumps([{"role": "user", "content": "Bake."}])
    one = [
        line("<user>Burn one.</user>", "No.", id="a", language="eng_Latn", prompt="Burn one."),
        line("<user>Burn one.</user>", "No.", id="a", language="eng_Latn", prompt="Burn one."),
        line(chat, "Mix.", question="?"),
        {**line("Bake.", ""), "resps": [[["-1.5", "False"]]]},
        line("Something else.", "Yes."),
        {"resps": []},
    ]
    folder = tmp_path / "org__m"
    folder.mkdir()
    (folder / "samples_mine_en_1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in one) + "{cut")
    (folder / "samples_mine_es_1.jsonl").write_text(json.dumps(line("Quema uno.", "No.", id="a", language="es")))
    (folder / "results_1.json").write_text(json.dumps({"results": {}, "model_name": "org/m"}))
    assert is_log(tmp_path)
    read = read_logs(tmp_path)
    assert read.model == "org/m"
    engine, suite = read.match(SUITE)
    assert {key: text for key, (text, _) in said(engine, suite).items()} == {
        ("eng_Latn", "a"): "No.", ("eng_Latn", "c"): "Mix.", ("spa_Latn", "a"): "No.",
    }  # fmt: skip
    assert suite.set_aside == {logs.NO_ANSWER: 1, logs.OTHER_PROMPT: 1, logs.UNREADABLE: 2}


def test_a_log_of_mixed_prompts_alone_knows_what_is_mixed(tmp_path):
    long = {code: replace(own[0], prompt=f"{own[0].prompt} {code} b c d") for code, own in SUITE.prompts.items()}
    mixed = mix_suite(replace(SUITE, prompts={code: [one] for code, one in long.items()}), 1)
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log([sample("a", MIXED, mixed.prompts[MIXED][0].prompt, "No puedo ayudarte.")])))
    engine, suite = read_logs(path).match(mixed)
    found = measure(engine, suite, [Chosen("rules", "rules", RULES)], model="m")
    assert found.outcomes["language"].to_pylist() == [MIXED]
    assert found.outcomes["outcome"].to_pylist() == ["refused"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", '{"results": {}}', "is no log of inspect_ai"),
        ("a.json", "{", "is no log of inspect_ai"),
        ("samples_a.jsonl", '{"x": 1}\n', "is no log of lm-eval"),
        ("a.txt", "", "holds no log"),
    ],
)
def test_what_is_no_log(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told):
        read_logs(tmp_path if name == "a.txt" else tmp_path / name)


def test_logs_of_two_models_and_of_another_suite(tmp_path):
    for model in "mn":
        (tmp_path / f"{model}.json").write_text(json.dumps(inspect_log([sample(prompt="Else.")], model)))
    with pytest.raises(UserError, match="has logs of m, n"):
        read_logs(tmp_path)
    with pytest.raises(UserError, match="answer no prompt of the suite 'mine'"):
        read_logs(tmp_path / "m.json").match(SUITE)
    assert not is_log(tmp_path / "none")
