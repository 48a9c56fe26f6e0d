"""Breaks one line at a time and tells which breaks the tests see: ``python -m tests.mutants --count 20 --seed 0``.

A break is drawn from the code that computes what stages write (``mlc.store.sources``), the areas in turn, and made in a
copy of the project. The tests that can reach it run there until the first one fails. ``--tests default`` runs
what ``make test`` runs, ``full`` the whole products of ``make test-all``; with ``both`` a mutant that the default tests
let live meets the whole ones too, so that the table tells what the thinning costs.
"""

import argparse
import ast
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlc.catalogue import CARRIERS, JUDGES, SIGNALS
from mlc.errors import UserError
from mlc.store.sources import PROJECT_PACKAGES, is_machinery, module_closure
from tests.forked import Forks, forks

PROJECT = Path(__file__).resolve().parents[1]
COPIED = (*PROJECT_PACKAGES, "flows", "tests", "data", "pyproject.toml")
LIBRARIES = ("duckdb", "datasets", "hypothesis", "peft", "pytest", "scipy.stats", "torch", "transformers", "trl")
"""Loaded once for all mutants; nothing of the project is."""
SECONDS = 900
"""Most for the tests of one mutant: one that never ends is caught, as whoever waits for it sees."""

AREAS: dict[str, tuple[str, ...]] = {
    "mlc/losses": ("tests/losses", "tests/training/test_carriers.py", "tests/training/test_processes.py"),
    "mlc/models": ("tests/models", "tests/evaluation", "tests/editing"),
    "mlc/editing": ("tests/editing",),
    "mlc/evaluation": ("tests/evaluation", "tests/editing"),
    "mlc/quality": ("tests/quality", "tests/tasks"),
    "mlc/training": ("tests/training",),
    "mlc/translation": ("tests/translation", "tests/tasks"),
    "mlc/report": ("tests/report",),
    "mlc/shapes": ("tests/tables", "tests/test_prompts_files.py", "tests/evaluation"),
    "mlc/tables": ("tests/tables", "tests/test_prompts_files.py", "tests/quality"),
    "mlc": ("tests/test_prompts_files.py", "tests/test_languages.py", "tests/test_devices.py", "tests/translation"),
    "tasks": ("tests/tasks", "tests/flows"),
}
"""The tests that can reach the code of a folder, the nearest first."""


@dataclass(frozen=True)
class Mutant:
    """One break of one line."""

    path: str
    line: int
    kind: str
    before: str
    after: str
    source: str
    """The whole module with the break."""

    @property
    def area(self) -> str:
        return area_of(self.path)


@dataclass(frozen=True)
class Verdict:
    """What a set of tests made of a mutant."""

    end: str
    """``caught``, ``survived``, or ``no end`` for one that has to be stopped, which is caught too."""
    seconds: float
    test: str
    """The test that failed."""


def area_of(path: str) -> str:
    """The longest folder of :data:`AREAS` that a file lies in."""
    return max((area for area in AREAS if path.startswith(f"{area}/")), key=len)


def computing_files() -> list[str]:
    """The project's modules whose code is in the keys of stages, chosen by name or not, as paths with slashes."""
    stages = [f"tasks.{path.stem}" for path in sorted((PROJECT / "tasks").glob("[!_]*.py"))]
    chosen = [kind.module(name) for kind in (CARRIERS, JUDGES, SIGNALS) for name in kind.places]
    closures = [module_closure(module) for module in (*stages, *chosen)]
    found = {name: path for closure in closures for name, path in closure.items() if not is_machinery(name)}
    return sorted(path.relative_to(PROJECT).as_posix() for path in found.values())


COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


def _compare(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return ast.Compare(node.left, [COMPARISONS[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    return None


def _calculate(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _is_text(node.left):
        return ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    return None


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _constant(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.Constant) or isinstance(node.value, str | bytes):
        return None
    if isinstance(node.value, bool):
        return ast.Constant(not node.value)
    if isinstance(node.value, int | float):
        return ast.Constant(node.value + 1 if isinstance(node.value, int) else node.value * 2 + 0.5)
    return None


def _boolean(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BoolOp):
        return ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        return _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    return None


def _returned(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        return ast.Return(ast.Constant(None))
    return None


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _deleted(node: ast.AST) -> ast.AST | None:
    changes = isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    return ast.Pass() if changes and not _tells(node) else None


def _with(node: ast.AST, **fields: object) -> ast.AST:
    return type(node)(**{**{name: getattr(node, name, None) for name in node._fields}, **fields})


def _tells(node: ast.AST) -> bool:
    """Whether a statement only tells something to people."""
    text = ast.unparse(node)
    return text.startswith(("logger.", "warnings."))


KINDS: dict[str, Callable[[ast.AST], ast.AST | None]] = {
    "comparison": _compare,
    "arithmetic": _calculate,
    "constant": _constant,
    "condition": _boolean,
    "return value": _returned,
    "deleted": _deleted,
}


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that compute: no annotation, message, decorator or field of a class of settings."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_aside(child):
                yield from _computing(child)


def _is_aside(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    return isinstance(node, ast.Expr) and (_is_text(node.value) or _tells(node))


@dataclass(frozen=True)
class Site:
    """A place where a module can be broken, and how."""

    path: str
    node: ast.AST
    kind: str
    broken: ast.AST

    def mutant(self, source: str) -> Mutant | None:
        """The break in the module's text; None where it cannot be written, or changes nothing."""
        before, after = ast.unparse(self.node), ast.unparse(ast.fix_missing_locations(self.broken))
        text = _replaced(source, self.node, after)
        if text is None or ast.dump(ast.parse(text)) == ast.dump(ast.parse(source)):
            return None
        return Mutant(self.path, self.node.lineno, self.kind, before, after, text)  # type: ignore[attr-defined]


def sites_of(path: str, source: str) -> list[Site]:
    """Every way to break a module once.

    Args:
        path: Its path in the project, with slashes.
        source: Its text.
    """
    tries = [
        (node, kind, change(node))
        for node in _computing(ast.parse(source))
        if hasattr(node, "lineno")
        for kind, change in KINDS.items()
    ]
    return [Site(path, node, kind, broken) for node, kind, broken in tries if broken is not None]


def _replaced(source: str, node: ast.AST, after: str) -> str | None:
    """The source with another text in the place of a node; None where that is no Python, as inside an f-string."""
    lines = source.encode().splitlines(keepends=True)
    first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
    head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset :]  # type: ignore[attr-defined]
    if isinstance(node, ast.expr):
        after = f"({after})"
    indented = after.replace("\n", "\n" + " " * node.col_offset)  # type: ignore[attr-defined]
    text = b"".join([*lines[:first], head, indented.encode(), tail, *lines[last + 1 :]]).decode()
    try:
        ast.parse(text)
    except SyntaxError:
        return None
    return text


def draw(count: int, seed: int, areas: Sequence[str]) -> list[Mutant]:
    """Draws breaks, the areas in turn and no line twice; within an area each break is as likely as any other."""
    generator = random.Random(seed)
    sources = {path: (PROJECT / path).read_text(encoding="utf-8") for path in computing_files()}
    pools = {
        area: [site for path, text in sources.items() if area_of(path) == area for site in sites_of(path, text)]
        for area in areas
    }
    for pool in pools.values():
        generator.shuffle(pool)
    drawn: list[Mutant] = []
    while len(drawn) < count and any(pools.values()):
        for area in areas:
            mutant = _next(pools[area], sources, {(one.path, one.line) for one in drawn})
            if mutant is not None and len(drawn) < count:
                drawn.append(mutant)
    return drawn


def _next(pool: list[Site], sources: dict[str, str], taken: set[tuple[str, int]]) -> Mutant | None:
    while pool:
        site = pool.pop()
        mutant = site.mutant(sources[site.path])
        if mutant is not None and (mutant.path, mutant.line) not in taken:
            return mutant
    return None


def copy_project(folder: Path) -> Path:
    """A copy to break, beside the same shared data."""
    place = folder / PROJECT.name
    place.mkdir()
    for name in COPIED:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, place / name)
    shared = PROJECT.parent / "shared"
    if shared.is_dir():
        (folder / "shared").symlink_to(shared.resolve())
    return place


@contextmanager
def testing(place: Path, folder: Path) -> Iterator[Forks]:
    """Gives what runs the tests of a copy, in processes that find the libraries loaded."""
    # Bytecode is told from its source by the second and the size, which a quick change may leave as they were.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with forks("pytest:console_main", LIBRARIES, environment=environment, project=place, folder=folder) as starting:
        yield starting


def judge(mutant: Mutant, place: Path, tests: Forks, *, full: bool) -> Verdict:
    """Runs the tests that can reach a mutant in the copy, and mends the copy again.

    Raises:
        UserError: No test ran, so that there is no verdict.
    """
    path = place / mutant.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(mutant.source, encoding="utf-8")
    reaching = [test for test in AREAS[mutant.area] if (place / test).exists()]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", *(["--full"] if full else [])]
    begun = time.monotonic()
    try:
        code, said, _ = tests.start(*options, *reaching, cwd=place).communicate(SECONDS)
        end = {0: "survived", 1: "caught", 2: "caught"}.get(code, "")
    except TimeoutError:
        said, end = "", "no end"
    finally:
        path.write_text(whole, encoding="utf-8")
    if not end:
        raise UserError(f"No verdict on {mutant.path}:{mutant.line}, because no tests ran: {said[-500:]}")
    failed = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return Verdict(end, time.monotonic() - begun, failed[0].split(" - ")[0].split(maxsplit=1)[-1] if failed else "")


def line_of(mutant: Mutant, verdicts: dict[str, Verdict]) -> str:
    """A row of the table, in Markdown."""
    told = " | ".join(verdicts[name].end if name in verdicts else "–" for name in ("default", "full"))
    change = f"`{_short(mutant.before)}` → `{_short(mutant.after)}`"
    return f"| {mutant.path}:{mutant.line} | {mutant.kind} | {change} | {told} |"


def _short(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= 60 else f"{text[:57]}..."


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws, judges and prints the table; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="mutants")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--tests", choices=["default", "full", "both"], default="default")
    parser.add_argument("--areas", nargs="+", choices=list(AREAS), default=list(AREAS), help="folders to break")
    parser.add_argument("--out", type=Path, help="a file for one line of JSON a mutant")
    options = parser.parse_args(arguments)
    rows = ["| line | kind | mutation | default | full |", "|---|---|---|---|---|"]
    counts: Counter[str] = Counter()
    drawn = draw(options.count, options.seed, options.areas)
    with tempfile.TemporaryDirectory() as folder:
        place = copy_project(Path(folder))
        with testing(place, Path(folder)) as tests:
            for mutant in drawn:
                verdicts = verdicts_on(mutant, place, tests, options.tests)
                rows.append(line_of(mutant, verdicts))
                counts.update(name for name, verdict in verdicts.items() if verdict.end != "survived")
                _tell(rows[-1], verdicts)
                if options.out:
                    _write(options.out, mutant, verdicts)
    print("\n".join(rows))
    for name in verdicts_of(options.tests):
        print(f"{name}: {counts[name]} of {len(drawn)} caught")


def verdicts_of(tests: str) -> tuple[str, ...]:
    """The sets of tests that ``--tests`` asks for."""
    return ("default", "full") if tests == "both" else (tests,)


def verdicts_on(mutant: Mutant, place: Path, tests: Forks, which: str) -> dict[str, Verdict]:
    """What each set of tests makes of a mutant."""
    found = {name: judge(mutant, place, tests, full=name == "full") for name in verdicts_of(which)[:1]}
    if which == "both":
        # The whole products hold the default cases: what these catch is caught.
        lives = found["default"].end == "survived"
        found["full"] = judge(mutant, place, tests, full=True) if lives else found["default"]
    return found


def _tell(row: str, verdicts: dict[str, Verdict]) -> None:
    last = list(verdicts.values())[-1]
    print(row, f"{last.seconds:.0f} s", last.test, file=sys.stderr, flush=True)


def _write(path: Path, mutant: Mutant, verdicts: dict[str, Verdict]) -> None:
    told = {name: vars(verdict) for name, verdict in verdicts.items()}
    change = {"before": mutant.before, "after": mutant.after}
    entry = {"path": mutant.path, "line": mutant.line, "kind": mutant.kind, **change, "verdicts": told}
    with path.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
