"""Model sources, loading, prompt encoding and prompt representations."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc.models.states import prompt_states

__all__ = ["prompt_states"]


def __getattr__(name: str) -> Any:
    # Looked up when asked for: most of what imports this package does without torch.
    if name == "prompt_states":
        from mlc.models.states import prompt_states

        return prompt_states
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
