"""What the page of a registered version says at a glance: a short card, written from the version's tags."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tasks.runtime.artifacts import REPORT_FILE
from tasks.runtime.tracking import REPORT_FOLDER

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

GATE, GATE_POLICY, GATE_FAILED, GATE_CHAMPION = "gate", "gate.policy", "gate.failed", "gate.champion"
WAITS = "gate.waits"
"""Whether a version that passed is for a person to promote: ``true`` or ``false``."""
REPLACES = "replaces"
"""The champion in whose place the version was promoted last."""
WORST, OVER_REFUSAL = "worst_language", "over_refusal"
POLICY, LICENCE, METHOD, SEED = "policy", "licence.", "method", "seed"
LANGUAGES, LANGUAGE_NAMES = "languages", "languages.names"
"""The languages that were trained, by their codes and as people call them."""
RELEASE, REVISION = "mlc.version", "git.revision"
PAGE, PREFECT_PAGE = "mlflow.page", "prefect.url"
"""Where the run is shown that registered the version: in MLflow, from its first page on, and in Prefect."""
_AS_TRAINING = "?workflowType=machine_learning"
"""What has MLflow's pages show runs and models rather than traces of conversations."""
NOBODY = "none"
"""In place of a version that there is not."""


def describe_version(client: "MlflowClient", name: str, version: str) -> None:
    """Writes the description of a version by its tags.

    Args:
        client: Of the registry.
        name: Of the registered model.
        version: Which one.
    """
    found = client.get_model_version(name, version)
    card = version_card(found.tags)
    if card != found.description:
        client.update_model_version(name, version, card)


def version_card(tags: Mapping[str, str]) -> str:
    """The card, as Markdown.

    Args:
        tags: Of a version.
    """
    rows = "\n".join(f"| {name} | {_cell(told)} |" for name, told in _rows(tags))
    links = " · ".join(f"[{name}]({address})" for name, address in _links(tags))
    return f"{_decision(tags)}\n\n| | |\n|---|---|\n{rows}\n\n{links}\n"


def _decision(tags: Mapping[str, str]) -> str:
    gate = tags.get(GATE)
    if gate is None:
        return "**Not judged by a gate yet.**"
    told = f"**Gate {_cell(tags.get(GATE_POLICY, ''))}: {gate}.**"
    if tags.get(WAITS) == "true" and REPLACES not in tags:
        return f"{told} It waits for a person to make it champion."
    return told if gate == "passed" else f"{told} Not kept: {_cell(tags.get(GATE_FAILED, ''))}."


def _rows(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield "Worst language", tags.get(WORST, "not measured")
    yield "Over-refusal", tags.get(OVER_REFUSAL, "not measured")
    yield "Replaces", _replaced(tags)
    if GATE_CHAMPION in tags:
        compared = tags[GATE_CHAMPION]
        yield "Compared with", "no champion" if compared == NOBODY else f"champion, version {compared}"
    if METHOD in tags:
        yield "Method", tags[METHOD] + (f", seed {tags[SEED]}" if SEED in tags else "")
    if POLICY in tags:
        licence = tags.get(f"{LICENCE}{POLICY}", "unknown")
        yield "Base model", f"{tags[POLICY]}, licence {licence}"
    if LANGUAGE_NAMES in tags:
        yield "Languages", tags[LANGUAGE_NAMES]
    if RELEASE in tags:
        yield "Made by", f"mlc {tags[RELEASE]}" + (f", revision {tags[REVISION]}" if REVISION in tags else "")


def _links(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if PAGE in tags:
        yield "Report", f"{tags[PAGE]}/artifacts/{REPORT_FOLDER}/{REPORT_FILE}{_AS_TRAINING}"
        yield "Run", f"{tags[PAGE]}{_AS_TRAINING}"
    if PREFECT_PAGE in tags:
        yield "Flow run in Prefect", tags[PREFECT_PAGE]


def _replaced(tags: Mapping[str, str]) -> str:
    replaced = tags.get(REPLACES)
    if replaced is None:
        return "nothing: it was never promoted"
    return "nothing: the first champion" if replaced == NOBODY else f"version {replaced}, the champion before"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
