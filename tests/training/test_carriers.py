import json

import pytest
import torch

from mlc.training.term import ConsistencyTerm
from tests.training.runs import CARRIERS, LANGUAGES, close, same, term, train
from tests.training.series import FIGURES, SERIES_FILE, STEPS, TERM

KINDS = {"plain": None, "zero": {"weight": 0}, "joined": TERM}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Each carrier as the plain trainer, with weight 0 and with the term; each of them runs once."""
    done = {}

    def run_of(carrier, kind):
        if (carrier, kind) not in done:
            consistency = None if KINDS[kind] is None else term(**KINDS[kind])
            done[carrier, kind] = train(carrier, tmp_path_factory.mktemp(kind), consistency, **STEPS)
        return done[carrier, kind]

    return run_of


# The carrier's own loss.


@pytest.mark.parametrize("carrier", CARRIERS)
def test_weight_zero_is_the_plain_trainer_to_the_last_bit(run_of, carrier):
    plain, zero = run_of(carrier, "plain"), run_of(carrier, "zero")
    for name in ("loss", "grad_norm", "learning_rate"):
        assert zero.series(name) == plain.series(name)
    assert len(zero.log) == 5
    assert same(zero.weights, plain.weights)
    assert zero.calls == plain.calls
    assert zero.trainer.term is None


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_carriers_first_loss_stays(run_of, carrier):
    plain, joined = run_of(carrier, "plain"), run_of(carrier, "joined")
    assert joined.series("alignment_loss")[0] == pytest.approx(plain.series()[0], rel=1e-6, abs=1e-8)
    assert not same(joined.weights, plain.weights)


# What the term moves.


def layer_of(name):
    """Index of the layer that a parameter belongs to, among those that the term can reach; None if in none."""
    parts = name.split(".")
    return None if "decoder" in parts or "layers" not in parts else int(parts[parts.index("layers") + 1])


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_term_moves_the_layers_below_and_nothing_above(run_of, carrier):
    plain, joined = run_of(carrier, "plain"), run_of(carrier, "joined")
    model, _ = CARRIERS[carrier].load()
    ConsistencyTerm(term(**TERM), model, LANGUAGES)(model, joined.variants[0]).loss.backward()
    alone = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert plain.gradients.keys() == joined.gradients.keys() == alone.keys()
    below = {name for name in alone if layer_of(name) in (0, 1)}
    embeddings = {name for name in alone if "embed" in name or "shared" in name}
    assert below
    for name in alone:
        if name in below | embeddings:
            difference, expected = joined.gradients[name] - plain.gradients[name], 0.7 * alone[name]
            largest = float(joined.gradients[name].abs().max())
            torch.testing.assert_close(difference, expected, atol=1e-5 * max(largest, 1.0), rtol=1e-3, msg=name)
            # The bias of keys adds the same to every score of a token, so softmax does not see it.
            assert "k_proj.bias" in name or float(expected.abs().max()) > 1e-5, name
        else:
            assert torch.equal(joined.gradients[name], plain.gradients[name]), name
            assert alone[name] is None, name


# What is computed.


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_terms_forward_pass_stops_at_its_layer(run_of, carrier):
    # In the first step the answers that are sampled are still the same.
    plain, joined = run_of(carrier, "plain").calls[0], run_of(carrier, "joined").calls[0]
    assert joined["embeddings"] > plain["embeddings"]
    assert joined["0"] > plain["0"]
    assert joined["1"] > plain["1"]
    assert joined["2"] == plain["2"]


@pytest.mark.parametrize(
    ("values", "on"),
    [
        ({"every": 2}, [True, False, True, False]),
        ({"every": 3}, [True, False, False, True]),
        ({"warmup_steps": 2}, [False, True, True, True]),
        ({"warmup_steps": 2, "every": 2}, [False, False, True, False]),
    ],
)
def test_nothing_of_the_term_is_computed_where_it_is_off(run_of, tmp_path, values, on):
    plain = run_of("sft", "plain")
    run = train("sft", tmp_path, term(**values), max_steps=4)
    assert [calls != ordinary for calls, ordinary in zip(run.calls, plain.calls[:4], strict=True)] == on
    assert ["consistency_loss" in entry for entry in run.log] == on
    assert len(run.variants) == sum(on)


@pytest.mark.parametrize("carrier", ["dpo", "kl", "seq2seq_kl"])
def test_reference_and_teacher_see_no_variants(run_of, carrier):
    plain, joined = run_of(carrier, "plain"), run_of(carrier, "joined")
    assert joined.reference_shapes == plain.reference_shapes
    assert [shape[0] for shape in joined.reference_shapes] == [8 if carrier == "dpo" else 4] * 5


@pytest.mark.parametrize("carrier", CARRIERS)
def test_variants_are_padded_among_themselves(run_of, carrier):
    for batch in run_of(carrier, "joined").variants:
        assert batch.mask.tolist() == [[True] * 3] * 4
        assert batch.prompts.attention_mask.shape[0] == 12
        assert batch.prompts.attention_mask.shape[1] == int(batch.prompts.attention_mask.sum(dim=1).max())


# The committed series.


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_series_is_the_committed_one(run_of, carrier):
    expected = json.loads(SERIES_FILE.read_text(encoding="utf-8"))[carrier]
    run = run_of(carrier, "joined")
    for name in FIGURES:
        assert run.series(name) == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_parts_of_the_loss_add_up(run_of, carrier):
    for entry in run_of(carrier, "joined").log:
        total = entry["alignment_loss"] + 0.7 * entry["consistency_loss"]
        assert entry["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("carrier", ["sft", "grpo"])
def test_runs_repeat_to_the_last_bit(run_of, tmp_path, carrier):
    first = run_of(carrier, "joined")
    again = train(carrier, tmp_path, term(**TERM), **{**STEPS, "max_steps": 2})
    assert again.series() == first.series()[:2]
    close(again.gradients, first.gradients, 0.0)
