"""A method of somebody's own, as docs/methods.md shows one."""

from mlc.methods import Method

SLOW = Method(
    name="slow",
    label="Slow",
    about="ordinary training at half the learning rate",
    needs=frozenset({"english answers"}),
    alignment=lambda align: align.without_consistency().model_copy(update={"learning_rate": align.learning_rate / 2}),
)

BOTH = Method(
    name="both",
    label="Both",
    about="what no method can be: trained on pairs and on prompts without one",
    needs=frozenset({"english answers", "translated prompts", "unpaired prompts"}),
)
