"""What a notice says, in plain words: as subject and text, as a mail, as JSON. Pure.

What strangers wrote (a wish, a question, an error's words) is text in here and nothing else: bounded, without control
characters, secrets redacted. A subject is ours alone, on one line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from html import unescape
from typing import Any

from tasks.adapters.redaction import redact
from tasks.adapters.registry import ExecutionRecord, Notice, Question
from tasks.domain.notice import Channel, Occasion
from tasks.domain.pipeline import TOTAL_STEPS, Failure, SiteState, Verb, Verdict
from tasks.domain.text import plain_text

WISH_LIMIT, QUESTION_LIMIT, ERROR_LIMIT = 120, 3000, 1500
"""Characters of what strangers wrote that a notice shows; the page has all of it."""

_MENTION = re.compile(r"(?i)(?<!\w)@(?=everyone|here|channel|all\b)")
_LINK = re.compile(r"(?i)\b(?:[a-z][a-z0-9+.-]{0,30}://|www\.|mailto:)\S+")
_NAME = re.compile(
    r"(?<![\w-])(?:[\w.+-]{1,64}@)?(?:[\w-]{1,63}\.){1,8}(?P<end>[^\W\d_]{2,63})(?![^\W_])(?P<more>[:/]\S*)?"
)
"""Bounded, so that the time that they take grows with the text and no faster: what is longer is found from within."""

_FILES = frozenset(
    [
        "html",
        "css",
        "js",
        "json",
        "xml",
        "txt",
        "png",
        "jpg",
        "jpeg",
        "svg",
        "webp",
        "gif",
        "ico",
        "woff",
        "woff2",
        "pdf",
        "webmanifest",
    ]
)
"""Ends of file names that no domain has."""


@dataclass(frozen=True)
class Matter:
    """What a notice is about, and where its page is. ``question`` where somebody is asked something."""

    notice: Notice
    execution: ExecutionRecord
    question: Question | None
    link: str
    shown: Callable[[str], str] = str
    """How whoever gets it is told of failures."""

    @property
    def failure(self) -> Failure | None:
        told = self.notice.details.get("error")
        return Failure.model_validate(told) if told else None

    @property
    def url(self) -> str | None:
        """The site's, while it serves something."""
        return None if self.execution.site_state is SiteState.TAKEN_DOWN else self.execution.url

    @property
    def verdict(self) -> str | None:
        """On what is live."""
        told: str | None = self.notice.details.get("verdict") or self.execution.verdict
        return told


@dataclass(frozen=True)
class Words:
    subject: str
    text: str


def bounded(text: str, limit: int) -> str:
    """A stranger's text as it may be shown. What looks secret is looked for before it is cut.

    >>> bounded("a\\x1b[2Jb\\u202ec " + "d" * 20, 12)
    'a[2Jbc ddddd…'
    """
    shown = redact(plain_text(text)).strip()
    return shown if len(shown) <= limit else f"{shown[:limit].rstrip()}…"


def one_line(text: str) -> str:
    """
    >>> one_line("Hi\\r\\nBcc: all@example.com\\u2028x")
    'Hi Bcc: all@example.com x'
    """
    return " ".join(plain_text(text).split())


def unlinked(text: str) -> str:
    """Without addresses, and without what mail programs make one of: who orders in another's name sends them none.

    >>> unlinked("see\\nhttps://evil.example/x, evil-bank.com/login or me@evil.com; style.css, e.g. 9.50 EUR")
    'see\\n(link) (link) or (link); style.css, e.g. 9.50 EUR'
    """
    return _NAME.sub(_without_name, _LINK.sub("(link)", text))


def _without_name(found: re.Match[str]) -> str:
    is_file = found["end"].lower() in _FILES and not found["more"] and "@" not in found[0]
    return found[0] if is_file else "(link)"


def wish(execution: ExecutionRecord) -> str:
    """How the wish begins.

    >>> from types import SimpleNamespace
    >>> wish(SimpleNamespace(request=SimpleNamespace(requirements="A tea shop, see\\nhttps://evil.example/x now")))
    'A tea shop, see (link) now'
    """
    return bounded(one_line(unlinked(execution.request.requirements)), WISH_LIMIT)


def worded(matter: Matter) -> Words:
    """For the person who ordered, or for operators, by the notice's channel."""
    execution, notice = matter.execution, matter.notice
    at = execution.created_at
    ordered = f"{at.day} {at:%b %Y, %H:%M} UTC"
    title, said, move = _told(matter)
    if notice.channel is Channel.EMAIL:
        who = f"You asked for this website on {ordered}:"
        subject = f"Your website {title} ({at.day} {at:%b, %H:%M} UTC)"
        end = "This link opens the page without a password, so keep it to yourself. Nobody reads answers to this mail."
    else:
        who = f"{one_line(execution.request.email)} asked for this website on {ordered}:"
        subject = f"Website of {one_line(execution.request.email)} {title}"
        end = "The page asks operators to log in."
    parts = [
        *said,
        f"{who}\n{_indented(wish(execution))}",
        f"{move}\n{matter.link}",
        end,
        f"Execution {execution.execution_id}",
    ]
    return Words(one_line(subject), "\n\n".join(parts) + "\n")


def _told(matter: Matter) -> tuple[str, list[str], str]:
    """The end of the subject, what happened, and what the page is for."""
    match matter.notice.occasion:
        case Occasion.ACCEPTED:
            said = ["The order was accepted, and waits for its turn. It begins by itself."]
            return "is ordered", said, "Watch it, talk to the agent that writes it, and answer its questions here:"
        case Occasion.WAITING_INPUT:
            return _waits(matter)
        case Occasion.COMPLETED:
            return _completed(matter)
        case Occasion.FAILED:
            failure = matter.failure
            said = ["It could not be finished."]
            if failure is not None:
                step = f"Step {failure.step} of {TOTAL_STEPS}, {failure.step_name}, failed"
                cause = _indented(bounded(_for(matter, matter.shown(failure.message)), ERROR_LIMIT))
                said.append(f"{step if failure.step else 'It did not begin'}:\n{cause}")
            if matter.url and matter.execution.site_state in (SiteState.LIVE, SiteState.ROLLED_BACK):
                said.append(f"The last good release is live still:\n{matter.url}")
            return "could not be finished", said, "See what was done, and try again, here:"


def _for(matter: Matter, text: str) -> str:
    """Nobody has shown that the requester's address is theirs: what strangers bring about sends no links there."""
    return unlinked(text) if matter.notice.channel is Channel.EMAIL else text


def _waits(matter: Matter) -> tuple[str, list[str], str]:
    question = matter.question
    if question is None:
        return "waits for a person", ["It goes on when somebody has looked."], "Look here:"
    until = f"{question.expires_at.day} {question.expires_at:%b %Y, %H:%M} UTC"
    body = _plan(question.body) if question.kind == "plan" else question.body
    asked = _indented(bounded(_for(matter, body), QUESTION_LIMIT))
    if question.kind == "plan":
        said = [f"There is a plan. Nothing is built until somebody has answered, and an answer counts until {until}:"]
        said.append(asked)
        return "has a plan for you to read", said, "Approve it, ask for changes, or reject it here:"
    said = [f"The agent that writes it has a question, and goes on when somebody has answered, until {until}:", asked]
    return "waits for an answer", said, "Answer here, with the number of a choice or in your own words:"


def _plan(body: str) -> str:
    """Without the words that Prefect's form begins with, and without what keeps its Markdown from being obeyed.

    >>> _plan("## Shall this be built?\\n\\n---\\n\\n# Plan: R&amp;D &amp;lt;b>")
    '# Plan: R&D <b>'
    """
    before, line, plan = body.partition("\n---\n")
    return unescape(unescape(plan.strip() if line else before))


def _completed(matter: Matter) -> tuple[str, list[str], str]:
    again = matter.notice.details.get("verb") == Verb.REDEPLOY
    if matter.url is None:
        return "was finished", ["It was finished, and has been taken down since."], "See what was done here:"
    title, said = ("was published again", "It was published again") if again else ("is live", "It is live")
    match matter.verdict:
        case Verdict.PASSED:
            said += ", and all checks passed"
        case Verdict.FAILED_CHECKS:
            title += ", with open points"
            said += ", and some of its browser tests are red"
    return title, [f"{said}:\n{matter.url}"], "See its pictures and checks, change it, or take it down here:"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def for_chat(text: str) -> str:
    """Without what Slack, Discord and their like obey in a text: mentions of everybody, and links behind other words.

    >>> for_chat("<!channel> @everyone <https://evil.example|our page> ana@example.com")
    '‹!channel› (at)everyone ‹https://evil.example|our page› ana@example.com'
    """
    return _MENTION.sub("(at)", text).replace("<", "‹").replace(">", "›")


# -- mail --


def message_id(notice: Notice, sender: str) -> str:
    """The same for each attempt, so that a mail that arrives twice is shown once."""
    return f"<{notice.notice_id}@{sender_of(sender).domain}>"


def mail(matter: Matter, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Raises ValueError for an address that is none: nothing in a header can begin another one."""
    words = worded(matter)
    letter = EmailMessage(policy=SMTP)
    letter["From"] = sender_of(sender)
    letter["To"] = [mailbox(each) for each in to]
    letter["Subject"] = words.subject
    letter["Date"] = format_datetime(matter.notice.created_at)
    letter["Message-ID"] = message_id(matter.notice, sender)
    letter["References"] = (
        f"<{matter.execution.execution_id}@{sender_of(sender).domain}>"  # one thread for each execution
    )
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: holiday answers stay away
    letter.set_content(words.text, cte="quoted-printable")
    return letter


def mailbox(spec: str, name: str = "") -> Address:
    """Raises ValueError.

    >>> str(mailbox("ana@b\xfccher.example")), str(mailbox("a@b.example", "Ana"))
    ('ana@xn--bcher-kva.example', 'Ana <a@b.example>')
    """
    local, at, domain = spec.rpartition("@")
    if not at:
        raise ValueError(f"{spec!r} is no mail address; expected such as builder@example.com")
    try:
        return Address(display_name=name, addr_spec=f"{local}@{domain.encode('idna').decode()}")
    except ValueError as error:
        raise ValueError(f"{spec!r} is no mail address that every server takes: {error}") from None


def sender_of(text: str) -> Address:
    """``Name <address>``, or the address alone. Raises ValueError."""
    name, spec = parseaddr(text)
    if one_line(text) != text or not text.rstrip(">").endswith(spec):
        raise ValueError(f"{text!r} is no mail address; expected such as Builder <builder@example.com>")
    return mailbox(spec, name)


# -- JSON --


def as_json(matter: Matter) -> dict[str, Any]:
    """What a signed webhook holds. Fields that say nothing are left out."""
    words, notice = worded(matter), matter.notice
    failure, question = matter.failure, matter.question
    told: dict[str, Any] = {
        "execution_id": notice.execution_id,
        "run_id": notice.run_id,
        "status": notice.occasion,
        "subject": words.subject,
        "text": words.text,
        "link": matter.link,
    }
    if notice.occasion is Occasion.COMPLETED:
        told |= {"site_url": matter.url, "verdict": matter.verdict}
    if question is not None:
        told |= {"question_id": question.question_id, "question_kind": question.kind}
        told |= {"question": bounded(question.body, QUESTION_LIMIT), "expires_at": question.expires_at.isoformat()}
    if failure is not None:
        told |= {"step": failure.step, "step_name": failure.step_name, "error": bounded(failure.message, ERROR_LIMIT)}
    return {name: value for name, value in told.items() if value not in (None, "")}
