import pytest
from pydantic import ValidationError

from mlc.settings import nested
from mlc.training.settings import (
    AlignSettings,
    AnswerConfig,
    ConsistencyConfig,
    DecisionConfig,
    Terms,
    TranslatedSettings,
)


def term(**values):
    return ConsistencyConfig.model_validate(values)


# What each form stands for.


@pytest.mark.parametrize("form", ["released", "paper"])
def test_the_published_forms_stand_for_the_published_method(form):
    config = term(form=form)
    assert (config.anchor, config.center, config.layer, config.dim) == ("none", "none", -1, 512)
    assert (config.temperature, config.signed, config.pool) == (0.2, False, "last")


@pytest.mark.parametrize(
    ("values", "form", "pool"), [({}, "cosine", "last_content"), ({"form": "contrastive"}, "contrastive", "last")]
)
def test_our_forms_are_anchored_centred_and_in_the_middle(values, form, pool):
    config = term(**values)
    assert config.pool == pool
    assert config.form == form
    assert (config.anchor, config.center, config.layer, config.dim) == ("english", "batch", 0.5, None)


@pytest.mark.parametrize("form", ["cosine", "contrastive", "released", "paper"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anchor", "english"),
        ("anchor", "none"),
        ("center", "running"),
        ("center", "none"),
        ("layer", 7),
        ("layer", 0.25),
        ("dim", 16),
        ("dim", None),
    ],
)
def test_what_is_written_wins_over_the_form(form, name, value):
    written, plain = term(form=form, **{name: value}), term(form=form)
    assert getattr(written, name) == value
    others = {"anchor", "center", "layer", "dim"} - {name}
    assert all(getattr(written, other) == getattr(plain, other) for other in others)


def test_an_index_and_a_fraction_stay_apart():
    assert isinstance(term(layer=1).layer, int)
    assert isinstance(term(layer=1.0).layer, float)


# Lambda by hand.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"weight": 0}, [0, 0, 0, 0, 0, 0]),
        ({"weight": 0.8}, [0.8] * 6),
        ({"weight": 0.8, "every": 2}, [0.8, 0, 0.8, 0, 0.8, 0]),
        ({"weight": 2.0, "warmup_steps": 4}, [0, 0.5, 1.0, 1.5, 2.0, 2.0]),
        ({"weight": 2.0, "warmup_steps": 4, "every": 3}, [0, 0, 0, 1.5, 0, 0]),
        ({"weight": 2.0, "warmup_steps": 1}, [0, 2.0, 2.0, 2.0, 2.0, 2.0]),
    ],
)
def test_lambda_of_each_step(values, expected):
    assert [term(**values).weight_at(step) for step in range(6)] == pytest.approx(expected)


# The whole alignment.


def test_settings_survive_a_round_trip():
    settings = AlignSettings(consistency=term(form="released", dim=None, layer=3, language_weights={"swh_Latn": 2.0}))
    assert AlignSettings.model_validate(settings.model_dump()) == settings
    assert AlignSettings.model_validate_json(settings.model_dump_json()) == settings


def test_baselines_of_different_terms_are_one():
    terms = [
        term(),
        term(weight=3.0, warmup_steps=2, every=2),
        term(form="released", dim=64),
        term(form="paper", signed=True, temperature=1.0),
        term(form="contrastive", language_weights={"swh_Latn": 2.0}),
        term(control="shuffled", prompts_per_step=2, pool="mean", center_scope="per_language"),
    ]
    baselines = [AlignSettings(consistency=one).without_consistency() for one in terms]
    assert all(baseline == baselines[0] for baseline in baselines)
    assert len({baseline.model_dump_json() for baseline in baselines}) == 1
    assert baselines[0].consistency.weight == 0


def test_the_baseline_keeps_the_rest_of_the_alignment():
    settings = AlignSettings(carrier="dpo", steps=7, batch_size=3, learning_rate=1e-3, max_prompt_tokens=50)
    baseline = settings.without_consistency()
    assert baseline.model_dump(exclude={"consistency"}) == settings.model_dump(exclude={"consistency"})
    assert settings.consistency.weight == 1.0


@pytest.mark.parametrize(
    ("carrier", "strength"), [("sft", None), ("kl", None), ("dpo", 0.1), ("simpo", 2.0), ("orpo", 0.1)]
)
def test_the_strength_follows_the_carrier(carrier, strength):
    teacher = "shipped:tiny" if carrier == "kl" else None
    assert AlignSettings(carrier=carrier, teacher=teacher).strength == strength
    assert AlignSettings(carrier=carrier, teacher=teacher, beta=0.3).strength == 0.3


# Several terms.


def test_terms_share_their_prompts():
    decision, answer = DecisionConfig(weight=1.0, prompts_per_step=3), AnswerConfig(weight=1.0, max_tokens=99)
    both = Terms(decision=decision, answer=answer)
    assert list(both.active) == ["decision", "answer"]
    assert (both.prompts_per_step, both.max_tokens, both.control) == (3, 99, "none")
    assert not both.needs_content
    assert both.needs_answers
    assert Terms(term()).needs_content
    assert not Terms(term(weight=0)).active


def test_what_is_off_decides_nothing():
    settings = AlignSettings(answer=AnswerConfig(weight=1.0), translated=TranslatedSettings(share=0.5))
    off = {"beta", "simpo_gamma", "consistency.temperature", "consistency.signed"}
    assert settings.unused == off | {"decision", "grpo", "mpo", "msd", "cm_align", "balance", "feedback"}
    assert "grpo" not in AlignSettings(carrier="grpo").unused
    alone = {"consistency", "decision", "answer", "translated", "balance", "grpo", "mpo", "msd", "cm_align", "feedback"}
    assert settings.without_consistency().unused == off | alone


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"carrier": "dpo"}, {"beta"}),
        ({"carrier": "simpo"}, {"beta", "simpo_gamma"}),
        ({"consistency": {"form": "contrastive"}}, {"consistency.temperature"}),
        ({"consistency": {"form": "released"}}, {"consistency.temperature", "consistency.signed"}),
        # What a carrier from elsewhere reads is not known.
        ({"carrier": "mlc.training.carriers.sft:SFT"}, {"beta", "simpo_gamma"}),
    ],
)
def test_what_is_read_is_in_keys(given, read):
    known = {"beta", "simpo_gamma", "consistency.temperature", "consistency.signed"}
    assert AlignSettings.model_validate(given).unused & known == known - read


def test_names_are_left_out_at_any_depth():
    left_out = nested({"beta", "consistency.signed", "consistency.temperature"})
    assert left_out == {"beta": True, "consistency": {"signed": True, "temperature": True}}
    facts = AlignSettings().model_dump(exclude=left_out)
    assert "beta" not in facts
    assert "signed" not in facts["consistency"]
    assert facts["consistency"]["form"] == "cosine"
    # A section that is left out is left out whole.
    assert nested({"consistency", "consistency.signed"}) == {"consistency": True}


def test_openings_are_read_where_a_term_is_on():
    own = DecisionConfig(refusal_openings=("No",), compliance_openings=("Yes",))
    assert Terms(decision=own).openings == ()
    assert Terms(decision=own.model_copy(update={"weight": 1.0})).openings == ("No", "Yes")


# Mistakes.


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"form": "spectral"}, "form"),
        ({"form": ["paper"]}, "form"),
        ({"form": None}, "form"),
        ({"weight": -0.1}, "weight"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"every": 0}, "every"),
        ({"temperature": 0}, "temperature"),
        ({"anchor": "first"}, "anchor"),
        ({"center": "median"}, "center"),
        ({"dim": 0}, "dim"),
        ({"pool": "first"}, "pool"),
        ({"prompts_per_step": 0}, "prompts_per_step"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"control": "random"}, "control"),
        ({"language_weights": {"swh_Latn": -1.0}}, "language_weights"),
        ({"language_weights": {"swh_Latn": float("nan")}}, "language_weights"),
        ({"language_weights": {"swh_Latn": float("inf")}}, "language_weights"),
        ({"lambda": 1.0}, "lambda"),
    ],
)
def test_mistakes_name_the_key(values, name):
    with pytest.raises(ValidationError) as error:
        term(**values)
    assert {place["loc"][0] for place in error.value.errors()} == {name}


def test_a_negative_weight_names_its_language():
    with pytest.raises(ValidationError, match=r"the weight of yor_Latn must be finite and at least 0, not -1\.0"):
        term(language_weights={"swh_Latn": 2.0, "yor_Latn": -1.0})


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"accumulation": 0},
        {"learning_rate": 0},
        {"warmup_share": 1.1},
        {"carrier": "ppo"},
        {"beta": 0},
        {"simpo_gamma": -1},
        {"max_answer_tokens": 0},
        {"step": 3},
    ],
)
def test_mistakes_in_the_alignment(values):
    with pytest.raises(ValidationError) as error:
        AlignSettings.model_validate(values)
    assert [place["loc"] for place in error.value.errors()] == [tuple(values)]


def test_a_teacher_is_for_kl_and_kl_needs_one():
    with pytest.raises(ValidationError, match="the carrier kl needs a teacher"):
        AlignSettings(carrier="kl")
    with pytest.raises(ValidationError, match="the carrier sft has no teacher"):
        AlignSettings(carrier="sft", teacher="shipped:tiny")
    assert AlignSettings(carrier="kl", teacher="shipped:tiny").teacher == "shipped:tiny"


def test_a_warm_start_moves_no_teacher_that_is_the_start():
    with pytest.raises(ValidationError, match=r"the aligned checkpoint what answer\.teacher: start keeps"):
        AlignSettings.model_validate({"warm_start": True, "answer": {"teacher": "start"}})
    assert AlignSettings.model_validate({"warm_start": True, "answer": {"weight": 1}}).warm_start


def test_one_prompt_has_nothing_to_contrast_with():
    with pytest.raises(ValidationError, match="the form contrastive has no other prompt"):
        term(form="contrastive", prompts_per_step=1, center="none")
    assert term(form="contrastive", prompts_per_step=2).prompts_per_step == 2


def test_a_batch_mean_of_one_prompt_leaves_nothing_to_learn():
    with pytest.raises(ValidationError, match="prompts_per_step 1"):
        term(prompts_per_step=1)
    for other in ({"weight": 0}, {"center": "none"}, {"center": "running"}, {"center_scope": "overall"}):
        assert term(prompts_per_step=1, **other).prompts_per_step == 1


def test_settings_do_not_change():
    config = term()
    with pytest.raises(ValidationError):
        config.weight = 2.0
