"""What trainings, evaluations and translations need, by formulas; docs/sizing.md has measured peaks beside them."""

from typing import Any

import pytest

from mlc.errors import UserError
from mlc.models.sizes import Shape, known_shape, shape_of
from mlc.training.memory import (
    GIB,
    MIB,
    Lengths,
    Memory,
    Place,
    adapter_parameters,
    answering_memory,
    checkpoint_bytes,
    layer_activations,
    progress_bytes,
    training_memory,
    translating_memory,
)
from mlc.training.settings import AlignSettings

LENGTHS = Lengths(133, 120)
ALONE = Place(host=0)
MEASURED = {
    "": 3014,
    "batch_size=4": 3928,
    "batch_size=4 gradient_checkpointing=True": 2800,
    "training_dtype=bfloat16": 1698,
    "optim=adafactor": 1975,
    "adapter=lora": 1977,
    "adapter=lora batch_size=4": 3318,
    "adapter=lora gradient_checkpointing=True": 1264,
    "adapter=lora batch_size=4 gradient_checkpointing=True": 2067,
    "adapter=lora batch_size=8 gradient_checkpointing=True": 3448,
    "carrier=dpo": 5233,
    "carrier=dpo adapter=lora": 4183,
    "adapter=lora batch_size=4 training_dtype=bfloat16": 2384,
}
"""MiB that trainings at the shape of the benchmark `memory` added to their process, 2026-11-26."""
BENCHED = Shape(
    parameters=137_839_680,
    layers=30,
    hidden=576,
    intermediate=1536,
    heads=18,
    key_value_heads=9,
    head=32,
    vocabulary=49_152,
    embedding=28_311_552,
    linears={
        **dict.fromkeys(("q_proj", "o_proj"), (576, 576)),
        **dict.fromkeys(("k_proj", "v_proj"), (576, 288)),
        **dict.fromkeys(("gate_proj", "up_proj"), (576, 1536)),
        "down_proj": (1536, 576),
    },
)


ENCODERS = {
    "t5": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "m2m_100": {
        "d_model": 512,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_attention_heads": 8,
        "decoder_attention_heads": 8,
        "encoder_ffn_dim": 2048,
        "decoder_ffn_dim": 2048,
    },
}
ENCODERS_MEASURED = {
    "t5": {"": 1274, "batch_size=8": 2200, "batch_size=8 adapter=lora": 2289, "batch_size=8 carrier=kl": 3052},
    "m2m_100": {"": 1268, "batch_size=8": 2003, "batch_size=8 adapter=lora": 2009, "batch_size=8 carrier=kl": 2843},
}
"""The same of encoder-decoders with the shape of t5-small, prompts of 121 tokens and answers of 120, 2026-11-26."""


def known(name: str) -> Shape:
    shape = known_shape(name)
    assert shape is not None
    return shape


def alignment(**changes: Any) -> AlignSettings:
    usual = {"batch_size": 2, "max_answer_tokens": 512, "consistency": {"weight": 0.0}}
    return AlignSettings.model_validate({**usual, **changes})


def needed(shape: Shape = BENCHED, *, languages: int = 0, place: Place = ALONE, **changes: Any) -> Memory:
    return training_memory(shape, alignment(**changes), LENGTHS, languages=languages, place=place)


@pytest.mark.parametrize("changes", MEASURED)
def test_estimates_are_near_what_was_measured(changes: str) -> None:
    given = dict(change.split("=") for change in changes.split())
    assert needed(**given).total / MIB == pytest.approx(MEASURED[changes], rel=0.2)


@pytest.mark.parametrize("family", ENCODERS)
def test_estimates_of_encoder_decoders_are_near_what_was_measured(family: str) -> None:
    shape = shape_of({"model_type": family, "is_encoder_decoder": True, "vocab_size": 32_128, **ENCODERS[family]})
    assert shape is not None
    for changes, measured in ENCODERS_MEASURED[family].items():
        given = dict(change.split("=") for change in changes.split())
        copied = shape if "carrier" in given else None
        settings = alignment(**given, **({"teacher": "other"} if copied else {}))
        total = training_memory(shape, settings, Lengths(121, 120), teacher=copied, place=ALONE).total
        assert total / MIB == pytest.approx(measured, rel=0.2)


def test_an_adapter_of_an_encoder_decoder_has_matrices_in_both() -> None:
    shape = shape_of({"model_type": "t5", "vocab_size": 100, "num_decoder_layers": 2, **ENCODERS["t5"]})
    adapter = alignment(adapter={"r": 4, "target_modules": ["q", "wo"]}).adapter
    assert shape is not None
    assert adapter is not None
    assert adapter_parameters(shape, adapter) == 4 * ((6 + 2 * 2) * (512 + 512) + (6 + 2) * (2048 + 512))


def test_all_weights_of_7b_in_float32_need_sixteen_bytes_each() -> None:
    parts = needed(known("Qwen/Qwen2.5-7B-Instruct")).parts
    held = parts["weights"] + parts["gradients"] + parts["optimiser"]
    assert held == 16 * 7_615_616_512
    assert held > 113 * GIB


def test_an_adapter_has_its_matrices_in_float32_and_the_model_no_gradients() -> None:
    shape = known("HuggingFaceTB/SmolLM2-135M-Instruct")
    parts = needed(shape, adapter="lora", training_dtype="bfloat16").parts
    own = 30 * 16 * (3 * (576 + 1536) + 2 * (576 + 576) + 2 * (576 + 192))
    assert (parts["weights"], parts["adapter"]) == (2 * shape.parameters, 4 * own)
    assert (parts["gradients"], parts["optimiser"]) == (4 * own, 8 * own)
    adapter = alignment(adapter={"r": 4, "target_modules": ["q_proj"], "layers": [0, 1]}).adapter
    assert adapter is not None
    assert adapter_parameters(shape, adapter) == 2 * 4 * (576 + 576)
    assert checkpoint_bytes(shape, adapter, "bfloat16") == 4 * 2 * 4 * (576 + 576)
    assert checkpoint_bytes(shape, None, "bfloat16") == 2 * shape.parameters
    with pytest.raises(UserError, match=r"align\.adapter\.target_modules names 'nope', and the policy has down_proj"):
        needed(shape, adapter={"target_modules": ["q_proj", "nope"]})


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": True},
        {"batch_size": 1},
        {"training_dtype": "bfloat16"},
        {"optim": "adafactor"},
        {"adapter": "lora"},
        {"max_prompt_tokens": 64},
    ],
)
def test_what_saves_memory_needs_less(changes: dict[str, Any]) -> None:
    assert needed(**changes).total < needed().total


@pytest.mark.parametrize(
    "changes",
    [
        {"autocast": "bfloat16", "batch_size": 1},
        {"carrier": "dpo"},
        {"carrier": "orpo"},
        {"answer": {"weight": 1.0, "teacher": "start"}},
        {"consistency": {"weight": 1.0}},
        {"decision": {"weight": 1.0}},
    ],
)
def test_what_costs_memory_needs_more(changes: dict[str, Any]) -> None:
    smaller = {name: value for name, value in changes.items() if name == "batch_size"}
    assert needed(languages=4, **changes).total > needed(languages=4, **smaller).total


def test_a_reference_is_a_copy_or_the_policy_without_its_adapter() -> None:
    assert needed(carrier="dpo").parts["frozen copy"] == 4 * BENCHED.parameters
    assert "frozen copy" not in needed(carrier="dpo", adapter="lora").parts
    taught = training_memory(BENCHED, alignment(carrier="kl", teacher="x"), LENGTHS, teacher=BENCHED)
    assert taught.parts["frozen copy"] == 4 * BENCHED.parameters


FSDP = {"distributed_type": "FSDP", "num_processes": 8, "fsdp_config": {"fsdp_version": 2}}


def test_processes_share_the_prompts_and_shards_what_belongs_to_weights() -> None:
    place = Place(gpu=True)
    one, whole, parts = (
        needed(place=place, languages=4, batch_size=size, launch=launch).parts
        for size, launch in ((1, None), (8, {"processes": 8}), (8, {"config": FSDP}))
    )
    assert whole == one
    for name in ("weights", "gradients", "optimiser"):
        assert parts[name] == one[name] // 8
        assert parts["activations"] == one["activations"]
    # On a CPU all of them are in one memory.
    alone, together = (
        needed(batch_size=size, launch=launch).total for size, launch in ((1, None), (2, {"processes": 2}))
    )
    assert together == 2 * alone


def test_eager_attention_keeps_its_scores() -> None:
    more = needed(place=Place(eager=True)).parts["activations"] - needed().parts["activations"]
    assert more == 30 * 2 * 2 * 253 * 253 * 18 * 4


def test_keys_and_values_of_answers() -> None:
    shape = known("Qwen/Qwen2.5-7B-Instruct")
    memory = answering_memory(shape, "bfloat16", LENGTHS, rows=20, answer_tokens=128)
    assert memory.parts["keys and values"] == 2 * 28 * (4 * 128) * 2 * 20 * (133 + 128)
    # Those of the head a second time, in float32.
    assert memory.parts["weights"] == 2 * shape.parameters + 4 * shape.vocabulary * shape.hidden


def test_answers_that_a_training_samples() -> None:
    grpo = {"num_generations": 8, "max_completion_length": 64}
    one = needed(carrier="grpo", accumulation=1, grpo=grpo)
    # Two prompts with eight answers each are trained on at once, and the copy is the reference.
    tokens = 2 * 8 * (133 + 64)
    assert one.parts["activations"] == 30 * tokens * layer_activations(BENCHED, alignment(carrier="grpo"))
    assert one.parts["frozen copy"] == 4 * BENCHED.parameters
    assert "frozen copy" not in needed(carrier="grpo", grpo={"beta": 0}).parts
    assert "frozen copy" not in needed(carrier="grpo", adapter="lora").parts
    # With many batches in a step, sampling all of its answers takes more than one backward pass.
    many = needed(carrier="grpo", batch_size=1, accumulation=64, grpo=grpo).parts
    rows = 64 * 8
    assert many["keys and values"] == 2 * 30 * (9 * 32) * 4 * rows * (133 + 64)
    assert many["logits"] == rows * 49_152 * 12
    assert "keys and values" not in one.parts


def test_translators_go_with_their_precision_and_their_beams() -> None:
    shape = known("facebook/nllb-200-distilled-600M")
    plain, whole = (translating_memory(shape, name, batch_tokens=4096, beams=1) for name in ("int8", "auto"))
    assert (plain.parts["weights"], whole.parts["weights"]) == (shape.parameters, 4 * shape.parameters)
    wide = translating_memory(shape, "auto", batch_tokens=4096, beams=4)
    assert wide.parts["logits"] == 4 * whole.parts["logits"]


def test_a_training_in_progress_keeps_what_is_trained_and_its_optimiser() -> None:
    assert progress_bytes(BENCHED, alignment()) == 12 * BENCHED.parameters
    assert progress_bytes(BENCHED, alignment(adapter="lora")) < 100 * MIB
