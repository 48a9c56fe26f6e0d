import pytest
import torch

from mlc.training.kl import teacher_divergence
from tests.training.runs import ENGLISH, another, close, make_rows, nano, tiny, train, trainer_of


def test_by_hand():
    # p_teacher = (3/4, 1/4), p_student = (1/2, 1/2); the second position does not count.
    teacher = torch.tensor([[[3.0, 1.0], [9.0, 1.0]]]).log()
    student = torch.zeros(1, 2, 2)
    expected = 0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5))
    labels = torch.tensor([[1, -100]])
    assert teacher_divergence(student, teacher, labels).item() == pytest.approx(expected.item())
    assert teacher_divergence(student, teacher, labels, count=4).item() == pytest.approx(expected.item() / 4)


def test_equals_the_divergence_of_torch():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, 11, generator=generator) for _ in range(2))
    labels = torch.tensor([[-100, 1, 2, -100, 3], [4, -100, -100, -100, -100]])
    counted = labels != -100
    student.requires_grad_()
    expected = torch.nn.functional.kl_div(
        student[counted].log_softmax(-1), teacher[counted].log_softmax(-1), reduction="batchmean", log_target=True
    )
    loss = teacher_divergence(student, teacher, labels)
    torch.testing.assert_close(loss, expected)
    (found,), (gradient,) = torch.autograd.grad(loss, student), torch.autograd.grad(expected, student)
    torch.testing.assert_close(found, gradient)
    assert not found[~counted].any()


def test_what_the_teacher_cannot_say_counts_nothing():
    # The student gives it a quarter, and so loses as much as the logarithm of what is left.
    student, labels = torch.zeros(1, 1, 4, requires_grad=True), torch.zeros(1, 1, dtype=torch.long)
    loss = teacher_divergence(student, torch.tensor([[[0.0, 0.0, 0.0, -torch.inf]]]), labels)
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(4 / 3).log().item())
    assert student.grad.flatten().tolist() == pytest.approx([-1 / 12] * 3 + [1 / 4])


def test_it_is_zero_between_equals_and_where_nothing_is_labelled():
    logits = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0))
    assert teacher_divergence(logits, logits, torch.zeros(1, 3, dtype=torch.long)).item() == 0.0
    nothing = torch.full((1, 3), -100)
    student = logits.clone().requires_grad_()
    loss = teacher_divergence(student, logits + 1, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(student.grad).all()


def test_vocabularies_must_be_one():
    with pytest.raises(ValueError, match=r"share a vocabulary: their logits are \[1, 2, 4\] and \[1, 2, 3\]"):
        teacher_divergence(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), torch.zeros(1, 2, dtype=torch.long))


# The trainers.


def answer_log_probabilities(model, tokenizer, row):
    """[answer tokens, K] of one row alone, without padding."""
    messages = [{"role": "user", "content": row["prompt"]}]
    opening = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": row["chosen"]}], tokenize=False)
    first, all_ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (opening, whole))
    logits = model(torch.tensor([all_ids])).logits[0, len(first) - 1 : -1]
    return logits.double().log_softmax(dim=-1)


def translated_log_probabilities(model, tokenizer, row):
    given = tokenizer(row["prompt"], text_target=row["chosen"], return_tensors="pt")
    return model(**given).logits[0].double().log_softmax(dim=-1)


@pytest.mark.parametrize(
    ("carrier", "load", "read"),
    [("kl", tiny, answer_log_probabilities), ("seq2seq_kl", nano, translated_log_probabilities)],
)
@torch.no_grad()
def test_the_carriers_loss_is_the_mean_over_the_answers_tokens(tmp_path, carrier, load, read):
    model, tokenizer = load()
    student = [read(model.eval(), tokenizer, row) for row in make_rows()]
    teacher = [read(another(model), tokenizer, row) for row in make_rows()]
    divergences = [(t.exp() * (t - s)).sum(dim=-1) for s, t in zip(student, teacher, strict=True)]
    with torch.enable_grad():
        run = train(carrier, tmp_path, None, max_steps=1, per_device_train_batch_size=len(ENGLISH))
    assert run.series()[0] == pytest.approx(float(torch.cat(divergences).mean()), rel=1e-4)


def test_the_teacher_stays_as_it_is(tmp_path):
    trainer = trainer_of("kl", tmp_path, None)
    before = {name: tensor.clone() for name, tensor in trainer.teacher_model.state_dict().items()}
    trainer.train()
    close(trainer.teacher_model.state_dict(), before, 0.0)
    assert not trainer.teacher_model.training
    assert all(p.grad is None and not p.requires_grad for p in trainer.teacher_model.parameters())


def test_training_brings_the_student_to_the_teacher(tmp_path):
    losses = train("kl", tmp_path, None, max_steps=12, per_device_train_batch_size=8, learning_rate=3e-4).series()
    assert losses[-1] < 0.7 * losses[0]


def test_the_policy_is_no_teacher_of_itself(tmp_path):
    trainer = trainer_of("kl", tmp_path, None)
    model, rows = trainer.model, trainer.train_dataset
    with pytest.raises(ValueError, match="teacher_model is the model that is trained"):
        type(trainer)(model, args=trainer.args, train_dataset=rows, teacher_model=model)
    # The caller goes on with it.
    assert all(parameter.requires_grad for parameter in model.parameters())
