"""The engine ``transformers``: an encoder-decoder checkpoint, computed with torch."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.models.sources import resolve_model
from mlc.translation.engines.checkpoint import CheckpointEngine
from mlc.translation.engines.facts import checkpoint_facts
from mlc.translation.engines.greedy import Generated, decode_rows
from mlc.translation.engines.loading import (
    folder_or_hub_id,
    load_tokens,
    pick_precision,
    require_tokens,
    told_to_the_user,
)
from mlc.translation.engines.protocol import Batch, SentenceTranslation
from mlc.translation.engines.tokens import MAX_SOURCE_TOKENS, cut
from mlc.translation.settings import Device, Precision, TranslatorSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_DEFAULTS = TranslatorSettings()
_CHANGES_SCORES = {
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None,),
    "sequence_bias": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "exponential_decay_length_penalty": (None,),
    "renormalize_logits": (None, False),
    "remove_invalid_values": (None, False),
}
"""What a checkpoint may say of generation that changes the choice of tokens, and the values that change nothing."""


class Seq2SeqEngine(CheckpointEngine):
    """Translates sentences with a checkpoint of any family in :mod:`mlc.translation.engines.families`.

    The encoder reads each sentence once for all languages, except where the source holds the target.

    Args:
        model: Encoder-decoder model.
        tokenizer: Its tokenizer, which knows the languages.
        model_identity: Finds what identifies the content of the model; a digest of its weights if not given.
        num_beams: Width of the beam; 1 is greedy search.
        max_new_tokens: Longest translation of one sentence, in tokens, the language token counted.
        batch_tokens: Longest sentence in tokens, times sentences, times target languages, in one batch.
        temperature: Above 0, translations are sampled.
        seed: Seed of the sampling; each sentence and language has its own stream.

    Raises:
        UserError: The model or the tokenizer is of no family that is known, or the translations may be too long for it.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        model_identity: Callable[[], str] | None = None,
        num_beams: int = _DEFAULTS.num_beams,
        max_new_tokens: int = _DEFAULTS.max_new_tokens,
        batch_tokens: int = _DEFAULTS.batch_tokens,
        temperature: float = _DEFAULTS.temperature,
        seed: int = _DEFAULTS.seed,
    ) -> None:
        name = str(model.config._name_or_path)
        _, tokens = require_tokens(name, tokenizer, model.config)
        super().__init__(name, tokens, batch_tokens)
        self.model: Any = model.eval()
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.seed = seed
        self._model_identity = model_identity or self._weights_digest
        if model.config.model_type == "marian" and max_new_tokens > model.config.max_position_embeddings:
            raise UserError(
                f"The translator {name!r} writes at most {model.config.max_position_embeddings} tokens, and "
                f"max_new_tokens is {max_new_tokens}: set translator.max_new_tokens to less."
            )
        # NLLB's own limit of 200 tokens would be named in a warning beside ours; nothing may force an ending.
        model.generation_config.max_length = None
        model.generation_config.forced_eos_token_id = None

    @classmethod
    def from_settings(cls, settings: TranslatorSettings) -> "Seq2SeqEngine":
        """Loads the checkpoint that the configuration names; see :meth:`from_folder_or_hub`."""
        return cls.from_folder_or_hub(
            settings.model,
            revision=settings.revision,
            device=settings.device,
            precision=settings.precision,
            num_beams=settings.num_beams,
            max_new_tokens=settings.max_new_tokens,
            batch_tokens=settings.batch_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            allow_pickle=settings.allow_pickle,
        )

    @classmethod
    def from_folder_or_hub(
        cls,
        location: str | Path,
        *,
        revision: str | None = None,
        device: Device = _DEFAULTS.device,
        precision: Precision = _DEFAULTS.precision,
        allow_pickle: bool = _DEFAULTS.allow_pickle,
        **settings: Any,
    ) -> "Seq2SeqEngine":
        """Loads a checkpoint.

        Args:
            location: Local folder, hub id, or ``shipped:nano``.
            revision: Branch, tag or commit of a hub id.
            device: Where to compute; ``auto`` takes an accelerator if there is one.
            precision: Type of the weights; ``auto`` is float16 on a GPU and float32 elsewhere.
            allow_pickle: Whether weights that are not safetensors may be read.
            **settings: The keyword arguments of the class.

        Raises:
            UserError: The checkpoint cannot be loaded, is of no family that is known, or the device is missing.
        """
        import torch
        from transformers import AutoModelForSeq2SeqLM

        place = pick_device(device)
        _, tokens = load_tokens(location, revision)
        with told_to_the_user(location):
            model = AutoModelForSeq2SeqLM.from_pretrained(
                folder_or_hub_id(location),
                revision=revision,
                dtype=getattr(torch, pick_precision(precision, device)),
                trust_remote_code=False,
                use_safetensors=None if allow_pickle else True,
            )
        settings.setdefault(
            "model_identity",
            lambda: resolve_model(str(location), revision=revision, allow_pickle=allow_pickle).identity,
        )
        return cls(model.to(place), tokens.tokenizer, **settings)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        return checkpoint_facts(
            "transformers",
            self._model_identity(),
            num_beams=self.num_beams,
            max_new_tokens=self.max_new_tokens,
            precision=str(self.model.dtype).removeprefix("torch."),
            temperature=self.temperature,
            seed=self.seed,
        )

    def _translate_ids(
        self, batch: Mapping[str, list[int]], source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        yield from self._halving(batch, source, targets)

    def _halving(
        self, batch: Mapping[str, list[int]], source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        """Translates a batch; where the memory does not suffice, its halves."""
        done = self._if_memory_suffices(batch, source, targets)
        if done is not None:
            yield from done.items()
            return
        sentences = list(batch)
        middle = len(sentences) // 2
        if middle:
            for half in (sentences[:middle], sentences[middle:]):
                yield from self._halving({sentence: batch[sentence] for sentence in half}, source, targets)
        elif len(targets) > 1:
            for some in (targets[: len(targets) // 2], targets[len(targets) // 2 :]):
                yield from self._halving(batch, source, some)
        else:
            raise UserError(
                f"The memory of the device {str(self.model.device)!r} does not suffice for one sentence of "
                f"{len(batch[sentences[0]])} tokens: choose a smaller checkpoint, float16 as translator.precision, or "
                "translator.device: cpu."
            )

    def _if_memory_suffices(
        self, batch: Mapping[str, list[int]], source: str, targets: Sequence[str]
    ) -> dict[str, Batch] | None:
        import torch

        try:
            return self._translate_batch(batch, source, targets)
        except (torch.OutOfMemoryError, MemoryError):
            pass
        except RuntimeError as error:
            # What torch raises where a CPU has no memory left has no type of its own.
            if "not enough memory" not in str(error) and "out of memory" not in str(error):
                raise
        # Only here, with the error and its frames gone, can the memory be given back.
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _translate_batch(self, batch: Mapping[str, list[int]], source: str, targets: Sequence[str]) -> dict[str, Batch]:
        import torch

        with torch.inference_mode():
            ids_SP, mask_SP = self.pad([cut(ids) for ids in batch.values()])
            states_SPD = self.model.get_encoder()(input_ids=ids_SP, attention_mask=mask_SP).last_hidden_state
            starts = [token for target in targets if (token := self.tokens.start(target)) is not None]
            if self.num_beams == 1 and self._chooses_freely and starts:
                draws_RT = self._draws(list(batch), source, targets) if self.temperature else None
                rows = self._decode_together(states_SPD, mask_SP, starts, draws_RT)
            else:
                rows = self._generate_each(states_SPD, mask_SP, starts or [None])
        done: dict[str, Batch] = {target: {} for target in targets}
        for number, (sentence, ids) in enumerate(batch.items()):
            for row, target in zip(rows[number * len(targets) :], targets, strict=False):
                whole = row.ended and len(ids) <= MAX_SOURCE_TOKENS
                text = self.tokens.decode(row.ids)
                done[target][sentence] = SentenceTranslation(text, row.logprob_sum, len(row.ids), whole)
        return done

    @cached_property
    def _chooses_freely(self) -> bool:
        """Whether the likeliest token is always chosen, or the checkpoint asks for more."""
        settings = self.model.generation_config
        return all(getattr(settings, name, None) in neutral for name, neutral in _CHANGES_SCORES.items())

    def pad(self, rows: Sequence[Sequence[int]]) -> "tuple[Tensor, Tensor]":
        """Ids [S, P] and mask [S, P] of rows of unequal length, on the device of the model."""
        import torch

        longest = max(map(len, rows))
        pad = self.model.config.pad_token_id
        ids_SP = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=self.model.device)
        mask_SP = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.model.device)
        return ids_SP, mask_SP

    def _decode_together(
        self, states_SPD: "Tensor", mask_SP: "Tensor", starts: Sequence[int], draws_RT: "Tensor | None"
    ) -> list[Generated]:
        return decode_rows(
            self.model,
            states_SPD,
            mask_SP,
            starts,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            draws_RT=draws_RT,
        )

    def _draws(self, sentences: Sequence[str], source: str, targets: Sequence[str]) -> "Tensor":
        """Uniform numbers [R, T] that depend on the seed, the sentence and the languages, and on no other row."""
        import torch

        rows = []
        for sentence in sentences:
            for target in targets:
                name = "\0".join((str(self.seed), source, target, sentence))
                seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:7], "big")
                generator = torch.Generator().manual_seed(seed)
                rows.append(torch.rand(self.max_new_tokens - 1, generator=generator, dtype=torch.float64))
        return torch.stack(rows).to(self.model.device)

    def _generate_each(self, states_SPD: "Tensor", mask_SP: "Tensor", starts: Sequence[int | None]) -> list[Generated]:
        """Beam search, or whatever else the checkpoint asks for, one language after the other."""
        by_target = [self._generate(states_SPD, mask_SP, start) for start in starts]
        return [row for rows in zip(*by_target, strict=True) for row in rows]

    def _generate(self, states_SPD: "Tensor", mask_SP: "Tensor", start: int | None) -> list[Generated]:
        from transformers.modeling_outputs import BaseModelOutput

        encoded = BaseModelOutput(last_hidden_state=states_SPD)
        rows_ST = self.model.generate(
            encoder_outputs=encoded,
            attention_mask=mask_SP,
            forced_bos_token_id=start,
            num_beams=self.num_beams,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
        )
        # Rows begin with the token that every row begins with, and perhaps one of the language.
        given = 1 if start is None else 2
        logprobs_ST = self._logprobs(states_SPD, mask_SP, rows_ST, given)
        return [
            self._read_row(row, logprobs)
            for row, logprobs in zip(rows_ST[:, given:].tolist(), logprobs_ST.tolist(), strict=True)
        ]

    def _logprobs(self, states_SPD: "Tensor", mask_SP: "Tensor", rows_ST: "Tensor", given: int) -> "torch.Tensor":
        """Returns the log-probability [S, T - given] of each token after the given ones, given those before it.

        One more pass, because the scores of ``generate`` are those of whole beams, or changed by its forcing.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        logits_STV = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states_SPD),
            attention_mask=mask_SP,
            decoder_input_ids=rows_ST[:, :-1],
            use_cache=False,
        ).logits[:, given - 1 :]
        return torch.log_softmax(logits_STV.float(), dim=-1).gather(-1, rows_ST[:, given:, None]).squeeze(-1).double()

    def _read_row(self, generated: Sequence[int], logprobs: Sequence[float]) -> Generated:
        end = self.model.config.eos_token_id
        ended = end in generated
        count = generated.index(end) + 1 if ended else len(generated)
        return Generated(list(generated[:count]), sum(logprobs[:count]), ended)

    def _weights_digest(self) -> str:
        state = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            state.update(name.encode())
            state.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        state.update(repr(sorted(self.tokens.tokenizer.get_vocab().items())).encode())
        return f"memory:{state.hexdigest()}"
