"""Looks at what shall be bound, then becomes bubblewrap. Run as `python -I -S launcher.py PLAN`.

Standard library only, and nothing of ours: isolated mode has no import path to it. PLAN is the JSON of a `Plan`.
No descriptor of a host folder may outlive this program: bubblewrap hands open ones on to the confined command, and
`..` from such a folder leads out.
"""

import json
import os
import stat
import sys

BROKEN_PLAN = 126


def real_path(path: str, folder: bool) -> str:
    """Where ``path`` really is. A link there is refused: it would be somebody else's choice of what to bind."""
    expected = "a folder" if folder else "a file or folder"
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SystemExit(complain(f"{path}: expected {expected}, found: {error.strerror}")) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISLNK(mode) or (folder and not stat.S_ISDIR(mode)):
        raise SystemExit(
            complain(f"{path}: expected {expected}, found: {'a link' if stat.S_ISLNK(mode) else 'a file'}")
        )
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 (pathlib takes 10 ms to load)


def complain(text: str) -> int:
    sys.stderr.write(f"sandbox: {text}\n")
    return BROKEN_PLAN


def join(group: str) -> None:
    """Before the sandbox is made: what it starts from here on is counted there."""
    try:
        with open(f"{group}/cgroup.procs", "w") as file:  # noqa: PTH123 (pathlib takes 10 ms to load)
            file.write(str(os.getpid()))
    except OSError as error:
        raise SystemExit(complain(f"{group}: cannot be joined: {error.strerror}")) from error


def in_memory(data: bytes) -> int:
    """A descriptor that bubblewrap reads to its end and closes."""
    descriptor = os.memfd_create("sandbox", 0)
    os.write(descriptor, data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def main() -> None:
    plan = json.loads(sys.argv[1])
    report = plan["report"]
    os.closerange(3, report or 65536)
    if report:
        os.closerange(report + 1, 65536)
    for group in plan["groups"]:
        join(group)
    paths = [real_path(path, folder) for path, folder in plan["bound"]]
    data = [in_memory(bytes.fromhex(text)) for text in plan["data"]]

    def word(item: str | list[str | int]) -> str:
        if isinstance(item, str):
            return item
        kind, index = item
        return paths[int(index)] if kind == "bound" else str(data[int(index)])

    arguments = [word(item) for item in plan["arguments"]]
    if report:
        arguments += ["--json-status-fd", str(report)]
    # By descriptor: the host's paths do not show in /proc/1/cmdline inside.
    packed = in_memory("\0".join([*arguments, ""]).encode())
    command = [plan["bwrap"], "--args", str(packed), "--", *plan["command"]]
    os.execve(plan["bwrap"], command, {"PATH": os.environ["PATH"]})  # noqa: S606 (a shell is what must not be here)


if __name__ == "__main__":
    main()
