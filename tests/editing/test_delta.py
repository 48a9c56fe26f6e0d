"""Deltas: written and read, applied and taken out to the last bit, stacked, merged."""

import dataclasses
import json

import pytest
import torch

from mlc.editing import EditDelta, EditSettings, apply_deltas, compute_edit, edited, merge_deltas, overlaps, unmerge
from mlc.editing.apply import EDITS_FOLDER
from mlc.editing.architecture import editable_mlps
from mlc.editing.delta import ProjectionDelta, Shape
from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.models.loading import load_policy, save_policy
from mlc.models.sources import resolve_model
from tests.editing.conftest import X, parallel

SETTINGS = EditSettings.model_validate({"layers": "all", "rank": 2, "units": {"z_threshold": 1.0}})
SHAPE = Shape("llama", 3, 16, 24)


def bits(policy):
    """Every weight as bytes."""
    return {name: tensor.clone().view(torch.uint8) for name, tensor in policy.model.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def changed(one, two):
    return {name for name in one if not torch.equal(one[name], two[name])}


def part(units, seed=0, rank=2, width=16):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((width, rank), (rank, len(units)))
    return ProjectionDelta(
        torch.tensor(units), *(torch.randn(size, generator=generator, dtype=torch.float64) / 10 for size in sizes)
    )


def delta(units, seed=0, layer=1, projection="gate_proj", language=X):
    return EditDelta(SHAPE, (language,), {(layer, projection): part(units, seed)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_apply_then_revert_is_bit_identical(tiny, prompts, dtype):
    policy = tiny()
    found = compute_edit(policy, prompts, SETTINGS)
    policy.model.to(dtype)
    with torch.no_grad():
        # Bits that arithmetic would not give back.
        policy.model.model.layers[0].mlp.gate_proj.weight[:, 0] = -0.0
        policy.model.model.layers[1].mlp.up_proj.weight[3, 2] = float("nan")
    before = bits(policy)
    applied = apply_deltas(policy.model, [found])
    assert changed(before, bits(policy)) == {
        f"model.layers.{layer}.mlp.{projection}.weight" for layer, projection in found.parts
    }
    applied.revert()
    assert same(before, bits(policy))
    applied.enable()
    assert not same(before, bits(policy))
    applied.revert()
    applied.revert()
    assert same(before, bits(policy))


def test_only_the_units_change_and_by_the_formula(tiny, prompts):
    policy = tiny()
    found = compute_edit(policy, prompts, SETTINGS)
    mlps = editable_mlps(policy.model)
    before = {place: mlps[place[0]].projection(place[1]).weight.detach().clone() for place in found.parts}
    with edited(policy.model, [found]):
        for place, one in found.parts.items():
            after = mlps[place[0]].projection(place[1]).weight.detach()
            others = torch.ones(24, dtype=torch.bool)
            others[one.units_m] = False
            assert torch.equal(after[others], before[place][others])
            expected = (before[place].double()[one.units_m] + (one.left_Dr @ one.right_rm).T).float()
            assert torch.equal(after[one.units_m], expected)


def test_the_edit_is_taken_out_after_an_error(tiny):
    policy = tiny()
    before = bits(policy)
    with pytest.raises(RuntimeError, match="stop"), edited(policy.model, [delta([1, 2])]):
        raise RuntimeError("stop")
    assert same(before, bits(policy))


def test_later_edits_are_reverted_first(tiny):
    policy = tiny()
    before = bits(policy)
    first = apply_deltas(policy.model, [delta([1, 2])])
    second = apply_deltas(policy.model, [delta([2, 3], seed=1)])
    with pytest.raises(ValueError, match="gate_proj of layer 1 was changed after this edit"):
        first.revert()
    second.revert()
    first.revert()
    assert same(before, bits(policy))


def test_saved_and_read_again(tiny, prompts, tmp_path):
    found = compute_edit(tiny(), prompts, SETTINGS)
    found.save(tmp_path / "delta")
    again = EditDelta.load(tmp_path / "delta")
    assert again.shape == found.shape
    assert again.languages == (X,)
    assert again.facts == json.loads(json.dumps(found.facts))
    assert again.parts.keys() == found.parts.keys()
    for place, one in found.parts.items():
        for name, tensor in vars(one).items():
            assert torch.equal(getattr(again.parts[place], name), tensor)
    # No prompt and no place of this machine is in it.
    text = (tmp_path / "delta" / "delta.json").read_text()
    assert "topic" not in text
    assert str(tmp_path) not in text


def test_saving_twice_gives_the_same_bytes(tiny, prompts, tmp_path):
    found = compute_edit(tiny(), prompts, SETTINGS)
    for name in ("one", "two"):
        found.save(tmp_path / name)
    for file in ("delta.json", "delta.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("damage", ["nothing", "no manifest", "other tensors", "no json", "version"])
def test_damaged_deltas(tmp_path, damage):
    if damage != "nothing":
        delta([1, 2]).save(tmp_path)
    manifest = tmp_path / "delta.json"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "other tensors":
        data = (tmp_path / "delta.safetensors").read_bytes()
        (tmp_path / "delta.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "no json":
        manifest.write_text("{")
    elif damage == "version":
        manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(UserError, match=r"holds no delta: it|is damaged: compute it again|has format 9, .* again"):
        EditDelta.load(tmp_path)


def test_a_delta_of_another_model(tiny):
    policy = tiny()
    before = bits(policy)
    for wrong, what in (
        (dataclasses.replace(SHAPE, width=32), "width 32, and this one has 16"),
        (dataclasses.replace(SHAPE, layers=9), "layers 9"),
        (dataclasses.replace(SHAPE, family="qwen2"), "family qwen2"),
    ):
        with pytest.raises(UserError, match=what):
            apply_deltas(policy.model, [delta([1, 2]), dataclasses.replace(delta([1, 2]), shape=wrong)])
    assert same(before, bits(policy))


def test_stacked_deltas_add_up_in_any_order(tiny):
    policy = tiny()
    one, two = delta([1, 2, 5], seed=0), delta([2, 5, 7], seed=1, language="zul_Latn")
    weight = policy.model.model.layers[1].mlp.gate_proj.weight
    before = weight.detach().clone()
    expected = before.double()
    for found in (one, two):
        ((_, change),) = found.parts.items()
        expected[change.units_m] += change.change()
    results = []
    for stack in ([one, two], [two, one]):
        with edited(policy.model, stack):
            results.append(weight.detach().clone())
        assert torch.equal(weight.detach(), before)
    assert torch.equal(*results)
    assert torch.equal(results[0], expected.float())


def test_overlap_by_hand():
    one, two = delta([1, 2, 5], seed=0), delta([2, 5, 7, 9], seed=1, language="zul_Latn")
    elsewhere = delta([1, 2], layer=2, language="spa_Latn")
    (found,) = overlaps([one, two, elsewhere])
    assert (found.first, found.second, found.layer, found.projection) == (X, "zul_Latn", 1, "gate_proj")
    assert found.shared == 2
    assert found.jaccard == 2 / 5
    dense = []
    for part_ in (*one.parts.values(), *two.parts.values()):
        whole = torch.zeros(24, 16, dtype=torch.float64)
        whole[part_.units_m] = part_.change()
        dense.append(whole.flatten())
    assert found.cosine == pytest.approx(float(torch.nn.functional.cosine_similarity(*dense, dim=0)), abs=1e-12)


def test_a_delta_overlaps_itself_wholly():
    (found,) = overlaps([delta([1, 2]), delta([1, 2])])
    assert found.jaccard == 1.0
    assert found.cosine == pytest.approx(1.0)
    assert overlaps([delta([1, 2]), delta([3])]) == []


def test_truncation_is_the_solution_of_the_lower_rank(tiny, prompts):
    policy = tiny()
    high, low = (compute_edit(policy, prompts, SETTINGS.model_copy(update={"rank": rank})) for rank in (3, 1))
    for place, one in high.truncated(1).parts.items():
        assert one.rank == 1
        assert torch.allclose(one.change(), low.parts[place].change(), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_and_taken_out_again(tiny, prompts, tmp_path, dtype):
    policy = tiny()
    deltas = [
        compute_edit(policy, prompts, SETTINGS),
        compute_edit(policy, parallel([("harmful", "bad1 topic1", "xbad1 xtopic2"), ("harmless", "good1", "xgood2"),
            ("harmful", "bad2 topic1", "xbad3 xtopic2")], (ENGLISH, "zul_Latn")), SETTINGS),
    ]  # fmt: skip
    before = bits(policy)
    merge_deltas(policy, deltas, tmp_path / "merged", dtype=dtype)
    save_policy(policy, tmp_path / "plain", dtype=dtype)
    assert same(before, bits(policy))
    merged = load_policy(resolve_model(str(tmp_path / "merged")), dtype=dtype, device="cpu")
    with edited(policy.model, deltas):
        for name, tensor in policy.model.state_dict().items():
            assert torch.equal(merged.model.state_dict()[name], tensor.to(dtype))
    assert [EditDelta.load(path).languages for path in sorted((tmp_path / "merged" / EDITS_FOLDER).glob("0*"))] == [
        (X,),
        ("zul_Latn",),
    ]
    assert unmerge(resolve_model(str(tmp_path / "merged")), tmp_path / "unmerged") == [X, "zul_Latn"]
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "unmerged" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_taking_out_what_is_not_there(tiny, tmp_path):
    save_policy(tiny(), tmp_path, dtype=torch.float32)
    with pytest.raises(UserError, match="holds no edit that can be taken out"):
        unmerge(resolve_model(str(tmp_path)), tmp_path / "out")
