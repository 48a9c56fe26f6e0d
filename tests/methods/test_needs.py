"""What methods need of the training prompts is found out before anything is made of them."""

import re

import pyarrow as pa
import pytest

from mlc.errors import UserError
from mlc.left_out import LeftOut
from mlc.methods import in_order, resolve_method
from mlc.methods.needs import needs_of, require_data, require_one_control, require_own_openings
from mlc.training.settings import AlignSettings


def prompts(count=10, **columns):
    rows = {"id": [str(number) for number in range(count)], "prompt": ["Hello"] * count, "chosen": ["Hi"] * count}
    return pa.table({name: pa.array(values, pa.string()) for name, values in (rows | columns).items()})


def some(value, count, of=10):
    return [value] * count + [None] * (of - count)


def check(table, *methods, left_out=(), gate_labels=0, **align):
    chosen = in_order(methods or ("consistency",))
    require_data(table, left_out, chosen, AlignSettings.model_validate(align), gate_labels=gate_labels)


@pytest.mark.parametrize("carrier", ["dpo", "simpo", "orpo"])
@pytest.mark.parametrize("column", [None, some("", 10)])
def test_a_carrier_that_compares_needs_rejected_answers(carrier, column):
    table = prompts(**({} if column is None else {"rejected": column}))
    with pytest.raises(UserError, match=f"carrier {carrier} compares answers, and none of the 10"):
        check(table, carrier=carrier)
    check(table)


def test_too_few_rejected_answers():
    table = prompts(rejected=some("No", 7))
    with pytest.raises(UserError, match="3 of 10 prompts have no rejected answer"):
        check(table, carrier="dpo")
    check(table, carrier="dpo", max_dropped=0.3)


@pytest.mark.parametrize(
    ("method", "consistency"),
    [("consistency-shuffled-within-class", {}), ("consistency", {"control": "shuffled_within_class"})],
)
def test_a_control_within_classes_needs_every_label(method, consistency):
    for table in (prompts(), prompts(label=some("harmful", 9))):
        with pytest.raises(UserError, match="needs a label for every training prompt"):
            check(table, method, consistency=consistency)
    check(prompts(label=some("harmful", 10)), method, consistency=consistency)
    check(prompts(), "consistency-shuffled", "english-only")


def test_a_control_of_a_term_that_is_off_needs_nothing():
    check(prompts(), "english-only", consistency={"control": "shuffled_within_class"})


@pytest.mark.parametrize("control", ["decision-permuted-labels", "translated-sft-shuffled-within-class"])
def test_controls_by_class_of_other_methods_need_every_label(control):
    with pytest.raises(UserError, match="needs a label for every training prompt"):
        check(prompts(label=some("harmful", 9)), control)
    check(prompts(label=some("harmful", 10)), control)


def test_whole_answers_are_compared_for_harmful_prompts_only():
    with pytest.raises(UserError, match="none of the 10 training prompts has the label harmful"):
        check(prompts(label=some("harmless", 10)), "answer")
    check(prompts(label=some("harmless", 10)), "answer", answer={"harmless": "vocabulary"})
    check(prompts(label=some("harmful", 1)), "answer")


@pytest.mark.parametrize(
    ("own", "measured", "mixed"),
    [
        ("I cannot", "I can't", False),
        ("I can't help", "I can't help with", True),
        ("I can’t  HELP with that", "I can't help with", True),
        ("Sure", "Sure, here is", True),
        ("Here", "I can't help with", False),
    ],
)
def test_training_reads_other_openings_than_the_evaluation(own, measured, mixed):
    align = AlignSettings.model_validate({"decision": {"refusal_openings": [own]}})
    require_own_openings(in_order(["consistency", "answer", "edit"]), align, [measured])
    if mixed:
        with pytest.raises(UserError, match="'decision' trains on the opening"):
            require_own_openings(in_order(["decision"]), align, [measured])
    else:
        require_own_openings(in_order(["decision"]), align, [measured])


@pytest.mark.parametrize("method", ["policy-edit", "edit", "consistency+edit"])
def test_an_edit_needs_both_labels(method):
    for table in (prompts(), prompts(label=some("harmful", 10))):
        with pytest.raises(
            UserError, match=rf"{re.escape(method)}.*none of the 10 training prompts has the label harm"
        ):
            check(table, method)
    labels = ["harmful"] * 4 + ["harmless"] * 3 + [None] * 3
    with pytest.raises(UserError, match="3 of 10 prompts have no label"):
        check(prompts(label=labels), method)
    check(prompts(label=labels), method, max_dropped=0.3)


def test_too_many_rows_set_aside():
    with pytest.raises(UserError, match="3 of 13 rows of the prompt file cannot be used"):
        check(prompts(), left_out=[LeftOut("set aside", 3, 13)])
    check(prompts(), left_out=[LeftOut("set aside", 3, 13)], max_dropped=0.25)


def test_a_carrier_that_rewards_answers_needs_prompts_of_both_labels():
    for missing, there in (("harmless", "harmful"), ("harmful", "harmless")):
        with pytest.raises(UserError, match=f"none of the 10 training prompts has the label {missing}: add prompts"):
            check(prompts(label=[there] * 10), carrier="grpo")
    both = ["harmful"] * 4 + ["harmless"] * 4
    with pytest.raises(UserError, match="2 of 10 prompts have no label"):
        check(prompts(label=both + [None] * 2), carrier="grpo", max_dropped=0.1)
    check(prompts(label=both + [None] * 2), carrier="grpo")


@pytest.mark.parametrize("method", ["policy-gate", "gate"])
def test_thresholds_from_labels_need_as_many(method):
    table = prompts(label=["harmful"] * 7 + ["harmless"] * 3)
    check(table, method, gate_labels=3)
    with pytest.raises(UserError, match="asks for 4 prompts of a class in each language, and 3 of the 10"):
        check(table, method, gate_labels=4)
    check(table, "english-only", gate_labels=4)


def test_terms_of_a_method_take_one_control():
    align = AlignSettings.model_validate({"consistency": {"control": "shuffled"}})
    require_one_control(in_order(["consistency", "answer"]), align)
    with pytest.raises(
        UserError, match=r"'consistency\+answer' cannot be made: the terms consistency and answer share"
    ):
        require_one_control(in_order(["consistency+answer"]), align)
    # The method's own control is one for all of its terms.
    require_one_control(in_order(["consistency+answer-shuffled"]), align)


def test_a_gate_that_reads_translations_needs_none_of_the_training_prompts():
    wanted = {
        ("policy-gate", "prompt"): {"class labels", "translated prompts"},
        ("policy-gate", "translation"): {"class labels"},
        ("translate-test", "prompt"): {"class labels"},
        ("english-only+gate", "translation"): {"class labels", "english answers"},
        # The model behind it was made of some.
        ("consistency+gate", "translation"): {"class labels", "english answers", "translated prompts"},
        ("consistency", "translation"): {"english answers", "translated prompts"},
    }
    assert {(name, reads): set(needs_of(resolve_method(name), reads)) for name, reads in wanted} == wanted
