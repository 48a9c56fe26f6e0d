"""Which of the models of a run is meant: one object, from the training to the registry."""

from dataclasses import dataclass

from mlc.store import ArtifactRef
from tasks.runtime.settings import PolicySettings


@dataclass(frozen=True)
class Model:
    """One of the models of a run: how it is made, with which seed, and where its weights are."""

    method: str
    """Name of the method that made it, see :mod:`mlc.methods`; ``base`` for the policy as it is."""
    seed: int | None
    """Training seed; None where nothing was trained."""
    weights: PolicySettings | ArtifactRef
    """The policy, or a checkpoint that a stage made; for a stage that trains or edits, what it starts from. While the
    flow hands it on, it may be the future of one."""
    device: str = "auto"
    """Where to compute, as :func:`mlc.devices.pick_device` takes it."""

    @property
    def label(self) -> str:
        """Method and seed, such as ``consistency · seed 0``; the method alone where nothing was trained."""
        return self.method if self.seed is None else f"{self.method} · seed {self.seed}"

    @property
    def checkpoint(self) -> ArtifactRef:
        """The checkpoint, of a model that a stage made."""
        if not isinstance(self.weights, ArtifactRef):
            raise TypeError(f"{self.label} is the policy, which no stage made")
        return self.weights
