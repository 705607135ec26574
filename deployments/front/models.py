"""What goes in and out of the API, with the words that its description shows."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tasks.domain.check import Check
from tasks.domain.pipeline import Progress, SiteState, Status, Verdict

EXECUTION = "a1b2c3d4_sess20260124143022"
USER = "a1b2c3d4-0000-4000-8000-000000000000"
MOMENT = "2026-01-24T14:30:22Z"

_TEXT = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
Said = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=20_000, pattern=rf"^{_TEXT}*[^\s\x00-\x1f\x7f-\x9f]{_TEXT}*$"
    ),
]


class Links(BaseModel):
    """Where to go on, for the same caller or with the token."""

    page: str = Field(description="For a person: the page where it is watched and steered. It holds the token.")
    progress: str = Field(description="How far it is.")
    events: str = Field(description="What happens, as it happens (Server-Sent Events).")
    chat: str = Field(description="Where to say something to the agent.")
    history: str = Field(description="The conversation, and the agent's screen.")
    redeploy: str = Field(description="Where to have it published again.")


class Created(BaseModel):
    """An order that was accepted."""

    user_id: str = Field(description="The requester, found by e-mail.", examples=[USER])
    session_id: str = Field(description="This piece of work for them.", examples=["sess20260124143022"])
    execution_id: str = Field(description="This run of the pipeline; the id that everything else asks for.")
    status: Status = Field(description="pending; for an order that is repeated, how it stands.", examples=["pending"])
    token: str = Field(
        description="Good for this execution alone: send it as Authorization: Bearer TOKEN. It is shown this once.",
        examples=["tbl_S3cr3t"],
    )
    links: Links

    model_config = ConfigDict(
        title="Accepted order",
        json_schema_extra={
            "examples": [
                {
                    "user_id": USER,
                    "session_id": "sess20260124143022",
                    "execution_id": EXECUTION,
                    "status": "pending",
                    "token": "tbl_hT0Jx4cW9q…",
                    "links": {
                        "page": f"http://127.0.0.1:8400/e/{EXECUTION}?token=tbl_hT0Jx4cW9q…",
                        "progress": f"http://127.0.0.1:8400/api/executions/{EXECUTION}",
                        "events": f"http://127.0.0.1:8400/api/executions/{EXECUTION}/events",
                        "chat": f"http://127.0.0.1:8400/api/chat/{EXECUTION}",
                        "history": f"http://127.0.0.1:8400/api/chat/{EXECUTION}/history",
                        "redeploy": f"http://127.0.0.1:8400/api/redeploy/{EXECUTION}",
                    },
                }
            ]
        },
    )


class ChatMessage(BaseModel):
    """Something to say to the agent."""

    model_config = ConfigDict(extra="forbid", title="Message to the agent")

    message: Said = Field(
        title="Message",
        description="What to say, in your own words; a question is answered by the number of its choice. 1 to 20,000 "
        "characters.",
        examples=["make the header darker"],
    )
    interrupt: bool = Field(
        False, title="Interrupt", description="true: end the agent's turn first. Otherwise it waits for the turn's end."
    )


class Sent(BaseModel):
    """What became of an action. ``status`` is its present participle."""

    model_config = ConfigDict(title="Action taken")

    status: Literal["sent", "redeploying", "retrying", "rolling_back", "cancelling", "tearing_down", "answered"] = (
        Field(description="What is being done.")
    )
    execution_id: str = Field(examples=[EXECUTION])


class Line(BaseModel):
    """One line of the conversation."""

    id: int = Field(description="Grows with time.")
    author: Literal["user", "agent", "system"]
    kind: Literal["say", "interrupt", "tool"] = Field(description="tool: what the agent did, in one line.")
    text: str
    at: datetime = Field(examples=[MOMENT])
    delivered: bool = Field(description="false: the agent has not been given it yet.")


class Conversation(BaseModel):
    """The chat page by page, and what the agent's terminal shows."""

    model_config = ConfigDict(title="Chat history")

    execution_id: str = Field(examples=[EXECUTION])
    output: str = Field(
        description="The last 100 lines of the agent's terminal, as plain text; empty before it has any."
    )
    output_at: datetime | None = Field(description="When it showed that.")
    messages: list[Line] = Field(description="Oldest first.")
    next_cursor: int = Field(description="Give it as `cursor` to get what comes after these.")


class StepView(BaseModel):
    """One of the nine steps."""

    step: int = Field(ge=1, le=9)
    name: str = Field(examples=["create_plan"])
    status: Literal["waiting", "running", "done", "failed"]
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None


class QuestionView(BaseModel):
    """What the run waits for a person to answer."""

    question_id: str = Field(examples=["5f0c…"])
    kind: Literal["plan", "agent"] = Field(description="plan: approve, change or reject. agent: answer in words.")
    text: str = Field(description="The question, in Markdown without HTML, links or pictures.")
    asked_at: datetime
    expires_at: datetime = Field(description="Until when an answer counts.")


class ExecutionView(Progress):
    """How far an execution is. The first eight fields are the progress summary."""

    model_config = ConfigDict(title="Execution")

    user_id: str
    session_id: str
    created_at: datetime
    updated_at: datetime
    site_state: SiteState | None = Field(None, description="What the last look at the site said.")
    live_release: str | None = Field(None, description="The release that is served.", examples=["r2-3f2a9c1b4d5e"])
    expires_at: datetime | None = Field(None, description="When the site is taken down by itself.")
    steps: list[StepView] = Field(description="All nine, in order.")
    question: QuestionView | None = Field(None, description="What it waits for, where it waits for a person.")


class Summary(BaseModel):
    """One execution in a list."""

    execution_id: str = Field(examples=[EXECUTION])
    user_id: str
    session_id: str
    email: str
    requirements: str = Field(description="The first 200 characters.")
    status: Status
    verdict: Verdict | None
    current_step: int
    site_state: SiteState | None
    deployed_url: str | None
    created_at: datetime
    updated_at: datetime


class Summaries(BaseModel):
    """Executions, newest first."""

    model_config = ConfigDict(title="List of executions")

    executions: list[Summary]
    next_cursor: str | None = Field(description="Give it as `cursor` to get the next page; null on the last one.")


class ReleaseView(BaseModel):
    """One immutable version of the site."""

    release: str = Field(examples=["r2-3f2a9c1b4d5e"])
    number: int
    files: int
    total_bytes: int
    created_at: datetime
    live: bool = Field(description="Whether it is served.")
    good: bool = Field(description="Whether it is the last one that served and passed.")


class Releases(BaseModel):
    """The site's releases, newest first."""

    execution_id: str
    releases: list[ReleaseView]


class Rollback(BaseModel):
    """Which release shall serve again."""

    model_config = ConfigDict(extra="forbid", title="Rollback")

    release: str | None = Field(
        None,
        description="As `releases` lists it. Empty: the one before the live one.",
        pattern=r"^r[1-9][0-9]{0,8}-[0-9a-f]{12}$",
        examples=["r1-0123456789ab"],
    )


class Teardown(BaseModel):
    """How much of the site goes."""

    model_config = ConfigDict(extra="forbid", title="Teardown")

    keep_files: bool = Field(False, description="true: keep workspace and archive, so that a redeploy brings it back.")


class Choice(StrEnum):
    APPROVE = "approve"
    CHANGE = "change"
    REJECT = "reject"


class Answer(BaseModel):
    """An answer: ``decision`` to a plan, ``text`` to the agent."""

    model_config = ConfigDict(
        extra="forbid",
        title="Answer",
        json_schema_extra={"examples": [{"decision": "change", "changes": "a blue header"}, {"text": "2"}]},
    )

    decision: Choice | None = Field(None, description="For a plan: approve, change or reject.")
    changes: str = Field(
        "",
        max_length=5_000,
        pattern=rf"^{_TEXT}*$",
        description="For change: what shall be different. For reject: why, if you like.",
    )
    text: Said | None = Field(None, description="For the agent's question: the number of a choice, or words.")


class Checks(BaseModel):
    """What was verified, oldest first, with findings and evidence."""

    execution_id: str
    checks: list[Check]


class Artefacts(BaseModel):
    """Files that can be fetched."""

    execution_id: str
    screenshots: list[str] = Field(description="Names of pictures.", examples=[["desktop.jpg", "phone.jpg"]])
    report: bool = Field(description="Whether there is a report of the browser tests.")
    plan: bool = Field(description="Whether there is a plan.")


class FieldMapping(BaseModel):
    """How one field of the order is filled from the form."""

    field: str
    source: str = Field(description="Where it is looked for, as the settings say.")
    found: bool


class HookReceipt(BaseModel):
    """What became of a delivery."""

    model_config = ConfigDict(title="Webhook receipt")

    user_id: str = Field(examples=[USER])
    session_id: str
    execution_id: str = Field(examples=[EXECUTION])
    status: Status
    links: Links | None = Field(
        None,
        description="Where the requester goes on; the page's holds a token for this execution. null for a delivery "
        "that came before: whoever recorded one must not get in by playing it again.",
    )


class DryRun(BaseModel):
    """What a delivery would become; nothing was kept or started."""

    model_config = ConfigDict(title="Dry run")

    would: Literal["accept", "refuse"]
    fields: list[FieldMapping]
    errors: list[dict[str, Any]] = Field(description="As in a problem document.")


class HookState(BaseModel):
    """How the webhook fares."""

    model_config = ConfigDict(title="Webhook state")

    name: str
    configured: bool = Field(description="Whether a secret is set.")
    paused: bool = Field(description="true: deliveries are answered 503 until somebody resumes it.")
    failures: int = Field(description="Deliveries refused since the last good one.")
    reason: str | None = Field(description="Why the last one was refused.")
    failed_at: datetime | None
    accepted_at: datetime | None


class Health(BaseModel):
    status: Literal["ok"] = "ok"
