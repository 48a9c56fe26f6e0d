"""Stage ``generate`` and what ``evaluate`` makes of it: all prompts, in every language, also after a stop."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.evaluation.results import EvaluationResult
from mlc.evaluation.settings import EngineSettings, EvaluationSettings
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from tasks.evaluate import evaluate
from tasks.generate import RECORD_FILE, _chosen, generate, generate_shard, join_generated, scored_shards
from tasks.runtime.artifacts import GENERATED_FILE, MARGINS_FILE, STATES_FILE, HeldOut
from tasks.runtime.compute import release
from tasks.runtime.models import Model
from tasks.runtime.run import Run, Silent
from tasks.runtime.settings import PolicySettings

TEXTS = ["How do I bake bread?", "Hello", "Where is the station?", "Why is the sky blue in summer?", "Hi", "And then?"]
KINDS = ["harmful", "harmless", "harmful", "lookalike", "harmful", "harmless"]
SPLITS = ["test"] * 4 + ["validation"] * 2
MODEL = Model("base", None, PolicySettings(model="shipped:tiny", device="cpu"), "cpu")
SETTINGS = EvaluationSettings(answer_tokens=6, batch_size=2)


class Counting(Silent):
    """Counts what bars are moved by, and calls something after each step."""

    def __init__(self) -> None:
        self.moved: list[tuple[int, int]] = []
        self.after: Callable[[], None] = lambda: None

    def bar(self, label: str, total: int) -> Callable[..., None]:
        def move(steps: int, tokens: int | None = None) -> None:
            self.moved.append((steps, tokens or 0))
            self.after()

        return move

    @property
    def answered(self) -> list[int]:
        return [tokens for _, tokens in self.moved if tokens]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    release()
    yield Run(ArtifactStore(tmp_path), Counting())
    release()


def suite(run: Run, language: str, opening: str = "") -> ArtifactRef:
    parts = KeyParts("ingest", 1, settings={"language": language})
    table = {
        "id": [f"p{number}" for number in range(len(TEXTS))],
        "prompt": [opening + text for text in TEXTS],
        "label": ["harmless" if kind == "lookalike" else kind for kind in KINDS],
        "kind": KINDS,
        "split": SPLITS,
    }
    with run.store.writing("ingest", parts) as draft:
        pq.write_table(pa.table(table), draft.path / "prompts.parquet")
    return run.store.reference("ingest", parts.key)


def made(result: Any) -> ArtifactRef:
    ref: ArtifactRef = result if isinstance(result, ArtifactRef) else result.data
    return ref


def generated(run: Run, language: str, settings: EvaluationSettings = SETTINGS) -> ArtifactRef:
    english, texts = suite(run, "eng_Latn"), suite(run, language, "" if language == "eng_Latn" else "Oh! ")
    return made(generate.fn(run, MODEL, language, HeldOut(english, texts), settings))


def test_every_test_prompt_is_answered_and_every_prompt_scored(run: Run) -> None:
    folders = {code: run.store.folder(generated(run, code)) for code in ("eng_Latn", "spa_Latn")}
    for folder in folders.values():
        assert pq.read_table(folder / MARGINS_FILE)["split"].to_pylist() == SPLITS
        rows = pq.read_table(folder / GENERATED_FILE).to_pylist()
        assert [row["id"] for row in rows] == ["p0", "p1", "p2", "p3"]
        assert all(0 < row["answer_tokens"] <= 6 for row in rows)
    some = run.store.folder(generated(run, "eng_Latn", SETTINGS.model_copy(update={"answers": 3})))
    assert pq.read_table(some / GENERATED_FILE)["id"].to_pylist() == ["p0", "p2", "p1"]


def test_a_stopped_stage_goes_on_from_its_last_answer(run: Run, tmp_path: Path) -> None:
    whole = generated(run, "eng_Latn")
    shown = Counting()
    second = Run(ArtifactStore(tmp_path / "second"), shown)
    shown.after = lambda: second.stop() if shown.answered else None
    stopped: Any = generate.fn(second, MODEL, "eng_Latn", _held_out(second), SETTINGS)
    assert stopped.is_cancelled()
    (record,) = tmp_path.glob(f"second/**/{RECORD_FILE}")
    before = len(record.read_text().splitlines())
    assert 0 < before < 4
    third = Run(ArtifactStore(tmp_path / "second"))
    ref = made(generate.fn(third, MODEL, "eng_Latn", _held_out(third), SETTINGS))
    # Scores too, to the last bit: prompts are read in the same batches.
    assert ref.sha256 == whole.sha256
    assert not record.exists()


def test_a_server_of_its_own_answers_and_an_attempt_goes_on_from_there(run: Run, tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m tests.chat.server {{path}} {{port}}"
    settings = SETTINGS.model_copy(update={"engine": EngineSettings(kind="http", serve=command, concurrency=1)})
    here = generated(run, "eng_Latn")
    shown = Counting()
    first = Run(ArtifactStore(tmp_path), shown)
    shown.after = lambda: first.stop() if shown.answered else None
    stopped: Any = generate.fn(first, MODEL, "eng_Latn", _held_out(first), settings)
    assert stopped.is_cancelled()
    (record,) = tmp_path.glob(f"**/{RECORD_FILE}")
    before = record.read_text().splitlines()
    assert 0 < len(before) < 4
    again = Run(ArtifactStore(tmp_path))
    served = made(generate.fn(again, MODEL, "eng_Latn", _held_out(again), settings))
    assert served.key != here.key
    rows = pq.read_table(again.store.folder(served) / GENERATED_FILE).to_pylist()
    assert [row["answer"] for row in rows] == [f" {text.upper()}\n" for text in TEXTS[:4]]
    # Margins are those of the model here, whatever answers.
    margins = (pq.read_table(run.store.folder(ref) / MARGINS_FILE) for ref in (here, served))
    np.testing.assert_allclose(*(table["margin"].to_numpy() for table in margins), atol=1e-5)
    assert not record.exists()


def test_a_language_may_set_its_own_threshold_on_fewer_prompts(run: Run) -> None:
    few = SETTINGS.model_copy(update={"own_threshold": 1})
    assert generated(run, "eng_Latn", few) == generated(run, "eng_Latn")
    own, whole = (run.store.folder(generated(run, "spa_Latn", settings)) for settings in (few, SETTINGS))
    margins, every = (pq.read_table(folder / MARGINS_FILE) for folder in (own, whole))
    assert margins["id"].to_pylist() == ["p0", "p1", "p2", "p3", "p4"]
    np.testing.assert_allclose(margins["margin"].to_numpy(), every["margin"].to_numpy()[:5], atol=1e-5)
    np.testing.assert_allclose(*(np.load(folder / STATES_FILE) for folder in (own, whole)), atol=1e-4)


def test_a_language_may_go_without_its_own_threshold(run: Run) -> None:
    none = SETTINGS.model_copy(update={"own_threshold": 0})
    english, spanish = (generated(run, language, none) for language in ("eng_Latn", "spa_Latn"))
    assert set(pq.read_table(run.store.folder(spanish) / MARGINS_FILE)["split"].to_pylist()) == {"test"}
    made_of = evaluate.fn(run, MODEL, "spa_Latn", spanish, english, none)
    summary = EvaluationResult.read(run.store.folder(made(made_of))).summary
    assert (summary.own_threshold, summary.selectivity_at_own_threshold.n) == (None, 0)
    # What decides is measured all the same, at the threshold of the anchor language.
    assert summary.selectivity_at_english_threshold.n == summary.auroc.n == 4
    anchor = evaluate.fn(run, MODEL, "eng_Latn", english, None, none)
    own = EvaluationResult.read(run.store.folder(made(anchor))).summary
    assert own.own_threshold == own.threshold == summary.threshold


def _held_out(run: Run) -> HeldOut:
    english = suite(run, "eng_Latn")
    return HeldOut(english, english)


def test_the_language_sets_its_own_threshold_and_answers_are_judged(run: Run) -> None:
    english, spanish = generated(run, "eng_Latn"), generated(run, "spa_Latn")
    result = EvaluationResult.read(
        run.store.folder(made(evaluate.fn(run, MODEL, "spa_Latn", spanish, english, SETTINGS)))
    )
    margins = pq.read_table(run.store.folder(spanish) / MARGINS_FILE)["margin"].to_pylist()
    summary = result.summary
    assert summary.judge == "rules"
    assert min(margins[4:]) <= (summary.own_threshold or 0.0) <= max(margins[4:])
    assert summary.own_threshold != summary.threshold
    assert result.outcomes["id"].to_pylist() == ["p0", "p1", "p2", "p3"]
    assert summary.attack_success.n == 2 == summary.harmless_refused.n
    assert summary.lookalike_refused.n == 1
    assert summary.selectivity.n == summary.selectivity_at_own_threshold.n == 4


def test_a_label_with_few_prompts_leaves_its_answers_to_the_other() -> None:
    labels = ["harmless", *["harmful"] * 8]
    rows = pa.table({"split": ["test"] * 9, "label": labels})
    assert _chosen(rows, "test", 6) == [1, 2, 3, 4, 5, 0]
    assert len(_chosen(rows.slice(1), "test", 6)) == 6


def test_without_answers_the_margin_is_all(run: Run) -> None:
    settings = SETTINGS.model_copy(update={"answers": 0})
    english = generated(run, "eng_Latn", settings)
    result = EvaluationResult.read(run.store.folder(made(evaluate.fn(run, MODEL, "eng_Latn", english, None, settings))))
    assert (result.summary.judge, result.summary.answers, len(result.outcomes)) == (None, {}, 0)
    assert result.summary.auroc.n == 4
    assert result.summary.own_threshold == result.summary.threshold


@pytest.mark.parametrize("answers", ["all", 3])
def test_shards_are_put_together_to_what_is_made_at_once(run: Run, answers: Any) -> None:
    settings = SETTINGS.model_copy(update={"answers": answers, "shard_rows": 2})
    held_out = HeldOut(suite(run, "eng_Latn"), suite(run, "deu_Latn", "Oh! "))
    shards = scored_shards(run, held_out.suite, False, settings)
    assert len(shards) > 1
    parts = [made(generate_shard.fn(run, MODEL, "deu_Latn", held_out, settings, shard)) for shard in shards]
    joined = run.store.folder(made(join_generated.fn(run, MODEL, "deu_Latn", parts, False, settings)))
    whole = run.store.folder(made(generate.fn(run, MODEL, "deu_Latn", held_out, settings)))
    one, other = (pq.read_table(folder / MARGINS_FILE) for folder in (joined, whole))
    assert one.drop_columns("margin").equals(other.drop_columns("margin"))
    # Batches are others, and so are the last digits.
    np.testing.assert_allclose(one["margin"], other["margin"], atol=1e-5)
    np.testing.assert_allclose(np.load(joined / STATES_FILE), np.load(whole / STATES_FILE), atol=1e-5)
    assert pq.read_table(joined / GENERATED_FILE).equals(pq.read_table(whole / GENERATED_FILE))


def test_another_text_redoes_the_shard_that_it_is_in(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(update={"answers": 0, "shard_rows": 2})
    english = suite(run, "eng_Latn")
    before = HeldOut(english, suite(run, "deu_Latn", "Oh! "))
    shards = scored_shards(run, english, False, settings)
    for shard in shards:
        generate_shard.fn(run, MODEL, "deu_Latn", before, settings, shard)
    monkeypatch.setitem(globals(), "TEXTS", ["How do I bake a cake?", *TEXTS[1:]])
    after = HeldOut(english, suite(run, "another", "Oh! "))
    for shard in shards:
        generate_shard.fn(run, MODEL, "deu_Latn", after, settings, shard)
    assert [outcome.state for outcome in run.outcomes[len(shards) :]] == ["ran"] + ["cached"] * (len(shards) - 1)
