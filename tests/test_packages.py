"""The sdist and the wheel: what is in them, and that they work where the checkout is not."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect.flows import load_flow_from_entrypoint

import mlc
from flows.scheduled.declared import DEPLOYMENTS
from flows.scheduled.registering import environment_of_runs
from mlc import packages, pipeline
from mlc.languages import all_languages
from mlc.store.sources import source_digests

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = f"{packages.DISTRIBUTION.replace('-', '_')}-{packages.VERSION}"
STAGES = ("translate", "filter", "align", "register")
KEYS = f"""
import json
from mlc.store.sources import source_digests
print(json.dumps({{stage: source_digests(f"tasks.{{stage}}") for stage in {STAGES}}}))
"""
"""What decides a key, told by a process."""
EXAMPLE = """
import torch
from mlc.languages import all_languages
from mlc.losses import consistency_loss
from mlc.training import ConsistencyTerm
print(consistency_loss(torch.eye(4).reshape(1, 2, 8)).loss.isfinite().item(), len(all_languages()))
"""
EXTRAS = {"PYTHONPATH": str(metadata.distribution("hatchling").locate_file(""))}
"""All that is installed here, and not this checkout."""


def built(kind: str, source: Path, place: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(place)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=60)
    return next(path for path in place.iterdir() if path.is_file())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("sdist", ROOT, place)) as archive:
        archive.extractall(place, filter="data")
    return place / INSTALLED


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, what it needs without extras, and two packages that are called as ours."""
    place = tmp_path_factory.mktemp("fresh")
    venv.create(place, symlinks=True)
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", *options)
    subprocess.run([*pip, wheel], check=True, timeout=60)
    site = next((place / "lib").glob("python*/site-packages"))
    for path in needed(site):
        if not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    for name in ("flows", "tasks"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("raise ImportError('not ours')")
    return place


def needed(site: Path) -> Iterator[Path]:
    """What lies at the top of every distribution that the wheel requires, directly or not."""
    found = next(iter(metadata.distributions(name=packages.DISTRIBUTION, path=[str(site)])))
    waiting, seen = [(found, {""})], set()
    while waiting:
        distribution, extras = waiting.pop()
        for wanted in map(Requirement, distribution.requires or ()):
            asked = not wanted.marker or any(wanted.marker.evaluate({"extra": extra}) for extra in extras)
            if not asked or canonicalize_name(wanted.name) in seen:
                continue
            seen.add(canonicalize_name(wanted.name))
            there = metadata.distribution(wanted.name)
            yield from {Path(there.locate_file(path.parts[0])) for path in there.files or () if path.parts[0] != ".."}
            waiting.append((there, {"", *wanted.extras}))


def said(place: Path, program: str, *words: str, code: int = 0, more: Mapping[str, str] = EXTRAS) -> str:
    """What a program of an environment prints, in a folder that has nothing to do with the checkout."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more
    done = subprocess.run(
        [place / "bin" / program, *words],
        cwd=place,
        env=variables | {"COLUMNS": "100", "XDG_CACHE_HOME": str(place / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_one_name_lies_at_the_top(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"mlc", f"{INSTALLED}.dist-info"}


def test_nothing_is_left_behind(sdist: Path, wheel: Path) -> None:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    assert {path for path in files if not (sdist / path).is_file()} == set()
    moved = {"data/": "mlc/_data/", "flows/": "mlc/_pipeline/flows/", "tasks/": "mlc/_pipeline/tasks/", "mlc/": "mlc/"}
    wanted = {to + path.removeprefix(at) for path in files for at, to in moved.items() if path.startswith(at)}
    assert wanted == {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_pipeline_works_beside_packages_of_the_same_names(fresh: Path) -> None:
    assert "35 tasks would run, 0 are cached." in said(fresh, "mlc", "plan", "smoke")


def test_keys_are_those_of_the_checkout(fresh: Path) -> None:
    told = json.loads(said(fresh, "python", "-c", KEYS))
    assert told == {stage: source_digests(f"tasks.{stage}") for stage in STAGES}


def test_the_library_works_without_the_pipeline(fresh: Path) -> None:
    told = partial(said, fresh, more={})
    assert told("python", "-c", EXAMPLE).split() == ["True", str(len(all_languages()))]
    assert told("mlc", "--version") == f"mlc {packages.VERSION}\n"
    assert "pip install 'mlc-align[pipeline]'" in told("mlc", "plan", "smoke", code=2)


def test_the_citation_is_of_this_release() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["version"], cited["license"]) == (packages.VERSION, project["license"])
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert all({"name", "family-names"} & author.keys() for author in cited["authors"])


@pytest.mark.parametrize(
    "page",
    ["CONTRIBUTING.md", "SECURITY.md", "deploy/README.md", "docs/install.md", "docs/notify.md", "examples/README.md"],
)
def test_what_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    named = re.findall(r"`((?:tests|mlc|tasks|flows|docs)/[\w/]+\.\w+)`", text)
    targets = re.findall(r"^make (\w[\w-]*)|`make (\w[\w-]*)`", text, re.MULTILINE)
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [name for pair in targets for name in pair if name and f"\n{name}:" not in made] == []


def test_the_flows_have_a_door() -> None:
    assert {f"mlc.pipeline.{name}" for name in pipeline.FLOWS} == {one.entrypoint for one in DEPLOYMENTS}
    for deployment in DEPLOYMENTS:
        assert load_flow_from_entrypoint(deployment.entrypoint) is deployment.flow
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = pipeline.other


def test_processes_of_workers_find_the_flows_and_images_have_them() -> None:
    assert environment_of_runs("process")["PYTHONPATH"] == str(ROOT)
    assert "PYTHONPATH" not in environment_of_runs("docker")


def test_places_are_those_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "mlc"
    roots = {"flows": library / "_pipeline", "mlc": tmp_path, "tasks": library / "_pipeline"}
    monkeypatch.setattr(packages, "ROOTS", roots)
    monkeypatch.setattr(packages, "_IN_WHEEL", library / "_pipeline")
    assert packages.place_in_project(library / "_pipeline" / "tasks" / "filter.py") == "tasks/filter.py"
    assert packages.place_in_project(library / "losses" / "head.py") == "mlc/losses/head.py"
    assert packages.place_in_project(tmp_path / "torch" / "nn.py") is None


def test_another_package_over_ours_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlc, "__doc__", None)
    with pytest.raises(SystemExit, match="an environment of its own"):
        pipeline.main()


def test_others_of_our_name_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = packages.others_with_our_name()
    for name, file in (("mlcflow", "mlc/main.py"), ("mlcroissant", "mlcroissant/__init__.py")):
        facts = tmp_path / f"{name}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "RECORD").write_text(f"{file},,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert packages.others_with_our_name() == sorted([*before, "mlcflow"])
