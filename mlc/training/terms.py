"""All terms of a training as one object for any loop: states, decisions and answers of translations, from one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlc.errors import UserError
from mlc.losses import answer_loss, decision_loss
from mlc.losses.weights import mean_over_prompts
from mlc.models.continuations import Continued, Tokens, answer_tokens, continue_prompts
from mlc.models.copies import frozen_copy
from mlc.models.prompts import PromptBatch
from mlc.models.sampling import own_answers
from mlc.models.states import prompt_states
from mlc.shapes.labels import is_harmful
from mlc.training.balance import RiskProbe, weights_by_risk, weights_by_temperature
from mlc.training.settings import OpeningSettings, TermName, Terms
from mlc.training.term import FIGURES, ConsistencyTerm, language_weights
from mlc.training.variants import (
    Text,
    VariantBatch,
    Variants,
    batch_variants,
    encode_variants,
    in_languages,
    longest_text,
    require_languages,
)

PROBED_TOGETHER = 4
"""Prompts whose risk is measured in one pass, in all their languages."""
ALL_FIGURES = (*FIGURES, "decision_loss", "margin_gap", "answer_loss")
"""What a training log shows of the terms that it has."""


@dataclass(frozen=True)
class TermsOutput:
    """The terms of one batch and what to watch beside them."""

    loss: Tensor
    """Scalar with gradient: each term's mean over the prompts times its weight in this step, summed."""
    figures: dict[str, float]
    """Some of :data:`ALL_FIGURES`; losses before their weights."""


class TranslationTerms(nn.Module):
    """The terms beside an English loss: consistency of states, of decisions, and of answers.

    A step that has the consistency term alone ends at that term's layer. With another term the model goes on to its
    head, and states, openings and answers come from one pass over the prompts and what follows them.

    Args:
        terms: The terms.
        model: The policy.
        languages: Names of the languages, English first; or how many they are.
        tokenizer: Its fast tokenizer; None only for the consistency term.
        chat: Whether prompts are turns of the tokenizer's chat template.
        seed: Seed of the extractor's first weights.
        across_processes: Whether centring takes the mean over all processes, see :class:`mlc.losses.Centering`.

    Raises:
        ValueError: ``language_weights`` names a language that is not there, or an opening has no token.
    """

    consistency: ConsistencyTerm | None

    def __init__(
        self,
        terms: Terms,
        model: Any,
        languages: int | Sequence[str],
        *,
        tokenizer: Any = None,
        chat: bool = True,
        seed: int = 0,
        across_processes: bool = False,
    ) -> None:
        super().__init__()
        self.terms = terms
        self.tokenizer, self.chat = tokenizer, chat
        self.consistency = None
        if tokenizer is None and terms.active.keys() - {"consistency"}:
            raise ValueError("tokenizer must be given for the terms decision and answer: they read texts.")
        if terms.consistency.weight > 0:
            self.consistency = ConsistencyTerm(
                terms.consistency, model, languages, seed=seed, across_processes=across_processes
            )
        names = [str(place) for place in range(languages)] if isinstance(languages, int) else list(languages)
        self.languages = tuple(names)
        self._given = {name: language_weights(term, names) for name, term in terms.active.items()}
        self._weights = dict(self._given)
        self._balanced = terms.balance.weigh == "equal"
        self._probe: RiskProbe | None = None
        self.measured: Tensor | None = None
        """[L] weights by risk, as they were measured last; None before, and where they are not."""
        self._openings = {
            name: _Openings.of(term, tokenizer, chat=chat)
            for name, term in terms.active.items()
            if isinstance(term, OpeningSettings)
        }
        self.max_tokens = readable_tokens(terms, model, tokenizer) if terms.active else 0
        # In a tuple, so that it is neither trained nor saved with the terms.
        self._teacher: tuple[Any, ...] = ()
        if terms.answer.weight > 0 and terms.answer.teacher == "start":
            self._teacher = (frozen_copy(model),)

    def weigh_by(self, counts: Sequence[float], probed: Sequence[Variants] = ()) -> None:
        """Takes what the languages weigh by, where ``balance`` asks for it.

        Args:
            counts: [L] translations into each language, see :func:`mlc.training.preparation.variant_counts`.
            probed: Prompts of both classes that are not trained on, for the risk.

        Raises:
            UserError: The risk is to be measured, and there is nothing to measure it on.
        """
        settings = self.terms.balance
        if settings.weigh == "temperature":
            self._set_balance(weights_by_temperature(counts, settings.temperature))
        if not self.terms.measures_risk:
            return
        pad = self.tokenizer.pad_token_id or 0
        parts = [probed[start : start + PROBED_TOGETHER] for start in range(0, len(probed), PROBED_TOGETHER)]
        batches = [batch for part in parts if (batch := batch_variants(part, pad)) is not None]
        if not {label for batch in batches for label in batch.harmful} >= {True, False}:
            raise UserError(
                "The risk of languages is measured on translated prompts of both classes, and one has none: label or "
                "translate more, or set align.balance.weigh to equal."
            )
        own = _Openings.of(self.terms.decision, self.tokenizer, chat=self.chat)
        self._probe = RiskProbe(tuple(batches), own.tokens, own.refusals)

    def reweigh(self, model: Any, step: int) -> None:
        """Measures the risk of languages anew where it is time to; to be called before each step.

        Args:
            model: The policy.
            step: Optimiser steps done before this one.
        """
        if self._probe is not None and (self.measured is None or step % self.terms.balance.every == 0):
            self.balance(weights_by_risk(self._probe.measure(model), self.terms.balance.floor))

    def balance(self, measured: Tensor) -> None:
        """Takes weights by risk, such as those of a training that goes on."""
        self.measured = measured.cpu()
        self._set_balance(self.measured)

    def _set_balance(self, factors: Tensor) -> None:
        self._balanced = True
        for name, given in self._given.items():
            self._weights[name] = factors if given is None else given * factors
        if self.consistency is not None:
            self.consistency.language_weights = self._weights["consistency"]

    def told_weights(self) -> dict[str, float]:
        """Weights by risk by language, for a training log."""
        if self.measured is None:
            return {}
        return {f"weight_{name}": float(value) for name, value in zip(self.languages, self.measured, strict=True)}

    def weights(self, step: int) -> dict[TermName, float]:
        """The weight of each term in an optimiser step, counted from 0; without those that are off there."""
        found = {name: term.weight_at(step) for name, term in self.terms.active.items()}
        return {name: weight for name, weight in found.items() if weight > 0}

    def forward(self, model: Any, variants: VariantBatch, step: int = 0) -> TermsOutput | None:
        """Computes the terms of one optimiser step.

        Args:
            model: The policy.
            variants: Prompts in their languages.
            step: Optimiser steps done before this one.

        Returns:
            None where every term is off, or no prompt has anything for them; then nothing is computed.

        Raises:
            ValueError: The prompts are in more or fewer languages than the terms are for, or nothing was told of what
                languages weigh by.
        """
        require_languages(variants, self.languages)
        if not self._balanced:
            raise ValueError(
                f"languages weigh by {self.terms.balance.weigh}, and the terms were not told of it: call weigh_by "
                "first, and for risk reweigh before each step, or set balance.weigh to equal."
            )
        weights = self.weights(step)
        if not weights:
            return None
        if weights.keys() == {"consistency"}:
            return self._alone(model, variants, weights)
        plan = _Plan(self.terms, weights, self._openings, variants, self._answers(model, variants, weights))
        if plan.empty:
            return self._alone(model, variants, weights) if "consistency" in weights else None
        return self._together(model, variants, weights, plan)

    def encode(
        self,
        texts: Sequence[Sequence[Text | None] | Mapping[str, Text | None]],
        *,
        harmful: Sequence[bool | str | None] | None = None,
        answers: Sequence[str] | None = None,
    ) -> VariantBatch | None:
        """A batch from texts, for loops of one's own.

        Args:
            texts: Prompts in their languages, English first, or as mappings from the names of the languages; None or an
                empty text where a language is missing.
            harmful: Whether each prompt is harmful, for the answer term: true or false, or its label in words; None =
                no label, which counts as harmless.
            answers: English answers, for the answer term with the source ``chosen``.

        Returns:
            None if no prompt has a translation, or no term a weight.

        Raises:
            ValueError: There are more or fewer labels or answers than prompts, answers that a term reads are missing,
                a label is none, or a prompt has not one text for each language.
        """
        terms = self.terms
        if not terms.active:
            return None
        if terms.needs_answers and answers is None:
            raise ValueError("the answer term reads chosen answers: give answers, or the term the source 'own'.")
        for name, given in (("harmful", harmful), ("answers", answers)):
            if given is not None and len(given) != len(texts):
                raise ValueError(f"{name} must be one for each of the {len(texts)} prompts, not {len(given)}.")
        if terms.needs_answers and not all(isinstance(text, str) and text.strip() for text in answers or ()):
            raise ValueError("the answer term reads chosen answers, and one of them is missing: give each prompt one.")
        variants = [
            encode_variants(
                self.tokenizer,
                in_languages(row, self.languages),
                chat=self.chat,
                max_tokens=self.max_tokens,
                with_content=terms.needs_content,
                languages=self.languages,
            ).about(
                harmful=harmful is not None and _says_harmful(harmful[place]),
                answer=answer_tokens(self.tokenizer, answers[place], chat=self.chat) if answers else (),
            )
            for place, row in enumerate(texts)
        ]
        return batch_variants(variants, self.tokenizer.pad_token_id or 0, limit=terms.prompts_per_step)

    def take_part(self, step: int = 0) -> None:
        """What a process without prompts has to call in place of the terms, see :meth:`ConsistencyTerm.take_part`."""
        if self.consistency is not None and "consistency" in self.weights(step):
            self.consistency.take_part()

    def idle(self, model: Any, token: int, device: Any, step: int = 0) -> Tensor:
        """What a process without prompts computes for the others, where the layers of the model are in shards.

        As many forward and backward passes through the same layers.

        Args:
            model: The policy.
            token: Id of any token.
            device: Where it computes.
            step: Optimiser steps done before this one.

        Returns:
            0, with gradient.
        """
        ids = torch.full((1, 2), token, device=device)
        prompts = PromptBatch(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))
        weights = self.weights(step)
        layer = self.terms.consistency.layer if "consistency" in weights else None
        if weights.keys() == {"consistency"}:
            assert layer is not None
            return 0.0 * prompt_states(model, ids, prompts.attention_mask, layer=layer).sum()
        said = continue_prompts(model, prompts, [[(token,)]], layer=layer)
        states = said.logits.new_zeros(()) if said.states is None else said.states.sum()
        return 0.0 * (said.logits.sum() + states)

    def _alone(self, model: Any, variants: VariantBatch, weights: dict[TermName, float]) -> TermsOutput:
        assert self.consistency is not None
        output = self.consistency(model, variants)
        return TermsOutput(weights["consistency"] * output.loss, output.figures())

    def _together(
        self, model: Any, variants: VariantBatch, weights: dict[TermName, float], plan: "_Plan"
    ) -> TermsOutput:
        with_states = self.terms.consistency if "consistency" in weights else None
        said = continue_prompts(
            model,
            variants.prompts,
            plan.continuations,
            layer=None if with_states is None else with_states.layer,
            pool="last" if with_states is None else with_states.pool,
        )
        losses: dict[TermName, Tensor] = {}
        figures: dict[str, float] = {}
        if with_states is not None:
            assert self.consistency is not None
            assert said.states is not None
            output = self.consistency.of_states(said.states, variants)
            losses["consistency"] = output.loss
            figures |= output.figures()
        scores = said.mean_log_probabilities()
        if "decision" in weights:
            term = self.terms.decision
            decided = decision_loss(
                _grid(plan.margins(scores, "decision"), variants.mask),
                difference=term.difference,
                delta=term.delta,
                **self._weighted("decision", variants),
            )
            losses["decision"] = mean_over_prompts(decided.loss, **self._weighted("decision", variants))
            figures["margin_gap"] = float(decided.gap.mean())
        if "answer" in weights:
            each = self._answer(said, scores, plan, variants)
            losses["answer"] = mean_over_prompts(each, **self._weighted("answer", variants))
        figures |= {f"{name}_loss": float(loss.detach()) for name, loss in losses.items()}
        weighted = [weights[name] * loss for name, loss in losses.items()]
        return TermsOutput(torch.stack(weighted).sum(), figures)

    def _weighted(self, name: TermName, variants: VariantBatch) -> dict[str, Any]:
        """Which languages of which prompts count in a term, and how much."""
        device, weights = variants.mask.device, self._weights[name]
        return {
            "mask": variants.mask,
            "language_weights": None if weights is None else weights.to(device),
            "row_weights": variants.weights,
        }

    def _answers(self, model: Any, variants: VariantBatch, weights: dict[TermName, float]) -> Sequence[Tokens]:
        """[V] the answers whose tokens are compared."""
        term = self.terms.answer
        if "answer" not in weights:
            return ()
        if term.source == "own":
            return own_answers(model, _english(variants), term.tokens)
        return [answer[: term.tokens] for answer in variants.answers]

    def _answer(self, said: Continued, scores: Tensor, plan: "_Plan", variants: VariantBatch) -> Tensor:
        """[V] losses: of the whole vocabulary for some prompts, of the openings for the others."""
        term, loss = self.terms.answer, scores.new_zeros(len(variants.mask))
        teacher = self._taught(plan, variants)
        weighted = self._weighted("answer", variants)
        for prompts, whole in ((plan.whole, True), (plan.by_openings, False)):
            if not prompts:
                continue
            rows = torch.tensor(prompts, device=scores.device)
            logits, tokens = plan.compared(said, scores, variants.mask, rows, whole=whole)
            given = None
            if teacher is not None:
                english = torch.ones(len(variants.mask), 1, dtype=torch.bool, device=scores.device)
                given = plan.compared(teacher, teacher.mean_log_probabilities(), english, rows, whole=whole)[0][:, 0]
            chosen = {
                name: value if value is None or name == "language_weights" else value[rows]
                for name, value in weighted.items()
            }
            part = answer_loss(logits, teacher=given, divergence=term.divergence, tokens=tokens, **chosen)
            loss = loss.index_copy(0, rows, part.to(loss.dtype))
        return loss

    @torch.no_grad()
    def _taught(self, plan: "_Plan", variants: VariantBatch) -> Continued | None:
        """What the frozen teacher says after the English prompts."""
        if not self._teacher:
            return None
        teacher = self._teacher[0].to(variants.mask.device)
        english = _english_rows(variants.mask)
        return continue_prompts(
            teacher, _english(variants), [[rows[row] for row in english] for rows in plan.continuations]
        )


def readable_tokens(terms: Terms, model: Any, tokenizer: Any) -> int:
    """Most tokens of a text that the terms read, as configured and as a model can with openings and answers behind it.

    Args:
        terms: The terms, at least one of them with a weight.
        model: The policy, as in :func:`longest_text`.
        tokenizer: Its fast tokenizer; None only for the consistency term.

    Raises:
        ValueError: The model has no room for any text.
    """
    followed_by = [len(answer_tokens(tokenizer, text, chat=chat)) for text in terms.openings for chat in (True, False)]
    if terms.answer.weight > 0:
        followed_by.append(terms.answer.tokens)
    return longest_text(model, terms.max_tokens, followed_by=max(followed_by, default=0))


@dataclass(frozen=True)
class _Openings:
    """Openings as tokens, those of a refusal first."""

    tokens: tuple[tuple[int, ...], ...]
    refusals: int

    @classmethod
    def of(cls, term: OpeningSettings, tokenizer: Any, *, chat: bool) -> "_Openings":
        texts = (*term.refusal_openings, *term.compliance_openings)
        tokens = tuple(answer_tokens(tokenizer, text, chat=chat) for text in texts)
        empty = next((text for text, ids in zip(texts, tokens, strict=True) if not ids), None)
        if empty is not None:
            raise ValueError(f"the opening {empty!r} has no token; take another one.")
        return cls(tokens, len(term.refusal_openings))


class _Plan:
    """Which continuations each row is followed by, and where what they say is read.

    Openings come first, once where several terms read them; the answer is the last continuation.
    """

    def __init__(
        self,
        terms: Terms,
        weights: dict[TermName, float],
        openings: dict[TermName, _Openings],
        variants: VariantBatch,
        answers: Sequence[Tokens],
    ) -> None:
        count = len(variants.mask)
        harmful = variants.harmful or (False,) * count
        every = range(count)
        self.whole: list[int] = []
        """Prompts whose answers are compared over the whole vocabulary."""
        self.by_openings: list[int] = []
        """Prompts of which only the openings are compared."""
        if "answer" in weights:
            others = terms.answer.harmless
            whole = [prompt for prompt in every if harmful[prompt] or others == "vocabulary"]
            self.whole = [prompt for prompt in whole if answers and answers[prompt]]
            self.by_openings = [prompt for prompt in every if others == "openings" and not harmful[prompt]]
        prompt_of = variants.mask.nonzero()[:, 0].tolist()
        readers: dict[TermName, set[int]] = {"decision": set(every), "answer": set(self.by_openings)}
        read_by: dict[Tokens, set[int]] = {}
        for name, own in openings.items():
            for tokens in own.tokens if name in weights else ():
                read_by.setdefault(tokens, set()).update(readers[name])
        self.continuations: list[list[Tokens]] = [
            [tokens if prompt in read else () for prompt in prompt_of] for tokens, read in read_by.items()
        ]
        self._openings, self._columns = openings, list(read_by)
        if "answer" in weights:
            read = set(self.whole)
            self.continuations.append([answers[prompt] if prompt in read else () for prompt in prompt_of])

    @property
    def empty(self) -> bool:
        """Whether no term reads any token, such as where all prompts of a step are left out."""
        return not any(tokens for rows in self.continuations for tokens in rows)

    def margins(self, scores: Tensor, name: TermName) -> Tensor:
        """[N] refusal margins from the mean log-probabilities of all continuations, [N, C]."""
        own = self._openings[name]
        columns = [self._columns.index(tokens) for tokens in own.tokens]
        refusals, others = columns[: own.refusals], columns[own.refusals :]
        return scores[:, refusals].mean(dim=1) - scores[:, others].mean(dim=1)

    def compared(
        self, said: Continued, scores: Tensor, mask: Tensor, prompts: Tensor, *, whole: bool
    ) -> tuple[Tensor, Tensor | None]:
        """What the answers of some prompts are compared by: [n, L, K, V] logits, and [n, K] which tokens there are."""
        if not whole:
            # Two outcomes, a refusal or an answer, whose log-odds are the margin.
            margins = _grid(self.margins(scores, "answer"), mask)[prompts]
            return torch.stack([margins, torch.zeros_like(margins)], dim=-1).unsqueeze(2), None
        places, grid = said.places[-1], mask[prompts]
        rows = _grid(torch.arange(len(places), device=places.device), mask)[prompts]
        own = places[rows]
        tokens = (own >= 0).logical_and(grid.unsqueeze(-1)).any(dim=1)
        return said.logits[own.clamp(min=0)], tokens


def _grid(values: Tensor, mask: Tensor) -> Tensor:
    """[V, L] from one value for each True of the mask; 0 elsewhere."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def _english_rows(mask: Tensor) -> list[int]:
    """Which row of a batch is the English one of each prompt."""
    places = _grid(torch.arange(int(mask.sum()), device=mask.device), mask)
    return [int(row) for row in places[:, 0]]


def _english(variants: VariantBatch) -> PromptBatch:
    rows, prompts = _english_rows(variants.mask), variants.prompts
    return PromptBatch(prompts.input_ids[rows], prompts.attention_mask[rows], prompts.content_mask[rows])


def _says_harmful(label: Any) -> bool:
    """A label as a truth value; a word is not true because it is there."""
    if isinstance(label, bool | np.bool_):
        return bool(label)
    return bool(is_harmful(label))
