import pytest
import torch

from mlc.losses import Centering

# Two prompts, two languages, one dimension. English rows 1 and 3, the other language 10 and 20.
STATES = torch.tensor([[[1.0], [10.0]], [[3.0], [20.0]]])


def centred(states, mask=None, **options):
    module = Centering(states.shape[2], states.shape[1], **options)
    return module(states, None if mask is None else torch.tensor(mask)).squeeze(-1).tolist()


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("english", [[-1, 8], [1, 18]]),
        ("overall", [[-7.5, 1.5], [-5.5, 11.5]]),
        ("per_language", [[-1, -5], [1, 5]]),
    ],
)
def test_batch_means_by_hand(scope, expected):
    assert centred(STATES, scope=scope) == expected


@pytest.mark.parametrize(
    ("scope", "mask", "expected"),
    [
        # Only the first prompt's English row counts: mean 1.
        ("english", [[True, True], [False, True]], [[0, 9], [2, 19]]),
        # 1, 10 and 3 count: mean 14 / 3.
        ("overall", [[True, True], [True, False]], [[-11 / 3, 16 / 3], [-5 / 3, 46 / 3]]),
        ("per_language", [[True, True], [True, False]], [[-1, 0], [1, 10]]),
    ],
)
def test_masked_rows_do_not_count(scope, mask, expected):
    for row, wanted in zip(centred(STATES, mask, scope=scope), expected, strict=True):
        assert row == pytest.approx(wanted)


def test_none_gives_the_states_back():
    assert Centering(1, 2, center="none")(STATES) is STATES


def test_each_dimension_has_its_own_mean():
    states = torch.tensor([[[1.0, 100.0]], [[3.0, 300.0]]])
    assert Centering(2, 1)(states).tolist() == [[[-1.0, -100.0]], [[1.0, 100.0]]]


@pytest.mark.parametrize("center", ["batch", "running"])
@pytest.mark.parametrize("scope", ["english", "overall", "per_language"])
def test_no_gradient_flows_through_the_mean(center, scope):
    states = STATES.clone().requires_grad_()
    weights = torch.tensor([[1.0, 2.0], [3.0, 5.0]])[..., None]
    (Centering(1, 2, center=center, scope=scope)(states) * weights).sum().backward()
    # With the mean's own gradient these would sum to zero per scope.
    assert torch.equal(states.grad, weights)


def test_running_mean_by_hand():
    module = Centering(1, 2, center="running", momentum=0.5)
    assert module(STATES).squeeze(-1).tolist() == [[-1, 8], [1, 18]]  # the first batch is taken whole: 2
    later = STATES + 4  # batch mean 6, running mean 4
    assert module(later).squeeze(-1).tolist() == [[1, 10], [3, 20]]
    assert module.mean.tolist() == [[4.0]]


def test_running_mean_stands_still_in_evaluation():
    module = Centering(1, 2, center="running", momentum=0.5)
    module(STATES)
    module.eval()
    assert module(STATES + 100).squeeze(-1).tolist() == [[99, 108], [101, 118]]
    assert module.mean.tolist() == [[2.0]]


@pytest.mark.parametrize("scope", ["english", "overall", "per_language"])
def test_resumed_equals_uninterrupted(scope):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(3, 2, 4, generator=generator) for _ in range(6)]
    options = {"center": "running", "scope": scope, "momentum": 0.3}
    whole, first = Centering(4, 2, **options), Centering(4, 2, **options)
    for batch in batches:
        expected = whole(batch)
    for batch in batches[:3]:
        first(batch)
    second = Centering(4, 2, **options)
    second.load_state_dict(first.state_dict())
    for batch in batches[3:]:
        resumed = second(batch)
    assert torch.equal(resumed, expected)
    assert torch.equal(second.mean, whole.mean)


def test_a_language_that_was_never_seen_keeps_no_mean_until_it_comes():
    module = Centering(1, 2, center="running", scope="per_language", momentum=0.5)
    only_english = torch.tensor([[True, False], [True, False]])
    module(STATES, only_english)
    assert module.mean.tolist() == [[2.0], [0.0]]
    assert module.started.tolist() == [True, False]
    module(STATES, None)
    # English moves from 2 to 2; the new language starts at its first mean and not halfway from 0.
    assert module.mean.tolist() == [[2.0], [15.0]]
    module(STATES + 10, only_english)
    assert module.mean.tolist() == [[7.0], [15.0]]


def test_a_batch_without_a_valid_row_subtracts_nothing_and_moves_nothing():
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    assert torch.equal(Centering(1, 2)(STATES, nobody), STATES)
    module = Centering(1, 2, center="running")
    module(STATES)
    module(STATES + 50, nobody)
    assert module.mean.tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"center": "median"}, "center must be one of none, batch, running, not 'median'"),
        ({"scope": "all"}, "scope must be one of english, overall, per_language, not 'all'"),
        ({"momentum": 0.0}, r"momentum must lie in \(0, 1\], not 0\.0"),
        ({"momentum": 1.5}, r"momentum must lie in \(0, 1\], not 1\.5"),
    ],
)
def test_mistakes_name_the_argument_and_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        Centering(4, 2, **options)
