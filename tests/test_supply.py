"""What the project stands on: a lock with hashes, licences from a list, and what is told of tools that look."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.supply import EXCEPTIONS, LOCK, PROJECT, Finding, judge_advisories, judge_code, locked

LOCKS = [LOCK, PROJECT / "requirements-audit.lock"]
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "LLVM-exception",
    "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
"""Licences by their SPDX names: permissive ones, and MPL-2.0, which asks for changes to its own files alone."""
WRITTEN = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Other ways in which packages write them."""
NOT_LOCKED = {
    "torch": "it is installed first, as whatever build the machine can use",
    "bitsandbytes": "it is of use on a GPU alone, and whoever wants `qlora` installs it as the extra of that name",
    "vllm": "it is of use on a GPU alone, and an extra of its own",
    "prefect-ray": "Ray is large, and whoever wants it installs it as the extra `ray`; its tests run where it is there",
    "lm-eval": "its tasks come from the hub, which no test asks, and it is an extra: `harness`",
}
"""Requirements that the lock leaves out, and why."""
BY_FILE = {"axe-playwright-python", "huey", "skops"}
"""Packages whose metadata name no licence; the file that they come with is the MIT licence."""
MIT_WORDS = "Permission is hereby granted, free of charge, to any person obtaining a copy"
BY_REASON = {
    "text-unidecode": "The Artistic License or the GPL, as one chooses: taken under the Artistic License. Prefect "
    "brings it (python-slugify), it is used unchanged, and nothing of it is in what we hand out.",
}


def stated(package: Distribution) -> set[str]:
    """Licences that the metadata of a package name."""
    facts = package.metadata
    if expression := facts.get("License-Expression"):
        return set(re.split(r"[\s()]+(?:AND|OR|WITH)[\s()]+", expression.strip("()")))
    named = {text.rpartition(":: ")[2] for text in facts.get_all("Classifier") or () if text.startswith("License ::")}
    named = named - {"OSI Approved"} or set(facts.get("License", "").splitlines()[:1])
    return {each for name in named for each in WRITTEN.get(name, name).split(" AND ")}


def unallowed(name: str) -> set[str]:
    package = distribution(name)
    if name in BY_REASON:
        return set()
    if name in BY_FILE:
        texts = [path.read_text() for path in package.files or () if path.name == "LICENSE"]
        return set() if any(MIT_WORDS in " ".join(text.split()) for text in texts) else {"its file says something else"}
    return stated(package) - ALLOWED or (set() if stated(package) else {"nothing is said"})


def test_every_licence_is_on_the_list() -> None:
    told = {name: found for name in [*locked(), "torch"] if (found := unallowed(name))}
    assert told == {}


def test_no_exception_outlives_its_package() -> None:
    assert {*BY_FILE, *BY_REASON} <= {*locked()}
    assert {"Artistic License", "GNU General Public License (GPL)"} <= stated(distribution("text-unidecode"))


def pinned(text: str) -> Iterator[str]:
    """Requirements of a lock, each with its hashes."""
    yield from text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_hashes(lock: Path) -> None:
    lines = list(pinned(lock.read_text(encoding="utf-8")))
    assert len(lines) > 20
    for line in lines:
        assert re.match(r"[\w.-]+==[^\s;]+ .*--hash=sha256:[0-9a-f]{64}", line), line[:80]


def test_what_the_project_needs_is_locked() -> None:
    versions = {canonicalize_name(name): version for name, version in locked().items()}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    needed = {canonicalize_name(each.name): each for each in map(Requirement, texts)}
    assert needed.keys() - versions.keys() - {"mlc-align"} == NOT_LOCKED.keys()
    for name in needed.keys() & versions.keys():
        assert needed[name].specifier.contains(versions[name]), name


def test_a_finding_without_a_reason_is_told() -> None:
    given = [Finding(test, place or "mlc/x.py", 1, "…") for test, places in EXCEPTIONS.items() for place in places]
    assert judge_code(given) == []
    assert judge_code([*given, Finding("B506", "mlc/x.py", 7, "unsafe")]) == ["mlc/x.py:7: B506: unsafe"]
    assert judge_code([each for each in given if each.test != "B506"]) == [
        "No B506 is left in mlc/yaml_text.py: take its exception out."
    ]


SAFE = {"name": "a", "version": "1", "vulns": []}
HIT = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1"}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


NOT_ASKED = "No package was compared with known vulnerabilities: the advisories cannot be reached from here."


@pytest.mark.parametrize(
    ("told", "sentence", "well"),
    [
        (None, NOT_ASKED, True),
        ([SKIPPED], NOT_ASKED, True),
        ([SAFE], "No known vulnerability in 1 packages.", True),
        ([SAFE, SKIPPED], "No known vulnerability in 1 packages; 1 could not be asked about: c.", True),
        ([SAFE, HIT, SKIPPED], "Known vulnerabilities: b 2 (PYSEC-1).", False),
    ],
)
def test_what_is_told_of_advisories(told: list[dict[str, object]] | None, sentence: str, well: bool) -> None:
    assert judge_advisories(told and {"dependencies": told}) == (sentence, well)
