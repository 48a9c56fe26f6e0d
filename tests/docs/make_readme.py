"""Writes the picture and the table of the README from one run: ``python -m tests.docs.make_readme WORKSPACE``.

The picture needs a ``chromium`` on the path. The figures lie beside it, ``docs/images/report.json``, with the picture's
digest, so that a test can tell whether picture and table are of the same run.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlc.store import ArtifactStore

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "report.png"
FIGURES = PICTURE.with_suffix(".json")
BEGIN, END = "<!-- figures: made by python -m tests.docs.make_readme -->\n", "<!-- end of figures -->\n"
SIZE = "980,1500"
"""Width and height of the picture: what a person sees first."""

MARGIN_COLUMNS = (
    ("English margin AUROC", "english", "auroc"),
    ("margin AUROC, {others} other languages", "other", "auroc"),
    ("margin over-refusal there", "other", "over_refusal"),
    ("margin safety there", "other", "safety"),
)
"""Of runs before answers were judged: heading, group of languages, figure."""
COLUMNS = (
    ("English selectivity", "english", "selectivity"),
    ("selectivity, {others} other languages", "other", "selectivity"),
    ("attack success there", "other", "attack_success"),
    ("over-refusal there", "other", "harmless_refused"),
    ("harmless, invalid there", "other", "harmless_invalid"),
    ("margin AUROC there", "other", "auroc"),
)


def table(figures: dict[str, Any]) -> str:
    """The models of a run, in English and in the other languages."""
    models = figures["models"]
    others = len(figures["languages"]) - 1
    columns = COLUMNS if all("selectivity" in groups["other"] for groups in models.values()) else MARGIN_COLUMNS
    lines = [
        f"| | {' | '.join(name.format(others=others) for name, *_ in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for name, groups in models.items():
        cells = [groups[group][key] for _, group, key in columns]
        lines.append(f"| {name} | {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines) + "\n"


def with_table(text: str, figures: dict[str, Any]) -> str:
    """The README with the table as it should be."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(figures)}\n{END}{after}"


def _cell(figure: dict[str, float]) -> str:
    value, low, high = (f"{figure[name]:.2f}".replace("0.", ".") for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def digest(picture: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(picture.read_bytes()).hexdigest()


def _photograph(page: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no chromium on the path: install it to make the picture.")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-background-networking", "--disable-component-update"]
        places = [f"--user-data-dir={profile}", f"--screenshot={PICTURE}", f"--window-size={SIZE}", page.as_uri()]
        subprocess.run([chromium, *options, *places], check=True, capture_output=True, timeout=120)


def make(workspace: Path) -> None:
    """Takes the newest report of a workspace."""
    store = ArtifactStore(workspace)
    manifest = store.manifests("report")[-1]
    folder = store.root / "report" / manifest["key"]
    headline = json.loads((folder / "headline.json").read_text(encoding="utf-8"))
    _photograph(folder / "report.html")
    languages = sorted({m["facts"]["language"] for m in store.manifests("evaluate")})
    figures = {"models": headline["models"], "languages": languages, "picture": digest(PICTURE)}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
