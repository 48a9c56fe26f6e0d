"""The NLLB engine: texts in, translations with their confidence out."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc.errors import UserError
from mlc.shipped import resolve_path
from mlc.translation.sentences import SplitText, split_sentences
from mlc.translation.settings import Device, TranslatorSettings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL_TYPES = ("m2m_100", "nllb-moe")
"""Architectures of NLLB-200 as transformers calls them."""
MAX_SOURCE_TOKENS = 512
"""NLLB saw no longer sentences in training; the rest of a longer one is not read, and its translation is unfinished."""

_LANGUAGE_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_THREE_WAYS = (
    "give a hub id such as facebook/nllb-200-distilled-600M, a local folder with an NLLB checkpoint, or shipped:nano."
)


@dataclass(frozen=True)
class Translation:
    """The translation of one text."""

    text: str
    logprob: float
    """Mean natural log-probability of a generated token over the whole text, ``</s>`` counted and the forced language
    token not; 0 if nothing was generated."""
    finished: bool
    """Whether every sentence was read to its end and ended with ``</s>`` by itself. If not, part of the text is lost
    or the model ran into a loop."""
    sentences_in: int
    sentences_out: int
    """Sentences that got a translation that is not blank."""


@dataclass(frozen=True)
class _Sentence:
    text: str
    logprob_sum: float
    tokens: int
    finished: bool


class NllbTranslator:
    """Translates texts with an NLLB checkpoint, sentence by sentence, without sampling.

    A sentence gets the same translation whatever else is in its batch, and threads may share an instance.

    Args:
        model: Encoder-decoder model of the NLLB architecture.
        tokenizer: Its tokenizer, with NLLB language codes.
        num_beams: Width of the beam; 1 is greedy search.
        max_new_tokens: Longest translation of one sentence, in tokens, the language token counted.
        batch_size: Sentences translated at once.

    Raises:
        UserError: The model or the tokenizer is not one of NLLB.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        num_beams: int = TranslatorSettings.model_fields["num_beams"].default,
        max_new_tokens: int = TranslatorSettings.model_fields["max_new_tokens"].default,
        batch_size: int = TranslatorSettings.model_fields["batch_size"].default,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        # The source language is a state of the tokenizer, so no two threads may use it at once.
        self._tokenizer_lock = threading.Lock()
        self._language_ids = {
            token: index for token, index in tokenizer.get_added_vocab().items() if _LANGUAGE_CODE.fullmatch(token)
        }
        if model.config.model_type not in MODEL_TYPES or not self._language_ids or not hasattr(tokenizer, "src_lang"):
            raise UserError(
                f"The checkpoint {model.config._name_or_path!r} ({model.config.model_type}) is no NLLB model; "
                + _THREE_WAYS
            )
        # NLLB's own limit of 200 tokens would be named in a warning beside ours; nothing may force an ending.
        model.generation_config.max_length = None
        model.generation_config.forced_eos_token_id = None

    @classmethod
    def from_settings(cls, settings: TranslatorSettings) -> "NllbTranslator":
        """Loads the translator that the configuration names; see :meth:`from_folder_or_hub`."""
        return cls.from_folder_or_hub(
            settings.model,
            revision=settings.revision,
            device=settings.device,
            num_beams=settings.num_beams,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
        )

    @classmethod
    def from_folder_or_hub(
        cls,
        location: str | Path,
        *,
        revision: str | None = None,
        device: Device = TranslatorSettings.model_fields["device"].default,
        **settings: Any,
    ) -> "NllbTranslator":
        """Loads a checkpoint, in float32.

        Args:
            location: Local folder, hub id, or ``shipped:nano``.
            revision: Branch, tag or commit of a hub id.
            device: Where to compute; ``auto`` takes an accelerator if there is one.
            **settings: ``num_beams``, ``max_new_tokens`` and ``batch_size`` of the translator.

        Raises:
            UserError: The checkpoint cannot be loaded, is no NLLB checkpoint, or the device is missing.
        """
        import torch
        from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

        source = _folder_or_hub_id(location)
        place = _device(device)
        with _told_to_the_user(location):
            config = AutoConfig.from_pretrained(source, revision=revision)
        if config.model_type not in MODEL_TYPES:
            raise UserError(
                f"The translator {str(location)!r} is a {config.model_type} checkpoint, not one of NLLB; {_THREE_WAYS}"
            )
        with _told_to_the_user(location):
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            model = AutoModelForSeq2SeqLM.from_pretrained(source, revision=revision, dtype=torch.float32)
        return cls(model.to(place), tokenizer, **settings)

    @property
    def languages(self) -> tuple[str, ...]:
        """NLLB codes that the checkpoint knows, sorted."""
        return tuple(sorted(self._language_ids))

    def require_languages(self, codes: Iterable[str]) -> None:
        """Checks languages before any work is spent on them.

        Raises:
            UserError: The checkpoint has no token for one of them.
        """
        unknown = [code for code in codes if code not in self._language_ids]
        if not unknown:
            return
        known = ", ".join(self.languages[:12]) + (", …" if len(self._language_ids) > 12 else "")
        raise UserError(
            f"The translator {self.model.config._name_or_path!r} has no language {', '.join(map(repr, unknown))}; "
            f"it has {known}. Write NLLB codes, or name another checkpoint."
        )

    def translate(
        self,
        texts: Sequence[str],
        *,
        source: str,
        target: str,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Translation]:
        """Translates texts.

        Each text is split into sentences, every distinct sentence is translated once, and the translations are joined
        with the white space that stood between the sentences.

        Args:
            texts: Texts in the source language. A blank one comes back as an empty text.
            source: NLLB code of their language.
            target: NLLB code of the language to translate into.
            on_progress: Called after each batch with the number of texts that it completed.

        Returns:
            One translation for each text, in order.

        Raises:
            UserError: The checkpoint does not know a language.
        """
        self.require_languages((source, target))
        split = [split_sentences(text, source) for text in texts]
        report = on_progress or (lambda completed: None)
        waiting = {index: set(parts.sentences) for index, parts in enumerate(split) if parts.sentences}
        if len(waiting) < len(texts):
            report(len(texts) - len(waiting))
        done: dict[str, _Sentence] = {}
        for batch in self._batches(dict.fromkeys(sentence for parts in split for sentence in parts.sentences), source):
            done.update(zip(batch, self._translate_batch(batch, source, target), strict=True))
            complete = [index for index, needed in waiting.items() if needed <= done.keys()]
            for index in complete:
                del waiting[index]
            if complete:
                report(len(complete))
        return [_assemble(parts, done, target) for parts in split]

    def _batches(self, sentences: Iterable[str], source: str) -> Iterator[list[str]]:
        """Groups sentences of like length, so that little is computed on padding."""
        sentences = list(sentences)
        if not sentences:
            return
        lengths = dict(zip(sentences, map(len, self._encode(sentences, source)["input_ids"]), strict=True))
        ordered = sorted(sentences, key=lambda sentence: (lengths[sentence], sentence))
        for start in range(0, len(ordered), self.batch_size):
            yield ordered[start : start + self.batch_size]

    def _translate_batch(self, batch: Sequence[str], source: str, target: str) -> list[_Sentence]:
        import torch

        full_lengths = map(len, self._encode(batch, source)["input_ids"])
        inputs = self._encode(
            batch, source, return_tensors="pt", padding=True, truncation=True, max_length=MAX_SOURCE_TOKENS
        ).to(self.model.device)
        with torch.inference_mode():
            rows_BT = self._generate(inputs, target)
            logprobs_BT = self._logprobs(inputs, rows_BT)
        return [
            self._read_row(row_T, logprob_T, whole=length <= MAX_SOURCE_TOKENS)
            for row_T, logprob_T, length in zip(rows_BT.cpu(), logprobs_BT.cpu(), full_lengths, strict=True)
        ]

    def _encode(self, sentences: Sequence[str], source: str, **options: Any) -> Any:
        """Tokenizes sentences as ``<language> tokens </s>``."""
        with self._tokenizer_lock:
            # An argument src_lang= of the call is ignored by transformers 5; only the attribute works.
            self.tokenizer.src_lang = source
            return self.tokenizer(list(sentences), **options)

    def _generate(self, inputs: Any, target: str) -> "torch.Tensor":
        """Returns token ids ``[B, T]``: ``</s>``, the language, the translation, ``</s>``, padding."""
        rows_BT: torch.Tensor = self.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            forced_bos_token_id=self._language_ids[target],
            num_beams=self.num_beams,
            do_sample=False,
            max_new_tokens=self.max_new_tokens,
        )
        return rows_BT

    def _logprobs(self, inputs: Any, rows_BT: "torch.Tensor") -> "torch.Tensor":
        """Returns the log-probability ``[B, T-2]`` of each token after the language, given those before it.

        One more forward pass, because the scores of ``generate`` are those of whole beams, or changed by its forcing.
        """
        import torch

        logits_BTV = self.model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            decoder_input_ids=rows_BT[:, :-1],
            use_cache=False,
        ).logits[:, 1:]
        return torch.log_softmax(logits_BTV.float(), dim=-1).gather(-1, rows_BT[:, 2:, None]).squeeze(-1)

    def _read_row(self, row_T: "torch.Tensor", logprob_T: "torch.Tensor", *, whole: bool) -> _Sentence:
        generated = row_T[2:].tolist()
        end = self.tokenizer.eos_token_id
        ended = end in generated
        tokens = generated.index(end) + 1 if ended else len(generated)
        with self._tokenizer_lock:
            text = str(self.tokenizer.decode(generated[:tokens], skip_special_tokens=True)).strip()
        return _Sentence(text, float(logprob_T[:tokens].double().sum()), tokens, ended and whole)


def _assemble(parts: SplitText, done: dict[str, _Sentence], target: str) -> Translation:
    sentences = [done[sentence] for sentence in parts.sentences]
    tokens = sum(sentence.tokens for sentence in sentences)
    return Translation(
        text=parts.rejoin([sentence.text for sentence in sentences], target=target) if sentences else "",
        logprob=sum(sentence.logprob_sum for sentence in sentences) / tokens if tokens else 0.0,
        finished=all(sentence.finished for sentence in sentences),
        sentences_in=len(sentences),
        sentences_out=sum(bool(sentence.text) for sentence in sentences),
    )


@contextmanager
def _told_to_the_user(location: str | Path) -> Iterator[None]:
    """Turns whatever goes wrong in loading into one sentence; the libraries below raise errors of many kinds."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"The translator {str(location)!r} cannot be loaded ({reason}); {_THREE_WAYS}") from error


def _folder_or_hub_id(location: str | Path) -> str:
    folder = resolve_path(str(location), Path.cwd())
    if folder.is_dir():
        return str(folder)
    looks_like_path = isinstance(location, Path) or location.startswith((".", "/", "~")) or location.count("/") > 1
    if looks_like_path or folder.exists():
        raise UserError(f"The translator {str(location)!r} is not a folder; {_THREE_WAYS}")
    return str(location)


def _device(device: Device) -> str:
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, there in available.items() if there)
    if not available[device]:
        raise UserError(f"The device {device!r} is not available here; use auto or cpu.")
    return device
