"""Commands where extras are not installed: a plain sentence that says which package is missing and how to get it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlc.errors import UserError
from mlc.extras import EXTRAS, missing_package, require_extra
from mlc.packages import to_install
from tasks.runtime.unexpected import confined

WITHOUT = """
import json, sys
from mlc.extras import EXTRAS

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        missing = name.partition(".")[0] in EXTRAS
        return None if missing else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

from typer.testing import CliRunner
from flows.cli import app

ends = {}
for line in json.loads(sys.argv[1]):
    ended = CliRunner().invoke(app, line.split())
    ends[line] = [ended.exit_code, ended.stderr]
print(json.dumps(ends))
"""
WORKING = ("--help", "languages swahili", "power 5", "look table.csv")
LACKING = {
    "plan smoke": "prefect",
    "run smoke": "httpx",
    "deploy": "httpx",
    "ui -w place": "starlette",
    "status -w place": "prefect",
    "runs -w place": "jinja2",
    "filter table.csv --out out.csv --from en --to es": "duckdb",
    "translate table.csv --to es": "regex",
    "look hf:owner/name": "datasets",
    "plan smoke -s runner=dask": "prefect_dask",
    "plan smoke -s runner=ray": "prefect_ray",
    "plan smoke -s evaluation.engine.kind=vllm": "vllm",
    "plan smoke -s align.optim=adamw_8bit": "bitsandbytes",
    "plan smoke -s evaluation.ability.harness=[arc_easy]": "lm_eval",
    "plan smoke -s storage=memory://x": "prefect",
}


def test_every_command_tells_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "place" / "artifacts").mkdir(parents=True)
    (tmp_path / "table.csv").write_text("id,prompt\na,b\n", encoding="utf-8")
    lines = json.dumps([*WORKING, *LACKING])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, lines], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    for line in WORKING:
        assert ends[line][0] == 0, (line, ends[line])
    for line, package in LACKING.items():
        code, told = ends[line]
        assert code == 2, (line, told)
        assert package.replace("_", "-") in told, (line, told)
        assert "not installed" in told, (line, told)
        assert to_install(EXTRAS[package]) in told, (line, told)
        assert "Traceback" not in told


def test_a_stage_that_lacks_a_package_says_so(tmp_path: Path) -> None:
    def body() -> None:
        try:
            raise ModuleNotFoundError("No module named 'trl.trainer'", name="trl.trainer")
        except ModuleNotFoundError as error:
            raise RuntimeError("lazy loading failed") from error

    with pytest.raises(UserError, match=r"The package trl .* not installed: run `pip install '.*\[train\]'`\."):
        confined(tmp_path, "align", body)


def test_other_missing_modules_are_defects() -> None:
    assert missing_package(ModuleNotFoundError("No module named 'mlc.nowhere'", name="mlc.nowhere")) is None
    assert missing_package(ValueError("no")) is None


def test_a_package_without_an_extra_is_named_alone() -> None:
    with pytest.raises(ValueError, match="needs the package no-such-thing, which is not installed: install it, or"):
        require_extra("no_such_thing", "x")
    require_extra("json", "x")


def test_extras_are_those_of_the_distribution() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = project["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package.replace("_", "-")) for line in told[extra]), (package, extra)
