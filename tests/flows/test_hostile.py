"""Input that nobody would write, found by search: every command ends in time, well or with one sentence."""

import csv
import gzip
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather
from typer.testing import CliRunner

from flows.cli import app
from flows.configuration.reading import load_config
from flows.places import SHIPPED_CONFIGS
from mlc.errors import UserError
from mlc.prompts import read_prompts
from mlc.store import ArtifactStore, KeyParts
from mlc.store.archives import export_run
from mlc.store.runs import recorded, run_records

SECONDS = 20.0
KIND = "ingest"
PARTS = KeyParts(KIND, 1, settings={"x": [1, None]})

slowly = settings(deadline=None, suppress_health_check=list(HealthCheck))

odd_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["\0", "../../x", "[red]x[/]", "\x1b[2J", "'", '"', "=1+1", "~x", "x" * 5000, "${X}", "https://a:b@c", "\ud800"]
    ),
)
odd_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), odd_texts, st.just(10**4000), st.just(float("nan"))
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(odd_texts, inner, max_size=3)),
    max_leaves=5,
)
edits = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 12)), min_size=1, max_size=3)


def edited(content: bytes, changes: list[tuple[float, bytes, int]]) -> bytes:
    """Content with some bytes replaced by others, at places from 0 to 1."""
    for place, new, gone in changes:
        start = int(place * len(content))
        content = content[:start] + new + content[start + gone :]
    return content


def ends(*arguments: str, allowed: tuple[int, ...] = (0, 2)) -> str:
    started = time.monotonic()
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code in allowed, (ended.exit_code, type(ended.exception))
    if ended.exit_code == 2:
        assert ended.stderr.startswith("mlc: ") or "Usage" in ended.stderr
        assert ended.stderr.count("\n") == 1 or "Usage" in ended.stderr
    assert "Traceback" not in ended.output
    assert "\x1b" not in ended.output
    assert time.monotonic() - started < SECONDS
    return str(ended.output)


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ArtifactStore]:
    """Makes workspaces of one run with one artifact."""

    def make() -> ArtifactStore:
        store = ArtifactStore(tmp_path_factory.mktemp("hostile") / "workspace")
        with recorded(store.workspace, run_id="id", name="x", config={"name": "x"}) as journal:
            with store.writing(KIND, PARTS) as draft:
                (draft.path / "file.txt").write_text("content" * 50)
                draft.rows = 3
                draft.facts |= {"language": "swh_Latn", "dropped": 2}
            journal.write({"task": {"stage": KIND, "key": PARTS.key, "state": "ran"}})
        return store

    return make


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> int:
    return 400 if request.config.getoption("--full") else 12


def search(examples: int, trial: Callable[..., None], *strategies: Any) -> None:
    given(*strategies)(settings(slowly, max_examples=examples)(trial))()


def loads_or_says(name: str, overrides: dict[str, Any] | None = None) -> None:
    said, started = "", time.monotonic()
    try:
        load_config(name, overrides=overrides)
    except UserError as error:
        said = str(error)
    assert len(said) < 2000
    assert time.monotonic() - started < SECONDS


SMOKE = (SHIPPED_CONFIGS / "smoke.yaml").read_bytes()


def test_configurations(examples: int, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"

    def trial(changes: list[tuple[float, bytes, int]]) -> None:
        file.write_bytes(edited(SMOKE, changes))
        loads_or_says(str(file))

    search(examples * 5, trial, edits)


KEYS = (
    "name", "workspace", "storage", "languages", "seeds", "models", "candidate", "method", "prompts", "prompts.path",
    "prompts.limit", "policy.model", "align", "align.steps", "align.learning_rate", "align.consistency.layer",
    "evaluation.references", "edit.layers", "gate", "gate.conditions", "registry.model_name", "registry.tracking_uri",
    "translator.endpoint", "quality.languages", "dataset", "x.y",
)  # fmt: skip


@pytest.mark.parametrize("key", ["languages", "models", "candidate", "method", "seeds", "gate", "prompts.path"])
def test_long_values_are_told_by_how_they_begin(key: str) -> None:
    for value in ("x" * 5000, ["x" * 5000], {"a": "x" * 5000}, "en," * 2000):
        loads_or_says("smoke", {key: value})


def test_values_of_configurations(examples: int) -> None:
    def trial(key: str, value: Any) -> None:
        loads_or_says("smoke", {key: value})

    search(examples * 5, trial, st.sampled_from(KEYS), odd_values)


def test_records(examples: int, fresh: Callable[[], ArtifactStore]) -> None:
    store = fresh()
    record = store.workspace / "runs" / "000001.jsonl"
    whole = record.read_bytes()

    def trial(changes: list[tuple[float, bytes, int]], lines: list[Any]) -> None:
        odd = "\n".join(json.dumps(line) for line in lines).encode()
        record.write_bytes(edited(whole, changes) + odd)
        ends("status", "--workspace", str(store.workspace), allowed=(0,))
        ends("gc", "--dry-run", "--workspace", str(store.workspace), allowed=(0,))
        ends("export", "1", str(store.workspace / "x.tar"), "--workspace", str(store.workspace))

    search(examples, trial, edits, st.lists(st.one_of(odd_values, st.builds(dict, task=odd_values)), max_size=3))


def test_manifests(examples: int, fresh: Callable[[], ArtifactStore]) -> None:
    store = fresh()
    manifest = store.place(KIND, PARTS.key) / "manifest.json"
    whole, said = manifest.read_bytes(), store.manifest(KIND, PARTS.key)

    def trial(changes: list[tuple[float, bytes, int]]) -> None:
        manifest.write_bytes(edited(whole, changes))
        ends("status", "--workspace", str(store.workspace), allowed=(0,))
        ends("gc", "--dry-run", "--workspace", str(store.workspace), allowed=(0,))
        # What passes says what it said.
        assert store.intact(KIND, PARTS.key) is None or store.manifest(KIND, PARTS.key) == said

    search(examples * 2, trial, edits)


def test_values_of_manifests(examples: int, fresh: Callable[[], ArtifactStore]) -> None:
    """As releases wrote them that had no digest over all that a manifest says."""
    store = fresh()
    manifest = store.place(KIND, PARTS.key) / "manifest.json"
    said = json.loads(manifest.read_text())
    del said["digest"]

    def trial(field: str, value: Any) -> None:
        manifest.write_text(json.dumps({**said, field: value}))
        ends("status", "--workspace", str(store.workspace), allowed=(0,))
        ends("gc", "--dry-run", "--memory", "--workspace", str(store.workspace), allowed=(0,))

    search(examples, trial, st.sampled_from([*said, "kept", "digest", "other"]), odd_values)


def test_archives(examples: int, fresh: Callable[[], ArtifactStore], tmp_path: Path) -> None:
    store = fresh()
    file, victim = tmp_path / "run.tar", tmp_path / "victim"
    export_run(store, run_records(store.workspace)[0], file)
    victim.write_text("x")
    whole = file.read_bytes()

    def trial(changes: list[tuple[float, bytes, int]]) -> None:
        file.write_bytes(edited(whole, changes))
        there = tmp_path / "a" / "there"
        ends("import", str(file), "--workspace", str(there))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "run.tar", "victim"]
        assert [path.name for path in (tmp_path / "a").iterdir()] in ([], ["there"])

    search(examples, trial, edits)


def test_contents_of_archives(examples: int, tmp_path: Path) -> None:
    file = tmp_path / "run.tar"

    def trial(contents: Any, names: list[str]) -> None:
        with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in [("contents.json", json.dumps(contents).encode()), *((each, b"x") for each in names)]:
                info = tarfile.TarInfo(name.encode(errors="replace").decode())
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        ends("import", str(file), "--workspace", str(tmp_path / "there"))
        assert sorted(path.name for path in tmp_path.iterdir()) in (["run.tar"], ["run.tar", "there"])

    listed = st.lists(st.lists(st.one_of(odd_texts, st.sampled_from([KIND, PARTS.key, ".."])), max_size=3), max_size=2)
    contents = st.one_of(odd_values, st.fixed_dictionaries({"format": st.just(1), "artifacts": listed}))
    places = odd_texts.map(lambda text: f"artifacts/{KIND}/{PARTS.key}/{text}")
    search(examples, trial, contents, st.lists(st.one_of(odd_texts, places), max_size=2))


PROMPTS = [
    {"prompt": "How do I bake bread?", "chosen": "With flour.", "label": "harmless", "note": 1},
    {"prompt": "=1+1", "chosen": 'Two, "of course".\nSo it is.', "label": "harmful", "note": None},
] * 3


def tables(folder: Path) -> Iterator[Path]:
    """The same rows in each format."""
    table = pa.Table.from_pylist(PROMPTS)
    for name, separator in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (folder / name).open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(PROMPTS[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(PROMPTS)
        yield folder / name
    lines = "".join(json.dumps(row) + "\n" for row in PROMPTS).encode()
    for name, content in (("rows.jsonl", lines), ("rows.jsonl.gz", gzip.compress(lines))):
        (folder / name).write_bytes(content)
        yield folder / name
    (folder / "rows.json").write_text(json.dumps(PROMPTS))
    yield folder / "rows.json"
    pq.write_table(table, folder / "rows.parquet")
    yield folder / "rows.parquet"
    feather.write_feather(table, folder / "rows.arrow", compression="uncompressed")
    yield folder / "rows.arrow"


def test_tables(examples: int, tmp_path: Path) -> None:
    wholes = {path: path.read_bytes() for path in tables(tmp_path)}
    for path in wholes:
        assert "6, 6 of them usable" in ends("look", str(path), allowed=(0,)), path.name

    def trial(path: Path, changes: list[tuple[float, bytes, int]]) -> None:
        path.write_bytes(edited(wholes[path], changes))
        ends("look", str(path))
        # What `mlc run` reads them with.
        read_or_said(path)

    search(examples * 3, trial, st.sampled_from(list(wholes)), edits)


def test_values_of_tables(examples: int, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"

    def trial(rows: list[Any]) -> None:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ends("look", str(file))
        read_or_said(file)

    roles = st.sampled_from(["prompt", "chosen", "rejected", "label", "messages", "id", "language", "x"])
    rows = st.lists(st.one_of(odd_values, st.dictionaries(roles, odd_values, max_size=4)), max_size=4)
    search(examples * 2, trial, rows)


def read_or_said(path: Path) -> None:
    said, started = "", time.monotonic()
    try:
        read_prompts(path, required=("prompt", "chosen"))
    except UserError as error:
        said = str(error)
    assert len(said) < 2000
    assert time.monotonic() - started < SECONDS
