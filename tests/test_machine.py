"""What the machine has, with the limit of a container."""

from pathlib import Path

import pytest

from mlc.machine import memory_limit, this_machine


def made(root: Path, groups: str, **limits: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups, encoding="utf-8")
    for place, limit in limits.items():
        file = root / "sys/fs/cgroup" / place.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "found"),
    [
        ("0::/\n", {"memory_dot_max": "1048576\n"}, 2**20),
        ("0::/a/b\n", {"a__b__memory_dot_max": "max\n", "a__memory_dot_max": "2097152\n"}, 2**21),
        ("5:cpu:/x\n4:memory:/y\n", {"memory__y__memory_dot_limit_in_bytes": "4194304\n"}, 2**22),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, groups: str, limits: dict[str, str], found: int) -> None:
    assert memory_limit(made(tmp_path, groups, **limits)) == found


def test_without_a_limit_it_is_the_machine(tmp_path: Path) -> None:
    whole = memory_limit(tmp_path)
    assert whole > 2**28
    assert memory_limit(made(tmp_path, "0::/\n", memory_dot_max="max\n")) == whole


def test_a_workspace_need_not_be_there(tmp_path: Path) -> None:
    assert this_machine(tmp_path / "not" / "yet").disk > 0
