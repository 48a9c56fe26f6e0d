"""What is kept of source files between processes."""

import json
from pathlib import Path

import pytest

from mlc.store import known_code, sources
from mlc.store.known_code import CODE_FILE, KnownCode

FACTS = ("digest", ("mlc.errors",))


def test_a_later_process_knows_it_by_the_same_rule_only(tmp_path: Path) -> None:
    first = KnownCode("rule", tmp_path)
    assert first.get("a") is None
    first.put("a", FACTS)
    first.save()
    assert KnownCode("rule", tmp_path).get("a") == FACTS
    assert KnownCode("another", tmp_path).get("a") is None
    before = (tmp_path / CODE_FILE).stat().st_mtime_ns
    KnownCode("rule", tmp_path).save()
    assert (tmp_path / CODE_FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"rule": "rule"}', *(f'{{"rule": "rule", "files": {files}}}' for files in ("3", '{"a": 3}'))]
    + [json.dumps({"rule": "rule", "files": {"a": facts}}) for facts in ([1, []], ["d", [2]], ["d"], ["d", None])],
)
def test_what_is_damaged_counts_for_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / CODE_FILE).write_text(content, encoding="utf-8")
    assert KnownCode("rule", tmp_path).get("a") is None


def test_too_many_leave_only_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(known_code, "MOST", 2)
    first = KnownCode("rule", tmp_path)
    for name in "ab":
        first.put(name, FACTS)
    first.save()
    second = KnownCode("rule", tmp_path)
    second.get("b")
    second.put("c", FACTS)
    second.save()
    third = KnownCode("rule", tmp_path)
    assert [third.get(name) for name in "abc"] == [None, FACTS, FACTS]


@pytest.mark.parametrize("name", [None, "file"])
def test_a_folder_that_cannot_be_written_harms_nothing(tmp_path: Path, name: str | None) -> None:
    (tmp_path / "file").write_text("in the place of the folder", encoding="utf-8")
    known = KnownCode("rule", tmp_path / name if name else None)
    known.put("a", FACTS)
    known.save()
    assert known.get("a") == FACTS


def test_digests_are_the_same_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forget() -> None:
        for function in (sources._known_code, sources._module_facts, sources._source_digests):
            function.cache_clear()

    monkeypatch.setattr(sources, "_kept_in", tmp_path)
    forget()
    made = sources.source_digests("mlc.quality.filtering")
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(sources, "_read_module", None)
        assert sources.source_digests("mlc.quality.filtering") == made
    forget()
