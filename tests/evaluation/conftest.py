"""A policy whose answers depend on what it is asked."""

import copy

import pytest
import torch

SYSTEM = "Each prompt of this table begins with one and the same long opening, which may be computed once for all. "


@pytest.fixture(scope="module", params=["short opening", "long shared opening"])
def policy(request, tiny_policy):
    """The tiny policy with sharper weights, so that prompts and positions matter."""
    sharper = copy.deepcopy(tiny_policy)
    if request.param == "long shared opening":
        sharper.tokenizer.chat_template = SYSTEM + sharper.tokenizer.chat_template
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in sharper.model.parameters():
            parameter.normal_(std=0.25)
    return sharper
