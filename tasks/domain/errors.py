"""Everything that can stop a run, and what to do about it.

BuilderError
├── RequestRefused        a field of the request is not acceptable
├── UnknownExecution      no execution has this id
├── DeliveryConflict      the same delivery key came with another body
├── AgentError
│   ├── AgentNotReady     the agent's session did not start
│   ├── AgentCrashed      the agent's process ended inside a phase
│   ├── AgentSilent       the phase's deadline passed without its signal
│   ├── WrongPhase        the agent signalled another phase
│   ├── OutputsMissing    the agent signalled, but what it should have written is not there
│   └── AskCancelled      whoever waited for the agent called it off
├── SourceRefused         the source folder holds something that must not be published
├── HostingError          the host refused the release
├── SiteBusy              another run holds the site's lease
├── NotHealthy            published, but the site does not serve this release
├── CheckFailed           a gating check of ours is red
├── ReleaseUndone         a release failed our gates, and the site is as it was before
├── RollbackFailed        a release failed our gates, and the site could not be set back
├── ReleaseUnknown        the site's host does not keep the release that was asked for
├── TeardownIncomplete    something of a site is still there after it was taken down
├── NothingLeft           the site and all its files were taken down
├── NotApproved           nobody said yes to the plan
├── NoRoom                this machine's disk has no room for another build
├── BrowserError          the browser could not do its work
├── Unspeakable           an error whose own words hold a secret
└── SandboxUnavailable    this machine cannot confine the agent

Arguments stay positional and go to ``super()``: Prefect pickles exceptions between processes.
Every message says what was expected, what was found, and the next move.
"""

from collections.abc import Sequence


class BuilderError(Exception):
    """Catch this to catch every failure that the pipeline names itself."""

    #: True where the same call may succeed a little later without anybody changing anything.
    transient = False


def is_transient(error: BaseException) -> bool:
    """Whether repeating the same call may help: the one retry rule of all steps.

    Connection trouble counts as transient, whoever raised it.
    """
    if isinstance(error, BuilderError):
        return error.transient
    return isinstance(error, ConnectionError | TimeoutError)


class RequestRefused(BuilderError):
    """``field``, what was found there, and what is allowed."""

    def __init__(self, field: str, found: str, allowed: str) -> None:
        super().__init__(field, found, allowed)
        self.field, self.found, self.allowed = field, found, allowed

    def __str__(self) -> str:
        return f"{self.field}: {self.found}; allowed: {self.allowed}"


class UnknownExecution(BuilderError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(execution_id)
        self.execution_id = execution_id

    def __str__(self) -> str:
        return (
            f"execution_id: no execution is called {self.execution_id!r}; "
            "copy it from the tags of a full-build run, it looks like a1b2c3d4_sess20260124143022"
        )


class DeliveryConflict(BuilderError):
    def __init__(self, delivery_key: str) -> None:
        super().__init__(delivery_key)
        self.delivery_key = delivery_key

    def __str__(self) -> str:
        return (
            f"delivery {self.delivery_key!r} was accepted before with another body; send a new request under a new key"
        )


class AgentError(BuilderError):
    """The coding agent did not do what was asked."""


class AgentMissing(AgentError):
    """There is no program, or no key, to be an agent with."""

    def __init__(self, complaint: str, next_move: str) -> None:
        super().__init__(complaint, next_move)
        self.complaint, self.next_move = complaint, next_move

    def __str__(self) -> str:
        return f"{self.complaint}; {self.next_move}"


class AgentNotReady(AgentError):
    """No prompt was taken: ``complaint`` says what was seen instead."""

    def __init__(self, attach: str, waited_s: float, complaint: str) -> None:
        super().__init__(attach, waited_s, complaint)
        self.attach, self.waited_s, self.complaint = attach, waited_s, complaint

    def __str__(self) -> str:
        return f"the agent was not ready after {self.waited_s:.0f} s: {self.complaint}; look with: {self.attach}"


class AgentCrashed(AgentError):
    """The process ended in the middle of a phase. ``last_lines`` is its screen, oldest line first."""

    def __init__(self, phase: str, exit_code: int | None, last_lines: Sequence[str]) -> None:
        super().__init__(phase, exit_code, tuple(last_lines))
        self.phase, self.exit_code, self.last_lines = phase, exit_code, tuple(last_lines)

    def __str__(self) -> str:
        code = "unknown" if self.exit_code is None else self.exit_code
        told = [" ".join(line.split()) for line in self.last_lines if any(map(str.isalnum, line))]  # not its frames
        tail = " | ".join(told[-5:]) or "(empty)"
        return (
            f"the agent ended during {self.phase} (exit code {code}); its last lines: {tail}; "
            "run the build again once the cause is mended"
        )


class AgentRefused(AgentError):
    """The model's side says no: a key, a limit, money; or the execution's own budget is spent."""

    def __init__(self, phase: str, reason: str, next_move: str) -> None:
        super().__init__(phase, reason, next_move)
        self.phase, self.reason, self.next_move = phase, reason, next_move

    def __str__(self) -> str:
        return f"the agent could not go on in {self.phase}: {self.reason}; {self.next_move}"


class AgentSilent(AgentError):
    def __init__(self, phase: str, waited_s: float, last_line: str, attach: str) -> None:
        super().__init__(phase, waited_s, last_line, attach)
        self.phase, self.waited_s, self.last_line, self.attach = phase, waited_s, last_line, attach

    def __str__(self) -> str:
        return (
            f"the agent did not signal PHASE_COMPLETE: {self.phase} in {self.waited_s:.0f} s "
            f"(last line: {self.last_line!r}); look with: {self.attach}"
        )


class WrongPhase(AgentError):
    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found

    def __str__(self) -> str:
        return (
            f"the agent signalled PHASE_COMPLETE: {self.found} while {self.expected} was asked for; "
            "read prompts/current.txt and output/status.txt in the workspace, then run the build again"
        )


class OutputsMissing(AgentError):
    def __init__(self, phase: str, complaint: str) -> None:
        super().__init__(phase, complaint)
        self.phase, self.complaint = phase, complaint

    def __str__(self) -> str:
        return (
            f"the agent signalled {self.phase} as complete, but {self.complaint}; "
            "read its screen in the run's log, then run the build again"
        )


class AskCancelled(AgentError):
    """Whoever was waiting called it off, or ended the session. The agent did nothing wrong."""

    def __init__(self, waiting_for: str) -> None:
        super().__init__(waiting_for)
        self.waiting_for = waiting_for

    def __str__(self) -> str:
        return f"waiting for {self.waiting_for} was called off; run the build again to go on"


class SourceRefused(BuilderError):
    """``path`` is relative to the source folder; ``reason`` names the rule and its limit."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"source/{self.path}: {self.reason}; nothing was published, the site is as it was"


class HostingError(BuilderError):
    """``host`` is the block's name; ``transient`` as the provider's answer allows."""

    def __init__(self, host: str, complaint: str, next_move: str, transient: bool = False) -> None:
        super().__init__(host, complaint, next_move, transient)
        self.host, self.complaint, self.next_move = host, complaint, next_move
        self.transient = transient

    def __str__(self) -> str:
        return f"{self.host}: {self.complaint}; {self.next_move}"


class SiteBusy(BuilderError):
    """Another run writes this site. Transient: it ends."""

    transient = True

    def __init__(self, site: str, owner: str, since: str) -> None:
        super().__init__(site, owner, since)
        self.site, self.owner, self.since = site, owner, since

    def __str__(self) -> str:
        return (
            f"site {self.site} is being written by {self.owner} since {self.since}; "
            "wait for that run or cancel it, then start this one again"
        )


class NotHealthy(BuilderError):
    def __init__(self, url: str, waited_s: float, complaint: str) -> None:
        super().__init__(url, waited_s, complaint)
        self.url, self.waited_s, self.complaint = url, waited_s, complaint

    def __str__(self) -> str:
        return (
            f"{self.url} was not healthy after {self.waited_s:.0f} s: {self.complaint}; "
            "open the URL, then start redeploy/on-demand with this execution's id"
        )


class CheckFailed(BuilderError):
    """One of our own gates is red. ``findings`` are sentences, worst first."""

    def __init__(self, check: str, findings: Sequence[str]) -> None:
        super().__init__(check, tuple(findings))
        self.check, self.findings = check, tuple(findings)

    def __str__(self) -> str:
        shown = "; ".join(self.findings[:3])
        more = f" (and {len(self.findings) - 3} more)" if len(self.findings) > 3 else ""
        return (
            f"{self.check}: {shown}{more}; mend source/ in the workspace, "
            "then start redeploy/on-demand with this execution's id"
        )


class ReleaseUndone(BuilderError):
    """``cause`` is what our gates said, ``serves`` what visitors get."""

    def __init__(self, cause: str, serves: str) -> None:
        super().__init__(cause, serves)
        self.cause, self.serves = cause, serves

    def __str__(self) -> str:
        return f"{self.cause}; the release was taken back: {self.serves}"


class RollbackFailed(BuilderError):
    """Somebody has to look: what is served has failed our gates, or is unknown."""

    def __init__(self, cause: str, trouble: str, wanted: str) -> None:
        super().__init__(cause, trouble, wanted)
        self.cause, self.trouble, self.wanted = cause, trouble, wanted

    def __str__(self) -> str:
        return (
            f"{self.cause}; AND SETTING THE SITE BACK FAILED ({self.wanted}): {self.trouble}; "
            "mend that, then start rollback/on-demand or teardown/on-demand with this execution's id"
        )


class ReleaseUnknown(BuilderError):
    def __init__(self, wanted: str, kept: Sequence[str], live: str) -> None:
        super().__init__(wanted, tuple(kept), live)
        self.wanted, self.kept, self.live = wanted, tuple(kept), live

    def __str__(self) -> str:
        return (
            f"release: {self.wanted or 'an older one than the live one'} is not kept; "
            f"kept: {', '.join(self.kept) or 'none'}; live: {self.live or 'none'}; "
            "choose a kept one, or start redeploy/on-demand to publish anew"
        )


class TeardownIncomplete(BuilderError):
    def __init__(self, execution_id: str, left: Sequence[str]) -> None:
        super().__init__(execution_id, tuple(left))
        self.execution_id, self.left = execution_id, tuple(left)

    def __str__(self) -> str:
        more = f" (and {len(self.left) - 5} more)" if len(self.left) > 5 else ""
        return (
            f"{self.execution_id}: still there after the teardown: {'; '.join(self.left[:5])}{more}; "
            "see why (rights, a full or read-only disk), then start teardown/on-demand again"
        )


class NothingLeft(BuilderError):
    def __init__(self, execution_id: str) -> None:
        super().__init__(execution_id)
        self.execution_id = execution_id

    def __str__(self) -> str:
        return f"{self.execution_id}: its files were taken down with its site; start full-build/on-demand to build anew"


class NotApproved(BuilderError):
    """``reason`` is what was answered, or that nobody did."""

    def __init__(self, reason: str, by_a_person: bool = False) -> None:
        super().__init__(reason, by_a_person)
        self.reason, self.by_a_person = reason, by_a_person

    def __str__(self) -> str:
        return f"the plan was not approved: {self.reason}; nothing was published; start the build again to plan anew"


class NoRoom(BuilderError):
    def __init__(self, complaint: str) -> None:
        super().__init__(complaint)
        self.complaint = complaint

    def __str__(self) -> str:
        return f"{self.complaint}; reap/hourly lists what nobody needs; then start the build again"


class BrowserError(BuilderError):
    def __init__(self, doing: str, complaint: str) -> None:
        super().__init__(doing, complaint)
        self.doing, self.complaint = doing, complaint

    def __str__(self) -> str:
        return f"the browser failed while {self.doing}: {self.complaint}; try: make demo (it checks the browser first)"


class Unspeakable(BuilderError):
    """``shown`` are its words without the secret; ``transient`` as the error itself was."""

    def __init__(self, shown: str, transient: bool = False) -> None:
        super().__init__(shown, transient)
        self.shown = shown
        self.transient = transient

    def __str__(self) -> str:
        return self.shown


class SandboxUnavailable(BuilderError):
    def __init__(self, complaint: str) -> None:
        super().__init__(complaint)
        self.complaint = complaint

    def __str__(self) -> str:
        return (
            f"the agent cannot be confined on this machine: {self.complaint}; install bubblewrap and allow "
            "user namespaces, or set TMUX_BUILDER_SANDBOX=unsafe-none where nobody but you sends requests"
        )
