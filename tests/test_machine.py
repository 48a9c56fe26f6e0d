"""What the machine has, with the limit of a container."""

from pathlib import Path

import pytest

from flows.terminal import quiet
from mlc.machine import computes_bfloat16, cores, cores_there, memory_limit, this_machine


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


@pytest.mark.parametrize(
    ("groups", "limits", "found"),
    [
        ("0::/\n", {"cpu_dot_max": "max 100000\n"}, cores_there()),
        ("0::/\n", {"cpu_dot_max": "100000 100000\n"}, 1),
        ("0::/a/b\n", {"a__b__cpu_dot_max": "999999999 1000\n", "a__cpu_dot_max": "50000 100000\n"}, 1),
        # Begun cores count as whole ones.
        ("0::/\n", {"cpu_dot_max": "110000 100000\n"}, min(2, cores_there())),
    ],
)
def test_cores_are_those_that_the_group_grants(tmp_path: Path, groups: str, limits: dict[str, str], found: int) -> None:
    assert cores(made(tmp_path, groups, **limits)) == found


@pytest.mark.parametrize(("quota", "found"), [("-1\n", cores_there()), ("100000\n", 1)])
def test_cores_of_groups_of_version_1(tmp_path: Path, quota: str, found: int) -> None:
    root = made(tmp_path, "5:cpu,cpuacct:/x\n0::/\n")
    group = root / "sys/fs/cgroup/cpu/x"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(quota, encoding="ascii")
    (group / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")
    assert cores(root) == found


def test_without_groups_all_cores_count(tmp_path: Path) -> None:
    assert cores(tmp_path) == cores_there() >= 1


@pytest.mark.parametrize(
    ("told", "computes"),
    [
        ("flags\t\t: fpu avx512_bf16 clflush\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx512f\nmodel name\t: bf16 of its kind\n", False),
    ],
)
def test_whether_the_processor_computes_bfloat16(tmp_path: Path, told: str, computes: bool) -> None:
    assert not computes_bfloat16(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(told, encoding="utf-8")
    assert computes_bfloat16(tmp_path) is computes


def test_threads_are_set_only_where_fewer_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "cores_there", lambda: 64)
    monkeypatch.setattr(quiet, "cores", lambda: 2)
    assert quiet.thread_environment() == {"OMP_NUM_THREADS": "2"}
    monkeypatch.setattr(quiet, "cores", lambda: 64)
    assert quiet.thread_environment() == {}
