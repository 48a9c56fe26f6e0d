"""What a shell offers for a word that is not typed to its end: names that ship, languages, stages and runs.

A shell waits for it at each key, so that nothing heavy is imported and no file of a configuration is read.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows.places import DEFAULT_WORKSPACE, shipped_configs
from mlc.catalogue import JUDGES, METHODS
from mlc.languages import all_languages
from mlc.shipped import shipped_data

STAGES = (
    "ingest",
    "suite",
    "overlap",
    "unpaired",
    "feedback",
    "own_answers",
    "answers",
    "translate",
    "parallel",
    "signals",
    "model_signals",
    "filter",
    "dataset",
    "localized",
    "own_pairs",
    "align",
    "edit",
    "steer",
    "merge",
    "gate",
    "generate",
    "gated",
    "evaluate",
    "ability",
    "report",
    "register",
    "promote",
)
"""Names of :data:`flows.stages.STAGES`, which imports all that computes."""


def configurations(incomplete: str) -> list[str]:
    """Names of the shipped configurations; a file is completed by the shell."""
    return _beginning(incomplete, shipped_configs())


def stages(incomplete: str) -> list[str]:
    """Names of stages."""
    return _beginning(incomplete, STAGES)


def stages_or_all(incomplete: str) -> list[str]:
    """Names of stages, and the word for all of them."""
    return _beginning(incomplete, (*STAGES, "all"))


def languages(incomplete: str) -> list[str]:
    """Tags of languages, the last one of a list with commas; with the sign before it, if there is one."""
    begun, comma, word = incomplete.rpartition(",")
    sign = word[:1] if word[:1] in ("+", "-") else ""
    tags = sorted({f"{begun}{comma}{sign}{language.bcp47}" for language in all_languages()})
    return _beginning(incomplete, tags)


def judges(incomplete: str) -> list[str]:
    """Names of judges."""
    return _listed(incomplete, JUDGES.places)


def methods(incomplete: str) -> list[str]:
    """Names of methods."""
    return _listed(incomplete, METHODS.places)


def suites(incomplete: str) -> list[str]:
    """Names of the shipped suites."""
    return _listed(incomplete, _shipped("suites"))


def gates(incomplete: str) -> list[str]:
    """Names of the shipped gate policies."""
    return _beginning(incomplete, _shipped("gates"))


def runs(ctx: Any, incomplete: str) -> list[str]:
    """Numbers of the runs of the workspace that is named before them, and the word for the last one."""
    from mlc.store.runs import RUNS_FOLDER

    folder = Path(ctx.params.get("workspace") or DEFAULT_WORKSPACE) / RUNS_FOLDER
    numbers = (str(int(path.stem)) for path in folder.glob("*.jsonl") if path.stem.isdigit())
    return _beginning(incomplete, ("last", *numbers))


def runs_or_champion(ctx: Any, incomplete: str) -> list[str]:
    """The same, and the word for the run whose version is live."""
    return sorted([*runs(ctx, incomplete), *_beginning(incomplete, ["champion"])])


def _shipped(folder: str) -> Iterable[str]:
    return (path.stem for path in shipped_data(folder).glob("*.yaml"))


def _listed(incomplete: str, names: Iterable[str]) -> list[str]:
    """Names that go on with the last word of a list with commas."""
    begun, comma, _ = incomplete.rpartition(",")
    return _beginning(incomplete, (f"{begun}{comma}{name}" for name in names))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
