"""Chat templates: what stands before an answer in training is what a policy is asked with, everywhere.

Many templates of models that think put something between the opening of an answer, as they write it to ask, and an
answer, as they write it in a conversation: ``<think></think>``. Trained on conversations, such a model would be asked
where no answer ever stood. So the template itself is changed when a model is loaded: it opens an answer with what
stands there in a conversation. The trainers, the scores, the states, and whoever loads a saved checkpoint then read
the same; a template in which both are alike is left as it is.

Nor may prompts depend on the clock: a template that writes today's date would be asked something else tomorrow. Its
date is the one that templates of Llama have where no clock is at hand.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlc.errors import UserError
from mlc.models.rendering import render_apart
from mlc.models.sources import TemplateValue

_QUESTIONS = ("\ue000one\ue000", "\ue000two, and longer\ue000")
_ANSWER = "\ue001answer\ue001"
_BEGINNINGS = ("Sure, here is", "I can't help", "No.")
"""Of answers, to see whether the last white space before an answer belongs to its first token."""
_OWN = ("messages", "add_generation_prompt", "tools", "documents", "raise_exception", "strftime_now")
"""What ``apply_chat_template`` gives itself."""
DAY = datetime(2024, 7, 26, tzinfo=UTC)
"""What ``strftime_now`` tells."""
_CLOCK = re.compile(r"\bstrftime_now\s*\(\s*(?:'([^'\\]*)'|\"([^\"\\]*)\")\s*\)")
_ANY_CLOCK = re.compile(r"\bstrftime_now\s*\(")


@dataclass(frozen=True)
class AnswerPlace:
    """Where the answers of a template stand."""

    lead: str = ""
    """White space that is part of the first token of an answer, such as the space after ``[/INST]``."""
    closing: str = ""
    """What follows an answer."""
    date: str = ""
    """What stands where the template asks for the time; empty where it does not."""


def default_template(tokenizer: Any) -> str | None:
    """The template that ``apply_chat_template`` uses, or None.

    Raises:
        ValueError: There are several, and none is the default.
    """
    return None if tokenizer.chat_template is None else tokenizer.get_chat_template()


def use_trained_template(
    tokenizer: Any, location: str, variables: Iterable[tuple[str, TemplateValue]] = ()
) -> AnswerPlace:
    """Lets the chat template of a tokenizer open answers as they stand in training.

    Args:
        tokenizer: Its template is changed where that is needed; without a template nothing is done.
        location: The model, as a person named it, for errors.
        variables: Variables that the template is given wherever nobody gives them.

    Raises:
        UserError: The template fails or does not come to an end, ignores what it is asked for, puts no answer where
            one can be found, or does not know a variable.
    """
    given = tuple(variables)
    try:
        template = default_template(tokenizer)
    except ValueError:
        raise _unfit(location, "has several parts and no default") from None
    if template is None:
        if given:
            raise UserError(f"The model {location!r} has no chat template: take policy.chat_template_kwargs out.")
        return AnswerPlace()
    _require_known(template, location, [name for name, _ in given])
    template, date = _without_clock(template, location)
    template = "".join(_default(name, value) for name, value in given) + template
    conversation = _Conversation(tokenizer, location, template)
    if not conversation.asks_where_it_answers:
        template = conversation.repaired()
        conversation = _Conversation(tokenizer, location, template)
        if not conversation.asks_where_it_answers:
            raise _unfit(location, "opens an answer in a way that cannot be repeated")
    if template != default_template(tokenizer):
        several = tokenizer.chat_template
        tokenizer.chat_template = {**several, "default": template} if isinstance(several, dict) else template
    return AnswerPlace(conversation.lead, conversation.closing, date)


class _Conversation:
    """What a template makes of two questions: asked, left alone, and with an answer."""

    def __init__(self, tokenizer: Any, location: str, template: str) -> None:
        self.location = location
        self.template = template
        messages = [[{"role": "user", "content": question}] for question in _QUESTIONS]
        answer = {"role": "assistant", "content": _ANSWER}
        conversations = [case for turn in messages for case in ((turn, True), (turn, False), ([*turn, answer], False))]
        texts = render_apart(location, template, tokenizer.special_tokens_map, conversations)
        self.asked, self.alone, whole = texts[0::3], texts[1::3], texts[2::3]
        if any(_ANSWER not in text for text in whole):
            raise _unfit(location, "holds no place for the text of an answer")
        before, after = zip(*(text.split(_ANSWER, 1) for text in whole), strict=True)
        self.closing: str = after[0]
        if any(question not in text for question, text in zip(_QUESTIONS, before, strict=True)):
            raise _unfit(location, "does not put the question before its answer")
        self.lead = _lead(tokenizer, before[0])
        self.before = [text.removesuffix(self.lead) for text in before]

    @property
    def asks_where_it_answers(self) -> bool:
        return list(self.asked) == self.before

    def repaired(self) -> str:
        """The template with the opening that stands before answers."""
        if self.asked == self.alone:
            raise _unfit(self.location, "ignores add_generation_prompt, so that a question has no opening of an answer")
        openings = {text.removeprefix(alone) for text, alone in zip(self.before, self.alone, strict=True)}
        if len(openings) != 1 or any(
            not text.startswith(alone) for text, alone in zip(self.before, self.alone, strict=True)
        ):
            raise _unfit(self.location, "writes a question in another way once it is answered")
        # One line end at the end of a template is not rendered, and would be if something followed.
        body = self.template.removesuffix("\n")
        return (
            "{% set opens_answer = add_generation_prompt %}{% set add_generation_prompt = false %}\n"
            f"{body}{{{{ {_literal(openings.pop())} if opens_answer else '' }}}}"
        )


def _without_clock(template: str, location: str) -> tuple[str, str]:
    """A template that tells :data:`DAY` where it asks for the time, and what it tells."""
    told: list[str] = []

    def fixed(match: re.Match[str]) -> str:
        told.append(DAY.strftime(match[1] or match[2] or ""))
        return _literal(told[-1])

    changed = _CLOCK.sub(fixed, template)
    if _ANY_CLOCK.search(changed):
        raise _unfit(location, "asks for the time in a way that cannot be fixed, so that its prompts change with it")
    return changed, told[0] if told else ""


def _lead(tokenizer: Any, before: str) -> str:
    """The white space at the end of a text that an answer's first token takes in."""
    for kept in range(len(before), len(before.rstrip()) - 1, -1):
        if all(_begins(tokenizer, before[:kept], before + answer) for answer in _BEGINNINGS):
            return before[kept:]
    return ""


def _begins(tokenizer: Any, start: str, text: str) -> bool:
    first, whole = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (start, text))
    return bool(whole[: len(first)] == first)


def _require_known(template: str, location: str, names: list[str]) -> None:
    if not names:
        return
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
        # Marks of transformers for what an assistant says, which jinja2 does not know.
        plain = template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
        read = meta.find_undeclared_variables(environment.parse(plain)) - set(_OWN)
    except TemplateSyntaxError:
        return  # told when it is rendered
    unknown = [name for name in names if name not in read]
    if unknown:
        raise UserError(
            f"The chat template of the model {location!r} reads no variable {unknown[0]!r}: change "
            f"policy.chat_template_kwargs; it reads {', '.join(sorted(read)) or 'none'}."
        )


def _default(name: str, value: TemplateValue) -> str:
    return f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}\n"


def _literal(value: TemplateValue) -> str:
    """A value as jinja2 writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return repr(value)
    escaped = value.encode("unicode_escape").decode().replace("'", "\\'")
    return f"'{escaped}'"


def _unfit(location: str, why: str) -> UserError:
    return UserError(
        f"The chat template of the model {location!r} {why}: take a model with another template, or write one into "
        "its tokenizer that opens the answer when it is asked to."
    )
