import pytest
from pydantic import ValidationError

from mlc.training.settings import AlignSettings, ConsistencySettings


def term(**values):
    return ConsistencySettings.model_validate(values)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_the_published_forms_stand_for_the_published_method(form):
    settings = term(form=form)
    assert (settings.anchor, settings.center, settings.layer, settings.dim) == ("none", "none", -1, 512)
    assert (settings.temperature, settings.signed, settings.pool) == (0.2, False, "last")


@pytest.mark.parametrize("values", [{}, {"form": "cosine"}])
def test_the_default_form_is_anchored_centred_and_in_the_middle(values):
    settings = term(**values)
    assert settings.form == "cosine"
    assert (settings.anchor, settings.center, settings.layer, settings.dim) == ("english", "batch", 0.5, None)


@pytest.mark.parametrize("form", ["cosine", "released", "paper"])
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


def test_settings_survive_a_round_trip():
    settings = AlignSettings(consistency=term(form="released", dim=None, layer=3))
    assert AlignSettings.model_validate(settings.model_dump()) == settings
    assert AlignSettings.model_validate_json(settings.model_dump_json()) == settings


def test_baselines_of_different_terms_are_one():
    terms = [
        term(),
        term(weight=3.0),
        term(form="released", dim=64),
        term(form="paper", signed=True, temperature=1.0),
        term(control="shuffled", prompts_per_step=2, pool="mean", center_scope="per_language"),
    ]
    baselines = [AlignSettings(consistency=one).without_consistency() for one in terms]
    assert all(baseline == baselines[0] for baseline in baselines)
    assert len({baseline.model_dump_json() for baseline in baselines}) == 1
    assert baselines[0].consistency.weight == 0


def test_the_baseline_keeps_the_rest_of_the_alignment():
    settings = AlignSettings(steps=7, batch_size=3, learning_rate=1e-3, max_prompt_tokens=50)
    baseline = settings.without_consistency()
    assert baseline.model_dump(exclude={"consistency"}) == settings.model_dump(exclude={"consistency"})
    assert settings.consistency.weight == 1.0


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"form": "spectral"}, "form"),
        ({"form": ["paper"]}, "form"),
        ({"form": None}, "form"),
        ({"weight": -0.1}, "weight"),
        ({"temperature": 0}, "temperature"),
        ({"anchor": "first"}, "anchor"),
        ({"center": "median"}, "center"),
        ({"dim": 0}, "dim"),
        ({"pool": "first"}, "pool"),
        ({"prompts_per_step": 0}, "prompts_per_step"),
        ({"control": "random"}, "control"),
        ({"lambda": 1.0}, "lambda"),
    ],
)
def test_mistakes_name_the_key(values, name):
    with pytest.raises(ValidationError) as error:
        term(**values)
    assert {place["loc"][0] for place in error.value.errors()} == {name}


@pytest.mark.parametrize(
    "values",
    [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"warmup_share": 1.1}, {"carrier": "dpo"}, {"step": 3}],
)
def test_mistakes_in_the_alignment(values):
    with pytest.raises(ValidationError) as error:
        AlignSettings.model_validate(values)
    assert [place["loc"] for place in error.value.errors()] == [tuple(values)]


def test_a_batch_mean_of_one_prompt_leaves_nothing_to_learn():
    with pytest.raises(ValidationError, match="prompts_per_step 1"):
        term(prompts_per_step=1)
    for other in ({"weight": 0}, {"center": "none"}, {"center": "running"}, {"center_scope": "overall"}):
        assert term(prompts_per_step=1, **other).prompts_per_step == 1


def test_settings_do_not_change():
    settings = term()
    with pytest.raises(ValidationError):
        settings.weight = 2.0
