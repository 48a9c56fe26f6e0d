"""Proxies: what goes to this machine itself never goes through one."""

import os

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VARIABLES = ("NO_PROXY", "no_proxy")


def loopback_past_proxies() -> None:
    """Keeps requests to this machine away from proxies, in this process and in those that it starts.

    Clients of HTTP read the variables that name proxies; these name the exceptions.
    """
    for variable in _VARIABLES:
        # Of the two spellings a client may read either, so both say what one of them says.
        given = os.environ.get(variable) or next((os.environ[name] for name in _VARIABLES if name in os.environ), "")
        hosts = [host.strip() for host in given.split(",") if host.strip()]
        if "*" not in hosts:
            os.environ[variable] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
