"""The digest of the project's own code that computes what a stage writes.

A stage depends on every project module that its module imports, directly or not, at the top of the file or
inside a function. Of these, what computes counts, and nothing else:

- comments, docstrings, blank lines, layout, ``__all__`` and imports for type checkers do not;
- nor does what people are told: the words of errors, log lines and warnings, progress bars, notes and Prefect's
  artifacts, the names of task runs, and functions that are marked with :func:`tasks.runtime.stage.shows`;
- machinery (:data:`MACHINERY`) is followed to what it imports, but does not count itself: it serves and stores what
  others compute;
- of a class of settings in a module ``settings``, the fields and their checks do not count, because the values are in
  the key; its other methods do;
- of a quality signal, its rule does not count (:data:`DECIDING`), because it is in the key of what decides;
- what is chosen by name counts where a stage names its module, be it the project's or anybody's own
  (:mod:`mlc.catalogue`);
- SQL, CSV and templates that lie beside the modules do.
"""

import ast
import hashlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mlc.packages import ROOTS
from mlc.store.known_code import Facts, KnownCode

PROJECT_PACKAGES = ("mlc", "tasks")
MACHINERY = (
    "mlc.catalogue",
    "mlc.chat",
    "mlc.choices",
    "mlc.errors",
    "mlc.evaluation.choosing",
    "mlc.extras",
    "mlc.left_out",
    "mlc.packages",
    "mlc.pipeline",
    "mlc.settings",
    "mlc.shipped",
    "mlc.stopping",
    "mlc.store",
    "mlc.training.launch",
    "mlc.training.launched",
    "mlc.urls",
    "tasks.runtime",
)
"""Packages and modules that compute nothing that a stage writes."""
APART = ("tasks.runtime.settings",)
"""Machinery that is not even followed: it names the settings of every stage."""
DECIDING = ("priority", "condition", "thresholds", "source")
"""What a declaration of :class:`mlc.quality.signals.signal.Signal` says beside how it is measured."""
_DECLARED = ("Rule", "Signal")
_DECLARATIONS = "mlc.quality.signals.signal"
RESOURCE_SUFFIXES = (".sql", ".csv", ".json", ".j2", ".css")
_TELLING_PACKAGES = ("logging", "prefect", "warnings")
_TELLING = {
    "logger": {"debug", "info", "warning", "error", "exception", "critical"},
    "warnings": {"warn"},
    "display": {"started", "bar", "note"},
}
"""Methods that tell people something, by the name of what they belong to."""
_SHOWING = "shows"
_NAMING = "stage_task"
"""Decorator that names a task and its runs."""


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A module, all of its statements, and the clauses that hold statements; expressions hold none."""
    yield node
    clauses = ("orelse",) if _is_for_type_checkers(node) else ("body", "orelse", "handlers", "finalbody", "cases")
    for name in clauses:
        for child in getattr(node, name, ()):
            yield from _statements(child)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and _name_of(node.test) == "TYPE_CHECKING"


def code_digest(source: str, *, settings: bool = False) -> str:
    """SHA-256 of what computes in Python source; the same for every version of Python that reads it alike.

    Args:
        source: The text of a module.
        settings: Whether it is a module of settings, whose fields and checks do not count.
    """
    return _tree_digest(ast.parse(source), settings=settings)


def _tree_digest(tree: ast.Module, *, settings: bool) -> str:
    return hashlib.sha256(_dump(_Computing(tree, settings).visit(tree)).encode()).hexdigest()


def _dump(node: Any) -> str:
    """A tree as text, without what is empty: later versions of Python have more fields than earlier ones."""
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if name != "ctx")
    inner = ",".join(f"{name}={_dump(value)}" for name, value in fields if value is not None and value != [])
    return f"{type(node).__name__}({inner})"


class _Computing(ast.NodeTransformer):
    """Leaves of a module what computes."""

    def __init__(self, tree: ast.Module, settings: bool) -> None:
        self.settings = settings
        self.showing = set(_showing(tree))

    def visit(self, node: ast.AST) -> Any:
        """Takes out what does not compute; wherever statements stand."""
        if isinstance(node, ast.If) and _is_for_type_checkers(node):
            return [kept for line in node.orelse if (kept := self.visit(line)) is not None]
        if isinstance(node, ast.stmt) and (_is_no_work(node) or self._shows(node)):
            return None
        if isinstance(node, ast.Import):
            node.names = [alias for alias in node.names if not _only_serves(alias.name)]
            return node if node.names else None
        if isinstance(node, ast.Call) and _tells(node):
            return ast.Constant(None)
        if isinstance(node, ast.Call) and _name_of(node.func).endswith("Error"):
            _take_words_out(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _DECLARED:
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in DECIDING]
        if isinstance(node, ast.ImportFrom) and node.module == _DECLARATIONS:
            # Types of thresholds come and go with them.
            return None
        if isinstance(node, ast.Raise):
            node.cause = None
            if isinstance(node.exc, ast.Call):
                _take_words_out(node.exc)
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [line for line in node.decorator_list if _name_of(line) != _NAMING]
        if isinstance(node, ast.ClassDef) and self.settings and _holds_settings(node):
            node.body = [line for line in node.body if not _is_in_keys(line)]
        return self.generic_visit(node)

    def _shows(self, line: ast.stmt) -> bool:
        """Whether a statement is a function that only shows something, or its call."""
        if isinstance(line, ast.FunctionDef):
            return line.name in self.showing
        call = line.value.func if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call) else None
        return isinstance(call, ast.Name) and call.id in self.showing


def _showing(tree: ast.Module) -> Iterator[str]:
    """The functions of a module that are marked as showing, or do nothing but name the runs of a task."""
    naming: set[str] = set()
    for function in (line for line in tree.body if isinstance(line, ast.FunctionDef)):
        for decorator in function.decorator_list:
            if _name_of(decorator) == _SHOWING:
                yield function.name
            if _name_of(decorator) == _NAMING:
                naming |= {node.id for node in ast.walk(decorator) if isinstance(node, ast.Name)} - {_NAMING}
    uses = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    yield from (name for name in naming if uses.count(name) == 1)


def _is_no_work(line: ast.stmt) -> bool:
    """A statement without a part in what a module computes."""
    if isinstance(line, ast.Expr):  # a docstring or another text that no one reads, or a call that tells something
        return _is_words(line.value) or (isinstance(line.value, ast.Call) and _tells(line.value))
    if isinstance(line, ast.ImportFrom):
        return not line.level and _only_serves(line.module or "")
    if isinstance(line, ast.Assign):
        return _name_of(line.targets[0]) == "__all__" or _name_of(line.value) == "getLogger"
    return False


def _only_serves(module: str) -> bool:
    return is_machinery(module) or module.split(".")[0] in _TELLING_PACKAGES


def _name_of(node: ast.AST) -> str:
    """Last name of a variable, an attribute, or of what is called or indexed; empty for anything else."""
    if isinstance(node, ast.Call):
        return _name_of(node.func)
    if isinstance(node, ast.Subscript):
        return _name_of(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _holds_settings(node: ast.ClassDef) -> bool:
    return any(_name_of(base).endswith("Settings") for base in node.bases)


def _is_in_keys(line: ast.stmt) -> bool:
    """A field of settings, or a check of pydantic's: the value that it lets through is in the key."""
    if isinstance(line, ast.AnnAssign):
        return _name_of(line.annotation) != "ClassVar"
    return isinstance(line, ast.FunctionDef) and any(
        _name_of(decorator).endswith("_validator") for decorator in line.decorator_list
    )


def _tells(call: ast.Call) -> bool:
    """Whether a call tells people something, and gives back nothing but the means to tell more."""
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr in _TELLING.get(_name_of(function.value), ())
    name = _name_of(function)
    return name.startswith("create_") and name.endswith("_artifact")


def _take_words_out(error: ast.Call) -> None:
    """Leaves of an error what code may read: what it carries may be the result."""
    error.args = [each for each in error.args if not _is_words(each)]


def _is_words(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_words(node.left) or _is_words(node.right)
    if isinstance(node, ast.IfExp):
        return _is_words(node.body) and _is_words(node.orelse)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _is_words(node.func.value)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


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
    if package in ROOTS:
        return ROOTS[package]
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
def _module_facts(path: Path, package: str) -> Facts:
    """Digest of a module's code, and the names that it imports; stages have most of their modules in common."""
    content = path.read_bytes()
    decides = hashlib.sha256(b"\0".join((content, package.encode(), path.stem.encode()))).hexdigest()
    known = _known_code().get(decides)
    if known is None:
        known = _read_module(content, path, package)
        _known_code().put(decides, known)
    return known


_kept_in: Path | None = None


def keep_known_code(folder: Path) -> None:
    """Lets this process read, and leave for others, what is known of source files.

    Args:
        folder: Of the user; it need not be there.
    """
    global _kept_in
    _kept_in = folder
    _known_code.cache_clear()


@cache
def _known_code() -> KnownCode:
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return KnownCode(f"{own} {sys.implementation.cache_tag}", _kept_in)


def _read_module(content: bytes, path: Path, package: str) -> Facts:
    tree = ast.parse(content.decode("utf-8"))
    if path.name == "__init__.py":
        # A package that loads its names late: who computes with one of them imports it from its own module.
        tree.body = [
            line for line in tree.body if not (isinstance(line, ast.FunctionDef) and line.name == "__getattr__")
        ]
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
    return {path.name: _resource_digest(path) for path in sorted(folder.iterdir()) if path.suffix in RESOURCE_SUFFIXES}


def _resource_digest(path: Path) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    if path.suffix == ".sql":
        # Comments, where they have lines of their own.
        lines = [line for line in lines if line.strip() and not line.lstrip().startswith(b"--")]
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _resource_folders(closure: dict[str, Path]) -> set[Path]:
    # Packages only: a resource belongs to the package in whose folder (or plain sub-folder) it lies.
    folders: set[Path] = set()
    for path in closure.values():
        if not (path.parent / "__init__.py").is_file():
            continue
        folders.add(path.parent)
        folders.update(child for child in path.parent.iterdir() if _holds_resources(child))
    return folders


def _holds_resources(folder: Path) -> bool:
    # A wheel has the shipped data in `mlc/_data`; that enters keys as input, in a checkout and in a wheel alike.
    return folder.is_dir() and not folder.name.startswith("_") and not (folder / "__init__.py").exists()


# CPython 3.11 raises SystemError when two threads build syntax trees at once, and stages ask from threads.
_parsing = threading.Lock()


def source_digests(*modules: str) -> dict[str, str]:
    """Digest per source file (module name or resource) of the closures of modules; safe to call from threads.

    Returns:
        A mapping by file such as ``{"mlc/quality/filtering.py": "…", "mlc/quality/measuring/batch.sql": "…"}``, with
        forward slashes on every system.
    """
    with _parsing:
        found = {file: digest for module in modules for file, digest in _source_digests(module).items()}
        _known_code().save()
        return found


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
