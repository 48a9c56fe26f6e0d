"""From which earlier checkpoint an alignment may start when languages are all that was added."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlc.store import ArtifactRef, ArtifactStore, KeyParts

ROLE = "warm_start"
"""Name of the checkpoint among the models of a key."""
OWN_SETTINGS = {"warm_start", "warm_start_share"}
_PROMPTS = "prompts"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class WarmStart:
    """An earlier checkpoint to start from."""

    checkpoint: ArtifactRef
    languages: tuple[str, ...]
    """Languages that it was trained on, besides English."""


def find_warm_start(store: ArtifactStore, examples: ArtifactRef, cold: KeyParts) -> WarmStart | None:
    """Looks for the checkpoint to start from.

    It must come from the same alignment of the same policy with the same seed, on a training set that differs in
    nothing but that it lacks languages. Of several, the one with the most languages is taken, and of these the oldest.
    An alignment on these very examples that was started warm keeps its checkpoint, so that later runs find it again.

    Args:
        store: The workspace's.
        examples: The training set.
        cold: Key parts of the alignment that starts from the policy.
    """
    sets = {manifest["sha256"]: manifest for manifest in store.manifests("dataset")}
    own = sets.get(examples.sha256)
    if own is None:
        return None
    alike = [manifest for manifest in store.manifests(cold.stage) if _same_alignment(manifest["parts"], cold)]
    trained_on_these = (m["parts"] for m in alike if m["parts"]["inputs"]["examples"] == examples.sha256)
    wanted = next((parts["models"][ROLE] for parts in trained_on_these if ROLE in parts["models"]), None)
    found: list[WarmStart] = []
    for manifest in alike:
        other = sets.get(manifest["parts"]["inputs"]["examples"])
        if other is None or not _only_lacks_languages(other["parts"], own["parts"]):
            continue
        ref = store.glance(cold.stage, manifest["key"])
        if ref is not None:
            found.append(WarmStart(ref, tuple(sorted(set(other["parts"]["inputs"]) - {_PROMPTS}))))
    kept = [start for start in found if start.checkpoint.sha256 == wanted]
    # max takes the first of equals, and manifests come oldest first.
    return max(kept or found, key=lambda start: len(start.languages), default=None)


def _same_alignment(parts: Mapping[str, Any], cold: KeyParts) -> bool:
    models = {name: identity for name, identity in parts["models"].items() if name != ROLE}
    return bool(
        models == dict(cold.models)
        and parts["seed"] == cold.seed
        and _without_own(parts["settings"]["align"]) == _without_own(cold.settings["align"])
    )


def _without_own(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in OWN_SETTINGS}


def _only_lacks_languages(fewer: Mapping[str, Any], more: Mapping[str, Any]) -> bool:
    """Whether one training set is the other without some of its languages."""
    small, large = fewer["inputs"], more["inputs"]
    return (
        fewer["settings"] == more["settings"]
        and len(small) < len(large)
        and all(large.get(name) == digest for name, digest in small.items())
    )
