"""An encoder-decoder as the policy: the whole flow, what is cached afterwards, and what is refused before it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.configuration.reading import load_config
from mlc.errors import UserError
from tests.covering import chosen
from tests.encoders import save_m2m100, save_t5
from tests.flows.runs import Flow, made, plan_run
from tests.flows.smoked import Smoked
from tests.tasks.launching import FSDP

ADAPTER = {"align__adapter": "lora", "registry__weights": "adapter"}
POLICIES: dict[str, Any] = {"t5": (save_t5, ADAPTER), "m2m_100": (save_m2m100, {"align__carrier": "kl"})}


def configured(policy: Path, workspace: Path, **settings: Any) -> Any:
    overrides = {name.replace("__", "."): value for name, value in {"policy__model": str(policy), **settings}.items()}
    return load_config("smoke", languages=["es"], workspace=str(workspace), overrides=overrides)


@pytest.mark.slow
@pytest.mark.parametrize("family", chosen(POLICIES, "t5"))
def test_it_is_aligned_judged_registered_and_then_served_from_the_store(
    flow: Flow, smoked: Smoked, tmp_path: Path, family: str
) -> None:
    save, settings = POLICIES[family]
    policy, workspace = save(tmp_path / "policy"), Path(shutil.copytree(smoked.one, tmp_path / "workspace"))
    if settings.get("align__carrier") == "kl":
        settings = {**settings, "align__teacher": str(save(tmp_path / "teacher", seed=1))}
    summary = flow(workspace, "es", policy__model=str(policy), **settings)
    ran = {name for name in made(summary) if name.startswith(("align", "generate", "register"))}
    assert ran == {
        "align · english-only · seed 0",
        "align · consistency · seed 0",
        "register",
        *(
            f"generate · {model} · {code}"
            for model in ("base", "english-only · seed 0", "consistency · seed 0")
            for code in ("eng_Latn", "spa_Latn")
        ),
    }
    # A version is there only once it has answered a question, see tasks.register.
    assert summary["model_version"]["version"] == "2"
    log = next(task["key"] for task in summary["tasks"] if task["subject"] == "consistency · seed 0")
    rows = (workspace / "artifacts" / "align" / log / "training_log.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(row)["consistency_loss"] > 0 for row in rows)
    again = plan_run(configured(policy, workspace, **settings))
    assert {task["action"] for task in again} == {"cached"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method": "edit"}, "the method 'edit' changes models that only decode"),
        ({"align__carrier": "dpo"}, "trains by the carrier dpo, which has no trainer for one: .* one of sft, kl"),
        ({"models": ["english-only", "msd"]}, "the method 'msd' trains by the carrier msd"),
        ({"align__launch": FSDP}, "FSDP shards models that only decode"),
        ({"evaluation__ability": {"neutral": "held-out"}}, "general ability is measured of models that only decode"),
    ],
)
def test_what_needs_a_decoder_alone_is_refused_before_anything_is_done(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    policy = save_t5(tmp_path / "policy")
    with pytest.raises(UserError, match=told):
        plan_run(configured(policy, tmp_path / "workspace", **settings))
