"""From a dataset with texts in several languages to columns of tokens, and back from examples to variants.

The column ``variants`` of a dataset holds, for each prompt, either a list of texts with English first, named by the
column ``languages`` if there is one (the same in every row), or a mapping from language to text. Missing texts are
None or empty. A text may also be a list of messages. Optional: ``variant_weights``, in the same order, and
``variant_label`` (or ``label``), the class of a prompt, for controls by class and for the answer term. That term also
reads the English answer: ``variant_answer``, or else the trainer's own ``completion`` or ``chosen``.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlc.errors import UserError
from mlc.left_out import LeftOut
from mlc.models.continuations import answer_tokens
from mlc.models.prompts import EncodedPrompt
from mlc.permuted import dealt_anew
from mlc.shapes.labels import is_harmful
from mlc.training.apart import set_aside
from mlc.training.settings import LABELLED_CONTROLS, Control, Terms
from mlc.training.variants import Variants, encode_variants, in_languages, require_names

TEXTS, WEIGHTS, NAMES, LABEL = "variants", "variant_weights", "languages", "variant_label"
ANSWER, ANSWERS = "variant_answer", ("variant_answer", "completion", "chosen")
"""Where the English answer stands; the first column that there is."""
TOKENS, CONTENT, HARMFUL, ANSWER_TOKENS = "variant_ids", "variant_content", "variant_harmful", "variant_answer_ids"
_GIVEN = (TOKENS, CONTENT, WEIGHTS)
"""Columns that a control gives to other rows."""
COLUMNS = (*_GIVEN, HARMFUL, ANSWER_TOKENS)
"""Columns that the trainers carry to the collator."""
ENGLISH_NAMES = ("eng_Latn", "en", "eng", "english")


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset whose variants are tokens."""

    dataset: Any
    """A ``datasets.Dataset`` without the texts of the variants, with the columns of :data:`COLUMNS`."""
    languages: tuple[str, ...]
    """[L] names, English first."""
    left_out: LeftOut
    """Variants that are there and count as missing."""
    chat: bool = True
    """Whether texts are turns of the chat template, where there is one."""


def prepare_variants(
    dataset: Any, tokenizer: Any, terms: Terms, *, seed: int, max_tokens: int | None = None
) -> PreparedDataset:
    """Encodes the variants of a dataset and applies the control.

    Args:
        dataset: A ``datasets.Dataset`` with a column ``variants``; see the module.
        tokenizer: Fast tokenizer of the policy.
        terms: The terms, at least one of them with a weight.
        seed: Seed of a control's permutation.
        max_tokens: Longer variants count as missing; None = as configured.

    Raises:
        ValueError: The column is missing or has another shape, English is not in it, no variant can be used, or there
            is no answer for a term that reads it.
        UserError: The control needs labels that are not there.
    """
    if dataset.column_names is None or TEXTS not in dataset.column_names:
        raise ValueError(
            f"the training set needs a column {TEXTS!r} (a list of texts with English first, or a mapping from "
            f"language to text); it has {', '.join(dataset.column_names or [])}."
        )
    first = next((row for row in dataset if row[TEXTS] is not None), None)
    if first is None:
        raise ValueError(f"none of the {len(dataset)} rows of the training set has {TEXTS}: give at least one.")
    languages = _languages(first)
    written = tuple(first[TEXTS]) if isinstance(first[TEXTS], Mapping) else languages
    # Prompts that are bare texts are read bare by the trainers of TRL, so their variants are too.
    chat = not isinstance(first.get("prompt"), str)
    answer = _answer_column(dataset.column_names) if terms.needs_answers else None
    label = next((name for name in (LABEL, "label") if name in dataset.column_names), None)
    limit = terms.max_tokens if max_tokens is None else max_tokens

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        texts = _in_order(row[TEXTS], languages)
        _check_row(row, languages)
        encoded = encode_variants(
            tokenizer,
            texts,
            chat=chat,
            max_tokens=limit,
            with_content=terms.needs_content,
            languages=languages,
        ).prompts
        columns: dict[str, Any] = {
            TOKENS: [list(prompt.input_ids) if prompt else [] for prompt in encoded],
            CONTENT: [list(prompt.content) if prompt else [] for prompt in encoded],
        }
        if label is not None:
            # A trainer may have a column of that name for something else.
            foreign = label != LABEL and not terms.needs_labels and not isinstance(row[label], str)
            columns[HARMFUL] = None if foreign else is_harmful(row[label])
        if row.get(WEIGHTS) is not None:
            columns[WEIGHTS] = _weights_in_order(row[WEIGHTS], written, languages)
        if answer is not None:
            columns[ANSWER_TOKENS] = _answer_tokens(row[answer], answer, tokenizer, chat)[: terms.answer.tokens]
        return columns

    named = [TEXTS, *(column for column in (NAMES, ANSWER, "mask") if column in dataset.column_names)]
    tokens = dataset.map(encode, remove_columns=named)
    left_out = _left_out(dataset, tokens, languages, terms, limit)
    controlled = _controlled(tokens, terms.control, seed)
    return PreparedDataset(controlled.remove_columns(own_labels(controlled)), languages, left_out, chat)


def _answer_tokens(given: Any, column: str, tokenizer: Any, chat: bool) -> list[int]:
    text = given if isinstance(given, str) or not given else given[-1].get("content")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the answer term reads {column!r}, and a row has no answer there: give each row one.")
    return list(answer_tokens(tokenizer, text, chat=chat))


def own_labels(dataset: Any) -> list[str]:
    """Columns of a dataset that hold labels of prompts as texts, which the trainers of TRL take for something else."""
    features, texts = dataset.features or {}, ("string", "large_string")
    return [name for name in (LABEL, "label") if getattr(features.get(name), "dtype", None) in texts]


def variant_counts(prepared: PreparedDataset) -> list[float]:
    """[L] how much of the prompts each language has: translations of the same prompt share it among them.

    So they count in the terms, where the loss of a prompt is a mean over its translations.
    """
    counts = [0.0] * len(prepared.languages)
    for english, *others in prepared.dataset[TOKENS]:
        counts[0] += bool(english)
        there = [place for place, ids in enumerate(others, 1) if ids]
        for place in there:
            counts[place] += 1 / len(there)
    return counts


def with_prompts_apart(prepared: PreparedDataset, prompts: int, seed: int) -> tuple[Any, tuple[Variants, ...]]:
    """The dataset without some prompts, on which the risk of languages is measured, and these.

    Args:
        prepared: From :func:`prepare_variants`.
        prompts: How many, of both classes.
        seed: Of the choice.

    Raises:
        UserError: Too few prompts have a label.
    """
    dataset = prepared.dataset
    labels = dataset[HARMFUL] if HARMFUL in dataset.column_names else [None] * len(dataset)
    apart = set_aside(list(labels), prompts, seed)
    left = dataset.select([place for place in range(len(dataset)) if place not in set(apart)])
    found = tuple(variants_of(dataset[place]) for place in apart)
    return left, tuple(variants for variants in found if variants.usable)


def variants_of(example: Mapping[str, Any]) -> Variants:
    """The variants of a row that :func:`prepare_variants` wrote.

    Args:
        example: A row with the columns of :data:`COLUMNS`.
    """
    prompts = [
        EncodedPrompt(tuple(ids), tuple(map(bool, content))) if ids else None
        for ids, content in zip(example[TOKENS], example[CONTENT], strict=True)
    ]
    weights = example.get(WEIGHTS)
    return Variants(
        tuple(prompts),
        None if weights is None else tuple(map(float, weights)),
        bool(example.get(HARMFUL)),
        tuple(example.get(ANSWER_TOKENS) or ()),
    )


def _answer_column(columns: Sequence[str]) -> str:
    found = next((name for name in ANSWERS if name in columns), None)
    if found is None:
        raise ValueError(
            f"the answer term reads English answers: the training set needs one of the columns {', '.join(ANSWERS)}, "
            "or the term the source 'own'."
        )
    return found


def _languages(row: Mapping[str, Any]) -> tuple[str, ...]:
    texts = row[TEXTS]
    if isinstance(texts, Mapping):
        english = [name for name in texts if name.lower() in {known.lower() for known in ENGLISH_NAMES}]
        if len(english) != 1:
            raise ValueError(
                f"{TEXTS} must name English once, as one of {', '.join(ENGLISH_NAMES)}; it names {', '.join(texts)}."
            )
        return (english[0], *(name for name in texts if name != english[0]))
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        raise ValueError(f"{TEXTS} must be a list of texts or a mapping, not {type(texts).__name__}.")
    names = row.get(NAMES)
    if names is not None and len(names) != len(texts):
        raise ValueError(f"{NAMES} names {len(names)} languages, {TEXTS} has {len(texts)} texts.")
    if names is not None:
        require_names(names)
    return tuple(names) if names is not None else tuple(str(place) for place in range(len(texts)))


def _in_order(texts: Any, languages: Sequence[str]) -> list[Any]:
    if texts is None:
        return [None] * len(languages)
    try:
        return in_languages(texts, languages)
    except ValueError as error:
        raise ValueError(f"in {TEXTS} {error}") from None


def _check_row(row: Mapping[str, Any], languages: Sequence[str]) -> None:
    names, weights = row.get(NAMES), row.get(WEIGHTS)
    if names is not None and not isinstance(row[TEXTS], Mapping) and tuple(names) != tuple(languages):
        raise ValueError(
            f"{NAMES} must be the same in every row: one has {', '.join(names)}, the first has {', '.join(languages)}."
        )
    if weights is not None and len(weights) != len(languages):
        raise ValueError(f"{WEIGHTS} has {len(weights)} weights in one row, {TEXTS} has {len(languages)} texts.")


def _weights_in_order(weights: Sequence[Any], written: Sequence[str], languages: Sequence[str]) -> list[float]:
    """Weights of a row in the order of the languages; they are given in that in which the texts are written."""
    for weight in weights:
        if not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
            raise ValueError(f"{WEIGHTS} must be finite numbers of at least 0; one is {weight!r}.")
    return [float(weights[written.index(name)]) for name in languages]


def _left_out(texts: Any, tokens: Any, languages: Sequence[str], terms: Terms, limit: int) -> LeftOut:
    rows = [_in_order(row, languages) for row in texts[TEXTS]]
    given = sum(bool(text) for row in rows for text in row)
    kept = sum(bool(ids) for row in tokens[TOKENS] for ids in row)
    if any(map(_is_pair, rows)) and not any(map(_is_pair, tokens[TOKENS])):
        why = ", or blank, or changed by the chat template (see pool)" if terms.needs_content else ""
        raise ValueError(
            f"no prompt can be used beside a translation of it: {given - kept} of the {given} variants are longer than "
            f"{limit} tokens{why}."
        )
    return LeftOut("unusable variant", given - kept, given, limit)


def nothing_to_read(dataset: Any, terms: Terms) -> list[LeftOut]:
    """What of a training set leaves terms without anything to learn from; nothing where each of them reads some prompt.

    Args:
        dataset: What is trained on, with the columns of :data:`COLUMNS`.
        terms: The terms, at least one of them with a weight.
    """
    count = len(dataset)
    pairs = [_is_pair(row) for row in dataset[TOKENS]]
    if not any(pairs):
        return [LeftOut("no pair", count, count)]
    answer = terms.answer
    harmful = dataset[HARMFUL] if HARMFUL in dataset.column_names else [False] * count
    read = any(pair and label for pair, label in zip(pairs, harmful, strict=True))
    unread = answer.weight > 0 and answer.harmless == "none" and not read
    return [LeftOut("no harmful pair", count, count)] if unread else []


def _is_pair(row: Sequence[Any]) -> bool:
    """Whether English is there, and a translation of it."""
    return bool(row[0]) and any(row[1:])


def _controlled(dataset: Any, control: Control, seed: int) -> Any:
    if control == "none":
        return dataset
    label = next((name for name in (LABEL, "label") if name in dataset.column_names), None)
    givers = permutation(dataset[label] if label else [None] * len(dataset), control, seed)
    columns = [column for column in _GIVEN if column in dataset.column_names]
    given = {column: dataset[column] for column in columns}

    def receive(_row: dict[str, Any], index: int) -> dict[str, Any]:
        return {column: _received(rows[index], rows[givers[index]]) for column, rows in given.items()}

    return dataset.map(receive, with_indices=True)


def _received(own: Sequence[Any] | None, giver: Sequence[Any] | None) -> list[Any] | None:
    """The English entry of a row and the others of its giver; where one has no weights, all of its weigh 1."""
    if own is None and giver is None:
        return None
    first, *_ = own or [1.0]
    return [first, *(giver[1:] if giver is not None else [1.0] * (len(own or ()) - 1))]


def permutation(labels: Sequence[str | None], control: Control, seed: int) -> list[int]:
    """Which row gives its translations to which, for controls.

    Args:
        labels: Class of each row.
        control: ``shuffled`` over all rows, ``shuffled_within_class`` over rows of equal label, or ``permuted_labels``:
            the labels are dealt anew, rows whose label changes swap translations with rows of their new label that
            change too, and the others keep theirs. Of what remains of the pairs, the class then says nothing.
        seed: Seed of the permutation.

    Raises:
        UserError: A row has no label, and classes are asked for; or labels are to be dealt anew that are all the same.

    Returns:
        For each row the row whose translations it receives: another one, except in a class of one row, and where a
        permuted label is the old one.
    """
    if control in LABELLED_CONTROLS and any(label is None for label in labels):
        raise UserError(
            f"The control {control!r} needs a label for every prompt: add the column label (harmful or harmless), or "
            "use the control 'shuffled'."
        )
    if control == "permuted_labels" and len(set(labels)) == 1:
        raise UserError(
            f"The control 'permuted_labels' deals labels anew, and all {len(labels)} prompts are {labels[0]}: it "
            "would be the method itself. Take prompts of both classes, or the control 'shuffled'."
        )
    givers = list(range(len(labels)))
    if control == "permuted_labels":
        dealt = dealt_anew(labels, seed)
        changes: dict[tuple[str | None, str | None], list[int]] = {}
        for index, change in enumerate(zip(labels, dealt, strict=True)):
            changes.setdefault(change, []).append(index)
        for (old, new), receivers in changes.items():
            if old != new:
                # As many change the other way, where there are two classes.
                for receiver, giver in zip(receivers, changes.get((new, old), ()), strict=False):
                    givers[receiver] = giver
        return givers
    generator = random.Random(seed)
    groups: dict[str | None, list[int]] = {}
    for index, label in enumerate(labels):
        groups.setdefault(label if control == "shuffled_within_class" else None, []).append(index)
    for members in groups.values():
        order = list(members)
        generator.shuffle(order)
        # A rotation of a shuffled order leaves nobody with its own translations.
        for receiver, giver in zip(order, order[1:] + order[:1], strict=True):
            givers[receiver] = giver
    if givers == list(range(len(labels))):
        whose = "" if control == "shuffled" else " of its class"
        raise UserError(
            f"The control {control!r} finds for no prompt another one{whose} to take translations from, and would be "
            "the method itself: take more prompts."
        )
    return givers
