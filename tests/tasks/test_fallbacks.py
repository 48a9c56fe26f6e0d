"""A translator that refuses some prompts, and those that are asked after it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlc.errors import UserError
from mlc.quality.settings import QualitySettings
from mlc.shapes.history import written
from mlc.store import ArtifactRef, ArtifactStore, KeyParts
from mlc.translation.settings import TranslatorSettings
from tasks import filter as filter_stage
from tasks.filter import filter_translations
from tasks.generate import require_texts
from tasks.runtime.artifacts import FUNNEL_FILE, PROMPTS_FILE, REJECTS_FILE, TRANSLATIONS_FILE, VERDICTS_FILE
from tasks.runtime.compute import release
from tasks.runtime.run import Notes, Run
from tasks.signals import measure_signals
from tasks.translate import retranslate, translate
from tests.chat.server import ChatServer

GERMAN = "deu_Latn"
WORDS = ("garden", "kitchen", "library", "station", "museum", "bakery", "harbour", "school", "market", "theatre")
PROMPTS = [f"Please describe the way to the {word} for my guests." for word in WORDS]
REFUSED = PROMPTS[::4]
"""Three of ten."""
QUALITY = QualitySettings(length_batch_rows=None)


def german(text: str) -> str:
    return f"Bitte beschreibe meinen Gästen den Weg dorthin ({text.split()[6]})."


@pytest.fixture
def safe() -> Iterator[ChatServer]:
    """A model that is tuned for safety."""

    def reply(messages: list[dict[str, str]]) -> str:
        text = messages[-1]["content"]
        return "I'm sorry, but I can't help with that." if text in REFUSED else german(text)

    with ChatServer(reply) as server:
        yield server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Notes) -> Iterator[Run]:
    # Artifacts on a page need a server, which these tests do without.
    monkeypatch.setattr(filter_stage, "create_table_artifact", lambda **table: None)
    release()
    yield Run(ArtifactStore(tmp_path), notes)
    release()


def reference(done: Any) -> ArtifactRef:
    return done if isinstance(done, ArtifactRef) else done.data


def http(server: ChatServer) -> TranslatorSettings:
    return TranslatorSettings(engine="http", model="m", endpoint=server.address)


def given(folder: Path, translations: dict[str, str], source: str = "eng_Latn") -> TranslatorSettings:
    languages = {"source_language": source, "target_language": GERMAN}
    rows = [{"source": text, "translation": done, **languages} for text, done in translations.items()]
    pq.write_table(pa.Table.from_pylist(rows), folder / "given.parquet")
    return TranslatorSettings(engine="given", model=str(folder / "given.parquet"))


def prompts(run: Run) -> ArtifactRef:
    parts = KeyParts("ingest", 1, settings={})
    with run.store.writing("ingest", parts) as draft:
        table = pa.table({"id": [str(number) for number in range(len(PROMPTS))], "prompt": PROMPTS})
        pq.write_table(table, draft.path / PROMPTS_FILE)
        draft.rows = len(table)
    return run.store.reference("ingest", parts.key)


def first(run: Run, settings: TranslatorSettings, **kwargs: Any) -> ArtifactRef:
    """Verdicts on the translations of the first translator."""
    translations = reference(translate.fn(run, prompts(run), GERMAN, settings))
    signals = reference(measure_signals.fn(run, translations, GERMAN, QUALITY))
    return reference(filter_translations.fn(run, signals, GERMAN, QUALITY, **kwargs))


def after(
    run: Run, earlier: ArtifactRef, settings: TranslatorSettings, number: int = 1, *, last: bool = True
) -> ArtifactRef:
    """Verdicts after a fallback."""
    subject = f"fallback {number}"
    translations = reference(retranslate.fn(run, earlier, GERMAN, settings, number, subject))
    signals = reference(measure_signals.fn(run, translations, GERMAN, QUALITY, subject=subject))
    return reference(filter_translations.fn(run, signals, GERMAN, QUALITY, earlier=earlier, number=number, last=last))


def rows(run: Run, ref: ArtifactRef, file: str = VERDICTS_FILE) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(run.store.folder(ref) / file).to_pylist()
    return found


def yields(run: Run, ref: ArtifactRef) -> list[dict[str, int]]:
    found: list[dict[str, int]] = run.store.manifest(ref.kind, ref.key)["facts"]["translators"]
    return [{name: count for name, count in each.items() if name != "translator"} for each in found]


def test_every_prompt_ends_with_a_translation_or_a_reason(
    run: Run, notes: Notes, safe: ChatServer, tmp_path: Path
) -> None:
    earlier = first(run, http(safe), last=False)
    verdicts = after(run, earlier, given(tmp_path, {text: german(text) for text in REFUSED[:2]}))
    done = rows(run, verdicts)
    assert [row["source"] for row in done] == PROMPTS
    kept = {row["source"]: row["fallback"] for row in done if row["keep"]}
    assert kept == {text: int(text in REFUSED) for text in PROMPTS if text != REFUSED[2]}
    (left,) = [row for row in done if not row["keep"]]
    assert (left["source"], left["refusal"], left["reason"]) == (REFUSED[2], "declines", "empty")
    assert yields(run, verdicts) == [
        {"asked": 10, "refused": 3, "kept": 7},
        {"asked": 3, "refused": 0, "kept": 2},
    ]
    assert notes.sentences == [
        f"The translator refused 3 of 10 prompts into {GERMAN}: 3 × declines.",
        f"{GERMAN}: of 3 prompts without a translation that passes, fallback 1 brought one of 2.",
    ]
    assert rows(run, verdicts, REJECTS_FILE) == [left]
    assert {row["reason"]: row["rows"] for row in rows(run, verdicts, FUNNEL_FILE)} == {"kept": 9, "empty": 1}


@pytest.mark.full
def test_nothing_refused_is_asked_twice(run: Run, safe: ChatServer, tmp_path: Path) -> None:
    everything = given(tmp_path, {text: german(text) for text in PROMPTS})
    earlier = first(run, everything)
    verdicts = after(run, earlier, http(safe))
    assert safe.requests == []
    assert [row["fallback"] for row in rows(run, verdicts)] == [0] * 10
    assert yields(run, verdicts)[1] == {"asked": 0, "refused": 0, "kept": 0}


def test_the_filter_decides_and_the_earlier_one_stays_where_both_are_as_bad(
    run: Run, safe: ChatServer, tmp_path: Path
) -> None:
    # A copy of the source is dropped; of two that are dropped the first one's reason counts.
    poor = {text: german(text) for text in PROMPTS} | {PROMPTS[1]: PROMPTS[1], PROMPTS[0]: PROMPTS[0]}
    earlier = first(run, given(tmp_path, poor), last=False)
    assert [row["reason"] for row in rows(run, earlier) if not row["keep"]] == ["copied", "copied"]
    verdicts = after(run, earlier, http(safe))
    one, two, *others = rows(run, verdicts)
    assert (one["keep"], one["reason"], one["translation"], one["fallback"]) == (False, "copied", PROMPTS[0], 0)
    assert (two["keep"], two["translation"], two["fallback"]) == (True, german(PROMPTS[1]), 1)
    assert all(row["keep"] and row["fallback"] == 0 for row in others)
    assert yields(run, verdicts)[1] == {"asked": 2, "refused": 1, "kept": 1}


@pytest.mark.full
def test_a_chain_of_three(run: Run, safe: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    nobody = TranslatorSettings(engine="given", model=given(tmp_path / "a", {"x": "y"}).model)
    earlier = first(run, nobody, last=False)
    second = after(run, earlier, http(safe), 1, last=False)
    third = after(run, second, given(tmp_path, {text: german(text) for text in PROMPTS}), 2)
    assert [row["fallback"] for row in rows(run, third)] == [2 if text in REFUSED else 1 for text in PROMPTS]
    assert [count["kept"] for count in yields(run, third)] == [0, 7, 3]
    assert [count["asked"] for count in yields(run, third)] == [10, 10, 3]
    facts = run.store.manifest(third.kind, third.key)["facts"]
    assert [count["translator"] for count in facts["translators"]] == ["translator", "fallback 1", "fallback 2"]


def test_too_few_are_an_error_only_after_the_last(run: Run, tmp_path: Path) -> None:
    nobody = given(tmp_path, {"x": "y"})
    with pytest.raises(UserError, match=r"keeps 0\.0% of its translations"):
        first(run, nobody)
    earlier = first(run, nobody, last=False)
    with pytest.raises(UserError, match=r"keeps 0\.0% of its translations"):
        after(run, earlier, nobody)


def test_held_out_prompts_that_were_refused(run: Run, safe: ChatServer, tmp_path: Path) -> None:
    translations = reference(translate.fn(run, prompts(run), GERMAN, http(safe), subject="held-out"))
    fallback = given(tmp_path, {text: german(text) for text in [*REFUSED[:2], PROMPTS[1]]})
    filled = reference(retranslate.fn(run, translations, GERMAN, fallback, 1, "held-out fallback 1"))
    done = rows(run, filled, TRANSLATIONS_FILE)
    assert [row["id"] for row in done] == [str(number) for number in range(10)]
    assert {row["source"]: row["fallback"] for row in done} == {text: int(text in REFUSED[:2]) for text in PROMPTS}
    assert [row["translation"] for row in done] == [german(text) if text != REFUSED[2] else "" for text in PROMPTS]
    assert done[8]["refusal"] == "declines"


def test_all_turns_of_a_conversation_in_another_language_are_asked_again(
    run: Run, safe: ChatServer, tmp_path: Path
) -> None:
    turns = written([{"role": "system", "content": REFUSED[0]}, {"role": "assistant", "content": PROMPTS[5]}])
    parts = KeyParts("ingest", 1, settings={})
    with run.store.writing("ingest", parts) as draft:
        table = pa.table({"id": ["a", "b"], "prompt": PROMPTS[1:3], "turns": [turns, None]})
        pq.write_table(table, draft.path / PROMPTS_FILE)
    conversations = run.store.reference("ingest", parts.key)
    translations = reference(translate.fn(run, conversations, GERMAN, http(safe), source="fra_Latn"))
    refused, whole = rows(run, translations, TRANSLATIONS_FILE)
    assert (refused["translation"], refused["refusal"], refused["source_language"]) == ("", "declines", "fra_Latn")
    fallback = given(tmp_path, {text: german(text) for text in PROMPTS}, "fra_Latn")
    subject = "held-out fallback 1"
    filled = reference(retranslate.fn(run, translations, GERMAN, fallback, 1, subject, "fra_Latn"))
    asked, other = rows(run, filled, TRANSLATIONS_FILE)
    assert other == whole | {"fallback": 0}
    assert (asked["translation"], asked["refusal"], asked["fallback"]) == (german(PROMPTS[1]), None, 1)
    assert (asked["source_language"], asked["source_turns"]) == ("fra_Latn", turns)
    assert asked["turns"] == written(
        [{"role": "system", "content": german(REFUSED[0])}, {"role": "assistant", "content": german(PROMPTS[5])}]
    )


def test_held_out_prompts_that_nobody_translated() -> None:
    assert require_texts(["Wo?"] * 20, GERMAN) == 0
    assert require_texts(["Wo?"] * 19 + [" "], GERMAN) == 1
    with pytest.raises(UserError, match=r"^2 of 20 held-out prompts have no translation into deu_Latn, .*fallbacks"):
        require_texts(["Wo?"] * 18 + ["", "\n"], GERMAN)
