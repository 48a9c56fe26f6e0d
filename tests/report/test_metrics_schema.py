import json
from importlib.resources import files

import pytest

from mlc.evaluation.comparison import Evaluations
from tasks.report import METRICS_SCHEMA, METRICS_VERSION, ReportFacts, _headline, _metrics
from tasks.runtime.settings import Roles

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "null": type(None)}
KNOWN = {
    "$schema", "title", "description", "$defs", "type", "required", "properties", "additionalProperties", "items",
    "const", "minimum", "$ref",
}  # fmt: skip


def problems(value, schema, root, where="$"):
    """What of a value is against a schema, for the words of JSON schema that ours uses."""
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        found = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        yield from problems(value, found, root, where)
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where} is not {schema['const']}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, TYPES[kind]) and not isinstance(value, bool) for kind in kinds):
        yield f"{where} is no {' or '.join(kinds)}"
        return
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        yield f"{where} is too small"
    if isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            yield from problems(item, schema["items"], root, f"{where}[{place}]")
    if isinstance(value, dict):
        yield from (f"{where} lacks {name}" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            if inner is False:
                yield f"{where} has {name}"
            else:
                yield from problems(item, inner, root, f"{where}.{name}")


@pytest.fixture(name="schema", scope="module")
def schema_fixture():
    return json.loads((files("mlc.report") / METRICS_SCHEMA).read_text(encoding="utf-8"))


@pytest.fixture(name="metrics", scope="module")
def metrics_fixture(make_data):
    data = make_data(("eng_Latn", "spa_Latn", "swh_Latn"), (0,))
    roles = Roles(candidate="consistency", baseline="english-only", base="base", trained=("spa_Latn",))
    facts = ReportFacts({}, ("spa_Latn",), (), roles, tuple(data.labels.items()))
    evaluations = Evaluations(data.results, labels=data.labels)
    return json.loads(json.dumps(_metrics(evaluations, data.results, _headline(evaluations, facts)), allow_nan=False))


def test_metrics_keep_their_schema(metrics, schema):
    assert list(problems(metrics, schema, schema)) == []
    assert "consistency_minus_english_only" in metrics
    assert schema["properties"]["version"]["const"] == METRICS_VERSION


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("evaluations", 0, "language"), None),
        (("evaluations", 0, "auroc", "n"), -1),
        (("models", "base", "english", "auroc", "value"), "high"),
        (("over_languages", "base", "auroc", "more"), 1),
        (("consistency_minus_english_only", "auroc"), 0.5),
    ],
)
def test_the_schema_refuses_what_is_wrong(metrics, schema, path, value):
    changed = json.loads(json.dumps(metrics))
    *outer, last = path
    inner = changed
    for name in outer:
        inner = inner[name]
    inner[last] = value
    assert len(list(problems(changed, schema, schema))) == 1


def test_every_part_is_demanded(metrics, schema):
    for name in schema["required"]:
        assert f"$ lacks {name}" in problems({key: metrics[key] for key in metrics if key != name}, schema, schema)
