"""Start one program of the service: ``python -m deployments.launch --record FILE [--keep A,B] [--session] -- ARGV``.

Writes down who it is, drops every environment variable that the program has no business with, hears every signal
again, and becomes the program (same process). A name in ``--keep`` may end in ``*``. ``--session``: in a session of
its own, out of reach of signals that go to the starter's group. ``--watcher``: number of the process that looks after
the program; the starter says it, since a program whose parent has died already would name somebody else.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from deployments.processes import Process, Record


def kept(environment: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """
    >>> kept({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "LC_ALL": "C"}, ["PATH", "LC_*"])
    {'PATH': '/bin', 'LC_ALL': 'C'}
    """
    wanted = list(patterns)
    return {name: value for name, value in environment.items() if any(fnmatchcase(name, p) for p in wanted)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m deployments.launch", description=__doc__)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--keep", type=lambda text: text.split(","))
    parser.add_argument("--watcher", type=int)
    parser.add_argument("--session", action="store_true")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args(arguments)
    if options.session:
        os.setsid()
    # A shell starts its background jobs deaf to SIGINT, which Prefect's worker sends to itself in order to stop.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    Record.write(options.record, Process.of(options.watcher) if options.watcher else None)
    environment = dict(os.environ) if options.keep is None else kept(os.environ, options.keep)
    os.execvpe(options.argv[0], options.argv, environment)  # noqa: S606  # no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
