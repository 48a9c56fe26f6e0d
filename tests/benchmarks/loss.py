"""The consistency loss from the Gram matrix, against the same loss from the singular values of the rows."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from mlc.losses import consistency_loss
from tests.benchmarks.measuring import Figure, alternate, ratio, require_agreement

TEMPERATURE = 0.2


@dataclass(frozen=True)
class Size:
    """[prompts, languages, dim], and how often it is measured."""

    prompts: int
    languages: int
    dim: int
    rounds: int
    repeats: int


FULL = Size(prompts=32, languages=10, dim=512, rounds=21, repeats=20)
QUICK = Size(prompts=4, languages=3, dim=64, rounds=3, repeats=2)


def run(*, quick: bool) -> Iterator[Figure]:
    """Forward and backward of the released form."""
    size = QUICK if quick else FULL
    z = _rows(size)
    ours, plain = _step(_gram_loss, z), _step(_plain_loss, z)
    expected = plain()
    difference = float((ours() - expected).abs().max() / expected.abs().max())
    require_agreement("gradients, relative to the largest,", difference, 1e-4)
    own, other = alternate([ours, plain], rounds=size.rounds, repeats=size.repeats)
    means = "forward and backward: torch.linalg.svdvals of the [L, D] rows / consistency_loss"
    facts = {**asdict(size), "largest_difference": difference, "threads": torch.get_num_threads()}
    yield ratio("loss", "speed-up over svdvals", means, other, own, **facts)


def _rows(size: Size) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(size.prompts, size.languages, size.dim, generator=generator)
    # Rows of one prompt have something in common, as in a model.
    return (own + torch.randn(size.prompts, 1, size.dim, generator=generator)).requires_grad_()


def _gram_loss(z: Tensor) -> Tensor:
    return consistency_loss(z, temperature=TEMPERATURE, form="released").loss


def _plain_loss(z: Tensor) -> Tensor:
    sigma = torch.linalg.svdvals(torch.nn.functional.normalize(z, dim=-1))
    logits = sigma / (sigma[:, :1].detach() * TEMPERATURE)
    loss: Tensor = torch.logsumexp(logits, dim=1) - logits[:, 0]
    return loss


def _step(loss_of: Callable[[Tensor], Tensor], z: Tensor) -> Callable[[], Tensor]:
    def step() -> Tensor:
        gradient: Tensor = torch.autograd.grad(loss_of(z).mean(), z)[0]
        return gradient

    return step
