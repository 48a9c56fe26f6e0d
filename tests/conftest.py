import pytest

from mlc.shipped import shipped_data


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
