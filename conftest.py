"""Fixtures that any test may ask for; each is a file of `tests/support`."""

import signal

pytest_plugins = [
    "tests.support.bad_site",
    "tests.support.databases",
    "tests.support.front",
    "tests.support.service",
    "tests.support.site_server",
]

# Started in the background of a shell, pytest ignores SIGINT, and so would every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
