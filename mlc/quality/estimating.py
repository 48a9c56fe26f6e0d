"""Quality estimation by a regressor: MetricX and its like, and encoders with one output, such as those of CometKiwi.

N pairs, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.models.sources import ModelSource, resolve_model
from mlc.quality.settings import EstimatorSettings
from mlc.shipped import resolve_path
from mlc.stopping import ShouldStop, never, stop_if
from mlc.store.hashing import digest_folder

Pair = tuple[str, str]
"""Source and translation."""
METRICX_FORM = "source: {source} candidate: {translation}"
"""What MetricX-24 reads where there is no reference, https://github.com/google-research/metricx."""
METRICX_WORST = 25.0
"""Error points of the worst translation; a score is clamped to 0 … 25."""
METRICX_TOKEN = 250_089
"""Token of mT5's vocabulary, ``<extra_id_10>``, whose logit in the first step of the decoder is the score."""
_METRICX_TOKENS = ("<extra_id_10>", "▁<extra_id_10>")
LONGEST = 1536
"""Tokens of a pair that MetricX-24 reads at most."""
BUDGET = 4096
"""Longest pair in tokens, times pairs, in one forward pass; changes no result beyond rounding."""
_ENCODER_DECODERS = ("mt5", "t5", "umt5")


def estimator_identity(settings: EstimatorSettings) -> str:
    """What identifies an estimator for keys.

    Raises:
        UserError: No estimator is named, or it is not there.
    """
    tokenizer = settings.tokenizer
    if tokenizer and (folder := resolve_path(tokenizer, Path.cwd())).is_dir():
        tokenizer = digest_folder(folder)
    return f"{_source(settings).identity} {tokenizer or ''}".strip()


def _source(settings: EstimatorSettings) -> ModelSource:
    if settings.model is None:
        raise UserError("The signal 'estimate' needs quality.estimator.model: name one, or leave the signal out.")
    return resolve_model(settings.model, revision=settings.revision, allow_pickle=settings.allow_pickle)


class QualityEstimator:
    """Scores pairs without a reference.

    An encoder-decoder model is read as MetricX is: the pair in one text (:data:`METRICX_FORM`) without its end, one
    step of the decoder from token 0, and there the logit of one token, clamped to 0 … 25 error points. Any other model
    is a regressor over the translation and the source, in this order, as CometKiwi reads them.

    Args:
        model: A model of transformers.
        tokenizer: Its tokenizer.

    Raises:
        UserError: It is neither.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._decodes = model.config.model_type in _ENCODER_DECODERS
        if not self._decodes and getattr(model.config, "num_labels", 0) != 1:
            raise UserError(
                f"The estimator {str(model.config._name_or_path)!r} has {model.config.num_labels} outputs and no "
                "decoder: name a checkpoint of MetricX, or a regressor with one output, in quality.estimator.model."
            )
        vocabulary = model.config.vocab_size
        # Where a checkpoint has none, transformers makes up a tokenizer that knows no words.
        if not vocabulary / 2 <= len(tokenizer) <= vocabulary:
            raise UserError(
                f"The estimator {str(model.config._name_or_path)!r} has a vocabulary of {vocabulary} and a tokenizer "
                f"of {len(tokenizer)}: name the one that it was trained with in quality.estimator.tokenizer."
            )
        self._token = _score_token(tokenizer, vocabulary) if self._decodes else 0

    @classmethod
    def from_settings(cls, settings: EstimatorSettings, device: str = "auto") -> Self:
        """Loads the estimator that a configuration names.

        Raises:
            UserError: There is none, or it cannot be loaded.
        """
        from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

        # The very commit that a key names, not whatever a branch points to by now.
        source = _source(settings)
        location = source.target
        safe = None if settings.allow_pickle else True
        hub = {"revision": source.revision, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(location, **hub)
            decodes = config.model_type in _ENCODER_DECODERS
            kind: Any = AutoModelForSeq2SeqLM if decodes else AutoModelForSequenceClassification
            model, told = kind.from_pretrained(location, use_safetensors=safe, output_loading_info=True, **hub)
            own = None if settings.tokenizer else source.revision
            tokenizer = AutoTokenizer.from_pretrained(
                settings.tokenizer or location, revision=own, trust_remote_code=False
            )
        except Exception as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"The estimator {location!r} cannot be loaded ({reason}); give a hub id or a folder, and in "
                "quality.estimator.tokenizer a tokenizer where it has none."
            ) from error
        if missing := sorted(told["missing_keys"]):
            # They would be random.
            raise UserError(
                f"The estimator {location!r} lacks {len(missing)} weights, the first is {missing[0]!r}: name a whole "
                "regressor in quality.estimator.model."
            )
        return cls(model.to(pick_device(device)), tokenizer)

    def scores(self, pairs: Sequence[Pair], should_stop: ShouldStop = never) -> list[float]:
        """Scores pairs; higher is better.

        Args:
            pairs: Sources and translations.
            should_stop: Looked at before each batch.

        Returns:
            Of MetricX 1 − score / 25, 0 to 1; of others what the model gives.
        """
        import torch

        encoded = [self._encode(pair) for pair in pairs]
        found = [0.0] * len(pairs)
        for places in _batches(encoded):
            stop_if(should_stop)
            longest = len(encoded[places[0]])
            pad = self.tokenizer.pad_token_id
            rows = [encoded[place] + [pad] * (longest - len(encoded[place])) for place in places]
            mask = [[1] * len(encoded[place]) + [0] * (longest - len(encoded[place])) for place in places]
            ids_NT, mask_NT = (torch.tensor(values, device=self.model.device) for values in (rows, mask))
            with torch.inference_mode():
                values_N = self._values(ids_NT, mask_NT)
            for place, value in zip(places, values_N.float().tolist(), strict=True):
                found[place] = value
        return found

    def _encode(self, pair: Pair) -> list[int]:
        source, translation = pair
        ids: list[int]
        if self._decodes:
            text = METRICX_FORM.format_map({"source": source, "translation": translation})
            ids = self.tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"]
            return ids[:-1]
        longest = min(LONGEST, self.tokenizer.model_max_length)
        ids = self.tokenizer(translation, source, truncation=True, max_length=longest)["input_ids"]
        return ids

    def _values(self, ids_NT: Any, mask_NT: Any) -> Any:
        import torch

        if not self._decodes:
            return self.model(input_ids=ids_NT, attention_mask=mask_NT).logits[:, 0]
        start_N1 = torch.zeros((len(ids_NT), 1), dtype=torch.long, device=ids_NT.device)
        output = self.model(input_ids=ids_NT, attention_mask=mask_NT, decoder_input_ids=start_N1, use_cache=False)
        return 1 - output.logits[:, 0, self._token].float().clamp(0, METRICX_WORST) / METRICX_WORST


def _score_token(tokenizer: Any, vocabulary: int) -> int:
    if vocabulary > METRICX_TOKEN:
        return METRICX_TOKEN
    known = tokenizer.get_vocab()
    for token in _METRICX_TOKENS:
        if token in known:
            return int(known[token])
    raise UserError(
        f"The estimator has a vocabulary of {vocabulary} without {_METRICX_TOKENS[0]}, in which a checkpoint of "
        "MetricX gives its score: name one in quality.estimator.model."
    )


def _batches(encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of pairs of like length, the longest first."""
    group: list[int] = []
    for place in sorted(range(len(encoded)), key=lambda place: (-len(encoded[place]), place)):
        if group and (len(group) + 1) * len(encoded[group[0]]) > BUDGET:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
