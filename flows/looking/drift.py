"""The live champion measured again: what has changed since it was registered, and what that does to its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from flows.looking.comparing import LanguageFigures, figures_of_both
from mlc.evaluation.metrics import Metric
from mlc.evaluation.results import ANSWERS_FILE, EvaluationResult, anchor_of
from mlc.languages import resolve_language
from mlc.report.wording import chance, difference, interval, language_name, metric_name, number
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from tasks.runtime.registry.versions import read_version

SHOWN_CHANGES = 8
"""Of what has changed; the rest is counted."""
_ROLE = "configuration role"
"""What the same model is called then and now decides nothing."""


@dataclass(frozen=True)
class Measured:
    """One evaluation of a model in one language, and the artifact that it is read from."""

    key: str
    result: EvaluationResult
    prompts: Mapping[str, str]
    """Texts of the prompts that were answered, by id; for comparing only."""

    @property
    def language(self) -> str:
        """NLLB code."""
        return self.result.summary.language

    @property
    def test_ids(self) -> set[str]:
        """Ids of the test prompts."""
        rows = self.result.rows
        pairs = zip(rows["id"].to_pylist(), rows["split"].to_pylist(), strict=True)
        return {name for name, split in pairs if split == "test"}


@dataclass(frozen=True)
class Drift:
    """A champion then and now."""

    changed: tuple[str, ...]
    """What decides the figures and is not as it was, in a few words each; empty where nothing is."""
    notes: tuple[str, ...]
    """What is not alike in the prompts and languages, in sentences."""
    anchor: str
    """NLLB code of the language that thresholds were set in."""
    figures: Mapping[Metric, Mapping[str, LanguageFigures]]
    """On the prompts that are the same then and now, by metric and language."""

    @property
    def worse(self) -> tuple[str, ...]:
        """Where the champion is shown to be worse than it was, in words."""
        return tuple(
            f"{metric_name(metric, self.anchor)} in {language_name(code)}"
            for metric, by_language in self.figures.items()
            for code, own in by_language.items()
            if own.tone(metric) == "worse"
        )

    def rows(self) -> list[dict[str, Any]]:
        """The figures as rows of a table of text."""
        return [
            {
                "language": language_name(code),
                "figure": metric_name(metric, self.anchor),
                "at registration": _with_interval(own.before),
                "now": _with_interval(own.after),
                "difference": difference(own.change.estimate),
                "p": chance(own.change.p),
                "prompts": own.change.estimate.n,
                "says": own.tone(metric) or "no difference is shown",
            }
            for metric, by_language in self.figures.items()
            for code, own in by_language.items()
        ]


def measured_at_registration(store: ArtifactStore, model: str, version: str) -> list[Measured]:
    """The evaluations that a version was registered with, on the held-out prompts.

    Args:
        store: The workspace.
        model: Name of the registered model.
        version: The version.

    Returns:
        One for each language; none where the version was not registered in this workspace.
    """
    for manifest in reversed(store.manifests("register")):
        ref = store.glance("register", manifest["key"])
        if ref is None or not store.folder(ref).is_dir():
            continue
        known = read_version(store, ref)
        if (known.name, known.version) == (model, version):
            inputs = {value for role, value in manifest["parts"]["inputs"].items() if role.startswith("evaluation ")}
            keys = [each["key"] for each in store.manifests("evaluate") if each["sha256"] in inputs]
            found = measured_in(store, keys)
            of = manifest["parts"]["settings"]["role"], manifest["parts"]["seed"]
            return [one for one in found if (one.result.summary.model, one.result.summary.seed) == of]
    return []


def measured_in(store: ArtifactStore, keys: Sequence[str]) -> list[Measured]:
    """Evaluations on the held-out prompts, by the keys of their artifacts; what is no longer whole is passed over."""
    found = []
    for key in keys:
        ref = store.intact("evaluate", key)
        if ref is None:
            continue
        folder = store.folder(ref)
        result = EvaluationResult.read(folder)
        if result.summary.suite is None:
            rows = pq.read_table(folder / ANSWERS_FILE, columns=["id", "prompt"]).to_pylist()
            found.append(Measured(key, result, {row["id"]: row["prompt"] for row in rows}))
    return found


def changes_since(store: ArtifactStore, before: Sequence[Measured], now: Sequence[Measured]) -> list[str]:
    """What decided evaluations and is not as it was, in a few words each.

    Args:
        store: The workspace that both are in.
        before: At registration, one for each language.
        now: The same model now.
    """
    then = {one.language: one.key for one in before}
    pairs = [(then[one.language], one.key) for one in now if one.language in then]
    return list(dict.fromkeys(words for pair in pairs for words in _changes(store, *pair)))


def drift_of(before: Sequence[Measured], now: Sequence[Measured], changed: Sequence[str]) -> Drift:
    """Holds what a champion does now against what it did when it was registered.

    Args:
        before: At registration, one for each language.
        now: The same model now.
        changed: See :func:`changes_since`.
    """
    then = {one.language: one for one in before}
    here = {one.language: one for one in now}
    both = sorted(then.keys() & here.keys())
    shared = {code: _same_prompts(then[code], here[code]) for code in both}
    notes = [*_languages(then, here), *(note for code in both for note in _prompts(code, then, here, shared[code]))]
    comparable = {code: ids for code, ids in shared.items() if ids & then[code].test_ids & here[code].test_ids}
    registered, measured = ([_under_one_name(side[code].result) for code in comparable] for side in (then, here))
    return Drift(
        changed=tuple(changed),
        notes=tuple(notes),
        anchor=anchor_of([one.result for one in now]),
        figures=figures_of_both(registered, measured, comparable) if comparable else {},
    )


def changes_in_words(changed: Sequence[str]) -> str:
    """The first changes, and how many more there are."""
    rest = len(changed) - SHOWN_CHANGES
    return "; ".join(changed[:SHOWN_CHANGES]) + (f"; and {rest} more" if rest > 0 else "")


def _under_one_name(result: EvaluationResult) -> EvaluationResult:
    """Then it had the name of its method and a seed, now it is the champion: one model all the same."""
    return replace(result, summary=replace(result.summary, model="", seed=None))


def _same_prompts(before: Measured, now: Measured) -> set[str]:
    """Ids of the prompts that are the same; one whose text is not known in both is told by its id."""
    ids = set(before.result.rows["id"].to_pylist()) & set(now.result.rows["id"].to_pylist())
    known = before.prompts.keys() & now.prompts.keys()
    return {name for name in ids if name not in known or before.prompts[name] == now.prompts[name]}


def _languages(then: Mapping[str, Measured], here: Mapping[str, Measured]) -> list[str]:
    told = [
        (sorted(then.keys() - here.keys()), "was measured when it was registered and is not measured now"),
        (sorted(here.keys() - then.keys()), "is measured now and was not when it was registered"),
    ]
    return [f"{language_name(code)} {words}." for codes, words in told for code in codes]


def _prompts(code: str, then: Mapping[str, Measured], here: Mapping[str, Measured], shared: set[str]) -> list[str]:
    before, now = then[code].test_ids, here[code].test_ids
    same = len(before & now & shared)
    if before == now and same == len(before):
        return []
    name = resolve_language(code).english_name
    return [
        f"The held-out prompts in {name} are not what they were: of {len(before)} then and {len(now)} now, the {same} "
        "that are the same are compared."
    ]


def _changes(store: ArtifactStore, before: str, now: str) -> list[str]:
    """What decided an evaluation and is not as it was: of the judging, and of the answers that were judged."""
    manifests = [store.manifest("evaluate", key) for key in (before, now)]
    found = _differences(manifests)
    answered = [_made_of(store, manifest, "generated") for manifest in manifests]
    if all(answered):
        found += _differences([store.manifest(ref.kind, ref.key) for ref in answered if ref])
    return [words for words in found if not words.startswith((_ROLE, "input ", "seed"))]


def _differences(manifests: Sequence[Mapping[str, Any]]) -> list[str]:
    before, now = (KeyParts(**manifest["parts"]) for manifest in manifests)
    return now.differences(before)


def _made_of(store: ArtifactStore, manifest: Mapping[str, Any], role: str) -> ArtifactRef | None:
    """The artifact that another one was made from; None where it is gone."""
    wanted = manifest["parts"]["inputs"].get(role)
    for each in store.past("generate"):
        if each["sha256"] == wanted:
            return store.glance("generate", each["key"])
    return None


def _with_interval(estimate: Any) -> str:
    return f"{number(estimate.value)} {interval(estimate)}".strip()
