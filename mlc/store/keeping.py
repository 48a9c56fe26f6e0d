"""Keeping a result although the code or a library has changed, because a person says that it is the same.

The artifact is stored under its new key as well; its manifest says who kept it, when and why.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlc.store.keys import KeyParts

if TYPE_CHECKING:
    from mlc.store.artifacts import ArtifactStore


@dataclass(frozen=True)
class Kept:
    """That a person kept an artifact; an entry of ``kept`` in its manifest."""

    by: str
    """Who."""
    when: str
    """Time, as ISO 8601 has it."""
    reason: str
    old_key: str
    """What the key was before."""
    key: str
    """What it became."""
    differences: Sequence[str]
    """Between the two, in words."""

    @property
    def words(self) -> str:
        """Who, when and why, in a few words."""
        return f"by {self.by} on {self.when[:10]}: {self.reason}"


@dataclass(frozen=True)
class Keepable:
    """An artifact that is there, and how the one that is wanted differs from it."""

    key: str
    differences: Sequence[str]
    """In words; all of them, or those that forbid to keep it."""
    allowed: bool
    """Whether only code and libraries differ."""


def find_keepable(
    store: "ArtifactStore", parts: KeyParts, language: str | None, subject: str | None
) -> Keepable | None:
    """Looks for the artifact that may take the place of one that would be made.

    Args:
        store: The workspace's.
        parts: Key parts of the one that would be made.
        language: Language that it belongs to.
        subject: What else tells it from others of its stage.

    Returns:
        The newest one for the same language and subject from which only the code, the libraries or the version of the
        stage differ. If there is none, the newest one at all; None if there is none of these either.
    """
    newest = None
    for manifest in reversed(store.manifests(parts.stage)):
        facts = manifest["facts"]
        if (facts.get("language"), facts.get("subject")) != (language, subject):
            continue
        earlier = KeyParts(**manifest["parts"])
        if forbidding := parts.differences_of_work(earlier):
            newest = newest or Keepable(manifest["key"], forbidding, allowed=False)
        else:
            return Keepable(manifest["key"], parts.differences(earlier), allowed=True)
    return newest


def keep(store: "ArtifactStore", parts: KeyParts, note: Kept) -> bool:
    """Gives an artifact the key that its code would have now.

    Args:
        store: The workspace's.
        parts: Key parts that it gets.
        note: Who keeps it and why; from which key.

    Returns:
        Whether it was intact; a damaged one is set aside.
    """
    return store.also_under(parts.stage, note.old_key, parts, asdict(note)) is not None


def kept_notes(manifest: dict[str, Any]) -> list[Kept]:
    """What a manifest says of keeping, oldest first."""
    return [Kept(**entry) for entry in manifest.get("kept", ())]


def kept_sentences(store: "ArtifactStore", artifacts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Says of the artifacts of a run which were kept, those that were kept together in one sentence.

    Args:
        store: The workspace's.
        artifacts: Stage and key of each; all of them are there.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for stage, key in artifacts:
        manifest = store.manifest(stage, key)
        for note in kept_notes(manifest)[-1:]:
            facts = (manifest["facts"].get(name) for name in ("subject", "language"))
            found.setdefault((stage, note.words), set()).add(" · ".join(filter(None, facts)))
    sentences = []
    for (stage, words), labels in found.items():
        which = ", ".join(sorted(filter(None, labels)))
        sentences.append(f"{stage}{f' ({which})' if which else ''} was kept {words}")
    return tuple(sorted(sentences))
