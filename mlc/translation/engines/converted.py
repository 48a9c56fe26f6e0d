"""The engine ``ctranslate2``: the same checkpoints, converted once and computed by CTranslate2."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mlc.cache import cache_folder
from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.models.sources import resolve_model
from mlc.store.drafts import draft_folder
from mlc.translation.engines.checkpoint import CheckpointEngine
from mlc.translation.engines.facts import checkpoint_facts, converted_precision
from mlc.translation.engines.loading import (
    folder_or_hub_id,
    load_tokens,
    told_to_the_user,
)
from mlc.translation.engines.protocol import Batch, SentenceTranslation
from mlc.translation.engines.tokens import MAX_SOURCE_TOKENS, CheckpointTokens, cut
from mlc.translation.settings import TranslatorSettings


class ConvertedEngine(CheckpointEngine):
    """Translates sentences with a checkpoint that was converted for CTranslate2.

    CTranslate2 reads a sentence once for every target language: it cannot hand on what its encoder has made.

    Args:
        folder: The converted checkpoint.
        tokens: Tokenizer of the original.
        settings: The configuration.
        model_identity: Identity of the original.

    Raises:
        UserError: The converted checkpoint cannot be loaded.
    """

    def __init__(
        self, folder: Path, tokens: CheckpointTokens, settings: TranslatorSettings, model_identity: str
    ) -> None:
        import ctranslate2

        super().__init__(settings.model, tokens, settings.batch_tokens)
        self.settings = settings
        self._model_identity = model_identity
        self._end = tokens.tokenizer.eos_token_id
        device = "cuda" if pick_device(settings.device) == "cuda" else "cpu"
        with told_to_the_user(settings.model):
            self._translator = ctranslate2.Translator(
                str(folder),
                device=device,
                compute_type=converted_precision(settings),
                intra_threads=_threads(),
            )

    @classmethod
    def from_settings(cls, settings: TranslatorSettings) -> "ConvertedEngine":
        """Loads the checkpoint that the configuration names, and converts it if that was not done before.

        Raises:
            UserError: CTranslate2 is not installed, or the checkpoint cannot be converted or loaded.
        """
        _require_installed()
        family, tokens = load_tokens(settings.model, settings.revision)
        if not family.converts:
            raise UserError(
                f"The checkpoint {settings.model!r} is one of {family.name}, which CTranslate2 does not convert: set "
                "translator.engine to transformers."
            )
        source = resolve_model(settings.model, revision=settings.revision, allow_pickle=settings.allow_pickle)
        folder = converted_folder(settings, source.identity)
        return cls(folder, tokens, settings, source.identity)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        return checkpoint_facts(
            "ctranslate2",
            self._model_identity,
            num_beams=self.settings.num_beams,
            max_new_tokens=self.settings.max_new_tokens,
            precision=converted_precision(self.settings),
        )

    def _translate_ids(
        self, batch: Mapping[str, list[int]], source: str, targets: Sequence[str]
    ) -> Iterator[tuple[str, Batch]]:
        yield from self._translate_batch(batch, targets).items()

    def _translate_batch(self, batch: Mapping[str, list[int]], targets: Sequence[str]) -> dict[str, Batch]:
        to_tokens = self.tokens.tokenizer.convert_ids_to_tokens
        rows = [to_tokens(cut(ids)) for ids in batch.values() for _ in targets]
        starts = [self.tokens.start(target) for target in targets]
        prefixes = [to_tokens([] if start is None else [start]) for start in starts]
        results = self._translator.translate_batch(
            rows,
            target_prefix=prefixes * len(batch),
            beam_size=self.settings.num_beams,
            max_decoding_length=self.settings.max_new_tokens,
            max_input_length=0,
            # Scores are then plain sums.
            length_penalty=0,
            return_scores=True,
            return_end_token=True,
        )
        done: dict[str, Batch] = {target: {} for target in targets}
        remaining = iter(results)
        for sentence, ids in batch.items():
            for target, prefix in zip(targets, prefixes, strict=True):
                result = next(remaining)
                done[target][sentence] = self._read(result, len(prefix), whole=len(ids) <= MAX_SOURCE_TOKENS)
        return done

    def _read(self, result: Any, given: int, *, whole: bool) -> SentenceTranslation:
        generated = self.tokens.tokenizer.convert_tokens_to_ids(result.hypotheses[0][given:])
        ended = generated[-1:] == [self._end]
        text = self.tokens.decode(generated)
        return SentenceTranslation(text, float(result.scores[0]), len(generated), ended and whole)


def converted_folder(settings: TranslatorSettings, identity: str) -> Path:
    """Folder of the converted checkpoint; converts it at the first call.

    Args:
        settings: Names the checkpoint.
        identity: Its identity.

    Raises:
        UserError: The checkpoint cannot be converted.
    """
    from ctranslate2.converters import TransformersConverter

    class SafeConverter(TransformersConverter):  # type: ignore[misc]
        """Runs no code of the checkpoint, and asks nobody whether it may."""

        def load_model(self, model_class: Any, name: str, **options: Any) -> Any:
            safe = None if settings.allow_pickle else True
            return super().load_model(model_class, name, use_safetensors=safe, **options)

        def load_tokenizer(self, tokenizer_class: Any, name: str, **options: Any) -> Any:
            return super().load_tokenizer(tokenizer_class, name, **{**options, "trust_remote_code": False})

    precision = converted_precision(settings)
    safe = "".join(character if character.isalnum() else "-" for character in identity)
    folder = cache_folder() / "ctranslate2" / f"{safe}-{precision}"
    if folder.is_dir():
        return folder
    # Another process may be faster; its result is as good.
    with draft_folder(folder) as draft, told_to_the_user(settings.model):
        converter = SafeConverter(folder_or_hub_id(settings.model), revision=settings.revision)
        converter.convert(str(draft), quantization=precision, force=True)
    return folder


def _threads() -> int:
    import torch

    return min(torch.get_num_threads(), os.cpu_count() or 1)


def _require_installed() -> None:
    try:
        import ctranslate2  # noqa: F401
    except ImportError:
        raise UserError(
            "The engine 'ctranslate2' is not installed: run `pip install ctranslate2`, or set translator.engine to "
            "transformers."
        ) from None
