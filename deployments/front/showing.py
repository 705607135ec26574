"""What the pages say: names of steps, durations, what happens now, questions with choices, Markdown without power.

Pure, but for the clock that its callers bring.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from deployments.front.models import ExecutionView, StepView
from tasks.adapters.registry import Message, Question, RunRecord
from tasks.domain.check import Check
from tasks.domain.pipeline import SiteState, Status, Step, Verb, Verdict
from tasks.domain.text import plain_text

STEPS: Mapping[Step, tuple[str, str]] = {
    Step.CREATE_USER: ("Who it is for", "looking up who it is for"),
    Step.CREATE_SESSION: ("A place to work", "making a place to work in"),
    Step.GATHER_REQUIREMENTS: ("Your wishes, numbered", "sorting your wishes into a list"),
    Step.CREATE_PLAN: ("The plan", "writing the plan"),
    Step.GENERATE_CODE: ("The site is written", "writing the site"),
    Step.DEPLOY: ("Published", "putting it on the internet"),
    Step.HEALTH_CHECK: ("Answers", "checking that it answers"),
    Step.SCREENSHOT: ("Photographed", "looking at it on a desktop and on a phone"),
    Step.E2E_TESTS: ("Tested in a browser", "clicking through it in a browser"),
}
"""Each step's name on a page, and what is being done while it runs."""

STATUSES: Mapping[Status, str] = {
    Status.PENDING: "in the queue",
    Status.RUNNING: "at work",
    Status.WAITING_INPUT: "waits for you",
    Status.COMPLETED: "done",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}

CHECKS = {"health_check": "It answers", "screenshot": "It looks right", "e2e_tests": "It works in a browser"}

_BESIDE = {
    Verb.REVERIFY: "Meanwhile the live site is being checked again.",
    Verb.ROLLBACK: "An earlier release is being put back.",
    Verb.TEARDOWN: "The site is being taken down.",
}
_STATES = {
    SiteState.DEGRADED: "The last look at it found something wrong; see the checks below.",
    SiteState.ROLLED_BACK: "A newer release failed the checks, so the last good one serves.",
    SiteState.ROLLBACK_FAILED: "Going back to the last good release did not work; an operator has to look.",
}

PLAN_BYTES = 64 * 1024
"""How much of a plan is rendered; the file has all of it."""


# -- time --


def duration(seconds: float) -> str:
    """
    >>> duration(0.4), duration(42), duration(185), duration(7380)
    ('under 1 s', '42 s', '3 min 5 s', '2 h 3 min')
    """
    whole = int(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    return f"{minutes // 60} h {minutes % 60} min"


def taken(step: StepView, now: datetime) -> str:
    """How long a step took, or has taken so far; empty before it began."""
    if step.started_at is None:
        return ""
    return duration(((step.finished_at or now) - step.started_at).total_seconds())


def moment(at: datetime) -> str:
    """
    >>> moment(datetime(2026, 1, 24, 14, 30))
    '24 Jan 2026, 14:30 UTC'
    """
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def size(count: int) -> str:
    """
    >>> size(900), size(48_200), size(3_400_000)
    ('900 bytes', '48 kB', '3.4 MB')
    """
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


# -- what happens --


@dataclass(frozen=True)
class Now:
    """The one line that a page begins with. ``tone``: wait, work, ask, good, doubt, bad or over."""

    title: str
    words: str
    tone: str


def happens(view: ExecutionView, runs: Sequence[RunRecord] = ()) -> Now:
    """What happens with an execution; ``runs`` are those that are not over."""
    now = _now(view)
    gone = {Verb.TEARDOWN} if view.site_state is SiteState.TAKEN_DOWN else set()
    beside = " ".join(_BESIDE[run.verb] for run in runs if run.verb in _BESIDE and run.verb not in gone)
    if any(run.cancel_requested for run in runs):
        return Now("Stopping", "It ends as soon as the work at hand can be left.", "work")
    return Now(now.title, f"{now.words} {beside}".strip(), now.tone)


def _now(view: ExecutionView) -> Now:
    match view.status:
        case Status.PENDING:
            place = view.queue_position or 1
            words = "It begins in a moment." if place == 1 else f"{place - 1} before it. It begins by itself."
            return Now("In the queue", words, "wait")
        case Status.WAITING_INPUT:
            if view.question is None:
                return Now("It waits for a person", "See the conversation below.", "ask")
            if view.question.kind == "plan":
                return Now("Your turn: is this the plan?", "Nothing is built until you have answered.", "ask")
            return Now("Your turn: a question", "The agent goes on when you have answered.", "ask")
        case Status.RUNNING:
            if view.queue_position:
                return Now("Waits for a free agent", f"Number {view.queue_position} in line.", "wait")
            step = Step(view.current_step or 1)
            return Now(f"Step {step} of {len(Step)}", f"{STEPS[step][1].capitalize()}.", "work")
        case Status.FAILED:
            at = view.error.step if view.error else 0
            return Now("It did not work", f"Stopped in step {at}: {STEPS[Step(at)][1]}." if at else "", "bad")
        case Status.CANCELLED:
            return Now("Cancelled", "What was live before is live still.", "over")
        case Status.COMPLETED:
            return _completed(view)


def _completed(view: ExecutionView) -> Now:
    if view.site_state is SiteState.TAKEN_DOWN:
        return Now("Taken down", "Nothing is served any more.", "over")
    if view.site_state in _STATES:
        return Now("Live, with a doubt", _STATES[view.site_state], "doubt")
    if view.verdict is Verdict.FAILED_CHECKS:
        return Now("Live, with open points", "Some checks below are red. They stop nothing; read them.", "doubt")
    return Now("Your site is live", "All checks passed.", "good")


def newest_checks(checks: Iterable[Check]) -> list[Check]:
    """Of each kind the last one, in the order of the steps."""
    last = {check.name: check for check in checks}
    known = [last.pop(step.task_name) for step in Step if step.task_name in last]
    return [*known, *last.values()]


# -- questions --

_CHOICE = re.compile(r"([1-9])\. (\S.{0,199})")


def asked(text: str) -> tuple[str, list[str]]:
    """The words of an agent's question, and the choices that end it; none where there are several questions in it.

    >>> asked("Dark or light?\\n1. Dark\\n2. Light")
    ('Dark or light?', ['Dark', 'Light'])
    >>> asked("Dark?\\n1. Yes\\n2. No\\nBig?\\n1. Yes\\n2. No")[1]
    []
    """
    lines = text.rstrip().splitlines()
    found = [_CHOICE.fullmatch(line.rstrip()) for line in lines]
    count = 0
    while count < len(lines) and found[-1 - count]:
        count += 1
    numbers = [match[1] for match in found if match]
    if count == 0 or numbers != [str(number) for number in range(1, count + 1)]:
        return text, []
    return "\n".join(lines[:-count]), [match[2] for match in found[-count:] if match]


def picked(messages: Iterable[Message], questions: Sequence[Question]) -> dict[int, str]:
    """Of messages that answer a question by a number: the words of that choice, by the message's id."""
    found = {}
    for message in messages:
        if message.author != "user" or not re.fullmatch("[1-9]", message.body):
            continue
        for question in questions:
            choices = asked(question.body)[1]
            open_ = question.answered_at is None or message.created_at <= question.answered_at
            if question.asked_at <= message.created_at and open_ and int(message.body) <= len(choices):
                found[message.message_id] = choices[int(message.body) - 1]
    return found


# -- Markdown --


def _reader() -> MarkdownIt:
    reader = MarkdownIt("js-default", {"html": False, "linkify": False, "typographer": False}).disable(["image"])
    reader.validateLink = is_web  # type: ignore[assignment,method-assign]  # how the library wants it
    reader.add_render_rule("link_open", _link)
    reader.add_render_rule("heading_open", _heading)
    reader.add_render_rule("heading_close", _heading)
    return reader


def is_web(address: str) -> bool:
    """
    >>> is_web("https://example.com"), is_web("javascript:alert(1)"), is_web("//evil"), is_web("/e/1/teardown")
    (True, False, False, False)
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _link(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow ugc")
    tokens[index].attrSet("target", "_blank")
    return str(renderer.renderToken(tokens, index, options, env))


def _heading(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Below the page's own headings."""
    tokens[index].tag = f"h{min(6, int(tokens[index].tag[1]) + 2)}"
    return str(renderer.renderToken(tokens, index, options, env))


_READER = _reader()


@lru_cache(maxsize=256)
def rendered(markdown: str) -> Markup:
    """A stranger's Markdown as HTML: no HTML of theirs, no pictures, links to the web alone.

    >>> rendered("# Hi <script>x</script>")
    Markup('<h3>Hi &lt;script&gt;x&lt;/script&gt;</h3>\\n')
    >>> rendered("[a](javascript:x)")
    Markup('<p>[a](javascript:x)</p>\\n')
    >>> rendered("[a](http://b)")
    Markup('<p><a href="http://b" rel="noopener noreferrer nofollow ugc" target="_blank">a</a></p>\\n')
    """
    return Markup(_READER.render(plain_text(markdown)))  # noqa: S704  # made of escaped text by a reader without HTML
