"""From the agent's line in `output/status.txt` to the next step's first line, through the real tasks and record."""

import logging
import statistics
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import flow

from tasks import record
from tasks.adapters.agents import programs
from tasks.create_plan import create_plan
from tasks.create_session import create_session
from tasks.create_user import create_user
from tasks.deploy import deploy
from tasks.domain.execution import Execution
from tasks.domain.request import SiteRequest
from tasks.gather_requirements import gather_requirements
from tasks.generate_code import generate_code
from tasks.parts import agent_of

AGENT = Path(__file__).with_name("noting_agent")
FOLLOWED_BY = {"planning": "step 5/9 generate_code started", "coding": "step 6/9 deploy started"}


class FirstLines(logging.Handler):
    """When each line was logged, by the clock that the agent reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}

    def emit(self, line: logging.LogRecord) -> None:
        self.seen[line.getMessage()] = time.monotonic_ns()


@flow(name="signals")
async def six_steps(request: SiteRequest) -> Execution:
    """Steps 1 to 6 as full-build does them, pages included."""
    async with record.pages():
        order = await create_user(request, None)
        execution = await create_session(order)
        async with record.writing(execution):
            requirements = await gather_requirements(execution)
            plan = await create_plan(execution, requirements)
            await generate_code(execution, plan)
            await deploy(execution)
        return execution


async def measure(signals: int) -> dict[str, Any]:
    """Two signals a round. Called in a process that belongs to a running service."""
    programs._OFFLINE_SOURCE = AGENT
    lines = FirstLines()
    logging.getLogger("prefect.task_runs").addHandler(lines)
    taken = []
    for _ in range(signals // 2):
        request = SiteRequest(requirements="A bakery", email=f"{uuid4().hex[:8]}@example.com", phone="+4915112345678")
        execution = await six_steps(request)
        for phase, line in FOLLOWED_BY.items():
            written = int((execution.workspace / "output" / f"{phase}.written").read_text())
            taken.append((lines.seen[line] - written) / 1e6)
        agent_of(execution).stop()
    taken.sort()
    return {
        "signals": len(taken),
        "median_ms": round(statistics.median(taken), 1),
        "p99_ms": round(taken[-(-len(taken) * 99 // 100) - 1], 1),
        "max_ms": round(taken[-1], 1),
        "target": "p99 <= 50 ms",
    }
