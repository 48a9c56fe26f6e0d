"""`mlc why`: the parts of a key, and what is different from an earlier run; on recorded runs of one stage."""

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from flows.commands import why
from flows.commands.plan import foresee
from flows.configuration.reading import load_config
from flows.looking.planning import plan_again
from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.runs import recorded, run_records


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def pretend(workspace: Path, **settings: Any) -> None:
    """Records a run whose translations are there; what is in them is not looked at here."""
    overrides = {name.replace("__", "."): value for name, value in settings.items()}
    config = load_config("smoke", languages=["es"], workspace=str(workspace), overrides=overrides)
    store = ArtifactStore(workspace)
    planned = foresee(config)
    with recorded(workspace, run_id="abcd1234", name="smoke", config=config.model_dump(mode="json")) as journal:
        for outcome in planned.outcomes:
            if outcome.stage not in ("ingest", "translate"):
                continue
            # A plan reads the prompts by itself.
            if outcome.stage == "translate" and store.find(outcome.stage, outcome.key) is None:
                with store.writing(outcome.stage, planned.parts[outcome.key]) as draft:
                    (draft.path / "file.txt").write_text(outcome.key)
                    draft.facts |= {"language": outcome.language, "subject": outcome.subject}
            journal.write({"task": asdict(outcome)})


def test_a_first_run_has_nothing_to_compare_with(workspace: Path) -> None:
    pretend(workspace)
    (found,) = why.explain(workspace, "signals", language="Spanish")
    assert (found.against, found.differences, found.action) == (None, None, "run")
    assert "nothing to compare" in found.sentence
    assert found.parts["settings"]["language"]["code"] == "spa_Latn"


def test_the_change_of_the_last_run_is_told(workspace: Path) -> None:
    pretend(workspace)
    pretend(workspace, translator__num_beams=4)
    (found,) = why.explain(workspace, "translate", language="es")
    assert (found.against, found.action) == (1, "cached")
    assert found.differences == ["configuration translator.num_beams 1 → 4"]


def test_a_change_that_has_not_run_yet_is_told(workspace: Path) -> None:
    pretend(workspace)
    config = load_config(
        "smoke", languages=["es"], workspace=str(workspace), overrides={"translator.max_new_tokens": 99}
    )
    (found,) = why.explain(workspace, "translate", language="es", config=config)
    assert (found.against, found.action) == (1, "run")
    assert found.differences == ["configuration translator.max_new_tokens 256 → 99"]


def test_the_run_to_compare_with_may_be_named(workspace: Path) -> None:
    for beams in (1, 4, 5):
        pretend(workspace, translator__num_beams=beams)
    (found,) = why.explain(workspace, "translate", language="es", against="1")
    assert found.differences == ["configuration translator.num_beams 1 → 5"]
    (found,) = why.explain(workspace, "translate", language="es", against="3")
    assert (found.against, found.differences) == (3, [])
    assert "nothing differs" in found.sentence


def test_changed_code_is_named_by_its_file(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlc.store import sources

    pretend(workspace)
    read = sources._module_facts

    def as_if_changed(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
        digest, imported = read(path, package)
        return ("0" * 64 if path.parts[-3:] == ("mlc", "translation", "sentences.py") else digest), imported

    monkeypatch.setattr(sources, "_module_facts", as_if_changed)
    sources._source_digests.cache_clear()
    try:
        (found,) = why.explain(workspace, "translate", language="es")
        assert found.differences == ["source file mlc/translation/sentences.py changed"]
        assert found.action == "run"
        (untouched,) = why.explain(workspace, "ingest", language="es")
        assert untouched.differences == []
    finally:
        sources._source_digests.cache_clear()


def test_an_input_that_is_made_first_is_not_called_changed(workspace: Path) -> None:
    pretend(workspace)
    store = ArtifactStore(workspace)
    config = load_config("smoke", languages=["es"], workspace=str(workspace))
    planned = foresee(config)
    (signals,) = [outcome for outcome in planned.outcomes if outcome.stage == "signals"]
    with store.writing("signals", planned.parts[signals.key]) as draft:
        draft.facts |= {"language": signals.language, "subject": None}
    with recorded(workspace, run_id="", name="smoke", config=config.model_dump(mode="json")) as journal:
        journal.write({"task": asdict(signals)})
    changed = load_config("smoke", languages=["es"], workspace=str(workspace), overrides={"translator.num_beams": 2})
    (found,) = why.explain(workspace, "signals", config=changed)
    assert found.differences == ["input translations is made first"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"stage": "filtre"}, "There is no stage 'filtre': did you mean 'filter'"),
        ({"stage": "all"}, "There is no stage 'all': the stages are ingest, suite, overlap"),
        ({"stage": "dataset", "language": "es"}, "does not depend on the language"),
        ({"stage": "filter", "language": "sw"}, "no artifact for Swahili: it has one for each of Spanish"),
        ({"stage": "filter", "against": "7"}, "'7' is not a run of this workspace: give a number .the last ones are 1"),
    ],
)
def test_what_cannot_be_explained(workspace: Path, arguments: dict[str, str], words: str) -> None:
    pretend(workspace)
    with pytest.raises(UserError, match=words):
        why.explain(workspace, **arguments)


def test_keys_that_were_removed_since_are_dropped_and_told(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(workspace)
    (record,) = run_records(workspace)
    removed = {"resamples": 9, "ability": {**record.config["evaluation"]["ability"], "gone": [1]}}
    earlier = {**record.config, "evaluation": {**record.config["evaluation"], **removed}, "old": {"of": "it"}}
    with recorded(workspace, run_id="", name="smoke", config=earlier):
        pass
    (found,) = why.explain(workspace, "ingest", language="es")
    assert found.differences == []
    words = "The configuration of run 2 is taken without the keys evaluation.ability.gone, evaluation.resamples, old"
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("of run 2") == 1
    assert all(word in told for word in words.replace(",", "").split())

    def planning(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert "resamples" not in Path(words[4]).read_text()
        return subprocess.CompletedProcess(words, 0, '{"tasks": [], "notes": ["One."]}', "")

    monkeypatch.setattr(subprocess, "run", planning)
    first, second = plan_again(ArtifactStore(workspace), run_records(workspace)[-1]).notes
    assert ("run 2" in first, second) == (True, "One.")
    with recorded(workspace, run_id="", name="smoke", config={**earlier, "seeds": "some"}):
        pass
    with pytest.raises(UserError, match=r"run 3 is none of this release: .*'seeds'.*--config"):
        why.explain(workspace, "ingest")


def test_no_run_yet(workspace: Path) -> None:
    workspace.mkdir()
    with pytest.raises(UserError, match=r"No run is recorded .* --config"):
        why.explain(workspace, "filter")
