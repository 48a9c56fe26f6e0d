"""What the project stands on, looked at with tools of an environment of their own (``make audit``).

``code`` asks bandit about our own code, and takes what :data:`EXCEPTIONS` has a reason for. ``advisories`` asks
pip-audit whether a locked package has a known vulnerability, and says plainly when it could not ask.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
LOCK = PROJECT / "requirements.lock"
CODE = ("flows", "mlc", "tasks")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)")

ANYWHERE = ""
EXCEPTIONS: dict[str, dict[str, str]] = {
    "B101": {ANYWHERE: "an assert tells the type checker what holds; nothing relies on it to refuse anything"},
    "B105": {ANYWHERE: "brackets of JSON and the name of a column, no passwords"},
    "B106": {ANYWHERE: "special tokens of tokenizers, no passwords"},
    "B301": {
        "mlc/training/launch.py": "written by a process that it started, in a folder of its owner alone",
        "mlc/training/launched.py": "written by the process that started it, in a folder of its owner alone",
    },
    "B311": {ANYWHERE: "chance for samples and test data, seeded on purpose; nothing secret is drawn"},
    "B403": {
        "mlc/training/launch.py": "an import reads nothing; each call is a case of its own",
        "mlc/training/launched.py": "an import reads nothing; each call is a case of its own",
    },
    "B404": {ANYWHERE: "an import runs nothing; each call is a case of its own"},
    "B506": {"mlc/yaml_text.py": "its loader derives from SafeLoader and is stricter"},
    "B603": {
        "flows/looking/planning.py": "this Python, fixed words, and a file of its own; no shell",
        "mlc/chat/tethered.py": "this Python, fixed words, and commands of a person's own configuration; no shell",
        "mlc/machine.py": "nvidia-smi by its name, fixed words; no shell",
        "mlc/models/rendering.py": "this Python and one module of ours; the template goes in by a pipe",
        "tasks/runtime/revision.py": "git by its name, fixed words and the folder of this code; no shell",
    },
    "B606": {"mlc/chat/tethered.py": "becomes the command that it was given, without a shell"},
    "B608": {
        "tasks/runtime/prefect_database.py": "names of tables and conditions are constants of the module",
        "mlc/quality/calibration/__init__.py": "expressions of our own; values are tables or parameters",
        "mlc/quality/deciding.py": "expressions and names of our own; values are tables",
        "mlc/quality/funnel.py": "expressions and names of our own; values are tables",
        "mlc/quality/measuring/__init__.py": "expressions and names of our own; values are tables",
        "mlc/quality/pairs.py": "names and paths from outside are quoted, quotes in them doubled",
        "mlc/quality/streaming.py": "expressions and names of our own; values are tables",
        "tasks/runtime/catalog.py": "paths are quoted, quotes in them doubled",
        "tasks/runtime/registry/database.py": "tables and columns of our own; values are parameters",
    },
    "B615": {
        "mlc/evaluation/judges/guards/native.py": "its options hold the revision, which is in the key",
        "mlc/quality/estimating.py": "its options hold the revision; a tokenizer of its own is what a person names",
        "mlc/models/loading.py": "its options hold the revision that a person names, and the content is in the key",
        "mlc/quality/models.py": "what a person names on the command line; safetensors alone, and no code of it runs",
        "mlc/gating/prompt_translation.py": "a folder beside the gate, of a version or an artifact",
        "tasks/runtime/policy_pyfunc.py": "a folder inside the registered version",
    },
}
"""Why a finding is none, by bandit's number and the file; a file that has no more of it is an error."""


@dataclass(frozen=True)
class Finding:
    """What bandit found."""

    test: str
    file: str
    line: int
    text: str


def locked(lock: Path = LOCK) -> dict[str, str]:
    """Version of each locked package, by its name."""
    found = map(_PINNED.match, lock.read_text(encoding="utf-8").splitlines())
    return {match[1]: match[2] for match in found if match}


def judge_code(findings: list[Finding]) -> list[str]:
    """What is wrong: findings that no reason is given for, and reasons that nothing needs any more."""
    wrong, used = [], set()
    for finding in findings:
        reasons = EXCEPTIONS.get(finding.test, {})
        place = ANYWHERE if ANYWHERE in reasons else finding.file
        if place in reasons:
            used.add((finding.test, place))
        else:
            wrong.append(f"{finding.file}:{finding.line}: {finding.test}: {finding.text}")
    given = {(test, place) for test, places in EXCEPTIONS.items() for place in places}
    unused = sorted(given - used)
    return wrong + [f"No {test} is left in {place or 'the code'}: take its exception out." for test, place in unused]


def judge_advisories(told: dict[str, Any] | None) -> tuple[str, bool]:
    """The sentence about what pip-audit told, and whether that is well; None if it could not ask."""
    packages = (told or {}).get("dependencies", [])
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    hit = [package for package in packages if package.get("vulns")]
    asked = len(packages) - len(skipped)
    if hit:
        names = ", ".join(
            f"{package['name']} {package['version']} ({', '.join(each['id'] for each in package['vulns'])})"
            for package in hit
        )
        return f"Known vulnerabilities: {names}.", False
    if not asked:
        return "No package was compared with known vulnerabilities: the advisories cannot be reached from here.", True
    rest = f"; {len(skipped)} could not be asked about: {', '.join(skipped)}" if skipped else ""
    return f"No known vulnerability in {asked} packages{rest}.", True


def _tool(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).with_name(name)), *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def _code() -> int:
    ended = _tool("bandit", "--recursive", "--quiet", "--format", "json", *CODE)
    if not ended.stdout:
        print(f"bandit failed: {ended.stderr.strip()[-500:]}")
        return 1
    told = json.loads(ended.stdout)
    findings = [
        Finding(each["test_id"], each["filename"].removeprefix("./"), each["line_number"], each["issue_text"])
        for each in told["results"]
    ]
    wrong = judge_code(findings) + [f"{each['filename']}: {each['reason']}" for each in told["errors"]]
    print("\n".join(wrong) or f"{len(findings)} findings of bandit, each with a reason.")
    return int(bool(wrong))


def _advisories(more: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        # Without its hashes: the versions are what is asked about.
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join([*(f"{name}=={version}" for name, version in locked().items()), *more]))
        ended = _tool(
            "pip-audit", "-r", str(file), "--no-deps", "--disable-pip", "-f", "json", "--progress-spinner=off"
        )
    try:
        told = json.loads(ended.stdout)
    except ValueError:
        told = None
    sentence, well = judge_advisories(told)
    print(sentence)
    return int(not well)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.supply", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["code", "advisories"])
    parser.add_argument("more", nargs="*", help="packages that stand in no lock, such as torch==2.13.0")
    options = parser.parse_args()
    return _code() if options.what == "code" else _advisories(options.more)


if __name__ == "__main__":
    sys.exit(main())
