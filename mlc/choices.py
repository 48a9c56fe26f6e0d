"""The words that settings and arguments choose between, each set declared once; and how words are separated.

Here, and not beside what they choose, because the command line reads them before anything heavy is imported, and the
losses know no settings.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal

Pool = Literal["last", "last_content", "mean"]
"""Which tokens stand for a prompt, see :func:`mlc.models.states.prompt_states`."""
Form = Literal["cosine", "contrastive", "released", "paper"]
"""Form of the consistency term, see :func:`mlc.losses.consistency_loss`."""
Anchor = Literal["none", "english"]
"""Whether the other languages move towards English, or all move."""
Center = Literal["none", "batch", "running"]
"""Which mean state is subtracted first, see :class:`mlc.losses.Centering`."""
CenterScope = Literal["english", "overall", "per_language"]
"""Whose rows make that mean."""
Difference = Literal["huber", "squared"]
"""How far two margins lie apart, see :func:`mlc.losses.decision_loss`."""
Divergence = Literal["forward", "reverse", "jsd"]
"""How far two distributions lie apart, see :func:`mlc.losses.answer_loss`."""
OwnPairs = Literal["consistency", "chance"]
"""How pairs of a model's own answers are chosen, see :mod:`mlc.models.consistent_pairs`."""
Layers = Literal["all", "middle"] | tuple[int, ...]
"""Layers whose weights are changed: numbers from 0, negative from the end, or a word, see
:class:`mlc.editing.settings.EditSettings`."""
FloatType = Literal["float32", "bfloat16"]
"""Type of the numbers that a model is trained and saved in."""
InferenceType = Literal["auto", "float32", "bfloat16", "float16"]
"""Type of the numbers that a model answers in; ``auto`` is that of its checkpoint."""
Attention = Literal["sdpa", "eager", "flash_attention_2"]
"""How attention is computed."""
Optimiser = Literal["adamw_fused", "adamw", "adafactor", "adamw_8bit", "paged_adamw_8bit"]
"""Which optimiser trains."""
Weights = Literal["merged", "adapter"]
"""What the registry holds of a model that was trained with an adapter."""
Format = Literal["jsonl", "csv", "tsv", "parquet", "lines"]
"""Formats of tables, see :mod:`mlc.tables`."""


def words_of(items: Iterable[str]) -> list[str]:
    """The words of an option that may be repeated, and that may hold several words with commas between them."""
    return [word.strip() for item in items for word in item.split(",") if word.strip()]


def hint_among(word: str, words: Sequence[str], otherwise: str = "") -> str:
    """The end of a sentence about a word that is not among those that there are.

    Args:
        word: The unknown one.
        words: Those that there are.
        otherwise: What to say if none of them is near; the words to choose from, if left out.

    Returns:
        Such as ``did you mean 'strict'?``
    """
    near = difflib.get_close_matches(word.casefold(), words, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise or f"choose from {', '.join(words)}."
