"""Fixtures that any test may ask for; each is a file of `tests/support`."""

pytest_plugins = [
    "tests.support.bad_site",
    "tests.support.databases",
    "tests.support.service",
    "tests.support.site_server",
]
