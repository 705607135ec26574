"""Talk to an execution's agent from a shell: `python -m deployments.chat EXECUTION [TEXT]`.

With a text, or --interrupt, it is given to the agent as soon as that takes it; without, the conversation is shown, and
followed until the run is over. Needs the environment of ``service.env``.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from blocks.settings import settings
from tasks.adapters.redaction import redact
from tasks.adapters.registry import Message, Registry
from tasks.domain.errors import BuilderError
from tasks.domain.pipeline import Status
from tasks.domain.text import plain_text

LOOK_S = 0.5


def shown(message: Message) -> str:
    """One message as lines: who, when, what; what was not delivered yet is marked."""
    who = {"user": "you", "agent": "agent", "system": "pipeline"}.get(message.author, message.author)
    what = {"tool": f"· {message.body}", "interrupt": "(interrupt)"}.get(message.kind, message.body)
    waits = "  (not delivered yet)" if message.author == "user" and message.delivered_at is None else ""
    return f"{message.created_at:%H:%M:%S} {who:<8} {plain_text(what)}{waits}"


def follow(registry: Registry, execution_id: str) -> None:
    """Print the conversation from its start, until nobody can add to it."""
    seen = 0
    while True:
        status = registry.progress(execution_id).status
        new = registry.messages(execution_id, seen)
        for message in new:
            sys.stdout.write(shown(message) + "\n")
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
