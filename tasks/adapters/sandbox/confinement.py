"""What a sandbox consists of, as data; and the command that makes one."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, assert_never

from tasks.adapters.sandbox import seccomp
from tasks.adapters.sandbox.cgroup import Group
from tasks.domain.errors import SandboxUnavailable

Mode = Literal["bwrap", "unsafe-none"]
Word = str | tuple[Literal["bound", "data"], int]

PATH = "/usr/local/bin:/usr/bin:/bin"
BRIDGE_SOCKET = "/run/bridge.sock"
RELAY = "/run/relay.py"
_HERE = Path(__file__).parent
_INSIDE = _HERE.parent / "inside"
_ETC = (
    *("ld.so.cache", "alternatives", "ssl/certs", "ssl/openssl.cnf", "ca-certificates"),
    *("nsswitch.conf", "localtime", "fonts", "chromium.d"),
)
"""Not all of ssl: private keys that only root may read would be the agent's, where root runs the worker."""
_PASSWD = b"root:x:0:0::/root:/usr/sbin/nologin\nagent:x:1000:1000::/home/agent:/bin/sh\n"
_TMP_BYTES, _SHM_BYTES, _HOME_BYTES = 512 << 20, 256 << 20, 64 << 20
_FILE_BYTES, _OPEN_FILES = 512 << 20, 4096


@dataclass(frozen=True)
class Confinement:
    """A command and everything it may touch. Paths on the left of a mapping are inside ones, absolute.

    ``writable`` folders may lie in ``readonly`` ones, and the other way round. Host paths must not be links, and their
    parents must not be writable by whoever is confined. ``hosts`` are names that mean loopback inside. With
    ``bridge``, connections to 127.0.0.1:``bridge_port`` inside arrive at that unix socket, and nothing else is
    reachable. ``memory`` is what one process may take, in bytes, and ``all_memory`` what all of them together may,
    where the machine has control groups (`cgroup`); ``processes`` counts threads.
    """

    command: tuple[str, ...]
    readonly: Mapping[str, Path] = field(default_factory=dict)
    writable: Mapping[str, Path] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/workspace"
    bridge: Path | None = None
    bridge_port: int | None = None
    hosts: tuple[str, ...] = ()
    processes: int = 1024
    memory: int | None = None
    all_memory: int = 4 << 30


@dataclass(frozen=True)
class Plan:
    """What `launcher.py` does.

    ``bound`` are host paths, each with whether it must be a folder; ``data`` is hex. An argument ``("bound", n)``
    stands for such a path, ``("data", n)`` for the descriptor of such data. ``report`` is a descriptor of the caller,
    above 2, on which bubblewrap tells the first process and its exit code; 0: none. ``groups`` are the folders of the
    control group that it joins first.
    """

    bwrap: str
    bound: tuple[tuple[str, bool], ...]
    data: tuple[str, ...]
    arguments: tuple[Word, ...]
    command: tuple[str, ...]
    report: int = 0
    groups: tuple[str, ...] = ()


def plan(confinement: Confinement) -> Plan:
    """The bubblewrap call for ``confinement``. Raises SandboxUnavailable where there is no bubblewrap."""
    bwrap = shutil.which("bwrap", path=PATH)
    if bwrap is None:
        raise SandboxUnavailable(f"bwrap is not in {PATH} (apt-get install bubblewrap)")
    readonly = dict(confinement.readonly)
    command = list(confinement.command)
    if confinement.bridge is not None:
        readonly = {**python_runtime(), **readonly, RELAY: _INSIDE / "relay.py"}
        port = str(confinement.bridge_port)
        command = [sys.executable, "-I", "-S", RELAY, port, BRIDGE_SOCKET, "--", *command]
    bound: list[tuple[str, bool]] = []
    mounts: list[Word] = []
    folders = [(inside, "--ro-bind", host, False) for inside, host in readonly.items()]
    folders += [(inside, "--bind", host, True) for inside, host in confinement.writable.items()]
    if confinement.bridge is not None:
        folders.append((BRIDGE_SOCKET, "--bind", confinement.bridge, False))
    for inside, flag, host, must_be_folder in sorted(folders):  # outer ones first: an inner one lies over them
        mounts += [flag, ("bound", len(bound)), inside]
        bound.append((str(host), must_be_folder))
    hosts = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *confinement.hosts)).encode()
    program = seccomp.program()
    return Plan(
        bwrap=bwrap,
        bound=tuple(bound),
        data=tuple(item.hex() for item in (_PASSWD, hosts, program or b"")),
        arguments=(
            *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
            *("--unshare-net", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--die-with-parent"),
            *("--cap-drop", "ALL", "--disable-userns", "--clearenv"),
            *_environment(confinement.env),
            *_system(),
            *("--ro-bind-data", ("data", 0), "/etc/passwd", "--ro-bind-data", ("data", 1), "/etc/hosts"),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--perms", "1777", "--size", str(_SHM_BYTES), "--tmpfs", "/dev/shm"),  # noqa: S108 (inside)
            *("--perms", "1777", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"),  # noqa: S108 (inside)
            *("--perms", "0700", "--size", str(_HOME_BYTES), "--tmpfs", "/home/agent"),
            *mounts,
            # Without a filter for this machine, the terminal is given up instead.
            *(("--seccomp", ("data", 2)) if program else ("--new-session",)),
            *("--chdir", confinement.cwd, "--remount-ro", "/dev", "--remount-ro", "/"),
        ),
        command=(
            *("/usr/bin/prlimit", f"--nproc={confinement.processes}", f"--nofile={_OPEN_FILES}"),
            *((f"--data={confinement.memory}",) if confinement.memory else ()),
            *(f"--fsize={_FILE_BYTES}", "--core=0", "--", *command),
        ),
    )


def _environment(env: Mapping[str, str]) -> Iterator[str]:
    basis = {"PATH": PATH, "HOME": "/home/agent", "USER": "agent", "LANG": "C.UTF-8", "TERM": "xterm-256color"}
    for name, value in {**basis, **env}.items():
        yield from ("--setenv", name, value)


def _system() -> Iterator[str]:
    """`/usr` and what in `/etc` a program needs to start, to find fonts and to check certificates."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        folder = Path("/", name)
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield from ("--ro-bind", str(folder), str(folder))
    for name in _ETC:
        path = Path("/etc", name)
        if path.exists():
            yield from ("--ro-bind", str(path), str(path))


def argv(confinement: Confinement, mode: Mode, group: Group | None = None) -> list[str]:
    """A command that runs ``confinement`` whatever environment it is started from; its first word is absolute.

    It may be a pane's own command in tmux: the terminal works inside, and typing into it from inside is refused.
    It joins ``group`` before anything of the sandbox runs.
    """
    match mode:
        case "bwrap":
            return launch(replace(plan(confinement), groups=tuple(map(str, group.folders)) if group else ()))
        case "unsafe-none":
            return _unconfined(confinement)
        case _:
            assert_never(mode)


def launch(plan: Plan) -> list[str]:
    """Started from an empty environment: bwrap is pid 1 inside, and its own environment can be read there."""
    launcher = str(_HERE / "launcher.py")
    return ["/usr/bin/env", "-i", f"PATH={PATH}", sys.executable, "-I", "-S", launcher, json.dumps(asdict(plan))]


def _unconfined(confinement: Confinement) -> list[str]:
    """The command on the host itself: clean environment, inside paths put back to the host's, nothing else."""
    folders = {**confinement.readonly, **confinement.writable}

    def outside(text: str) -> str:
        for inside, host in sorted(folders.items(), key=lambda item: -len(item[0])):
            if text == inside or text.startswith(f"{inside}/"):
                return str(host) + text[len(inside) :]
        return text

    basis = {"PATH": PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "TERM": "xterm-256color"}  # noqa: S108 (not the worker's home)
    env = [f"{name}={outside(value)}" for name, value in {**basis, **confinement.env}.items()]
    return ["/usr/bin/env", "-i", "-C", outside(confinement.cwd), *env, *map(outside, confinement.command)]


def python_runtime() -> dict[str, Path]:
    """This interpreter, its standard library and its virtual environment, for ``readonly``: same paths inside.

    Only these folders show, even where they lie below a home; what is in `/usr` is there anyway.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, os.path.realpath(sys.base_prefix)}
    for hop in _hops(Path(sys.executable)):  # uv's interpreters are reached through a link to their folder
        prefix = hop.parent.parent
        if (prefix / "lib" / version).is_dir():
            folders.add(str(prefix))
    outermost = [folder for folder in sorted(folders) if not _is_below(folder, folders) and not _in_usr(folder)]
    return {folder: Path(folder).resolve() for folder in outermost}


def base_runtime() -> dict[str, Path]:
    """`python_runtime` without the virtual environment: for strangers' programs, which bring their own packages."""
    own = sys.prefix if sys.prefix != sys.base_prefix else None
    return {inside: host for inside, host in python_runtime().items() if inside != own}


def _hops(path: Path) -> Iterator[Path]:
    for _ in range(16):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _is_below(folder: str, others: set[str]) -> bool:
    return any(PurePosixPath(folder).is_relative_to(other) for other in others if other != folder)


def _in_usr(folder: str) -> bool:
    return PurePosixPath(folder).is_relative_to("/usr")
