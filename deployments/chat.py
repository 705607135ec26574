"""Talk to an execution's agent from a shell: `python -m deployments.chat EXECUTION [TEXT]`.

With a text, or --interrupt, it is given to the agent as soon as that takes it; without, the conversation is shown, and
followed until the run is over. Needs the environment of ``service.env``.
"""

import argparse
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence

from blocks.settings import settings
from tasks.adapters.redaction import redact
from tasks.adapters.registry import Message, Registry
from tasks.domain.errors import BuilderError
from tasks.domain.pipeline import Status
from tasks.domain.text import plain_text

LOOK_S = 0.5
_MARGIN = " " * len("12:34:56 pipeline ")


def shown(message: Message, columns: int = sys.maxsize) -> str:
    """One message as lines: who, when, what; what was not delivered yet is marked.

    Only a first line begins at the margin, where the speaker is named: a body's further lines are indented, and broken
    here where the terminal of so many ``columns`` would break them.
    """
    who = {"user": "you", "agent": "agent", "system": "pipeline"}.get(message.author, message.author)
    what = {"tool": f"· {message.body}", "interrupt": "(interrupt)"}.get(message.kind, message.body)
    waits = "  (not delivered yet)" if message.author == "user" and message.delivered_at is None else ""
    room = max(columns - len(_MARGIN), 20)
    body = f"{plain_text(what)}{waits}".expandtabs(4)
    rows = [row for line in body.splitlines() for row in _rows(line, room)]
    return f"{message.created_at:%H:%M:%S} {who:<8} " + f"\n{_MARGIN}".join(rows)


def _rows(line: str, room: int) -> Iterator[str]:
    """The line in pieces that are ``room`` cells wide at most; characters of East Asia take two."""
    row, taken = "", 0
    for character in line:
        cells = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken + cells > room:
            yield row
            row, taken = "", 0
        row, taken = row + character, taken + cells
    yield row


def follow(registry: Registry, execution_id: str) -> None:
    """Print the conversation from its start, until nobody can add to it."""
    seen, columns = 0, shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    while True:
        status = registry.progress(execution_id).status
        new = registry.messages(execution_id, seen)
        for message in new:
            sys.stdout.write(shown(message, columns) + "\n")
            seen = message.message_id
        sys.stdout.flush()
        if not new and status.is_final:
            return
        time.sleep(0 if new else LOOK_S)


def say(registry: Registry, execution_id: str, text: str, interrupt: bool) -> str:
    """Raises ValueError where nobody would get it."""
    status = registry.progress(execution_id).status
    if status not in (Status.RUNNING, Status.WAITING_INPUT):
        raise ValueError(f"the execution is {status}; an agent listens while it is running or waiting_input")
    registry.post_message(execution_id, "user", text, "interrupt" if interrupt else "say")
    return "given to the agent as soon as it takes it; the conversation: the same command without a text"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.chat", description=__doc__.partition("\n")[0])
    parser.add_argument("execution", help="such as a1b2c3d4_sess20260124143022")
    parser.add_argument("text", nargs="?", help="what to say; a question is answered by the number of its choice")
    parser.add_argument("--interrupt", action="store_true", help="end the agent's turn")
    told = parser.parse_args(arguments)
    try:
        registry = Registry.open(settings().registry_url)
        try:
            if told.text or told.interrupt:
                sys.stdout.write(say(registry, told.execution, told.text or "", told.interrupt) + "\n")
            else:
                follow(registry, told.execution)
        finally:
            registry.close()
    except (BuilderError, ConnectionError, LookupError, ValueError) as error:
        sys.stderr.write(f"chat: {redact(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
