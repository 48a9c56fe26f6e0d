"""The nano tokenizer: transformers' NLLB class over a BPE vocabulary learned on the grammar."""

import json
import string
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlc.languages import ENGLISH
from mlc.making.grammar import LANGUAGES

if TYPE_CHECKING:
    from transformers import NllbTokenizer

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
"""Ids 0 to 3, as in NLLB."""
MAX_LENGTH = 512


def build_tokenizer(sentences: Iterable[str], vocab_size: int) -> "NllbTokenizer":
    """Learns the vocabulary and puts it into transformers' own tokenizer class.

    The text is not normalised: on loading, the class of transformers 5 drops every normaliser but sentencepiece's.

    Args:
        sentences: Sentences in all languages of the grammar.
        vocab_size: Pieces to learn, special tokens counted; language codes and ``<mask>`` come on top.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import NllbTokenizer

    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    learner.train_from_iterator(
        sentences,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=list(string.ascii_letters + string.digits + string.punctuation),
            show_progress=False,
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    return NllbTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        # Only codes that the model has seen: with the full list it would take any language and babble.
        extra_special_tokens=list(LANGUAGES),
        src_lang=ENGLISH,
        model_max_length=MAX_LENGTH,
    )
