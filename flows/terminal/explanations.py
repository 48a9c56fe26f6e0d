"""What decides a key, in the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.looking.holdings import SHOWN_DIGITS
from flows.terminal.output import shown
from mlc.store.keeping import Kept
from mlc.store.keys import PENDING
from mlc.urls import redacted
from tasks.runtime.shards import is_shard, without_shard

if TYPE_CHECKING:
    from flows.commands.why import Explanation


def show_explanations(explanations: "Sequence[Explanation]", console: Console) -> None:
    """Prints explanations: what differs first, then the parts of the key.

    Shards that are cached are only counted, and of others only what differs is told: the whole has the same parts.
    """
    from mlc.report.wording import named

    cached = Counter(
        (item.stage, without_shard(item.subject), item.language)
        for item in explanations
        if is_shard(item.subject) and item.action == "cached"
    )
    for parts, count in cached.items():
        name = " · ".join(filter(None, parts))
        console.print(f"[bold]{shown(named(name))}[/]  {count} shards [cyan]cached[/]", highlight=False)
    told = [item for item in explanations if not (is_shard(item.subject) and item.action == "cached")]
    for number, item in enumerate(told):
        if number or cached:
            console.print()
        label = " · ".join(text for text in (item.stage, item.subject, item.language) if text)
        verdict = "[cyan]cached[/]" if item.action == "cached" else "[yellow]would run[/]"
        console.print(f"[bold]{shown(named(label))}[/]  {verdict}  key {item.key[:SHOWN_DIGITS]}", highlight=False)
        for note in item.kept:
            words = f"kept {Kept(**note).words} (was {note['old_key'][:SHOWN_DIGITS]})"
            console.print(f"  {shown(words)}", highlight=False, soft_wrap=True)
        console.print(f"  {shown(item.sentence)}{':' if item.differences else ''}", highlight=False, soft_wrap=True)
        for words in item.differences or ():
            console.print(f"    {shown(words)}", highlight=False, soft_wrap=True)
        for line in () if is_shard(item.subject) else _part_lines(item.parts):
            console.print(f"  [dim]{shown(line)}[/]", highlight=False, soft_wrap=True)


def _part_lines(parts: Mapping[str, Any]) -> list[str]:
    lines = [f"stage {parts['stage']}, version {parts['version']}"]
    lines += [f"configuration {name} = {redacted(str(value))}" for name, value in _flat(parts["settings"])]
    for kind, word in (("inputs", "input"), ("models", "model"), ("libraries", "library")):
        lines += [f"{word} {name} = {_shortened(value)}" for name, value in sorted(parts[kind].items())]
    lines.append(f"source files: {len(parts['sources'])}")
    if parts["seed"] is not None:
        lines.append(f"seed = {parts['seed']}")
    return lines


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [
        line
        for name, inner in sorted(value.items())
        for line in _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    ]


def _shortened(digest: str) -> str:
    if digest.startswith(PENDING):
        return "made first"
    return digest[:SHOWN_DIGITS] if len(digest) == 64 else digest
