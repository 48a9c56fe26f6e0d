"""What a configuration needs, in the terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.terminal.output import plain_table, print_explained, shown

if TYPE_CHECKING:
    from flows.needs import Need, Needs

DISK = "disk"
_LARGEST = 4
"""So many parts of a need are named."""
_SMALL = 0.01
"""Parts that are a smaller share are not named."""


def show_needs(needs: "Needs", console: Console) -> None:
    """Prints what each stage needs beside what the machine has, and why a run would be refused."""
    from flows.needs import refusal

    console.print(_models(needs), highlight=False, soft_wrap=True)
    rows = []
    for need in _largest(needs):
        room = needs.room(need.where)
        color = "red" if need in needs.too_large else "default"
        size = f"[{color}]{_gib(need.memory.total)}[/]"
        name = shown(f"{need.where} · {need.label}")
        rows.append([name, size, "?" if room is None else _gib(room), _in_words(need.memory.parts)])
    if needs.disk:
        color = "default" if needs.disk_total <= needs.machine.disk else "red"
        size = f"[{color}]{_gib(needs.disk_total)}[/]"
        rows.append([DISK, size, _gib(needs.machine.disk), _in_words(needs.disk)])
    if rows:
        print_explained(("needs", "GiB", "of", "mostly for"), rows, console, right=("GiB", "of"))
    if sentence := refusal(needs):
        console.print(f"[red]It does not fit.[/] {shown(sentence)}", highlight=False, soft_wrap=True)


def show_shipped(shipped: "Mapping[str, Needs]", console: Console) -> None:
    """Prints which shipped configuration fits this machine.

    Args:
        shipped: Needs by name of the configuration.
        console: Where to print.
    """
    from flows.needs import GPU, RAM

    right = ("weights", "GPU", "memory", "disk")
    table = plain_table("configuration", "weights", "GPU", "memory", "disk", "here", right=right)
    for name, needs in shipped.items():
        policy = needs.models.policy
        largest = [needs.worst(where) for where in (GPU, RAM)]
        sizes = ["" if need is None else _gib(need.memory.total) for need in largest]
        wrong = [need.where for need in needs.too_large] + [DISK] * (needs.disk_total > needs.machine.disk)
        fits = f"[yellow]too little {' and '.join(dict.fromkeys(wrong))}[/]" if wrong else "[green]fits[/]"
        weights = parameters_in_words(policy.parameters) if policy else "?"
        table.add_row(name, weights, *sizes, _gib(needs.disk_total), fits if policy else "?")
    console.print("Shipped configurations, in GiB, for the longest texts that each of them allows:", highlight=False)
    console.print(table)


def needs_in_data(needs: "Needs") -> dict[str, Any]:
    """The same as plain data: bytes of each part of each stage and of the disk, and what there is."""
    policy = needs.models.policy
    return {
        "parameters": policy.parameters if policy else None,
        "adapter_parameters": needs.adapter,
        "stages": [
            {
                "stage": need.stage,
                "method": need.subject or None,
                "of": need.where,
                "bytes": need.memory.total,
                "there_are": needs.room(need.where),
                "parts": dict(need.memory.parts),
            }
            for need in needs.stages
        ],
        "disk": {"bytes": needs.disk_total, "there_are": needs.machine.disk, "parts": dict(needs.disk)},
        "fits": needs.fits,
        "would_fit_with": [dict(way) for way in needs.ways],
    }


def parameters_in_words(count: int) -> str:
    """A number of weights in three digits, such as ``135M`` or ``7.62B``."""
    value, unit = (count / 1e9, "B") if count >= 1e9 else (count / 1e6, "M") if count >= 1e6 else (count / 1e3, "k")
    return f"{value:.3g}{unit}"


def _models(needs: "Needs") -> str:
    policy, translator = needs.models.policy, needs.models.translator
    if policy is None:
        return "What the policy needs is not known: neither its weights nor a configuration of a known family are here."
    told = [f"policy {parameters_in_words(policy.parameters)} weights"]
    if needs.adapter:
        told.append(f"adapter {parameters_in_words(needs.adapter)}")
    if translator is not None:
        told.append(f"translator {parameters_in_words(translator.parameters)}")
    return f"It takes, by formulas (docs/sizing.md): {', '.join(told)}."


def _largest(needs: "Needs") -> list["Need"]:
    """Of each stage the method that needs most; the others are in the data."""
    found: dict[str, Need] = {}
    for need in needs.stages:
        if need.stage not in found or need.memory.total > found[need.stage].memory.total:
            found[need.stage] = need
    return list(found.values())


def _in_words(parts: Any) -> str:
    least = _SMALL * sum(parts.values())
    largest = sorted(parts.items(), key=lambda part: -part[1])[:_LARGEST]
    return ", ".join(f"{name} {_gib(size)}" for name, size in largest if size > least)


def _gib(size: int) -> str:
    value = size / 2**30
    return f"{value:.2f}" if value < 1 else f"{value:,.1f}"
