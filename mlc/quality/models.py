"""Measures the signals that need a model: a translator, or a sentence-embedding model.

T tokens, N texts, D size of a state.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.quality.signals import MODEL_SIGNALS
from mlc.stopping import ShouldStop, never, stop_if
from mlc.translation.engines.protocol import require_languages
from mlc.translation.engines.tokens import MAX_SOURCE_TOKENS, LanguageTokens, batches, cut

if TYPE_CHECKING:
    from torch import Tensor

    from mlc.quality.estimating import QualityEstimator
    from mlc.translation.translator import Translator

Pair = tuple[str, str]
"""Source and translation."""
Values = list[float | None]
HEAD_POSITIONS = 256
"""Positions at which the head of the translator runs at once."""


class PairModel:
    """Fills the columns of the model signals.

    Args:
        signals: Names of the signals to measure.
        translator: For ``reverse``, for ``round_trip`` where no back-translation is given, and for the similarity by
            its encoder; None where there is none.
        embedding: A sentence-embedding model for ``signal_embedding``.
        estimator: A regressor for ``estimate``.

    Raises:
        UserError: A signal needs a translator that is not there, or another one.
    """

    def __init__(
        self,
        signals: Sequence[str],
        translator: "Translator | None" = None,
        embedding: "SentenceEncoder | None" = None,
        estimator: "QualityEstimator | None" = None,
    ) -> None:
        self.signals = frozenset(signals)
        self.translator = translator
        self.embedding = embedding
        self.estimator = estimator
        engine = translator.engine if translator else None
        model = getattr(engine, "model", None)
        tokens = getattr(engine, "tokens", None)
        self.scorer = TranslatorScorer(engine) if model is not None and isinstance(tokens, LanguageTokens) else None
        if "reverse" in self.signals and self.scorer is None:
            raise UserError(
                "The signal 'reverse' needs a translator with both directions in one checkpoint, such as NLLB with "
                "the engine transformers: name one, or leave the signal out."
            )
        if "meaning" in self.signals and self.scorer is None and embedding is None:
            raise UserError(
                "The signal 'meaning' needs the encoder of an NLLB or M2M100 checkpoint with the engine transformers, "
                "or a sentence-embedding model: name one, or leave the signal out."
            )

        if "estimate" in self.signals and estimator is None:
            raise UserError("The signal 'estimate' needs an estimator: name one, or leave the signal out.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it fills."""
        names = [column.name for signal in MODEL_SIGNALS if signal.name in self.signals for column in signal.columns]
        absent = {"signal_similarity": self.scorer, "signal_embedding": self.embedding}
        return tuple(name for name in names if name not in absent or absent[name] is not None)

    def measure(self, pairs: pa.Table, should_stop: ShouldStop = never) -> pa.Table:
        """Measures pairs, each distinct one once; see :class:`mlc.quality.asking.RowModel`.

        Raises:
            UserError: The translator does not know a language.
        """
        columns: dict[str, Values] = {name: [None] * len(pairs) for name in self.columns}
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        rows = pairs.to_pylist()
        for place, row in enumerate(rows):
            groups[row["source_code"], row["target_code"]].append(place)
        for (source, target), places in groups.items():
            distinct = list(dict.fromkeys((rows[place]["source"], rows[place]["translation"]) for place in places))
            for name, values in self._measure(distinct, source, target, should_stop).items():
                by_pair = dict(zip(distinct, values, strict=True))
                for place in places:
                    columns[name][place] = by_pair[rows[place]["source"], rows[place]["translation"]]
            if "round_trip" in self.signals:
                scores = self._round_trip([rows[place] for place in places], source, target, should_stop)
                for place, score in zip(places, scores, strict=True):
                    columns["signal_round_trip_chrf"][place] = score
        return pa.table({name: pa.array(values, pa.float64()) for name, values in columns.items()})

    def _measure(self, pairs: Sequence[Pair], source: str, target: str, should_stop: ShouldStop) -> dict[str, Values]:
        found: dict[str, Values] = {}
        sources, translations = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if self.scorer is not None and self.signals & {"reverse", "meaning"}:
            require_languages(self.scorer.engine.name, self.scorer.engine.languages, (source, target))
        if "meaning" in self.signals and self.scorer is not None:
            scorer = self.scorer
            found["signal_similarity"] = _cosines(
                scorer.states(sources, source, should_stop), scorer.states(translations, target, should_stop)
            )
        if "meaning" in self.signals and self.embedding is not None:
            found["signal_embedding"] = _cosines(
                self.embedding.states(sources, should_stop), self.embedding.states(translations, should_stop)
            )
        if "estimate" in self.signals and self.estimator is not None:
            found["signal_estimate"] = list(self.estimator.scores(pairs, should_stop))
        if "reverse" in self.signals and self.scorer is not None:
            forward = self.scorer.logprobs(sources, source, translations, target, should_stop)
            reverse = self.scorer.logprobs(translations, target, sources, source, should_stop)
            found["signal_forward_logprob"], found["signal_reverse_logprob"] = list(forward), list(reverse)
            found["signal_dual_cross_entropy"] = [
                dual_cross_entropy(there, back) for there, back in zip(forward, reverse, strict=True)
            ]
        return found

    def _round_trip(self, rows: Sequence[dict[str, Any]], source: str, target: str, should_stop: ShouldStop) -> Values:
        from sacrebleu.metrics import CHRF

        back = [row.get("back_translation") for row in rows]
        missing = [place for place, text in enumerate(back) if not (text or "").strip()]
        if missing and self.translator is not None:
            texts = [rows[place]["translation"] for place in missing]
            returned = self.translator.translate(texts, source=target, target=source, should_stop=should_stop)
            for place, done in zip(missing, returned, strict=True):
                back[place] = done.text
        metric = CHRF()
        return [
            metric.sentence_score(text, [row["source"]]).score / 100 if (text or "").strip() else None
            for row, text in zip(rows, back, strict=True)
        ]


def dual_cross_entropy(forward: float, reverse: float) -> float:
    """The dual conditional cross-entropy of a pair; Junczys-Dowmunt (2018), equation 2.

    Args:
        forward: Mean log-probability a token of the translation, given the source.
        reverse: Mean log-probability a token of the source, given the translation.

    Returns:
        |H(t|s) − H(s|t)| + (H(t|s) + H(s|t)) / 2, at least 0, where H is minus the mean log-probability.
    """
    return abs(forward - reverse) - (forward + reverse) / 2


class TranslatorScorer:
    """Scores pairs with the checkpoint of a translator, without translating.

    Args:
        engine: Engine ``transformers`` with a checkpoint that has a token for every language.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def states(self, texts: Sequence[str], language: str, should_stop: ShouldStop = never) -> "Tensor":
        """The mean of the encoder's last states over the tokens of each text, [N, D] float32.

        The language token and ``</s>`` are left out: they are the same in every text.
        """
        import torch

        encoded = [cut(ids) for ids in self.engine.tokens.encode(texts, language, ())]
        rows: list[Any] = [None] * len(texts)
        for places in self._batches(encoded, should_stop):
            with torch.inference_mode():
                ids_NT, mask_NT = self.engine.pad([encoded[place] for place in places])
                states_NTD = self.engine.model.get_encoder()(input_ids=ids_NT, attention_mask=mask_NT).last_hidden_state
            for number, place in enumerate(places):
                rows[place] = states_NTD[number, 1 : max(2, len(encoded[place]) - 1)].float().mean(dim=0).cpu()
        return torch.stack(rows)

    def logprobs(
        self,
        given: Sequence[str],
        given_language: str,
        texts: Sequence[str],
        language: str,
        should_stop: ShouldStop = never,
    ) -> list[float]:
        """Mean natural log-probability a token of each text, given another text.

        ``</s>`` counts and the language token does not, as in ``signal_logprob``. Of a longer text than the model
        reads, the first tokens count.
        """
        import torch

        sources = [cut(ids) for ids in self.engine.tokens.encode(given, given_language, ())]
        labels = [cut(ids) for ids in self.engine.tokens.encode(texts, language, ())]
        start = self.engine.model.config.decoder_start_token_id
        found = [0.0] * len(texts)
        longest = [max(pair, key=len) for pair in zip(sources, labels, strict=True)]
        for places in self._batches(longest, should_stop):
            with torch.inference_mode():
                ids_NT, mask_NT = self.engine.pad([sources[place] for place in places])
                label_NT, kept_NT = self.engine.pad([labels[place] for place in places])
                shifted_NT = torch.cat([torch.full_like(label_NT[:, :1], start), label_NT[:, :-1]], dim=1)
                logprobs_NT = self._label_logprobs(ids_NT, mask_NT, shifted_NT, label_NT)
                counted_NT = kept_NT[:, 1:].double()
                means = (logprobs_NT[:, 1:].double() * counted_NT).sum(1) / counted_NT.sum(1)
            for place, mean in zip(places, means.tolist(), strict=True):
                found[place] = mean
        return found

    def _label_logprobs(
        self, ids_NS: "Tensor", mask_NS: "Tensor", shifted_NT: "Tensor", label_NT: "Tensor"
    ) -> "Tensor":
        """The log-probability of each label, [N, T]."""
        import torch

        model = self.engine.model
        states_NTD = model.get_decoder()(
            input_ids=shifted_NT,
            encoder_hidden_states=model.get_encoder()(input_ids=ids_NS, attention_mask=mask_NS).last_hidden_state,
            encoder_attention_mask=mask_NS,
            use_cache=False,
        ).last_hidden_state
        pieces = []
        # NLLB has 256,000 tokens, so that the logits of a whole batch would take gigabytes.
        chunks = (torch.split(tensor, HEAD_POSITIONS) for tensor in (states_NTD.flatten(0, 1), label_NT.flatten()))
        for states_PD, label_P in zip(*chunks, strict=True):
            logits_PV = model.lm_head(states_PD).float()
            pieces.append(logits_PV.gather(-1, label_P[:, None]).squeeze(-1) - logits_PV.logsumexp(dim=-1))
        return torch.cat(pieces).view(label_NT.shape)

    def _batches(self, encoded: Sequence[Sequence[int]], should_stop: ShouldStop) -> Iterator[list[int]]:
        """Places of texts of like length, so that little is computed on padding."""
        lengths = {str(place): len(ids) for place, ids in enumerate(encoded)}
        for group in batches(lengths, targets=1, budget=self.engine.batch_tokens):
            stop_if(should_stop)
            yield [int(place) for place in group]


class SentenceEncoder:
    """A sentence-embedding model of transformers, mean pooled.

    Args:
        model: Any encoder whose output has ``last_hidden_state``.
        tokenizer: Its tokenizer.
        batch_size: Texts in a forward pass; changes no result beyond rounding.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 32) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size

    @classmethod
    def load(cls, location: str, device: str = "auto") -> "SentenceEncoder":
        """Loads a model by hub id or folder, such as ``sentence-transformers/LaBSE``.

        Raises:
            UserError: It cannot be loaded.
        """
        from transformers import AutoModel, AutoTokenizer

        place = pick_device(device)
        try:
            tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
            # A setting for pickled weights is not worth its place: the models of this kind are safetensors.
            model = AutoModel.from_pretrained(location, trust_remote_code=False, use_safetensors=True)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise UserError(
                f"The sentence-embedding model {location!r} cannot be loaded ({reason}); give a hub id or a folder."
            ) from error
        return cls(model.to(place), tokenizer)

    def states(self, texts: Sequence[str], should_stop: ShouldStop = never) -> "Tensor":
        """The mean of the last states over the tokens of each text, [N, D] float32."""
        import torch

        order = sorted(range(len(texts)), key=lambda place: (-len(texts[place]), texts[place]))
        rows: list[Any] = [None] * len(texts)
        for start in range(0, len(order), self.batch_size):
            stop_if(should_stop)
            places = order[start : start + self.batch_size]
            encoded = self.tokenizer(
                [texts[place] for place in places],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=MAX_SOURCE_TOKENS,
            ).to(self.model.device)
            with torch.inference_mode():
                output = self._forward()(**encoded).last_hidden_state
            mask_NT1 = encoded["attention_mask"][..., None]
            means_ND = (output * mask_NT1).sum(1).float() / mask_NT1.sum(1)
            for place, row in zip(places, means_ND.cpu(), strict=True):
                rows[place] = row
        return torch.stack(rows)

    def _forward(self) -> Callable[..., Any]:
        # Of an encoder-decoder model the encoder is what reads.
        if getattr(self.model.config, "is_encoder_decoder", False):
            encoder: Callable[..., Any] = self.model.get_encoder()
            return encoder
        forward: Callable[..., Any] = self.model
        return forward


def _cosines(left_ND: "Tensor", right_ND: "Tensor") -> Values:
    import torch

    cosines: Values = torch.nn.functional.cosine_similarity(left_ND.double(), right_ND.double(), dim=1).tolist()
    return cosines
