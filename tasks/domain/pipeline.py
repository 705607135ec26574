"""The nine steps, the statuses of an execution, and how far one has come."""

from datetime import datetime
from enum import IntEnum, StrEnum

from pydantic import BaseModel, ConfigDict


class Step(IntEnum):
    """A step's number; its name in lower case is the name of the Prefect task."""

    CREATE_USER = 1
    CREATE_SESSION = 2
    GATHER_REQUIREMENTS = 3
    CREATE_PLAN = 4
    GENERATE_CODE = 5
    DEPLOY = 6
    HEALTH_CHECK = 7
    SCREENSHOT = 8
    E2E_TESTS = 9

    @property
    def task_name(self) -> str:
        """
        >>> Step.E2E_TESTS.task_name
        'e2e_tests'
        """
        return self.name.lower()


TOTAL_STEPS = len(Step)


class Verb(StrEnum):
    """What a run does to an execution; the value is the name of the Prefect flow."""

    FULL_BUILD = "full-build"
    REDEPLOY = "redeploy"
    REVERIFY = "reverify"
    ROLLBACK = "rollback"
    TEARDOWN = "teardown"

    @property
    def deployment(self) -> str:
        """The Prefect deployment that runs it.

        >>> Verb.REVERIFY.deployment
        'reverify/nightly'
        """
        return f"{self}/{'nightly' if self is Verb.REVERIFY else 'on-demand'}"

    @property
    def first_step(self) -> Step:
        match self:
            case Verb.FULL_BUILD:
                return Step.CREATE_USER
            case Verb.REDEPLOY:
                return Step.DEPLOY
            case Verb.REVERIFY | Verb.ROLLBACK | Verb.TEARDOWN:
                return Step.HEALTH_CHECK

    @property
    def leads(self) -> bool:
        """Whether an execution shows the status of such a run as its own: only of runs that make a release."""
        return self in (Verb.FULL_BUILD, Verb.REDEPLOY)

    @property
    def writes(self) -> bool:
        """Whether such a run changes the workspace or the site, and so holds the site's lease."""
        return self is not Verb.REVERIFY


class Status(StrEnum):
    """The state of an execution. Written from Prefect's states, never the other way."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING_INPUT = "waiting_input"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


def can_follow(old: Status, new: Status) -> bool:
    """Whether one attempt of a run may go from ``old`` to ``new``. Nothing follows a final status: only another
    attempt, or another run, starts again from pending.

    >>> can_follow(Status.PENDING, Status.RUNNING), can_follow(Status.CANCELLED, Status.RUNNING)
    (True, False)
    >>> can_follow(Status.WAITING_INPUT, Status.RUNNING), can_follow(Status.PENDING, Status.COMPLETED)
    (True, False)
    """
    match old:
        case Status.PENDING:
            return new in (Status.RUNNING, Status.FAILED, Status.CANCELLED)
        case Status.RUNNING:
            return new in (Status.WAITING_INPUT, Status.COMPLETED, Status.FAILED, Status.CANCELLED)
        case Status.WAITING_INPUT:
            return new in (Status.RUNNING, Status.FAILED, Status.CANCELLED)
        case Status.COMPLETED | Status.FAILED | Status.CANCELLED:
            return False


class Verdict(StrEnum):
    """What is known of the site that is live."""

    PASSED = "passed"
    FAILED_CHECKS = "failed_checks"


class SiteState(StrEnum):
    """Written by every verification; ``degraded`` until one passes again.

    ``rolled_back``: a new release failed our gates and the last good one serves again. ``rollback_failed``: that did
    not work either, and somebody has to look. ``taken_down``: nothing is served.
    """

    LIVE = "live"
    DEGRADED = "degraded"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    TAKEN_DOWN = "taken_down"


class Failure(BaseModel):
    """Where and why an execution failed, in words that end in the next move."""

    model_config = ConfigDict(frozen=True)

    step: int
    step_name: str
    message: str


class Progress(BaseModel):
    """What the functional design calls the progress summary.

    ``percent_complete`` counts steps that are *done*: 100 only after step 9. ``queue_position`` is 1 for the next one;
    None where the run waits for no turn.
    """

    model_config = ConfigDict(frozen=True)

    execution_id: str
    status: Status
    current_step: int
    current_step_name: str
    total_steps: int = TOTAL_STEPS
    percent_complete: int
    deployed_url: str | None = None
    last_deployed: datetime | None = None
    verdict: Verdict | None = None
    error: Failure | None = None
    queue_position: int | None = None


def percent(done: int) -> int:
    """Whole percent of the nine steps, rounded down.

    >>> [percent(n) for n in (0, 5, 9)]
    [0, 55, 100]
    """
    return done * 100 // TOTAL_STEPS
