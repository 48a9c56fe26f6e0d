import copy

import pytest
import torch

from mlc.losses import answer_loss, decision_loss
from mlc.models.continuations import answer_tokens
from mlc.models.prompts import encode_prompt
from mlc.models.sampling import own_answers
from mlc.training.settings import AnswerConfig, ConsistencyConfig, DecisionConfig, Terms
from mlc.training.term import FIGURES, ConsistencyTerm
from mlc.training.terms import TranslationTerms
from tests.covering import chosen
from tests.training.runs import CARRIERS, LANGUAGES, make_rows, same, train, trainer_of

REFUSE, COMPLY = ("I cannot", "No,"), ("Of course", "Here")
OPENINGS = {"refusal_openings": REFUSE, "compliance_openings": COMPLY}
STATES = ConsistencyConfig.model_validate({"layer": 2, "weight": 0.5})
DECIDED = DecisionConfig(weight=0.25, difference="squared", **OPENINGS)
ANSWERED = AnswerConfig(weight=2.0, tokens=3, **OPENINGS)


def none():
    return Terms().consistency


def terms_of(policy, consistency=None, decision=None, answer=None):
    terms = Terms(consistency or none(), decision or DecisionConfig(), answer or AnswerConfig())
    return TranslationTerms(terms, policy.model, LANGUAGES, tokenizer=policy.tokenizer)


def batch_of(terms, rows):
    return terms.encode(
        [row["variants"] for row in rows],
        harmful=[row["label"] == "harmful" for row in rows],
        answers=[row["chosen"] for row in rows],
    )


@pytest.fixture
def sharp(opened):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in opened.model.parameters():
            parameter.normal_(std=0.25)
    return opened


def said(policy, text, tokens):
    """[K, V] logits about tokens after a prompt, from a plain forward pass."""
    asked = list(encode_prompt(policy.tokenizer, text).input_ids)
    return policy.model(torch.tensor([[*asked, *tokens]])).logits[0, len(asked) - 1 : -1]


def score(policy, text, opening):
    tokens = list(answer_tokens(policy.tokenizer, opening))
    return said(policy, text, tokens).log_softmax(-1)[range(len(tokens)), tokens].mean()


def margin(policy, text):
    sides = [torch.stack([score(policy, text, opening) for opening in side]).mean() for side in (REFUSE, COMPLY)]
    return sides[0] - sides[1]


def plain_margins(policy, rows):
    return torch.stack([torch.stack([margin(policy, text) for text in row["variants"]]) for row in rows])


def plain_answer(policy, row, *, whole):
    if whole:
        tokens = list(answer_tokens(policy.tokenizer, row["chosen"])[:3])
        logits = torch.stack([said(policy, text, tokens) for text in row["variants"]])
    else:
        margins = plain_margins(policy, [row])[0]
        logits = torch.stack([margins, torch.zeros_like(margins)], dim=-1).unsqueeze(1)
    return answer_loss(logits.unsqueeze(0))


def gradients(policy, loss):
    policy.model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in policy.model.named_parameters()}


def test_texts_leave_room_for_what_follows_them(rows, load_tiny, tmp_path):
    policy = load_tiny()
    lengths = [len(encode_prompt(policy.tokenizer, text).input_ids) for row in rows for text in row["variants"]]
    longest = max(lengths)
    opening = max(len(answer_tokens(policy.tokenizer, text)) for text in (*REFUSE, *COMPLY))
    policy.model.config.max_position_embeddings = longest + opening - 1
    there = [batch_of(terms_of(policy, *some), rows).mask.sum() for some in ((STATES,), (STATES, DECIDED))]
    assert there == [len(lengths), len(lengths) - lengths.count(longest)]
    trainer = trainer_of(
        "sft", tmp_path, STATES, rows=rows, loaded=(policy.model, policy.tokenizer), more={"decision": DECIDED}
    )
    assert [(count.rows, count.limit) for count in trainer.left_out] == [(lengths.count(longest), longest - 1)]
    policy.model.config.max_position_embeddings = opening
    with pytest.raises(ValueError, match=f"at most {opening} tokens at once, .* of up to {opening} tokens, leave no"):
        terms_of(policy, STATES, DECIDED)


# One pass gives what many would.


def test_all_terms_from_one_pass_are_those_of_plain_passes(rows, sharp):
    rows = rows[:3]
    assert [row["label"] for row in rows] == ["harmless", "harmful", "harmless"]
    terms = terms_of(sharp, STATES, DECIDED, ANSWERED)
    batch = batch_of(terms, rows)
    output = terms(sharp.model, batch)
    alone = ConsistencyTerm(STATES, sharp.model, LANGUAGES)(sharp.model, batch)
    decided = decision_loss(plain_margins(sharp, rows), difference="squared")
    answered = torch.cat([plain_answer(sharp, row, whole=row["label"] == "harmful") for row in rows])
    expected = 0.5 * alone.loss + 0.25 * decided.loss.mean() + 2.0 * answered.mean()
    figures = output.figures
    assert figures["consistency_loss"] == pytest.approx(alone.loss.item(), rel=1e-4)
    assert figures["decision_loss"] == pytest.approx(decided.loss.mean().item(), rel=1e-4)
    assert figures["margin_gap"] == pytest.approx(decided.gap.mean().item(), rel=1e-4)
    assert figures["answer_loss"] == pytest.approx(answered.mean().item(), rel=1e-4)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    ours, plain = gradients(sharp, output.loss), gradients(sharp, expected)
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-2, atol=2e-3 * float(gradient.abs().max()))


def test_the_model_is_run_once_for_all_terms_and_no_further_than_one_needs(rows, load_tiny):
    policy = load_tiny()
    calls = []
    for number, layer in enumerate(policy.model.get_decoder().layers):
        layer.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
    depth = len(policy.model.get_decoder().layers)
    everything = terms_of(policy, STATES, DECIDED, ANSWERED)
    everything(policy.model, batch_of(everything, rows))
    assert calls == list(range(depth))
    calls.clear()
    states = terms_of(policy, STATES)
    states(policy.model, batch_of(states, rows))
    assert calls == [0, 1]


def test_a_missing_language_does_not_count(rows, sharp):
    # The one whose last language is missing gives what it would without that language in anybody.
    rows = [rows[1] | {"variants": [*rows[1]["variants"][:2], None]}, rows[2]]
    terms = terms_of(sharp, decision=DECIDED, answer=ANSWERED)
    found = terms(sharp.model, batch_of(terms, rows)).figures
    first = decision_loss(plain_margins(sharp, [rows[0] | {"variants": rows[0]["variants"][:2]}]), difference="squared")
    second = decision_loss(plain_margins(sharp, rows[1:]), difference="squared")
    assert found["decision_loss"] == pytest.approx((first.loss + second.loss).item() / 2, rel=1e-4)


def test_languages_have_weights(rows, sharp):
    weighted = DECIDED.model_copy(update={"language_weights": {"yor_Latn": 0.0}})
    terms = terms_of(sharp, decision=weighted)
    found = terms(sharp.model, batch_of(terms, rows[:2])).figures["decision_loss"]
    less = [row | {"variants": row["variants"][:2]} for row in rows[:2]]
    expected = decision_loss(plain_margins(sharp, less), difference="squared").loss.mean()
    assert found == pytest.approx(expected.item(), rel=1e-4)


# Which prompts are compared by what.


@pytest.mark.parametrize(("harmless", "whole"), [("vocabulary", True), ("openings", False)])
def test_a_prompt_without_a_label_counts_as_harmless(rows, sharp, harmless, whole):
    terms = terms_of(sharp, answer=ANSWERED.model_copy(update={"harmless": harmless}))
    batch = terms.encode([rows[1]["variants"]], answers=[rows[1]["chosen"]])
    found = terms(sharp.model, batch).figures["answer_loss"]
    assert found == pytest.approx(plain_answer(sharp, rows[1], whole=whole).item(), rel=1e-4)


def test_harmless_prompts_can_be_left_out(rows, sharp):
    left_out = ANSWERED.model_copy(update={"harmless": "none"})
    terms = terms_of(sharp, answer=left_out)
    found = terms(sharp.model, batch_of(terms, rows[:2])).figures["answer_loss"]
    assert found == pytest.approx(plain_answer(sharp, rows[1], whole=True).item() / 2, rel=1e-4)
    assert terms(sharp.model, batch_of(terms, rows[:1])) is None
    both = terms_of(sharp, STATES, answer=left_out)
    output = both(sharp.model, batch_of(both, [rows[0], rows[2]]))
    assert set(output.figures) == set(FIGURES)


@pytest.fixture(scope="module")
def answering():
    """A policy that answers a harmless prompt in its own language."""
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model

    policy = load_policy(resolve_model("shipped:tiny"), device="cpu")
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = sum(nats(policy, text, answer) for text, answer in zip(ASKED, SAID, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


ASKED = ["How do I bake bread?", "Wie backe ich ein Brot zu Hause?"]
SAID = ["Use flour and water.", "Nimm Mehl und Wasser."]


def nats(policy, text, answer):
    """Nats a token of an answer after a prompt."""
    tokens = list(answer_tokens(policy.tokenizer, answer))
    return torch.nn.functional.cross_entropy(said(policy, text, tokens), torch.tensor(tokens))


@pytest.mark.parametrize(("harmless", "language"), [("openings", 1), ("vocabulary", 0)])
def test_only_the_whole_vocabulary_makes_harmless_answers_english(answering, harmless, language):
    policy = copy.deepcopy(answering)
    assert nats(policy, ASKED[1], SAID[1]) < 0.3 < 0.6 < nats(policy, ASKED[1], SAID[0])
    answer = AnswerConfig(weight=1.0, harmless=harmless)
    terms = TranslationTerms(Terms(none(), answer=answer), policy.model, 2, tokenizer=policy.tokenizer)
    batch = terms.encode([ASKED], answers=SAID[:1])
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=1e-4)
    for _ in range(30):
        optimizer.zero_grad()
        terms(policy.model, batch).loss.backward()
        optimizer.step()
    costs = [nats(policy, ASKED[1], answer).item() for answer in SAID]
    assert costs.index(min(costs)) == language


@pytest.mark.parametrize(("harmless", "moved"), [("openings", {5, 6}), ("vocabulary", None)])
def test_openings_move_no_other_word_before_an_answer(rows, sharp, monkeypatch, harmless, moved):
    # Two openings of one token each: the log-odds of the two are all that is compared.
    tokens = {"five": (5,), "six": (6,)}
    monkeypatch.setattr("mlc.training.terms.answer_tokens", lambda _tokenizer, text, **_: tokens.get(text, (7, 8)))
    answer = AnswerConfig(weight=1.0, harmless=harmless, refusal_openings=("five",), compliance_openings=("six",))
    terms = terms_of(sharp, answer=answer)
    batch = batch_of(terms, rows[:1])
    seen = []
    handle = sharp.model.get_output_embeddings().register_forward_hook(lambda _m, _given, logits: seen.append(logits))
    loss = terms(sharp.model, batch).loss
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, seen)
    columns = {int(column) for column in gradient.flatten(0, -2).nonzero()[:, 1]}
    assert columns == moved if moved else len(columns) == gradient.shape[-1]


# Teachers and answers.


def test_a_frozen_teacher_stays_what_the_model_was(rows, sharp):
    terms = terms_of(sharp, answer=ANSWERED.model_copy(update={"teacher": "start"}))
    itself = terms_of(sharp, answer=ANSWERED)
    batch = batch_of(terms, rows[:2])
    first = terms(sharp.model, batch).figures["answer_loss"]
    assert first == pytest.approx(itself(sharp.model, batch).figures["answer_loss"], rel=1e-4)
    before = [answer_logits.detach() for answer_logits in _english(sharp, rows[:2])]
    with torch.no_grad():
        for parameter in sharp.model.parameters():
            parameter.mul_(1.1)
    tokens = list(answer_tokens(sharp.tokenizer, rows[1]["chosen"])[:3])
    logits = torch.stack([said(sharp, text, tokens) for text in rows[1]["variants"]]).unsqueeze(0)
    harmful = answer_loss(logits, teacher=before[1].unsqueeze(0)).item()
    margins = plain_margins(sharp, rows[:1])[0]
    two = torch.stack([margins, torch.zeros_like(margins)], dim=-1).unsqueeze(1).unsqueeze(0)
    harmless = answer_loss(two, teacher=torch.stack([before[0], torch.zeros(())]).view(1, 1, 2)).item()
    found = terms(sharp.model, batch).figures["answer_loss"]
    assert found == pytest.approx((harmful + harmless) / 2, rel=1e-3)
    assert not list(terms.parameters())
    assert not terms.state_dict()


def _english(policy, rows):
    yield margin(policy, rows[0]["prompt"])
    yield said(policy, rows[1]["prompt"], list(answer_tokens(policy.tokenizer, rows[1]["chosen"])[:3]))


def test_own_answers_are_the_models_greedy_ones(rows, sharp):
    terms = terms_of(sharp, answer=ANSWERED.model_copy(update={"source": "own", "harmless": "vocabulary"}))
    variants = [row["variants"] for row in rows[:2]]
    sharp.model.train()
    found = terms(sharp.model, terms.encode(variants)).figures["answer_loss"]
    assert sharp.model.training
    expected = []
    for row in rows[:2]:
        own = []
        for _ in range(3):
            asked = [*encode_prompt(sharp.tokenizer, row["prompt"]).input_ids, *own]
            own.append(int(sharp.model(torch.tensor([asked])).logits[0, -1].argmax()))
        logits = torch.stack([said(sharp, text, own) for text in row["variants"]])
        expected.append(answer_loss(logits.unsqueeze(0)).item())
    assert found == pytest.approx(sum(expected) / 2, rel=1e-3)


def test_an_own_answer_ends_where_the_model_ends_it(rows, load_tiny):
    policy = load_tiny()
    prompts = terms_of(policy, answer=ANSWERED).encode([rows[0]["variants"]], answers=["No."]).prompts
    (whole,) = set(own_answers(policy.model, type(prompts)(*(part[:1] for part in vars(prompts).values())), 4))
    policy.model.generation_config.eos_token_id = whole[1]
    (short,) = own_answers(policy.model, type(prompts)(*(part[:1] for part in vars(prompts).values())), 4)
    assert short == whole[: whole.index(whole[1]) + 1]


# When.


def test_each_term_has_its_own_steps(rows, load_tiny):
    policy = load_tiny()
    decision = DECIDED.model_copy(update={"every": 2})
    answer = ANSWERED.model_copy(update={"warmup_steps": 4})
    terms = terms_of(policy, decision=decision, answer=answer)
    assert [terms.weights(step) for step in (0, 1, 2, 5)] == [
        {"decision": 0.25},
        {"answer": 0.5},
        {"decision": 0.25, "answer": 1.0},
        {"answer": 2.0},
    ]
    off = terms_of(policy, decision=decision)
    assert off(None, batch_of(off, rows), 1) is None


def test_texts_need_a_tokenizer(load_tiny):
    with pytest.raises(ValueError, match="tokenizer must be given"):
        TranslationTerms(Terms(none(), DECIDED), load_tiny().model, 3)


# In trainers.


@pytest.mark.parametrize("carrier", chosen([*CARRIERS], "lean_sft", "dpo", "grpo", "seq2seq_kl"))
def test_every_trainer_carries_all_terms(tmp_path, carrier):
    own = AnswerConfig(weight=2.0, tokens=3, source="own", **OPENINGS)
    given = {"decision": DECIDED, "answer": own if carrier == "grpo" or "seq2seq" in carrier else ANSWERED}
    rows = [row | {"variant_label": row["label"], "languages": LANGUAGES} for row in make_rows()]
    layer = 2 if "seq2seq" not in carrier else 1
    states = ConsistencyConfig.model_validate({"layer": layer, "weight": 0.5})
    run = train(carrier, tmp_path, states, rows=rows, more=given, max_steps=2)
    for entry in run.log:
        added = 0.5 * entry["consistency_loss"] + 0.25 * entry["decision_loss"] + 2.0 * entry["answer_loss"]
        assert entry["loss"] == pytest.approx(entry["alignment_loss"] + added, rel=1e-3, abs=1e-4)
        assert entry["answer_loss"] > 0


def test_without_weights_the_trainer_is_the_carrier(tmp_path):
    plain = train("sft", tmp_path, None)
    off = train("sft", tmp_path, none(), more={"decision": DecisionConfig(), "answer": AnswerConfig()})
    assert plain.series() == off.series()
    assert same(plain.weights, off.weights)


def test_terms_that_share_translations_share_their_control(tmp_path):
    given = {"decision": DECIDED.model_copy(update={"control": "shuffled"}), "answer": ANSWERED}
    with pytest.raises(ValueError, match="decision and answer share their translations"):
        train("sft", tmp_path, none(), more=given)


def test_an_answer_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="the answer term reads English answers"):
        train("grpo", tmp_path, none(), more={"answer": ANSWERED})
