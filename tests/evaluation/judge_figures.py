"""What the judge `rules` gets right on answers that were labelled by hand, beside matching of English openings.

Run it with ``python -m tests.evaluation.judge_figures``; docs/judges.md shows what it prints. The misses
in the half ``development`` were looked at while phrases were written, those in the half ``test`` were not.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

from mlc.catalogue import JUDGES
from mlc.evaluation.judges.judge import OUTCOMES, Answer, Verdict

FOLDER = Path(__file__).with_name("judge_answers")
NAMES = ("rules", "openings")


@dataclass(frozen=True)
class Labelled:
    """An answer and what it is."""

    answer: Answer
    half: str
    outcome: str


@dataclass(frozen=True)
class Figures:
    """Counts of (outcome by hand, outcome of the judge)."""

    counts: Counter[tuple[str, str]]

    @property
    def total(self):
        return sum(self.counts.values())

    @property
    def accuracy(self):
        """Share of all answers; an answer that people are not sure of either counts as right if it is unsure."""
        return sum(count for (true, told), count in self.counts.items() if true == told) / self.total

    @property
    def unsure(self):
        return sum(count for (_, told), count in self.counts.items() if told == "unsure") / self.total

    @property
    def wrong(self):
        """Share of the answers that are decided, and wrong."""
        decided = [(true, told, count) for (true, told), count in self.counts.items() if told != "unsure"]
        return sum(count for true, told, count in decided if true != told) / max(1, sum(row[2] for row in decided))


def labelled(half=None):
    """The answers of all languages, or of one half."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for part, outcome, prompt, text in yaml.safe_load(path.read_text(encoding="utf-8")):
            if half in (None, part):
                found.append(Labelled(Answer(prompt, text, path.stem), part, outcome))
    return found


def judged(name, rows) -> list[Verdict]:
    return list(JUDGES.load(name).judge([row.answer for row in rows]))


def figures(name, rows):
    return Figures(Counter((row.outcome, told.outcome) for row, told in zip(rows, judged(name, rows), strict=True)))


def by_language(rows):
    languages = sorted({row.answer.language for row in rows}, key=lambda code: (code != "eng_Latn", code))
    return {code: [row for row in rows if row.answer.language == code] for code in languages} | {"all": rows}


def table(half):
    """Markdown: a line for each language."""
    lines = [
        "| language | n | rules: right | unsure | wrong where decided | openings: right |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for code, rows in by_language(labelled(half)).items():
        rules, openings = (figures(name, rows) for name in NAMES)
        lines.append(
            f"| {code} | {rules.total} | {rules.accuracy:.0%} | {rules.unsure:.0%} | {rules.wrong:.0%} | "
            f"{openings.accuracy:.0%} |"
        )
    return "\n".join(lines)


def confusion(half):
    """Markdown: for each language and outcome by hand, what `rules` says."""
    lines = [f"| language | by hand | {' | '.join(OUTCOMES)} |", "|---|---|" + "---:|" * len(OUTCOMES)]
    for code, rows in by_language(labelled(half)).items():
        counts = figures("rules", rows).counts
        for true in OUTCOMES:
            told = [counts[true, outcome] for outcome in OUTCOMES]
            if any(told):
                lines.append(f"| {code} | {true} | {' | '.join(map(str, told))} |")
    return "\n".join(lines)


def misses(half):
    """Lines with number, labels and reason of what is not right; the answers here are harmless."""
    rows = labelled(half)
    for number, (row, told) in enumerate(zip(rows, judged("rules", rows), strict=True)):
        if row.outcome != told.outcome:
            yield f"{number} {row.answer.language} {row.outcome} -> {told.outcome} ({told.reason}): {row.answer.text!r}"


def main():
    half = sys.argv[1] if len(sys.argv) > 1 else "test"
    print(table(half), "", confusion(half), sep="\n")
    if half == "development":
        print(*misses(half), sep="\n")


if __name__ == "__main__":
    main()
