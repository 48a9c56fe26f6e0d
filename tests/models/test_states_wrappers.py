"""Checkpointing, mixed precision, adapters, compilation and several processes around the model."""

import contextlib
import copy
import gc
import os
import re
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from mlc.models.prefix import split_shared
from mlc.models.states import prompt_states
from tests.covering import dealt, pairwise

ROOT = Path(__file__).resolve().parents[2]
DEPTH, HIDDEN = 3, 32
SHAPE = {
    "vocab_size": 60,
    "hidden_size": HIDDEN,
    "intermediate_size": 64,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=16)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=60,
            d_model=HIDDEN,
            num_layers=DEPTH,
            num_decoder_layers=1,
            num_heads=2,
            d_kv=16,
            d_ff=64,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    ),
}
PROMPTS = [[5, 9, 11], [7, 3, 8, 2, 12, 30, 41], [55], [4, 4, 4, 4, 4]]
# Long enough to be computed once for all prompts.
SHARED = [17, 4, 23, 8, 42, 15, 16, 3, 9, 31, 33]


def built(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    return model


CHECKPOINTED = pytest.mark.parametrize(
    ("model", "layer", "reentrant"), pairwise(MODELS, range(DEPTH + 1), [False, True]), indirect=["model"]
)


@pytest.fixture(params=MODELS)
def model(request):
    return built(request.param)


def padded(side="left", prefix=SHARED):
    prompts = [list(prefix) + prompt for prompt in PROMPTS]
    width = max(map(len, prompts))
    gaps = [[0] * (width - len(prompt)) for prompt in prompts]
    pairs = [(gap, [1] * len(prompt)) for gap, prompt in zip(gaps, prompts, strict=True)]
    if side == "left":
        ids = [gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
        return torch.tensor(ids), torch.tensor([gap + ones for gap, ones in pairs])
    ids = [prompt + gap for gap, prompt in zip(gaps, prompts, strict=True)]
    return torch.tensor(ids), torch.tensor([ones + gap for gap, ones in pairs])


def stack_of(model):
    return model.get_encoder().block if model.config.is_encoder_decoder else model.get_decoder().layers


def full_states(model, layer, prompts):
    """The last state of every prompt alone, by the whole forward pass of the model as it is."""
    states = []
    for prompt in prompts:
        ids = torch.tensor([SHARED + prompt])
        if model.config.is_encoder_decoder:
            output = model(input_ids=ids, decoder_input_ids=ids[:, :1], output_hidden_states=True)
            states.append(output.encoder_hidden_states[layer][0, -1])
        else:
            states.append(model(input_ids=ids, output_hidden_states=True).hidden_states[layer][0, -1])
    return torch.stack(states)


def weighted(states):
    return (states * torch.randn(states.shape, generator=torch.Generator().manual_seed(0)).to(states.dtype)).sum()


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_same(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        scale = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(gradient / scale, expected[name] / scale, atol=tolerance, rtol=0, msg=name)


def model_loss(model):
    ids, mask = padded()
    labels = ids.masked_fill(mask == 0, -100)
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


@CHECKPOINTED
def test_checkpointing_changes_neither_states_nor_gradient(model, layer, reentrant):
    expected = full_states(model.eval(), layer, PROMPTS)
    right = gradients(model, weighted(expected))
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for side in ("left", "right"):
        ids, mask = padded(side)
        states = prompt_states(model, ids, mask, layer=layer)
        torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
        assert_same(gradients(model, weighted(states)), right)


@CHECKPOINTED
def test_checkpoints_hold_the_layers_below_only(model, layer, reentrant):
    calls = []

    def counted(function, *args):
        calls.append(function)
        return checkpoint(function, *args, use_reentrant=reentrant)

    model.train()
    model._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=counted)
    runs = []
    for index, part in enumerate(stack_of(model)):
        part.register_forward_pre_hook(lambda *_, index=index: runs.append(index))
    states = prompt_states(model, *padded(), layer=layer)
    assert len(calls) == layer
    assert runs == list(range(layer))
    weighted(states).backward()
    # Each of them is computed again in the backward pass.
    assert sorted(runs) == sorted([*range(layer), *range(layer)])


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_training_step_after_checkpointed_states_is_that_of_a_fresh_model(model, reentrant):
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    fresh = copy.deepcopy(model)
    for layer in (2, 0, DEPTH):
        prompt_states(model, *padded(), layer=layer)
    gradients(model, weighted(prompt_states(model, *padded(), layer=1)))
    with pytest.raises((IndexError, RuntimeError)):
        prompt_states(model, torch.tensor([[10_000]]), torch.tensor([[1]]), layer=1)
    assert all(part.gradient_checkpointing for part in stack_of(model))
    assert not any(module._forward_pre_hooks for module in model.modules())
    found, right = gradients(model, model_loss(model)), gradients(fresh, model_loss(fresh))
    assert found.keys() == right.keys()
    assert all(torch.equal(found[name], right[name]) for name in right)


def test_nothing_of_the_forward_pass_stays_when_the_states_go(model):
    held = []
    stack_of(model)[0].register_forward_hook(lambda _, args, __: held.append(weakref.ref(args[0])))
    gc.collect()
    gc.disable()
    try:
        states = prompt_states(model, *padded(), layer=2)
        del states
        assert held
        assert not any(reference() is not None for reference in held)
    finally:
        gc.enable()


@pytest.mark.parametrize(("model", "layer"), dealt(MODELS, [1, 2, DEPTH]), indirect=["model"])
def test_autocast_is_as_near_to_float32_as_in_the_full_forward_pass(model, layer):
    exact = full_states(model, layer, PROMPTS)
    with torch.autocast("cpu", torch.bfloat16):
        full = full_states(model, layer, PROMPTS)
        states = prompt_states(model, *padded(), layer=layer)
    assert states.dtype == full.dtype
    assert relative(full, exact) > 1e-4  # autocast was on
    assert relative(states, full) < 2e-2
    found, whole, right = (gradients(model, weighted(one)) for one in (states, full, exact))
    assert found.keys() == right.keys()
    for name in right:
        assert torch.isfinite(found[name]).all(), name
        assert relative(found[name], right[name]) < 1.5 * relative(whole[name], right[name]) + 0.01, name


def relative(found, right):
    return float((found - right).detach().norm() / right.detach().norm())


def test_a_bfloat16_model_gives_bfloat16_states(model):
    model = model.bfloat16()
    states = prompt_states(model, *padded(), layer=2)
    assert states.dtype == torch.bfloat16
    found = gradients(model, weighted(states))
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


def test_a_forward_of_accelerate_is_passed_by(model):
    convert = pytest.importorskip("accelerate.utils").convert_outputs_to_fp32
    ids, mask = padded()
    expected = prompt_states(model, ids, mask, layer=2)
    model.forward = convert(torch.autocast("cpu", torch.bfloat16)(model.forward))
    assert torch.equal(prompt_states(model, ids, mask, layer=2), expected)


def test_a_compiled_model_is_that_model():
    model = built("llama")
    expected = prompt_states(model, *padded(), layer=2)
    assert torch.equal(prompt_states(torch.compile(model), *padded(), layer=2), expected)


def with_lora(model, **options):
    peft = pytest.importorskip("peft")
    targets = ["q", "v"] if model.config.is_encoder_decoder else ["q_proj", "v_proj"]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets, **options))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)  # zero at the start, so without effect
    return adapted


@pytest.mark.parametrize(
    ("model", "layer", "saved"), pairwise(MODELS, [1, 2, DEPTH], [False, True]), indirect=["model"]
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_adapters_act_and_learn_below_the_layer_only(model, layer, saved):
    plain = prompt_states(model, *padded(), layer=layer)
    embeddings = "shared" if model.config.is_encoder_decoder else "embed_tokens"
    adapted = with_lora(model, modules_to_save=[embeddings] if saved else None)
    expected = full_states(adapted, layer, PROMPTS)
    right = gradients(adapted, weighted(expected))
    for side in ("left", "right"):
        states = prompt_states(adapted, *padded(side), layer=layer)
        torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
        assert (states - plain).abs().max() > 0.01
        found = gradients(adapted, weighted(states))
        assert_same(found, right)
    learning = {int(number) for name in found for number in re.findall(r"(?:layers|block)\.(\d+)\..*lora_", name)}
    assert learning == set(range(layer))
    assert any("modules_to_save" in name for name in found) == (saved and not model.config.is_encoder_decoder)


@pytest.mark.parametrize("layer", [1, DEPTH])
def test_a_disabled_adapter_does_not_act(model, layer):
    expected = prompt_states(model, *padded(), layer=layer)
    adapted = with_lora(model)
    before = prompt_states(adapted, *padded(), layer=layer)
    with adapted.disable_adapter():
        torch.testing.assert_close(prompt_states(adapted, *padded(), layer=layer), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(prompt_states(adapted, *padded(), layer=layer), before)
    assert (before - expected).abs().max() > 0.01


@pytest.mark.parametrize("reentrant", [False, True])
def test_adapters_learn_under_checkpointing(model, reentrant):
    adapted = with_lora(model).train()
    right = gradients(adapted, weighted(prompt_states(adapted, *padded(), layer=2)))
    adapted.enable_input_require_grads()  # what reentrant checkpointing needs of a frozen model
    adapted.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert_same(gradients(adapted, weighted(prompt_states(adapted, *padded(), layer=2))), right)


def prompt_learning(peft, kind):
    shape = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}
    return {
        "PROMPT_TUNING": lambda: peft.PromptTuningConfig(**shape),
        "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(**shape),
        "P_TUNING": lambda: peft.PromptEncoderConfig(**shape, encoder_hidden_size=8),
        "activated LoRA": lambda: peft.LoraConfig(
            task_type="CAUSAL_LM", target_modules=["q_proj"], alora_invocation_tokens=[5, 9]
        ),
    }[kind]()


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "activated LoRA"])
def test_adapters_outside_the_layers_are_refused_unless_disabled(kind):
    peft = pytest.importorskip("peft")
    model = built("llama")
    expected = prompt_states(model, *padded(), layer=2)
    adapted = peft.get_peft_model(model, prompt_learning(peft, kind))
    with pytest.raises(ValueError, match=f"does not know adapters of type {kind}, which act outside the layers"):
        prompt_states(adapted, *padded(), layer=2)
    with adapted.disable_adapter():
        torch.testing.assert_close(prompt_states(adapted, *padded(), layer=2), expected, atol=1e-5, rtol=1e-5)


def test_several_kinds_of_adapter_at_once():
    peft = pytest.importorskip("peft")
    mixed = peft.PeftMixedModel(
        built("llama"), peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    )
    mixed.add_adapter("second", peft.LoHaConfig(r=4, target_modules=["v_proj"], init_weights=False))
    mixed.set_adapter(["default", "second"])
    states = prompt_states(mixed, *padded(), layer=2)
    torch.testing.assert_close(states, full_states(mixed.eval(), 2, PROMPTS), atol=1e-5, rtol=1e-5)


SCENARIOS = [
    "plain",
    "top",
    "second step",
    "accumulated",
    "shared",
    "checkpointed",
    "term alone",
    "searched",
    "searched in vain",
    "reentrant",
]

# Two processes, each with half of the prompts. What a rank finds is saved; the tests below compare.
WORKER = """
import os, sys
from datetime import timedelta
sys.path.insert(0, sys.argv[2])
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM
from mlc.models.prefix import split_shared
from mlc.models.states import prompt_states

folder = sys.argv[1]
given = torch.load(f"{folder}/given.pt")
# One import for both.
child = os.fork()
rank = 0 if child else 1
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=100)
)


def fresh():
    model = LlamaForCausalLM(LlamaConfig(**given["shape"])).double()
    # Of the term alone: no forward pass of the model calls it.
    model.probe = torch.nn.Linear(given["shape"]["hidden_size"], 1, bias=False, dtype=torch.double)
    model.load_state_dict(given["weights"])
    return model.train()


def half(tensor):
    return tensor[2 * rank : 2 * rank + 2]


def answer(model, shared):
    ids, mask = half(given["ids"]), half(given["mask"])
    if not shared:
        return model(input_ids=ids, attention_mask=mask).logits[:, -1].square().mean()
    return model(**split_shared(model, ids, mask).inputs(model)).logits[:, -1].square().mean()


def term(model, layer, probed=True):
    states = prompt_states(model, half(given["ids"]), half(given["mask"]), layer=layer)
    if not probed:
        return states.square().mean()
    return model.module.probe(states).square().mean()


def gradients(model):
    found = {n: p.grad.clone() for n, p in model.module.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def step(model, layer=2, shared=False, probed=True):
    (answer(model, shared) + term(model, layer, probed)).backward()
    return gradients(model)


def run(name):
    options = {"find_unused_parameters": True} if "searched" in name else {}
    model = fresh()
    if name in ("checkpointed", "reentrant"):
        model.gradient_checkpointing_enable({"use_reentrant": name == "reentrant"})
    model = DistributedDataParallel(model, **options)
    if name == "term alone":
        term(model, 2).backward()
        return gradients(model)
    if name == "accumulated":
        with model.no_sync():
            (answer(model, False) + term(model, 2)).backward()
        return step(model)
    if name == "second step":
        step(model)
    layer = given["depth"] if name == "top" else 2
    return step(model, layer, name == "shared", name != "searched")


found = {}
for name in given["scenarios"]:
    try:
        found[name] = run(name)
    except RuntimeError as error:
        found[name] = str(error)
torch.save(found, f"{folder}/{rank}.pt")
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0
# A reducer whose backward pass failed waits for the other process in vain.
os._exit(code)
"""


@pytest.fixture(scope="module")
def one_process():
    model = built("llama").train()
    model.probe = torch.nn.Linear(HIDDEN, 1, bias=False)
    # In float64, where the order of a sum is no difference.
    return model.double()


@pytest.fixture(scope="module")
def two_processes(one_process, tmp_path_factory):
    """By scenario, the gradient of rank 0 and of rank 1, or the error."""
    folder = tmp_path_factory.mktemp("ddp")
    ids, mask = padded()
    given = {"shape": SHAPE, "depth": DEPTH, "weights": one_process.state_dict(), "ids": ids, "mask": mask}
    given["scenarios"] = SCENARIOS
    torch.save(given, folder / "given.pt")
    workers = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), str(ROOT)],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = workers.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(workers.pid, signal.SIGKILL)
    assert workers.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def whole_batch(model, layer, *, answer=True, probed=True, rows=slice(None)):
    ids, mask = padded()
    states = prompt_states(model, ids[rows], mask[rows], layer=layer)
    loss = (model.probe(states) if probed else states).square().mean()
    if answer:
        # Written out, so that a shared opening is not taken for granted.
        last = torch.stack([model(torch.tensor([SHARED + PROMPTS[row]])).logits[0, -1] for row in range(4)][rows])
        loss = loss + last.square().mean()
    return gradients(model, loss)


@pytest.mark.parametrize("scenario", ["plain", "top", "second step", "shared", "checkpointed"])
def test_two_processes_have_the_gradient_of_one(two_processes, one_process, scenario):
    expected = whole_batch(one_process, DEPTH if scenario == "top" else 2)
    assert set(expected) == {name for name, _ in one_process.named_parameters()}
    for rank in range(2):
        assert_same(two_processes[rank][scenario], expected, 1e-6)


def test_two_processes_accumulate_as_one(two_processes, one_process):
    expected = {name: 2 * gradient for name, gradient in whole_batch(one_process, 2).items()}
    for rank in range(2):
        assert_same(two_processes[rank]["accumulated"], expected, 1e-6)


def test_states_alone_are_not_averaged_over_processes(two_processes, one_process):
    for rank in range(2):
        own = whole_batch(one_process, 2, answer=False, rows=slice(2 * rank, 2 * rank + 2))
        assert_same(two_processes[rank]["term alone"], own, 1e-6)


def test_unused_parameters_may_be_searched_where_the_states_add_none(two_processes, one_process):
    expected = whole_batch(one_process, 2, probed=False)
    for rank in range(2):
        found = two_processes[rank]["searched"]
        assert not found.pop("probe.weight", torch.zeros(())).any()
        assert_same(found, expected, 1e-6)


@pytest.mark.parametrize("scenario", ["searched in vain", "reentrant"])
def test_what_does_not_go_with_several_processes_fails_loudly(two_processes, scenario):
    for rank in range(2):
        assert "marked as ready" in str(two_processes[rank][scenario])


def test_a_window_is_seen_inside_a_wrapper(tmp_path):
    import torch.distributed as dist

    config = Gemma3TextConfig(**SHAPE, head_dim=16, sliding_window=4)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(Gemma3ForCausalLM(config))
        assert split_shared(wrapped, *padded()).length == 0
    finally:
        dist.destroy_process_group()
    llama = built("llama").train()
    assert split_shared(torch.compile(llama), *padded()).length == len(SHARED)
    llama.gradient_checkpointing_enable()
    assert split_shared(torch.compile(llama), *padded()).length == 0


def test_peft_that_another_thread_is_importing(monkeypatch):
    """What `sys.modules` holds then has no classes yet."""
    import sys
    import types

    from mlc.models.states import without_wrappers

    monkeypatch.setitem(sys.modules, "peft", types.ModuleType("peft"))
    model = torch.nn.Linear(2, 2)
    assert without_wrappers(model) is model
