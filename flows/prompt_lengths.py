"""How long the texts of a planned run are, by their letters: what its memory is estimated from."""

from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.configuration.pipeline import PipelineConfig
from flows.needs import Prompts, limits_of
from mlc.shapes.history import TURNS
from mlc.training.memory import Lengths
from tasks.runtime.artifacts import PROMPTS_FILE, read_rows
from tasks.runtime.run import Run

LETTERS_A_TOKEN = 3.5
"""Of English; tokenizers of 32,000 tokens and more make fewer tokens of it."""
TEMPLATE = 48
"""Tokens that a chat template adds."""
OTHERS = 3
"""So many times as many tokens has a prompt in another language at the most, as a rule."""
LONG = 0.99
"""The length below which this share of the texts is: a padded batch is as long as its longest row."""


def prompts_of(run: Run, config: PipelineConfig) -> Prompts:
    """The lengths of the training prompts of a planned run; the limits of the settings where it could not read them.

    Args:
        run: The plan, whose temporary folder is still there.
        config: Its configuration.
    """
    file = _prompts_file(run)
    if file is None:
        return limits_of(config)
    rows = read_rows(file)
    answers = [name for name in ("chosen", "rejected") if name in rows.column_names]
    said = _letters(rows, "prompt") + (_letters(rows, TURNS) if TURNS in rows.column_names else 0)
    prompt = _tokens(_long(said))
    answer = max((_tokens(_long(_letters(rows, name))) for name in answers), default=config.align.max_answer_tokens)
    lengths = Lengths(prompt + TEMPLATE, answer, OTHERS * prompt + TEMPLATE)
    return Prompts(lengths, len(rows), ceil(rows.nbytes / max(len(rows), 1)))


def _prompts_file(run: Run) -> Path | None:
    keys = [outcome.key for outcome in run.outcomes if (outcome.stage, outcome.subject) == ("ingest", "prompts")]
    roots = [root for root in (run.scratch, run.workspace) if root]
    places = (root / "artifacts" / "ingest" / key / PROMPTS_FILE for key in keys for root in roots)
    return next((place for place in places if place.is_file()), None)


def _letters(rows: pa.Table, name: str) -> Any:
    return pc.fill_null(pc.utf8_length(rows[name]), 0).to_numpy()


def _long(letters: Any) -> float:
    return float(sorted(letters)[int(LONG * (len(letters) - 1))]) if len(letters) else 0.0


def _tokens(letters: float) -> int:
    return ceil(letters / LETTERS_A_TOKEN)
