import os

import pytest

# Before anything of Hugging Face is imported: no test asks the hub, or tells it anything.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    import datasets
    from transformers.utils import logging

    datasets.disable_progress_bars()
    logging.disable_progress_bar()


@pytest.fixture
def rows():
    from tests.training.runs import make_rows

    return make_rows(6)


SYSTEM = "Each prompt of this table begins with one and the same long opening, which may be computed once for all. "


@pytest.fixture(params=["short opening", "long shared opening"])
def opened(request, load_tiny):
    """The tiny policy with a short and with a long text of the template before each prompt."""
    policy = load_tiny()
    if request.param == "long shared opening":
        policy.tokenizer.chat_template = SYSTEM + policy.tokenizer.chat_template
    return policy
