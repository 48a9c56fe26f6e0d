"""YAML that people write, read strictly: a key stands once, and small files stay small.

A date and a time of day are texts, 010 is no eight, and 1e-3 is a number, as in YAML 1.2.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mlc.errors import UserError

LONGEST = 1 << 20
"""Characters, or bytes."""
MOST_VALUES = 100_000
"""Values that a text may unfold to, each use of an anchor counted."""
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)",
    "tag:yaml.org,2002:float": r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
}
"""Patterns in place of those of YAML 1.1, where 1:30 is ninety and 010 is eight."""


class YamlProblem(ValueError):
    """What is wrong with a text, in words that go on after its name: ``is not valid YAML at line 3``."""


def read_mapping(path: Path, told: str, holds: str) -> dict[str, Any]:
    """The plain values of a YAML file that people write.

    Args:
        path: The file.
        told: What it is called, at the beginning of a sentence.
        holds: What it should be a mapping of, for the error.

    Raises:
        UserError: It cannot be read, is wrong, or is no mapping.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            values = parse_yaml(handle.read(LONGEST + 1))
    except YamlProblem as problem:
        raise UserError(f"{told} {problem}: correct it.") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{told} holds a byte that is not UTF-8 ({error.object[error.start]:#04x}): save it as UTF-8."
        ) from None
    except OSError as error:
        raise UserError(f"{told} cannot be read ({error}): check the file.") from None
    if not isinstance(values, dict):
        raise UserError(f"{told} is not a mapping {holds}: see the shipped ones.")
    return values


def parse_yaml(text: str | bytes) -> Any:
    """The plain values of a YAML text.

    Raises:
        YamlProblem: It is not valid, names a key twice, or unfolds to too much.
    """
    if len(text) > LONGEST:
        raise YamlProblem(f"is longer than {LONGEST} characters")
    try:
        return yaml.load(text, Loader=_Strict)
    except YamlProblem:
        raise
    except yaml.composer.ComposerError as error:
        mark = getattr(error, "problem_mark", None)
        several = error.context is not None and "single document" in error.context
        what = "holds two documents or more, the second" if several else "is not valid YAML"
        raise YamlProblem(f"{what}{f' at line {mark.line + 1}' if mark else ''}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise YamlProblem(f"is not valid YAML{f' at line {mark.line + 1}' if mark else ''}") from None
    except RecursionError:
        raise YamlProblem("is nested too deeply") from None
    except (ValueError, OverflowError):
        raise YamlProblem("is not valid YAML: it has a number or a date that cannot be read") from None


class _Strict(yaml.SafeLoader):
    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for name, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(name, deep=True) if name.tag != _MERGE else None
            if isinstance(key, str | int | float) and key in seen:
                raise YamlProblem(f"names the key {str(key)[:40]!r} twice, at line {name.start_mark.line + 1}")
            seen.add(key if isinstance(key, Hashable) else None)
        return super().construct_mapping(node, deep=deep)


_Strict.yaml_implicit_resolvers = {
    first: [
        (tag, re.compile(f"^(?:{_NUMBERS[tag]})$") if tag in _NUMBERS else pattern)
        for tag, pattern in resolvers
        if tag != _TIMESTAMP
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values that a node unfolds to."""
    if id(node) not in known:
        # Until it is counted: a node inside itself has no end.
        known[id(node)] = MOST_VALUES
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_count(each, known) for each in inner)
    if known[id(node)] > MOST_VALUES:
        raise YamlProblem(f"unfolds to more than {MOST_VALUES} values")
    return known[id(node)]
