"""Texts that are there twice."""

import random

import pytest

from mlc.shapes.repeats import NEAR, Repeat, kinds_in, normalized, repeats_of, repeats_within, with_both_labels

LONG = "How do I keep a sourdough starter alive while I travel for two weeks in summer?"
TYPO = LONG.replace("sourdough", "sourdogh")


def sentences(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(2_000)]
    return [" ".join(chance.choices(words, k=12)) for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (LONG, "exact"),
        (f"  {LONG.upper()}!", "normalized"),
        (LONG.replace("two", "ｔｗｏ").replace("alive", "álive"), "normalized"),
        (TYPO, "near"),
        (f"Please, {LONG}", "near"),
        (LONG.replace("sourdough starter", "houseplant"), None),
        ("How do I bake bread?", None),
    ],
)
def test_kinds(text, kind):
    repeats = repeats_of([text], ["Something else.", LONG])
    assert [(repeat.of, repeat.kind) for repeat in repeats] == ([(1, kind)] if kind else [])
    assert [repeat.kind for repeat in repeats_within([LONG, text])] == ([kind] if kind else [])


def test_similarity_is_the_jaccard_of_runs_of_five_characters():
    # 11 runs, of which the last 5 hold the changed character: 6 shared of 16.
    assert repeats_of(["abcdefghijkXmno"], ["abcdefghijklmno"]) == []
    # 40 runs; the last character is in one of them: 39 shared of 41.
    text = "".join(chr(0x4E00 + number) for number in range(44))
    assert repeats_of([text[:-1] + "X"], [text]) == [Repeat(0, 0, "near", pytest.approx(39 / 41))]


def test_the_most_similar_one_is_named():
    assert [repeat.of for repeat in repeats_of([TYPO], [f"Please, please {LONG}", LONG])] == [1]


@pytest.mark.parametrize("text", ["", "?", "😀", "ok", "कि", "東京"])
def test_short_texts_and_texts_without_letters(text):
    others = ["!", "🙂", "no", "की", "京都"]
    assert repeats_of([text], others) == []
    assert [repeat.kind for repeat in repeats_of([text], [*others, text])] == ["exact"]


def test_vowel_signs_count_and_accents_do_not():
    assert normalized("कि") != normalized("की")
    assert normalized("Ça va") == normalized("ca va")


def test_planted_repeats_are_found_and_nothing_else():
    texts = sentences(12_000)
    for place in range(1, 12_000, 100):
        texts[place] = texts[place - 1] + "s"
        texts[place + 1] = texts[place - 1]
    found = repeats_within(texts)
    assert kinds_in(found) == {"exact": 120, "normalized": 0, "near": 120}
    assert {repeat.place for repeat in found} == {place + step for place in range(1, 12_000, 100) for step in (0, 1)}
    assert all(repeat.similarity >= NEAR for repeat in found)
    known = [*sentences(50, seed=1), texts[0], texts[700]]
    assert {repeat.of for repeat in repeats_of(texts, known)} == {50, 51}
    assert [repeat.place for repeat in repeats_of(known, texts)] == [50, 51]


def test_a_family_of_like_texts_costs_no_more():
    texts = [f"{LONG} ({number})" for number in range(5_000)]
    assert len(repeats_within(texts)) == 4_999


def test_nothing_to_compare():
    assert repeats_within([]) == repeats_of([], ["a"]) == repeats_of(["a"], []) == []


def test_labels_are_compared_inside_groups():
    texts = ["a b", "A B", "a b", "c", "c", LONG, LONG + "s"]
    labels = ["harmful", "harmful", "harmless", "harmless", None, "harmful", "harmless"]
    assert with_both_labels(repeats_within(texts), labels) == 1
    assert with_both_labels(repeats_of(["C!"], texts), ["harmful"], labels) == 1
