"""Whole builds by the real Claude Code, in its sandbox and terminal, against a scripted model."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks.coding_agent import CodingAgent
from deployments.engines import Engine
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Registry
from tasks.domain.agent import INSTRUCTION
from tasks.domain.pipeline import Status, Verdict
from tasks.domain.request import SiteRequest
from tests.flows.conftest import REQUEST, agents_of, run_deployment
from tests.flows.test_steering import status_is
from tests.support.messages_api import Asked, Block, Fault, MessagesApi, messages_api, tool
from tests.support.scripted_model import build, phase_asked, work_of
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio

KEY = "sk-ant-test-0123456789abcdef0123456789"


@dataclass
class Modelled:
    """A service whose block `coding-agent/scripted` leads to ``api``."""

    service: ServiceUnderTest
    api: MessagesApi

    @property
    def request(self) -> dict[str, str]:
        return {**REQUEST, "agent": "claude", "coding_agent": "coding-agent/scripted"}


@pytest.fixture
async def modelled(service: ServiceUnderTest) -> AsyncIterator[Modelled]:
    told = {
        PREFECT_API_URL: service.told["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: service.told["PREFECT_API_AUTH_STRING"],
    }
    with messages_api(build) as api, temporary_settings(told):
        block = CodingAgent(api_key=SecretStr(KEY), api_url=api.url, packages=False)
        await block.asave("scripted", overwrite=True)
        yield Modelled(service, api)


async def test_claude_builds_a_live_verified_site(modelled: Modelled, service: ServiceUnderTest, record_of: Registry):
    seen = await run_deployment(service, "full-build/on-demand", {"request": modelled.request})

    assert seen.flow_run.state_name == "Completed", seen.lines
    progress = record_of.progress(seen.execution_id)
    assert (progress.status, progress.verdict) == (Status.COMPLETED, Verdict.PASSED)
    site = record_of.execution(seen.execution_id).site
    assert site is not None
    host = site.url.removeprefix("http://")
    answer = await asyncio.to_thread(httpx.get, f"http://{site.dial}/", headers={"Host": host}, trust_env=False)
    assert "Rye bread" in answer.text
    assert {headers["x-api-key"] for method, _path, headers in modelled.api.requests if method == "POST"} == {KEY}
    assert agents_of(service) == []
    assert not RuntimeFolder(service.home, seen.execution_id).way_out.exists()
    told = [path for path in service.home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert told == []


def asks_first(asked: Asked) -> list[Block] | Fault:
    """As `build`, but the plan is begun with a question."""
    done = len(asked.results)
    if phase_asked(asked.results) == "planning" and done <= 3:
        return [[QUESTION], *[[step] for step in work_of("planning")]][done - 1]
    return build(asked)


QUESTION = tool(
    "AskUserQuestion",
    questions=[
        {
            "question": "Dark or light?",
            "header": "Theme",
            "multiSelect": False,
            "options": [{"label": "Dark", "description": "night"}, {"label": "Light", "description": "day"}],
        }
    ],
)


async def test_a_question_waits_for_a_person_through_a_kill_of_the_run(
    modelled: Modelled, service: ServiceUnderTest, record_of: Registry
):
    modelled.api.script = asks_first
    accepted = record_of.accept(SiteRequest.model_validate(modelled.request), f"test-{uuid.uuid4()}")
    await status_is(record_of, accepted.execution_id, Status.WAITING_INPUT, 90)
    question = record_of.open_question(accepted.execution_id)
    assert question is not None
    assert question.body == "Dark or light?\n1. Dark\n2. Light"

    engines = Engine.below(service.home / "run" / "engines")
    (run,) = [run for run in record_of.active_runs() if run.run_id == accepted.run_id]
    (engine,) = [engine for engine in engines if str(engine.flow_run_id) == run.flow_run_id]
    engine.process.send(signal.SIGKILL)
    async with asyncio.timeout(90):
        while record_of.progress(accepted.execution_id).status is not Status.WAITING_INPUT or run.attempt < 2:
            await asyncio.sleep(0.1)
            (run,) = [run for run in record_of.active_runs() if run.run_id == accepted.run_id]
    record_of.post_message(accepted.execution_id, "user", "Light")
    await status_is(record_of, accepted.execution_id, Status.COMPLETED, 180)

    kickoffs = [asked for asked in modelled.api.asked if "Dark or light" in str(asked.results)]
    assert any('"Dark or light?"="Light"' in result for asked in kickoffs for result in asked.results)
    said = record_of.messages(accepted.execution_id, limit=500)
    lines = [message.body for message in said if message.author == "agent" and message.kind == "tool"]
    assert lines.count("Write /workspace/output/plan.md") == 1, "each line once, though two processes told them"
    assert [message.body for message in said if message.author == "system"].count(INSTRUCTION) == 4, "no prompt twice"
    assert record_of.open_question(accepted.execution_id) is None
    assert record_of.undelivered_messages(accepted.execution_id) == []
