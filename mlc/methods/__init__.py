"""The methods: one file each, and the mapping of them. Flow, plan, gate, report and registry read it and name none.

A new method is a file here and a line in :data:`METHODS`; one of your own is named in a configuration by the place of
its object, such as ``models: [english-only, my_package.my_module:MY_METHOD]``.
"""

from collections.abc import Mapping, Sequence

from mlc.errors import UserError
from mlc.methods.consistency import CONSISTENCY, SHUFFLED, SHUFFLED_WITHIN_CLASS
from mlc.methods.edit import CONSISTENCY_EDIT, EDIT, POLICY_EDIT
from mlc.methods.english_only import ENGLISH_ONLY
from mlc.methods.method import BASE, BASE_LABEL, Method, Need, Recipe
from mlc.own import resolve_own

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (ENGLISH_ONLY, CONSISTENCY, SHUFFLED, SHUFFLED_WITHIN_CLASS, EDIT, POLICY_EDIT, CONSISTENCY_EDIT)
}
"""Every method by its name, baselines first, then in the order in which tables show them."""

__all__ = ["BASE", "BASE_LABEL", "METHODS", "Method", "Need", "Recipe", "in_order", "resolve_method"]


def resolve_method(name: str) -> Method:
    """The method that a configuration names.

    Args:
        name: A key of :data:`METHODS`, or ``module:object`` for one of your own.

    Raises:
        UserError: There is no such method.
    """
    if name in METHODS:
        return METHODS[name]
    found = resolve_own(name, Method, "method", METHODS)
    if found.name in (*METHODS, BASE):
        raise UserError(f"The method {name!r} calls itself {found.name!r}, which is taken: give it another name.")
    return found


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
        made.setdefault(method.name, method)

    for name in names:
        make(name, ())
    return tuple(made.values())
