"""Which of the models of a run is meant: one object, from the training to the registry."""

from dataclasses import dataclass, field

from mlc.choices import Attention, InferenceType
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
    dtype: InferenceType = "float32"
    """Type of the weights while the model is scored and answers."""
    attention: Attention = "sdpa"
    """How attention is computed."""
    base: "Model | None" = field(default=None, hash=False)
    """The model that was trained; where that was done with an adapter, ``weights`` are the adapter alone."""

    ungated: "Model | None" = field(default=None, hash=False)
    """The same model without the gate that stands before it; None where there is no gate."""

    @property
    def label(self) -> str:
        """Method and seed, such as ``consistency · seed 0``; the method alone where nothing was trained."""
        return self.method if self.seed is None else f"{self.method} · seed {self.seed}"

    @property
    def answering(self) -> dict[str, str]:
        """What decides how it answers, apart from its weights; for keys, empty as long as nothing is set."""
        usual = {"dtype": Model.dtype, "attention": Model.attention}
        return {name: given for name in usual if (given := getattr(self, name)) != usual[name]}

    @property
    def attending(self) -> dict[str, str]:
        """What decides its states in a type of the stage's own, apart from its weights; for keys, as above."""
        return {name: given for name, given in self.answering.items() if name != "dtype"}

    @property
    def checkpoint(self) -> ArtifactRef:
        """The checkpoint, of a model that a stage made."""
        if not isinstance(self.weights, ArtifactRef):
            raise TypeError(f"{self.label} is the policy, which no stage made")
        return self.weights
