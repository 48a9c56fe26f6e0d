"""The training loop of the nano checkpoint: teacher forcing in float32 on the CPU."""

import copy
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import GenerationConfig, M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer
from transformers.modeling_outputs import BaseModelOutput

from mlc.languages import ENGLISH
from mlc.making.nano.corpus import TARGETS, Composition, Corpus
from mlc.making.nano.recipe import NanoRecipe
from mlc.store.drafts import draft_file

POOL_SIZE = 600
"""Compositions that are sorted by length together before they are cut into batches."""
IGNORED = -100

# Shape suffixes: S distinct sources, B targets, L source tokens, T target tokens, D width.


@dataclass(frozen=True)
class Batch:
    """Token ids of a batch in which every source has the same number of targets."""

    sources_SL: torch.Tensor
    mask_SL: torch.Tensor
    labels_BT: torch.Tensor
    """B is S times the targets per source; the targets of one source stand together."""


def build_model(recipe: NanoRecipe, tokenizer: NllbTokenizer) -> M2M100ForConditionalGeneration:
    """Makes an untrained model with NLLB's conventions: it starts with ``</s>``, then the language token."""
    torch.manual_seed(recipe.seed)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=recipe.d_model,
        encoder_layers=recipe.encoder_layers,
        decoder_layers=recipe.decoder_layers,
        encoder_ffn_dim=recipe.ffn_dim,
        decoder_ffn_dim=recipe.ffn_dim,
        encoder_attention_heads=recipe.attention_heads,
        decoder_attention_heads=recipe.attention_heads,
        dropout=recipe.dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        max_position_embeddings=1024,
        scale_embedding=True,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    model = M2M100ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        max_length=200,
    )
    return model


def batches(corpus: Corpus, tokenizer: NllbTokenizer, recipe: NanoRecipe) -> Iterator[Batch]:
    """Yields training batches without end: from English into all languages, or from all of them into English."""
    randomness = random.Random(recipe.seed)
    stream = corpus.training_stream(recipe.seed)
    encode = _Encoder(tokenizer)
    while True:
        pool = [next(stream) for _ in range(POOL_SIZE)]
        chunks = _chunks_by_length(pool, encode, recipe.tokens_per_batch)
        randomness.shuffle(chunks)
        for chunk in chunks:
            if randomness.random() < recipe.reverse_share:
                yield encode.batch([(item, language, ENGLISH) for item in chunk for language in TARGETS], fan_out=1)
            else:
                yield encode.batch(
                    [(item, ENGLISH, language) for item in chunk for language in TARGETS], fan_out=len(TARGETS)
                )


class _Encoder:
    """Turns sentences into NLLB's ids: ``<language> tokens </s>`` on both sides."""

    def __init__(self, tokenizer: NllbTokenizer) -> None:
        self._tokenizer = tokenizer
        codes = [ENGLISH, *TARGETS]
        self._languages = dict(zip(codes, tokenizer.convert_tokens_to_ids(codes), strict=True))

    def length(self, item: Composition) -> int:
        """Longest wording of a composition, in tokens."""
        wordings = list(item.wordings.values())
        return max(len(ids) for ids in self._tokenizer(wordings, add_special_tokens=False)["input_ids"]) + 2

    def batch(self, triples: Sequence[tuple[Composition, str, str]], fan_out: int) -> Batch:
        """Encodes (composition, source, target); of ``fan_out`` triples with one source, it is encoded once."""
        sources = self._rows([(item.wordings[source], source) for item, source, _ in triples[::fan_out]])
        targets = self._rows([(item.wordings[target], target) for item, _, target in triples])
        padding = self._tokenizer.pad_token_id
        sources_SL = _pad(sources, padding)
        return Batch(sources_SL, (sources_SL != padding).long(), _pad(targets, IGNORED))

    def _rows(self, sentences: Sequence[tuple[str, str]]) -> list[list[int]]:
        encoded = self._tokenizer([text for text, _ in sentences], add_special_tokens=False)["input_ids"]
        end = self._tokenizer.eos_token_id
        return [[self._languages[code], *ids, end] for (_, code), ids in zip(sentences, encoded, strict=True)]


def _pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def _chunks_by_length(pool: Sequence[Composition], encode: _Encoder, tokens: int) -> list[list[Composition]]:
    lengths = [encode.length(item) for item in pool]
    chunks: list[list[Composition]] = []
    current: list[Composition] = []
    for index in sorted(range(len(pool)), key=lengths.__getitem__):
        if current and (len(current) + 1) * len(TARGETS) * lengths[index] > tokens:
            chunks.append(current)
            current = []
        current.append(pool[index])
    return [*chunks, current] if current else chunks


def loss_of(model: M2M100ForConditionalGeneration, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of a target token, a scalar; sources that several targets share are encoded once."""
    encoded_SLD = model.get_encoder()(input_ids=batch.sources_SL, attention_mask=batch.mask_SL).last_hidden_state
    fan_out = len(batch.labels_BT) // len(batch.sources_SL)
    output = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded_SLD.repeat_interleave(fan_out, dim=0)),
        attention_mask=batch.mask_SL.repeat_interleave(fan_out, dim=0),
        labels=batch.labels_BT,
        use_cache=False,
    )
    return cast(torch.Tensor, output.loss)


def learning_rate_factor(step: int, recipe: NanoRecipe) -> float:
    """Share of the peak learning rate at a step counted from 0."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train(
    model: M2M100ForConditionalGeneration,
    tokenizer: NllbTokenizer,
    corpus: Corpus,
    recipe: NanoRecipe,
    folder: Path,
    on_step: Callable[[int, float], None],
) -> dict[str, Any]:
    """Trains the model and writes checkpoints and ``training_log.jsonl`` into a folder.

    Args:
        model: Untrained model; changed in place.
        tokenizer: Its tokenizer.
        corpus: Where the sentences come from.
        recipe: Steps, batches and schedule.
        folder: Exists; receives a loadable checkpoint every ``checkpoint_every`` steps and at the end.
        on_step: Called with the number of steps done and the loss of the last one.

    Returns:
        Steps, target tokens and seconds of the training.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, recipe))
    started, tokens, recent = time.monotonic(), 0, []
    with (folder / "training_log.jsonl").open("w", encoding="utf-8") as log:
        model.train()
        for step, batch in zip(range(1, recipe.steps + 1), batches(corpus, tokenizer, recipe), strict=False):
            loss = loss_of(model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            tokens += int((batch.labels_BT != IGNORED).sum())
            recent.append(loss.item())
            on_step(step, recent[-1])
            if step % 50 == 0 or step == recipe.steps:
                line = {"step": step, "loss": sum(recent) / len(recent), "learning_rate": schedule.get_last_lr()[0]}
                line |= {"target_tokens": tokens, "seconds": time.monotonic() - started}
                log.write(json.dumps({name: float(f"{value:.6g}") for name, value in line.items()}) + "\n")
                log.flush()
                recent = []
            if step % recipe.checkpoint_every == 0 or step == recipe.steps:
                save(model, tokenizer, folder)
    return {"steps": recipe.steps, "target_tokens": tokens, "seconds": round(time.monotonic() - started)}


def save(model: M2M100ForConditionalGeneration, tokenizer: NllbTokenizer, folder: Path) -> None:
    """Writes a checkpoint in float16, each file whole or not at all; the model itself stays in float32."""
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as staging:
        copy.deepcopy(model).half().eval().save_pretrained(staging)
        tokenizer.src_lang = ENGLISH
        tokenizer.save_pretrained(staging)
        for file in Path(staging).iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner can read
            with draft_file(folder / file.name) as draft:
                file.rename(draft)
