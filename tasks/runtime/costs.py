"""What the models of a run cost: time, tokens and memory, by method."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mlc.store import ArtifactStore
from tasks.runtime.artifacts import TOKENS_FACT
from tasks.runtime.memory import FACT as MEMORY_FACT

MAKING = ("own_answers", "localized", "own_pairs", "align", "edit", "merge", "steer", "gate")
"""Stages that make models."""


@dataclass(frozen=True)
class Cost:
    """What one model of a method takes, mean over seeds; what nobody measured is None."""

    seconds: float | None
    """Of all stages that make it, with the models that it starts from."""
    own_seconds: float | None
    """Without these."""
    tokens: float | None
    """Tokens that its training reads, with those of the models that it starts from."""
    peak_memory_bytes: float | None
    """Of the hungriest of its stages."""


Spent = dict[str | None, dict[str, float]]
"""By seed, what the stages took that made one model."""


def costs_of(store: ArtifactStore, tasks: Iterable[tuple[str, str | None, str]]) -> dict[str, Spent]:
    """What was spent by method; what a cached artifact took is what it took when it was made.

    Args:
        store: The workspace.
        tasks: Stage, subject and key of what a run made or found.
    """
    found: defaultdict[str, Spent] = defaultdict(dict)
    for stage, subject, key in tasks:
        if stage not in MAKING:
            continue
        manifest = store.manifest(stage, key)
        method, _, seed = str(subject).partition(" · ")
        spent = found[method].setdefault(seed or None, {})
        spent["seconds"] = spent.get("seconds", 0.0) + float(manifest.get("seconds", 0.0))
        facts = manifest["facts"]
        if facts.get(TOKENS_FACT):
            spent["tokens"] = spent.get("tokens", 0.0) + float(facts[TOKENS_FACT])
        if facts.get(MEMORY_FACT):
            spent["memory"] = max(spent.get("memory", 0.0), float(facts[MEMORY_FACT]))
    return {method: with_shared(spent) for method, spent in found.items()}


def with_shared(spent: Spent) -> Spent:
    """Adds what the models of all seeds share, such as answers of the policy, to each of them.

    Args:
        spent: What is shared stands under None; alone, it is all that there is.
    """
    shared = spent.get(None, {})
    seeds = {seed: own for seed, own in spent.items() if seed is not None}
    if not seeds:
        return spent
    return {
        seed: {
            what: max(own.get(what, 0.0), shared.get(what, 0.0))
            if what == "memory"
            else own.get(what, 0.0) + shared.get(what, 0.0)
            for what in {*own, *shared}
        }
        for seed, own in seeds.items()
    }


def cost_of(chain: Sequence[str], costs: Mapping[str, Spent]) -> Cost:
    """What one model of a method takes.

    Args:
        chain: Names of the methods that are made for it, itself last; where nothing was spent on itself, as on the
            policy as it is, it takes nothing.
        costs: From :func:`costs_of`.
    """
    name = chain[-1]
    own = _means(costs, [name])
    whole = _means(costs, chain if name in costs else ())
    return Cost(whole.get("seconds"), own.get("seconds"), whole.get("tokens"), whole.get("memory"))


def _means(costs: Mapping[str, Spent], chain: Sequence[str]) -> dict[str, float]:
    """What the models of a chain take together, mean over the seeds of each; the memory is that of the hungriest."""
    found: dict[str, float] = {}
    for name in chain:
        for what in ("seconds", "tokens", "memory"):
            values = [spent[what] for spent in costs.get(name, {}).values() if what in spent]
            if values:
                mean = fmean(values)
                found[what] = max(found.get(what, 0.0), mean) if what == "memory" else found.get(what, 0.0) + mean
    return found
