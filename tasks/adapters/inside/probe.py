"""Attacks the sandbox from inside and prints, as JSON, the names of the walls that gave way. Standard library only.

`python -I -S probe.py QUESTION`; the canary in QUESTION is reversed, so that the question is not mistaken for a leak.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_CLONE_NEWUSER = 0x10000000


def works(attack: Callable[[], object]) -> bool:
    try:
        attack()
    except Exception:  # noqa: BLE001 (whatever stopped the attack, it was stopped)
        return False
    return True


def environment_leaks(canary: str) -> bool:
    found = canary in os.environ.values()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            for name in ("environ", "cmdline"):
                with suppress(OSError):
                    found = found or canary.encode() in (folder / name).read_bytes()
    return found


def connects(family: int, address: Any) -> bool:
    with socket.socket(family) as client:
        client.settimeout(1)
        return works(lambda: client.connect(address))


def types_into_its_terminal() -> bool:
    """TIOCSTI on a controlling terminal of our own: allowed by kernels with dev.tty.legacy_tiocsti=1."""
    _, terminal = os.openpty()
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        os._exit(0 if works(lambda: fcntl.ioctl(terminal, termios.TIOCSTI, b"x")) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def makes_a_user_namespace() -> bool:
    """By clone, whose flags no system-call filter of ours looks at."""
    import ctypes  # here alone: it takes as long to load as all the rest

    number = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine)
    if number is None:
        return False
    child = ctypes.CDLL(None).syscall(number, _CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    return bool(child > 0)


def writes(target: str) -> bool:
    path = Path(target)
    new = not path.exists()
    if not works(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT))):
        return False
    if new:
        path.unlink()
    return True


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "")


def foreign_descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (the folder's own descriptor is among them)
        if int(name) > 2:
            with suppress(OSError):
                found.append(str(Path(f"/proc/self/fd/{name}").readlink()))
    return found


def holes(question: dict[str, Any]) -> Iterator[str]:
    canary = question["canary"][::-1]
    if environment_leaks(canary):
        yield "reads the worker's environment"
    if works(Path(question["file"]).read_bytes):
        yield "reads another session's file"
    if Path("/etc/shadow").exists():
        yield "sees the host's /etc"
    if Path("/etc/ssl/private").exists():
        yield "sees the folder of the machine's private keys"
    for folder, allowed in question["visible"].items():
        with suppress(OSError):
            if extra := sorted(set(os.listdir(folder)) - set(allowed)):  # noqa: PTH208 (names are enough)
                yield f"sees {folder}/{extra[0]}"
    for target in ("/usr/.tb", "/etc/.tb", "/dev/.tb", "/.tb", "/workspace/.tb", "/workspace/prompt.txt"):
        if writes(target):
            yield f"writes {target}"
    if not works(lambda: Path("/workspace/output/x").write_text("x")):
        yield "does not get its own folder"
    if connects(socket.AF_INET, ("127.0.0.1", question["port"])):
        yield "reaches the host's loopback"
    if connects(socket.AF_UNIX, f"\0{question['abstract']}"):
        yield "reaches the host's abstract sockets"
    for name, host in question["namespaces"].items():
        if str(Path(f"/proc/self/ns/{name}").readlink()) == host:
            yield f"shares the host's {name} namespace"
    if int(status("CapEff") or "1", 16) or int(status("CapBnd") or "1", 16):
        yield "has capabilities"
    if status("NoNewPrivs") != "1":
        yield "may gain privileges"
    if found := foreign_descriptors():
        yield f"inherits a descriptor of {found[0]}"
    if types_into_its_terminal():
        yield "types into its own terminal (TIOCSTI)"
    if makes_a_user_namespace():
        yield "makes a user namespace of its own"


if __name__ == "__main__":
    print(json.dumps(list(holes(json.loads(sys.argv[1])))))  # noqa: T201 (its answer)
