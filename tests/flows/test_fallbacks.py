"""Fallbacks of the translator in the flow: what is planned, and which keys they change."""

from pathlib import Path
from typing import Any

import pytest

from flows.configuration.reading import load_config, validate_config
from flows.licences import require_licences
from flows.places import SHIPPED_CONFIGS
from mlc.errors import UserError
from mlc.translation.settings import ChainSettings, TranslatorSettings
from tests.flows.runs import planned_keys

FALLBACK = {"model": "shipped:nano", "num_beams": 2}


def keys(workspace: Path, **overrides: Any) -> dict[str, str]:
    return planned_keys(load_config("smoke", workspace=str(workspace), languages=["es,fr"], overrides=overrides))


def test_it_is_planned_for_its_languages_and_changes_no_translation(tmp_path: Path) -> None:
    plain = keys(tmp_path)
    chained = keys(tmp_path, **{"translator.fallbacks": [{**FALLBACK, "languages": ["es"]}]})
    assert chained.keys() - plain.keys() == {
        f"{stage} · fallback 1 · spa_Latn" for stage in ("translate", "signals", "filter")
    }
    same = {name for name in plain if plain[name] == chained[name]}
    assert {name for name in plain if name.startswith(("ingest", "translate", "signals"))} <= same
    assert "filter · fra_Latn" in same
    assert "dataset" not in same


def test_held_out_prompts_without_references_have_it_too(tmp_path: Path) -> None:
    chained = keys(tmp_path, **{"translator.fallbacks": [FALLBACK], "evaluation.references": None})
    assert {"translate · held-out fallback 1 · spa_Latn", "translate · held-out fallback 1 · fra_Latn"} <= set(chained)


def test_settings_of_a_chain(tmp_path: Path) -> None:
    chain = ChainSettings.model_validate({"num_beams": 3, "fallbacks": [{**FALLBACK, "languages": ["es"]}, {}]})
    assert chain.first == TranslatorSettings(num_beams=3)
    assert chain.after_it("spa_Latn") == ((1, TranslatorSettings(**FALLBACK)), (2, TranslatorSettings()))
    assert chain.after_it("fra_Latn") == ((2, TranslatorSettings()),)


def test_its_files_lie_beside_the_configuration_and_its_licence_counts(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n", encoding="utf-8")
    file = tmp_path / "mine.yaml"
    smoke = (SHIPPED_CONFIGS / "smoke.yaml").read_text(encoding="utf-8")
    file.write_text(smoke.replace("shipped:nano", "shipped:nano\n  fallbacks: [{model: model}]"), encoding="utf-8")
    config = load_config(str(file))
    assert config.translator.fallbacks[0].model == str(tmp_path / "model")
    assert require_licences(config)["fallback 1"] == "cc-by-nc-4.0 (by model card)"
    assert config.summary()["fallback 1"] == "model"


def test_a_key_that_it_has_not(tmp_path: Path) -> None:
    values = load_config("smoke", workspace=str(tmp_path)).model_dump(mode="json")
    values["translator"]["fallbacks"] = [{"modle": "x"}]
    with pytest.raises(UserError, match=r"'translator\.fallbacks\.0\.modle' is unknown: did you mean .*model"):
        validate_config(values)


def test_a_language_whose_prompts_are_there_needs_no_translator(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"id": "train-001", "prompt": "¿Qué?"}\n', encoding="utf-8")
    plain = keys(tmp_path / "w")
    given = keys(tmp_path / "w", **{"prompts.parallel": {"es": str(tmp_path / "mine.jsonl")}})
    assert given.keys() - plain.keys() == {"parallel · spa_Latn"}
    assert plain.keys() - given.keys() == {"translate · spa_Latn"}
    assert given["translate · fra_Latn"] == plain["translate · fra_Latn"]
    with pytest.raises(UserError, match=r"deu_Latn has prompts in prompts\.parallel but is not trained"):
        keys(tmp_path / "w", **{"prompts.parallel": {"german": "x"}})
