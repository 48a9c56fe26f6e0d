import math

import numpy as np
import pytest
from scipy import stats

from mlc.evaluation.intervals import wilson
from mlc.evaluation.paired import Stratum, change, difference_shown, holm, prompts_needed, share

Z = stats.norm.ppf(0.975)


def column(*counts):
    """One cell: so many prompts with each value."""
    return np.concatenate([np.full(count, value) for value, count in counts])[:, None].astype(float)


def bounds(estimate):
    return estimate.low, estimate.high


def test_a_share_by_hand():
    # 13 of 40: Agresti and Coull add two of each. In one language it is nearly Wilson's interval, as scipy has it.
    found = share([Stratum(column((1, 13), (0, 27)))])
    middle = 15 / 44
    half = Z * math.sqrt(middle * (1 - middle) / 44)
    assert (found.value, found.n) == (13 / 40, 40)
    assert bounds(found) == pytest.approx((middle - half, middle + half))
    expected = stats.binomtest(13, 40).proportion_ci(method="wilson")
    assert bounds(found) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_no_prompt_is_a_gap():
    for values in (np.empty((0, 1)), np.full((3, 1), np.nan), np.empty((0, 3)), np.array([[1.0, np.nan]] * 3)):
        for found in (share([Stratum(values)]), change([Stratum(values)]).estimate):
            assert found.n == 0
            assert np.isnan([found.value, found.low, found.high]).all()
    assert math.isnan(change([Stratum(np.empty((0, 2)))]).p)
    # A class that is missing takes the figure with it.
    assert share([Stratum(column((1, 9))), Stratum(np.empty((0, 1)), -1)]).n == 0


def test_selectivity_by_hand():
    # Harmful: 27 of 30 refused; harmless: 6 of 30. Agresti and Caffo add one to each outcome of each side.
    found = share([Stratum(column((1, 27), (0, 3))), Stratum(column((1, 6), (0, 24)), -1)])
    first, second = 28 / 32, 7 / 32
    half = Z * math.sqrt(first * (1 - first) / 32 + second * (1 - second) / 32)
    assert found.value == pytest.approx(0.7)
    assert bounds(found) == pytest.approx((first - second - half, first - second + half))
    assert found.n == 60


def test_a_paired_difference_by_hand():
    # 100 prompts: 20 only the one refused, 5 only the other. Bonett and Price add one to each.
    found = change([Stratum(column((1, 20), (-1, 5), (0, 75)))])
    gain, loss = 21 / 102, 6 / 102
    error = math.sqrt((gain + loss - (gain - loss) ** 2) / 102)
    assert found.estimate.value == pytest.approx(0.15)
    assert bounds(found.estimate) == pytest.approx((gain - loss - Z * error, gain - loss + Z * error))
    assert found.p == pytest.approx(2 * stats.norm.sf((gain - loss) / error))
    # McNemar's exact test says much the same.
    assert found.p == pytest.approx(stats.binomtest(20, 25).pvalue, abs=0.005)


def test_languages_of_one_prompt_are_one_prompt():
    one = column((1, 12), (0, 8))
    many = np.repeat(one, 7, axis=1)
    alone, together = change([Stratum(one)]), change([Stratum(many)])
    assert together.estimate.value == alone.estimate.value
    assert bounds(together.estimate) == pytest.approx(bounds(alone.estimate))
    assert together.estimate.n == 20
    # Independent languages would tell more.
    independent = np.random.default_rng(1).permuted(many, axis=0)
    assert np.ptp(bounds(change([Stratum(independent)]).estimate)) < 0.7 * np.ptp(bounds(alone.estimate))


def test_cells_count_equally_whatever_they_lack():
    values = np.array([[1, 1, 1], [0, 1, np.nan], [0, np.nan, np.nan]], dtype=float)
    assert share([Stratum(values)]).value == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert share([Stratum(values)]).n == 3


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_agreement_of_few_prompts_proves_little(n):
    nothing = change([Stratum(column((0, n)))]).estimate
    assert nothing.value == 0
    assert nothing.low == -nothing.high < 0
    refused = share([Stratum(np.ones((n, 4)))])
    assert refused.value == refused.high == 1
    assert refused.low == pytest.approx(wilson(n, n).low, abs=0.12)
    everything = share([Stratum(column((1, n))), Stratum(column((0, n)), -1)])
    assert (everything.value, everything.high) == (1, 1)
    assert everything.low < 1


def test_the_p_value_agrees_with_the_interval():
    generator = np.random.default_rng(3)
    excluded = 0
    for _ in range(200):
        values = generator.choice([-1.0, 0.0, 1.0], p=[0.1, 0.7, 0.2], size=(60, 2))
        found = change([Stratum(values)])
        excludes = not found.estimate.low <= 0 <= found.estimate.high
        assert excludes == (found.p < 0.05)
        excluded += excludes
    assert 20 < excluded < 180


def clustered(generator, trials, prompts, cells, shares):
    """[trials, prompts, cells] outcomes that agree within a prompt most of the time, with these shares by cell."""
    common = generator.random((trials, prompts, 1))
    own = generator.random((trials, prompts, cells))
    return np.where(generator.random((trials, prompts, cells)) < 0.8, common, own) < np.asarray(shares)


def covered(estimates, truth):
    return np.mean([found.low <= truth <= found.high for found in estimates])


def test_intervals_cover_what_they_say():
    """Seeded; 400 trials of 30 prompts in 4 languages: 95 % would give 93 to 97 % nearly always."""
    generator = np.random.default_rng(20_260_301)
    shares = np.array([0.9, 0.8, 0.95, 0.7])
    after = clustered(generator, 400, 30, 4, shares).astype(float)
    before = clustered(generator, 400, 30, 4, shares - 0.2).astype(float)
    harmless = clustered(generator, 400, 30, 4, 1 - shares).astype(float)
    rates = [share([Stratum(table)]) for table in after]
    gains = [change([Stratum(table)]).estimate for table in after - before]
    selective = [share([Stratum(table), Stratum(other, -1)]) for table, other in zip(after, harmless, strict=True)]
    for found, truth in ((rates, shares.mean()), (gains, 0.2), (selective, (2 * shares - 1).mean())):
        assert 0.92 <= covered(found, truth) <= 0.99
    # As if every answer were a prompt of its own: it says more than it knows.
    flat = [share([Stratum(table.reshape(-1, 1))]) for table in after]
    assert covered(flat, shares.mean()) < 0.85


def test_holm_by_hand():
    # Sorted: .01 × 4, .02 × 3, .03 × 2, .04 × 1; none below the one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[1])


def test_prompts_needed_by_hand():
    # (1.959964 × sqrt(.3) + .841621 × sqrt(.3 - .01))² / .01
    assert prompts_needed(0.1, 0.3) == math.ceil((1.959964 * 0.3**0.5 + 0.841621 * 0.29**0.5) ** 2 / 0.01) == 234
    assert prompts_needed(1.0, 1.0) == 4
    assert prompts_needed(0.1, 0.3, power=0.9) > 300


def test_so_many_prompts_do_show_the_difference():
    generator = np.random.default_rng(7)
    difference, discordant = 0.15, 0.35
    n = prompts_needed(difference, discordant)
    shares = [(discordant - difference) / 2, 1 - discordant, (discordant + difference) / 2]
    trials = generator.choice([-1.0, 0.0, 1.0], p=shares, size=(600, n))
    shown = np.mean([change([Stratum(values[:, None])]).p < 0.05 for values in trials])
    assert shown == pytest.approx(0.8, abs=0.05)


def test_the_difference_shown_is_the_inverse():
    for n, discordant in ((40, 0.5), (234, 0.3), (1000, 0.2)):
        found = difference_shown(n, discordant)
        assert prompts_needed(found, discordant) == n
    assert math.isnan(difference_shown(5, 0.2))


IMPOSSIBLE = [(0, 0.3), (-0.1, 0.3), (0.4, 0.3), (0.1, 0), (0.1, 1.1), (0.1, 0.3, 1), (math.nan, 0.3)]


@pytest.mark.parametrize("arguments", IMPOSSIBLE)
def test_impossible_questions_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        prompts_needed(*arguments)


def test_no_prompts_show_nothing():
    with pytest.raises(ValueError, match="prompts must be at least 1"):
        difference_shown(0, 0.3)


def test_pseudo_prompts_say_as_much_in_common_as_prompts_do():
    # One cell, and cells that agree: Bonett and Price's interval, whatever the number of cells.
    column = np.array([1.0, 0, 0, 0, -1, 1, 1, 0])[:, None]
    alone, agreeing = (change([Stratum(np.repeat(column, cells, axis=1))]).estimate for cells in (1, 20))
    assert (agreeing.low, agreeing.high) == pytest.approx((alone.low, alone.high))
    padded = np.append(column[:, 0], [1, -1])
    half = Z * padded.std() / math.sqrt(len(padded))
    assert (alone.low, alone.high) == pytest.approx((padded.mean() - half, padded.mean() + half), abs=1e-6)
    # Two cells that differ in one prompt. Deviations by hand: of cells 1, 1, 0, 0, …
    values = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    # With ±1: means over prompts 1/6 and 0; in the first cell the squares sum to 3 - 6/36, in the second to 2.
    of_cells = (3 - 1 / 6 + 2) / 2
    # Deviations of the prompts' means: 1/2 - 1/12, three of -1/12, ±1 - 1/12.
    of_means = (5 / 12) ** 2 + 3 / 144 + (11 / 12) ** 2 + (13 / 12) ** 2
    scale = math.sqrt(of_means / of_cells)
    rows = np.vstack([values, [scale, scale], [-scale, -scale]])
    error = math.sqrt((((rows - rows.mean(axis=0)).mean(axis=1) / 6) ** 2).sum())
    found = change([Stratum(values)]).estimate
    assert (found.low, found.high) == pytest.approx((1 / 12 - Z * error, 1 / 12 + Z * error), abs=1e-6)
