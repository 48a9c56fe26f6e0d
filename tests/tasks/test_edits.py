"""What an edit of the code reruns: one table, over a copy of the project's own code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mlc.catalogue import CARRIERS, JUDGES
from mlc.quality.signals import Scope, modules_of
from mlc.store import sources

ROOT = Path(__file__).parents[2]
STAGES = sorted(path.stem for path in (ROOT / "tasks").glob("*.py") if path.stem != "__init__")

CHOSEN = {
    "signals": modules_of([Scope.ROW, Scope.BATCH]),
    "model_signals": modules_of([Scope.MODEL]),
    "align": [CARRIERS.module("sft")],
    "evaluate": [JUDGES.module("rules")],
}
"""Modules of what stages choose by name, as in the smoke configuration."""
NOTHING = ""
TRANSLATION = "translate model_signals"
DECIDES = "model_signals filter"
READS_POLICY = "align edit steer own_answers localized own_pairs generate gate gated"
READS_EVALUATION = "ingest overlap generate edit evaluate ability report promote"


@dataclass(frozen=True)
class Edit:
    """One change of one file: ``old`` becomes ``new``, or ``new`` is added at the end."""

    what: str
    file: str
    old: str
    new: str
    reruns: str
    """Names of the stages that get another key, and no others."""


EDITS = (
    # What people are told.
    Edit("words of an error", "mlc/losses/consistency.py", "must be above 0, not", "has to be above 0, not", NOTHING),
    Edit("words of a log line", "mlc/training/checkpoints.py", "Training goes on", "It goes on", NOTHING),
    Edit("what is said of rows left out", "mlc/left_out.py", "have no label", "lack a label", NOTHING),
    Edit("a docstring", "mlc/training/sft.py", '"""', '"""In other words: ', NOTHING),
    Edit("a comment", "mlc/training/sft.py", "", "# About this file.\n", NOTHING),
    Edit("a comment in SQL", "mlc/quality/measuring/batch.sql", "", "\n-- More about it.\n", NOTHING),
    Edit("a new log line", "mlc/quality/funnel.py", "", "logger.info('done')\n", NOTHING),
    Edit("a progress bar", "tasks/generate.py", 'bar(f"generate · ', 'bar(f"asking · ', NOTHING),
    Edit("the name of a task run", "tasks/evaluate.py", '"evaluate · {suite', '"judge · {suite', NOTHING),
    Edit("what Prefect shows", "tasks/filter.py", "Some rejected translations", "A few of them", NOTHING),
    Edit("what a note says", "tasks/merge.py", " and {second}", " with {second}", NOTHING),
    # Machinery.
    Edit("words of a lock", "mlc/store/locks.py", "Another run", "One more run", NOTHING),
    Edit("words of `mlc why`", "mlc/store/keys.py", "is {'new'", "is {'fresh'", NOTHING),
    Edit("a helper of all stages", "tasks/runtime/stage.py", "", "def helper(x):\n    return x + 1\n", NOTHING),
    Edit("how the registry is reached", "tasks/runtime/registry/addresses.py", "sqlite:///", "sqlite:////", NOTHING),
    Edit("how a server is asked again", "mlc/chat/client.py", "ATTEMPTS = 6", "ATTEMPTS = 7", NOTHING),
    Edit("how judges are chosen", "mlc/evaluation/choosing.py", "", "LONGEST = 3\n", NOTHING),
    Edit("the display", "flows/terminal/display.py", "", "WIDTH = 3\n", NOTHING),
    # Settings: the values are in the keys of those that read them.
    Edit(
        "a new setting of the registry",
        "tasks/runtime/settings.py",
        "    experiment: str | None = ",
        '    team: str = "ours"\n    experiment: str | None = ',
        "register promote",
    ),
    Edit(
        "a new setting of the evaluation",
        "mlc/evaluation/settings.py",
        "    batch_size: int",
        "    new: int = 3\n    batch_size: int",
        NOTHING,
    ),
    Edit(
        "a new setting of alignment",
        "mlc/training/settings.py",
        "    training_dtype:",
        "    new: int = 3\n    training_dtype:",
        "align",
    ),
    Edit(
        "a default that computes", "mlc/evaluation/settings.py", "RESAMPLES = 1000", "RESAMPLES = 999", READS_EVALUATION
    ),
    # What computes.
    Edit("a loss", "mlc/losses/consistency.py", "", "EPSILON = 3\n", "align"),
    Edit("a trainer", "mlc/training/sft.py", "", "class Trainer:\n    step = 1\n", "align"),
    Edit("a trainer that is not chosen", "mlc/training/kl.py", "", "class Trainer:\n    step = 1\n", NOTHING),
    # Own answers to harmless prompts are judged, too, before they are learned.
    Edit("a judge", "mlc/evaluation/judges/rules.py", "SHORT = 8.0", "SHORT = 9.0", "evaluate localized"),
    Edit(
        "a judge that is not asked",
        "mlc/evaluation/judges/openings.py",
        "CHARACTERS = 160",
        "CHARACTERS = 161",
        NOTHING,
    ),
    Edit("a judge that is not chosen", "mlc/evaluation/judges/guards/crest.py", "> 1 / 2", "> 1 / 3", NOTHING),
    Edit("how a signal is measured", "mlc/quality/signals/caps.py", "least(", "greatest(", "signals"),
    Edit("when a signal drops a row", "mlc/quality/signals/caps.py", ">= limits", "> limits", DECIDES),
    Edit("the default of a threshold", "mlc/quality/signals/caps.py", "0.5,", "0.6,", DECIDES),
    Edit("the order of reasons", "mlc/quality/signals/caps.py", "priority=", "priority=1 + ", DECIDES),
    Edit("how it is decided", "mlc/quality/deciding.py", "", "LIMIT = 3\n", DECIDES),
    Edit("what counts as a repeat", "mlc/shapes/repeats.py", "NEAR = 0.8", "NEAR = 0.7", "overlap"),
    Edit("a table beside the code", "mlc/quality/measuring/length_ratios.csv", "", "xxx_Xxxx,1,1,1\n", "signals"),
    Edit(
        "the template of prompts",
        "mlc/models/prompts.py",
        '"role": "user"',
        '"role": "person"',
        f"{READS_POLICY} ability",
    ),
    Edit("which state is read", "mlc/models/states.py", "args[0] if args", "args[-1] if args", READS_POLICY),
    Edit(
        "how a policy is loaded", "mlc/models/loading.py", "", "SCALE = 2\n", f"{READS_POLICY} merge ability register"
    ),
    Edit("how a text is cut", "mlc/translation/sentences.py", "", "LONGEST = 3\n", f"{TRANSLATION} signals"),
    Edit("how an edit is solved", "mlc/editing/solve.py", "", "RIDGE = 3\n", "edit"),
    Edit("the page of the report", "mlc/report/report.html.j2", "How it was made", "How it came about", "report"),
    Edit("the gate", "mlc/evaluation/gate/deciding.py", "", "MARGIN = 3\n", "report promote"),
    Edit(
        "the registered model",
        "tasks/runtime/policy_pyfunc.py",
        '"max_new_tokens": 128',
        '"max_new_tokens": 64',
        "register",
    ),
)


PLANNED = [
    edit
    for edit in EDITS
    if edit.file.endswith(("settings.py", "policy_pyfunc.py")) or (edit.reruns == DECIDES and "signals/" in edit.file)
]
"""Edits that may change another part of a key than the digests of sources, so that only a plan shows what they do."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tree")
    for package in ("flows", "mlc", "tasks"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "data").symlink_to(ROOT / "data")
    return place


def apply(edit: Edit, root: Path) -> None:
    path = root / edit.file
    text = path.read_text(encoding="utf-8")
    assert edit.old in text, f"{edit.file} no longer holds {edit.old!r}: name other words for {edit.what}."
    path.write_text(text.replace(edit.old, edit.new, 1) if edit.old else text + edit.new, encoding="utf-8")


@pytest.fixture(scope="module")
def digests(tree: Path) -> Iterator[Any]:
    """Gives the source digests of every stage in the copied tree, with each text parsed once."""
    parse = sources._module_facts.__wrapped__
    read = cache(lambda text, path, package: parse(path, package))

    def facts(path: Path, package: str) -> Any:
        return read(path.read_text(encoding="utf-8"), path, package)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_root", lambda package: tree)
        patch.setattr(sources, "_module_facts", facts)

        def now() -> dict[str, Any]:
            sources._source_digests.cache_clear()
            return {stage: sources.source_digests(f"tasks.{stage}", *CHOSEN.get(stage, ())) for stage in STAGES}

        yield now
    sources._source_digests.cache_clear()


def different(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {stage for stage in before if before[stage] != after[stage]}


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit not in PLANNED], ids=lambda edit: edit.what)
def test_an_edit_reruns_what_it_may_change_and_nothing_else(edit: Edit, tree: Path, digests: Any) -> None:
    before = digests()
    apply(edit, tree)
    try:
        assert different(before, digests()) == set(edit.reruns.split())
    finally:
        shutil.copyfile(ROOT / edit.file, tree / edit.file)


PLAN = """
import json, os, sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

tree, edits = sys.argv[1], json.load(sys.stdin)
plain, compiled = SourceFileLoader.source_to_code, {}

def once(self, data, path, **more):
    if data not in compiled:
        compiled[data] = plain(self, data, path, **more)
    return compiled[data]

# What no edit changes is compiled once for all.
sys.dont_write_bytecode = True
SourceFileLoader.source_to_code = once
import flows.commands.plan
from flows.configuration.reading import load_config
flows.commands.plan.foresee(load_config("smoke", workspace="before"))

# What is slow to import stays; the project's own modules come from each edit of the tree anew.
for name in [name for name in sys.modules if name.split(".")[0] in ("flows", "mlc", "tasks")]:
    del sys.modules[name]
for number, (file, text) in enumerate(edits):
    place = Path(tree, file)
    before = place.read_bytes()
    place.write_text(text, encoding="utf-8")
    child = os.fork()
    if child == 0:
        import mlc.store.sources
        mlc.store.sources.source_digests = lambda *modules: {}
        from dataclasses import asdict
        from flows.commands.plan import foresee
        from flows.configuration.reading import load_config
        wanted = {
            "evaluation.suites": ["quickstart"],
            "evaluation.ability.neutral": "held-out",
            "models": ["english-only", "consistency", "consistency+edit", "own-prompts", "gate", "translated-pairs",
                       "refusal-direction", "sdrrl", "localized-refusals", "cm-align", "feedback"],
            "candidate": "consistency+edit",
            "quality.model_signals": ["reverse"],
            "prompts.parallel": {"fr": "shipped:quickstart/train.jsonl"},
            "prompts.feedback": "shipped:quickstart/feedback.jsonl",
            "prompts.unpaired": {"fr": "shipped:quickstart/train.jsonl"},
        }
        planned = foresee(load_config("smoke", workspace="workspace", languages=["es,fr"], overrides=wanted))
        found = {}
        for parts in map(asdict, planned.parts.values()):
            for kind in ("inputs", "models"):
                parts[kind] = {role: text for role, text in parts[kind].items() if not text.startswith("pending:")}
            found.setdefault(parts["stage"], []).append(parts)
        Path(f"{number}.json").write_text(json.dumps(found))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, file
    place.write_bytes(before)
os._exit(0)
"""
"""Writes down the keys of a plan with each edit of the tree, their sources aside."""


def test_edits_of_settings_and_of_the_registered_model(tree: Path, digests: Any, tmp_path: Path) -> None:
    found, before = {}, digests()
    # The first one changes nothing.
    edits = [(PLANNED[0].file, (tree / PLANNED[0].file).read_text(encoding="utf-8"))]
    for edit in PLANNED:
        apply(edit, tree)
        edits.append((edit.file, (tree / edit.file).read_text(encoding="utf-8")))
        found[edit.what] = different(before, digests())
        shutil.copyfile(ROOT / edit.file, tree / edit.file)
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    told, command = json.dumps(edits).encode(), [sys.executable, "-c", PLAN, str(tree)]
    subprocess.run(command, cwd=tmp_path, env=environment, input=told, check=True)
    keys, *others = (json.loads((tmp_path / f"{number}.json").read_text()) for number in range(len(edits)))
    assert sorted(keys) == STAGES
    for edit, planned in zip(PLANNED, others, strict=True):
        found[edit.what] |= different(keys, planned)
    assert found == {edit.what: set(edit.reruns.split()) for edit in PLANNED}
