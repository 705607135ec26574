"""Claude Code as the agent: its configuration, its command, and the way out that its sandbox has.

The CLI's folder (`CLAUDE_CONFIG_DIR`) is one of the session's own, `{runtime}/claude`. Transcripts stay in it, so that
a session can be resumed. Settings, hooks, skills and agents lie over it read-only: with ``--setting-sources user``
nothing else is read, whatever the agent writes into the workspace.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.adapters.agents.processes import MARK
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.sandbox import Confinement, python_runtime
from tasks.adapters.sandbox.confinement import PATH
from tasks.adapters.sandbox.gateway import Way
from tasks.adapters.trees import remove_tree
from tasks.adapters.workspace import AGENT_WRITABLE, Workspace, write_atomic
from tasks.domain.agent import QUESTION_TOOL
from tasks.domain.errors import AgentMissing

WORKSPACE, RUNTIME = "/workspace", "/run/agent"
CONFIG = "/home/agent/.claude"
HOOK = "/opt/agent/hook.py"
PROGRAM = "/opt/agent/claude"
SETTINGS = "settings.json"
PORT = 3128

PINNED = "2.1.330"
"""The version that this was made with; another one works or not, and the log says that it is another."""

PLACEHOLDER = "sk-ant-the-key-is-added-outside-of-the-sandbox"
"""What the CLI takes for its key. The gateway puts the real one in its place."""

_CREDENTIALS = ".credentials.json"
_LOGIN_HOSTS = ("console.anthropic.com:443", "platform.claude.com:443")
"""Where a login is renewed."""

_ROOT = Path(__file__).resolve().parents[3]
CATALOGUE = _ROOT / ".claude"
_HOOK_SOURCE = Path(__file__).resolve().parent.parent / "inside" / "hook.py"

BUILD_COMMANDS = (
    *("cat", "ls", "find", "grep", "rg", "head", "tail", "wc", "sort", "uniq", "diff", "file", "stat", "tree", "pwd"),
    *("echo", "printf", "mkdir", "cp", "mv", "rm", "touch", "sed", "awk", "tr", "cut", "test", "true", "date"),
    *("node", "npm", "npx", "python", "python3", "pip", "pip3", "tar", "unzip", "sha256sum", "base64"),
)
"""What may be run without asking a person: builds, and what looks at files. The sandbox is the wall, not this list."""

_OFF = (
    *("DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_BUG_COMMAND"),
    *(
        f"CLAUDE_CODE_DISABLE_{name}"
        for name in (
            *("NONESSENTIAL_TRAFFIC", "OFFICIAL_MARKETPLACE_AUTOINSTALL", "FEEDBACK_SURVEY", "TERMINAL_TITLE"),
            *("CLAUDE_MDS", "FILE_MENTIONS", "AUTO_MEMORY", "BACKGROUND_TASKS", "CRON", "MOUSE"),
        )
    ),
)
"""Of the CLI, what reaches out by itself, goes on after a turn, or reads what an agent has left in the workspace."""

_TOOLS = ("Read", "Edit", "Write", "MultiEdit", "NotebookEdit", "Glob", "Grep", "TodoWrite", "Task", "Skill")
_WEB = ("WebFetch", "WebSearch")
_HOOKS: Mapping[str, str | None] = {
    **dict.fromkeys(("SessionStart", "UserPromptSubmit", "Notification", "Stop", "StopFailure", "SessionEnd")),
    **{"PreToolUse": QUESTION_TOOL, "PermissionRequest": "*", "PostToolUse": "*", "PostToolUseFailure": "*"},
}
"""Events, each with the tools for which it is told."""


@dataclass(frozen=True)
class Claude:
    """What an operator chose, see `blocks.coding_agent`. ``program`` is the CLI's binary.

    ``domains`` are ``host:port`` that may be reached in every phase, ``registries`` while it writes code. ``login``
    is the file of a person's own login, which takes the place of a key and is copied into the sandbox.
    """

    program: Path
    api: str
    key: str = field(repr=False)
    model: str = ""
    domains: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    requests: int = 0
    login: Path | None = None

    def way(self) -> Way:
        always = [*self.domains, *(_LOGIN_HOSTS if self.login else ())]
        allowed = {"*": always, "coding": list(self.registries)}
        return Way(self.api, self.key, allowed, self.requests, private=list(self.registries))


def find_program(named: str) -> Path:
    """The CLI: ``named``, else `claude` on PATH, else the one inside the package claude-agent-sdk.

    Raises AgentMissing with what to install.
    """
    if named:
        path = Path(named).expanduser()
        if path.is_file():
            return path.resolve()
        raise AgentMissing(f"{named} is no file", "give the path of the claude program, or leave it empty")
    found = shutil.which("claude")
    if found:
        return Path(found).resolve()
    try:
        import claude_agent_sdk  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise AgentMissing(
            "Claude Code is not installed: there is no claude on PATH",
            "install it (https://claude.com/claude-code), or: pip install claude-agent-sdk",
        ) from None
    bundled = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    if bundled.is_file():
        return bundled
    raise AgentMissing("claude-agent-sdk brings no program for this machine", "install Claude Code itself")


def version_of(program: Path) -> str:
    """Such as 2.1.330. Raises AgentMissing where it does not say: it is not Claude Code, or cannot be run here."""
    try:
        done = subprocess.run(
            [program, "--version"], env={"PATH": PATH}, capture_output=True, text=True, timeout=30, check=False
        )
        said = re.match(r"(\d+\.\d+\.\d+)\b.*Claude Code", done.stdout)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise AgentMissing(
            f"{program} cannot be run: {error}", "install Claude Code anew, or name another program"
        ) from None
    if said is None:
        raise AgentMissing(f"{program} is not Claude Code", "name the claude program in the coding agent's block")
    return said[1]


def own_login() -> Path | None:
    """The login of whoever runs this process; None where Claude Code has not been logged in to."""
    folder = os.environ.get("CLAUDE_CONFIG_DIR")
    path = (Path(folder) if folder else Path.home() / ".claude") / _CREDENTIALS
    return path if path.is_file() else None


def settings(domains: bool) -> dict[str, Any]:
    """The CLI's settings. ``domains``: whether there is any host to fetch from; without one the web tools are off."""
    note = f"{sys.executable} -I -S {HOOK}"
    events = f"{RUNTIME}/events.jsonl"

    def hook(matcher: str | None) -> list[dict[str, Any]]:
        command = {"type": "command", "command": f"{note} {events}", "timeout": 10}
        return [{**({"matcher": matcher} if matcher else {}), "hooks": [command]}]

    allow = [*_TOOLS, *(f"Bash({command}:*)" for command in BUILD_COMMANDS), *(_WEB[:1] if domains else ())]
    return {
        "permissions": {
            "allow": allow,
            "deny": [] if domains else list(_WEB),
            "defaultMode": "acceptEdits",
            "disableBypassPermissionsMode": "disable",
            "disableAutoMode": "disable",  # else a dialog offers it at the start
        },
        "hooks": {event: hook(matcher) for event, matcher in _HOOKS.items()},
        "statusLine": {"type": "command", "command": f"{note} --status {RUNTIME}/status.json"},
        "includeCoAuthoredBy": False,
        "cleanupPeriodDays": 365,
        "spinnerTipsEnabled": False,
    }


def stage(runtime: RuntimeFolder, chosen: Claude) -> None:
    """Write the configuration of a session that is about to start. What an earlier one wrote there is not read."""
    folder = runtime.claude
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "customApiKeyResponses": {"approved": [PLACEHOLDER[-20:]], "rejected": []},
        "projects": {WORKSPACE: {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}},
    }
    for name in (".claude.json", _CREDENTIALS):
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            remove_tree(folder / name)  # an earlier session's agent may write here
    write_atomic(folder / ".claude.json", json.dumps(state))
    if chosen.login is not None:
        write_atomic(folder / _CREDENTIALS, chosen.login.read_bytes())
    else:
        (folder / _CREDENTIALS).unlink(missing_ok=True)
    write_atomic(runtime.root / SETTINGS, json.dumps(settings(bool(chosen.domains)), indent=1))


def confinement(workspace: Workspace, runtime: RuntimeFolder, chosen: Claude) -> Confinement:
    """The CLI in its sandbox: the workspace, its own configuration, and one socket that leads out."""
    identity = ("--resume" if runtime.transcript() else "--session-id", runtime.session_id())
    readonly = {
        **python_runtime(),
        WORKSPACE: workspace.root,
        PROGRAM: chosen.program,
        HOOK: _HOOK_SOURCE,
        f"{CONFIG}/{SETTINGS}": runtime.root / SETTINGS,
    }
    for kind in ("skills", "agents"):
        if (CATALOGUE / kind).is_dir():
            readonly[f"{CONFIG}/{kind}"] = CATALOGUE / kind
    out = f"http://127.0.0.1:{PORT}"
    return Confinement(
        command=(
            *(PROGRAM, *identity, "--setting-sources", "user", "--strict-mcp-config"),
            *(("--model", chosen.model) if chosen.model else ()),
        ),
        readonly=readonly,
        writable={
            RUNTIME: runtime.events_folder,
            CONFIG: runtime.claude,
            **{f"{WORKSPACE}/{folder}": workspace.root / folder for folder in AGENT_WRITABLE},
        },
        env={
            MARK: runtime.mark,
            "CLAUDE_CONFIG_DIR": CONFIG,
            "ANTHROPIC_BASE_URL": out,
            **({} if chosen.login else {"ANTHROPIC_API_KEY": PLACEHOLDER}),
            **dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), out),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            **dict.fromkeys(_OFF, "1"),
        },
        cwd=WORKSPACE,
        bridge=runtime.way_out,
        bridge_port=PORT,
    )


def pane(runtime: RuntimeFolder, sandbox: Sequence[str]) -> list[str]:
    """The pane's program: the gateway, and below it the command that is the sandbox."""
    return [
        *(
            "/usr/bin/env",
            "-i",
            f"{MARK}={runtime.mark}",
            f"PATH={PATH}",
            f"PYTHONPATH={_ROOT}",
            "LANG=C.UTF-8",
            "TERM=tmux-256color",
        ),
        *(sys.executable, "-P", "-m", "tasks.adapters.sandbox.gateway"),
        *map(str, (runtime.way_out, runtime.fifo, runtime.egress, runtime.phase, "--")),
        *sandbox,
    ]
