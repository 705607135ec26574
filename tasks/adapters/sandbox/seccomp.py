"""The system-call filter of the sandbox, as the classic BPF program that `bwrap --seccomp` takes.

What matters most is TIOCSTI: with ``dev.tty.legacy_tiocsti=1`` a confined program could type into its own terminal,
and a shell that owns that terminal would run it outside. The rest closes kernel entry points that no website needs.
"""

import errno
import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _SECOND_ARGUMENT_AT = 0, 4, 24  # struct seccomp_data, both machines are little-endian
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_X32 = 0x40000000

_MACHINES: dict[str, tuple[int, int, dict[str, int]]] = {
    # AUDIT_ARCH, ioctl, numbers that include/uapi/asm-generic/unistd.h and the x86 table do not share
    "x86_64": (
        0xC000003E,
        16,
        {
            "ptrace": 101, "pivot_root": 155, "mount": 165, "umount2": 166, "kexec_load": 246, "add_key": 248,
            "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "setns": 308,
            "process_vm_readv": 310, "process_vm_writev": 311, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        29,
        {
            "umount2": 39, "mount": 40, "pivot_root": 41, "unshare": 97, "kexec_load": 104, "ptrace": 117,
            "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241, "setns": 268,
            "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
        },
    ),
}  # fmt: skip  # a table reads better than a column of 33 lines
_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
}  # fmt: skip  # as above


def program(machine: str | None = None) -> bytes | None:
    """The filter for ``machine`` (default: this one), or None where its numbers are not known here.

    Programs of a foreign architecture (32-bit, x32) get ENOSYS for every call, so that their other numbers are no
    way round.
    """
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    architecture, ioctl, numbers = known
    refused = sorted({*numbers.values(), *_EVERYWHERE.values()})
    body: list[tuple[int, int | str, int | str, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 0, "absent", architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, "absent", 0, _X32),
        *((_EQUAL, "absent" if number >= 425 else "refused", 0, number) for number in refused),
        (_EQUAL, 0, "allowed", ioctl),
        (_LOAD, 0, 0, _SECOND_ARGUMENT_AT),
        *((_EQUAL, "refused", 0, request) for request in _TERMINAL_INPUT),
    ]
    ends = {"allowed": _ALLOW, "refused": _ERRNO | errno.EPERM, "absent": _ERRNO | errno.ENOSYS}
    place = {name: len(body) + index for index, name in enumerate(ends)}

    def jump(target: int | str, at: int) -> int:
        return target if isinstance(target, int) else place[target] - at - 1

    lines = [(code, jump(yes, at), jump(no, at), value) for at, (code, yes, no, value) in enumerate(body)]
    lines += [(_RETURN, 0, 0, value) for value in ends.values()]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)
