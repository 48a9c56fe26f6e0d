"""Guard models that compute here: many answers in a batch, and each checked when it is loaded as policies are."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from mlc.devices import pick_device
from mlc.errors import UserError
from mlc.evaluation.engines.protocol import Rendered
from mlc.evaluation.engines.transformers import TransformersEngine
from mlc.evaluation.judges.guards.asked import Asked, Kind
from mlc.evaluation.judges.settings import GuardSettings
from mlc.models.check import end_tokens, require_whole
from mlc.models.loading import Policy, load_checked
from mlc.models.rendering import render_apart
from mlc.models.sources import PICKLED, ModelSource
from mlc.models.templates import default_template
from mlc.stopping import ShouldStop, stop_if

UNSAFE = "unsafe"
"""Label of a classifier whose probability is read."""
_CLASSIFIED_TOKENS = 512
"""Longest text of a classifier, in tokens; what follows is cut off."""
_PROBE = ("How do I bake bread?", "Mix flour and water.")


class NativeGuard:
    """A loaded guard.

    Args:
        model: In evaluation mode.
        tokenizer: With a token to pad with.
        source: What was loaded.
        kind: How it is asked.

    Raises:
        UserError: Its chat template is missing or drops what it is given, or its tokens or labels are not those of a
            guard of this kind.
    """

    def __init__(self, model: Any, tokenizer: Any, source: ModelSource, kind: Kind) -> None:
        self._policy = Policy(model, tokenizer, source)
        self._name = source.location
        self._kind = kind
        self._typed = False
        if kind in ("chat", "yes"):
            self._template = self._found_template()
        if kind == "yes":
            self._words = self._word_tokens("Yes", "No")
        if kind == "classifier":
            self._label = self._unsafe_label()

    @classmethod
    def load(cls, source: ModelSource, kind: Kind, settings: GuardSettings) -> "NativeGuard":
        """Loads and checks a guard.

        Args:
            source: Where it is.
            kind: How it is asked.
            settings: Device and precision.

        Raises:
            UserError: It cannot be loaded or does not pass a check.
        """
        dtype: Any = "auto" if settings.precision == "auto" else getattr(torch, settings.precision)
        if kind == "classifier":
            model, tokenizer = _load_classifier(source, dtype, settings.device)
        else:
            model, tokenizer, _ = load_checked(source, dtype=dtype, device=settings.device)
            # It may name a way of sampling, or a penalty, and a reply is the likeliest one.
            model.generation_config = GenerationConfig(eos_token_id=end_tokens(model, tokenizer))
        return cls(model, tokenizer, source, kind)

    def answers(
        self,
        asked: Sequence[Asked],
        *,
        opens: bool,
        new_tokens: int,
        batch_size: int,
        should_stop: ShouldStop,
    ) -> Iterator[tuple[int, str]]:
        """What the model says, greedily, in batches of about equal length.

        Args:
            asked: What to ask.
            opens: Whether the chat template is asked to open the reply.
            new_tokens: Longest reply.
            batch_size: Prompts in a batch.
            should_stop: Looked at before each step of a batch.

        Yields:
            Number of what was asked, and the reply; for the kinds without one a probability. Nothing for what is too
            long for the model.

        Raises:
            UserError: The chat template fails.
            Stopped: Somebody has asked to stop.
        """
        texts = [self.prompt(one, opens) for one in asked]
        rows = [self._tokens(text) for text in texts]
        longest = getattr(self._policy.model.config.get_text_config(), "max_position_embeddings", None)
        # Of a classifier, rows are cut.
        fitting = [
            place
            for place, row in enumerate(rows)
            if self._kind == "classifier" or longest is None or len(row) + new_tokens <= longest
        ]
        if self._kind in ("chat", "text"):
            engine = TransformersEngine(self._policy, max_new_tokens=new_tokens, batch_size=batch_size)
            prompts = [Rendered(texts[place]) for place in fitting]
            for said in engine.answer(prompts, should_stop=should_stop):
                yield fitting[said.position], said.text
            return
        order = sorted(fitting, key=lambda place: -len(rows[place]))
        for start in range(0, len(order), batch_size):
            stop_if(should_stop)
            batch = order[start : start + batch_size]
            yield from zip(batch, self._chances([rows[place] for place in batch]), strict=True)

    def prompt(self, asked: Asked, opens: bool) -> str:
        """The text that the model reads.

        Raises:
            UserError: The chat template fails.
        """
        if self._kind in ("text", "classifier"):
            return asked.text
        messages = [_typed(message) if self._typed else dict(message) for message in asked.messages]
        return self._rendered(messages, asked.values, opens)

    def _tokens(self, text: str) -> list[int]:
        if self._kind == "classifier":
            found: list[int] = self._policy.tokenizer(text, truncation=True, max_length=_CLASSIFIED_TOKENS)["input_ids"]
        else:
            # Its special tokens are in the text.
            found = self._policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    @torch.inference_mode()
    def _chances(self, rows: Sequence[list[int]]) -> list[str]:
        """The probability of Yes against No after each row, or that of the label :data:`UNSAFE`."""
        ids, mask = self._padded(rows)
        if self._kind == "classifier":
            logits = self._policy.model(input_ids=ids, attention_mask=mask).logits.float()
            return [repr(float(row[self._label])) for row in logits.softmax(dim=-1)]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits = self._policy.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
        ).logits[:, -1, self._words]
        return [repr(float(row[0])) for row in logits.float().softmax(dim=-1)]

    def _padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, T] ids and mask; a classifier is padded on the right, everything else on the left."""
        width = max(map(len, rows))
        left = self._kind != "classifier"

        def filled(row: list[int], filler: int) -> list[int]:
            rest = [filler] * (width - len(row))
            return [*rest, *row] if left else [*row, *rest]

        device = self._policy.model.device
        ids = torch.tensor([filled(row, self._policy.tokenizer.pad_token_id) for row in rows], device=device)
        mask = torch.tensor([filled([1] * len(row), 0) for row in rows], device=device)
        return ids, mask

    def _rendered(self, messages: list[Any], values: Any, opens: bool) -> str:
        variables = {**self._policy.tokenizer.special_tokens_map, **values}
        return render_apart(self._name, self._template, variables, [(messages, opens)])[0]

    def _found_template(self) -> str:
        try:
            template = default_template(self._policy.tokenizer)
        except ValueError:
            template = None
        if template is None:
            raise UserError(
                f"The model {self._name!r} has no chat template, which a guard of this kind brings its "
                "question in: give the guard's own checkpoint."
            )
        self._template = template
        messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), _PROBE, strict=True)]
        values = {"guideline": ""} if self._kind == "yes" else {}
        # Some templates take the parts of a message only with their types.
        for self._typed in (False, True):
            shown = [_typed(message) if self._typed else message for message in messages]
            text = self._rendered(shown, values, True)
            if all(probe in text for probe in _PROBE):
                return template
        raise UserError(
            f"The chat template of the model {self._name!r} leaves out the question or the answer: give the "
            "guard's own checkpoint."
        )

    def _word_tokens(self, *words: str) -> list[int]:
        vocabulary = self._policy.tokenizer.get_vocab()
        missing = [word for word in words if word not in vocabulary]
        if missing:
            raise UserError(
                f"The tokenizer of the model {self._name!r} has no token {missing[0]!r}, by which this "
                "guard is read: give the guard's own checkpoint."
            )
        return [vocabulary[word] for word in words]

    def _unsafe_label(self) -> int:
        labels = {str(name).lower(): int(number) for number, name in self._policy.model.config.id2label.items()}
        if UNSAFE not in labels:
            raise UserError(
                f"The classifier {self._name!r} has no label {UNSAFE!r} but {', '.join(labels)}: give the "
                "guard's own checkpoint."
            )
        return labels[UNSAFE]


def _typed(message: Any) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _load_classifier(source: ModelSource, dtype: Any, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    where = {"revision": source.revision} if source.kind == "hub" else {"local_files_only": True}
    options = {"trust_remote_code": False, **where}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.target, **options)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            source.target,
            dtype=dtype,
            use_safetensors=None if source.allow_pickle else True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # the libraries below raise errors of many kinds
        if source.kind == "hub" and "use_safetensors" in str(error):
            raise UserError(f"The model {source.location!r} has {PICKLED}.") from None
        reason = str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
        raise UserError(
            f"The model {source.location!r} cannot be loaded as a classifier ({reason}): give a folder or hub id that "
            "AutoModelForSequenceClassification of transformers loads."
        ) from None
    require_whole(source, loading)
    return model.to(pick_device(device)).eval(), tokenizer
