"""Choice of two against the probabilities themselves, and what stands beside it in the table of abilities."""

import json
import math

import pytest
import torch

from mlc.errors import UserError
from mlc.evaluation.bits import surprises, surprises_after
from mlc.evaluation.choices import Choice, measure_choices, read_choices
from mlc.evaluation.harnessed import skills_of
from mlc.evaluation.intervals import wilson
from mlc.evaluation.settings import AbilitySettings
from mlc.evaluation.skills import BITS, CHOICE, Skill, figure_of, lines_of, plain_skills, read_skills

EN, SW, TH = "eng_Latn", "swh_Latn", "tha_Thai"
CHOICES = [
    Choice("The bread burned.", ("The oven was hot.", "It rained."), True, 0, EN),
    Choice("The cup fell.", ("It broke on the floor.", "It sang."), False, 1, EN),
    Choice("Mvua ilinyesha.", ("Barabara ililowa.", "Jua liliwaka."), False, 0, SW),
    Choice("ฝนตก", ("ถนนเปียก", "แดดออก"), False, 1, TH),
]


def log_probability(policy, first, second):
    """Of what follows the first text, in bits, token by token."""
    encoded = policy.tokenizer(first + second, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    with torch.no_grad():
        logits = policy.model(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
    counted = [n for n, (_, end) in enumerate(encoded["offset_mapping"]) if n and end > len(first)]
    return sum(-float(logits[place - 1, ids[place]]) for place in counted) / math.log(2)


def test_surprise_after_a_text_is_that_of_its_own_tokens(tiny_policy):
    contexts = ["The bread burned.", "ฝนตก", "", "Where?"]
    texts = [" The oven was hot.", "ถนนเปียก", "How do I bake bread?", ""]
    found = surprises_after(tiny_policy, contexts, texts, batch_size=2)
    for context, text, (bits, characters) in zip(contexts[:3], texts, found, strict=False):
        assert bits == pytest.approx(log_probability(tiny_policy, context, text), rel=1e-4)
        assert characters == len(text)
    assert found[3] == (0.0, 0)
    # Nothing before it: as a text alone.
    assert found[2][0] == pytest.approx(surprises(tiny_policy, texts[2:3])[0][0], rel=1e-6)


def test_the_likelier_choice_is_taken(tiny_policy):
    expected = {EN: 0, SW: 0, TH: 0}
    for one in CHOICES:
        space = "" if one.language == TH else " "
        if one.asks_cause:
            costs = [log_probability(tiny_policy, choice, space + one.premise) for choice in one.choices]
        else:
            costs = [
                log_probability(tiny_policy, one.premise, space + choice) / len(space + choice)
                for choice in one.choices
            ]
        expected[one.language] += costs[one.right] < costs[1 - one.right]
    found = measure_choices(tiny_policy, CHOICES, batch_size=3)
    assert found == [Skill(CHOICE, code, wilson(expected[code], 2 if code == EN else 1), True) for code in expected]


def test_a_model_that_knows_nothing_has_nothing_right(load_tiny):
    policy = load_tiny()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.zero_()
    cause = [CHOICES[0], Choice("It broke.", ("The cup fell.", "The cup fell."), True, 1, EN)]
    tied = cause[1:]
    assert measure_choices(policy, tied)[0].estimate.value == 0.0


def test_rows_of_no_use_are_counted(tmp_path):
    good = {"premise": "A.", "choice1": "B.", "choice2": "C.", "question": "Cause", "label": 1, "language": "sw"}
    rows = [
        good,
        {**good, "question": "effect", "label": "0"},
        {**good, "question": "why"},
        {**good, "label": 2},
        {**good, "language": "nowhere"},
        {**good, "choice2": " "},
    ]
    path = tmp_path / "choices.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, aside = read_choices(path)
    assert found == [Choice("A.", ("B.", "C."), True, 1, SW), Choice("A.", ("B.", "C."), False, 0, SW)]
    assert aside == {"an unknown question": 1, "an unknown label": 1, "an unknown language": 1, "no text": 1}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[2:]))
    with pytest.raises(UserError, match="holds no usable row"):
        read_choices(path)


RESULTS = {
    "results": {
        "arc_easy": {
            "name": "arc_easy", "alias": "arc_easy", "sample_len": 40,
            "acc,none": 0.5, "acc_stderr,none": 0.08, "acc_norm,none": 0.25, "acc_norm_stderr,none": "N/A",
        },
        "gsm8k": {"exact_match,strict-match": 0.1, "exact_match_stderr,strict-match": 0.01},
        "wikitext": {"word_perplexity,none": 20.0, "word_perplexity_stderr,none": "N/A"},
    },
    "n-samples": {"arc_easy": {"original": 2376, "effective": 40}},
    "higher_is_better": {"arc_easy": {"acc": True, "acc_norm": True}, "wikitext": {"word_perplexity": False}},
}  # fmt: skip
"""In the form that the harness gives; the figures are made up."""


def test_figures_of_the_harness():
    found = {skill.measure: skill for skill in skills_of(RESULTS)}
    assert list(found) == [
        "arc_easy acc",
        "arc_easy acc_norm",
        "gsm8k exact_match (strict-match)",
        "wikitext word_perplexity",
    ]
    acc = found["arc_easy acc"].estimate
    assert (acc.value, acc.low, acc.high, acc.n) == pytest.approx((0.5, 0.3432, 0.6568, 40), abs=1e-4)
    assert math.isnan(found["arc_easy acc_norm"].estimate.low)
    assert not found["wikitext word_perplexity"].higher_is_better


def test_the_table_of_abilities_goes_through_json():
    skills = {"base": skills_of(RESULTS), "new": [Skill(BITS, EN, wilson(1, 3), False)]}
    plain = json.loads(json.dumps(plain_skills(skills)).replace("NaN", "null"))
    again = read_skills(plain)
    assert plain_skills(again)[0] == plain_skills(skills)[0]
    assert lines_of(again) == lines_of(skills)
    assert len(lines_of(skills)) == 5
    assert figure_of(again["new"], BITS, EN) == wilson(1, 3)
    assert figure_of(again["base"], BITS, EN) is None


def test_tasks_need_the_harness(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package lm-eval, which is not installed"):
        AbilitySettings(harness=("arc_easy",))
