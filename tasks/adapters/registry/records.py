"""What the record hands out: rows as typed values, detached from the database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.domain.hosting import Site
from tasks.domain.notice import Channel, NoticeState, Occasion
from tasks.domain.pipeline import SiteState, Status, Step, Verb, Verdict

if TYPE_CHECKING:
    from tasks.domain.request import SiteRequest


@dataclass(frozen=True, slots=True)
class Accepted:
    """The ids of an accepted request. ``created`` is False where this delivery was accepted before."""

    user_id: str
    session_id: str
    execution_id: str
    run_id: str
    site_name: str
    created: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a delivery: a run, or a refusal in words."""

    delivery_key: str
    run_id: str | None
    execution_id: str | None
    refusal: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run on one execution. ``flow_run_id`` is None until Prefect has it; ``leads``: the execution shows it."""

    run_id: str
    execution_id: str
    verb: Verb
    status: Status
    attempt: int
    flow_run_id: str | None
    leads: bool
    created_at: datetime
    dispatched_at: datetime | None
    ended_at: datetime | None
    machine_id: str | None = None
    parameters: Mapping[str, Any] | None = None
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a run. ``status``: running, done or failed; ``error`` says why it failed."""

    step: Step
    status: str
    attempt: int
    error: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """An execution with its request and its site. ``url`` and what follows it are None until the first publish."""

    execution_id: str
    user_id: str
    session_id: str
    request: "SiteRequest"
    status: Status
    verdict: Verdict | None
    current_step: int
    created_at: datetime
    updated_at: datetime
    site_name: str
    url: str | None
    dial: str | None
    live_release: str | None
    site_state: SiteState | None
    last_deployed: datetime | None
    good_release: str | None = None
    expires_at: datetime | None = None

    @property
    def site(self) -> Site:
        """The site as it was published last. Raises LookupError before that."""
        if self.url is None or self.live_release is None:
            step = f"step {Step.DEPLOY}, {Step.DEPLOY.task_name}"
            raise LookupError(f"{self.execution_id} has published nothing yet; wait for its {step}")
        return Site(name=self.site_name, url=self.url, release_id=self.live_release, dial=self.dial)


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    number: int
    release_id: str
    digest: str
    files: int
    total_bytes: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Resource:
    """A thing that exists, may exist, or existed at a provider. ``state``: planned, created or gone."""

    execution_id: str
    kind: str
    name: str
    state: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one site. A higher ``fence`` anywhere means that this one is lost."""

    site_name: str
    fence: int
    owner: str
    since: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """A line of chat. ``author``: user, agent or system. ``kind``: say; interrupt, which ends the agent's turn; or
    tool, what the agent did, in one line.
    """

    message_id: int
    execution_id: str
    author: str
    body: str
    created_at: datetime
    delivered_at: datetime | None
    kind: str = "say"


@dataclass(frozen=True, slots=True)
class Question:
    """Something that a person is asked. ``answer`` is None until somebody has answered; the first answer stands."""

    question_id: str
    execution_id: str
    run_id: str
    kind: str
    round: int
    body: str
    answer: Mapping[str, Any] | None
    answered_by: str | None
    asked_at: datetime
    expires_at: datetime
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people are told. ``attempts`` counts how often it was taken up to be sent, this time included;
    ``error`` says why the last time failed, or why it was never sent.
    """

    notice_id: str
    execution_id: str
    run_id: str
    occasion: Occasion
    channel: Channel
    question_id: str | None
    details: Mapping[str, Any]
    state: NoticeState
    attempts: int
    created_at: datetime
    due_at: datetime
    sent_at: datetime | None
    error: str | None
    age_s: float


@dataclass(frozen=True, slots=True)
class Screen:
    """What the agent's terminal showed last, as text."""

    body: str
    shown_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Of the key itself only the hash is kept. ``user_id``: it is good for this user's executions alone."""

    key_id: str
    user_id: str | None
    label: str
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hook:
    """How a webhook fares. ``failures`` counts deliveries that were refused since the last good one, or resumption."""

    name: str
    failures: int = 0
    reason: str | None = None
    failed_at: datetime | None = None
    accepted_at: datetime | None = None
    paused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``seq`` grows with time inside one execution, and leaves gaps."""

    seq: int
    execution_id: str | None
    run_id: str | None
    kind: str
    data: Mapping[str, Any]
    at: datetime
