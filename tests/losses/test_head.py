import torch

from mlc.losses import ConsistencyHead


def test_affine_map_by_hand():
    head = ConsistencyHead(2, 3)
    with torch.no_grad():
        head.extract.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
        head.extract.bias.copy_(torch.tensor([0.0, 10.0, -1.0]))
    states = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    assert head(states).tolist() == [[[3.0, 18.0, 6.0], [0.0, 12.0, 0.0]]]


def test_the_published_size_is_the_default():
    assert ConsistencyHead(8)(torch.zeros(2, 3, 8)).shape == (2, 3, 512)


def test_the_bias_can_be_left_out():
    head = ConsistencyHead(4, 2, bias=False)
    assert [name for name, _ in head.named_parameters()] == ["extract.weight"]
    assert head(torch.zeros(1, 4)).abs().max() == 0


def test_it_is_trained():
    head = ConsistencyHead(4, 2)
    head(torch.ones(1, 4)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in head.parameters())
