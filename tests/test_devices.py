import pytest
import torch

from mlc.devices import pick_device
from mlc.errors import UserError


def test_what_is_there():
    assert pick_device("cpu") == "cpu"
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device() == pick_device("auto") == expected


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "", "xla"])
def test_what_is_not(device):
    with pytest.raises(UserError, match=f"The device {device!r} is not available here: use auto, cpu"):
        pick_device(device)
