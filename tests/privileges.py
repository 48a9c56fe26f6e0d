"""Commands that may not write where permissions forbid it, though root runs the tests."""

import ctypes
import os

PR_CAPBSET_DROP = 24
VERSION = 0x20080522
"""Of the structures of ``capset``, which are two words for each of three sets."""
EFFECTIVE, PERMITTED = 0, 1
CAP_DAC_OVERRIDE = 1


def obey_permissions() -> None:
    """Takes the right to pass over permissions from a process of root, which has one thread still.

    What it executes has it neither, so that this is for ``preexec_fn`` too.

    Raises:
        OSError: It cannot be taken.
    """
    if os.geteuid() != 0:
        return
    system = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    failed = system.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) or system.capget(header, sets)
    # `access` looks at what is permitted.
    for kind in (EFFECTIVE, PERMITTED):
        sets[kind] &= ~(1 << CAP_DAC_OVERRIDE)
    if failed or system.capset(header, sets):
        raise OSError(ctypes.get_errno(), "the capability cannot be dropped")
