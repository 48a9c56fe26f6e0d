"""The workspace's ``catalog.duckdb``: views over the artifacts, for people to query. Never a source of truth."""

from pathlib import Path

import duckdb

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
            (
                m["key"],
                m["kind"],
                *(m["facts"].get(fact) for fact in FACTS),
                m["rows"],
                m["created"],
                m["seconds"],
            )
            for stage in sorted({path.name for path in store.root.iterdir() if path.name[0] != "."})
            for m in store.manifests(stage)
        ]
        if rows:
            connection.executemany("INSERT INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    return target


def _view(name: str, paths: list[Path]) -> str:
    files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return (
        f"CREATE VIEW {name} AS SELECT parse_path(filename)[-2] AS artifact, * EXCLUDE (filename) "
        f"FROM read_parquet([{files}], filename = true, union_by_name = true)"
    )
