"""From the hook by which Claude Code tells the end of its turn to the return of `ask`, against a scripted model."""

import json
import statistics
import time
from typing import Any

from tasks.domain.agent import Phase
from tasks.domain.prompts import kickoff
from tests.support.claude_stage import Act, in_turn
from tests.support.messages_api import messages_api
from tests.support.scripted_model import work_of
from tests.support.terminal import Stage


def measure(turns: int) -> dict[str, Any]:
    """One session, asked to plan again and again, each time in other words."""
    stage, taken = Stage(), []
    try:
        with messages_api(in_turn(*work_of("planning"))) as api:
            act = Act(stage, api)
            agent = act.agent()
            agent.start()
            for number in range(turns):
                agent.ask(Phase.PLANNING, kickoff("sess20260124143022", f"Bakery {number}"), lambda: None, 60)
                returned = time.time()
                lines = stage.runtime().events.read_text().splitlines()
                stops = [found["at"] for found in map(json.loads, lines) if found["hook_event_name"] == "Stop"]
                taken.append(1000 * (returned - stops[-1]))
    finally:
        stage.close()
    ordered = sorted(taken)
    return {
        "turns": turns,
        "median_ms": round(statistics.median(ordered), 1),
        "max_ms": round(ordered[-1], 1),
    }
