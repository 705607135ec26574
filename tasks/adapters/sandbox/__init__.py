"""Confines programs that nobody vouches for: the agent, what it generated, and the browser that looks at it.

Inside there is an empty root with `/usr` read-only, the folders that the caller names, and a network with nothing
but its own loopback. Inside paths are stable (`/workspace`), whatever the host's paths are.
"""

from tasks.adapters.sandbox.bridge import Egress, SiteBridge
from tasks.adapters.sandbox.confinement import Confinement, Mode, argv, base_runtime, python_runtime
from tasks.adapters.sandbox.process import Finished, run
from tasks.adapters.sandbox.self_test import self_test

__all__ = [
    "Confinement",
    "Egress",
    "Finished",
    "Mode",
    "SiteBridge",
    "argv",
    "base_runtime",
    "python_runtime",
    "run",
    "self_test",
]
