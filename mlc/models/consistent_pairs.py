"""Preference pairs of a model's own answers, chosen by how well they agree with English ones (CM-Align).

K answers to a prompt in a language, H hidden size.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlc.choices import OwnPairs
from mlc.errors import UserError
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
from mlc.models.sampling import own_answers
from mlc.models.states import prompt_states
from mlc.models.together import ANSWERED_TOGETHER
from mlc.shapes.answers import answer_column
from mlc.shapes.history import Prompt, conversation, variants_of
from mlc.stopping import ShouldStop, never, stop_if
from mlc.store.hashing import digest_data
from mlc.store.lines import append_line, read_lines

if TYPE_CHECKING:
    from mlc.models.loading import Policy

Pair = tuple[str, str]
"""A chosen and a rejected answer; empty texts where there is none."""
NOTHING: Pair = ("", "")


def reference_of(states_KH: Tensor) -> int:
    """The answer that is closest to the other ones: with the highest mean cosine, the first of equal ones.

    Args:
        states_KH: Of at least one answer.
    """
    units = torch.nn.functional.normalize(states_KH.double(), dim=1)
    cosines = units @ units.T
    return int((cosines.sum(dim=1) - cosines.diagonal()).argmax())


def nearest_and_farthest(states_KH: Tensor, reference_H: Tensor) -> tuple[int, int]:
    """Which answers are most and least similar to the reference, by cosine; the first ones of equal ones.

    Args:
        states_KH: Of at least one answer.
        reference_H: Of the reference.
    """
    cosines = torch.nn.functional.cosine_similarity(states_KH.double(), reference_H.double().unsqueeze(0))
    return int(cosines.argmax()), int(cosines.argmin())


def choose_pairs(
    texts: Mapping[int, Sequence[str]], states: Mapping[int, Tensor], chance: random.Random | None = None
) -> dict[int, Pair]:
    """The pairs of one prompt, in each of its languages.

    The English reference is the answer that is closest to the other English ones, and the English pair is that one and
    the one farthest from it. In another language the answer nearest to the reference is chosen, and the farthest
    rejected. Languages whose answers do not differ have no pair; where that is English, its answers are the surest
    reference that there is.

    Args:
        texts: Answers by place of the language, 0 for English.
        states: [K, H] of these answers.
        chance: Draws both answers in place of that: a control.

    Returns:
        By place of the language; nothing without an English answer.
    """
    if not len(texts.get(0, ())):
        return {}
    reference = states[0][reference_of(states[0])]
    found = {}
    for place, answers in texts.items():
        if len(set(answers)) < 2:
            continue
        if chance:
            # Of different answers, so that as many prompts have a pair as where they are chosen.
            best, worst = chance.sample(sorted(set(answers)), 2)
        else:
            best, worst = (answers[each] for each in nearest_and_farthest(states[place], reference))
        if best != worst:
            found[place] = (best, worst)
    return found


def consistent_pairs(
    policy: "Policy",
    rows: Sequence[Mapping[str, Any]],
    *,
    answers: int,
    tokens: int,
    layer: int | float,
    chosen_by: OwnPairs = "consistency",
    seed: int = 0,
    record: str | Path | None = None,
    on_answers: Callable[[int], None] = lambda count: None,
    should_stop: ShouldStop = never,
) -> list[dict[str, Any]]:
    """Lets a model answer prompts in all their languages, several times each, and makes preference pairs of that.

    CM-Align (arXiv 2509.08541). Which vectors stand for answers is our choice: the mean state of an answer's tokens at
    one layer of the model itself, less the mean over all answers in that language, which would else be all that they
    have in common.

    Args:
        policy: The model.
        rows: English rows with ``variants``, English first, empty where one is missing.
        answers: K, at least 2.
        tokens: Longest answer.
        layer: Of the states.
        chosen_by: ``chance`` draws both answers of a pair: the control that samples and trains as much.
        seed: Of the answers, and of what is drawn.
        record: File to which the answers of each batch are added as soon as they are there. What it holds already of
            the same model, prompts, length and seed is not sampled again.
        on_answers: Called with the number of answers just sampled, or found in the record.
        should_stop: Looked at before each batch.

    Returns:
        The rows that have a pair in any language, with ``chosen`` and ``rejected`` in English and columns of both in
        every language, see :mod:`mlc.shapes.answers`; empty where a language has none.

    Raises:
        UserError: No prompt gets two answers that differ.
        Stopped: It was asked to stop; what is in the record stays.
    """
    asked = [
        (owner, place, conversation(text, turns))
        for owner, own in enumerate(rows)
        for place, (text, turns) in enumerate(variants_of(own))
        if text
        for _ in range(answers)
    ]
    file = None if record is None else Path(record)
    sampled = _sampled(policy, [prompt for _, _, prompt in asked], tokens, seed, file, on_answers, should_stop)
    given = [(owner, place, text) for (owner, place, _), text in zip(asked, sampled, strict=True) if text]
    states = _states(policy, [text for _, _, text in given], layer, should_stop) if given else torch.zeros(0, 1)
    for place in {place for _, place, _ in given}:
        own = torch.tensor([other == place for _, other, _ in given])
        states[own] -= states[own].mean(dim=0)
    chance = random.Random(seed) if chosen_by == "chance" else None
    grouped: dict[int, dict[int, list[int]]] = {}
    for index, (owner, place, _) in enumerate(given):
        grouped.setdefault(owner, {}).setdefault(place, []).append(index)
    made = []
    for number, row in enumerate(rows):
        places = grouped.get(number, {})
        pairs = choose_pairs(
            {place: [given[index][2] for index in own] for place, own in places.items()},
            {place: states[own] for place, own in places.items()},
            chance,
        )
        if pairs:
            made.append(_with_pairs(row, pairs))
    if not made:
        raise UserError(
            f"None of the {len(rows)} training prompts gets two answers that differ from the model itself, so that it "
            "has nothing to prefer: leave the method out, or take another policy."
        )
    return made


def _with_pairs(row: Mapping[str, Any], pairs: Mapping[int, Pair]) -> dict[str, Any]:
    own = [pairs.get(place, NOTHING) for place in range(len(row["variants"]))]
    chosen, rejected = ([pair[side] for pair in own] for side in (0, 1))
    columns = {answer_column("chosen"): chosen, answer_column("rejected"): rejected}
    return {**row, "chosen": chosen[0], "rejected": rejected[0], **columns}


def _sampled(
    policy: "Policy",
    prompts: Sequence[Prompt],
    tokens: int,
    seed: int,
    record: Path | None,
    on_answers: Callable[[int], None],
    should_stop: ShouldStop,
) -> list[str]:
    """One answer to each prompt, drawn from the model as it is; the caller's random state stays as it was.

    Each batch of prompts of like length has a seed of its own, so that those that are there need no other one.
    """
    encoded = [encode_prompt(policy.tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place].input_ids))
    made_of = digest_data([policy.source.identity, [list(one.input_ids) for one in encoded], tokens, seed])
    kept = [entry for entry in read_lines(record) if entry.get("of") == made_of] if record else []
    known = {int(entry["batch"]): entry["answers"] for entry in kept}
    found = [""] * len(prompts)
    for number, start in enumerate(range(0, len(order), ANSWERED_TOGETHER)):
        places = order[start : start + ANSWERED_TOGETHER]
        if number not in known:
            stop_if(should_stop)
            own = random.Random(f"{seed} {number}").getrandbits(63)
            known[number] = _drawn(policy, [encoded[place] for place in places], tokens, own)
            if record:
                record.parent.mkdir(parents=True, exist_ok=True)
                append_line(record, {"of": made_of, "batch": number, "answers": known[number]})
        for place, text in zip(places, known[number], strict=True):
            found[place] = text
        on_answers(len(places))
    return found


def _drawn(policy: "Policy", encoded: Sequence[EncodedPrompt], tokens: int, seed: int) -> list[str]:
    device = policy.model.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        batch = pad_prompts(encoded, policy.pad_token).to(device)
        given = own_answers(policy.model, batch, tokens, sample=True)
    return [policy.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in given]


@torch.no_grad()
def _states(policy: "Policy", texts: Sequence[str], layer: int | float, should_stop: ShouldStop) -> Tensor:
    """[N, H] mean states of texts, read by themselves."""
    found = []
    for start in range(0, len(texts), ANSWERED_TOGETHER):
        stop_if(should_stop)
        part = texts[start : start + ANSWERED_TOGETHER]
        ids = [policy.tokenizer(text, add_special_tokens=True)["input_ids"] for text in part]
        encoded = [EncodedPrompt(tuple(own), (True,) * len(own)) for own in ids]
        batch = pad_prompts(encoded, policy.pad_token).to(policy.model.device)
        found.append(
            prompt_states(
                policy.model,
                batch.input_ids,
                batch.attention_mask,
                layer=layer,
                pool="mean",
                content_mask=batch.content_mask,
            ).cpu()
        )
    return torch.cat(found).float()
