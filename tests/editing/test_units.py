"""Safety units: values by hand, an independent computation, streaming, degenerate input."""

import math
import statistics

import pytest
import torch

from mlc.editing.settings import UnitSettings
from mlc.editing.units import Moments, SafetyUnits, UnitStatistics, choose_units


def statistics_of(harmful, harmless, batch=None):
    """Statistics of [N, 2, M] activations: gate, then up."""
    found = UnitStatistics.empty(harmful.shape[-1])
    for is_harmful, activations in ((True, harmful), (False, harmless)):
        for part in activations.split(batch or max(len(activations), 1)):
            found.add("gate_proj", part[:, 0], harmful=is_harmful)
            found.add("up_proj", part[:, 1], harmful=is_harmful)
    return found


def random_activations(seed, prompts, units, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(prompts, 2, units, generator=generator, dtype=torch.float64) + shift


def test_values_by_hand():
    # Gate unit 0 goes from 0 ± 1 to 4 ± 1, the other three do not differ in the mean.
    harmful = torch.tensor([[[3.0, 1.0], [1.0, 1.0]], [[5.0, -1.0], [-1.0, -1.0]]])
    harmless = torch.tensor([[[-1.0, 1.0], [1.0, 1.0]], [[1.0, -1.0], [-1.0, -1.0]]])
    found = statistics_of(harmful, harmless).contrast()
    assert found["gate_proj"].difference_M.tolist() == [4.0, 0.0]
    # Pooled variance (2 + 2) / 2, so d = 4 / √2. Δ = (4, 0, 0, 0): mean 1, standard deviation √3.
    assert found["gate_proj"].d_M.tolist() == pytest.approx([4 / math.sqrt(2), 0.0])
    assert found["gate_proj"].z_M.tolist() == pytest.approx([3 / math.sqrt(3), -1 / math.sqrt(3)])
    assert found["up_proj"].z_M.tolist() == pytest.approx([-1 / math.sqrt(3)] * 2)
    alone = statistics_of(harmful, harmless).contrast("projection")
    assert alone["gate_proj"].z_M.tolist() == pytest.approx([1.0, -1.0])
    assert alone["up_proj"].z_M.tolist() == [0.0, 0.0]


def test_against_the_standard_library():
    harmful, harmless = random_activations(0, 9, 5, shift=0.4), random_activations(1, 6, 5)
    found = statistics_of(harmful, harmless, batch=4).contrast()
    deltas = [
        statistics.fmean(harmful[:, side, unit].tolist()) - statistics.fmean(harmless[:, side, unit].tolist())
        for side in range(2)
        for unit in range(5)
    ]
    centre, spread = statistics.fmean(deltas), statistics.pstdev(deltas)
    for side, name in enumerate(("gate_proj", "up_proj")):
        for unit in range(5):
            one, two = harmful[:, side, unit].tolist(), harmless[:, side, unit].tolist()
            pooled = (8 * statistics.variance(one) + 5 * statistics.variance(two)) / 13
            delta = deltas[side * 5 + unit]
            assert float(found[name].d_M[unit]) == pytest.approx(delta / math.sqrt(pooled), rel=1e-12)
            assert float(found[name].z_M[unit]) == pytest.approx((delta - centre) / spread, rel=1e-12)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_streaming_is_stable_and_equals_all_at_once(batch):
    activations = random_activations(2, 300, 4) * 1e-3 + 1e5
    found = Moments.empty(8)
    for part in activations.flatten(1).split(batch):
        found.add(part)
    exact = activations.flatten(1)
    assert found.count == 300
    assert torch.allclose(found.mean_M, exact.mean(0), rtol=1e-14)
    # Sums of squares would hold nothing of a spread of 1e-3 around 1e5 here.
    assert torch.allclose(found.squares_M / 299, exact.var(0), rtol=1e-6)


def test_streaming_equals_all_at_once_to_1e_10():
    harmful, harmless = random_activations(3, 211, 30, shift=3.0), random_activations(4, 190, 30, shift=2.5)
    one, two = statistics_of(harmful, harmless, 8).contrast(), statistics_of(harmful, harmless).contrast()
    for name in one:
        for field in ("difference_M", "z_M", "d_M"):
            assert torch.allclose(getattr(one[name], field), getattr(two[name], field), rtol=1e-10, atol=1e-10)


def test_merging_halves_gives_the_whole():
    activations = random_activations(5, 40, 3).flatten(1)
    halves = [Moments.empty(6) for _ in range(3)]
    halves[0].add(activations[:11])
    halves[1].add(activations[11:])
    halves[0].merge(halves[1])
    halves[0].merge(halves[2])
    assert halves[0].count == 40
    assert torch.allclose(halves[0].squares_M, (activations - activations.mean(0)).square().sum(0), rtol=1e-12)


def planted(units=200):
    """Gate unit 3 differs by much of its spread; up unit 5 by more than others in the mean, but within its spread."""
    harmful, harmless = random_activations(6, 400, units) * 0.1, random_activations(7, 400, units) * 0.1
    harmful[:, 0, 3] += 0.15
    harmful[:, 1, 5] *= 100
    harmless[:, 1, 5] *= 100
    harmful[:, 1, 5] += 4.0 - harmful[:, 1, 5].mean()
    harmless[:, 1, 5] -= harmless[:, 1, 5].mean()
    return statistics_of(harmful, harmless)


@pytest.mark.parametrize(
    ("settings", "gate", "up"),
    [
        ({}, [3], [5]),
        ({"combine": "intersection"}, [], []),
        ({"d_threshold": 3.0}, [], [5]),
        ({"z_threshold": 1e6}, [3], []),
        ({"combine": "intersection", "z_threshold": 0.0, "d_threshold": 0.3}, [3], [5]),
    ],
)
def test_thresholds(settings, gate, up):
    found = choose_units(planted(), UnitSettings.model_validate(settings))
    assert found.indices["gate_proj"].tolist() == gate
    assert found.indices["up_proj"].tolist() == up
    assert found.share == (len(gate) + len(up)) / 400


def test_thresholds_are_one_sided():
    harmful, harmless = random_activations(6, 50, 20), random_activations(7, 50, 20)
    harmful[:, 0, 3] -= 8
    assert 3 not in choose_units(statistics_of(harmful, harmless), UnitSettings()).indices["gate_proj"].tolist()


@pytest.mark.parametrize("thresholds", [{}, {"z_threshold": -1.0, "d_threshold": -1.0}])
def test_identical_prompts_have_no_units(thresholds):
    activations = random_activations(8, 12, 20, shift=5.0)
    # The same prompts in other batches differ by rounding.
    rounding = activations * (1 + 1e-7 * random_activations(9, 12, 20))
    for other in (activations, rounding):
        found = choose_units(statistics_of(activations, other), UnitSettings.model_validate(thresholds))
        assert found.count == 0


def test_constant_units():
    harmful, harmless = torch.zeros(3, 2, 4), torch.zeros(3, 2, 4)
    harmful[:, 0, 1] = 1.0
    found = statistics_of(harmful, harmless)
    assert found.contrast()["gate_proj"].d_M.tolist() == [0.0, math.inf, 0.0, 0.0]
    assert choose_units(found, UnitSettings()).indices["gate_proj"].tolist() == [1]


def test_a_missing_class_is_an_error():
    activations = random_activations(10, 3, 4)
    with pytest.raises(ValueError, match="not 3 harmful, 0 harmless"):
        statistics_of(activations, activations[:0]).contrast()


def test_one_prompt_of_each_class_has_differences_but_no_spread():
    found = statistics_of(random_activations(11, 1, 4), random_activations(12, 1, 4)).contrast()
    assert found["gate_proj"].d_M.tolist() == [0.0] * 4
    assert torch.isfinite(found["gate_proj"].z_M).all()


def test_jaccard():
    def units(gate, up):
        return SafetyUnits({"gate_proj": torch.tensor(gate), "up_proj": torch.tensor(up)}, 10)

    one = units([1, 2], [3])
    assert one.jaccard(one) == 1.0
    # A unit of the other projection is another unit: {g1, g2, u3} and {g2, u1, u3}.
    assert one.jaccard(units([2], [1, 3])) == 0.5
    assert one.jaccard(units([], [])) == 0.0
    assert units([], []).jaccard(units([], [])) == 1.0
