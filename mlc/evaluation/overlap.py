"""Held-out prompts that are training prompts as well, so that figures on them are not held out; named by ids alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlc.errors import UserError
from mlc.evaluation.settings import SPLITS

BETWEEN, WITHIN = "between", "training"
"""Where repeats may be beside the held-out prompts of a split: between the splits, and among the training prompts."""

_WORDS = {
    **{split: f"held-out {split} prompts are training prompts as well" for split in SPLITS},
    BETWEEN: "held-out test prompts are validation prompts as well",
    WITHIN: "training prompts are there before",
}
_KINDS = {"exact": "word for word", "normalized": "but for how they are written", "near": "nearly"}


@dataclass(frozen=True)
class Overlap:
    """How many prompts of one place are there already in another."""

    where: str
    """A split, :data:`BETWEEN` or :data:`WITHIN`."""
    of: int
    """How many prompts were looked at."""
    counts: Mapping[str, int]
    """Those that are there already, by :data:`mlc.shapes.repeats.Kind`."""
    ids: Sequence[str] = ()
    """The first of them."""
    both_labels: int = 0
    """How many prompts are harmful in one place and harmless in the other."""

    @property
    def rows(self) -> int:
        """Those that are there already."""
        return sum(self.counts.values())

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.rows / self.of if self.of else 0.0

    @property
    def sentence(self) -> str:
        """All of it, without a full stop."""
        kinds = ", ".join(f"{self.counts[kind]} {words}" for kind, words in _KINDS.items() if self.counts[kind])
        labels = f"; {self.both_labels} prompts have both labels" if self.both_labels else ""
        return f"{self.rows} of {self.of} {_WORDS[self.where]} ({kinds}; ids {', '.join(self.ids)}{self._more}{labels})"

    @property
    def _more(self) -> str:
        return " …" if self.rows > len(self.ids) else ""


def told(overlaps: Iterable[Overlap]) -> list[dict[str, Any]]:
    """Counts as plain data, for a manifest."""
    return [asdict(overlap) for overlap in overlaps]


def read_overlaps(facts: Mapping[str, Any]) -> list[Overlap]:
    """The counts in the facts of a manifest."""
    return [Overlap(**overlap) for overlap in facts["overlaps"]]


def require_little_overlap(overlaps: Iterable[Overlap], limit: float) -> None:
    """Refuses to go on with figures that are not held out.

    Args:
        overlaps: Counts of the training as it will be.
        limit: ``prompts.max_overlap``, the largest share of the prompts of a split.

    Raises:
        UserError: A larger share of a split's prompts is trained on.
    """
    for overlap in overlaps:
        if overlap.where in SPLITS and overlap.share > limit:
            raise UserError(
                f"{overlap.sentence}, which is more than the share of {limit:g} that may be: take other prompts, let "
                "prompts.remove_overlap take them out of training, or raise prompts.max_overlap."
            )
