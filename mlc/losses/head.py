"""The extractor between hidden states and the consistency loss."""

from torch import Tensor, nn


class ConsistencyHead(nn.Module):
    """Linear extractor r = W h + b (Bu et al., section 3), trained with the model and not shipped with it.

    Args:
        hidden_size: H of the model.
        dim: D of the extractor; the paper uses 512.
        bias: Whether there is b. With a large learning rate the bias is a trivial way to make all rows collinear,
            so it can be left out.
    """

    def __init__(self, hidden_size: int, dim: int = 512, *, bias: bool = True) -> None:
        super().__init__()
        self.extract = nn.Linear(hidden_size, dim, bias=bias)

    def forward(self, states: Tensor) -> Tensor:
        """[..., H] states to [..., D] representations."""
        extracted: Tensor = self.extract(states)
        return extracted
