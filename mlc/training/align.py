"""Alignment of a policy as the pipeline does it: rows in, trained weights and a log out."""

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from mlc.errors import UserError
from mlc.languages import ENGLISH
from mlc.left_out import LeftOut, require_few
from mlc.losses.finite import NotFiniteError
from mlc.models.adapters import is_adapted
from mlc.models.bounds import context_of
from mlc.models.continuations import answer_tokens
from mlc.models.encoders import decoder_opening, is_encoder_decoder
from mlc.models.loading import Policy
from mlc.models.prompts import encode_prompt, fitted, render_messages
from mlc.shapes.answers import answer_column
from mlc.shapes.history import TURNS, VARIANT_TURNS, Prompt, as_messages, conversation
from mlc.shapes.labels import LOOKALIKE
from mlc.shapes.spoken import LANGUAGE
from mlc.stopping import ShouldStop, Stopped, never
from mlc.training.adapters import lora_config, warn_of_idle_term
from mlc.training.carriers.carrier import Training
from mlc.training.checkpoints import Checkpoints
from mlc.training.cut import CUT, cut_answer, is_open, without_ends
from mlc.training.mixin import VARIANT_TOKENS
from mlc.training.preparation import ANSWER, LABEL, NAMES, TEXTS, WEIGHTS
from mlc.training.settings import HARMFUL_LABEL, AlignSettings
from mlc.training.together import agreed, is_first, process_count
from mlc.training.translated import mixed_rows, translated_rows

LOG_FILE = "training_log.jsonl"
TOKEN_COUNTS = ("num_tokens", VARIANT_TOKENS)
"""In a training log: tokens that the English loss has read so far, and those that the terms have."""
OPTIMISERS = {"adamw": "adamw_torch", "adamw_fused": "adamw_torch_fused"}
"""What transformers calls those that it calls something else."""

_OF_THE_CLOCK = ("epoch", "step_time")
"""What trainers log that is no part of what was trained."""
_OF_TRANSLATED = {"long prompt": "long translation", "long answer": "long translated answer"}
"""What is counted of translated examples, by what it is called of others."""

Row = dict[str, Any]


def align(
    policy: Policy,
    rows: Sequence[Row],
    settings: AlignSettings,
    *,
    seed: int,
    folder: Path,
    device: str | None = None,
    teacher: Policy | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    on_left_out: Callable[[Sequence[LeftOut]], None] | None = None,
    checkpoints: Path | None = None,
    should_stop: ShouldStop = never,
) -> list[dict[str, float]]:
    """Aligns a policy in place.

    With ``adapter`` the policy's model becomes one of PEFT, and its own weights stay as they are. The terms read the
    adapter too; layers above the one of the consistency term get nothing from that term, and where no layer with an
    adapter lies below it, a warning says so.

    Where ``torch.distributed`` has several processes, each of them calls this with the same arguments, and takes its
    share of every step; the first one writes the log.

    Args:
        policy: Model and tokenizer, weights in ``training_dtype``; with an adapter already, if that is to be trained
            on.
        rows: Training rows with ``prompt`` and ``chosen``; ``rejected`` for the carriers that compare; ``variants``
            (English first, empty where missing), and if given ``languages``, ``label`` and ``variant_weights``, for
            the terms and for translated examples; ``variant_chosen`` and ``variant_rejected``, answers in the same
            order, where translated examples have their own. ``turns`` and ``variant_turns`` are what was said before,
            see :mod:`mlc.shapes.history`. A carrier that samples answers reads ``label``, ``kind`` and ``language`` in
            place of answers.
        settings: The alignment.
        seed: Seed of the order of prompts, the extractor and a control's permutation.
        folder: Folder for the Trainer's own files and the log.
        device: Where it computes; None = where the policy is.
        teacher: The safe model of the carrier ``kl``; None = the policy without its adapter.
        on_step: Called after each step with its number and figures.
        on_left_out: Called before the first step with what training goes without.
        checkpoints: Folder of this very training's checkpoints, written every ``checkpoint_minutes``. Called again
            with the same arguments and the untrained policy after it was stopped, training goes on from the last one,
            to the same weights as if nothing had happened (on a CPU in float32: bit for bit).
        should_stop: Looked at after each step; a checkpoint is written before the training stops.

    Returns:
        One entry per step: step, loss and its parts, learning rate, gradient norm, and what the carrier logs.

    Raises:
        ValueError: No row can be trained on, or ``rejected`` is missing.
        Stopped: It was asked to stop.
        UserError: More than ``max_dropped`` of the rows or variants cannot be used, or the training diverged: its loss
            or its gradient is no number any more.
    """
    rows, sources, left_out = _examples(policy, rows, settings)
    if translated := translated_rows(sources, settings.translated, seed=seed):
        kept, more = usable_rows(policy, translated, settings)
        with_answers = answer_column("chosen") in sources[0]
        told = _OF_TRANSLATED if with_answers else {"long prompt": _OF_TRANSLATED["long prompt"]}
        left_out += [replace(count, kind=told[count.kind]) for count in more if count.kind in told]
        translated = kept
    require_few(left_out, settings.max_dropped)
    dataset, pairs = Dataset.from_list([]), list[Row]()
    if settings.english_loss.reads_pairs:
        pairs = rows if settings.english_loss.reads_feedback else translated
    elif policy.encodes:
        dataset = build_encoded_dataset(policy, mixed_rows(rows, translated, settings.translated.share), settings)
    else:
        dataset = build_dataset(policy, mixed_rows(rows, translated, settings.translated.share), settings)
    log: list[dict[str, float]] = []
    # Trainers count from zero in every process, see `_Report`.
    counted: dict[str, float] = {}

    def record(step: int, figures: dict[str, float]) -> None:
        # Without the term the loss is the carrier's alone.
        figures = {"alignment_loss": figures["loss"], **figures}
        figures |= {name: figures[name] + counted.get(name, 0.0) for name in TOKEN_COUNTS if name in figures}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(figures.get(name, 0.0)):
                raise _diverged(step, settings)
        # JSON has no number for what a step does not have.
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        log.append({"step": step, **{name: value for name, value in figures.items() if name not in _OF_THE_CLOCK}})
        if on_step:
            on_step(step, figures)

    place = policy.model.device if device is None else torch.device(device)
    with _own_random_state(place), _own_forwards(policy, *((teacher,) if teacher else ())):
        options = _options(place, settings, seed, checkpoints or folder)
        adapter = None
        if settings.adapter and not is_adapted(policy.model):
            adapter = lora_config(settings.adapter, policy.model)
        make = _maker(policy, settings)
        trainer = make(Training(policy, teacher, dataset, settings, options, adapter, pairs))
        trainer.train_dataset = without_ends(trainer.train_dataset, policy.stop_tokens)
        policy.model = trainer.accelerator.unwrap_model(trainer.model)
        if settings.adapter and settings.consistency.weight > 0:
            warn_of_idle_term(policy.model, settings.consistency.layer)
        left_out += trainer.left_out
        require_few(left_out, settings.max_dropped)
        if on_left_out:
            on_left_out(left_out)
        trainer.add_callback(_Report(record))
        resume = None
        if checkpoints is not None:
            saver = Checkpoints(checkpoints, log, 60 * settings.checkpoint_minutes)
            trainer.add_callback(saver)
            resume = saver.resume_from()
            counted |= {name: log[-1][name] for name in TOKEN_COUNTS if log and name in log[-1]}
            if on_step:
                for entry in log:
                    on_step(int(entry["step"]), entry)
        trainer.add_callback(_Stop(should_stop, saves=checkpoints is not None))
        for noisy in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(noisy)
        try:
            trainer.train(resume_from_checkpoint=resume)
        except NotFiniteError:
            raise _diverged(trainer.state.global_step + 1, settings) from None
        if trainer.state.global_step < settings.steps:
            raise Stopped
    policy.model.eval()
    if is_first():
        (folder / LOG_FILE).write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")
    return log


def tokens_read(folder: Path) -> int | None:
    """Tokens that a training has read, the terms' too, by the log in its folder; None where its trainer counts none."""
    last = json.loads((folder / LOG_FILE).read_text(encoding="utf-8").splitlines()[-1])
    return int(sum(last.get(name, 0.0) for name in TOKEN_COUNTS)) or None


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Gives the caller the random states back that every Trainer sets to its seed."""
    before, before_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(before_numpy)


@contextmanager
def _own_forwards(*policies: Policy) -> Iterator[None]:
    """Gives models the ``forward`` back that they had: trainers put others there, such as ones that round results."""
    before = {
        module: vars(module)["forward"]
        for policy in policies
        for module in policy.model.modules()
        if "forward" in vars(module)
    }
    try:
        yield
    finally:
        for policy in policies:
            # The model may have got an adapter in between.
            for module in policy.model.modules():
                vars(module).pop("_original_forward", None)
                vars(module).pop("forward", None)
                if module in before:
                    module.forward = before[module]


def _diverged(step: int, settings: AlignSettings) -> UserError:
    return UserError(
        f"The training diverged: at step {step} of {settings.steps} its numbers are no longer finite. Lower "
        f"align.learning_rate, which is {settings.learning_rate:g}, or the weights of the terms."
    )


def _examples(
    policy: Policy, rows: Sequence[Row], settings: AlignSettings
) -> tuple[list[Row], list[Row], list[LeftOut]]:
    """The English examples, the rows whose translations are examples, and how many rows training goes without."""
    english = [row for row in rows if not _compares_translations_alone(row, settings)]
    kept, left_out = usable_rows(policy, english, settings) if english or not rows else ([], [])
    used = {id(row) for row in kept}
    return kept, [row for row in rows if id(row) in used or _compares_translations_alone(row, settings)], left_out


def _compares_translations_alone(row: Row, settings: AlignSettings) -> bool:
    """Whether a row has two answers to compare in other languages and none in English, such as where those agree."""
    carrier = settings.english_loss
    compares = carrier.needs_rejected and not carrier.reads_pairs and bool(settings.translated.share)
    return compares and not row.get("rejected") and any(row.get(answer_column("rejected")) or ())


def usable_rows(policy: Policy, rows: Sequence[Row], settings: AlignSettings) -> tuple[list[Row], list[LeftOut]]:
    """The rows that a training can use, and how many it goes without.

    Args:
        policy: Whose tokenizer counts.
        rows: As in :func:`align`.
        settings: The alignment.

    Returns:
        The rows, and counts by reason. Answers that are too long stay, are cut later, and are counted too.

    Raises:
        ValueError: No row can be trained on, or ``rejected`` is missing.
    """
    kept, left_out = list(rows), list[LeftOut]()
    if settings.english_loss.needs_rejected:
        kept = [row for row in kept if row.get("rejected")]
        left_out.append(LeftOut("no rejected", len(rows) - len(kept), len(rows)))
        if not kept:
            raise ValueError(f"the carrier {settings.carrier} needs rejected answers, and no row has one.")
    if settings.english_loss.samples:
        kept = [row for row in kept if row.get("label")]
        left_out.append(LeftOut("no label", len(rows) - len(kept), len(rows)))
        if not kept:
            raise ValueError(
                f"the carrier {settings.carrier} rewards answers by the label of the prompt, and no row has one."
            )
    tokenizer, limit, given = policy.tokenizer, _longest_prompt(policy, settings), len(kept)
    kept = [row for row in kept if len(encode_prompt(tokenizer, _asked(row)).input_ids) <= limit]
    left_out.append(LeftOut("long prompt", given - len(kept), given, limit))
    if not kept:
        raise ValueError(f"none of the {given} prompts has at most {limit} tokens.")
    answers = [row[name] for row in kept for name in _answers(settings)]
    cut = sum(cut_answer(tokenizer, answer, settings.max_answer_tokens) != answer for answer in answers)
    left_out.append(LeftOut("long answer", cut, len(answers), settings.max_answer_tokens))
    return kept, left_out


def _longest_prompt(policy: Policy, settings: AlignSettings) -> int:
    """Most tokens of a prompt: as configured, and no more than the policy can read with an answer behind it."""
    context = context_of(policy.model.config.to_dict())
    if context is None:
        return settings.max_prompt_tokens
    longest, name = settings.max_answer_tokens, "align.max_answer_tokens"
    if settings.english_loss.samples:
        longest, name = settings.grpo.max_completion_length, "align.grpo.max_completion_length"
    room = context if is_encoder_decoder(policy.model.config) else context - longest
    if room < 1:
        raise ValueError(
            f"the policy reads at most {context} tokens at once, and {name} of {longest} leaves no room for a prompt."
        )
    return min(settings.max_prompt_tokens, room)


def _answers(settings: AlignSettings) -> dict[str, str]:
    """Columns of the rows that hold answers, and what the trainers of TRL call them."""
    if settings.english_loss.samples:
        return {"chosen": ANSWER} if settings.terms.needs_answers else {}
    compares = settings.english_loss.needs_rejected
    return {"chosen": "chosen", "rejected": "rejected"} if compares else {"chosen": "completion"}


def build_dataset(policy: Policy, rows: Sequence[Row], settings: AlignSettings) -> Dataset:
    """The rows as the trainers of TRL read them; answers that are too long are cut, see :mod:`mlc.training.cut`.

    Args:
        policy: Whose tokenizer counts, and whose chat template is used if there is one.
        rows: From :func:`usable_rows`.
        settings: The alignment.

    Raises:
        ValueError: The chat template puts something else before an answer than the policy is asked with.
    """
    tokenizer, answers = policy.tokenizer, _answers(settings)
    chat = tokenizer.chat_template is not None
    if chat:
        _require_asked_as_trained(tokenizer, rows, list(answers))
    limit = settings.max_answer_tokens
    open_answers = [
        [column for name, column in answers.items() if is_open(tokenizer, row[name], limit)] for row in rows
    ]
    with_open = any(open_answers)
    # A column holds texts or messages, not both.
    with_turns = any(row.get(TURNS) for row in rows)

    def prompt_of(row: Row) -> Any:
        asked = _asked(row)
        return list(fitted(tokenizer, as_messages(asked))) if chat else asked

    def answer(text: str) -> Any:
        return [{"role": "assistant", "content": text}] if chat else text

    def judged(row: Row) -> Row:
        if not settings.english_loss.samples:
            return {}
        return {
            "harmful": row["label"] == HARMFUL_LABEL,
            "lookalike": row.get("kind") == LOOKALIKE,
            "language": row.get(LANGUAGE) or ENGLISH,
        }

    return Dataset.from_list(
        [
            {
                "prompt": prompt_of(row),
                **{column: answer(cut_answer(tokenizer, row[name], limit)) for name, column in answers.items()},
                **({CUT: opens} if with_open else {}),
                **judged(row),
                **_for_the_term(row, settings, with_turns=with_turns),
            }
            for row, opens in zip(rows, open_answers, strict=True)
        ]
    )


def build_encoded_dataset(policy: Policy, rows: Sequence[Row], settings: AlignSettings) -> Dataset:
    """The rows as trainers of encoder-decoders read them: prompts for the encoder, and answers as labels.

    Labels begin with the token that every answer begins with, where the policy forces one, and end with its end token,
    where they are not cut.

    Args:
        policy: An encoder-decoder.
        rows: From :func:`usable_rows`; ``prompt_language`` is that of a prompt that is not English.
        settings: The alignment; answers that are too long are cut.
    """
    tokenizer, opening = policy.tokenizer, decoder_opening(policy.model)[1:]

    def encoded(row: Row) -> Row:
        ids = encode_prompt(tokenizer, _asked(row), language=row.get(LANGUAGE)).input_ids
        answer = cut_answer(tokenizer, row["chosen"], settings.max_answer_tokens)
        end = () if is_open(tokenizer, row["chosen"], settings.max_answer_tokens) else (policy.stop_token,)
        labels = (*opening, *answer_tokens(tokenizer, answer), *end)
        for_the_term = _for_the_term(row, settings, with_turns=False)
        if settings.terms.needs_answers:
            for_the_term[ANSWER] = answer
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, **for_the_term}

    return Dataset.from_list([encoded(row) for row in rows])


def _maker(policy: Policy, settings: AlignSettings) -> Callable[[Training], Any]:
    carrier = settings.english_loss
    if not policy.encodes:
        return carrier.trainer
    if carrier.encoder_trainer is None:
        raise ValueError(f"the carrier {settings.carrier} has no trainer for an encoder-decoder.")
    return carrier.encoder_trainer


def _require_asked_as_trained(tokenizer: Any, rows: Sequence[Row], answers: Sequence[str]) -> None:
    def fits(row: Row, name: str) -> bool:
        asked = as_messages(_asked(row))
        whole = render_messages(tokenizer, [*asked, {"role": "assistant", "content": row[name]}])
        return whole.startswith(render_messages(tokenizer, asked, opens_answer=True))

    wrong = sum(not all(fits(row, name) for name in answers) for row in rows)
    if wrong:
        raise ValueError(
            f"the chat template puts other text before {wrong} of {len(rows)} answers than the policy is asked with, "
            "as it does for answers with thoughts of their own."
        )


def _asked(row: Row) -> Prompt:
    return conversation(row["prompt"], row.get(TURNS))


def _for_the_term(row: Row, settings: AlignSettings, *, with_turns: bool) -> Row:
    if not settings.terms.active:
        return {}
    # A column named label has a meaning of its own in TRL.
    columns = {"variants": TEXTS, "languages": NAMES, "label": LABEL, "variant_weights": WEIGHTS}
    found = {column: row[name] for name, column in columns.items() if row.get(name) is not None}
    if with_turns and TEXTS in found:
        before = row.get(VARIANT_TURNS) or [None] * len(found[TEXTS])
        texts = zip(found[TEXTS], before, strict=True)
        found[TEXTS] = [as_messages(conversation(text, turns)) if text else None for text, turns in texts]
    return found


class _Stop(TrainerCallback):  # type: ignore[misc]
    def __init__(self, should_stop: ShouldStop, *, saves: bool) -> None:
        self.should_stop = should_stop
        self.saves = saves

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < state.max_steps and agreed(self.should_stop(), args.device):
            control.should_training_stop = True
            control.should_save = control.should_save or self.saves


class _Report(TrainerCallback):  # type: ignore[misc]
    def __init__(self, on_step: Callable[[int, dict[str, float]], None]) -> None:
        self.on_step = on_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # The only count of tokens that a checkpoint keeps; all are added up in one place.
        state.num_input_tokens_seen = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.on_step(state.global_step, logs)


def _options(device: torch.device, settings: AlignSettings, seed: int, folder: Path) -> dict[str, Any]:
    batch_size, accumulation = settings.share_of_a_step(process_count())
    return {
        "output_dir": str(folder),
        "max_steps": settings.steps,
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": accumulation,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "optim": OPTIMISERS.get(settings.optim, settings.optim),
        "learning_rate": settings.learning_rate,
        "warmup_steps": round(settings.warmup_share * settings.steps),
        "lr_scheduler_type": "cosine",
        "max_grad_norm": settings.max_gradient_norm,
        "weight_decay": 0.0,
        # Prompts and answers were measured and cut before.
        "max_length": 2 * (settings.max_prompt_tokens + settings.max_answer_tokens),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": [],
        "seed": seed,
        "data_seed": seed,
        "disable_tqdm": True,
        "use_cpu": device.type == "cpu",
        "bf16": settings.autocast == "bfloat16",
        "dataloader_pin_memory": False,
    }
