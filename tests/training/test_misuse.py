"""What is wrong is told in a sentence, where it would be trained on or end somewhere inside."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from torch import nn

from mlc.errors import UserError
from mlc.evaluation.bits import bits_per_character
from mlc.evaluation.judges.rules import Rules
from mlc.gating.gate import PromptGate, fit_gate
from mlc.gating.settings import PromptGateSettings
from mlc.losses import Centering, consistency_loss
from mlc.losses.feedback import feedback_loss
from mlc.losses.reward_gap import reward_gap_loss
from mlc.models.layers import pooled_layers
from mlc.models.prompts import EncodedPrompt, pad_prompts
from mlc.models.states import prompt_states
from mlc.training.preparation import prepare_variants
from mlc.training.rewards import JudgeReward
from mlc.training.settings import AnswerConfig, ConsistencyConfig, Terms
from mlc.training.sft import ConsistencySFTTrainer
from mlc.training.term import ConsistencyTerm
from mlc.training.terms import TranslationTerms
from mlc.training.variants import VariantBatch

PAIR = {"prompt": "Hello?", "completion": "Hi.", "variants": ["Hello?", "¿Hola?"]}
ANSWERED = Terms(consistency=ConsistencyConfig(weight=0.0), answer=AnswerConfig(weight=1.0))


def prepared(rows: list[dict[str, Any]], policy: Any, terms: Terms | None = None) -> Any:
    return prepare_variants(Dataset.from_list(rows), policy.tokenizer, terms or Terms(ConsistencyConfig()), seed=0)


@pytest.mark.parametrize("names", [["en", "es", "es"], "en"])
def test_languages_are_named_once_each(tiny_policy: Any, names: Any) -> None:
    with pytest.raises(ValueError, match="names each language once, English first"):
        ConsistencyTerm(ConsistencyConfig(), tiny_policy.model, names)
    rows = [{**PAIR, "variants": ["a", "b", "c"][: len(names)], "languages": list(names)}]
    if not isinstance(names, str):
        with pytest.raises(ValueError, match="names each language once"):
            prepared(rows, tiny_policy)


def test_rows_without_variants_may_come_first(tiny_policy: Any) -> None:
    rows = [{**PAIR, "variants": None}, PAIR]
    assert len(prepared(rows, tiny_policy).dataset) == 2
    with pytest.raises(ValueError, match="none of the 1 rows of the training set has variants"):
        prepared(rows[:1], tiny_policy)


@pytest.mark.parametrize("completion", [None, "", [], [{"role": "assistant", "content": None}]])
def test_a_row_without_the_answer_that_a_term_reads(tiny_policy: Any, completion: Any) -> None:
    dataset = Dataset.from_list([{**PAIR, "label": "harmful", "variant_answer": completion}])
    with pytest.raises(ValueError, match="a row has no answer there"):
        prepare_variants(dataset, tiny_policy.tokenizer, ANSWERED, seed=0)
    terms = TranslationTerms(ANSWERED, tiny_policy.model, ("en", "es"), tokenizer=tiny_policy.tokenizer)
    with pytest.raises(ValueError, match="one of them is missing"):
        terms.encode([PAIR["variants"]], answers=[None])  # type: ignore[list-item]


def test_terms_without_weight_encode_nothing(tiny_policy: Any) -> None:
    off = Terms(consistency=ConsistencyConfig(weight=0.0))
    assert TranslationTerms(off, tiny_policy.model, 2, tokenizer=tiny_policy.tokenizer).encode([["a", "b"]]) is None


def test_a_wrapped_policy_makes_the_same_term(tiny_policy: Any, tmp_path: Path) -> None:
    # A process group is one for the whole process, so that other tests would be in it too.
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(tiny_policy.model)
        wrapped = ConsistencyTerm(ConsistencyConfig(form="released"), model, ("en", "es"))
    finally:
        torch.distributed.destroy_process_group()
    plain = ConsistencyTerm(ConsistencyConfig(form="released"), tiny_policy.model, ("en", "es"))
    assert [one.shape for one in wrapped.parameters()] == [one.shape for one in plain.parameters()]


def test_one_prompt_in_a_step_is_refused_where_nothing_is_left_of_it(tiny_policy: Any, tmp_path: Any) -> None:
    from trl import SFTConfig

    def trainer(batch: int, accumulation: int, **config: Any) -> Any:
        args = SFTConfig(
            str(tmp_path),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            report_to="none",
            use_cpu=True,
        )
        return ConsistencySFTTrainer(
            model=copy.deepcopy(tiny_policy.model),
            args=args,
            train_dataset=Dataset.from_list([PAIR] * 4),
            processing_class=tiny_policy.tokenizer,
            consistency=ConsistencyConfig(**config),
        )

    with pytest.raises(ValueError, match="with one prompt in a step"):
        trainer(1, 1)
    for batch, accumulation, more in ((1, 2, {}), (2, 1, {}), (1, 1, {"center": "none"})):
        trainer(batch, accumulation, **more)
    with pytest.raises(ValueError, match="with prompts_per_step 1"):
        ConsistencyConfig(prompts_per_step=1, center="batch", center_scope="per_language")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_centres_are_as_precise_as_their_states_allow(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(64, 3, 8, generator=generator) * 0.1 + 10
    exact[..., 0] += 2000
    centred = Centering(8, 3)(exact.to(dtype))
    assert centred.dtype == dtype
    wanted = exact.to(dtype).float() - exact.to(dtype).float()[:, :1].mean(dim=0)
    assert torch.allclose(centred.float(), wanted, atol=0.02 if dtype == torch.float16 else 0.1, rtol=0.01)
    assert bool(torch.isfinite(centred).all())


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("weight", [0.2, 1.0, 4.0])
def test_a_row_alone_has_no_loss(form: Any, weight: float) -> None:
    z = torch.randn(2, 3, 4, requires_grad=True)
    weights = torch.tensor([weight, 0.0, 0.0])
    loss = consistency_loss(z, form=form, language_weights=weights).loss
    assert loss.tolist() == [0.0, 0.0]
    loss.sum().backward()
    assert z.grad is not None
    assert not z.grad.any()


def test_losses_refuse_what_is_not_finite() -> None:
    rewards, good = torch.zeros(2), torch.tensor([True, False])
    for wrong in ({"good_weight": math.inf}, {"bad_weight": math.nan}, {"beta": math.inf}):
        with pytest.raises(ValueError, match="all finite"):
            feedback_loss(rewards, good, 0.0, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="floating point"):
        feedback_loss(torch.zeros(2, dtype=torch.long), good, 0.0)
    states = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="both finite"):
        reward_gap_loss(rewards, rewards, states, states, beta=math.inf)
    with pytest.raises(ValueError, match="states"):
        reward_gap_loss(rewards, rewards, states * math.nan, states)


def test_a_reward_needs_to_know_what_is_harmful() -> None:
    reward = JudgeReward(Rules(), "rules", {0})
    with pytest.raises(ValueError, match="needs a column 'harmful'"):
        reward(["?"], ["Sorry."], [[0]], log_metric=lambda *_: None)
    told = reward(["?"], ["I cannot help with that."], [[0]], harmful=[True], log_metric=lambda *_: None)
    assert told == [1.0]


@pytest.fixture(scope="module")
def gate(tiny_policy: Any) -> PromptGate:
    prompts = [f"Bake {n} loaves" if n % 2 else f"Steal {n} cars" for n in range(12)]
    labels = ["harmless" if n % 2 else "harmful" for n in range(12)]
    return fit_gate(tiny_policy, prompts, labels, {}, PromptGateSettings(layer=1, ridge=0.1))


def test_a_gate_reads_prompts_of_its_own_model(tiny_policy: Any, gate: PromptGate) -> None:
    with pytest.raises(UserError, match="put it into a list"):
        gate.margins(tiny_policy, "hello")  # type: ignore[arg-type]
    for empty in ([[]], [None], [""]):
        with pytest.raises(UserError, match="Prompt 1 is empty"):
            gate.margins(tiny_policy, empty)  # type: ignore[arg-type]
    other = replace(gate, direction=gate.direction[:-1])
    with pytest.raises(UserError, match="take the one that the gate was fitted on"):
        other.margins(tiny_policy, ["hello"])


def test_a_gate_is_fitted_on_texts(tiny_policy: Any) -> None:
    prompts, labels = ["a b", "c d", "e f", "g h"], ["harmful", "harmless"] * 2
    settings = PromptGateSettings(layer=1, ridge=0.1)
    with pytest.raises(UserError, match="'en' is no NLLB code"):
        fit_gate(tiny_policy, prompts, labels, {}, settings, anchor="en")
    for missing in ("", "  ", math.nan, None):
        with pytest.raises(UserError, match="No prompt has a translation into spa_Latn"):
            fit_gate(tiny_policy, prompts, labels, {"spa_Latn": [missing] * 4}, settings)  # type: ignore[dict-item]


def test_bits_are_without_dropout(tiny_policy: Any) -> None:
    policy = copy.copy(tiny_policy)
    policy.model = copy.deepcopy(tiny_policy.model)
    for module in policy.model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda own, _, out: nn.functional.dropout(out, 0.5, own.training))
    policy.model.train()
    texts = ["The bread is in the oven."]
    assert bits_per_character(policy, texts) == bits_per_character(tiny_policy, texts)
    assert policy.model.training


def test_a_batch_in_more_languages_than_a_term_is_for(tiny_policy: Any) -> None:
    one_more = TranslationTerms(
        Terms(ConsistencyConfig()), tiny_policy.model, ("en", "es", "de"), tokenizer=tiny_policy.tokenizer
    )
    batch = one_more.encode([["Hello?", "¿Hola?", "Hallo?"]])
    fewer = TranslationTerms(
        Terms(ConsistencyConfig()), tiny_policy.model, ("en", "es"), tokenizer=tiny_policy.tokenizer
    )
    for term in (fewer, fewer.consistency):
        assert term is not None
        with pytest.raises(ValueError, match="variants are in 3 languages, the term is for 2: en, es"):
            term(tiny_policy.model, batch)


def test_a_model_with_a_narrower_last_layer() -> None:
    sizes = {"hidden_size": 16, "word_embed_proj_dim": 8, "ffn_dim": 32, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = transformers.OPTForCausalLM(
        transformers.OPTConfig(
            vocab_size=60, num_hidden_layers=2, max_position_embeddings=32, do_layer_norm_before=False, **sizes
        )
    ).eval()
    batch = pad_prompts([EncodedPrompt((5, 9, 11), (True,) * 3), EncodedPrompt((7, 3), (True,) * 2)], 0, side="right")
    for layer, size in ((1, 16), (1.0, 8), (-1, 8)):
        term = ConsistencyTerm(ConsistencyConfig(layer=layer, dim=4), model, ("en", "es"))
        assert (term.head.extract.in_features, term.centering.mean.shape[-1]) == (size, size)
        variants = VariantBatch(batch, torch.ones(1, 2, dtype=torch.bool))
        assert math.isfinite(float(term(model, variants).loss.detach()))
    every = pooled_layers(model, batch, ("last",))
    states = prompt_states(model, batch.input_ids, batch.attention_mask, layer=2)
    torch.testing.assert_close(every[2, 0], torch.nn.functional.pad(states, (0, 8)))
