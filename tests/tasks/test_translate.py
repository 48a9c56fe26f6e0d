"""Stage ``translate``: what languages share, and what a changed prompt file costs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.store.remote import RemoteArtifacts
from mlc.store.runs import DistantJournal
from mlc.translation.settings import TranslatorSettings
from tasks.runtime.artifacts import PROMPTS_FILE, TRANSLATIONS_FILE
from tasks.runtime.compute import release
from tasks.runtime.run import Run, Silent
from tasks.translate import MEMORY_FOLDER, join_translations, prompt_shards, translate, translate_shard

SETTINGS = TranslatorSettings(device="cpu")
TEXTS = ["This topic is new to me.", "I have a quick question. This topic is new to me.", ""]
LANGUAGES = ("deu_Latn", "swh_Latn")


@pytest.fixture
def run(tmp_path: Path) -> Any:
    release()
    yield Run(ArtifactStore(tmp_path))
    release()


def ingested(run: Run, texts: list[str]) -> ArtifactRef:
    parts = KeyParts("ingest", 1, settings={"texts": texts})
    with run.store.writing("ingest", parts) as draft:
        table = pa.table({"id": [str(number) for number in range(len(texts))], "prompt": texts})
        pq.write_table(table, draft.path / PROMPTS_FILE)
    return run.store.reference("ingest", parts.key)


def translated(run: Run, prompts: ArtifactRef, language: str, **kwargs: Any) -> list[dict[str, Any]]:
    done = translate.fn(run, prompts, language, SETTINGS, **kwargs)
    ref = done if isinstance(done, ArtifactRef) else done.data
    rows: list[dict[str, Any]] = pq.read_table(run.store.folder(ref) / TRANSLATIONS_FILE).to_pylist()
    return rows


def remembered(run: Run, language: str) -> list[str]:
    folder = run.workspace / MEMORY_FOLDER
    return [
        sentence
        for path in sorted(folder.glob(f"*/eng_Latn/{language}/*.parquet"))
        for sentence in pq.read_table(path)["sentence"].to_pylist()
    ]


def test_rows_say_where_they_come_from(run: Run) -> None:
    rows = translated(run, ingested(run, TEXTS), "deu_Latn")
    assert [row["source"] for row in rows] == TEXTS
    assert [(row["sentences_in"], row["sentences_out"], row["finished"]) for row in rows] == [
        (1, 1, True), (2, 2, True), (0, 0, True)
    ]  # fmt: skip
    assert rows[1]["translation"].endswith(rows[0]["translation"])
    assert [len(row["sentence_logprobs"]) for row in rows] == [1, 2, 0]
    assert {row["decoding"] for row in rows} == {'{"max_new_tokens":256,"num_beams":1,"precision":"float32"}'}
    assert len({row["translator"] for row in rows}) == 1
    assert all(row["lost"] == [] and row["repaired"] == 0 for row in rows)


def test_the_first_language_reads_the_prompts_for_all(run: Run) -> None:
    prompts = ingested(run, TEXTS)
    translated(run, prompts, "deu_Latn", together=LANGUAGES)
    before = remembered(run, "swh_Latn")
    assert sorted(before) == sorted(["This topic is new to me.", "I have a quick question."])
    rows = translated(run, prompts, "swh_Latn", together=LANGUAGES)
    assert remembered(run, "swh_Latn") == before
    assert all(row["translation"] for row in rows[:2])


def test_a_language_whose_artifact_is_there_is_left_alone(run: Run) -> None:
    prompts = ingested(run, TEXTS)
    translated(run, prompts, "swh_Latn")
    for path in (run.workspace / MEMORY_FOLDER).rglob("*.parquet"):
        path.unlink()
    translated(run, prompts, "deu_Latn", together=LANGUAGES)
    assert remembered(run, "swh_Latn") == []


def test_a_new_prompt_file_costs_only_new_sentences(run: Run) -> None:
    translated(run, ingested(run, TEXTS), "deu_Latn")
    before = remembered(run, "deu_Latn")
    translated(run, ingested(run, [*TEXTS, "I could not find anything useful on the internet."]), "deu_Latn")
    assert len(remembered(run, "deu_Latn")) == len(before) + 1


class Labels(Silent):
    """A display that remembers what names it was told."""

    def __init__(self) -> None:
        self.started_ones: list[str] = []
        self.bars: list[str] = []

    def started(self, label: str, reason: str) -> None:
        self.started_ones.append(label)

    def bar(self, label: str, total: int) -> Callable[[int], None]:
        self.bars.append(label)
        return super().bar(label, total)


def test_prompts_and_held_out_ones_have_bars_of_their_own(run: Run) -> None:
    labels = Labels()
    run = Run(run.store, labels)
    for subject, texts in (("prompts", TEXTS), ("held-out", TEXTS[:1])):
        translated(run, ingested(run, texts), "deu_Latn", subject=subject)
    assert labels.bars == labels.started_ones == ["translate · deu_Latn", "translate · held-out · deu_Latn"]


def test_what_was_translated_before_a_stop_is_remembered(run: Run) -> None:
    class Stops(Silent):
        def bar(self, label: str, total: int) -> Callable[[int], None]:
            return lambda *moved: run.stop()

    run.display = Stops()
    prompts = ingested(run, TEXTS)
    # A few tokens a batch, so that there is more than one.
    settings = SETTINGS.model_copy(update={"batch_tokens": 8})
    state = translate.fn(run, prompts, "deu_Latn", settings)
    assert state.is_cancelled()
    assert len(remembered(run, "deu_Latn")) == 1
    assert not list(run.store.root.glob("translate/*"))


MANY = [f"This topic is new to me. I have {number} quick questions." for number in range(40)]


def in_shards(run: Run, texts: list[str], rows: int = 8) -> tuple[ArtifactRef, list[str]]:
    """The joined translations, and what became of each shard."""
    before = len(run.outcomes)
    prompts = ingested(run, texts)
    made = [
        translate_shard.fn(run, prompts, shard, content, "deu_Latn", SETTINGS, subject=shard.subject(None))
        for shard, content in prompt_shards(run, prompts, rows)
    ]
    refs = [done if isinstance(done, ArtifactRef) else done.data for done in made]
    states = [outcome.state for outcome in run.outcomes[before:]]
    joined = join_translations.fn(run, refs, "deu_Latn", SETTINGS)
    return (joined if isinstance(joined, ArtifactRef) else joined.data), states


def test_shards_are_put_together_to_what_is_made_at_once_and_new_prompts_redo_one(run: Run) -> None:
    joined, states = in_shards(run, MANY)
    assert set(states) == {"ran"}
    assert len(states) > 2
    translated(run, ingested(run, MANY), "deu_Latn")
    at_once = [m for m in run.store.manifests("translate") if m["facts"]["subject"] is None and m["key"] != joined.key]
    # The very same bytes, so that nothing that follows is made again when shards are turned on.
    assert [manifest["sha256"] for manifest in at_once] == [joined.sha256]
    assert in_shards(run, MANY)[1] == ["cached"] * len(states)
    grown, again = in_shards(run, [*MANY, "I could not find anything useful on the internet."])
    assert again.count("ran") <= 2
    assert again.count("cached") >= len(states) - 1
    assert grown.rows == 41


def test_machines_that_share_no_disk_take_shards_of_one_run(tmp_path: Path) -> None:
    release()
    remote = RemoteArtifacts((tmp_path / "storage").as_uri())
    flow = Run(ArtifactStore(tmp_path / "flow", remote))
    prompts = ingested(flow, MANY[:8])
    shards = prompt_shards(flow, prompts, 4)
    assert len(shards) > 1
    refs = []
    for number, (shard, content) in enumerate(shards):
        journal = DistantJournal(remote, "r", tmp_path / "no.jsonl", 1, by=f"machine {number}")
        machine = Run(ArtifactStore(tmp_path / f"machine {number}", remote), journal=journal, here=False)
        done = translate_shard.fn(
            machine, prompts, shard, content, "deu_Latn", SETTINGS, subject=shard.subject(None), together=LANGUAGES
        )
        refs.append(done if isinstance(done, ArtifactRef) else done.data)
        # The other language is some other machine's work, whose memory this one does not see.
        assert remembered(machine, "swh_Latn") == []
    joined = join_translations.fn(flow, refs, "deu_Latn", SETTINGS).data
    assert pq.read_table(flow.store.folder(joined) / TRANSLATIONS_FILE)["source"].to_pylist() == MANY[:8]
    assert len(remote.told("r")) == len(shards)
    release()


def test_few_prompts_are_not_cut(run: Run) -> None:
    assert prompt_shards(run, ingested(run, TEXTS), 8) == []
    assert prompt_shards(run, ingested(run, MANY), None) == []
