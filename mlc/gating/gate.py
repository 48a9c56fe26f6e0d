"""The gate on prompts as one object: fitted, asked, written, read."""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from mlc.choices import Pool
from mlc.errors import UserError
from mlc.gating.crossing import best_place, cross_margins, sample_of, separations
from mlc.gating.fitting import LinearScore, fit_score
from mlc.gating.prompt_translation import TRANSLATOR_FOLDER, PromptTranslator, parts_of
from mlc.gating.reading import Place, Read, joined, places_of, states_at
from mlc.gating.refusals import refusals_of_a_gate
from mlc.gating.settings import PromptGateSettings, Reads
from mlc.gating.thresholds import raised_for_parts, thresholds_of
from mlc.languages import ENGLISH, resolve_language, rules_of_sentences
from mlc.models.bounds import context_of
from mlc.models.loading import Policy
from mlc.models.prompts import encode_prompt
from mlc.shapes.history import Prompt, last_text, mapped_texts
from mlc.shapes.labels import LABELS
from mlc.stopping import ShouldStop, never
from mlc.text.identification import accepted_labels, identify, label_of

GATE_FILE = "prompt_gate.json"
"""Beside the weights of a checkpoint; plain data, so that a served model needs nothing of this project."""
SAMPLE = 4096
"""Texts by which a place is chosen, all languages together; more say little more and take memory."""
PARTS = 16
"""Sentences of a prompt that are read each by itself; of more, neighbours are read together."""
HARMFUL, _ = LABELS
LEAST = 64
"""Prompts by which a place is chosen at least, however many languages there are."""


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
    """What is said in place of an answer, by NLLB code; in other languages it is that of the anchor language."""
    separation: Mapping[str, float | None] = field(default_factory=dict)
    """AUROC by NLLB code of scores of prompts, and of their translations, that were not fitted on; None where a class
    has no prompt. It says what a gate can know of a language, and flatters a little where the place was chosen by
    it."""
    reads: Reads = "prompt"
    """Whether the policy reads the prompt itself, or its translation into the anchor language."""
    segmenters: Mapping[str, str] = field(default_factory=dict)
    """For translations and sentences, by NLLB code: the language whose rules split the sentences of a language."""
    translator: str | None = None
    """For translations, identity of the model that makes them."""
    raised: tuple[float, ...] = ()
    """Where sentences are read by themselves too: how much higher the threshold of each lies, by their number, from 1
    on; empty where they are not."""
    dtype: str = "float32"
    """Type of the weights that it was fitted on; in another one its margins are a little different."""

    @property
    def anchor(self) -> str:
        """NLLB code of the language that it was fitted in."""
        return next(iter(self.thresholds))

    def languages_of(self, prompts: Sequence[Prompt]) -> list[str | None]:
        """[N] NLLB codes of the languages of prompts; None for one without a threshold and a refusal of its own."""
        return [code for code, _ in self._spoken([last_text(prompt) for prompt in prompts])]

    def _spoken(self, texts: Sequence[str]) -> list[tuple[str | None, float]]:
        """[N] NLLB code of the language of each text, as above, and how probable that is."""
        found = identify(pa.array([unicodedata.normalize("NFC", text) for text in texts], pa.string()))
        best = found.values.argmax(axis=1)
        return [
            (self.labels.get(found.labels[place]), float(own[place]))
            for own, place in zip(found.values, best, strict=True)
        ]

    def load_translator(self, folder: str | Path, device: Any = "cpu") -> PromptTranslator | None:
        """What translates prompts for the gate; None where it reads them as they are.

        Args:
            folder: Of the checkpoint that the gate stands in.
            device: Where to compute.
        """
        if self.reads == "prompt":
            return None
        place = Path(folder) / TRANSLATOR_FOLDER
        return PromptTranslator(place, target=self.anchor, segmenters=self.segmenters, device=device)

    def translated(self, prompts: Sequence[Prompt], translator: PromptTranslator) -> list[Prompt]:
        """[N] prompts as the policy reads them: each message in the anchor language, by its own language.

        A sentence that is surely in another language is read in that.

        Args:
            prompts: Texts or messages.
            translator: From :meth:`load_translator`.
        """

        def into_anchor(texts: list[str]) -> list[str]:
            return translator.translate(texts, self.languages_of(texts), self._spoken)

        return mapped_texts(prompts, into_anchor)

    def margins(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        *,
        translator: PromptTranslator | None = None,
        should_stop: ShouldStop = never,
    ) -> list[float]:
        """[N] how far above its threshold each prompt is; above 0 it is refused.

        Args:
            policy: The model that the gate was fitted on.
            prompts: Texts, or messages that end with one of the person.
            translator: From :meth:`load_translator`, for a gate that reads translations.
            should_stop: Looked at before each batch.

        Raises:
            UserError: Messages end with something else, behind which a gate would not see what the person said; or a
                gate that reads translations has no translator.
            Stopped: It was asked to stop.
        """
        if isinstance(prompts, str):
            raise UserError("A gate reads a list of prompts, and this is one text: put it into a list.")
        if not prompts:
            return []
        for number, prompt in enumerate(prompts, 1):
            # Tables have numbers that are none where one is missing.
            if not prompt or prompt != prompt:
                raise UserError(f"Prompt {number} is empty: a gate reads texts, or messages of a person.")
            if not isinstance(prompt, str) and prompt[-1]["role"] != "user":
                raise UserError(
                    f"The messages of prompt {number} end with the role {prompt[-1]['role']!r}: a gate reads messages "
                    "that end with one of the role 'user'."
                )
        if (width := policy.model.config.get_text_config().hidden_size) != len(self.direction):
            raise UserError(
                f"The gate reads states of {len(self.direction)} numbers, and this model has {width}: take the one "
                "that the gate was fitted on."
            )
        asked = prompts
        if self.reads == "translation":
            if translator is None:
                raise UserError("This gate reads translations of prompts: give it the translator of load_translator.")
            asked = self.translated(prompts, translator)
        _require_room(policy, asked)
        codes = self.languages_of(prompts)
        scores = self._scores(policy, asked, should_stop)
        if self.raised:
            parts = [self._parts(*one) for one in zip(asked, codes, strict=True)]
            said = iter(self._scores(policy, [part for own in parts for part in own], should_stop))
            scores = [
                max([score, *(next(said) - self.raised[len(own) - 1] for _ in own)])
                for score, own in zip(scores, parts, strict=True)
            ]
        return [
            score - (self.others if code is None else self.thresholds.get(code, self.others))
            for score, code in zip(scores, codes, strict=True)
        ]

    def _scores(self, policy: Policy, prompts: Sequence[Prompt], should_stop: ShouldStop) -> list[float]:
        if not prompts:
            return []
        place = self.layer, self.pool
        score = LinearScore(torch.tensor(self.direction, dtype=torch.float64), self.bias)
        found: list[float] = score.of(states_at(policy, prompts, [place], should_stop=should_stop)[place]).tolist()
        return found

    def _parts(self, prompt: Prompt, code: str | None) -> list[Prompt]:
        """What is read beside a prompt, which is in a language: its sentences, if there are several."""
        rules = self.segmenters[self.anchor]
        if self.reads == "prompt":
            rules = self.segmenters.get(code or "", rules)
        parts = parts_of(last_text(prompt), rules, len(self.raised))
        return [_ending_with(prompt, part) for part in parts] if len(parts) > 1 else []

    def refusal(self, prompt: Prompt) -> str:
        """What is said in place of an answer to a prompt, in its language."""
        return self.refusals.get(self.languages_of([prompt])[0] or "") or self.refusals[self.anchor]

    def save(self, folder: str | Path) -> None:
        """Writes :data:`GATE_FILE` into the folder of a checkpoint."""
        text = json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)
        (Path(folder) / GATE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "PromptGate":
        """Reads what :meth:`save` wrote."""
        values: dict[str, Any] = json.loads((Path(folder) / GATE_FILE).read_text(encoding="utf-8"))
        tuples = {name: tuple(values.get(name, ())) for name in ("direction", "raised")}
        return cls(**{**values, **tuples})


def fit_gate(
    policy: Policy,
    prompts: Sequence[Prompt],
    labels: Sequence[str | None],
    translations: Mapping[str, Sequence[Prompt | None]],
    settings: PromptGateSettings,
    *,
    anchor: str = ENGLISH,
    translator: str | None = None,
    on_prompts: Callable[[int], None] = lambda count: None,
    should_stop: ShouldStop = never,
) -> PromptGate:
    """Fits a gate on labelled prompts in one language, and sets the thresholds of others by their translations.

    Args:
        policy: The model whose states are read.
        prompts: [N] in the anchor language.
        labels: [N] ``harmful``, ``harmless`` or None; rows without a label, or without a prompt, are left out.
        translations: By NLLB code [N] the same prompts, None where one is missing.
        settings: The gate. One that reads translations is fitted on the prompts alone, and of ``translations`` the
            languages count: all have the threshold of the prompts.
        anchor: NLLB code of the language of the prompts.
        translator: For a gate that reads translations, identity of what makes them.
        on_prompts: Called with the number of prompts just read.
        should_stop: Looked at before each batch.

    Raises:
        UserError: A class has no prompt, a language has no translation or too few labelled ones, the states tell
            nothing, or the layer does not exist.
        Stopped: It was asked to stop.
    """
    if getattr(policy.model.config, "is_encoder_decoder", False):
        raise UserError("A gate reads the states of decoders, and this is an encoder-decoder: leave the gate out.")
    if resolve_language(anchor).code != anchor:
        raise UserError(f"{anchor!r} is no NLLB code, such as eng_Latn: name the language of the prompts by one.")
    if unknown := [code for code in translations if resolve_language(code).code != code or code == anchor]:
        raise UserError(
            f"{unknown[0]!r} does not name a language of translations: write its NLLB code, such as spa_Latn, and not "
            f"that of the prompts, {anchor}."
        )
    in_anchor = settings.reads == "translation"
    asked = _labelled(prompts, labels, {anchor: prompts, **({} if in_anchor else translations)})

    def read(rows: Sequence[int], places: Sequence[Place]) -> dict[Place, dict[str, Read]]:
        return _read(
            asked, rows, lambda texts: states_at(policy, texts, places, on_prompts=on_prompts, should_stop=should_stop)
        )

    score_settings: dict[str, Any] = {"rank": settings.rank, "ridge": settings.ridge}
    (layer, pool), states = _placed(asked, places_of(policy, settings), read, **score_settings)
    score = fit_score(states[anchor].states_MH, asked.harmful_N, **score_settings)
    tried = cross_margins(states, asked.harmful_N, **score_settings)
    thresholds = thresholds_of(score, states, tried, asked.harmful_N, settings)
    if in_anchor:
        thresholds |= dict.fromkeys(translations, thresholds[anchor])
    harmless = tried[anchor][~asked.harmful_N]
    raised = raised_for_parts(harmless - thresholds[anchor], PARTS) if settings.sentences else ()
    _, *carried = thresholds.values()
    refusals = refusals_of_a_gate(tuple(thresholds), settings.refusals)
    return PromptGate(
        layer=layer,
        pool=pool,
        direction=tuple(score.direction_H.tolist()),
        bias=score.bias,
        thresholds=thresholds,
        others=fmean(carried) if carried else thresholds[anchor],
        labels=labels_of(tuple(thresholds), others=tuple(refusals)),
        refusals=refusals,
        separation=separations(tried, states, asked.harmful_N),
        reads=settings.reads,
        segmenters={code: rules_of_sentences(code) for code in (*thresholds, *refusals)} if in_anchor or raised else {},
        raised=raised,
        translator=translator,
        dtype=str(policy.model.dtype).removeprefix("torch."),
    )


@dataclass(frozen=True)
class _Labelled:
    """N prompts with a label."""

    harmful_N: Tensor
    texts: Mapping[str, Mapping[int, Prompt]]
    """By NLLB code, the anchor language first and complete: the texts that there are by number of their prompt."""


def _labelled(
    prompts: Sequence[Prompt], labels: Sequence[str | None], texts: Mapping[str, Sequence[Prompt | None]]
) -> _Labelled:
    for what, count in [("labels", len(labels)), *((code, len(own)) for code, own in texts.items())]:
        if count != len(prompts):
            raise UserError(f"There are {len(prompts)} prompts and {count} of {what}: a gate needs one for each.")
    # A table has numbers that are none where a label is missing.
    labelled = [row for row, label in enumerate(labels) if label is not None and label == label]
    # The languages are in order: that of the prompts first.
    in_anchor = next(iter(texts.values()))
    rows = [row for row in labelled if (text := in_anchor[row]) is not None and _is_there(text)]
    if strange := {str(labels[row]) for row in rows} - set(LABELS):
        raise UserError(
            f"A label must be {' or '.join(LABELS)}, or None where there is none, not {min(strange)!r}: a gate is "
            "fitted on both classes."
        )
    if not labelled:
        raise UserError(f"None of the {len(prompts)} prompts has a label, and a gate needs them: add the column label.")
    there = {
        code: {number: text for number, row in enumerate(rows) if (text := own[row]) is not None and _is_there(text)}
        for code, own in texts.items()
    }
    for code, own in there.items():
        if not own:
            raise UserError(f"No prompt has a translation into {code}, and the gate needs some: take the language out.")
    return _Labelled(torch.tensor([labels[row] == HARMFUL for row in rows]), there)


def _require_room(policy: Policy, prompts: Sequence[Prompt]) -> None:
    """Refuses prompts that are longer than the model reads: it fails there, or has states that were never tried."""
    context = context_of(policy.model.config.to_dict())
    for number, prompt in enumerate(prompts, 1) if context else ():
        if (length := len(encode_prompt(policy.tokenizer, prompt).input_ids)) > (context or 0):
            raise UserError(
                f"The model reads at most {context} tokens at once, and prompt {number} of {len(prompts)}, as its gate "
                f"reads it, has {length}: shorten it."
            )


def _ending_with(prompt: Prompt, text: str) -> Prompt:
    """The same prompt, had the person said something else at its end."""
    return text if isinstance(prompt, str) else [*prompt[:-1], {**prompt[-1], "content": text}]


def _is_there(prompt: Prompt) -> bool:
    """Whether there is a prompt; tables have numbers that are none, or empty texts, where one is missing."""
    return bool(prompt.strip() if isinstance(prompt, str) else prompt) and prompt == prompt


def _read(
    asked: _Labelled, rows: Sequence[int], states_of: Callable[[Sequence[Prompt]], dict[Place, Tensor]]
) -> dict[Place, dict[str, Read]]:
    """States of some prompts in all their languages, by place."""
    found: dict[Place, dict[str, Read]] = {}
    for code, own in asked.texts.items():
        if there := [row for row in rows if row in own]:
            for place, states in states_of([own[row] for row in there]).items():
                found.setdefault(place, {})[code] = Read(torch.tensor(there), states)
    return found


def _placed(
    asked: _Labelled,
    places: Sequence[Place],
    read: Callable[[Sequence[int], Sequence[Place]], dict[Place, dict[str, Read]]],
    *,
    rank: int,
    ridge: float,
) -> tuple[Place, dict[str, Read]]:
    """The place, chosen by some prompts where there are several, and the states of all prompts there."""
    count = len(asked.harmful_N)
    if len(places) == 1:
        return places[0], read(range(count), places)[places[0]]
    shown = sample_of(asked.harmful_N, max(SAMPLE // len(asked.texts), LEAST))
    found = read(shown, places)
    place = best_place(
        {place: {code: own.among(shown) for code, own in by_code.items()} for place, by_code in found.items()},
        asked.harmful_N[shown],
        rank=rank,
        ridge=ridge,
    )
    rest = read(sorted(set(range(count)) - set(shown)), [place]).get(place, {})
    parts = {code: [part[code] for part in (found[place], rest) if code in part] for code in asked.texts}
    return place, {code: joined(own) for code, own in parts.items()}


def labels_of(languages: Sequence[str], others: Sequence[str] = ()) -> dict[str, str]:
    """NLLB code by label of py3langid: of each language its own label, then those that it is taken for.

    Args:
        languages: NLLB codes; where two have one label, the first one counts.
        others: NLLB codes of languages whose own labels count where no language has them.
    """
    found: dict[str, str] = {}
    for code in languages:
        if (label := label_of(code)) is not None:
            found.setdefault(label, code)
    for code in languages:
        for label in sorted(accepted_labels(code)):
            found.setdefault(label, code)
    for code in others:
        if (label := label_of(code)) is not None:
            found.setdefault(label, code)
    return found
