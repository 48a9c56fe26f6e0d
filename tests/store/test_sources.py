import importlib
import json
import pkgutil
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlc.store import sources

TREE = {
    "toy/__init__.py": '"""The package."""\n',
    "toy/stage.py": "from toy.direct import work\n\ndef f():\n    from toy.inner import late\n    return work(late)\n",
    "toy/direct.py": "import toy.deep\n\ndef work(x):\n    return toy.deep.factor * x\n",
    "toy/deep.py": "factor = 2\n",
    "toy/unrelated.py": "value = 1\n",
    "toy/inner/__init__.py": "",
    "toy/inner/late.py": '"""Docs."""\nfrom . import beside\nfrom ..relative import name\n\nlate = 1\n',
    "toy/inner/beside.py": "x = 1\n",
    "toy/inner/sql/query.sql": "SELECT 1\n",
    "toy/inner/notes.md": "notes\n",
    "toy/relative.py": "name = 'r'\n",
    "toy/apart/__init__.py": "",
    "toy/apart/other.py": "import toy.stage\n",
    "toy/apart/table.csv": "a,b\n",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "PROJECT_PACKAGES", ("toy",))
    yield tmp_path
    sources._root.cache_clear()
    sources._source_digests.cache_clear()
    sources._module_facts.cache_clear()


def digests(module="toy.stage"):
    sources._root.cache_clear()
    sources._source_digests.cache_clear()
    sources._module_facts.cache_clear()
    importlib.invalidate_caches()
    return sources.source_digests(module)


def test_the_closure_by_hand(tree):
    assert list(sources.module_closure("toy.stage")) == [
        "toy",
        "toy.deep",
        "toy.direct",
        "toy.inner",
        "toy.inner.beside",
        "toy.inner.late",
        "toy.relative",
        "toy.stage",
    ]
    assert "toy" not in sys.modules


def changed(tree, name, text):
    before = digests()
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(text)
    after = digests()
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("toy/deep.py", "# a comment\n\n\nfactor   =   2  # another\n"),
        ("toy/deep.py", '"""A docstring that was not there."""\n\nfactor = 2\n"""About the factor."""\n'),
        (
            "toy/inner/late.py",
            '"""Other docs."""\n\nfrom . import beside\nfrom ..relative import (\n    name,\n)\nlate=1',
        ),
        ("toy/direct.py", 'import toy.deep\ndef work(x):\n    """Docs."""\n    return toy.deep.factor*x\n'),
        ("toy/__init__.py", ""),
        ("toy/unrelated.py", "value = 2\n"),
        ("toy/apart/other.py", "import toy.deep\n"),
        ("toy/apart/table.csv", "a,b\n1,2\n"),
        ("toy/inner/notes.md", "other notes\n"),
        ("toy/inner/sql/query.sql", "-- What it is for.\n\nSELECT 1\n"),
        ("toy/_data/languages.csv", "code\n"),
        ("toy/__init__.py", "def __getattr__(name):\n    from toy.unrelated import value\n    return value\n"),
    ],
)
def test_what_does_not_change_the_digests(tree, name, text):
    assert changed(tree, name, text) == []


@pytest.mark.parametrize(
    ("name", "text", "digest"),
    [
        ("toy/stage.py", TREE["toy/stage.py"].replace("work(late)", "work(2)"), "toy/stage.py"),
        ("toy/direct.py", TREE["toy/direct.py"].replace("* x", "+ x"), "toy/direct.py"),
        ("toy/deep.py", "factor = 3\n", "toy/deep.py"),
        ("toy/inner/late.py", TREE["toy/inner/late.py"].replace("late = 1", "late = 2"), "toy/inner/late.py"),
        ("toy/inner/beside.py", "x = 2\n", "toy/inner/beside.py"),
        ("toy/relative.py", "name = 's'\n", "toy/relative.py"),
        ("toy/__init__.py", "setting = 1\n", "toy/__init__.py"),
        ("toy/inner/sql/query.sql", "SELECT 2\n", "toy/inner/sql/query.sql"),
    ],
)
def test_what_changes_exactly_one_digest(tree, name, text, digest):
    assert changed(tree, name, text) == [digest]


def test_a_new_import_brings_its_module(tree):
    text = TREE["toy/deep.py"] + "from toy import unrelated\n"
    assert changed(tree, "toy/deep.py", text) == ["toy/deep.py", "toy/unrelated.py"]


def test_a_new_resource_counts(tree):
    assert changed(tree, "toy/inner/sql/second.sql", "SELECT 3\n") == ["toy/inner/sql/second.sql"]


def test_a_ring_of_imports_ends(tree):
    (tree / "toy/deep.py").write_text("import toy.stage\nfactor = 2\n")
    assert "toy/stage.py" in digests("toy.deep")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("x = 1", "x = 1  # one", True),
        ("def f():\n    return 1", "def f():\n    'docs'\n    return 1", True),
        ("class A:\n    x = 1", "class A:\n    x = 1\n    'about x'", True),
        ("async def f():\n    return 1", 'async def f():\n    """Docs."""\n    return 1', True),
        ("x = 'a'", "x = 'b'", False),
        ("x = 1", "x = 1.0", False),
        ("x = 1\ny = 2", "y = 2\nx = 1", False),
        ("def f(a): return a", "def f(b): return b", False),
        ("f('text')", "f('other')", False),
        # The words of errors do not count; what an error carries does.
        ("raise ValueError(f'{x} is bad')", "raise ValueError(f'{x} is not good' + y)", True),
        ("raise ValueError('a') from None", "raise ValueError('a') from error", True),
        ("raise ValueError('a')", "raise TypeError('a')", False),
        ("raise Reached(states[0])", "raise Reached(states[1])", False),
        ("raise Reached('a', states=x)", "raise Reached('b', states=y)", False),
        ("fail(UserError('a'))", "fail(UserError('b'))", True),
        ("fail(a('a'))", "fail(a('b'))", False),
        # Nor does what people are told.
        ("x = 1", "logger.warning('%d rows', n)\nx = 1", True),
        ("x = 1", "import logging\nlogger = logging.getLogger(__name__)\nx = 1", True),
        ("x = 1", "import warnings\nwarnings.warn('old', stacklevel=2)\nx = 1", True),
        ("with warnings.catch_warnings(): f()", "with warnings.catch_warnings(record=True): f()", False),
        ("moved = run.display.bar('a', 3)", "moved = current_run().display.bar('b', 3)", True),
        ("x = 1", "from prefect.artifacts import create_table_artifact\ncreate_table_artifact(key='k')\nx = 1", True),
        ("x = 1", "from tasks.runtime.run import current_run\ncurrent_run().display.note('done')\nx = 1", True),
        ("x = 1", "import mlc.errors\nfrom mlc.store import ArtifactRef\nx = 1", True),
        ("x = 1", "import mlc.errors, mlc.tables\nx = 1", False),
        ("display = x.bar(1)", "display = x.bar(2)", False),
        ("x = 1", "__all__ = ['x']\nx = 1", True),
        ("@shows\ndef _tell(x): f(x)\n_tell(1)", "@shows\ndef _say(x): g(x)\n_say(2)", True),
        ("def _tell(x): f(x)\n_tell(1)", "def _tell(x): g(x)\n_tell(1)", False),
        ("@shows\ndef _tell(x): f(x)\ny._tell(1)", "@shows\ndef _tell(x): f(x)\ny._tell(2)", False),
        ("@stage_task('a', 'b')\ndef f(): g()", "@stage_task('a', 'c')\ndef f(): g()", True),
        (
            "def n(): return 1\n@stage_task('a', n)\ndef f(): g()",
            "def m(): return 2\n@stage_task('a', m)\ndef f(): g()",
            True,
        ),
        (
            "def n(): return 1\n@stage_task('a', n)\ndef f(): n()",
            "def n(): return 2\n@stage_task('a', n)\ndef f(): n()",
            False,
        ),
        # Imports for type checkers do not, what stands beside them does.
        ("x = 1", "if TYPE_CHECKING:\n    import a\nx = 1", True),
        ("x = 1", "if typing.TYPE_CHECKING:\n    import a\nx = 1", True),
        (
            "if TYPE_CHECKING:\n    import a\nelse:\n    a = 1",
            "if TYPE_CHECKING:\n    import a\nelse:\n    a = 2",
            False,
        ),
    ],
)
def test_code_digest(first, second, same):
    assert (sources.code_digest(first) == sources.code_digest(second)) == same


SETTINGS = """
LIMIT = 3
class A(Settings):
    x: int = 1
    y: ClassVar[int] = 1
    z = 1
    @field_validator("x")
    def _check(cls, x): return 1
    def wanted(self): return 1
class B:
    x: float = 1
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("x: int = 1", "x: int = 2", True),
        ("x: int = 1", "x: int = 1\n    new: int = 1", True),
        ("(cls, x): return 1", "(cls, x): return 2", True),
        ("(self): return 1", "(self): return 2", False),
        ("ClassVar[int] = 1", "ClassVar[int] = 2", False),
        ("z = 1", "z = 2", False),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("x: float = 1", "x: float = 2", False),
    ],
)
def test_settings_count_as_far_as_they_are_not_in_keys(old, new, same):
    changed = SETTINGS.replace(old, new)
    assert changed != SETTINGS
    assert (sources.code_digest(SETTINGS, settings=True) == sources.code_digest(changed, settings=True)) == same
    assert sources.code_digest(SETTINGS) != sources.code_digest(changed)


def test_the_digest_by_hand():
    # printf 'Module(body=[Assign(targets=[Name(id='"'"'x'"'"')],value=Constant(value=1))])' | sha256sum
    assert sources.code_digest("x = 1") == "390bc1c684c16641777162d7f9ba42f7dbb99eb7b66a470a27bc1f2992fc47bc"


# The project itself.


def test_facts_of_the_project():
    align = sources.module_closure("tasks.align") | sources.module_closure("mlc.training.carriers.sft")
    assert {"mlc.losses.consistency", "mlc.training.mixin", "mlc.models.states", "tasks.align"} <= align.keys()
    assert not any(name.startswith(("mlc.report", "mlc.evaluation.metrics", "flows")) for name in align)
    assert "mlc.losses.consistency" not in sources.module_closure("tasks.translate")


def test_digests_import_nothing():
    code = textwrap.dedent("""
        import sys
        before = set(sys.modules)
        from mlc.store.sources import source_digests
        light = set(sys.modules)
        for stage in ("ingest", "translate", "filter", "dataset", "align", "evaluate", "report"):
            assert len(source_digests(f"tasks.{stage}")) > 3, stage
        print(sorted({"torch", "transformers", "prefect", "mlflow", "duckdb", "numpy"} & set(sys.modules)))
        print(sorted(name for name in set(sys.modules) - light if name.startswith(("mlc.", "tasks."))))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_the_closure_holds_every_project_module_that_python_loads():
    import mlc

    some = [
        module.name
        for module in pkgutil.walk_packages(mlc.__path__, "mlc.", onerror=lambda _: None)
        if module.name.startswith(("mlc.store", "mlc.evaluation", "mlc.prompts", "mlc.languages"))
    ]
    code = textwrap.dedent("""
        import importlib, json, os, sys
        loaded = {}
        for name in json.loads(sys.argv[1]):
            child = os.fork()
            if child == 0:
                importlib.import_module(name)
                print(json.dumps([name, [m for m in sys.modules if m.split(".")[0] in ("mlc", "tasks")]]), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0, name
    """)
    # Once for all: each alone would load them for seconds.
    shared = "import duckdb, httpx, jinja2, matplotlib.figure, pyarrow.csv, pyarrow.parquet, torch, transformers\n"
    done = subprocess.run(
        [sys.executable, "-c", shared + code, json.dumps(some)], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _ in lines] == some
    for name, loaded in lines:
        assert set(loaded) <= sources.module_closure(name).keys(), name


def test_threads_may_ask_at_once(monkeypatch):
    """Building syntax trees in two threads at once is an error in CPython 3.11, though not each time."""
    real, alone, together = sources._read_module, threading.Lock(), []

    def read(content, path, package):
        if not alone.acquire(blocking=False):
            together.append(path.name)
            return real(content, path, package)
        time.sleep(0.002)  # the others get their turn
        try:
            return real(content, path, package)
        finally:
            alone.release()

    monkeypatch.setattr(sources, "_read_module", read)
    for known in (sources._known_code, sources._module_facts, sources._source_digests):
        known.cache_clear()
    modules = ["tasks.ingest", "tasks.register", "tasks.ingest", "tasks.register"]
    with ThreadPoolExecutor(len(modules)) as pool:
        digests = list(pool.map(sources.source_digests, modules))
    assert digests[:2] == digests[2:]
    assert together == []


# Code of one's own, named in a configuration.


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_judge.py").write_text("import json\nimport own_words\nfrom mlc.errors import UserError\n")
    (tmp_path / "own_words.py").write_text("words = 3\n")
    (tmp_path / "own_other.py").write_text("other = 1\n")
    (tmp_path / "own_data.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sources._root.cache_clear()
    sources._source_digests.cache_clear()


def test_own_code_counts_with_what_it_imports_beside_it(own):
    project = sources.source_digests("tasks.ingest")
    both = sources.source_digests("tasks.ingest", "own_judge")
    assert both.keys() - project.keys() == {"own_judge.py", "own_words.py"}
    assert both.items() >= project.items()
    assert "own_judge" not in sys.modules


# The rule of a signal is in the key of what decides, its measure in that of what measures.

SIGNAL = """
from mlc.quality.signals.signal import Column, {kind}Direction, Signal, Threshold

MEASURE = "{measure}"

OWN = Signal(
    name="own",
    source="{source}",
    priority={priority},
    columns=(Column("signal_own", Direction.HIGHER_IS_WORSE, "What it is.", 0),),
    measure=MEASURE,
    condition="signal_own > {limit}",
    thresholds=({threshold}),
)
"""
PLAIN = {"kind": "", "measure": "SELECT 1", "source": "Ours.", "priority": 5, "limit": "1", "threshold": ""}


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"measure": "SELECT 2"}, True),
        ({"source": "A paper."}, False),
        ({"priority": 6}, False),
        ({"limit": "limits.own"}, False),
        ({"threshold": "Threshold('own', Count, 1, 'Above.'),", "kind": "Count, "}, False),
    ],
)
def test_of_a_signal_only_its_measure_counts(change, counts):
    before, after = (sources.code_digest(SIGNAL.format(**{**PLAIN, **more})) for more in ({}, change))
    assert (before != after) == counts
