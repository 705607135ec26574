"""The plan: written by the agent, and read by a person where the request asks for that.

A person answers in the Prefect UI (Resume), or through the registry; the first answer counts.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any
from uuid import uuid4

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from pydantic import ConfigDict, Field, ValidationError

from blocks.settings import settings
from tasks.adapters.registry import Question
from tasks.adapters.workspace import Workspace, read_bounded
from tasks.domain.agent import Phase
from tasks.domain.errors import NotApproved
from tasks.domain.execution import Execution, Plan
from tasks.domain.markdown import tamed
from tasks.domain.pipeline import Step
from tasks.domain.prompts import kickoff
from tasks.domain.requirements import Requirements
from tasks.parts import ask, leave_turn
from tasks.record import current_flow_run, in_thread, registry, show_markdown

PLAN_LIMIT_BYTES = 256 * 1024
ROUNDS = 20
"""How often a plan may be changed; after that it is yes or no."""

SHOWN_BYTES = 12_000
"""How much of the plan the question shows; all of it is among the run's artifacts."""

_LOOK_S = 0.5


class Decision(StrEnum):
    APPROVE = "approve"
    CHANGE = "change"
    REJECT = "reject"


class PlanAnswer(RunInput):
    """What a person says to a plan; also the form of Prefect's Resume dialog."""

    model_config = ConfigDict(title="Your answer", extra="forbid")

    decision: Decision = Field(
        title="Decision",
        description="approve: build it. change: plan again with the changes below. reject: end here, build nothing.",
        json_schema_extra={"position": 0},
    )
    changes: str = Field(
        "",
        title="Changes",
        description="For 'change': what shall be different, in your own words. For 'reject': why, if you like.",
        max_length=5_000,
        json_schema_extra={"position": 1},
    )


async def write_plan(execution: Execution, requirements: Requirements, changes: tuple[str, ...] = ()) -> Plan:
    """Have the agent write output/plan.md. Asking again adopts the session that lives and repeats no prompt."""
    workspace = Workspace(execution.workspace)

    def complaint() -> str | None:
        plan = read_bounded(workspace.plan, PLAN_LIMIT_BYTES)
        if plan is None:
            return f"output/plan.md is missing, not a plain file, or longer than {PLAN_LIMIT_BYTES} bytes"
        return None if plan.strip() else "output/plan.md is empty"

    await ask(
        execution,
        Phase.PLANNING,
        kickoff(execution.session_id, requirements.text, changes, execution.request.site_type),
        complaint,
    )
    text = await in_thread(_read, workspace)
    show_markdown("plan", "What the agent is going to build", tamed(text))
    return Plan(path="output/plan.md", size=len(text.encode()))


def _read(workspace: Workspace) -> str:
    return (read_bounded(workspace.plan, PLAN_LIMIT_BYTES) or b"").decode("utf-8", "replace")


async def approved(execution: Execution, requirements: Requirements, plan: Plan) -> Plan:
    """The plan that a person said yes to; at once where none is to be asked, or where one has said so before.

    Raises NotApproved for a no, and where nobody answers in time; the plan is then written anew when the run is
    retried.
    """
    if not execution.request.approve_plan:
        return plan
    try:
        return await _approved(execution, requirements, plan)
    except NotApproved as error:
        await in_thread(registry().undo_steps, execution.run_id, Step.CREATE_PLAN)
        await in_thread(registry().fail_step, execution.run_id, Step.CREATE_PLAN, str(error))
        raise


async def _approved(execution: Execution, requirements: Requirements, plan: Plan) -> Plan:
    while True:
        asked = await in_thread(registry().questions, execution.execution_id, "plan")
        answers = [PlanAnswer.model_validate(question.answer) for question in asked if question.answer is not None]
        standing = _since_last_no(answers)
        if standing and standing[-1].decision is Decision.APPROVE:
            return plan
        changes = tuple(answer.changes for answer in standing)
        if changes:
            plan = await write_plan(execution, requirements, changes)
        answer = await _ask_person(execution, number=1 + len(answers), may_change=len(standing) < ROUNDS)
        match answer.decision:
            case Decision.APPROVE:
                get_run_logger().info("the plan was approved")
                return plan
            case Decision.CHANGE:
                get_run_logger().info("changes to the plan were asked for: %s", " ".join(answer.changes.split())[:500])
            case Decision.REJECT:
                reason = " ".join(answer.changes.split())[:500] or "no reason given"
                raise NotApproved(f"a person rejected it: {reason}", True)


def _since_last_no(answers: list[PlanAnswer]) -> list[PlanAnswer]:
    """What counts for the plan at hand: a retry after a no begins anew."""
    noes = [index for index, answer in enumerate(answers) if answer.decision is Decision.REJECT]
    return answers[noes[-1] + 1 :] if noes else answers


async def _ask_person(execution: Execution, number: int, may_change: bool) -> PlanAnswer:
    """The answer to one round, wherever it comes from."""
    text = await in_thread(_read, Workspace(execution.workspace))
    body = _words(execution, text, may_change)
    ttl_s = settings().approval_deadline_s
    question = await in_thread(registry().ask_question, execution.run_id, "plan", number, body, ttl_s)
    if question.answer is not None:
        return PlanAnswer.model_validate(question.answer)
    get_run_logger().info(
        "waiting for a person's answer to the plan until %s: press Resume in the Prefect UI", question.expires_at
    )
    await leave_turn(execution)
    watcher = asyncio.create_task(_resume_when_answered(question))
    try:
        # Prefect pauses once for each key, and does not count the start of a run that was killed while it was paused.
        key = f"plan-{number}-{uuid4()}"
        form = PlanAnswer.with_initial_data(description=body)
        given = await apause_flow_run(wait_for_input=form, timeout=int(ttl_s), poll_interval=1, key=key)
        return await _keep(question, given.model_dump(mode="json"), "Prefect UI")
    except FlowPauseTimeout:
        raise NotApproved(f"nobody answered within {ttl_s / 3600:.0f} hours") from None
    finally:
        watcher.cancel()


async def _keep(question: Question, given: Mapping[str, Any], by: str) -> PlanAnswer:
    """What counts: this answer, or the one that was there before."""
    fields = {name: given[name] for name in PlanAnswer.model_fields if name in given}
    kept = await in_thread(registry().answer_question, question.question_id, fields, by)
    if kept.answer is None:
        raise NotApproved("the answer came after its time")
    return PlanAnswer.model_validate(kept.answer)


async def _resume_when_answered(question: Question) -> None:
    """Somebody who does not use the Prefect UI answers in the registry; the paused run learns it here."""
    while True:
        await asyncio.sleep(_LOOK_S)
        with suppress(ConnectionError):
            (now,) = [
                other
                for other in await in_thread(registry().questions, question.execution_id, "plan")
                if other.question_id == question.question_id
            ]
            if now.answer is not None:
                break
    answer = PlanAnswer.model_validate(now.answer)
    async with get_client() as client:
        while True:
            with suppress(Exception):  # the server is away, or the run is not paused yet: tried again until it is over
                await client.resume_flow_run(current_flow_run().id, run_input=answer.model_dump(mode="json"))
            await asyncio.sleep(_LOOK_S)


def check_answer(answer: Mapping[str, Any]) -> PlanAnswer:
    """A stranger's answer as one of ours. Raises ValueError that names the field."""
    try:
        return PlanAnswer.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _words(execution: Execution, plan: str, may_change: bool) -> str:
    shown = plan.encode()[:SHOWN_BYTES].decode("utf-8", "ignore")
    more = "" if shown == plan else "\n\n*(shortened; all of it is the artifact called plan)*"
    choice = "approve, change or reject" if may_change else "approve or reject, it was changed often enough"
    return (
        f"## Shall this be built?\n\nExecution `{execution.execution_id}` waits for your answer: {choice}.\n\n---\n\n"
        f"{tamed(shown)}{more}"
    )
