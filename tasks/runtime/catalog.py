"""The workspace's ``catalog.duckdb``: views over the artifacts, for people to query. Never a source of truth."""

from pathlib import Path

import duckdb
import pyarrow as pa

from mlc.store import ArtifactStore
from mlc.store.drafts import draft_file

CATALOG_FILE = "catalog.duckdb"
VIEWS = {
    "prompts": ("ingest", "prompts.parquet"),
    "translations": ("translate", "translations.parquet"),
    "verdicts": ("filter", "verdicts.parquet"),
    "rejects": ("filter", "rejects.parquet"),
    "funnel": ("filter", "funnel.parquet"),
    "coverage": ("filter", "coverage.parquet"),
    "margins": ("evaluate", "rows.parquet"),
}
"""Name of each view, the stage that makes its rows, and the file that holds them."""


FACTS = ("language", "subject")
_TEXTS = ("artifact", "stage", *FACTS)
_ARTIFACTS = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("rows", pa.int64()),
        ("created", pa.string()),
        ("seconds", pa.float64()),
    ]
)


def rebuild_catalog(store: ArtifactStore) -> Path:
    """Writes the catalog anew and puts it in place in one step.

    Every view has a column ``artifact``, the key of the artifact that a row comes from; the table ``artifacts`` says
    what each one is. Views read the files where they are, so a moved workspace needs another run, or this function.
    """
    target = store.workspace / CATALOG_FILE
    with draft_file(target) as draft, duckdb.connect(str(draft)) as connection:
        connection.execute(
            "CREATE TABLE artifacts (artifact VARCHAR, stage VARCHAR, language VARCHAR, subject VARCHAR, "
            "rows BIGINT, created TIMESTAMPTZ, seconds DOUBLE)"
        )
        for view, (stage, file) in VIEWS.items():
            paths = sorted((store.root / stage).glob(f"*/{file}"))
            if paths:
                connection.execute(_view(view, paths))
        rows = [
            {
                "artifact": m["key"],
                "stage": m["kind"],
                **{fact: None if (value := m["facts"].get(fact)) is None else str(value) for fact in FACTS},
                **{name: m.get(name) for name in ("rows", "created", "seconds")},
            }
            for stage in sorted({path.name for path in store.root.iterdir() if path.name[0] != "."})
            for m in store.manifests(stage)
        ]
        if rows:
            # Row by row, thousands of them would take seconds.
            connection.register("made", pa.Table.from_pylist(rows, _ARTIFACTS))
            connection.execute("INSERT INTO artifacts SELECT * FROM made")
    return target


def _view(name: str, paths: list[Path]) -> str:
    files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return (
        f"CREATE VIEW {name} AS SELECT parse_path(filename)[-2] AS artifact, * EXCLUDE (filename) "
        f"FROM read_parquet([{files}], filename = true, union_by_name = true)"
    )
