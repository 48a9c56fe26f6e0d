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

FIRST = Method(
    name="first",
    label="First",
    about="ordinary training, for another one to start from",
    needs=frozenset({"english answers"}),
    alignment=lambda align: align.without_consistency(),
)

SECOND = Method(
    name="second",
    label="Second",
    about="a method that starts from one in the same module, and is held against it",
    needs=frozenset({"english answers"}),
    start="tests.methods.own:FIRST",
    baseline="tests.methods.own:FIRST",
    alignment=lambda align: align.without_consistency(),
)


def _wrong(**facts: object) -> Method:
    given = {"name": "wrong", "label": "Wrong", "about": "what cannot be made", "needs": frozenset({"english answers"})}
    return Method(**{**given, **facts})  # type: ignore[arg-type]


RECIPE = _wrong(recipe="distil")
RAISING = _wrong(alignment=lambda align: align.no_such_setting)
NOTHING = _wrong(alignment=lambda align: None)
MISSPELT = _wrong(alignment=lambda align: align.model_copy(update={"learning_rte": 1.0}))
NO_STEPS = _wrong(alignment=lambda align: align.model_copy(update={"steps": 0}))
EDITING = _wrong(recipe="edit")
ANSWERING = _wrong(needs=frozenset({"english answers", "translated answers"}))
