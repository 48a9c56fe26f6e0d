"""Where lines break: nowhere in a pipe or a file, and between words on a terminal."""

import io

import pytest
from rich.text import Text

from flows.terminal.output import UNLIMITED, Output, broken, print_explained

SENTENCE = "The [bold] folder /" + "long/" * 20 + "file is not there, so that nothing can be read from it."


def output(*, terminal: bool, width: int | None = None) -> Output:
    return Output(file=io.StringIO(), force_terminal=terminal, color_system=None, width=width)


def lines_of(console: Output) -> list[str]:
    written = console.file
    assert isinstance(written, io.StringIO)
    return written.getvalue().splitlines()


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console = output(terminal=False)
    assert console.width == UNLIMITED
    console.print(SENTENCE, markup=False)
    print_explained(("stage", "why"), [["align", "because " * 50]], console)
    sentence, head, row = lines_of(console)
    assert sentence == SENTENCE
    assert (head, row.count("because")) == ("stage  why", 50)
    monkeypatch.setenv("COLUMNS", "60")
    assert output(terminal=False).width == 60


def test_a_terminal_gets_breaks_between_words_and_whole_paths() -> None:
    console = output(terminal=True, width=40)
    console.print(f"  {SENTENCE}", soft_wrap=True, markup=False)
    first, path, *others = lines_of(console)
    assert first == "  The [bold] folder"
    assert path.strip() == "/" + "long/" * 20 + "file"
    assert all(line.startswith("  ") and len(line) <= 40 for line in others)
    assert " ".join(" ".join(lines_of(console)).split()) == SENTENCE


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one", ["one"]),
        ("one two three", ["one two", "three"]),
        ("one\n\ntwo three four", ["one", "", "two", "three", "four"]),
        ("好好好 好好好", ["好好好", "好好好"]),
    ],
)
def test_cells_are_counted_and_breaks_are_kept(text: str, lines: list[str]) -> None:
    assert broken(Text(text), 8).plain.split("\n") == lines


def test_a_head_that_is_too_long_stands_before_each_explanation() -> None:
    console = output(terminal=True, width=20)
    print_explained(("stage", "rows", "a long head"), [["align", "12", "x"], ["merge", "3", ""]], console)
    assert lines_of(console) == ["stage  rows", "align  12", "  a long head: x", "merge  3"]


def test_an_explanation_that_is_too_long_stands_below_its_row() -> None:
    console = output(terminal=True, width=30)
    rows = [["align", "12", "new"], ["translate", "3", "configuration translator.num_beams 1 → 4"]]
    print_explained(("stage", "rows", "why"), rows, console, right=("rows",))
    assert lines_of(console) == [
        "stage      rows  why",
        "align        12  new",
        "translate     3",
        "  configuration",
        "  translator.num_beams 1 → 4",
    ]


def test_rows_of_several_lines_keep_their_explanations() -> None:
    console = output(terminal=True, width=40)
    rows = [
        ["consistency-\npermuted", "5", "english answers, translated prompts"],
        ["edit", "4", "labels, feedback, answers"],
        ["a-\nb", "1", "x"],
    ]
    print_explained(("method", "rows", "data"), rows, console)
    assert lines_of(console) == [
        "method        rows  data",
        "consistency-  5",
        "permuted",
        "  english answers, translated prompts",
        "edit          4",
        "  labels, feedback, answers",
        "a-            1     x",
        "b",
    ]
