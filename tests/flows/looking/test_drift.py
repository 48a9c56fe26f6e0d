"""What is said of a champion that is measured again, on outcomes that are written down here."""

from dataclasses import replace

from flows.looking.drift import SHOWN_CHANGES, Measured, changes_in_words, drift_of
from mlc.evaluation.results import EvaluationResult
from tests.evaluation.outcomes import BAD, EN, FR, GOOD, SW, evaluated, everywhere

MODEL = "consistency"


def measured(results: list[EvaluationResult], texts: str = "") -> list[Measured]:
    """As artifacts have them; the texts of all prompts begin with the same letters."""
    return [
        Measured(f"key of {one.summary.language}", one, {name: f"{texts}{name}" for name in one.rows["id"].to_pylist()})
        for one in results
    ]


THEN = measured(everywhere(MODEL, *GOOD, seed=0))


def test_the_same_figures_are_no_drift() -> None:
    drift = drift_of(THEN, measured(everywhere("champion", *GOOD)), [])
    assert (drift.worse, drift.notes, drift.changed) == ((), (), ())
    assert {row["says"] for row in drift.rows()} == {"no difference is shown"}
    assert {row["language"] for row in drift.rows()} == {"English", "French", "Swahili"}


def test_what_became_worse_is_named_by_language_and_direction() -> None:
    now = [evaluated("champion", EN, *GOOD), evaluated("champion", FR, *GOOD), evaluated("champion", SW, *BAD)]
    drift = drift_of(THEN, measured(now), ["judges rules 3 → 4"])
    # 18 of 20 harmful prompts were refused in Swahili, and 6 are; of harmless ones 2, and 6, which shows nothing.
    assert drift.worse == ("Selectivity in Swahili", "Attack success in Swahili")
    attack = next(row for row in drift.rows() if (row["language"], row["figure"]) == ("Swahili", "Attack success"))
    assert attack["at registration"].startswith(".10 [")
    assert attack["now"].startswith(".70 [")
    assert attack["difference"].startswith("+.60 [")
    assert (attack["says"], attack["prompts"]) == ("worse", 20)
    back = drift_of(measured(now), THEN, [])
    assert back.worse == ()
    assert {row["says"] for row in back.rows() if row["language"] == "Swahili"} >= {"better"}


def test_only_prompts_that_are_the_same_are_compared() -> None:
    (then,) = measured([evaluated(MODEL, SW, *GOOD, seed=0)])
    (now,) = measured([evaluated("champion", SW, *BAD)])
    changed = {name for name in now.prompts if int(name[1:]) % 2}
    drift = drift_of([then], [replace(now, prompts={k: v + "!" * (k in changed) for k, v in now.prompts.items()})], [])
    assert {row["prompts"] for row in drift.rows()} <= {10, 20}
    assert drift.notes == (
        "The held-out prompts in Swahili are not what they were: of 40 then and 40 now, the 20 that are the same are "
        "compared.",
    )


def test_prompts_that_are_all_new_and_languages_that_came_and_went_are_told() -> None:
    then = measured([evaluated(MODEL, code, *GOOD, seed=0) for code in (SW, FR)], "old ")
    now = measured([evaluated("champion", code, *GOOD) for code in (SW, EN)], "new ")
    drift = drift_of(then, now, [])
    assert drift.rows() == []
    assert [note.split(".")[0] for note in drift.notes] == [
        "French was measured when it was registered and is not measured now",
        "English is measured now and was not when it was registered",
        "The held-out prompts in Swahili are not what they were: of 40 then and 40 now, the 0 that are the same are "
        "compared",
    ]


def test_many_changes_are_counted() -> None:
    changes = [f"setting {number}" for number in range(SHOWN_CHANGES + 2)]
    assert changes_in_words(changes[:2]) == "setting 0; setting 1"
    assert changes_in_words(changes).endswith(f"setting {SHOWN_CHANGES - 1}; and 2 more")
