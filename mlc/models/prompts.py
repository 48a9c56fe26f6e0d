"""Prompts as tokens: the chat template around a person's text, and which tokens are that text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PROBE = "\ue000probe\ue000"
"""A text that no template holds, to see what a template puts around a text."""


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt as tokens, the opening of the assistant's turn included."""

    input_ids: tuple[int, ...]
    content: tuple[bool, ...]
    """True for the tokens of the person's own text, False for those of the template."""


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


def render_prompt(tokenizer: Any, text: str) -> str:
    """The text that the model reads for a person's prompt: its chat template, or the bare text without one."""
    if tokenizer.chat_template is None:
        return text
    rendered: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    return rendered


def encode_prompt(tokenizer: Any, text: str) -> EncodedPrompt:
    """Encodes one prompt through the chat template.

    Special tokens come from the template alone; without a template the tokenizer adds its own.
    """
    rendered = render_prompt(tokenizer, text)
    has_template = tokenizer.chat_template is not None
    encoded = tokenizer(rendered, add_special_tokens=not has_template, return_offsets_mapping=True)
    # Templates may trim the text, so what is looked for is the trimmed text, at its last place before what the
    # template itself puts after it.
    core = text.strip()
    closing = len(render_prompt(tokenizer, _PROBE).rpartition(_PROBE)[2])
    start = rendered.rfind(core, 0, len(rendered) - closing)
    end = start + len(core)
    content = tuple(
        bool(core) and begin < end and stop > start and stop > begin for begin, stop in encoded["offset_mapping"]
    )
    return EncodedPrompt(tuple(encoded["input_ids"]), content)


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
