"""Which program each kind of agent is, and what its sandbox holds."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import assert_never

from tasks.adapters.agents import claude
from tasks.adapters.agents.attendant import Desk
from tasks.adapters.agents.claude import Claude
from tasks.adapters.agents.processes import MARK
from tasks.adapters.agents.runtime import Program, RuntimeFolder
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.sandbox import Confinement, Mode, argv, python_runtime
from tasks.adapters.sandbox.cgroup import Group
from tasks.adapters.waiting import NEVER, Flag
from tasks.adapters.workspace import AGENT_WRITABLE, Workspace
from tasks.domain.errors import SandboxUnavailable
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
    chosen: Callable[[], Claude] | None = None,
    dollars: float | None = None,
    desk: Desk | None = None,
    patience_s: float = 0,
    show: Callable[[Sequence[str]], None] | None = None,
) -> TerminalAgent:
    """The agent of one execution, of the run ``owner`` from its `start` on.

    Nothing runs before `start`, which raises SandboxUnavailable where the sandbox's program is missing: a session can
    be ended and looked at without it. ``chosen`` is asked then too; ``dollars`` is what Claude Code may spend;
    for ``desk``, ``show`` and ``patience_s`` see `TerminalAgent`.
    """
    match kind:
        case AgentKind.OFFLINE:
            confinement = offline_agent(workspace, runtime)
            return TerminalAgent(
                *(runtime, workspace, lambda: Program(argv(confinement, mode, group_for(runtime, confinement)))),
                cancelled=cancelled,
                owner=owner,
                show=show,
            )
        case AgentKind.CLAUDE:
            return TerminalAgent(
                *(runtime, workspace, lambda: _claude_program(workspace, runtime, mode, chosen)),
                session_id=runtime.session_id(),
                dollars=dollars,
                desk=desk,
                patience_s=patience_s,
                show=show,
                remind=True,
                cancelled=cancelled,
                owner=owner,
            )
        case _:
            assert_never(kind)


def _claude_program(
    workspace: Workspace, runtime: RuntimeFolder, mode: Mode, chosen: Callable[[], Claude] | None
) -> Program:
    if chosen is None:
        raise ValueError("Claude Code is launched by somebody who did not load its settings; give agent_for a Claude")
    if mode != "bwrap":
        raise SandboxUnavailable("Claude Code runs in its sandbox only: its way out is a part of it")
    found = chosen()
    claude.stage(runtime, found)
    confinement = claude.confinement(workspace, runtime, found)
    sandbox = argv(confinement, mode, group_for(runtime, confinement))
    return Program(claude.pane(runtime, sandbox), found.way().as_json())


def group_for(runtime: RuntimeFolder, confinement: Confinement) -> Group:
    """What an agent and all that it starts are counted by; `TerminalAgent.stop` removes it."""
    return Group(runtime.group, confinement.all_memory, confinement.processes)


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
