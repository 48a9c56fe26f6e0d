"""How a model of a run is called in displays and records."""


def subject_of(role: str, seed: int | None) -> str:
    """Role and seed, such as ``consistency · seed 0``; the role alone for the base model."""
    return role if seed is None else f"{role} · seed {seed}"
