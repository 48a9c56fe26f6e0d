"""What a person sees while `mlc translate` works."""

import io

import pytest
from rich.console import Console

from flows.terminal.display import TranslationBars
from mlc.translation.translator import Step

GERMAN, SWAHILI, ENGLISH = "deu_Latn", "swh_Latn", "eng_Latn"


def shown(languages, texts, steps, back=(), *, terminal=True):
    """The last picture of the bars."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with TranslationBars(console, languages, texts) as bars:
        for step in steps:
            bars.step(step)
        for step in back:
            bars.step_back(step)
        table = console.render_lines(bars.progress.get_renderable(), pad=False)
    return ["".join(segment.text for segment in line) for line in table], console.file.getvalue()


def test_a_bar_for_each_language():
    steps = [
        Step(split=10, planned=40),
        Step(target=GERMAN, sentences=10, tokens=300),
        Step(target=SWAHILI, sentences=5, tokens=90),
    ]
    (german, swahili), _ = shown((GERMAN, SWAHILI), 10, steps)
    assert german.startswith("German")
    assert "10/40 sentences" in german
    assert "tokens/s" in german
    assert "5/40 sentences" in swahili


def test_sentences_of_texts_that_are_not_split_yet_are_guessed():
    steps = [Step(split=10, planned=40), Step(target=GERMAN, sentences=40), Step(split=10, planned=30)]
    (before,), _ = shown((GERMAN,), 100, steps[:2])
    assert "40/400 sentences" in before
    (after,), _ = shown((GERMAN,), 100, steps)
    assert "40/350 sentences" in after


def test_what_was_known_has_no_rate():
    (german,), _ = shown((GERMAN,), 1, [Step(split=1, planned=2), Step(target=GERMAN, sentences=2)])
    assert "2/2 sentences" in german
    assert "tokens/s" not in german


def test_the_way_back_has_a_bar_of_its_own():
    steps = [Step(split=2, planned=3), Step(target=GERMAN, sentences=3, tokens=9)]
    back = [Step(split=2, planned=3), Step(target=ENGLISH, sentences=2, tokens=9)]
    (german, english), _ = shown((GERMAN, ENGLISH), 2, steps, back)
    assert "3/3 sentences" in german
    assert english.startswith("English")
    assert "2/3 sentences" in english


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_shows_them(terminal):
    _, written = shown((GERMAN,), 1, [Step(split=1, planned=1)], terminal=terminal)
    assert bool(written) == terminal
