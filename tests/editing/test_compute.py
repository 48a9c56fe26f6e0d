"""From prompts to a delta: the planted case, every family, one pass against keeping everything, bad input."""

import dataclasses

import numpy as np
import pytest
import torch

from mlc.editing import EditSettings, apply_deltas, compute_edit, edited
from mlc.editing.architecture import FAMILIES, editable_mlps
from mlc.editing.collect import collect_statistics, mlp_inputs
from mlc.errors import UserError
from mlc.evaluation.metrics import auroc
from mlc.evaluation.scoring import score_prompts
from mlc.languages import ENGLISH
from mlc.models.bounds import resolve_layers
from mlc.models.prompts import encode_prompt
from mlc.stopping import Stopped
from tests.covering import dealt
from tests.editing.conftest import COMPLIANCE, PLANTED_LAYER, PLANTED_UNITS, REFUSAL, X, parallel, rows_of
from tests.editing.conftest import FAMILIES as MODELS


def settings(**values):
    return EditSettings.model_validate({"layers": "all", "rank": 2, **values})


def margins(policy, prompts, column):
    return score_prompts(
        policy,
        [texts[column] for texts in prompts.texts],
        refusal_openings=(REFUSAL,),
        compliance_openings=(COMPLIANCE,),
        layer=0.5,
        batch_size=16,
    ).margins


def told_apart(policy, prompts, column):
    harmful = np.array([label == "harmful" for label in prompts.labels])
    found = margins(policy, prompts, column)
    return auroc(found[harmful], found[~harmful])


def weights_of(policy):
    return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def same_weights(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def only_strong_units(**values):
    # Every unit of so small a model differs a little and hardly varies, so d finds all of them.
    units = {"z_threshold": 4.0, "d_threshold": 1e6}
    return settings(**{"layers": (PLANTED_LAYER,), "rank": 4, "gamma": 10.0, "ridge": 1e-2, "units": units, **values})


@pytest.mark.parametrize("options", [{}, {"sequential": True}, {"protect_english": True}])
def test_the_planted_case(planted, options):
    policy, held_out = planted.policy, planted.validation
    assert told_apart(policy, held_out, 0) == 1.0
    assert told_apart(policy, held_out, 1) == 0.5
    before = [margins(policy, held_out, column) for column in (0, 1)]
    delta = compute_edit(policy, planted.prompts, only_strong_units(layers="all", **options))
    place = (PLANTED_LAYER, "gate_proj")
    assert set(delta.parts) == {place}
    assert delta.parts[place].units_m.tolist() == list(PLANTED_UNITS)
    with edited(policy.model, [delta]):
        assert told_apart(policy, held_out, 0) == 1.0
        assert told_apart(policy, held_out, 1) == 1.0
        after = [margins(policy, held_out, column) for column in (0, 1)]
    harmful = np.array([label == "harmful" for label in held_out.labels])
    gap = before[0][harmful].mean() - before[1][harmful].mean()
    assert after[1][harmful].mean() == pytest.approx(before[0][harmful].mean(), abs=0.15 * gap)
    for column in (0, 1):
        assert np.abs((after[column] - before[column])[~harmful]).max() < 0.03 * gap
    # The formula says nothing of harmful prompts in English, whose refusal suffers a little if nobody asks for it.
    lost = float((before[0] - after[0])[harmful].mean() / gap)
    assert lost < (0.02 if options.get("protect_english") else 0.25)


def test_facts_of_the_planted_case(planted):
    facts = compute_edit(planted.policy, planted.prompts, only_strong_units()).facts
    (layer,) = facts["layers"]
    assert layer["layer"] == PLANTED_LAYER
    assert layer["share_of_units"] == len(PLANTED_UNITS) / 128
    # The units do not see what is harmful in X: that is what is wrong.
    assert layer["jaccard_with_english"] == {X: 0.0}
    assert layer["gate_proj"]["units"] == 3
    assert layer["up_proj"] == {"units": 0, "rank": 0, "kept": 1.0}
    assert facts["model"] == "identity of planted"
    count = planted.prompts.labels.count("harmful")
    assert facts["prompts"] == {code: {"harmful": count, "harmless": count} for code in (ENGLISH, X)}


@pytest.mark.parametrize(("family", "pool"), dealt(sorted(MODELS), ["last", "last_content", "mean"]))
def test_every_family(tiny, prompts, family, pool):
    assert set(MODELS) == FAMILIES
    policy = tiny(family)
    before = weights_of(policy)
    delta = compute_edit(policy, prompts, settings(pool=pool, units={"d_threshold": 0.3}))
    assert same_weights(before, weights_of(policy))
    assert delta.shape.family == family
    assert {layer for layer, _ in delta.parts} == {0, 1, 2}
    mlps = editable_mlps(policy.model)
    low, english, harmless = inputs_of(policy, prompts, mlps, pool)
    for (layer, name), part in delta.parts.items():
        assert part.rank == min(2, len(part.units_m))
        weight = mlps[layer].projection(name).weight.detach().double()[part.units_m]
        goal = (english[layer] - low[layer]) @ weight.T
        moved = low[layer] @ part.change().T
        # Nearer to English on harmful prompts, and less movement on harmless ones.
        assert float((moved - goal).norm()) < float(goal.norm())
        share = float(moved.square().mean() / (harmless[layer] @ part.change().T).square().mean())
        assert share > 1


def inputs_of(policy, prompts, mlps, pool):
    """The inputs of all prompts, kept: low and English on harmful ones, and harmless ones in both."""

    def read(label, column):
        texts = [texts[column] for found, texts in zip(prompts.labels, prompts.texts, strict=True) if found == label]
        encoded = [encode_prompt(policy.tokenizer, text) for text in texts]
        return {layer: inputs.double() for layer, inputs in mlp_inputs(policy, encoded, mlps, pool).items()}

    safe = [read("harmless", 0), read("harmless", 1)]
    return read("harmful", 1), read("harmful", 0), {k: torch.cat([one[k] for one in safe]) for k in safe[0]}


def test_inputs_are_those_of_each_prompt_alone(tiny, prompts):
    policy = tiny("qwen2")
    mlps = editable_mlps(policy.model)
    texts = [text for texts in prompts.texts[:6] for text in texts] + ["bad1"]
    encoded = [encode_prompt(policy.tokenizer, text) for text in texts]
    together = mlp_inputs(policy, encoded, mlps, "last")
    seen = []
    hooks = [mlp.gate_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, -1])) for mlp in mlps]
    for row, prompt in enumerate(encoded):
        seen.clear()
        with torch.no_grad():
            policy.model(torch.tensor([prompt.input_ids]))
        for mlp, expected in zip(mlps, seen, strict=True):
            assert torch.allclose(together[mlp.layer][row], expected, atol=1e-5)
    for hook in hooks:
        hook.remove()


def test_inputs_where_prompts_share_a_template(tiny_policy):
    # The shipped tiny model has a chat template, whose tokens are computed once.
    mlps = editable_mlps(tiny_policy.model)
    encoded = [encode_prompt(tiny_policy.tokenizer, text) for text in ("Hello", "How do I bake bread?", "Why?")]
    for pool in ("last", "last_content", "mean"):
        together = mlp_inputs(tiny_policy, encoded, mlps, pool)
        for row, prompt in enumerate(encoded):
            alone = mlp_inputs(tiny_policy, [prompt], mlps, pool)
            for layer in together:
                assert torch.allclose(together[layer][row], alone[layer][0], atol=1e-5)


def test_one_pass_equals_keeping_everything(tiny, prompts):
    policy = tiny()
    mlps = editable_mlps(policy.model)
    low, english, harmless = inputs_of(policy, prompts, mlps, "last")
    found = collect_statistics(policy, prompts, [0, 1, 2], settings(), batch_size=5)
    for layer, one in found.items():
        for sums, expected in (
            (one.edit.low_DD, low[layer].T @ low[layer]),
            (one.edit.cross_DD, low[layer].T @ (english[layer] - low[layer])),
            (one.edit.safe_DD, harmless[layer].T @ harmless[layer]),
        ):
            # The forward pass itself is in single precision, and rounds by batch.
            assert float((sums - expected).abs().max() / expected.abs().max()) < 1e-5
        gates = low[layer].float() @ mlps[layer].gate_proj.weight.detach().T
        moments = one.units[X].harmful["gate_proj"]
        assert moments.count == len(gates)
        assert torch.allclose(moments.mean_M.float(), gates.mean(0), atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_batches_change_nothing(tiny, prompts, batch_size):
    one, two = (
        compute_edit(tiny(), prompts, settings(units={"z_threshold": 1.0}), batch_size=size) for size in (batch_size, 8)
    )
    assert set(one.parts) == set(two.parts)
    for place, part in one.parts.items():
        assert torch.equal(part.units_m, two.parts[place].units_m)
        assert torch.allclose(part.change(), two.parts[place].change(), atol=1e-3 * float(part.change().abs().max()))


def test_sequential_layers_see_the_earlier_ones_edited(tiny, prompts):
    policy = tiny()
    before = weights_of(policy)
    plain, sequential = (compute_edit(policy, prompts, settings(sequential=flag)) for flag in (False, True))
    assert same_weights(before, weights_of(policy))
    first = min(layer for layer, _ in plain.parts)
    for place in plain.parts:
        assert torch.equal(plain.parts[place].units_m, sequential.parts[place].units_m)
        same = torch.equal(plain.parts[place].change(), sequential.parts[place].change())
        assert same == (place[0] == first)
    # By hand: the second layer's sums, with the first layer's edit in the model and English read without it.
    second = sorted({layer for layer, _ in plain.parts})[1]
    mlps = editable_mlps(policy.model)
    _, english, _ = inputs_of(policy, prompts, mlps, "last")
    parts = {place: part for place, part in sequential.parts.items() if place[0] == first}
    applied = apply_deltas(policy.model, [dataclasses.replace(sequential, parts=parts)])
    low, _, harmless = inputs_of(policy, prompts, mlps, "last")
    found = collect_statistics(policy, prompts, [second], settings(), applied=[applied])[second].edit
    expected = low[second].T @ (english[second] - low[second])
    assert float((found.cross_DD - expected).abs().max() / expected.abs().max()) < 1e-4
    expected = harmless[second].T @ harmless[second]
    assert float((found.safe_DD - expected).abs().max() / expected.abs().max()) < 1e-5
    assert applied.active


def test_several_languages_in_one_delta_are_the_sum_of_their_statistics(tiny):
    rows = [(label, english, other, f"{english} {other}") for label, english, other in rows_of(range(20))]
    languages = (ENGLISH, X, "zul_Latn")
    both = parallel(rows, languages)
    policy = tiny()
    found = [
        collect_statistics(policy, part, [1], settings())[1].edit
        for part in (both, parallel([row[:3] for row in rows]), parallel([(*row[:2], row[3]) for row in rows]))
    ]
    assert torch.allclose(found[0].cross_DD, found[1].cross_DD + found[2].cross_DD, atol=1e-4)
    assert found[0].harmful == found[1].harmful + found[2].harmful
    # The English harmless prompts are there once.
    assert found[0].protected == found[1].protected + found[2].protected - both.labels.count("harmless")
    assert compute_edit(policy, both, settings()).languages == (X, "zul_Latn")


def test_harmless_prompts_of_english_only(tiny, prompts):
    found = collect_statistics(tiny(), prompts, [0], settings(harmless="english"))[0].edit
    assert found.protected == prompts.labels.count("harmless")


def test_missing_translations_are_left_out(tiny):
    rows = rows_of(range(20))
    policy = tiny()
    holes = [(label, english, None if place % 4 == 0 else other) for place, (label, english, other) in enumerate(rows)]
    found = collect_statistics(policy, parallel(holes), [0], settings())[0].edit
    there = sum(label == "harmful" and other is not None for label, _, other in holes)
    assert found.harmful == there
    whole = [row for row in holes if row[2] is not None]
    alone = collect_statistics(policy, parallel(whole), [0], settings())[0].edit
    assert torch.allclose(found.cross_DD, alone.cross_DD, atol=1e-4)


# Degenerate input.


def test_no_units_give_an_empty_delta(tiny, prompts, tmp_path):
    policy = tiny()
    delta = compute_edit(policy, prompts, settings(units={"z_threshold": 1e9, "d_threshold": 1e9}))
    assert delta.empty
    before = weights_of(policy)
    applied = apply_deltas(policy.model, [delta])
    assert same_weights(before, weights_of(policy))
    applied.revert()
    delta.save(tmp_path)
    assert type(delta).load(tmp_path).empty


def test_identical_classes_give_an_empty_delta(tiny):
    rows = [(label, text, f"x{text}") for text in ("bad1 topic2", "good1 topic3") for label in ("harmful", "harmless")]
    assert compute_edit(tiny(), parallel(rows), settings()).empty


def test_identical_languages_change_nothing(tiny):
    rows = [(label, text, text) for label, text, _ in rows_of(range(20))]
    delta = compute_edit(tiny(), parallel(rows), settings())
    assert all(float(part.change().abs().max()) < 1e-5 for part in delta.parts.values())


# Bad input: one plain sentence each.


def one_sentence(raised):
    text = str(raised.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("label", ["harmful", "harmless"])
def test_a_missing_class(tiny, label):
    rows = [row for row in rows_of(range(20)) if row[0] != label]
    with pytest.raises(UserError, match=f"has the label {label}") as raised:
        compute_edit(tiny(), parallel(rows), settings())
    one_sentence(raised)


def test_a_language_without_parallel_rows(tiny):
    rows = [(label, english, None if label == "harmful" else other) for label, english, other in rows_of(range(20))]
    with pytest.raises(UserError, match=f"{X} has no harmful prompt with a parallel English row") as raised:
        compute_edit(tiny(), parallel(rows), settings())
    one_sentence(raised)


def test_a_language_without_harmless_prompts(tiny):
    rows = [(label, english, None if label == "harmless" else other) for label, english, other in rows_of(range(20))]
    with pytest.raises(UserError, match=f"{X} has no harmless prompt") as raised:
        compute_edit(tiny(), parallel(rows), settings())
    one_sentence(raised)
    assert not compute_edit(tiny(), parallel(rows), settings(harmless="english")).empty


def test_english_alone(tiny):
    rows = [row[:2] for row in rows_of(range(20))]
    with pytest.raises(UserError, match="needs English and another language"):
        compute_edit(tiny(), parallel(rows, (ENGLISH,)), settings())


def test_fewer_prompts_than_the_rank(tiny, prompts):
    count = prompts.labels.count("harmful")
    with pytest.raises(UserError, match=rf"There are {count} harmful prompts.*fewer than the rank 1000") as raised:
        compute_edit(tiny(), prompts, settings(rank=1000))
    one_sentence(raised)


def test_activations_that_are_not_finite(tiny, prompts):
    policy = tiny()
    with torch.no_grad():
        policy.model.model.layers[1].self_attn.v_proj.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"layer 1 are not finite for the prompt 'p\d+' in eng_Latn") as raised:
        compute_edit(policy, prompts, settings())
    assert "topic" not in one_sentence(raised)


def test_another_architecture(tiny, prompts):
    import transformers

    policy = tiny()
    config = transformers.GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1)
    other = dataclasses.replace(policy, model=transformers.GPT2LMHeadModel(config))
    with pytest.raises(UserError, match="architecture 'gpt2' cannot be edited: choose one of gemma") as raised:
        compute_edit(other, prompts, settings())
    one_sentence(raised)


def test_a_quantised_model(tiny, prompts):
    import transformers

    policy = tiny()
    # What loading in 8 bit leaves on the configuration; the package that does it needs a GPU.
    policy.model.config.quantization_config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    with pytest.raises(UserError, match="is quantised") as raised:
        compute_edit(policy, prompts, settings())
    one_sentence(raised)


def test_8_bit_linear_layers(tiny, prompts):
    policy = tiny()
    policy.model = torch.ao.quantization.quantize_dynamic(policy.model, {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(UserError, match="gate_proj of layer 0 is a Linear and no plain linear layer") as raised:
        compute_edit(policy, prompts, settings())
    one_sentence(raised)


def test_a_model_with_adapters(tiny, prompts):
    from peft import LoraConfig, get_peft_model

    policy = tiny()
    policy.model = get_peft_model(policy.model, LoraConfig(target_modules=["gate_proj"]))
    with pytest.raises(UserError, match="merge adapters into the model first") as raised:
        compute_edit(policy, prompts, settings())
    one_sentence(raised)


def test_without_ridge(tiny, prompts):
    with pytest.raises(UserError, match="no unique solution") as raised:
        compute_edit(tiny(), parallel(rows_of(range(1))), settings(ridge=0.0))
    one_sentence(raised)


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [("all", 3, (0, 1, 2)), ("middle", 30, tuple(range(7, 23))), ("middle", 1, (0,)), ((-1, 0), 4, (0, 3))],
)
def test_layers(layers, depth, expected):
    assert resolve_layers(layers, depth) == expected


@pytest.mark.parametrize("layers", [(4,), (-5,), (0, -4)])
def test_wrong_layers(layers):
    with pytest.raises(UserError, match=r"does not exist|named twice"):
        resolve_layers(layers, 4)


@pytest.mark.parametrize("sequential", [False, True])
def test_an_edit_that_is_asked_to_stop_leaves_the_model_as_it_was(tiny, prompts, sequential):
    policy, read = tiny("llama"), []
    before = weights_of(policy)
    # All layers are read once; where they are sequential, it is asked while an earlier one is edited.
    batches = 2 * -(-len(prompts.ids) // 4) if sequential else 1
    with pytest.raises(Stopped):
        compute_edit(
            policy,
            prompts,
            settings(sequential=sequential),
            batch_size=2,
            on_texts=read.append,
            should_stop=lambda: len(read) > batches,
        )
    assert len(read) == batches + 1
    assert same_weights(before, weights_of(policy))
