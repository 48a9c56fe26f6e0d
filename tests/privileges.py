"""Commands that may not write where permissions forbid it, though root runs the tests."""

import ctypes
import os

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1


def obey_permissions() -> None:
    """For ``preexec_fn``: takes from root, once the command begins, the right to pass over permissions.

    Raises:
        OSError: It cannot be taken.
    """
    if os.geteuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the capability cannot be dropped")
