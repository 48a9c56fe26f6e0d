"""The gate on prompts as one object: fitted, asked, written, read."""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from mlc.choices import Pool
from mlc.errors import UserError
from mlc.gating.fitting import LinearScore, fit_score, labelled_threshold, matched_threshold
from mlc.gating.refusals import refusals_in
from mlc.gating.settings import PromptGateSettings
from mlc.languages import ENGLISH
from mlc.models.loading import Policy
from mlc.models.prompts import EncodedPrompt, encode_prompt, pad_prompts
from mlc.models.states import layer_index, prompt_states
from mlc.shapes.history import Prompt, last_text
from mlc.stopping import ShouldStop, never, stop_if
from mlc.text.identification import accepted_labels, identify, label_of

GATE_FILE = "prompt_gate.json"
"""Beside the weights of a checkpoint; plain data, so that a served model needs nothing of this project."""
ENGLISH_THRESHOLD = 0.0
"""Even odds: the classifier weighs both classes alike."""
BATCH_SIZE = 16
"""Prompts in a forward pass; changes nothing but time and memory."""


@dataclass(frozen=True)
class PromptGate:
    """Refuses prompts by their state, before anything is answered."""

    layer: int
    """Index of the hidden state."""
    pool: Pool
    """Which tokens stand for a prompt; the last one where the template leaves nothing of the person's own text."""
    direction: tuple[float, ...]
    """[H]"""
    bias: float
    thresholds: Mapping[str, float]
    """By NLLB code, the anchor language first: prompts with a higher score are refused."""
    others: float
    """The same for prompts in any other language."""
    labels: Mapping[str, str]
    """NLLB code by label of py3langid, which tells the language of a prompt."""
    refusals: Mapping[str, str]
    """What is said in place of an answer, by NLLB code."""

    @property
    def anchor(self) -> str:
        """NLLB code of the language that it was fitted in."""
        return next(iter(self.thresholds))

    def languages_of(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """[N] NLLB codes of the languages of prompts; None for one without a threshold of its own."""
        texts = [unicodedata.normalize("NFC", last_text(prompt)) for prompt in prompts]
        found = identify(pa.array(texts, pa.string()))
        return [self.labels.get(found.labels[place]) for place in found.values.argmax(axis=1)]

    def margins(self, policy: Policy, prompts: Sequence[Prompt], *, should_stop: ShouldStop = never) -> list[float]:
        """[N] how far above its threshold each prompt is; above 0 it is refused.

        Args:
            policy: The model that the gate was fitted on.
            prompts: Texts, or messages that end with one of the person.
            should_stop: Looked at before each batch.

        Raises:
            Stopped: It was asked to stop.
        """
        if not prompts:
            return []
        score = LinearScore(torch.tensor(self.direction, dtype=torch.float64), self.bias)
        scores = score.of(states_of(policy, prompts, self.layer, self.pool, should_stop=should_stop)).tolist()
        codes = self.languages_of(prompts)
        return [
            value - (self.others if code is None else self.thresholds[code])
            for value, code in zip(scores, codes, strict=True)
        ]

    def refusal(self, prompt: Prompt) -> str:
        """What is said in place of an answer to a prompt, in its language."""
        return self.refusals[self.languages_of([prompt])[0] or self.anchor]

    def save(self, folder: Path) -> None:
        """Writes :data:`GATE_FILE` into the folder of a checkpoint."""
        text = json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)
        (folder / GATE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "PromptGate":
        """Reads what :meth:`save` wrote."""
        values: dict[str, Any] = json.loads((folder / GATE_FILE).read_text(encoding="utf-8"))
        return cls(**{**values, "direction": tuple(values["direction"])})


def fit_gate(
    policy: Policy,
    prompts: Sequence[Prompt],
    labels: Sequence[str | None],
    translations: Mapping[str, Sequence[Prompt | None]],
    settings: PromptGateSettings,
    *,
    anchor: str = ENGLISH,
    on_prompts: Callable[[int], None] = lambda count: None,
    should_stop: ShouldStop = never,
) -> PromptGate:
    """Fits a gate on labelled prompts in one language, and sets the thresholds of others by their translations.

    Args:
        policy: The model whose states are read.
        prompts: [N] in the anchor language.
        labels: [N] ``harmful``, ``harmless`` or None; rows without a label are left out.
        translations: By NLLB code [N] the same prompts, None where one is missing.
        settings: The gate.
        anchor: NLLB code of the language of the prompts.
        on_prompts: Called with the number of prompts just read.
        should_stop: Looked at before each batch.

    Raises:
        UserError: A class has no prompt, a language has no translation or too few labelled ones, the states tell
            nothing, or the layer does not exist.
        Stopped: It was asked to stop.
    """
    if getattr(policy.model.config, "is_encoder_decoder", False):
        raise UserError("A gate reads the states of decoders, and this is an encoder-decoder: leave the gate out.")
    try:
        depth = policy.model.config.get_text_config().num_hidden_layers
        layer = layer_index(settings.layer, depth)
    except ValueError as problem:
        raise UserError(f"The gate cannot be fitted: {problem} Change serve.layer.") from None
    rows = [row for row, label in enumerate(labels) if label is not None]
    harmful = torch.tensor([labels[row] == "harmful" for row in rows], dtype=torch.bool)

    def read(asked: Sequence[Prompt]) -> Tensor:
        return states_of(policy, asked, layer, settings.pool, on_prompts=on_prompts, should_stop=should_stop)

    if not rows:
        raise UserError(f"None of the {len(prompts)} prompts has a label, and a gate needs them: add the column label.")
    states = read([prompts[row] for row in rows])
    score = fit_score(states, harmful, rank=settings.rank, ridge=settings.ridge)
    english = score.of(states)
    thresholds = {anchor: ENGLISH_THRESHOLD}
    for code, texts in translations.items():
        there = [(place, text) for place, row in enumerate(rows) if (text := texts[row]) is not None]
        if settings.labels:
            there = _few(there, harmful, settings.labels, code)
        if not there:
            raise UserError(f"No prompt has a translation into {code}, and the gate needs some: take the language out.")
        places = torch.tensor([place for place, _ in there])
        own = score.of(read([text for _, text in there]))
        thresholds[code] = (
            labelled_threshold(own, harmful[places])
            if settings.labels
            else matched_threshold(own, english[places], ENGLISH_THRESHOLD)
        )
    others = [value for code, value in thresholds.items() if code != anchor]
    return PromptGate(
        layer=layer,
        pool=settings.pool,
        direction=tuple(score.direction_H.tolist()),
        bias=score.bias,
        thresholds=thresholds,
        others=fmean(others) if others else ENGLISH_THRESHOLD,
        labels=labels_of(tuple(thresholds)),
        refusals=refusals_in(tuple(thresholds), settings.refusals),
    )


def _few(there: list[tuple[int, Prompt]], harmful: Tensor, count: int, code: str) -> list[tuple[int, Prompt]]:
    """The first prompts of each class."""
    found = [
        [(place, text) for place, text in there if bool(harmful[place]) is wanted][:count] for wanted in (True, False)
    ]
    if min(map(len, found)) < count:
        raise UserError(
            f"The language {code} has {min(map(len, found))} labelled prompts of a class, and serve.labels asks for "
            f"{count}: lower it, or add some."
        )
    return found[0] + found[1]


@torch.no_grad()
def states_of(
    policy: Policy,
    prompts: Sequence[Prompt],
    layer: int,
    pool: Pool,
    *,
    on_prompts: Callable[[int], None] = lambda count: None,
    should_stop: ShouldStop = never,
) -> Tensor:
    """[N, H] states of prompts, on the CPU."""
    found = []
    for start in range(0, len(prompts), BATCH_SIZE):
        stop_if(should_stop)
        encoded = [
            _with_content(encode_prompt(policy.tokenizer, asked)) for asked in prompts[start : start + BATCH_SIZE]
        ]
        batch = pad_prompts(encoded, policy.pad_token).to(policy.model.device)
        given: dict[str, Any] = {"layer": layer, "pool": pool, "content_mask": batch.content_mask}
        found.append(prompt_states(policy.model, batch.input_ids, batch.attention_mask, **given).cpu())
        on_prompts(len(encoded))
    return torch.cat(found)


def _with_content(prompt: EncodedPrompt) -> EncodedPrompt:
    """A prompt of which at least the last token counts as the person's own text."""
    if any(prompt.content):
        return prompt
    return replace(prompt, content=(*prompt.content[:-1], True))


def labels_of(languages: Sequence[str]) -> dict[str, str]:
    """NLLB code by label of py3langid: of each language its own label, then those that it is taken for.

    Args:
        languages: NLLB codes; where two have one label, the first one counts.
    """
    found: dict[str, str] = {}
    for code in languages:
        if (label := label_of(code)) is not None:
            found.setdefault(label, code)
    for code in languages:
        for label in sorted(accepted_labels(code)):
            found.setdefault(label, code)
    return found
