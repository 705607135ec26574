"""Starts a generated suite's pytest, and is its witness. Runs inside the sandbox; standard library only.

`python -I -B suite_supervisor.py ORDER`: reads ORDER, a file of JSON, and removes it; from then on its ``key`` is in
this process alone, which never imports the suite and whose memory is closed to it. It reads from the suite's text which
tests there are, has `suite_runner.py` tell it each phase of each test as it happens, and ends with one line on stdout
that is signed with the key. The exit code is pytest's.

The tests run in the process that tells of them: a suite that speaks this protocol can still lie in it.
"""

import ast
import ctypes
import hashlib
import hmac
import json
import os
import resource
import secrets
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

MARK = "tmux-builder-suite:"
LINE_BYTES = 1 << 16
_PR_SET_DUMPABLE = 4


class Written:
    """The tests in a suite's text, as (class, name) with the class as JUnit files name it.

    ``certain`` are those that are there whatever happens; ``possible`` are below an ``if`` or a decorator of its own.
    """

    def __init__(self, source: bytes, module: str) -> None:
        self.certain: set[tuple[str, str]] = set()
        self.possible: set[tuple[str, str]] = set()
        self.complaints: list[str] = []
        try:
            tree = ast.parse(source)
            self._classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
            self._read(tree.body, module, self.certain)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
            self.complaints.append(f"the suite cannot be parsed: {where}"[:300])

    def _read(self, body: list[ast.stmt], owner: str, found: set[tuple[str, str]]) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef) and _is_test(node):
                (found if _is_kept(node) else self.possible).add((owner, node.name))
            elif isinstance(node, ast.AsyncFunctionDef) and _is_test(node):
                self.complaints.append(f"{owner}::{node.name} is an async def, which pytest does not run")
            elif isinstance(node, ast.ClassDef) and self._holds_tests(node):
                for each in self._family(node):
                    self._read(each.body, f"{owner}.{node.name}", found)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom):
                names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
                names |= {each.asname or each.name for each in ast.walk(node) if isinstance(each, ast.alias)}
                self.possible |= {(owner, name) for name in names if name.startswith("test")}
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
                inner += [each.body for field in ("handlers", "cases") for each in getattr(node, field, [])]
                for block in inner:
                    self._read(block, owner, self.possible)

    def _holds_tests(self, node: ast.ClassDef) -> bool:
        untested = any(ast.unparse(each) == "__test__ = False" for each in node.body)
        bases = {ast.unparse(base).rpartition(".")[2] for each in self._family(node) for base in each.bases}
        return not untested and (node.name.startswith("Test") or "TestCase" in bases)

    def _family(self, node: ast.ClassDef) -> list[ast.ClassDef]:
        """The class, and those of the suite that it inherits from."""
        found = [node]
        for each in found:
            names = [base.id for base in each.bases if isinstance(base, ast.Name) and base.id in self._classes]
            found += [self._classes[name] for name in names if self._classes[name] not in found]
        return found


def _is_test(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    fixture = any("fixture" in ast.unparse(each) for each in node.decorator_list)
    return node.name.startswith("test") and not fixture


def _is_kept(node: ast.FunctionDef) -> bool:
    """Whether it is a test whatever happens: a decorator of the suite's own may leave it out, as for want of cases."""
    return all(ast.unparse(each).startswith("pytest.mark.") for each in node.decorator_list)


class Witness:
    """What the suite's process tells. One test at a time: it begins, gets a token, and ends with all its phases."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, str]] = []
        self.complaints: list[str] = []
        self._name: tuple[str, str] | None = None
        self._token = ""
        self._phases: list[tuple[str, str]] = []

    def hear(self, line: bytes) -> str | None:
        """The answer to a line; None where it needs none."""
        try:
            told = json.loads(line)
            match told:
                case {"begins": [str(owner), str(name)]} if self._name is None:
                    self._name, self._token, self._phases = (owner, name), secrets.token_hex(16), []
                    return self._token
                case {"token": self._token, "phase": str(phase), "outcome": str(outcome)} if self._name is not None:
                    self._phases.append((phase, outcome))
                    if phase == "teardown":
                        self._end(*self._name)
                    return None
        except (ValueError, RecursionError):
            pass
        self.complaints.append("the suite's process told something that pytest does not tell")
        return None

    def _end(self, owner: str, name: str) -> None:
        outcomes = [outcome for _, outcome in self._phases]
        expected = ["setup", "call", "teardown"] if outcomes[0] == "passed" else ["setup", "teardown"]
        if [phase for phase, _ in self._phases] != expected:
            self.complaints.append(f"{owner}::{name} did not run its phases")
        kind = next((kind for kind in ("failed", "skipped") if kind in outcomes), "passed")
        self.ran.append((owner, name, kind))
        self._name = None

    @property
    def unfinished(self) -> list[str]:
        return ["::".join(self._name) + " did not end"] if self._name else []


def watch(child: "subprocess.Popen[bytes]", link: socket.socket, witness: Witness) -> int:
    """Listen until the child has ended, whoever else holds its end of the link."""
    heard, gone = b"", os.pidfd_open(child.pid)
    both: list[Any] = [link, gone]
    link.settimeout(5)
    while True:
        ready, _, _ = select.select(both, [], [])
        try:
            data = link.recv(LINE_BYTES) if link in ready else b""
        except OSError:
            data = b""
        *lines, heard = (heard + data).split(b"\n")
        for line in lines:
            answer = witness.hear(line)
            if answer is not None:
                try:
                    link.sendall(answer.encode() + b"\n")
                except OSError:
                    witness.complaints.append("the suite's process did not listen")
        if len(heard) > LINE_BYTES or (not data and link in ready):
            break  # nothing more that could be believed
        if gone in ready and link not in ready:
            break
    code = child.wait()
    return 128 - code if code < 0 else code


def signed(key: bytes, report: dict[str, Any]) -> str:
    text = json.dumps(report)
    return f"{MARK} {hmac.new(key, text.encode(), hashlib.sha256).hexdigest()} {text}"


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no other process of the sandbox reads its memory
    path = Path(sys.argv[1])
    order = json.loads(path.read_text())
    path.unlink()
    key = bytes.fromhex(order.pop("key"))
    suite = Path(order["suite"])
    written, witness = Written(suite.read_bytes(), suite.stem), Witness()
    link, theirs = socket.socketpair()
    child = subprocess.Popen([sys.executable, "-I", "-B", order.pop("runner")], stdin=theirs.fileno())
    theirs.close()
    link.sendall(json.dumps(order).encode() + b"\n")
    code = watch(child, link, witness)
    report = {
        "exit_code": code,
        "certain": sorted(written.certain),
        "possible": sorted(written.possible),
        "ran": witness.ran,
        "complaints": [*written.complaints, *witness.complaints, *witness.unfinished][:20],
    }
    sys.stdout.write(f"\n{signed(key, report)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
