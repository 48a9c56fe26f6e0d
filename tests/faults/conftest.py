import os

LONG = "MLC_FAULT_KILLS" in os.environ
"""Whether this is the long form, `make faults`."""
