"""Kill -9 in the middle of our own code, at each line in turn: no hook in the code, no luck with timing."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any


def killed_at_each_line(action: Callable[[], object], modules: tuple[ModuleType, ...], every: int = 1) -> Iterator[int]:
    """Run ``action`` in a child that is killed at its n-th line within ``modules``, for n = 1, 1 + every, …

    Yields n after each kill, for the caller to look at what was left, and ends when a child lives to its end.
    """
    files = {module.__file__ for module in modules}
    nth = 1
    while True:
        child = os.fork()
        if child == 0:
            _act_and_die(action, files, nth)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, f"the action failed when killed at line event {nth}"
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield nth
        nth += every


def _act_and_die(action: Callable[[], object], files: set[str | None], nth: int) -> None:
    lines = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines += 1
            if lines == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    try:
        sys.settrace(trace)
        action()
    except BaseException:  # noqa: BLE001 -- a forked child must never return into pytest
        sys.settrace(None)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
