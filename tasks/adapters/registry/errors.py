"""What only the record can say no to.

BuilderError
├── QueueFull          so many runs wait that no more are taken
├── QuotaSpent         one user has had as many executions as are allowed in a day
├── RevisionMismatch   the database has another schema than this program
├── RunEnded           a step was begun in a run that is over
├── RunWaits           a run of this kind waits to be started, with other parameters
├── Superseded         a later attempt of the same run has begun meanwhile
└── UnknownSite        no site has this name
"""

from tasks.domain.errors import BuilderError

MIGRATE = "python -m tasks.adapters.registry"


class QueueFull(BuilderError):
    transient = True

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(waiting, limit)
        self.waiting, self.limit = waiting, limit

    def __str__(self) -> str:
        return f"{self.waiting} requests wait and {self.limit} may; send this one again in a minute"


class QuotaSpent(BuilderError):
    """``retry_after_s``: when the oldest of the day is a day old."""

    def __init__(self, limit: int, retry_after_s: float) -> None:
        super().__init__(limit, retry_after_s)
        self.limit, self.retry_after_s = limit, retry_after_s

    def __str__(self) -> str:
        return f"this user has ordered {self.limit} sites within a day, and no more are allowed; try again later"


class RunWaits(BuilderError):
    def __init__(self, execution_id: str, verb: str) -> None:
        super().__init__(execution_id, verb)
        self.execution_id, self.verb = execution_id, verb

    def __str__(self) -> str:
        return (
            f"a {self.verb} of {self.execution_id} waits to be started, with other parameters; "
            "let it begin, then ask again"
        )


class RevisionMismatch(BuilderError):
    """``found`` is None where the database has no schema at all; ``known`` tells whether this program has ``found``."""

    def __init__(self, where: str, found: str | None, expected: str, known: bool) -> None:
        super().__init__(where, found, expected, known)
        self.where, self.found, self.expected, self.known = where, found, expected, known

    def __str__(self) -> str:
        if self.found is None:
            state, move = "has no schema yet", f"create it with: {MIGRATE}"
        elif self.known:
            state, move = f"has schema revision {self.found}, which is older", f"stop the service, then: {MIGRATE}"
        else:
            state = f"has schema revision {self.found}, which this program does not know"
            move = f"run the newer program that wrote it; {MIGRATE} of that program shows its revision"
        return f"the registry at {self.where} {state}; this program needs revision {self.expected}; {move}"


class RunEnded(BuilderError):
    def __init__(self, run_id: str, execution_id: str, status: str) -> None:
        super().__init__(run_id, execution_id, status)
        self.run_id, self.execution_id, self.status = run_id, execution_id, status

    def __str__(self) -> str:
        return (
            f"run {self.run_id} of {self.execution_id} is {self.status}, so it begins no further step; "
            "retry the flow run, or start redeploy/on-demand with this execution's id"
        )


class Superseded(BuilderError):
    """An engine that was given up for dead has woken up. It may write nothing more."""

    def __init__(self, run_id: str, attempt: int, newest: int) -> None:
        super().__init__(run_id, attempt, newest)
        self.run_id, self.attempt, self.newest = run_id, attempt, newest

    def __str__(self) -> str:
        return (
            f"attempt {self.attempt} of run {self.run_id} was given up for dead and attempt {self.newest} has begun; "
            "this engine ends here, watch the newer one in the Prefect UI"
        )


class UnknownSite(BuilderError):
    def __init__(self, site_name: str) -> None:
        super().__init__(site_name)
        self.site_name = site_name

    def __str__(self) -> str:
        return (
            f"site: none is called {self.site_name!r}; it stands in the registry's row of its execution, "
            "and looks like tmux-a1b2c3d4-9f8e7d6c"
        )
