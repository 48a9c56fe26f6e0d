"""The mapping of methods: each is whole, and what is made follows from what is asked for."""

import pytest

from mlc import catalogue
from mlc.errors import UserError
from mlc.methods import BASE, Method, in_order, resolve_method
from mlc.methods.consistency import CONSISTENCY, SHUFFLED, SHUFFLED_WITHIN_CLASS
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.training.settings import AlignSettings, AnswerConfig, TranslatedSettings

METHODS = {name: resolve_method(name) for name in catalogue.METHODS.places}
SETTINGS = AlignSettings.model_validate({"steps": 7, "warm_start": True, "consistency": {"weight": 2.0}})


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_method_names_methods_that_there_are(method: Method) -> None:
    assert method.start in (BASE, *METHODS)
    assert method.baseline in (BASE, *METHODS)
    assert set(method.controls) <= set(METHODS)
    assert method.name not in (method.start, method.baseline, *method.controls)
    assert method.label
    assert method.name == next(name for name, known in METHODS.items() if known is method)
    assert method.about[0].islower()
    assert not method.about.endswith(".")


def test_a_model_needs_what_the_one_that_it_starts_from_needs() -> None:
    for method in METHODS.values():
        if method.start != BASE:
            assert method.needs >= METHODS[method.start].needs


def test_labels_tell_methods_apart() -> None:
    assert len({method.label for method in METHODS.values()}) == len(METHODS)


def test_what_each_method_trains_with() -> None:
    trained = CONSISTENCY.alignment(SETTINGS)
    assert (trained.steps, trained.consistency.weight, trained.warm_start) == (7, 2.0, True)
    plain = ENGLISH_ONLY.alignment(SETTINGS)
    assert (plain.steps, plain.consistency.weight, plain.warm_start) == (7, 0, False)
    for control in (SHUFFLED, SHUFFLED_WITHIN_CLASS):
        trained = control.alignment(SETTINGS)
        assert trained.consistency.weight == 2.0
        assert f"consistency-{trained.consistency.control.replace('_', '-')}" == control.name
        # A warm start would take over a checkpoint that the exact pairs made.
        assert not trained.warm_start


TERMS = ["consistency", "answer", "decision"]
TERMS += ["consistency+answer", "consistency+decision", "answer+decision", "consistency+answer+decision"]
OTHERS = ["translated-sft", "translated-pairs", "localized-refusals", "mpo", "msd", "sdrrl"]
CONTROLLED = [*TERMS, *OTHERS]


@pytest.mark.parametrize("name", CONTROLLED)
def test_controls_differ_from_their_method_in_nothing_else(name: str) -> None:
    method = METHODS[name]
    settings = method.alignment(SETTINGS)
    shown = settings.model_dump()
    assert len(method.controls) == 4
    for control in method.controls[:3]:
        trained = METHODS[control].alignment(SETTINGS)
        wanted = control.removeprefix(f"{name}-").replace("-", "_")
        other = trained.model_dump()
        read = [*trained.terms.active, *(["translated"] if trained.translated.share else [])]
        for section in read:
            assert other[section].pop("control") == wanted
            other[section]["control"] = "none"
        assert other | {"warm_start": True} == shown | {"warm_start": True}
        assert not trained.warm_start
        assert METHODS[control].own_answers == method.own_answers
        assert METHODS[control].localized == method.localized
    assert METHODS[method.controls[3]].alignment(SETTINGS).steps == 2 * SETTINGS.steps


def test_each_method_has_its_terms_and_no_others() -> None:
    terms = {name: set(METHODS[name].alignment(SETTINGS).terms.active) for name in CONTROLLED}
    assert terms == {name: set(name.split("+")) for name in TERMS} | {name: set() for name in OTHERS}
    # A configured weight is not overridden.
    settings = SETTINGS.model_copy(update={"answer": AnswerConfig(weight=0.25)})
    assert METHODS["answer"].alignment(settings).answer.weight == 0.25
    assert METHODS["consistency"].alignment(settings).answer.weight == 0


def test_controls_of_other_kinds_differ_in_one_choice() -> None:
    for name, field in (
        ("cm-align", "own_pairs"),
        ("gate", "permuted"),
        ("policy-gate", "permuted"),
        ("translate-test", "permuted"),
        ("consistency+gate", "permuted"),
        ("mpo+gate", "permuted"),
        ("consistency+edit", "permuted"),
        ("refusal-direction", "permuted"),
    ):
        method = resolve_method(name)
        control, *more = (resolve_method(other) for other in method.controls)
        alone = method.start == "base" or method.recipe in ("edit", "steer")
        assert [other.name for other in more] == ([] if alone else ["english-more-steps"])
        assert getattr(control, field) != getattr(method, field)
        told = {"name", "label", "about", "controls", field}
        assert {key: own for key, own in vars(control).items() if key not in told} == {
            key: own for key, own in vars(method).items() if key not in told
        }
    settings = METHODS["cm-align"].alignment(SETTINGS.model_copy(update={"beta": 2.5}))
    assert (settings.carrier, settings.beta, settings.steps) == ("dpo", None, SETTINGS.steps)


@pytest.mark.parametrize(("share", "accumulation"), [(0.0, 2), (0.5, 2), (0.75, 4)])
def test_translated_examples_come_on_top_of_the_english_ones(share: float, accumulation: int) -> None:
    settings = SETTINGS.model_copy(update={"translated": TranslatedSettings(share=share)})
    trained = METHODS["translated-sft"].alignment(settings)
    assert trained.translated.share == (share or 0.5)
    assert trained.accumulation == accumulation


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (["english-only"], ["english-only"]),
        (["edit"], ["english-only", "edit"]),
        (["policy-edit", "consistency"], ["policy-edit", "consistency"]),
        (["consistency+edit", "english-only"], ["consistency", "consistency+edit", "english-only"]),
        (["edit", "english-only"], ["english-only", "edit"]),
    ],
)
def test_each_is_made_after_the_one_that_it_starts_from(names: list[str], made: list[str]) -> None:
    assert [method.name for method in in_order(names)] == made


def test_any_method_of_the_catalogue_can_stand_behind_a_gate() -> None:
    gated = resolve_method("mpo+gate")
    assert (gated.name, gated.start, gated.recipe) == ("mpo+gate", "mpo", "gate")
    assert gated.needs == METHODS["mpo"].needs | {"class labels"}
    assert resolve_method("english-only+gate").name == "gate"
    assert [method.name for method in in_order(["consistency+gate"])] == ["consistency", "consistency+gate"]
    assert [method.name for method in in_order(["mpo+gate-permuted-labels"])][-2:] == [
        "mpo",
        "mpo+gate-permuted-labels",
    ]
    with pytest.raises(UserError, match="'gate' has a gate already"):
        resolve_method("gate+gate")
    with pytest.raises(UserError, match="is not in the catalogue"):
        resolve_method("tests.methods.own:SLOW+gate")


def test_methods_that_start_from_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def circle(name: str, start: str) -> Method:
        return Method(name=name, label=name, about="x", needs=frozenset(), start=start)

    circles = {"one": circle("one", "two"), "two": circle("two", "one")}
    monkeypatch.setattr("mlc.methods.resolve_method", circles.__getitem__)
    with pytest.raises(UserError, match="one, two start from each other"):
        in_order(["one"])


def test_an_own_method_is_found_by_its_place() -> None:
    assert resolve_method("tests.methods.own:SLOW").alignment(SETTINGS).learning_rate == SETTINGS.learning_rate / 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RECIPE", "has the recipe 'distil': take one of train, edit"),
        ("RAISING", r"cannot make its alignment \(AttributeError"),
        ("NOTHING", "makes its alignment a NoneType"),
        ("MISSPELT", "sets 'learning_rte', which is no setting of align"),
        ("NO_STEPS", r"sets align\.steps to what it cannot be"),
        ("EDITING", "add 'translated prompts' to its needs"),
        ("ANSWERING", "add 'translated prompts' to its needs"),
    ],
)
def test_a_method_of_ones_own_that_cannot_be_made_is_told_at_once(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve_method(f"tests.methods.own:{name}")


def test_a_method_of_ones_own_starts_from_another_one_in_its_module() -> None:
    first, second = in_order(["tests.methods.own:SECOND"])
    assert (first.name, second.name, second.start) == ("first", "second", "first")
    assert resolve_method("tests.methods.own:SECOND").baseline == "first"
