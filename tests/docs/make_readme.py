"""Writes pictures, table and sentences of the README from one run: ``python -m tests.docs.make_readme WORKSPACE``.

It takes the last run of the workspace, and a ``chromium`` on the path. What it took lies beside the pictures,
``docs/images/report.json``, with their digests, so that a test can tell whether all of it is of the same run. The page
of MLflow is served from the workspace: take a copy of one that must stay as it is.
"""

import hashlib
import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from PIL import Image

from flows.commands.ui import _mlflow
from flows.looking.figures import run_line
from flows.looking.overview import failures_of
from flows.looking.reading import RunReader
from flows.pages.app import Beside
from flows.pages.serving import served_page
from mlc.chat.tethered import HOST, free_port, stop
from mlc.store import ArtifactStore
from mlc.store.runs import RunRecord, run_records
from tests.browser import CHROMIUM, Tab, open_tab

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"
FIGURES = IMAGES / "report.json"
BEGIN, END = "<!-- figures: made by python -m tests.docs.make_readme -->\n", "<!-- end of figures -->\n"
PICTURES = ("report", "runs", "filter", "answers", "gate", "mlflow")
"""Names of the pictures in the order of the tour, the report first."""
LARGEST = 150_000
"""Bytes of a picture."""
_SIZES = {"report": (980, 1400), "answers": (1000, 900), "mlflow": (1500, 960)}
"""Width and height of the screen where it is not :data:`_SIZE`."""
_SIZE, _WIDEST = (1000, 640), 1000
_COLOURS = 128
_CLOSE_ASSISTANT = "document.querySelector('[aria-label=Close]')?.click()"
_SETTLED_SECONDS = 120
SWAHILI = "swh_Latn"

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


def with_figures(text: str, figures: dict[str, Any]) -> str:
    """The README with the sentences of the report and the table as they should be."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    said = "\n>\n".join(f"> {sentence}" for sentence in figures["sentences"])
    return f"{before}{BEGIN}\n{said}\n\n{table(figures)}\n{END}{after}"


def _cell(figure: dict[str, float]) -> str:
    value, low, high = (f"{figure[name]:.2f}".replace("0.", ".") for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def digest(picture: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(picture.read_bytes()).hexdigest()


def sentences(page: str) -> list[str]:
    """What a report says first: whether it may be released, and what the comparison shows."""
    found = re.findall(r'<p class="sentence">(.*?)</p>', page, re.DOTALL)
    return [" ".join(unescape(sentence).replace("\u00a0", " ").split()) for sentence in found]


@contextmanager
def _served(workspace: Path) -> Iterator[tuple[str, str]]:
    """Addresses of the local page and of MLflow's."""
    own, other = free_port(), free_port()
    mlflow = f"http://{HOST}:{other}"
    server = _mlflow(workspace, other)
    try:
        _until_it_answers(mlflow)
        with served_page(workspace, own, Beside(mlflow=mlflow)):
            yield f"http://{HOST}:{own}", mlflow
    finally:
        stop(server)


def _until_it_answers(address: str) -> None:
    deadline = time.monotonic() + _SETTLED_SECONDS
    while True:
        try:
            httpx.get(address)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def _addresses(store: ArtifactStore, record: RunRecord, page: str, mlflow: str) -> dict[str, tuple[str, str]]:
    """By picture, an address and the element to begin at; empty for the top."""
    run, line = f"{page}/runs/{record.number}", run_line(store, record)
    failures = failures_of(store, record)
    language = SWAHILI if SWAHILI in failures.languages else str(line.worst_language)
    candidate, *others = failures.models
    asked = {"language": language, "model": candidate, "beside": others[0], "failures": "1"}
    return {
        "report": (f"{run}/report/report.html", ""),
        "runs": (f"{page}/", ""),
        "filter": (run, "[aria-label=Filter]"),
        "answers": (f"{run}/answers?{urlencode(asked)}", ""),
        "gate": (run, "section.checks"),
        "mlflow": (f"{mlflow}/#/models/{line.model}/versions/{line.version}", ""),
    }


def _picture(tab: Tab, name: str, address: str, begin: str) -> None:
    width, height = _SIZES.get(name, _SIZE)
    tab.look(width, "light", height)
    tab.open(address)
    if name == "mlflow":
        tab.settle(_SETTLED_SECONDS)
        tab.value(_CLOSE_ASSISTANT)
        tab.settle(_SETTLED_SECONDS)
    if begin:
        tab.value(f"document.querySelector('{begin}').closest('section').scrollIntoView()")
    picture = Image.open(io.BytesIO(tab.picture())).convert("RGB")
    if name != "mlflow":
        picture = picture.crop((0, 0, width, min(height, tab.value("document.body.offsetHeight"))))
    picture.thumbnail((_WIDEST, height))
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)
    size = (IMAGES / f"{name}.png").stat().st_size
    if size > LARGEST:
        sys.exit(f"The picture {name} has {size} bytes, more than {LARGEST}.")


def make(workspace: Path) -> None:
    """Takes the last run of a workspace."""
    if CHROMIUM is None:
        sys.exit("There is no chromium on the path: install it to make the pictures.")
    store, record = ArtifactStore(workspace, looking=True), run_records(workspace)[-1]
    reader = RunReader(store, record)
    folder = reader.folder(reader.tasks("report")[-1])
    with tempfile.TemporaryDirectory() as profile, _served(workspace) as (page, mlflow), open_tab(Path(profile)) as tab:
        for name, place in _addresses(store, record, page, mlflow).items():
            _picture(tab, name, *place)
    figures = {
        "sentences": sentences((folder / "report.html").read_text(encoding="utf-8")),
        "models": json.loads((folder / "headline.json").read_text(encoding="utf-8"))["models"],
        "languages": sorted({str(task["language"]) for task in reader.tasks("evaluate")}),
        "pictures": {name: digest(IMAGES / f"{name}.png") for name in PICTURES},
    }
    FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    README.write_text(with_figures(README.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
