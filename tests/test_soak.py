"""What the soak says of its tries; the soak itself takes hours."""

import json
from pathlib import Path

from tests.soak import lines, table


def test_counts_by_kind_and_what_did_not_hold(tmp_path: Path) -> None:
    tries = {
        "kills": [{"number": 0, "held": True, "problem": None}, {"number": 1, "held": False, "problem": "exit code 1"}],
        "runs": [{"number": 0, "way": "flow, fresh", "held": True, "problem": None}],
    }
    for mode, of_mode in tries.items():
        (tmp_path / f"{mode}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in of_mode))
    assert [len(lines(tmp_path, mode)) for mode in ("runs", "kills", "signals")] == [1, 2, 0]
    assert table(tmp_path).splitlines() == [
        "| what | tries | held |",
        "|---|---|---|",
        "| runs: flow, fresh | 1 | 1 |",
        "| kills: SIGKILL | 2 | 1 |",
        "",
        "kills 1: exit code 1",
    ]
