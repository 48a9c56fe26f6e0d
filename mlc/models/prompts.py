"""Prompts as tokens: the chat template around a person's text, and which tokens are that text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlc.errors import UserError
from mlc.models.encoders import in_language
from mlc.shapes.history import Message, Prompt

if TYPE_CHECKING:
    import torch

_PROBE = "\ue000probe\ue000"
"""A text that no template holds, to see what a template puts around a text."""


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt as tokens, the opening of the assistant's turn included."""

    input_ids: tuple[int, ...]
    content: tuple[bool, ...]
    """True for the tokens of the person's own text, False for those of the template; nowhere True if the template does
    not hold the text as it is."""


@dataclass(frozen=True)
class PromptBatch:
    """Padded prompts. N prompts, T tokens in the longest."""

    input_ids: "torch.Tensor"
    """[N, T] int64."""
    attention_mask: "torch.Tensor"
    """[N, T] int64, 1 for real tokens."""
    content_mask: "torch.Tensor"
    """[N, T] bool, True for the tokens of the person's own text."""

    def to(self, device: Any) -> "PromptBatch":
        """The same batch on another device."""
        return PromptBatch(self.input_ids.to(device), self.attention_mask.to(device), self.content_mask.to(device))


def render_prompt(tokenizer: Any, prompt: Prompt, *, chat: bool = True) -> str:
    """The text that the model reads for a prompt.

    Args:
        tokenizer: Tokenizer of the model.
        prompt: A person's text, or messages with ``role`` and ``content`` that end with one of the person.
        chat: Whether a bare text becomes a turn of the chat template; without a template it never does.
    """
    if isinstance(prompt, str):
        if tokenizer.chat_template is None or not chat:
            return prompt
        prompt = [{"role": "user", "content": prompt}]
    return render_messages(tokenizer, prompt, opens_answer=True)


def render_messages(tokenizer: Any, messages: Sequence[Message], *, opens_answer: bool = False) -> str:
    """A conversation as the chat template writes it.

    Args:
        tokenizer: Tokenizer of the model, with a chat template.
        messages: Messages with ``role`` and ``content``.
        opens_answer: Whether the opening of the assistant's turn follows.

    Raises:
        UserError: The template fails.
    """
    try:
        return _applied(tokenizer, fitted(tokenizer, messages), opens_answer)
    except Exception as error:  # whatever a template raises; what it says may hold the texts
        raise UserError(
            f"The chat template cannot render a conversation ({type(error).__name__}): take a model with another "
            "template, or write one into its tokenizer."
        ) from None


def fitted(tokenizer: Any, messages: Sequence[Message]) -> Sequence[Message]:
    """A conversation as a chat template takes it.

    Where a template has no place for a system prompt, as that of Gemma, it stands at the beginning of the first user
    turn, which is what is done with such models everywhere.

    Args:
        tokenizer: Tokenizer of the model, with a chat template.
        messages: Messages with ``role`` and ``content``; at most the first is a system prompt.
    """
    if len(messages) < 2 or messages[0]["role"] != "system" or takes_system(tokenizer):
        return messages
    system, first, *rest = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def takes_system(tokenizer: Any) -> bool:
    """Whether a chat template writes a system prompt that it is given.

    Args:
        tokenizer: Tokenizer of the model, with a chat template.
    """
    probe = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "?"}]
    try:
        return _PROBE in _applied(tokenizer, probe, opens_answer=True)
    except Exception:  # as many templates refuse it
        return False


def moves_system(tokenizer: Any, prompts: Iterable[Prompt]) -> bool:
    """Whether :func:`fitted` moves a system prompt of any of some prompts.

    Args:
        tokenizer: Tokenizer of the model.
        prompts: Texts, or messages with ``role`` and ``content``.
    """
    given = any(not isinstance(prompt, str) and prompt[0]["role"] == "system" for prompt in prompts)
    return given and tokenizer.chat_template is not None and not takes_system(tokenizer)


def _applied(tokenizer: Any, messages: Sequence[Message], opens_answer: bool) -> str:
    rendered: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opens_answer)
    return rendered


def encode_prompt(tokenizer: Any, prompt: Prompt, *, chat: bool = True, language: str | None = None) -> EncodedPrompt:
    """Encodes one prompt, through the chat template where there is one.

    Special tokens come from the template alone; without a template the tokenizer adds its own. The person's own text
    is that of the last message.

    Args:
        tokenizer: Fast tokenizer of the model.
        prompt: A person's text, or messages with ``role`` and ``content`` that end with one of the person.
        chat: Whether a bare text becomes a turn of the chat template.
        language: Of the prompt, for tokenizers that put a token of it to a text, see :mod:`mlc.models.encoders`; None =
            their own.
    """
    rendered = render_prompt(tokenizer, prompt, chat=chat)
    bare = isinstance(prompt, str) and rendered == prompt
    encoded = tokenizer(rendered, add_special_tokens=bare, return_offsets_mapping=True)
    start, end = (0, len(rendered)) if bare else _place_of_text(tokenizer, prompt, rendered)
    content = tuple(begin < end and stop > start and stop > begin for begin, stop in encoded["offset_mapping"])
    ids = in_language(tokenizer, encoded["input_ids"], content, language)
    return EncodedPrompt(tuple(ids), content)


def _place_of_text(tokenizer: Any, prompt: Prompt, rendered: str) -> tuple[int, int]:
    """Where the person's own text begins and ends in a rendered prompt, white space at its ends left out.

    Nowhere, if the template changes or drops the text: then what is its own cannot be told.
    """
    probe = _PROBE if isinstance(prompt, str) else [*prompt[:-1], {**prompt[-1], "content": _PROBE}]
    before, found, after = render_prompt(tokenizer, probe).partition(_PROBE)
    if not (found and rendered.startswith(before) and rendered.endswith(after)):
        return 0, 0
    text = rendered[len(before) : len(rendered) - len(after)]
    start = len(before) + len(text) - len(text.lstrip())
    return start, start + len(text.strip())


def pad_prompts(prompts: Sequence[EncodedPrompt], pad_token: int, *, side: str = "left") -> PromptBatch:
    """Pads prompts to the longest of them.

    Args:
        prompts: At least one prompt.
        pad_token: Id that fills the padding.
        side: ``left`` or ``right``.
    """
    import torch

    width = max(len(prompt.input_ids) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_token, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    content = torch.zeros((len(prompts), width), dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        length = len(prompt.input_ids)
        place = slice(width - length, width) if side == "left" else slice(0, length)
        ids[row, place] = torch.tensor(prompt.input_ids)
        mask[row, place] = 1
        content[row, place] = torch.tensor(prompt.content)
    return PromptBatch(ids, mask, content)
