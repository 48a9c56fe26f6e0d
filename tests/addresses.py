"""Which addresses a process connects to, seen by an audit hook of Python, or by strace, which sees native code too."""

import contextlib
import functools
import ipaddress
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTES = "MLC_TEST_ADDRESSES"
"""Variable with the file that the hook writes to, in processes that are started with it."""
EVENTS = ("socket.connect", "socket.sendto", "socket.getaddrinfo")
CALLS = "connect,sendto,sendmsg,sendmmsg"
_STRACED = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", 1 | 64))
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Switches loopback on (SIOCSIFFLAGS: up, running), then becomes the command."""


def note_addresses(file: Path) -> None:
    """Writes down every address that this process connects to, sends to or looks up, and those forked from it."""

    def note(event: str, values: tuple[Any, ...]) -> None:
        if event in EVENTS:
            # Of the other kinds of sockets, the address is a path or a number.
            address = values[0] if event == "socket.getaddrinfo" else values[1]
            host = address[0] if isinstance(address, tuple) else address if event == "socket.getaddrinfo" else None
            if host is not None:
                line = host.decode() if isinstance(host, bytes) else str(host)
                descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
                os.write(descriptor, f"{line}\n".encode())
                os.close(descriptor)

    sys.addaudithook(note)


def noted(file: Path) -> set[str]:
    """What was written down so far."""
    return set(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else set()


def outside(addresses: Iterable[str]) -> set[str]:
    """Those that are not this machine by loopback."""
    return {address for address in addresses if not _is_loopback(address)}


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False


@dataclass(frozen=True)
class Watched:
    """What a command left, and the addresses that were seen."""

    code: int
    out: str
    err: str
    addresses: set[str]


def by_hook(command: list[str], environment: Mapping[str, str], folder: Path, **how: Any) -> Watched:
    """Runs a command of Python with the hook in it, and in all processes of Python below it."""
    notes, site = folder / "addresses", folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, pathlib\nfrom tests.addresses import NOTES, note_addresses\n"
        "note_addresses(pathlib.Path(os.environ[NOTES]))\n"
    )
    path = f"{site}{os.pathsep}{environment['PYTHONPATH']}"
    ended = _run(command, {**environment, "PYTHONPATH": path, NOTES: str(notes)}, **how)
    return Watched(ended.returncode, ended.stdout, ended.stderr, noted(notes))


def by_strace(command: list[str], environment: Mapping[str, str], folder: Path, **how: Any) -> Watched:
    """Runs a command with the calls of the system watched, of all processes below it."""
    notes = folder / "calls"
    straced = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(notes)]
    ended = _run([*straced, *command], environment, **how)
    found = {first or second for first, second in _STRACED.findall(notes.read_text(errors="replace"))}
    return Watched(ended.returncode, ended.stdout, ended.stderr, found)


def _run(
    command: list[str], environment: Mapping[str, str], *, cwd: Path, seconds: float
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@functools.cache
def watches() -> dict[str, Callable[..., Watched]]:
    """The ways to watch that this machine allows, the stricter one last; the hook always is one."""
    found: dict[str, Callable[..., Watched]] = {"hook": by_hook}
    if shutil.which("strace") and _works(["strace", "-f", "-qq", "--seccomp-bpf", "-o", os.devnull, "true"]):
        found["strace"] = by_strace
    return found


@functools.cache
def cut_off() -> list[str]:
    """What stands before a command so that it has loopback and no other network; empty if that is not allowed here."""
    before = ["unshare", "--map-root-user", "--net", sys.executable, "-c", LOOPBACK_UP]
    return before if shutil.which("unshare") and _works([*before, "true"]) else []


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
