"""Other processes, for what threads cannot show."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from typing import Any


def in_processes(work: Callable[..., Any], url: str, arguments: Sequence[Any]) -> list[Any]:
    """What ``work(url, gate, argument)`` gave in one new process per argument; they wait for each other at the gate."""
    context = multiprocessing.get_context("spawn")
    parent_ends, children = [], []
    gate = context.Barrier(len(arguments))
    for argument in arguments:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_send, args=(theirs, work, url, gate, argument))
        child.start()
        theirs.close()
        parent_ends.append(ours)
        children.append(child)
    answers = [end.recv() for end in parent_ends]
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    return answers


def _send(pipe: Any, work: Callable[..., Any], url: str, gate: Barrier, argument: Any) -> None:
    pipe.send(work(url, gate, argument))


def forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child; its exit status as a signal number below zero, or its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # the child never returns into the test run
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
