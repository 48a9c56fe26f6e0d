"""Synthetic evaluations: a model that separates prompts by `shift` nats in a language."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlc.evaluation.gate.deciding import Check
from mlc.evaluation.metrics import summarise
from mlc.evaluation.results import OUTCOMES_SCHEMA, ROWS_SCHEMA, Estimate, EvaluationResult
from mlc.report import FunnelRow, Gate, ReportData

LABELS = {"base": "Base", "english-only": "English-only", "consistency": "Consistency"}
SHIFTS = {"base": 0.1, "english-only": 1.0, "consistency": 2.2}


def make_result(
    model: str, seed: int | None, language: str, *, shift: float | None = None, prompts: int = 40
) -> EvaluationResult:
    generator = np.random.default_rng([len(model), seed or 0, *language.encode()])
    harmful = np.arange(2 * prompts) < prompts
    english = language == "eng_Latn"
    separation = SHIFTS.get(model, 0.5) if shift is None else shift
    # Both trained models are good in English.
    in_language = 2.6 if english and model != "base" else separation
    margins = generator.normal(size=2 * prompts) + harmful * in_language
    matched = np.clip(generator.normal(0.25 + 0.2 * separation, 0.1, 2 * prompts), -1, 1)
    rows = pa.table(
        {
            "id": [f"prompt {index}" for index in range(2 * prompts)],
            "label": np.where(harmful, "harmful", "harmless").tolist(),
            "kind": [
                "harmful" if flag else ("lookalike" if index % 3 == 0 else "harmless")
                for index, flag in enumerate(harmful)
            ],
            "split": ["test"] * (2 * prompts),
            "margin": margins,
            "matched_cosine": [None] * (2 * prompts) if english else matched,
        },
        schema=ROWS_SCHEMA,
    )
    # Half of the answers of a language are in English; every ninth is invalid, every tenth not clear.
    given = [
        "invalid" if index % 9 == 0 else "unsure" if index % 10 == 0 else "refused" if margin > 1.0 else "complied"
        for index, margin in enumerate(margins)
    ]
    outcomes = pa.table(
        {
            **{name: rows[name] for name in ("id", "label", "kind")},
            "judge": ["rules"] * len(rows),
            "outcome": given,
            "reason": ["as it is made here"] * len(rows),
            "answer_language": [language if index % 2 else "eng_Latn" for index in range(len(rows))],
        },
        schema=OUTCOMES_SCHEMA,
    )
    summary = summarise(
        rows,
        model=model,
        seed=seed,
        language=language,
        threshold=1.0,
        collinearity=None if english else 0.97,
        centred_collinearity=None if english else 0.6 + 0.08 * separation,
        unmatched_cosine=None if english else 0.03 + 0.02 * separation,
        own_threshold=0.5 * separation,
        outcomes=outcomes,
    )
    return EvaluationResult(summary, rows, outcomes)


def check(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "figure": "harmless_refused",
        "classes": (),
        "scope": "worst",
        "languages": ("swh_Latn",),
        "against": "champion",
        "other": "champion",
        "confidence": "interval",
        "at_least": False,
        "bound": 0.05,
        "estimate": Estimate(0.12, 0.02, 0.22, 40),
        "verdict": "failed",
    }
    return Check(**{**values, **changes}).row()


def make_data(
    languages: tuple[str, ...] = ("eng_Latn", "spa_Latn", "deu_Latn", "swh_Latn", "arb_Arab"),
    seeds: tuple[int, ...] = (0, 1),
    **changes: Any,
) -> ReportData:
    results = [make_result("base", None, language) for language in languages]
    for model in ("english-only", "consistency"):
        results += [make_result(model, seed, language) for seed in seeds for language in languages]
    values: dict[str, Any] = {
        "name": "quickstart",
        "settings": {
            "Base model": "SmolLM2-135M-Instruct",
            "Translator": "shipped:nano",
            "Consistency": {"form": "cosine", "anchor": "english", "centring": "batch", "layer": 0.5, "weight": 1.0},
            "Seeds": list(seeds),
            "Languages": list(languages),
        },
        "results": results,
        "funnel": [
            FunnelRow("spa_Latn", "kept", 120, 0.9375),
            FunnelRow("spa_Latn", "repetition", 8, 0.0625),
            FunnelRow("deu_Latn", "kept", 96, 0.75),
            FunnelRow("deu_Latn", "wrong_language", 20, 0.15625),
            FunnelRow("deu_Latn", "length", 8, 0.0625),
            FunnelRow("deu_Latn", "wrong_script", 2, 0.015625),
            FunnelRow("deu_Latn", "placeholders", 1, 0.0078125),
            FunnelRow("deu_Latn", "low_confidence", 1, 0.0078125),
        ],
        "training_logs": {
            (model, seed): [
                {
                    "step": step,
                    "loss": 3 * 0.93**step + 0.1 * seed,
                    "alignment_loss": 2.5 * 0.92**step + 0.1 * seed,
                    **(
                        {
                            "consistency_loss": 0.8 * 0.95**step,
                            "collinearity": 0.9 - 0.3 * 0.9**step,
                            "between_prompt_cosine": float("nan") if step == 3 else 0.1 * 0.9**step,
                        }
                        if model == "consistency"
                        else {}
                    ),
                }
                for step in range(1, 37)
            ]
            for model in ("english-only", "consistency")
            for seed in seeds
        },
        "trained_languages": [language for language in languages if language not in ("swh_Latn", "eng_Latn")],
        "machine_translated_languages": [language for language in languages if language == "arb_Arab"],
        "labels": LABELS,
        "compared": ("consistency", "english-only"),
        "gate": Gate(False, "strict", [check(), check(scope="english", languages=("eng_Latn",), verdict="passed")]),
    }
    return ReportData(**{**values, **changes})


@pytest.fixture(name="make_result", scope="session")
def make_result_fixture() -> Callable[..., EvaluationResult]:
    return make_result


@pytest.fixture(name="make_data", scope="session")
def make_data_fixture() -> Callable[..., ReportData]:
    return make_data
