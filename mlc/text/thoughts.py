"""What a model thinks before it answers, where it writes that down: between ``<think>`` and ``</think>``."""

OPENS, CLOSES = "<think>", "</think>"


def without_thoughts(text: str) -> str:
    """The answer behind the thoughts; nothing where a model is cut while it still thinks.

    Args:
        text: What a model wrote. Where its chat template opens the thoughts, they are closed alone.
    """
    thoughts, closed, answer = text.partition(CLOSES)
    if closed:
        return answer.lstrip()
    return "" if thoughts.lstrip().startswith(OPENS) else text
