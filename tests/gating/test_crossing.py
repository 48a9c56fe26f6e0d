"""What a gate knows of prompts that it was not fitted on, and where it reads best."""

from typing import Any

import pytest
import torch

from mlc.errors import UserError
from mlc.gating.crossing import FOLDS, best_place, cross_margins, sample_of, separations
from mlc.gating.fitting import fit_score
from mlc.gating.reading import Place, Read, joined
from mlc.gating.thresholds import matched_threshold

GIVEN: dict[str, Any] = {"rank": 3, "ridge": 0.1}
COUNT = 40
HARMFUL = torch.arange(COUNT) % 2 == 0


def states(seed: int, told: float) -> torch.Tensor:
    """[N, 3] in which the first entry tells the classes apart by so many standard deviations."""
    found = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found[:, 0] += told * torch.where(HARMFUL, 1.0, -1.0)
    return found


def both(own: torch.Tensor, there: torch.Tensor, rows: list[int] | None = None) -> dict[str, Read]:
    places = torch.tensor(range(COUNT) if rows is None else rows)
    return {"eng_Latn": Read(torch.arange(COUNT), own), "spa_Latn": Read(places, there[places])}


def test_each_prompt_is_scored_by_what_was_fitted_on_the_other_folds() -> None:
    own, there = states(0, 1.0), states(1, 1.0)
    found = cross_margins(both(own, there), HARMFUL, **GIVEN)
    # Classes alternate, so that two neighbours go to one fold.
    folds = torch.arange(COUNT) // 2 % FOLDS
    for fold in range(FOLDS):
        aside = folds == fold
        score = fit_score(own[~aside], HARMFUL[~aside], **GIVEN)
        torch.testing.assert_close(found["eng_Latn"][aside], score.of(own[aside]))
        threshold = matched_threshold(score.of(there[~aside]), score.of(own[~aside]))
        torch.testing.assert_close(found["spa_Latn"][aside], score.of(there[aside]) - threshold)


def test_where_a_language_lies_changes_no_margin() -> None:
    own, there = states(0, 1.0), states(1, 1.0)
    shift = torch.tensor([30.0, -50.0, 7.0], dtype=torch.float64)
    near, far = (cross_margins(both(own, states_there), HARMFUL, **GIVEN) for states_there in (there, there + shift))
    torch.testing.assert_close(near["spa_Latn"], far["spa_Latn"])


def test_translations_that_are_missing_leave_no_trace_in_english() -> None:
    own, there = states(0, 1.0), states(1, 1.0)
    all_of_them = cross_margins(both(own, there), HARMFUL, **GIVEN)
    # The second one lies in a fold in which no other has a translation.
    for rows in ([3, 4, 10, 39], [5]):
        some = cross_margins(both(own, there, rows), HARMFUL, **GIVEN)
        assert some["spa_Latn"].shape == (len(rows),)
        assert some["spa_Latn"].isfinite().all()
        torch.testing.assert_close(some["eng_Latn"], all_of_them["eng_Latn"])


def test_labels_that_say_nothing_separate_nothing() -> None:
    # In one direction more than there are prompts, a score fits any labels it was fitted on.
    generator = torch.Generator().manual_seed(4)
    own = torch.randn(COUNT, 2 * COUNT, generator=generator, dtype=torch.float64)
    read = {"eng_Latn": Read(torch.arange(COUNT), own)}
    score = fit_score(own, HARMFUL, rank=COUNT, ridge=1e-4)
    assert ((score.of(own) > 0) == HARMFUL).all()
    found = separations(cross_margins(read, HARMFUL, rank=COUNT, ridge=1e-4), read, HARMFUL)["eng_Latn"]
    assert found is not None
    assert 0.25 < found < 0.75


def test_one_prompt_of_a_class_cannot_be_left_out() -> None:
    own = torch.tensor([[1.0], [-1.0], [-2.0]])
    harmful = torch.tensor([True, False, False])
    read = {"eng_Latn": Read(torch.arange(3), own)}
    wanted = fit_score(own, harmful, **GIVEN).of(own)
    torch.testing.assert_close(cross_margins(read, harmful, **GIVEN)["eng_Latn"], wanted)


def test_separations_by_hand() -> None:
    harmful = torch.tensor([True, True, False, False])
    read = {
        "eng_Latn": Read(torch.arange(4), torch.zeros(4, 1)),
        "spa_Latn": Read(torch.tensor([0, 1]), torch.zeros(2, 1)),
    }
    scores = {"eng_Latn": torch.tensor([3.0, 1.0, 2.0, 0.0]), "spa_Latn": torch.tensor([1.0, 2.0])}
    assert separations(scores, read, harmful) == {"eng_Latn": 0.75, "spa_Latn": None}


def test_the_place_is_where_translations_are_told_apart_not_where_english_is() -> None:
    loud, told = states(0, 5.0), states(1, 1.5)
    found: dict[Place, dict[str, Read]] = {
        (9, "last"): both(loud, states(2, 0.0)),
        (5, "mean"): both(told, states(3, 1.5)),
        (1, "last"): both(told, states(4, 0.5)),
    }
    assert best_place(found, HARMFUL, **GIVEN) == (5, "mean")
    # Where there are no translations, English has to do.
    alone = {place: {"eng_Latn": by_code["eng_Latn"]} for place, by_code in found.items()}
    assert best_place(alone, HARMFUL, **GIVEN) == (9, "last")


def test_a_place_without_a_score_is_passed_over() -> None:
    same = torch.ones(COUNT, 3)
    found: dict[Place, dict[str, Read]] = {(9, "last"): both(same, same), (5, "last"): both(states(0, 1.0), same)}
    assert best_place(found, HARMFUL, **GIVEN) == (5, "last")
    with pytest.raises(UserError, match="the same state"):
        best_place({(9, "last"): both(same, same)}, HARMFUL, **GIVEN)


def test_a_sample_has_as_many_of_both_classes_as_there_are() -> None:
    harmful = torch.tensor([True] * 6 + [False] * 2 + [True])
    assert sample_of(harmful, 4) == [0, 1, 6, 7]
    assert sample_of(harmful, 6) == [0, 1, 2, 3, 6, 7]
    assert sample_of(harmful, 99) == list(range(9))


def test_parts_are_put_together_in_order() -> None:
    read = Read(torch.arange(4), torch.arange(8).reshape(4, 2))
    first, rest = (Read(read.rows_M[rows], read.states_MH[rows]) for rows in ([1, 3], [0, 2]))
    again = joined([first, rest])
    assert (again.rows_M.tolist(), again.states_MH.tolist()) == (read.rows_M.tolist(), read.states_MH.tolist())
    assert first.among([1, 2, 3]).rows_M.tolist() == [0, 2]
