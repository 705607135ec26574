"""The record of users, executions, runs, sites and what happened to them. Prefect's own database is not.

`Registry.open(url)` gives it; `migrate(url)`, or ``python -m tasks.adapters.registry``, brings a database to this
program's revision. Everything blocks: call it from a thread.
"""

from typing import Self

from tasks.adapters.registry.database import check_revision, engine_for, parse
from tasks.adapters.registry.errors import (
    QueueFull,
    QuotaSpent,
    RevisionMismatch,
    RunEnded,
    RunWaits,
    Superseded,
    UnknownSite,
)
from tasks.adapters.registry.history import History
from tasks.adapters.registry.hooks import Hooks
from tasks.adapters.registry.intake import Admission, Intake
from tasks.adapters.registry.keys import Keys
from tasks.adapters.registry.leases import Leases
from tasks.adapters.registry.machines import Machine, Machines, SecondMachine
from tasks.adapters.registry.messages import Messages
from tasks.adapters.registry.notices import Notices
from tasks.adapters.registry.people import People
from tasks.adapters.registry.questions import Questions
from tasks.adapters.registry.records import (
    Accepted,
    ApiKey,
    Delivery,
    Event,
    ExecutionRecord,
    Hook,
    Lease,
    Message,
    Notice,
    Question,
    ReleaseRecord,
    Resource,
    RunRecord,
    Screen,
    StepRecord,
)
from tasks.adapters.registry.resources import Resources
from tasks.adapters.registry.retention import Retention
from tasks.adapters.registry.runs import Runs
from tasks.adapters.registry.screens import Screens
from tasks.adapters.registry.sites import Sites
from tasks.adapters.registry.slots import Slots
from tasks.adapters.registry.steps import Steps
from tasks.adapters.registry.wakeup import Wakeup
from tasks.domain.pipeline import Progress, Status

__all__ = [
    "Accepted",
    "Admission",
    "ApiKey",
    "Delivery",
    "Event",
    "ExecutionRecord",
    "Hook",
    "Lease",
    "Machine",
    "Message",
    "Notice",
    "Question",
    "QueueFull",
    "QuotaSpent",
    "Registry",
    "ReleaseRecord",
    "Resource",
    "RevisionMismatch",
    "RunEnded",
    "RunRecord",
    "RunWaits",
    "Screen",
    "SecondMachine",
    "StepRecord",
    "Superseded",
    "UnknownSite",
    "migrate",
]


class Registry(
    Intake,
    Runs,
    Steps,
    Sites,
    Resources,
    Leases,
    Messages,
    Questions,
    Notices,
    History,
    People,
    Retention,
    Machines,
    Slots,
    Keys,
    Screens,
    Hooks,
    Wakeup,
):
    """The record, by nouns: each base class is one of them."""

    def progress(self, execution_id: str) -> Progress:
        """What to show of an execution, its place in the queue included. Raises UnknownExecution."""
        found = super().progress(execution_id)
        if found.status not in (Status.PENDING, Status.RUNNING):
            return found
        return found.model_copy(update={"queue_position": self.queue_position(execution_id)})

    @classmethod
    def open(cls, url: str) -> Self:
        """Raises RevisionMismatch unless the database is at this program's revision, and ConnectionError where it is
        away. Share one between the threads of a process; a forked child opens its own.
        """
        engine = engine_for(parse(url))
        registry = cls(engine)
        try:
            check_revision(engine, registry.where)
        except BaseException:
            registry.close()
            raise
        return registry


def migrate(url: str) -> None:
    """Bring the database to this program's revision, creating what is missing. Two processes at once take turns."""
    from tasks.adapters.registry.migrations import upgrade

    upgrade(url)
