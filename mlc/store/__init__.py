"""Content fingerprints, atomic artifacts and their manifests."""

from mlc.store.artifacts import ArtifactRef, ArtifactStore, Draft
from mlc.store.keys import KeyParts

__all__ = ["ArtifactRef", "ArtifactStore", "Draft", "KeyParts"]
