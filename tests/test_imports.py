import importlib
import json
import os
import pkgutil
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "prefect", "transformers", "mlflow", "duckdb", "pandas", "matplotlib", "datasets", "pyarrow")


def import_all():
    """Imports every module, and writes their names and what each failed by into a file that it is told."""
    names, failed = [], {}
    for root in ("flows", "tasks", "mlc"):
        package = importlib.import_module(root)
        names.append(root)
        for module in pkgutil.walk_packages(package.__path__, f"{root}.", onerror=lambda name: None):
            if module.name.endswith("__main__"):
                continue
            names.append(module.name)
            try:
                importlib.import_module(module.name)
            except BaseException:
                failed[module.name] = traceback.format_exc()
    Path(sys.argv[1]).write_text(json.dumps({"names": names, "failed": failed}))


def python(*arguments, folder, **options):
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, **options
    )


def test_every_module_can_be_imported(tmp_path, forked):
    started = forked.start(str(tmp_path / "found.json"), cwd=ROOT, command="tests.test_imports:import_all")
    code, _, told = started.communicate(600)
    assert code == 0, told
    found = json.loads((tmp_path / "found.json").read_text())
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for root in ("flows", "tasks", "mlc")
        for path in (ROOT / root).rglob("*.py")
        if path.name != "__main__.py"
    }
    assert set(found["names"]) == files
    assert found["failed"] == {}


def test_help_imports_little_and_nothing_heavy(tmp_path):
    done = python("-X", "importtime", "-m", "flows.cli", "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Usage" in done.stdout
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in imported
    assert {name for name in imported if name.split(".")[0] in HEAVY} == set()
    # Half a thousand are loaded in half a second on an idle machine; seconds would tell of the others at work.
    assert len(imported) < 800


def test_the_losses_need_torch_only_and_the_library_no_pipeline(tmp_path):
    code = (
        "import json, sys, torch; before = set(sys.modules); import mlc.losses;"
        "print(json.dumps([name for name in set(sys.modules) - before if not name.startswith('torch')]));"
        "import mlc.models.states, mlc.training.term, mlc.evaluation.scoring;"
        "print(json.dumps([*{'prefect', 'mlflow', 'datasets', 'duckdb', 'flows', 'tasks'} & set(sys.modules)]))"
    )
    done = python("-c", code, folder=tmp_path, check=True)
    losses, pipeline = map(json.loads, done.stdout.splitlines())
    assert [name for name in losses if name not in ("mlc", "mlc.choices") and not name.startswith("mlc.losses")] == []
    assert pipeline == []
