"""A method of somebody's own, as docs/methods.md shows one."""

from mlc.methods import Method

SLOW = Method(
    name="slow",
    label="Slow",
    about="ordinary training at half the learning rate",
    needs=frozenset({"english answers"}),
    alignment=lambda align: align.without_consistency().model_copy(update={"learning_rate": align.learning_rate / 2}),
)
