import pytest
from hypothesis import settings

from mlc.shipped import shipped_data

# A test that is slow for once, on a busy machine, has not failed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def load_tiny():
    """Loads the committed random policy anew, so that a test may train it."""
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model

    return lambda: load_policy(resolve_model("shipped:tiny"), device="cpu")


@pytest.fixture(scope="session")
def tiny_policy():
    """The committed random policy, shared: for reading only."""
    from mlc.models.loading import load_policy
    from mlc.models.sources import resolve_model

    return load_policy(resolve_model("shipped:tiny"), device="cpu")


@pytest.fixture(scope="session")
def tiny_folder():
    return shipped_data("tiny")
