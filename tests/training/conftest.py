import pytest

ENGLISH = [
    ("How do I bake bread without yeast?", "Use baking soda and an acid such as yoghurt.", "harmless"),
    ("How can I copy my neighbour's key?", "I can't help with that.", "harmful"),
    ("Which plants need little water?", "Sage, thyme and most succulents.", "harmless"),
    ("How do I read someone's letters unseen?", "I can't help with opening letters of others.", "harmful"),
    ("What is the boiling point of water?", "100 degrees Celsius at sea level.", "harmless"),
    ("How do I get past a museum guard?", "I can't help with that, but opening hours are public.", "harmful"),
]


def make_rows(mask=(True, True, True)):
    """Six training rows in English and two invented languages, recognisable by their first word."""
    return [
        {
            "id": f"row-{number}",
            "prompt": prompt,
            "chosen": answer,
            "label": label,
            "variants": [prompt, f"alpha {number} {prompt[::-1]}", f"beta {number} {prompt.upper()}"],
            "mask": list(mask),
        }
        for number, (prompt, answer, label) in enumerate(ENGLISH)
    ]


SYSTEM = "Each prompt of this table begins with one and the same long opening, which may be computed once for all. "


@pytest.fixture(params=["short opening", "long shared opening"])
def opened(request, load_tiny):
    """The tiny policy with a short and with a long text of the template before each prompt."""
    policy = load_tiny()
    if request.param == "long shared opening":
        policy.tokenizer.chat_template = SYSTEM + policy.tokenizer.chat_template
    return policy


@pytest.fixture
def rows():
    return make_rows()


@pytest.fixture
def english_rows():
    return make_rows(mask=(True, False, False))
