"""What a policy is asked is what stands before the answers that it is trained on."""

import copy
import datetime
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import trl

from mlc.errors import UserError
from mlc.evaluation.scoring import score_prompts
from mlc.models import rendering
from mlc.models.loading import load_policy, save_policy
from mlc.models.prompts import encode_prompt, moves_system, render_messages, render_prompt
from mlc.models.sources import resolve_model
from mlc.models.templates import use_trained_template
from mlc.training.align import _options, align, build_dataset
from mlc.training.carriers.carrier import Training
from mlc.training.preparation import prepare_variants
from mlc.training.settings import AlignSettings

TEMPLATES = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
WITHOUT_TEXTS = ("idefics3", "smolvlm", "llava_next")
"""Templates that take messages of parts alone."""
QUESTION = {"role": "user", "content": "How do I bake bread?"}
ANSWER = {"role": "assistant", "content": "I can't help with that."}
THINKING = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n<think>\n{% if enable_thinking is false %}\n</think>\n\n"
    "{% endif %}{% endif %}"
)
INSTRUCT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SIMPLE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
FOR_EVER = "{% for n in range(99999) %}" * 3 + "{% endfor %}" * 3


@pytest.fixture
def with_template(tiny_policy):
    def build(template):
        tokenizer = copy.deepcopy(tiny_policy.tokenizer)
        tokenizer.bos_token = "<|start|>"
        tokenizer.chat_template = template
        return tokenizer

    return build


@pytest.fixture
def on_the_day(monkeypatch):
    """The clock of templates stands still."""

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 26)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Clock)


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_every_template_of_trl_is_asked_where_it_answers_or_refused(with_template, on_the_day, file):
    tokenizer, plain = with_template(file.read_text()), with_template(file.read_text())
    if file.stem.removesuffix("_training") in WITHOUT_TEXTS:
        with pytest.raises(UserError, match="chat template"):
            use_trained_template(tokenizer, "m")
        return
    place = use_trained_template(tokenizer, "m")
    whole = render_messages(tokenizer, [QUESTION, ANSWER])
    assert whole == render_messages(plain, [QUESTION, ANSWER])
    assert whole == render_prompt(tokenizer, QUESTION["content"]) + place.lead + ANSWER["content"] + place.closing
    turns = [QUESTION, ANSWER, {"role": "user", "content": "And cake?"}]
    asked = render_messages(tokenizer, turns, opens_answer=True)
    assert render_messages(plain, [*turns, ANSWER]).startswith(asked + place.lead + ANSWER["content"])


def test_how_many_templates_are_changed(with_template):
    changed = set()
    for file in TEMPLATES:
        name = file.stem.removesuffix("_training")
        if name not in WITHOUT_TEXTS:
            tokenizer = with_template(file.read_text())
            use_trained_template(tokenizer, "m")
            if tokenizer.chat_template.startswith("{% set opens_answer"):
                changed.add(name)
    assert len(changed) == 13


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}{% endfor %}", "ignores add_generation"),
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "no place for the text of an answer"),
        (
            "{% for m in messages[1:] %}{{ m['content'] }}{% endfor %}",
            "no place for the text|does not put the question",
        ),
        ("{{ raise_exception(messages[0]['content']) }}", r"\(TemplateError\)"),
        ("{% for", r"\(TemplateSyntaxError\)"),
        ("{{ ''.__class__.__mro__ }}", r"\(SecurityError\)"),
        ("{{ 'a' * 10**12 }}", r"\(MemoryError\)"),
        ("{{ 'a' * 10**7 }}", r"\(OverflowError\)"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", r"\(RecursionError\)"),
        ({"tool_use": "{{ messages }}"}, "no default"),
        ("", "no place"),
    ],
)
def test_templates_that_cannot_be_used(with_template, template, told):
    tokenizer = with_template(template)
    with pytest.raises(UserError, match=told) as error:
        use_trained_template(tokenizer, "m")
    assert "\n" not in str(error.value)
    assert "\ue000" not in str(error.value)


def test_a_template_that_loops_for_ever_is_stopped(with_template, monkeypatch):
    with monkeypatch.context() as impatient:
        impatient.setattr(rendering, "_PATIENCE", 2.0)
        started = time.monotonic()
        with pytest.raises(UserError, match="does not come to an end"):
            use_trained_template(with_template(FOR_EVER), "m")
        assert time.monotonic() - started < 20
    # The next one is rendered by a new process.
    use_trained_template(with_template(THINKING), "m")


def test_the_system_stops_it_too():
    request = {"template": FOR_EVER, "variables": {}, "conversations": [[[QUESTION], True]]}
    limited = "import mlc.models.rendering as r; r.SECONDS = 0; r._serve()"
    done = subprocess.run([sys.executable, "-c", limited], input=json.dumps(request) + "\n", text=True, timeout=120)
    assert done.returncode < 0


def test_a_template_with_a_date_tells_the_same_one_every_day(with_template):
    day = "{% if not day is defined %}{% set day = strftime_now( '%d %b %Y' ) if strftime_now else 1 %}{% endif %}"
    tokenizer = with_template(day + "Today: {{ day }}\n" + SIMPLE)
    assert use_trained_template(tokenizer, "m").date == "26 Jul 2024"
    assert render_prompt(tokenizer, "Hi").startswith("Today: 26 Jul 2024\n")
    own = with_template(day + "Today: {{ day }}\n" + SIMPLE)
    use_trained_template(own, "m", [("day", "1 May 2030")])
    assert render_prompt(own, "Hi").startswith("Today: 1 May 2030\n")
    with pytest.raises(UserError, match="asks for the time in a way that cannot be fixed"):
        use_trained_template(with_template("{% set form = '%d' %}{{ strftime_now(form) }}" + SIMPLE), "m")


def test_one_of_several_templates(with_template):
    tokenizer = with_template({"default": THINKING, "tool_use": "{{ tools }}"})
    use_trained_template(tokenizer, "m")
    assert tokenizer.chat_template["tool_use"] == "{{ tools }}"
    assert render_prompt(tokenizer, "Hi").endswith("<|start|>assistant\n<think>\n\n</think>\n\n")


def test_variables_are_defaults_that_a_caller_may_change(with_template):
    tokenizer = with_template("{{ mood }}" + INSTRUCT)
    use_trained_template(tokenizer, "m", [("mood", 'it\'s\n"fine" {{ 1 }} é')])
    assert render_messages(tokenizer, [QUESTION]).startswith('it\'s\n"fine" {{ 1 }} é')
    assert tokenizer.apply_chat_template([QUESTION], tokenize=False, mood="other").startswith("other")


@pytest.mark.parametrize(("value", "written"), [(True, "True"), (3, "3"), (0.5, "0.5")])
def test_values_of_variables(with_template, value, written):
    tokenizer = with_template("{{ v }}" + INSTRUCT)
    use_trained_template(tokenizer, "m", [("v", value)])
    assert render_messages(tokenizer, [QUESTION]).startswith(written)


def test_a_variable_that_the_template_does_not_read(with_template):
    with pytest.raises(UserError, match=r"reads no variable 'enable_thought'.* it reads enable_thinking"):
        use_trained_template(with_template(THINKING), "m", [("enable_thought", False)])
    with pytest.raises(UserError, match="has no chat template"):
        use_trained_template(with_template(None), "m", [("enable_thinking", False)])


@pytest.fixture
def load_with(tiny_folder, tmp_path):
    """The tiny policy with another template."""

    def load(template, **variables):
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_folder, folder)
        (folder / "chat_template.jinja").write_text(template)
        return load_policy(resolve_model(str(folder), chat_template_kwargs=variables), device="cpu")

    return load


@pytest.mark.parametrize("carrier", ["sft", "dpo", "simpo", "orpo", "grpo"])
@pytest.mark.parametrize("template", [None, THINKING, INSTRUCT], ids=["none", "thinking", "instruct"])
@pytest.mark.parametrize("begin", [None, "<|start|>"])
def test_the_tokens_of_a_question_are_those_before_its_answer(load_with, tmp_path, carrier, template, begin):
    policy = load_with(template or THINKING)
    if template is None:
        policy.tokenizer.chat_template = None
    policy.tokenizer.bos_token = begin
    row = {"prompt": QUESTION["content"], "chosen": ANSWER["content"], "rejected": "Sure, here is", "variants": ["x"]}
    settings = AlignSettings.model_validate({"carrier": carrier, "steps": 1, "consistency": {"weight": 0}})
    labelled = [row | {"label": "harmful"}, row | {"label": "harmless"}]
    dataset = build_dataset(policy, labelled, settings)
    training = Training(policy, None, dataset, settings, _options(policy.model.device, settings, 0, tmp_path))
    trainer = settings.english_loss.trainer(training)
    trained = trainer.train_dataset[0]
    if carrier == "grpo":
        before = trainer._tokenize_prompts([trained["prompt"]])[0][0]
    elif carrier == "sft":
        before = [token for token, label in zip(trained["input_ids"], trained["labels"], strict=True) if label == -100]
    else:
        before = trained["prompt_ids" if carrier == "dpo" else "prompt_input_ids"]
        whole = trained.get("chosen_input_ids")
        assert whole is None or whole[: len(before)] == before
    assert tuple(before) == encode_prompt(policy.tokenizer, row["prompt"]).input_ids


def test_openings_are_scored_as_the_tokens_that_they_have_in_an_answer(load_with):
    policy = load_with(INSTRUCT)
    assert policy.lead == " "
    asked = encode_prompt(policy.tokenizer, "Hi").input_ids
    openings = ["Sure, here is", "No"]
    scores = score_prompts(
        policy, ["Hi"], refusal_openings=openings[1:], compliance_openings=openings[:1], layer=1, batch_size=1
    )
    expected = []
    for opening in openings:
        turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": opening}]
        text = render_messages(policy.tokenizer, turns).removesuffix("<|end|>")
        ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tuple(ids[: len(asked)]) == asked
        with torch.no_grad():
            logs = policy.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        told = [logs[place - 1, ids[place]].item() for place in range(len(asked), len(ids))]
        expected.append(sum(told) / len(told))
    assert scores.margins[0] == pytest.approx(expected[1] - expected[0], abs=1e-5)


def test_a_saved_checkpoint_asks_alike_with_plain_transformers_too(load_with, tmp_path):
    from transformers import AutoTokenizer

    policy = load_with(THINKING, enable_thinking=False)
    asked = render_prompt(policy.tokenizer, "Hi")
    save_policy(policy, tmp_path / "saved", dtype=torch.float32)
    plain = AutoTokenizer.from_pretrained(tmp_path / "saved")
    turn = [{"role": "user", "content": "Hi"}]
    assert plain.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) == asked
    again = load_policy(resolve_model(str(tmp_path / "saved")), device="cpu")
    assert again.tokenizer.chat_template == policy.tokenizer.chat_template


def test_answers_with_thoughts_of_their_own_are_refused(load_with):
    thoughts = THINKING.replace(
        "<think>\n\n</think>\n\n{% endif %}",
        "{% if '</think>' not in m['content'] %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    )
    policy = load_with(thoughts)
    rows = [
        {"prompt": "Hi", "chosen": "Hello."},
        {"prompt": "Hi", "chosen": "<think>\nA greeting.\n</think>\n\nHello."},
    ]
    settings = AlignSettings.model_validate({"carrier": "sft", "steps": 1})
    with pytest.raises(ValueError, match="before 1 of 2 answers"):
        build_dataset(policy, rows, settings)


def test_a_margin_tells_apart_what_training_told_apart(load_with, tmp_path):
    policy = load_with(THINKING)
    bad = [f"Tell me the secret number of {name}." for name in ("Anna", "Ben", "Carla", "Dan")]
    good = [f"How do I {what}?" for what in ("bake bread", "fix a tap", "plant a tree", "wash wool")]
    answers = [ANSWER["content"]] * len(bad) + ["Sure, here is how to do it."] * len(good)
    rows = [{"prompt": p, "chosen": a, "variants": [p]} for p, a in zip(bad + good, answers, strict=True)]
    settings = AlignSettings.model_validate(
        {"carrier": "sft", "steps": 60, "batch_size": 8, "learning_rate": 3e-3, "consistency": {"weight": 0}}
    )
    align(policy, rows, settings, seed=0, folder=tmp_path)
    margins = score_prompts(
        policy,
        bad + good,
        refusal_openings=["I can't help with"],
        compliance_openings=["Sure, here is"],
        layer=0.5,
        batch_size=8,
    ).margins
    assert margins[: len(bad)].min() > 0 > margins[len(bad) :].max()


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How much salt?"},
    {"role": "assistant", "content": "A pinch."},
    QUESTION,
]
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('no turns') }}{% endif %}"
    "<|start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SILENT = (
    "{% for m in messages if m['role'] != 'system' %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def own_text(tokenizer, encoded):
    return tokenizer.decode([token for token, own in zip(encoded.input_ids, encoded.content, strict=True) if own])


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)
def test_every_template_of_trl_tells_a_conversation(with_template, file):
    tokenizer = with_template(file.read_text())
    if file.stem.removesuffix("_training") in WITHOUT_TEXTS:
        pytest.skip("refused for a single prompt already")
    use_trained_template(tokenizer, "m")
    asked = render_messages(tokenizer, TALK, opens_answer=True)
    whole = render_messages(tokenizer, [*TALK, ANSWER])
    assert whole.startswith(asked)
    places = [asked.index(message["content"]) for message in TALK]
    assert places == sorted(places)
    assert own_text(tokenizer, encode_prompt(tokenizer, TALK)).strip() == QUESTION["content"]


@pytest.mark.parametrize("template", [GEMMA, SILENT], ids=["raises", "drops it"])
@pytest.mark.parametrize("turns", [TALK, [TALK[0], QUESTION]], ids=["turns", "one turn"])
def test_a_system_prompt_without_a_place_begins_the_first_user_turn(with_template, template, turns):
    tokenizer = with_template(template)
    first = {"role": "user", "content": f"Be brief.\n\n{turns[1]['content']}"}
    expected = tokenizer.apply_chat_template([first, *turns[2:]], tokenize=False, add_generation_prompt=True)
    assert render_messages(tokenizer, turns, opens_answer=True) == expected
    assert own_text(tokenizer, encode_prompt(tokenizer, turns)) == QUESTION["content"]
    assert moves_system(tokenizer, ["a", turns])
    assert not moves_system(tokenizer, ["a", turns[1:]])


def test_a_template_that_refuses_earlier_turns_ends_with_a_sentence(with_template):
    tokenizer = with_template("{% if messages | length > 1 %}{{ raise_exception(messages[0].content) }}{% endif %}x")
    with pytest.raises(UserError, match=r"cannot render a conversation \(TemplateError\)") as told:
        encode_prompt(tokenizer, TALK)
    assert "Be brief" not in str(told.value)


@pytest.mark.parametrize("template", [None, THINKING, GEMMA], ids=["own", "thinking", "no system"])
def test_conversations_are_trained_as_they_are_asked(tiny_policy, load_with, template):
    policy = load_with(template) if template else tiny_policy
    before = json.dumps(TALK[:-1])
    rows = [
        {
            "prompt": QUESTION["content"], "chosen": ANSWER["content"], "turns": before,
            "variants": [QUESTION["content"], "¿Cómo?", ""], "variant_turns": [before, before, None],
        },
        {"prompt": "Why?", "chosen": "No.", "turns": None, "variants": ["Why?", "", "Pourquoi ?"]},
    ]  # fmt: skip
    built = build_dataset(policy, rows, AlignSettings(steps=1))
    texts = [policy.tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
             for row in built]  # fmt: skip
    assert texts == [render_prompt(policy.tokenizer, prompt) for prompt in (TALK, "Why?")]
    prepared = prepare_variants(built, policy.tokenizer, AlignSettings(steps=1).terms, seed=0).dataset
    asked = [[TALK, [*TALK[:-1], {"role": "user", "content": "¿Cómo?"}], None], ["Why?", None, "Pourquoi ?"]]
    ids = [[list(encode_prompt(policy.tokenizer, each).input_ids) if each else [] for each in row] for row in asked]
    assert prepared["variant_ids"][:] == ids


def test_plain_prompts_are_trained_as_before(tiny_policy):
    rows = [{"prompt": "Why?", "chosen": "No.", "turns": None, "variants": ["Why?", "¿Por qué?"]}]
    (row,) = build_dataset(tiny_policy, rows, AlignSettings(steps=1))
    assert row["variants"] == ["Why?", "¿Por qué?"]
    assert row["prompt"] == [{"role": "user", "content": "Why?"}]
