"""The digest of the project's own code that a stage runs.

A stage depends on every project module that its module imports, directly or not, at the top of the file or
inside a function. Comments, docstrings, blank lines and layout do not count; SQL, CSV and templates that lie
beside the modules do.
"""

import ast
import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT_PACKAGES = ("mlc", "tasks")
RESOURCE_SUFFIXES = (".sql", ".csv", ".json", ".j2", ".css")


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A module, all of its statements, and the clauses that hold statements; expressions hold none."""
    yield node
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        for child in getattr(node, name, ()):
            yield from _statements(child)


def _strip_docstrings(tree: ast.Module) -> ast.Module:
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                statement
                for statement in node.body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
    return tree


def code_digest(source: str) -> str:
    """SHA-256 of Python source without its comments, docstrings and layout."""
    return _tree_digest(ast.parse(source))


def _tree_digest(tree: ast.Module) -> str:
    return hashlib.sha256(ast.dump(_strip_docstrings(tree)).encode()).hexdigest()


def _imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            # `from package import module` imports a module as well.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_project_name(name: str) -> bool:
    return name.split(".")[0] in PROJECT_PACKAGES


@cache
def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent.parent


def _module_file(name: str) -> Path | None:
    """File of a module, found without importing it; None for a name that is no module."""
    place = _root(name.split(".")[0]).joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@cache
def _module_facts(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """Digest of a module's code, and the project names that it imports; stages have most of their modules in common."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = tuple(name for name in _imported_names(tree, package) if _is_project_name(name))
    return _tree_digest(tree), imported


def _package(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def module_closure(module: str) -> dict[str, Path]:
    """The project modules that ``module`` imports, itself included, with their files.

    Args:
        module: Dotted name of a project module.

    Returns:
        Module names, sorted, and their source files.
    """
    found: dict[str, Path] = {}
    waiting = list(_with_parents(module))
    while waiting:
        name = waiting.pop()
        path = _module_file(name) if name not in found else None
        if path is None:
            continue
        found[name] = path
        for imported in _module_facts(path, _package(name, path))[1]:
            waiting.extend(_with_parents(imported))
    return dict(sorted(found.items()))


def _resources(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in RESOURCE_SUFFIXES
    }


def _resource_folders(closure: dict[str, Path]) -> set[Path]:
    # Packages only: a resource belongs to the package in whose folder (or plain sub-folder) it lies.
    folders: set[Path] = set()
    for path in closure.values():
        folders.add(path.parent)
        folders.update(
            child for child in path.parent.iterdir() if child.is_dir() and not (child / "__init__.py").exists()
        )
    return folders


# CPython 3.11 raises SystemError when two threads build syntax trees at once, and stages ask from threads.
_parsing = threading.Lock()


def source_digests(module: str) -> dict[str, str]:
    """Digest per source file (module name or resource) of a module's closure; safe to call from threads.

    Returns:
        A mapping by file such as ``{"mlc/quality/filtering.py": "…", "mlc/quality/sql/decide.sql": "…"}``, with
        forward slashes on every system.
    """
    with _parsing:
        return _source_digests(module)


@cache
def _source_digests(module: str) -> dict[str, str]:
    closure = module_closure(module)
    root = _root(module.split(".")[0])
    digests = {
        path.relative_to(root).as_posix(): _module_facts(path, _package(name, path))[0]
        for name, path in closure.items()
    }
    for folder in sorted(_resource_folders(closure)):
        for name, digest in _resources(folder).items():
            digests[(folder / name).relative_to(root).as_posix()] = digest
    return digests
