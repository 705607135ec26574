"""Which program each kind of agent is, and what its sandbox holds."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

from tasks.adapters.agents.processes import MARK
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.sandbox import Confinement, Mode, argv, python_runtime
from tasks.adapters.waiting import NEVER, Flag
from tasks.adapters.workspace import AGENT_WRITABLE, Workspace
from tasks.domain.request import AgentKind

WORKSPACE = "/workspace"
RUNTIME = "/run/agent"
OFFLINE = "/opt/agent/offline"

_OFFLINE_SOURCE = Path(__file__).with_name("offline")
# The package's folder is an argument of its own, for unconfined it lies elsewhere.
_RUN_PACKAGE = (
    "import os, runpy, sys; folder = sys.argv.pop(1); sys.path.insert(0, os.path.dirname(folder)); "
    "runpy.run_module(os.path.basename(folder), run_name='__main__', alter_sys=True)"
)


def agent_for(
    kind: AgentKind,
    runtime: RuntimeFolder,
    workspace: Workspace,
    mode: Mode,
    cancelled: Flag = NEVER,
    owner: str | None = None,
) -> TerminalAgent:
    """The agent of one execution, of the run ``owner`` from its `start` on.

    Nothing runs before `start`, which raises SandboxUnavailable where the sandbox's program is missing: a session can
    be ended and looked at without it.
    """
    match kind:
        case AgentKind.OFFLINE:
            confinement = offline_agent(workspace, runtime)
        case _:
            assert_never(kind)
    return TerminalAgent(runtime, workspace, lambda: argv(confinement, mode), cancelled=cancelled, owner=owner)


def offline_agent(workspace: Workspace, runtime: RuntimeFolder) -> Confinement:
    """The template generator: this Python without its libraries, and no network."""
    return confined(
        workspace,
        runtime,
        (sys.executable, "-I", "-S", "-c", _RUN_PACKAGE, OFFLINE),
        readonly={**python_runtime(), OFFLINE: _OFFLINE_SOURCE},
        env={"OFFLINE_AGENT_EVENTS": f"{RUNTIME}/{runtime.events.name}"},
    )


def confined(
    workspace: Workspace,
    runtime: RuntimeFolder,
    command: Sequence[str],
    readonly: Mapping[str, Path],
    env: Mapping[str, str],
) -> Confinement:
    """``command`` with the workspace as an agent has it: read-only, but for the folders that are its to write."""
    return Confinement(
        command=tuple(command),
        readonly={WORKSPACE: workspace.root, **readonly},
        writable={
            RUNTIME: runtime.events_folder,
            **{f"{WORKSPACE}/{folder}": workspace.root / folder for folder in AGENT_WRITABLE},
        },
        env={MARK: runtime.mark, **env},
        cwd=WORKSPACE,
    )
