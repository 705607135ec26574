"""Sends the notices that the registry holds: e-mail, and whatever the operator's notification block calls.

`serve` runs in the dispatcher's process, with threads of its own: a mail server that is slow or away keeps nobody else
waiting, and no channel another one. A notice is sent at least once, under one id; what fails is tried again with
growing pauses, and then given up, with its reason in the log and in the record.
"""

import asyncio
import logging
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from email.message import EmailMessage
from typing import Any, Protocol, TypeVar

import httpx
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect_email import EmailServerCredentials, SMTPServer, SMTPType  # type: ignore[import-untyped]  # has no types
from pydantic import SecretStr

from blocks.settings import Settings
from blocks.signed_webhook import SignedWebhook
from deployments.front.settings import front_settings, listed
from deployments.front.tokens import LINK, mint, sha256_of
from deployments.front.wording import ForRequesters
from deployments.notice_texts import Matter, as_json, for_chat, mail, worded
from tasks.adapters.redaction import Redactor, redact
from tasks.adapters.registry import ExecutionRecord, Notice, Question, Registry
from tasks.domain.errors import UnknownExecution
from tasks.domain.notice import Channel, NoticeState, Occasion
from tasks.domain.pipeline import Status

LOOK_S = 2.0
"""How long a notice may lie before it is looked at."""

AGAIN_AFTER_S = (10.0, 60.0, 300.0, 1800.0, 7200.0)
"""How long a notice waits after each attempt that failed; after one more it is given up."""

LEASE_S = 120.0
"""How long a notice is one sender's alone; after that another takes it for dead. Longer than an attempt takes."""

TIMEOUT_S = 10.0
"""For each answer of a mail server or webhook."""

WEBHOOK_S = 30.0
"""For a notification block, all in all."""

ATTEMPT_S = 60.0
"""For a mail, all in all: a server that drips answers is hung up on."""

MAILS_AN_HOUR = 10
"""About questions of one execution, to who ordered: an agent may ask without end."""

TOO_OLD_S = 86_400.0
"""What nobody could send for so long is news no more, such as after the sender was off for days."""

LONGEST_PAUSE_S = 60.0
ERROR_LIMIT = 500

_MAILBOX = re.compile(r"[^\s<>:]+@[^\s<>:]+")

log = logging.getLogger("notices")

T = TypeVar("T")
LoadBlock = Callable[[str], Any]


class NeverSent(Exception):
    """There is no use in trying again; the text says why."""


class Carrier(Protocol):
    """Takes a notice to whoever gets it; returns when it was taken there. Raises anything where it was not."""

    async def carry(self, matter: Matter) -> None: ...


@dataclass(frozen=True)
class NoticeSettings:
    """What `blocks.settings` says of notices. ``email`` and ``webhook`` are names of blocks; empty: off."""

    email: str = ""
    sender: str = ""
    requesters: bool = True
    operators: tuple[str, ...] = ()
    webhook: str = ""

    @classmethod
    def of(cls, chosen: Settings) -> "NoticeSettings":
        return cls(
            email=chosen.notice_email,
            sender=chosen.notice_from,
            requesters=chosen.notice_requesters,
            operators=tuple(listed(chosen.notice_operators)),
            webhook=chosen.notice_webhook,
        )

    def is_on(self, channel: Channel) -> bool:
        match channel:
            case Channel.EMAIL:
                return bool(self.email) and self.requesters
            case Channel.OPERATORS:
                return bool(self.email) and bool(self.operators)
            case Channel.WEBHOOK:
                return bool(self.webhook)


async def load(name: str) -> Block:
    """The block as it is at the moment: what an operator changes counts for the next notice."""
    try:
        return await Block.aload(name)
    except httpx.HTTPError as error:
        raise ConnectionError(f"Prefect did not give the block {name}: {type(error).__name__}") from None


async def serve(registry: Registry, chosen: Settings) -> None:
    """Send notices until killed, each channel by itself."""
    sender = Sender(registry, NoticeSettings.of(chosen))
    on = [channel for channel in Channel if sender.chosen.is_on(channel)]
    log.info("started notices=%s", ",".join(on) or "off")
    async with asyncio.TaskGroup() as channels:
        for channel in Channel:
            channels.create_task(sender.serve(channel))


class Sender:
    """``base_url``: where the front door is reached; asked anew for each notice. ``shown``: how requesters are told of
    failures.
    """

    def __init__(
        self,
        registry: Registry,
        chosen: NoticeSettings,
        base_url: Callable[[], str] = lambda: front_settings().base_url,
        load_block: LoadBlock = load,
        shown: Callable[[str], str] | None = None,
    ) -> None:
        self.shown = shown or ForRequesters.here(front_settings().home)
        self.registry, self.chosen, self.base_url, self.load_block = registry, chosen, base_url, load_block
        self.lease_s, self.again_after_s = LEASE_S, AGAIN_AFTER_S
        self._threads = ThreadPoolExecutor(len(Channel), thread_name_prefix="notices")

    async def serve(self, channel: Channel) -> None:
        """Send what is due, for ever. Whatever goes wrong is logged once, and waited out with growing pauses."""
        pause = 0.0
        while True:
            try:
                while await self.send_next(channel):
                    pass
                if pause:
                    log.info("works again channel=%s", channel)
                pause = 0.0
            except Exception as error:
                if not pause:
                    log.warning(
                        "channel=%s: %s; tried again with growing pauses",
                        *(channel, redact(f"{type(error).__name__}: {error}")),
                        exc_info=not isinstance(error, ConnectionError),
                    )
                pause = min(LONGEST_PAUSE_S, pause * 2 or LOOK_S)
            await asyncio.sleep(pause or LOOK_S)

    async def send_next(self, channel: Channel) -> bool:
        """Try the notice that is due. False where none is."""
        if not self.chosen.is_on(channel):
            count = await self._in_thread(self.registry.switch_off, channel)
            if count:
                log.info("not sent, it is off channel=%s count=%d", channel, count)
            return False
        notice = await self._in_thread(self.registry.claim_notice, channel, self.lease_s)
        if notice is None:
            return False
        secrets: list[str] = []
        try:
            matter = await self._in_thread(self._matter, notice)
            block = await self.load_block(self.chosen.webhook if channel is Channel.WEBHOOK else self.chosen.email)
            secrets += secrets_in(block)
            await self._carrier(channel, block).carry(matter)
        except Exception as error:  # noqa: BLE001  # a block may be anybody's; what it raised is kept with the notice
            await self._failed(notice, error, secrets)
        else:
            await self._in_thread(self.registry.notice_sent, notice)
            log.info("sent notice=%s %s", notice.notice_id, _named(notice))
        return True

    async def _failed(self, notice: Notice, error: Exception, secrets: list[str]) -> None:
        last = isinstance(error, NeverSent) or notice.attempts > len(self.again_after_s)
        again_s = None if last else self.again_after_s[notice.attempts - 1]
        said = Redactor(secrets)(redact(in_words(error)))[:ERROR_LIMIT]
        await self._in_thread(self.registry.notice_failed, notice, said, again_s)
        log.warning(
            "not sent notice=%s %s attempt=%d, %s: %s",
            *(notice.notice_id, _named(notice), notice.attempts),
            *("given up" if again_s is None else f"again in {again_s:.0f} s", said),
        )

    def _matter(self, notice: Notice) -> Matter:
        """What the notice says. Raises NeverSent where it is news no more."""
        if notice.age_s > TOO_OLD_S:
            raise NeverSent(f"too old: it came to be {notice.age_s / 3600:.0f} hours ago")
        if notice.attempts > len(self.again_after_s) + 1:
            raise NeverSent("each sender that took it up ended before it was sent")
        try:
            execution = self.registry.execution(notice.execution_id)
        except UnknownExecution:
            raise NeverSent("its execution was erased") from None
        is_mail = notice.channel is Channel.EMAIL
        question = self._question(notice, execution) if notice.occasion is Occasion.WAITING_INPUT else None
        if question is not None and is_mail and self._is_flood(notice):
            raise NeverSent(f"{MAILS_AN_HOUR} questions were mailed within the hour; the page has this one")
        link = f"{self.base_url()}/e/{notice.execution_id}"
        return Matter(notice, execution, question, link, self.shown if is_mail else str)

    def _question(self, notice: Notice, execution: ExecutionRecord) -> Question | None:
        """What is asked. Raises NeverSent where nobody is waited for any more, such as after a run's end."""
        if notice.question_id is None:
            is_open = execution.status is Status.WAITING_INPUT
            asked = None
        else:
            asked = self.registry.question_that_waits(notice.question_id)
            is_open = asked is not None and not execution.status.is_final
        if not is_open:
            raise NeverSent("nobody is waited for any more")
        return asked

    def _is_flood(self, notice: Notice) -> bool:
        sent = self.registry.notices(notice.execution_id, [notice.channel])
        recent = [each for each in sent if each.state is NoticeState.SENT and each.age_s < 3600]
        return sum(each.question_id is not None for each in recent) >= MAILS_AN_HOUR

    def _carrier(self, channel: Channel, block: Block) -> Carrier:
        match channel:
            case Channel.EMAIL | Channel.OPERATORS:
                if not isinstance(block, EmailServerCredentials):
                    raise TypeError(f"{self.chosen.email} is no mail server; choose an Email Server Credentials block")
                return Mail(block, self.chosen, self._in_thread, self.registry)
            case Channel.WEBHOOK:
                if not isinstance(block, NotificationBlock):
                    raise TypeError(f"{self.chosen.webhook} cannot notify; choose a notification block")
                return Hook(block)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        """In one of the sender's own threads: those of the dispatcher stay free."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


InThread = Callable[..., Any]


@dataclass(frozen=True)
class Mail:
    """E-mail. Whoever ordered gets a link of their own; operators have a key, and log in."""

    block: EmailServerCredentials
    chosen: NoticeSettings
    in_thread: InThread
    registry: Registry

    async def carry(self, matter: Matter) -> None:
        await self.in_thread(self._send, matter)

    def _send(self, matter: Matter) -> None:
        sender = self.chosen.sender or self.block.username or ""
        to = self.chosen.operators
        is_requester = matter.notice.channel is Channel.EMAIL
        if is_requester:
            to = (matter.execution.request.email,)
            token = mint(LINK)
            matter = replace(matter, link=f"{matter.link}?token={token}")
        try:
            letter = mail(matter, sender, to)
        except ValueError as error:
            raise ValueError(f"TMUX_BUILDER_NOTICE_FROM, or an address that a mail goes to: {error}") from None
        with connected(self.block) as server:
            if not is_requester:
                deliver(server, letter)
                return
            # Before it is sent, and only here: links of mails that go nowhere would push out good ones.
            self.registry.add_link(matter.notice.execution_id, sha256_of(token))
            try:
                deliver(server, letter)
            except (NeverSent, *REFUSALS):
                self.registry.drop_link(sha256_of(token))
                raise


@contextmanager
def connected(block: EmailServerCredentials) -> Iterator[smtplib.SMTP]:
    """A session with the block's server. Unlike the block's own, it never waits for ever."""
    server = block.smtp_server.value if isinstance(block.smtp_server, SMTPServer) else block.smtp_server
    kind = block.smtp_type
    if not isinstance(kind, SMTPType):
        raise TypeError(f"smtp_type: {kind!r} is none of SSL, STARTTLS, INSECURE")
    port = block.smtp_port or kind.value
    tls = ssl.create_default_context()
    if not block.verify:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    password = block.password.get_secret_value()
    over_tls = kind is SMTPType.SSL
    options: dict[str, Any] = {"timeout": TIMEOUT_S, **({"context": tls} if over_tls else {})}
    session: smtplib.SMTP = object.__new__(smtplib.SMTP_SSL if over_tls else smtplib.SMTP)
    watch = threading.Timer(ATTEMPT_S, _hang_up, [session])  # before its first word, which may drip already
    watch.start()
    try:
        type(session).__init__(session, server, port, **options)
        if kind is SMTPType.STARTTLS:
            session.starttls(context=tls)
        if block.username and password:
            session.login(block.username, password)
        yield session
        with suppress(smtplib.SMTPException, OSError):  # what was taken is sent, however the server says good-bye
            session.quit()
    finally:
        watch.cancel()
        session.close()


def _hang_up(session: smtplib.SMTP) -> None:
    if session.sock is not None:
        with suppress(OSError):  # it is closed already
            session.sock.shutdown(socket.SHUT_RDWR)


REFUSALS = (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPDataError)
"""The server has said that it does not take the mail. After anything else, it may have it."""


def deliver(server: smtplib.SMTP, letter: EmailMessage) -> None:
    """Raises NeverSent where the server will never take it for anybody."""
    try:
        refused = server.send_message(letter)
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _words in error.recipients.values()}
        if all(500 <= code < 600 for code in codes):
            raise NeverSent(in_words(error)) from None
        raise
    if refused:  # some of several operators; the others have it, and would get it again
        log.warning("not taken for %d of its recipients: %s", len(refused), _codes(refused))


@dataclass(frozen=True)
class Hook:
    """A notification block: our signed webhook, or any of Prefect's and its friends'."""

    block: NotificationBlock

    async def carry(self, matter: Matter) -> None:
        notice = matter.notice
        async with asyncio.timeout(WEBHOOK_S):
            if isinstance(self.block, SignedWebhook):
                kind = f"execution.{notice.occasion}"
                await self.block.post(notice.notice_id, kind, notice.created_at, as_json(matter))
                return
            words = worded(matter)
            with self.block.raise_on_failure():
                await self.block.notify(for_chat(words.text), for_chat(words.subject))


def in_words(error: Exception) -> str:
    """Without what the error quotes of addresses: those of webhooks are secrets, and those of people are theirs."""
    match error:
        case NeverSent():
            return str(error)
        case httpx.HTTPStatusError():
            return f"HTTP {error.response.status_code}"
        case httpx.HTTPError():
            return f"the webhook did not answer: {type(error).__name__}"
        case TimeoutError():
            return f"no answer in time: {error}" if str(error) else f"no answer within {WEBHOOK_S:.0f} s"
        case smtplib.SMTPRecipientsRefused():
            return f"the mail server refused the address: {_codes(error.recipients)}"
        case smtplib.SMTPResponseException():
            said = error.smtp_error
            words = said.decode(errors="replace") if isinstance(said, bytes) else said
            return f"the mail server answered {error.smtp_code}: {_MAILBOX.sub('(address)', words)}"
        case ValueError():
            return _MAILBOX.sub("(address)", str(error))
        case _:
            return f"{type(error).__name__}: {error}"


def _codes(recipients: Mapping[str, tuple[int, bytes]]) -> str:
    return ", ".join(sorted({str(code) for code, _words in recipients.values()}))


def secrets_in(block: Block) -> list[str]:
    """Values of a block that no error may quote: its secrets, and the address of a webhook, which often is one."""
    found: list[str] = []

    def look(value: Any, name: str = "") -> None:
        if isinstance(value, SecretStr) or hasattr(value, "get_secret_value"):
            look(value.get_secret_value(), "secret")
        elif isinstance(value, dict):
            for each in value.values():
                look(each, name)
        elif isinstance(value, str) and value and name in ("secret", "url"):
            found.append(value)

    for name in type(block).model_fields:
        look(getattr(block, name, None), name)
    return found


def _named(notice: Notice) -> str:
    return f"execution={notice.execution_id} channel={notice.channel} occasion={notice.occasion}"
