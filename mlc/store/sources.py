"""The digest of the project's own code that computes what a stage writes.

A stage depends on every project module that its module imports, directly or not, at the top of the file or
inside a function. Of these, what computes counts, and nothing else:

- comments, docstrings, blank lines, layout and imports for type checkers do not;
- nor does what an error or a warning says;
- machinery (:data:`MACHINERY`) is followed to what it imports, but does not count itself: it serves and stores what
  others compute;
- of a module ``settings``, the fields and their checks do not count, because the values are in the key; its other
  methods do;
- of a quality signal, its rule does not count (:data:`DECIDING`), because it is in the key of what decides;
- what is chosen by name counts where a stage names its module, be it the project's or anybody's own
  (:mod:`mlc.catalogue`);
- SQL, CSV and templates that lie beside the modules do.
"""

import ast
import hashlib
import importlib.util
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PROJECT_PACKAGES = ("mlc", "tasks")
MACHINERY = ("mlc.catalogue", "mlc.errors", "mlc.settings", "mlc.store", "tasks.runtime")
"""Packages and modules that compute nothing that a stage writes."""
APART = ("tasks.runtime.settings",)
"""Machinery that is not even followed: it names the settings of every stage."""
DECIDING = ("priority", "condition", "thresholds", "source")
"""What a declaration of :class:`mlc.quality.signals.signal.Signal` says beside how it is measured."""
_DECLARED = ("Rule", "Signal")
_DECLARATIONS = "mlc.quality.signals.signal"
_TELLING = ("logger", "warnings")
RESOURCE_SUFFIXES = (".sql", ".csv", ".json", ".j2", ".css")


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A module, all of its statements, and the clauses that hold statements; expressions hold none."""
    yield node
    if _is_for_type_checkers(node):
        return
    for name in ("body", "orelse", "handlers", "finalbody", "cases"):
        for child in getattr(node, name, ()):
            yield from _statements(child)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def code_digest(source: str, *, settings: bool = False) -> str:
    """SHA-256 of what computes in Python source.

    Args:
        source: The text of a module.
        settings: Whether it is a module of settings, whose fields and checks do not count.
    """
    return _tree_digest(ast.parse(source), settings=settings)


def _tree_digest(tree: ast.Module, *, settings: bool) -> str:
    return hashlib.sha256(ast.dump(_Computing(settings).visit(tree)).encode()).hexdigest()


class _Computing(ast.NodeTransformer):
    """Leaves of a module what computes."""

    def __init__(self, settings: bool) -> None:
        self.settings = settings

    def visit(self, node: ast.AST) -> Any:
        """Takes out what does not compute; wherever statements stand."""
        if _is_for_type_checkers(node) or _is_text_alone(node):
            return None
        if self.settings and _is_checked_elsewhere(node):
            return None
        if isinstance(node, ast.Call) and _tells(node):
            return ast.Constant(None)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _DECLARED:
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in DECIDING]
        if isinstance(node, ast.ImportFrom) and node.module == _DECLARATIONS:
            # Types of thresholds come and go with them.
            return None
        if isinstance(node, ast.Raise):
            return ast.Raise(exc=_kind_of_error(node.exc), cause=None)
        if isinstance(node, ast.ClassDef) and self.settings:
            node.body = [line for line in node.body if not isinstance(line, ast.AnnAssign)]
        return self.generic_visit(node)


def _is_text_alone(node: ast.AST) -> bool:
    """A docstring, or another text that no one reads."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_checked_elsewhere(node: ast.AST) -> bool:
    """A check of pydantic's: what it lets through is in the key."""
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id.endswith("_validator")
        for call in node.decorator_list
    )


def _tells(call: ast.Call) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in _TELLING
    )


def _kind_of_error(error: ast.expr | None) -> ast.expr | None:
    """The error without its words."""
    return error.func if isinstance(error, ast.Call) else error


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


def is_machinery(name: str) -> bool:
    """Whether a module only serves and stores what others compute."""
    return any(name == part or name.startswith(f"{part}.") for part in MACHINERY)


def _is_project_name(name: str, own: Path | None) -> bool:
    top = name.split(".")[0]
    return top in PROJECT_PACKAGES or (own is not None and _file_in(own, top) is not None)


def _own_root(module: str) -> Path | None:
    """The folder of a module that is not the project's, whose neighbours count as well; None for the project's."""
    top = module.split(".")[0]
    return None if top in PROJECT_PACKAGES else _root(top)


@cache
def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    folder = Path(spec.origin).parent
    return folder if spec.submodule_search_locations is None else folder.parent


def _file_in(root: Path, name: str) -> Path | None:
    place = root.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def _module_file(name: str, own: Path | None) -> Path | None:
    """File of a module, found without importing it; None for a name that is no module."""
    top = name.split(".")[0]
    return _file_in(_root(top) if own is None or top in PROJECT_PACKAGES else own, name)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


@cache
def _module_facts(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """Digest of a module's code, and the names that it imports; stages have most of their modules in common."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # Before the digest, which takes the tree apart.
    imported = tuple(_imported_names(tree, package))
    return _tree_digest(tree, settings=path.stem == "settings"), imported


def _package(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def module_closure(module: str) -> dict[str, Path]:
    """The project modules that ``module`` imports, itself included, with their files.

    Args:
        module: Dotted name of a project module, or of another one; modules that lie beside that one count too.

    Returns:
        Module names, sorted, and their source files.
    """
    found: dict[str, Path] = {}
    own = _own_root(module)
    waiting = list(_with_parents(module))
    while waiting:
        name = waiting.pop()
        path = _module_file(name, own) if name not in found else None
        if path is None or name in APART:
            continue
        found[name] = path
        for imported in _module_facts(path, _package(name, path))[1]:
            if _is_project_name(imported, own):
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
        if not (path.parent / "__init__.py").is_file():
            continue
        folders.add(path.parent)
        folders.update(
            child for child in path.parent.iterdir() if child.is_dir() and not (child / "__init__.py").exists()
        )
    return folders


# CPython 3.11 raises SystemError when two threads build syntax trees at once, and stages ask from threads.
_parsing = threading.Lock()


def source_digests(*modules: str) -> dict[str, str]:
    """Digest per source file (module name or resource) of the closures of modules; safe to call from threads.

    Returns:
        A mapping by file such as ``{"mlc/quality/filtering.py": "…", "mlc/quality/measuring/batch.sql": "…"}``, with
        forward slashes on every system.
    """
    with _parsing:
        return {file: digest for module in modules for file, digest in _source_digests(module).items()}


@cache
def _source_digests(module: str) -> dict[str, str]:
    closure = {name: path for name, path in module_closure(module).items() if not is_machinery(name)}
    # The deepest first, for a module of one's own that lies inside the project's folder.
    roots = sorted({_root(name.split(".")[0]) for name in (*PROJECT_PACKAGES, module)}, reverse=True)

    def named(path: Path) -> str:
        return next(path.relative_to(root).as_posix() for root in roots if path.is_relative_to(root))

    digests = {named(path): _module_facts(path, _package(name, path))[0] for name, path in closure.items()}
    for folder in sorted(_resource_folders(closure)):
        for name, digest in _resources(folder).items():
            digests[named(folder / name)] = digest
    return digests
