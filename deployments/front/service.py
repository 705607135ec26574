"""What the front door does, whichever way somebody comes in: the API's routes and pages call the same functions.

Everything blocks: call it from a thread. Rights to an execution were looked at by who made the `Visit`.
"""

import hmac
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from deployments.front import models
from deployments.front.limits import Rates
from deployments.front.problems import Problem
from deployments.front.settings import FrontSettings, listed
from deployments.front.tokens import LINK, mint, sha256_of
from deployments.front.wording import ForRequesters
from tasks.adapters.registry import Accepted, Admission, ExecutionRecord, Registry
from tasks.domain.check import Check
from tasks.domain.errors import UnknownExecution
from tasks.domain.pipeline import SiteState, Status, Step, Verb
from tasks.domain.request import SiteRequest, normalise_email, vet
from tasks.domain.text import plain_text

if TYPE_CHECKING:
    from deployments.front.access import Caller, Visit

KEY_LIMIT = 128
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_LIMIT}}}")
_SHORTEST_STRANGERS_KEY = 16

_TALKING = (Status.RUNNING, Status.WAITING_INPUT)


@dataclass(frozen=True)
class Front:
    """What every request shares."""

    registry: Registry
    settings: FrontSettings
    rates: Rates

    @cached_property
    def _for_requesters(self) -> ForRequesters:
        return ForRequesters.here(self.settings.home)

    def words_for(self, caller: "Caller") -> Callable[[str], str]:
        """How this caller is told of failures."""
        return str if caller.is_operator else self._for_requesters


def delivery_key(caller: "Caller", given: str | None) -> str:
    """One name for one delivery of one caller: another's same key is another delivery.

    A stranger's key is all that ties a repeat to its order, so it must be hard to guess.
    """
    if given is None:
        return f"api:{uuid.uuid4()}"
    shortest = _SHORTEST_STRANGERS_KEY if caller.is_stranger else 1
    if not _KEY.fullmatch(given) or len(given) < shortest:
        raise Problem.about(
            "Idempotency-Key",
            "it cannot be used",
            f"{shortest} to {KEY_LIMIT} printable ASCII characters without blanks, such as a UUID",
            status=400,
        )
    return f"api:{caller.name or 'stranger'}:{given}"


# -- ordering --


def order(front: Front, caller: "Caller", request: SiteRequest, key: str | None, invite: str | None) -> models.Created:
    """Accept an order, or find what it was accepted as. `access.may_order` has let the caller in."""
    name = delivery_key(caller, key)
    _may_order(front, caller, request, invite)
    vet(request)
    return created(front, request, name)


def created(front: Front, request: SiteRequest, key: str) -> models.Created:
    """Take a vetted request in, with a link to it."""
    front.rates.spend(f"orders of {normalise_email(request.email)}", front.settings.web_rate_user)
    token = mint(LINK)
    accepted = front.registry.accept(request, key, link_sha256=sha256_of(token), admission=admission(front.settings))
    return models.Created(
        user_id=accepted.user_id,
        session_id=accepted.session_id,
        execution_id=accepted.execution_id,
        status=status_of(front, accepted),
        token=token,
        links=links(front.settings.base_url, accepted.execution_id, token),
    )


def admission(settings: FrontSettings) -> Admission:
    return Admission(settings.max_queue, settings.max_per_user_day)


def status_of(front: Front, accepted: Accepted) -> Status:
    return Status.PENDING if accepted.created else front.registry.progress(accepted.execution_id).status


def links(base_url: str, execution_id: str, token: str) -> models.Links:
    api = f"{base_url}/api"
    return models.Links(
        page=page_link(base_url, execution_id, token),
        progress=f"{api}/executions/{execution_id}",
        events=f"{api}/executions/{execution_id}/events",
        chat=f"{api}/chat/{execution_id}",
        history=f"{api}/chat/{execution_id}/history",
        redeploy=f"{api}/redeploy/{execution_id}",
    )


def page_link(base_url: str, execution_id: str, token: str) -> str:
    return f"{base_url}/e/{execution_id}?token={token}"


def new_link(front: Front, visit: "Visit") -> str:
    """One more token that is good for this execution; the oldest of many is good no more."""
    token = mint(LINK)
    front.rates.spend(f"links of {visit.execution_id}", 10, 3600)
    front.registry.add_link(visit.execution_id, sha256_of(token))
    return token


def _may_order(front: Front, caller: "Caller", request: SiteRequest, invite: str | None) -> None:
    if not caller.is_stranger:
        if caller.user_id is not None:
            email = front.registry.email_of(caller.user_id)
            if email != normalise_email(request.email):
                raise Problem.about(
                    "email", "this key orders for its own user alone", "that user's address", status=403
                )
        return
    settings = front.settings
    if settings.web_form == "invite" and not _is_invited(settings, invite):
        raise Problem.about(
            "Invite-Code", "it is missing or not known", "a code that the operator gave you", status=403
        )
    front.rates.spend(f"strangers' orders {caller.address}", settings.web_orders_ip, 3600)
    for field in ("hosting", "coding_agent"):
        default = SiteRequest.model_fields[field].default
        if getattr(request, field) != default:
            raise Problem.about(field, "a block is named by who has a key", f"{default}, or nothing", status=403)


def _is_invited(settings: FrontSettings, invite: str | None) -> bool:
    given = (invite or "").encode()
    codes = listed(settings.web_invites.get_secret_value())
    return any([hmac.compare_digest(given, code.encode()) for code in codes])  # noqa: C419  # each takes its time


# -- talking --


def say(front: Front, visit: "Visit", message: str, interrupt: bool) -> models.Sent:
    """Give the agent a message. Problem 400 where nobody would get it."""
    status = front.registry.progress(visit.execution_id).status
    if status not in _TALKING:
        raise Problem(400, f"Cannot chat - status is {status}; an agent listens while it is running or waiting_input")
    front.registry.post_message(visit.execution_id, "user", message, "interrupt" if interrupt else "say")
    return models.Sent(status="sent", execution_id=visit.execution_id)


def conversation(front: Front, visit: "Visit", cursor: int, limit: int) -> models.Conversation:
    found = front.registry.messages(visit.execution_id, cursor, limit)
    screen = front.registry.screen(visit.execution_id)
    lines = [
        models.Line(
            id=message.message_id,
            author=message.author,
            kind=message.kind,
            text=plain_text(message.body),
            at=message.created_at,
            delivered=message.author != "user" or message.delivered_at is not None,
        )
        for message in found
    ]
    return models.Conversation(
        execution_id=visit.execution_id,
        output=plain_text(screen.body) if screen else "",
        output_at=screen.shown_at if screen else None,
        messages=lines,
        next_cursor=found[-1].message_id if found else cursor,
    )


def answer(front: Front, visit: "Visit", question_id: str, given: models.Answer) -> models.Sent:
    """The first answer counts, wherever it is given. Problem 409 where somebody was faster, or the time is over."""
    open_ = front.registry.open_question(visit.execution_id)
    asked = [
        *front.registry.questions(visit.execution_id, "plan"),
        *front.registry.questions(visit.execution_id, "agent"),
    ]
    question = next((each for each in asked if each.question_id == question_id), None)
    if question is None:
        raise Problem(404, "this execution has no such question; its progress shows the one that waits")
    if question.kind == "plan":
        if given.decision is None or given.text is not None:
            raise Problem.about("decision", "a plan is answered by a decision", "approve, change or reject")
        if given.decision is models.Choice.CHANGE and not given.changes.strip():
            raise Problem.about("changes", "there is nothing in it", "what shall be different, in your own words")
    elif given.text is None or given.decision is not None:
        raise Problem.about("text", "the agent is answered in words", "the number of a choice, or what to tell it")
    if question.answer is not None:
        raise Problem(409, "it was answered before; the first answer counts")
    if open_ is None or open_.question_id != question_id:
        raise Problem(409, "it does not wait for an answer any more; look at the progress again")
    if question.kind == "agent":
        front.registry.post_message(visit.execution_id, "user", given.text or "")
        return models.Sent(status="answered", execution_id=visit.execution_id)
    told = {"decision": str(given.decision), "changes": given.changes}
    kept = front.registry.answer_question(question_id, told, visit.caller.name)
    if kept.answer != told:
        raise Problem(409, "somebody was faster, or its time is over; look at the progress again")
    return models.Sent(status="answered", execution_id=visit.execution_id)


# -- changing --


def redeploy(front: Front, visit: "Visit", key: str | None) -> models.Sent:
    """Publish again what the session holds. Problem 400 where there is nothing to publish, or a run is at it."""
    name = delivery_key(visit.caller, key)
    if front.registry.delivery(name) is None:
        _settled(front, visit, "redeploy")
        if not front.registry.ever_did(visit.execution_id, Step.GENERATE_CODE):
            raise Problem(400, "Cannot redeploy - nothing was built yet; order it again")
    front.registry.request_run(visit.execution_id, Verb.REDEPLOY, name)
    return models.Sent(status="redeploying", execution_id=visit.execution_id)


def retry(front: Front, visit: "Visit", key: str | None) -> models.Sent:
    """Go on with a build that failed or was cancelled: its steps that are done are not done again."""
    name = delivery_key(visit.caller, key)
    if front.registry.delivery(name) is None:
        record = _settled(front, visit, "try again")
        if not can_retry(front, record):
            raise Problem(400, f"Cannot try again - status is {record.status}; redeploy publishes what was built")
    front.registry.request_run(visit.execution_id, Verb.FULL_BUILD, name)
    return models.Sent(status="retrying", execution_id=visit.execution_id)


def can_retry(front: Front, record: ExecutionRecord) -> bool:
    verb, _steps = front.registry.steps_of(record.execution_id)
    return verb is Verb.FULL_BUILD and record.status in (Status.FAILED, Status.CANCELLED)


def roll_back(front: Front, visit: "Visit", wanted: models.Rollback, key: str | None) -> models.Sent:
    name = delivery_key(visit.caller, key)
    if front.registry.delivery(name) is None:
        record = _settled(front, visit, "roll back")
        if record.live_release is None:
            raise Problem(400, "Cannot roll back - nothing is live")
        known = [each.release_id for each in front.registry.releases(visit.execution_id)]
        others = [release for release in known if release != record.live_release]
        if not others:
            raise Problem(400, "Cannot roll back - there is one release only")
        if wanted.release is not None and wanted.release not in others:
            raise Problem.about("release", "it is not one to go back to", ", ".join(others[:10]), status=400)
    parameters = {"release": wanted.release} if wanted.release else None
    front.registry.request_run(visit.execution_id, Verb.ROLLBACK, name, parameters)
    return models.Sent(status="rolling_back", execution_id=visit.execution_id)


def tear_down(front: Front, visit: "Visit", wanted: models.Teardown, key: str | None) -> models.Sent:
    name = delivery_key(visit.caller, key)
    if front.registry.delivery(name) is None:
        _settled(front, visit, "tear down")
    parameters = {"keep_files": True} if wanted.keep_files else None
    front.registry.request_run(visit.execution_id, Verb.TEARDOWN, name, parameters)
    return models.Sent(status="tearing_down", execution_id=visit.execution_id)


def cancel(front: Front, visit: "Visit") -> models.Sent:
    """Have the runs that build or redeploy end. The dispatcher does it: this process has no key to Prefect."""
    if not front.registry.request_cancel(visit.execution_id):
        status = front.registry.progress(visit.execution_id).status
        raise Problem(400, f"Cannot cancel - status is {status}")
    return models.Sent(status="cancelling", execution_id=visit.execution_id)


def _settled(front: Front, visit: "Visit", what: str) -> ExecutionRecord:
    """The execution, where no run is at it. Problem 400 otherwise."""
    record = front.registry.execution(visit.execution_id)
    if not record.status.is_final:
        raise Problem(400, f"Cannot {what} - status is {record.status}; cancel it, or wait for its end")
    return record


# -- looking --


def view(front: Front, visit: "Visit") -> models.ExecutionView:
    progress = front.registry.progress(visit.execution_id)
    record = front.registry.execution(visit.execution_id)
    question = front.registry.open_question(visit.execution_id)
    words = front.words_for(visit.caller)
    told = progress.model_dump()
    if progress.error is not None:
        told["error"] = progress.error.model_copy(update={"message": words(progress.error.message)})
    return models.ExecutionView(
        **told,
        user_id=record.user_id,
        session_id=record.session_id,
        created_at=record.created_at,
        updated_at=record.updated_at,
        site_state=record.site_state,
        live_release=record.live_release,
        expires_at=record.expires_at,
        steps=_steps(front, visit.execution_id, words),
        question=None
        if question is None
        else models.QuestionView(
            question_id=question.question_id,
            kind=question.kind,
            text=plain_text(question.body),
            asked_at=question.asked_at,
            expires_at=question.expires_at,
        ),
    )


def _steps(front: Front, execution_id: str, words: Callable[[str], str]) -> list[models.StepView]:
    """All nine; those that a redeploy builds on count as done."""
    verb, rows = front.registry.steps_of(execution_id)
    begun, first = {each.step: each for each in rows}, verb.first_step
    shown = []
    for step in Step:
        row = begun.get(step)
        values: dict[str, Any] = {"status": "done" if step < first else "waiting"}
        if row is not None:
            values = {"status": row.status, "started_at": row.started_at, "finished_at": row.finished_at}
            values["error"] = row.error and words(row.error)
        shown.append(models.StepView(step=step, name=step.task_name, **values))
    return shown


def checks(front: Front, visit: "Visit") -> list[Check]:
    """What was verified, oldest first."""
    words = front.words_for(visit.caller)
    return [
        check.model_copy(
            update={
                "findings": tuple(
                    finding.model_copy(update={"detail": words(finding.detail)}) for finding in check.findings
                )
            }
        )
        for check in front.registry.checks(visit.execution_id)
    ]


def releases(front: Front, visit: "Visit") -> models.Releases:
    record = front.registry.execution(visit.execution_id)
    return models.Releases(
        execution_id=visit.execution_id,
        releases=[
            models.ReleaseView(
                release=each.release_id,
                number=each.number,
                files=each.files,
                total_bytes=each.total_bytes,
                created_at=each.created_at,
                live=each.release_id == record.live_release,
                good=each.release_id == record.good_release,
            )
            for each in front.registry.releases(visit.execution_id)
        ],
    )


def summaries(
    front: Front, *, words: str, status: Status | None, user_id: str | None, cursor: str | None, limit: int
) -> models.Summaries:
    before = None if cursor is None else _place(front, cursor, user_id)
    found = front.registry.find_executions(words, status, user_id, before, limit + 1)
    more = len(found) > limit
    return models.Summaries(
        executions=[_summary(record) for record in found[:limit]],
        next_cursor=found[limit - 1].execution_id if more else None,
    )


def _summary(record: ExecutionRecord) -> models.Summary:
    return models.Summary(
        execution_id=record.execution_id,
        user_id=record.user_id,
        session_id=record.session_id,
        email=record.request.email,
        requirements=plain_text(record.request.requirements)[:200],
        status=record.status,
        verdict=record.verdict,
        current_step=record.current_step,
        site_state=record.site_state,
        deployed_url=None if record.site_state is SiteState.TAKEN_DOWN else record.url,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


@dataclass(frozen=True)
class Traffic:
    """How much is going on, and how much may."""

    waiting: int
    running: int
    asking: int
    agents: int
    max_queue: int
    max_executions: int
    max_agents: int


def traffic(front: Front) -> Traffic:
    count, settings = front.registry.count_runs(), front.settings
    return Traffic(
        waiting=count.get(Status.PENDING, 0),
        running=count.get(Status.RUNNING, 0),
        asking=count.get(Status.WAITING_INPUT, 0),
        agents=front.registry.slots_taken("agent"),
        max_queue=settings.max_queue,
        max_executions=settings.max_executions,
        max_agents=settings.max_agents,
    )


def _place(front: Front, cursor: str, user_id: str | None) -> tuple[datetime, str]:
    """A page begins after the execution that the page before ended with; another user's is none of this list's."""
    with suppress(UnknownExecution):
        record = front.registry.execution(cursor)
        if user_id in (None, record.user_id):
            return record.created_at, cursor
    raise Problem(404, "the place that this cursor names is gone; begin without it")
