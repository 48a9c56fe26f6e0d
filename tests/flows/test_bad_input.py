"""A user's mistake: one plain sentence, exit code 2, no traceback, no prompt text."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows import cli
from mlc.store.locks import workspace_lock
from tests.flows.smoked import PROJECT, Ended, Mlc, Smoked

SECRET = "xylophone-marmalade"
"""A word in prompts that no message may show."""


def assert_plain(ended: Ended, *words: str) -> None:
    """One sentence on standard error that holds the words; nothing on standard output."""
    assert ended.code == 2, ended.err[-2000:]
    assert ended.out == ""
    sentences = [line for line in ended.err.splitlines() if line.startswith("mlc: ")]
    assert len(sentences) == 1, ended.err
    assert "Traceback" not in ended.err
    assert SECRET not in ended.err
    for word in words:
        assert word in sentences[0], sentences[0]


def write_config(folder: Path, **changes: object) -> Path:
    """A configuration file of a person, beside its prompts."""
    values = yaml.safe_load((PROJECT / "flows/configs/smoke.yaml").read_text(encoding="utf-8"))
    values.update(changes)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def write_prompts(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--languages", "klingonish"), ("klingonish", "unknown")),
        (("--languages", "ku"), ("ku", "ckb_Arab", "kmr_Latn")),
        (("--languages", "en"), ("English", "source language")),
        (("--languages", "es,+hi"), ("es,+hi",)),
        (("--set", "align.lerning_rate=1"), ("align.lerning_rate", "align.learning_rate")),
        (("--set", "qualty=1"), ("qualty", "quality")),
        (("--set", "align.steps=many"), ("align.steps", "many")),
        (("--set", "align.steps=0"), ("align.steps", "0")),
        (("--set", "seeds=[1,1]"), ("[1, 1]",)),
        (("--set", "align.steps"), ("align.steps", "key=value")),
        (("--set", "align.consistency.form=best"), ("align.consistency.form", "best", "released")),
        (("--set", "evaluation.refusal_openings=[Start with]"), ("'Start with'", "both")),
        (("--set", "seeds=[4294967296]"), ("seeds", "less than 4294967296")),
        (("--set", "evaluation.refusal_openings=[' ']"), ("evaluation.refusal_openings", "empty")),
        (("--set", "evaluation.layer=99"), ("evaluation.layer", "99", "0 to 4")),
        (("--set", "align.adapter={target_modules: [q_proj, nope]}"), ("'nope'", "down_proj", "all-linear")),
    ],
)
def test_configuration(tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(cli.app, ["plan", "smoke", "--workspace", str(tmp_path / "w"), *arguments])
    assert_plain(Ended(ended.exit_code, ended.stdout, ended.stderr), *words)


@pytest.mark.parametrize(
    ("command", "setting", "words"),
    [
        ("run", "evaluation.layer=99", ("evaluation.layer", "99", "0 to 4")),
        ("run", "align.lerning_rate=1", ("align.learning_rate",)),
        ("plan", "align.lerning_rate=1", ("align.learning_rate",)),
    ],
)
def test_commands_tell_what_is_wrong_with_a_configuration(
    mlc: Mlc, tmp_path: Path, command: str, setting: str, words: tuple[str, ...]
) -> None:
    assert_plain(mlc(command, "smoke", "--workspace", str(tmp_path / "w"), "--set", setting), *words)


def test_configuration_file(mlc: Mlc, tmp_path: Path) -> None:
    assert_plain(mlc("run", "nothing-of-that-name"), "nothing-of-that-name", "quickstart")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [unclosed\n", encoding="utf-8")
    assert_plain(mlc("run", str(broken)), "broken.yaml", "YAML")
    broken.write_text("- a list\n", encoding="utf-8")
    assert_plain(mlc("run", str(broken)), "broken.yaml", "mapping")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question": SECRET, "chosen": "x"}], ("'prompt'", "question")),
        ([{"prompt": SECRET}], ("'chosen'",)),
        ([], ("prompt",)),
        ([{"prompt": " ", "chosen": SECRET}], ("no usable prompt", "no text in prompt")),
    ],
)
def test_prompt_file_content(mlc: Mlc, tmp_path: Path, rows: list[dict[str, str]], words: tuple[str, ...]) -> None:
    write_prompts(tmp_path, rows)
    config = write_config(tmp_path, prompts={"path": "prompts.jsonl"})
    assert_plain(mlc("run", str(config), "--workspace", str(tmp_path / "w")), *words)


@pytest.mark.slow
def test_prompt_file_that_cannot_be_read(mlc: Mlc, tmp_path: Path) -> None:
    gone = write_config(tmp_path, prompts={"path": str(tmp_path / "gone.jsonl")})
    assert_plain(mlc("run", str(gone), "--workspace", str(tmp_path / "w")), "gone.jsonl", "cannot be read")
    (tmp_path / "prompts.xls").write_text("x", encoding="utf-8")
    strange = write_config(tmp_path, prompts={"path": "prompts.xls"})
    assert_plain(mlc("run", str(strange), "--workspace", str(tmp_path / "w")), ".xls", ".jsonl")
    (tmp_path / "prompts.jsonl").write_bytes(b"\xff\xfe" + SECRET.encode("utf-16-le"))
    binary = write_config(tmp_path, prompts={"path": "prompts.jsonl"})
    assert_plain(mlc("run", str(binary), "--workspace", str(tmp_path / "w")), "prompts.jsonl")


@pytest.mark.slow
def test_all_translations_rejected(mlc: Mlc, smoked: Smoked, tmp_path: Path) -> None:
    shutil.copytree(smoked.one, tmp_path / "w")
    ended = mlc(
        "run", "smoke", "--languages", "es", "--workspace", str(tmp_path / "w"),
        "--set", "quality.default.script_share=1.0",
        "--set", "quality.default.length_z=0.0000001",
    )  # fmt: skip
    assert_plain(ended, "spa_Latn", "length")


def spoiled(folder: Path, name: str, text: str) -> Path:
    """The tiny policy with one file changed."""
    shutil.copytree(PROJECT / "data" / "tiny", folder)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def config_with(**changes: object) -> str:
    known = json.loads((PROJECT / "data" / "tiny" / "config.json").read_text(encoding="utf-8"))
    return json.dumps(known | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (config_with(quantization_config={"quant_method": "bitsandbytes"}), ("quantised (bitsandbytes)",)),
        (config_with(architectures=["LlamaForSequenceClassification"]), ("writes no answers",)),
        (config_with(model_type="mine", auto_map={"AutoConfig": "mine.Config"}), ("code from a model is never run",)),
        ("{", ("config.json is damaged",)),
    ],
    ids=["quantised", "a reward model", "own code", "damaged"],
)
def test_a_plan_refuses_what_the_configuration_of_a_model_tells(
    mlc: Mlc, tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    model = spoiled(tmp_path / "model", "config.json", text)
    assert_plain(mlc("plan", "smoke", "-w", str(tmp_path / "w"), "--set", f"policy.model={model}"), *words)


def test_a_run_checks_its_policy_before_it_translates(mlc: Mlc, tmp_path: Path) -> None:
    model = spoiled(tmp_path / "model", "chat_template.jinja", "{{ raise_exception(messages[0]['content']) }}")
    ended = mlc("run", "smoke", "-w", str(tmp_path / "w"), "--set", f"policy.model={model}")
    assert_plain(ended, "chat template", "(TemplateError)")
    assert not list((tmp_path / "w" / "artifacts").glob("[!.]*/*"))
    assert not (tmp_path / "w" / "checked_models.jsonl").exists()


@pytest.mark.slow
def test_model_folder_that_is_none(mlc: Mlc, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    place = str(tmp_path / "empty")
    for key in ("policy.model", "translator.model"):
        ended = mlc("run", "smoke", "--workspace", str(tmp_path / key), "--set", f"{key}={place}")
        assert_plain(ended, "empty", "shipped:nano")
    ended = mlc("run", "smoke", "--workspace", str(tmp_path / "hub"), "--set", "policy.model=nobody/nothing-here")
    assert_plain(ended, "nobody/nothing-here", "hub")


@pytest.mark.slow
def test_port_taken(mlc: Mlc, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert_plain(mlc("run", "smoke", "--workspace", str(tmp_path / "w"), "--port", str(port)), str(port), "--port")
        (tmp_path / "w" / "artifacts").mkdir(parents=True, exist_ok=True)
        ended = mlc("ui", "--workspace", str(tmp_path / "w"), "--mlflow-port", str(port))
        assert_plain(ended, str(port), "--mlflow-port")


def test_server_that_does_not_answer(mlc: Mlc, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    ended = mlc("run", "smoke", "--workspace", str(tmp_path / "w"), PREFECT_API_URL=nobody)
    assert_plain(ended, nobody, "PREFECT_API_URL")


def test_workspace_that_cannot_be_written(mlc: Mlc, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    ended = mlc("run", "smoke", "--workspace", str(tmp_path / "file" / "w"))
    assert_plain(ended, "cannot be written", "--workspace")


def test_workspace_without_permission(mlc: Mlc, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    ended = mlc("run", "smoke", "--workspace", str(tmp_path / "locked" / "w"), obedient=True)
    assert_plain(ended, "cannot be written", "Permission denied")


@pytest.mark.slow
def test_second_run_on_the_same_workspace(mlc: Mlc, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    with workspace_lock(folder):
        ended = mlc("run", "smoke", "--workspace", str(folder))
    assert_plain(ended, "Another run", str(os.getpid()), "--wait")


@pytest.mark.slow
def test_second_run_waits_when_told_to(mlc: Mlc, smoked: Smoked, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(smoked.one, tmp_path / "w"))
    holder = (
        "import sys, time, pathlib\nfrom mlc.store.locks import workspace_lock\n"
        "with workspace_lock(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(0.5)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        ended = mlc("run", "smoke", "--languages", "es", "--workspace", str(folder), "--wait", "300", "--json")
    assert ended.code == 0, ended.err[-2000:]


def test_commands_without_a_workspace(mlc: Mlc, tmp_path: Path) -> None:
    for command in (("status",), ("promote", "1"), ("ui",)):
        assert_plain(mlc(*command, "--workspace", str(tmp_path / "none")), "none", "mlc run")
    assert_plain(mlc("languages", "zzzzz"), "zzzzz")
