"""Writes ``docs/configuration.md`` from the configuration models: ``python -m tests.docs.make_configuration``."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.configuration.files import PATH_KEYS
from flows.configuration.pipeline import PipelineConfig
from flows.places import shipped_configs
from mlc.quality.settings import ThresholdOverrides
from mlc.training.settings import FORM_DEFAULTS, ConsistencyConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

<!-- Made by `python -m tests.docs.make_configuration` from the configuration models. Change those, not this page. -->

A configuration is a YAML file, or one of the shipped names: {shipped}.
The shipped files are in `flows/configs/`.

- `mlc run FILE --set align.steps=12 --set seeds=[0,1]` changes keys for one run. Values are read as YAML.
- `--languages es,fr` replaces the languages; `--languages +hin,-fr` adds and takes away.
- A language may be written as an NLLB code (`swh_Latn`), a tag (`sw`) or a name (`swahili`).
- An unknown key, or a value that is not allowed, is an error that names the key. Exit code 2.
- `mlc plan FILE` shows what a run would do with it.

These keys may name files: {paths}.
In a YAML file of your own, a relative path starts from the folder of that file if something is there, else from the
current folder. `shipped:NAME` means `data/NAME` of the project. `workspace` always starts from the current folder.
"""

BY_FORM = """\
`FORM_DEFAULTS`, for keys that are left out. A key that is written overrides only itself.

| form | {columns} |
|---|{rules}|
{rows}
"""

OVERRIDES = """\
`quality.scripts`, `quality.languages` and `quality.pairs` map a script or group of scripts, a target language, and a
pair of languages to thresholds that replace those of `quality.default`; the most specific one counts:

```yaml
quality:
  scripts:
    cjk: {{length_z: 3.5}}
  languages:
    sw: {{script_share: 0.8, length_z: 3.0}}
  pairs:
    en-sw: {{length_z: 2.5}}
```

The keys are those of `quality.default`: {keys}.
"""


def make_page() -> str:
    """The whole page."""
    shipped = ", ".join(f"`{name}`" for name in shipped_configs())
    paths = ", ".join(f"`{'.'.join(key)}`" for key in PATH_KEYS)
    parts = [INTRODUCTION.format(shipped=shipped, paths=paths)]
    for prefix, model in _sections(PipelineConfig):
        parts.append(_section(prefix, model))
        if model is ConsistencyConfig:
            parts.append(_by_form())
        if prefix == "quality":
            parts.append(OVERRIDES.format(keys=", ".join(f"`{name}`" for name in ThresholdOverrides.model_fields)))
    return "\n".join(parts)


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield prefix, model
    for name, field in model.model_fields.items():
        below = f"{prefix}.{name}" if prefix else name
        if _is_section(field):
            yield from _sections(field.annotation, below)
        elif optional := _optional(field.annotation):
            yield from _sections(optional, below)
        elif item := _item(field.annotation):
            yield from _sections(item, f"{below}[]")


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _optional(annotation: Any) -> type[BaseModel] | None:
    """The section of a key that may also be null."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _item(annotation: Any) -> type[BaseModel] | None:
    """What a list is of, where that has keys of its own."""
    inner = get_args(annotation)
    described = get_origin(annotation) is tuple and isinstance(inner[0], type) and issubclass(inner[0], BaseModel)
    return inner[0] if described else None


def _section(prefix: str, model: type[BaseModel]) -> str:
    title = f"## `{prefix}`" if prefix else "## Top level"
    lines = [title, "", _prose(model.__doc__ or ""), "", "| key | default | allowed | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if _is_section(field):
            lines.append(f"| `{name}` | | section | See below. |")
        else:
            cells = (f"`{name}`", _default(model, name, field), _allowed(field), _prose(field.description or ""))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "by form" if model is ConsistencyConfig and name in FORM_DEFAULTS["cosine"] else "**required**"
    return f"`{_plain(field.get_default(call_default_factory=True))}`"


def _plain(value: Any) -> str:
    """A value as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_plain(item) for item in value)}]"
    if isinstance(value, str) and re.search(r"[\s,']", value):
        return f'"{value}"'
    if isinstance(value, float):
        # YAML takes 5e-05 for a text and 5.0e-05 for a number.
        return re.sub(r"^(\d+)e", r"\1.0e", repr(value))
    return str(value)


def _allowed(field: FieldInfo) -> str:
    limits = [text for item in field.metadata if (text := _limit(item))]
    return ", ".join([_kind(field.annotation), *limits])


def _kind(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [text for item in inner[1:] for text in _limits(item)]
        return ", ".join([_kind(inner[0]), *limits])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin in (Union, UnionType):
        return " or ".join(_kind(choice) for choice in inner)
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mappings, see below"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", NoneType: "null"}
    return names[annotation]


def _limits(item: Any) -> list[str]:
    inner = item.metadata if isinstance(item, FieldInfo) else [item]
    return [text for one in inner if (text := _limit(one))]


def _limit(item: Any) -> str:
    match item:
        case Ge(ge=bound):
            return f"≥ {bound}"
        case Gt(gt=bound):
            return f"> {bound}"
        case Le(le=bound):
            return f"≤ {bound}"
        case Lt(lt=bound):
            return f"< {bound}"
        case MinLen(min_length=bound):
            return f"at least {bound} long"
    return ""


def _prose(text: str) -> str:
    """A docstring on one line, in Markdown."""
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text).replace("``", "`")
    return " ".join(text.split())


def _by_form() -> str:
    columns = list(FORM_DEFAULTS["cosine"])
    rows = [
        f"| `{form}` | " + " | ".join(f"`{_plain(values[column])}`" for column in columns) + " |"
        for form, values in FORM_DEFAULTS.items()
    ]
    return BY_FORM.format(
        columns=" | ".join(f"`{column}`" for column in columns),
        rules="|".join("---" for _ in columns),
        rows="\n".join(rows),
    )


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
