"""Layers that a policy does not have are found out before anything is made."""

import re

import pytest

from mlc.errors import UserError
from mlc.methods import in_order
from mlc.methods.layers import require_layers
from mlc.training.settings import AlignSettings

DEPTH = 4


def check(*methods, align=None, evaluation=0.5, edit=("middle",), direction=0.6, gate="auto"):
    alignment = AlignSettings.model_validate(align or {})
    known = {"evaluation": evaluation, "edit": edit, "direction": direction, "gate": gate}
    require_layers(DEPTH, in_order(methods), align=alignment, **known)


@pytest.mark.parametrize(
    ("method", "settings", "key"),
    [
        ("english-only", {"evaluation": 5}, "evaluation.layer"),
        ("english-only", {"evaluation": -6}, "evaluation.layer"),
        ("english-only", {"evaluation": 1.5}, "evaluation.layer"),
        ("consistency", {"align": {"consistency": {"layer": 5}}}, "align.consistency.layer"),
        ("cm-align", {"align": {"consistency": {"layer": 5}}}, "align.consistency.layer"),
        ("english-only", {"align": {"adapter": {"layers": [0, 4]}}}, "align.adapter.layers"),
        ("english-only", {"align": {"adapter": {"layers": [3, -1]}}}, "align.adapter.layers"),
        ("edit", {"edit": ((0,), (4,))}, "edit.layers"),
        ("refusal-direction", {"direction": 5}, "direction.layer"),
        ("policy-gate", {"gate": -6}, "serve.layer"),
    ],
)
def test_a_layer_that_the_policy_does_not_have(method, settings, key):
    with pytest.raises(UserError, match=rf"The setting {re.escape(key)} does not suit the policy: .*\. Change {key}\."):
        check(method, **settings)


def test_the_last_layers_are_there():
    lowest = {"consistency": {"layer": -5}, "adapter": {"layers": [-4, 3]}}
    check("consistency", "edit", "refusal-direction", "policy-gate", align=lowest, evaluation=4, direction=-1, gate=4)


def test_what_no_method_reads_may_name_anything():
    check("english-only", align={"consistency": {"layer": 99}}, edit=((99,),), direction=99, gate=99)
