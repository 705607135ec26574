"""One tmux server per execution, holding one session with one pane, on a socket of its own.

The pane's command is a program and never a shell that is typed into; what is typed is one fixed line from a file.
Every target is exact (``=name:``): tmux matches prefixes otherwise, and ``user_1`` would reach ``user_10``.
"""

import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import libtmux
from libtmux.common import tmux_cmd
from libtmux.exc import LibTmuxException

from tasks.adapters.workspace import write_atomic
from tasks.domain.ids import EXECUTION_ID, tmux_session_name

COLUMNS, ROWS = 220, 50
CALL_LIMIT_S = 5
"""A tmux client that takes longer is killed: a stopped server would hold it for ever."""

KEYS = frozenset({*"123456789", "Escape"})

SOCKET_PATH_BYTES = 107
"""``sun_path`` of unix(7), without its final NUL."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Read at start: set later, remain-on-exit comes too late for a program that ends at once, and the server goes with it.
# window-size is no option here: tmux 3.3a crashes where the file sets it to manual.
CONFIG = f"""\
set-option -g remain-on-exit on
set-option -gq remain-on-exit-format ''
set-option -g history-limit 10000
set-option -g default-size {COLUMNS}x{ROWS}
set-option -g default-terminal tmux-256color
set-option -g default-shell /bin/sh
set-option -g update-environment ''
set-option -gq allow-passthrough off
set-option -s set-clipboard off
set-option -s escape-time 0
set-option -g status off
set-option -g set-titles off
set-option -g allow-rename off
set-option -g automatic-rename off
set-option -g bell-action none
unbind-key -aq -T prefix
bind-key -T prefix d detach-client
bind-key -T prefix [ copy-mode
"""


class TmuxError(Exception):
    """tmux refused, is missing, or did not answer. `TerminalAgent` translates it; it goes no further."""


@dataclass(frozen=True)
class Pane:
    """``pid`` is the program that tmux started; ``exit_code`` may stay None for a while after it ended."""

    pid: int
    server_pid: int
    dead: bool
    exit_code: int | None


class TmuxSession:
    """The tmux session of one execution.

    ``tmux`` is the program; found on PATH where it is not given. Nothing of the caller's environment reaches it.
    """

    def __init__(self, home: Path, execution_id: str, tmux: str | None = None) -> None:
        self.home = home
        self.name = tmux_session_name(execution_id)
        self.socket = home / "run" / hashlib.sha256(execution_id.encode()).hexdigest()[:8]
        self._target = f"={self.name}:"
        self._tmux = tmux

    def start(self, command: Sequence[str], folder: Path) -> None:
        """Run ``command`` in a new session, started in ``folder``. Raises TmuxError where the session exists."""
        taken = len(os.fsencode(self.socket))
        if taken > SOCKET_PATH_BYTES:
            raise TmuxError(
                f"the socket {self.socket} has a path of {taken} bytes, {SOCKET_PATH_BYTES} are allowed; "
                "set TMUX_BUILDER_HOME to a shorter folder"
            )
        self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        others = [name for name in _session_names(self._server()) if name != self.name]
        if others:
            raise TmuxError(f"the socket {self.socket} belongs to {others[0]}; end that execution, then try again")
        self._call(
            *("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "-s", self.name, "-c", str(folder), "--"),
            *command,
            # A person who attaches with a small terminal then sees a part of the pane, and does not resize it.
            *(";", "set-option", "-w", "-t", self._target, "window-size", "manual"),
        )

    def pane(self) -> Pane | None:
        """The session's pane; None where there is no session. Raises TmuxError where tmux does not answer."""
        if not self.socket.exists():
            return None
        form = "#{pane_pid} #{pid} #{pane_dead} #{pane_dead_status}"
        answer = self._server().cmd("list-panes", "-s", "-F", form, target=self._target)
        if answer.returncode:
            return None
        pid, server_pid, dead, *code = answer.stdout[0].split()
        return Pane(int(pid), int(server_pid), dead == "1", int(code[0]) if code else None)

    def load(self, buffer: str, file: Path) -> None:
        """Hold the file's text in a buffer of the server until `paste` takes it."""
        try:
            self._server().load_buffer(file, buffer_name=buffer)
        except LibTmuxException as error:
            raise TmuxError(str(error)) from error

    def holds(self, buffer: str) -> bool:
        return buffer in self._call("list-buffers", "-F", "#{buffer_name}")

    def paste(self, buffer: str) -> bool:
        """Type the buffer's text into the pane and drop the buffer, in one step; False where the program has ended.

        Pasting to a dead pane crashes the server of tmux 3.3a (https://github.com/tmux/tmux/pull/3830), so the
        server itself looks first. A person's copy mode is left, or it would take the keys.
        """
        answer = self._call(
            *("if-shell", "-F", "-t", self._target, "#{pane_in_mode}", f"send-keys -t '{self._target}' -X cancel"),
            *(";", "if-shell", "-F", "-t", self._target, "#{pane_dead}", "display-message -p PANE_DEAD"),
            f"paste-buffer -p -r -d -b '{buffer}' -t '{self._target}'",
        )
        return "PANE_DEAD" not in answer

    def press_enter(self) -> None:
        """To a dead pane this does nothing."""
        self._call("send-keys", "-t", self._target, "Enter")

    def press(self, key: str) -> None:
        """One key of ours: a digit that chooses, or Escape. To a dead pane this does nothing."""
        if key not in KEYS:
            raise ValueError(f"{key!r} is not among the keys that are pressed here: {', '.join(sorted(KEYS))}")
        self._call("send-keys", "-t", self._target, key)

    def screen(self, lines: int) -> list[str]:
        """The last ``lines`` lines, with what scrolled out; without control, bidi or invisible characters."""
        shown = self._call("capture-pane", "-p", "-S", f"-{lines}", "-t", self._target)
        clean = [plain(line) for line in shown]
        while clean and not clean[-1]:
            clean.pop()
        return clean[-lines:]

    def visible(self) -> str:
        """What is on the screen, without line breaks: a line that the pane wrapped is found in it as one."""
        return "".join(plain(line) for line in self._call("capture-pane", "-p", "-t", self._target))

    def kill(self) -> None:
        """End the session by its exact name, and with it the server. Nothing happens where there is none."""
        if not self.socket.exists():
            return
        self._server().cmd("kill-session", target=f"={self.name}")  # refuses where it is gone already
        self.forget()

    def forget(self) -> None:
        """Remove a socket that nobody answers on: tmux leaves it behind."""
        if self.socket.exists() and not _session_names(self._server()):
            self.socket.unlink(missing_ok=True)

    def attach_command(self, read_only: bool = False) -> str:
        """What a person types to look at the session, or to help in it."""
        return shlex.join(
            ["tmux", "-S", str(self.socket), "attach", *(["-r"] if read_only else []), "-t", f"={self.name}"]
        )

    def _server(self) -> libtmux.Server:
        return _Server(self.home, self.socket, self._tmux)

    def _call(self, command: str, *arguments: str) -> list[str]:
        answer = self._server().cmd(command, *arguments)
        if answer.returncode:
            raise TmuxError(f"tmux {command}: {' '.join(answer.stderr) or f'exit code {answer.returncode}'}")
        return answer.stdout


def living_executions(home: Path, tmux: str | None = None) -> list[str]:
    """The execution ids of all sessions on sockets below the home; a socket that nobody answers on is passed over."""
    prefix = tmux_session_name("")
    found = []
    for socket in sorted((home / "run").glob("[0-9a-f]" * 8)):
        if stat.S_ISSOCK(socket.lstat().st_mode):
            names = _session_names(_Server(home, socket, tmux))
            found += [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return [execution_id for execution_id in found if EXECUTION_ID.fullmatch(execution_id)]


def plain(line: str) -> str:
    """
    >>> plain("caf\\u00e9\\x1b]52;c;aGk=\\x07\\u202e\\tok ")
    'café]52;c;aGk= ok'
    """
    return "".join(" " if character == "\t" else character for character in line if _shown(character)).rstrip()


def _shown(character: str) -> bool:
    return character.isprintable() or character == "\t"


class _Call(tmux_cmd):
    """libtmux's own waits without limit for the end of pipes that a stopped tmux server holds, and passes our
    environment on. This does neither, and is libtmux's answer otherwise.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.cmd = list(words)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                self.returncode = subprocess.run(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=environment,
                    cwd=environment["HOME"],  # where the server stays
                    timeout=CALL_LIMIT_S,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                raise TmuxError(f"no answer within {CALL_LIMIT_S} s") from None
            self.stdout, self.stderr = _lines(out), _lines(err)


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    text = file.read().decode("utf-8", "backslashreplace").rstrip("\n")
    return text.split("\n") if text else []


class _Server(libtmux.Server):
    """libtmux's Server, with calls that end. Every call names the socket: none reaches a person's own tmux."""

    def __init__(self, home: Path, socket: Path, tmux: str | None) -> None:
        folder = home / "run"
        config = folder / "tmux.conf"
        if not config.is_file() or config.read_text() != CONFIG:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(config, CONFIG)
        super().__init__(socket_path=socket, config_file=str(config), tmux_bin=tmux)
        self._environment = {"PATH": PATH, "HOME": str(folder), "LANG": "C.UTF-8", "SHELL": "/bin/sh"}

    def cmd(self, cmd: str, *args: Any, target: str | int | None = None) -> tmux_cmd:
        program = self.tmux_bin or shutil.which("tmux")
        if program is None:
            raise TmuxError("tmux is not on PATH; install it: apt-get install tmux")
        words = [program, "-u", "-f", str(self.config_file), "-S", str(self.socket_path), cmd]
        words += ["-t", str(target)] if target is not None else []
        try:
            return _Call([*words, *map(str, args)], self._environment)
        except (TmuxError, OSError) as error:
            raise TmuxError(f"tmux {cmd}: {error}") from error


def _session_names(server: libtmux.Server) -> list[str]:
    answer = server.cmd("list-sessions", "-F", "#{session_name}")
    return [] if answer.returncode else answer.stdout
