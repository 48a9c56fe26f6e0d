"""The methods: one file each. Flow, plan, gate, report and registry read what they declare, and name none.

The mapping of them is :data:`mlc.catalogue.METHODS`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mlc.catalogue import METHODS
from mlc.errors import UserError
from mlc.methods.controls import PERMUTED, with_permuted_labels
from mlc.methods.gate import SUFFIX, gated
from mlc.methods.method import BASE, BASE_LABEL, CHAMPION, Method, Need, Recipe
from mlc.methods.sound import require_sound

__all__ = ["BASE", "BASE_LABEL", "CHAMPION", "Method", "Need", "Recipe", "in_order", "resolve_method", "sections_read"]


def resolve_method(name: str) -> Method:
    """The method that a configuration names.

    Args:
        name: A name of :data:`mlc.catalogue.METHODS`, such a name with ``+gate`` for that method behind a gate or with
            ``+gate-permuted-labels`` for the control of that, or ``module:object`` for one of your own.

    Raises:
        UserError: There is no such method.
    """
    if name.endswith(SUFFIX) and name not in METHODS.places:
        return gated(resolve_gateable(name.removesuffix(SUFFIX)))
    if name.endswith(SUFFIX + PERMUTED) and name not in METHODS.places:
        return with_permuted_labels(resolve_method(name.removesuffix(PERMUTED)))
    if name == BASE:
        raise UserError(
            "The policy as it is, 'base', is measured in every run and is no method: leave it out of the models."
        )
    found: Method = METHODS.load(name)
    if name not in METHODS.places and found.name in (*METHODS.places, BASE, CHAMPION):
        raise UserError(f"The method {name!r} calls itself {found.name!r}, which is taken: give it another name.")
    if name not in METHODS.places:
        require_sound(found, name)
        if ":" in found.baseline:
            found = replace(found, baseline=resolve_method(found.baseline).name)
    return found


def resolve_gateable(name: str) -> Method:
    """The method of a name, if its models can have a gate before them.

    Raises:
        UserError: There is no such method, it is not in the catalogue, or it has a gate already.
    """
    method = resolve_method(name)
    if name not in METHODS.places or method.recipe == "gate":
        why = "has a gate already" if method.recipe == "gate" else "is not in the catalogue"
        raise UserError(f"The method {name!r} {why}, so that no gate can be put before it: take it without {SUFFIX}.")
    return method


def sections_read(methods: Iterable[Method]) -> frozenset[str]:
    """The sections of the configuration that decide the models of some methods."""
    return frozenset(section for method in methods for section in method.reads)


def in_order(names: Sequence[str]) -> tuple[Method, ...]:
    """The methods that must be made for those that are named: each after the one whose model it starts from.

    Raises:
        UserError: A name is unknown, or methods start from each other in a circle.
    """
    made: dict[str, Method] = {}

    def make(name: str, waiting: tuple[str, ...]) -> None:
        method = resolve_method(name)
        if method.name in waiting:
            raise UserError(f"The methods {', '.join(waiting)} start from each other: one must start from {BASE!r}.")
        if method.start != BASE:
            make(method.start, (*waiting, method.name))
        start = BASE if method.start == BASE else resolve_method(method.start).name
        made.setdefault(method.name, replace(method, start=start))

    for name in names:
        make(name, ())
    return tuple(made.values())
