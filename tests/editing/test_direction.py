"""The direction of refusal: what is read, what the edits of weights do exactly, and what they leave alone."""

import pytest
import torch

from mlc.editing.direction import find_direction, steer, steered
from mlc.editing.settings import DirectionSettings
from mlc.errors import UserError
from mlc.models.prompts import encode_prompt
from tests.editing.conftest import COMPLIANCE, REFUSAL, parallel

FAMILIES = ["gemma", "llama", "mistral", "qwen2", "qwen3"]
OFF = {"add": 0.0, "scale": 1.0}


def direction_of(policy, prompts, column=0, **values):
    settings = DirectionSettings.model_validate({"layer": 1, **values})
    texts = [row[column] for row in prompts.texts]
    return find_direction(policy, texts, prompts.labels, settings), settings


@torch.no_grad()
def states(policy, text, layer):
    ids = torch.tensor([encode_prompt(policy.tokenizer, text).input_ids])
    return policy.model(ids, output_hidden_states=True).hidden_states[layer][0]


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_it_is_the_difference_of_the_means(tiny, prompts):
    policy = tiny()
    found, _ = direction_of(policy, prompts, layer=2)
    means = {
        label: torch.stack(
            [
                states(policy, text, 2)[-1]
                for text, own in zip((row[0] for row in prompts.texts), prompts.labels, strict=True)
                if own == label
            ]
        ).mean(dim=0)
        for label in ("harmful", "harmless")
    }
    torch.testing.assert_close(found.difference_H.float(), means["harmful"] - means["harmless"], rtol=1e-3, atol=1e-5)
    assert found.unit_H.norm().item() == pytest.approx(1.0)
    assert found.layer == 2


def test_it_tells_the_planted_classes_apart(planted):
    found, _ = direction_of(planted.policy, planted.prompts)
    assert found.separation == 1.0
    # Dimension 0 says "harmful, English", 2 "harmless".
    assert found.difference_H[0] > 10 * found.difference_H[[1, 3, 4]].abs().max()
    assert found.difference_H[2] < 0


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_off_changes_no_bit(tiny, prompts, family):
    policy = tiny(family)
    found, settings = direction_of(policy, prompts, **OFF)
    before = bits(policy.model)
    steer(policy.model, found, settings)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_as_it_was_after_the_block(tiny, prompts, family):
    policy = tiny(family)
    found, settings = direction_of(policy, prompts, add=2.0, scale=0.5)
    before = bits(policy.model)
    with steered(policy.model, found, settings):
        assert any(not torch.equal(before[name], tensor) for name, tensor in policy.model.state_dict().items())
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.model.state_dict().items())


def test_ablation_leaves_nothing_of_it_in_any_state(planted):
    policy, prompts = planted.policy, planted.prompts
    found, settings = direction_of(policy, prompts, add=0.0, scale=0.0)
    text = prompts.texts[0][0]
    assert (states(policy, text, 1).double() @ found.unit_H).abs().max() > 0.1
    with steered(policy.model, found, settings):
        for layer in (0, 1):
            assert (states(policy, text, layer).double() @ found.unit_H).abs().max() < 1e-5


def test_adding_shifts_the_state_by_the_difference(tiny, prompts):
    policy = tiny()
    few = parallel([(label, *row) for label, row in zip(prompts.labels[:8], prompts.texts[:8], strict=True)])
    # Fewer prompts than units, and hardly a penalty: the constant is exact for them.
    found, settings = direction_of(policy, few, layer=2, add=1.5, ridge=1e-9)
    assert found.fit < 1e-3
    text = few.texts[0][0]
    before, below = states(policy, text, 2)[-1], states(policy, text, 1)
    with steered(policy.model, found, settings):
        shift = states(policy, text, 2)[-1] - before
        assert torch.equal(states(policy, text, 1), below)
    torch.testing.assert_close(shift, 1.5 * found.difference_H.float(), rtol=1e-2, atol=1e-2)


def test_a_large_ridge_adds_little(tiny, prompts):
    policy = tiny()
    found, _ = direction_of(policy, prompts, ridge=1e6)
    assert found.fit == pytest.approx(1.0, abs=1e-2)


def margin(policy, text):
    with torch.no_grad():
        ids = torch.tensor([encode_prompt(policy.tokenizer, text).input_ids])
        said = policy.model(ids).logits[0, -1]
    words = policy.tokenizer.get_vocab()
    return float(said[words[REFUSAL]] - said[words[COMPLIANCE]])


def test_what_is_added_refuses_more_in_a_language_that_it_was_not_read_in(planted):
    policy, prompts = planted.policy, planted.prompts
    found, settings = direction_of(policy, prompts, add=1.0)
    foreign = [row[1] for row, label in zip(prompts.texts, prompts.labels, strict=True) if label == "harmful"][:5]
    before = [margin(policy, text) for text in foreign]
    with steered(policy.model, found, settings):
        after = [margin(policy, text) for text in foreign]
    assert all(new > old for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize(
    ("family", "values", "message"),
    [
        ("gemma2", {}, "puts a norm between its layers"),
        ("llama", {"layer": 0}, r"set direction\.layer to 1 to 2"),
        ("llama", {"layer": -1}, r"set direction\.layer to 1 to 2"),
    ],
)
def test_what_cannot_be_is_refused(tiny, prompts, family, values, message):
    with pytest.raises(UserError, match=message):
        direction_of(tiny(family), prompts, **values)


def test_both_classes_are_needed(tiny):
    with pytest.raises(UserError, match="None of the 2 prompts has the label harmless"):
        direction_of(tiny(), parallel([("harmful", "bad0 topic0", None), (None, "good0 topic1", None)]))
