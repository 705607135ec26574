"""Notices on their way: a real mail server and a real receiver of webhooks on loopback, and a real registry."""

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.blocks.notifications import AppriseNotificationBlock, CustomWebhookNotificationBlock
from prefect_email import EmailServerCredentials
from pydantic import SecretStr
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from blocks.settings import Settings
from blocks.signed_webhook import SignedWebhook
from deployments import notices
from deployments.front.tokens import sha256_of
from deployments.notice_texts import Matter, mail, unlinked, worded
from deployments.notices import NoticeSettings, Sender
from tasks.adapters.registry import Accepted, Notice, Registry
from tasks.adapters.registry.people import Belonging
from tasks.domain.hosting import Receipt, Site
from tasks.domain.notice import Channel, NoticeState
from tasks.domain.pipeline import Failure, SiteState, Status, Step, Verb, Verdict
from tasks.domain.request import SiteRequest
from tests.support.growth import growth
from tests.support.mail_server import PASSWORD, USER, Received, mail_server, own_certificate
from tests.tasks.adapters.registry.orders import a_finished_execution, a_request, an_execution

BASE = "https://build.example"
SECRET = f"whsec_{base64.b64encode(b'24 random bytes, or more').decode()}"


class Receiver(ThreadingHTTPServer):
    """Keeps each delivery with its headers; answers ``status``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.status = 204
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Taking(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, *_anything: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
async def server() -> AsyncIterator[Received]:
    async with mail_server() as received:
        yield received


def plain(port: int) -> EmailServerCredentials:
    return EmailServerCredentials(smtp_server="127.0.0.1", smtp_type="INSECURE", smtp_port=port)


def sender(registry: Registry, block: Block, **chosen: Any) -> Sender:
    """One that finds this block for mail and for webhooks; mail goes to requesters unless told."""

    async def load(_name: str) -> Block:
        return block

    on = {"email": "email-server-credentials/notices", "sender": "Builder <builder@example.com>", **chosen}
    return Sender(registry, NoticeSettings(**on), lambda: BASE, load)


def hooked(registry: Registry, block: Block) -> Sender:
    return sender(registry, block, email="", webhook="some-webhook/notices")


def the_notice(registry: Registry, accepted: Accepted, channel: Channel = Channel.EMAIL) -> Notice:
    (notice,) = registry.notices(accepted.execution_id, [channel])
    return notice


def content(letter: EmailMessage) -> str:
    return str(letter.get_content()).replace("\r\n", "\n")


def due_now(registry: Registry) -> None:
    """The pause before the next attempt is over."""
    with registry.engine.begin() as connection:
        connection.execute(text("UPDATE notices SET due_at = created_at WHERE state = 'pending'"))


def links_of(registry: Registry) -> int:
    with registry.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM links")).scalar_one())


def published(registry: Registry, accepted: Accepted) -> str:
    url = f"http://{accepted.site_name}.localhost:8401"
    registry.record_published(
        accepted.execution_id, Site(name=accepted.site_name, url=url, release_id="r1-0123456789ab")
    )
    return url


async def test_who_ordered_gets_the_question_by_mail_with_a_link_that_opens_the_page(
    registry: Registry, server: Received
) -> None:
    accepted = an_execution(registry)
    registry.ask_question(accepted.run_id, "agent", 1, "Dark or light?\n1. Dark\n2. Light", 600)
    assert await sender(registry, plain(server.port)).send_next(Channel.EMAIL)
    (letter,) = server.mails
    assert server.recipients == [["ana@example.com"]]
    assert letter["Subject"].startswith("Your website waits for an answer (")
    assert letter["Message-ID"] == f"<{the_notice(registry, accepted).notice_id}@example.com>"
    assert letter["Auto-Submitted"] == "auto-generated"
    said = content(letter)
    assert "  Dark or light?\n  1. Dark\n  2. Light\n" in said
    link = f"{BASE}/e/{accepted.execution_id}?token="
    token = said.partition(link)[2].split()[0]
    assert registry.linked_execution(sha256_of(token)) == accepted.execution_id
    assert the_notice(registry, accepted).state is NoticeState.SENT


async def test_operators_get_each_sites_news_and_no_token(quick_registry: Registry, server: Received) -> None:
    accepted = an_execution(quick_registry)
    error = Failure(step=6, step_name="deploy", message="the disk is full; make room, then retry")
    quick_registry.set_status(accepted.execution_id, Status.FAILED, error)
    await sender(quick_registry, plain(server.port), operators=("a@ops.example", "b@ops.example")).send_next(
        Channel.OPERATORS
    )
    (letter,) = server.mails
    assert server.recipients == [["a@ops.example", "b@ops.example"]]
    assert letter["Subject"] == "Website of ana@example.com could not be finished"
    said = content(letter)
    assert "Step 6 of 9, deploy, failed:\n  the disk is full; make room, then retry\n" in said
    assert f"{BASE}/e/{accepted.execution_id}\n" in said
    assert "token" not in said


def matter_of(registry: Registry, accepted: Accepted, channel: Channel = Channel.EMAIL) -> Matter:
    notice = registry.notices(accepted.execution_id, [channel])[-1]
    question = registry.open_question(accepted.execution_id)
    return Matter(notice, registry.execution(accepted.execution_id), question, f"{BASE}/e/{accepted.execution_id}")


@pytest.mark.parametrize(
    ("verdict", "subject", "words"),
    [
        (Verdict.PASSED, "Your website is live (", "It is live, and all checks passed:\nhttp://tmux-"),
        (Verdict.FAILED_CHECKS, "Your website is live, with open points (", "some of its browser tests are red:\nhttp"),
        (None, "Your website is live (", "It is live:\nhttp://tmux-"),
    ],
)
def test_a_site_that_is_live_is_told_with_its_address_and_what_is_known_of_it(
    quick_registry: Registry, verdict: Verdict | None, subject: str, words: str
) -> None:
    accepted = an_execution(quick_registry)
    published(quick_registry, accepted)
    quick_registry.set_status(accepted.execution_id, Status.COMPLETED, verdict=verdict)
    told = worded(matter_of(quick_registry, accepted))
    assert told.subject.startswith(subject)
    assert words in told.text


def test_what_was_published_again_taken_down_or_goes_on_serving_is_told_so(quick_registry: Registry) -> None:
    accepted = a_finished_execution(quick_registry)
    url = published(quick_registry, accepted)
    redeploy = quick_registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "again")
    quick_registry.begin_step(redeploy.run_id, Step.DEPLOY)
    quick_registry.set_status(accepted.execution_id, Status.COMPLETED)
    assert worded(matter_of(quick_registry, accepted)).subject.startswith("Your website was published again (")
    broken = quick_registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "once more")
    quick_registry.begin_step(broken.run_id, Step.DEPLOY)
    quick_registry.set_status(accepted.execution_id, Status.FAILED)
    for state, is_named in ((SiteState.ROLLED_BACK, True), (SiteState.ROLLBACK_FAILED, False)):
        quick_registry.set_site_state(accepted.site_name, state)
        told = worded(matter_of(quick_registry, accepted)).text
        assert (f"The last good release is live still:\n{url}" in told) == is_named
    with quick_registry.engine.begin() as connection:
        connection.execute(text("UPDATE sites SET state = 'taken_down', live_release = NULL"))
    for notice in quick_registry.notices(accepted.execution_id, [Channel.EMAIL]):
        matter = Matter(notice, quick_registry.execution(accepted.execution_id), None, BASE)
        assert url not in worded(matter).text


def test_a_plan_is_told_with_its_beginning(quick_registry: Registry) -> None:
    accepted = an_execution(quick_registry)
    plan = "## Shall this be built?\n\n---\n\n# Tea &amp; more\n" + "a page\n" * 2000
    quick_registry.ask_question(accepted.run_id, "plan", 1, plan, 600)
    told = worded(matter_of(quick_registry, accepted))
    assert told.subject.startswith("Your website has a plan for you to read")
    assert ":\n\n  # Tea & more\n  a page\n" in told.text
    assert "…" in told.text
    assert len(told.text) < 6000


# -- what strangers write --

NASTY = "Hi\r\nBcc: everybody@example.com\x1b[2J\u202e\u2028Subject: x"


def a_nasty_execution(registry: Registry) -> Accepted:
    accepted = an_execution(registry)
    registry.ask_question(
        accepted.run_id, "agent", 1, f"{NASTY}\nhttps://u:hunter2hunter2@h/ AKIAABCDEFGHIJKLMNOP?", 600
    )
    return accepted


def test_no_header_and_no_terminal_obeys_what_strangers_wrote(quick_registry: Registry) -> None:
    accepted = a_nasty_execution(quick_registry)
    matter = matter_of(quick_registry, accepted, Channel.OPERATORS)
    request = SiteRequest.model_construct(
        **{
            **dict(a_request()),
            "requirements": f"{NASTY} http://evil.example/x www.evil.example",
            "email": "ana@example.com",
        }
    )
    nasty = Matter(matter.notice, replace(matter.execution, request=request), matter.question, matter.link)
    letter = mail(nasty, "builder@example.com", ("ops@example.com",))
    names = ["From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted"]
    assert letter.keys()[:7] == names
    assert set(letter.keys()[7:]) == {"Content-Type", "Content-Transfer-Encoding", "MIME-Version"}
    said = content(letter)
    for bad in ("\x1b", "\u202e", "evil", "hunter2", "AKIA"):
        assert bad not in said
    assert said.count("[redacted]") == 2
    assert "Hi Bcc: (link)[2J Subject: x (link) (link)" in said


@pytest.mark.parametrize("address", ["ana@example.com\nBcc: eve@example.com", "ana", "", "a@b.c, d@e.f", "a b@c.d"])
def test_what_is_no_address_is_not_written_to(quick_registry: Registry, address: str) -> None:
    matter = matter_of(quick_registry, a_nasty_execution(quick_registry))
    with pytest.raises(ValueError, match="is no mail address"):
        mail(matter, "builder@example.com", (address,))
    with pytest.raises(ValueError, match="is no mail address"):
        mail(matter, address, ("ana@example.com",))


def test_a_name_outside_ascii_reaches_the_header(quick_registry: Registry) -> None:
    letter = mail(matter_of(quick_registry, a_nasty_execution(quick_registry)), "Bäcker <b@bäcker.example>", ("a@b.c",))
    assert b"From: =?utf-8?q?B=C3=A4cker?= <b@xn--bcker-gra.example>\r\n" in letter.as_bytes()


# -- off, late, gone --


async def test_nothing_is_sent_where_nothing_is_switched_on(quick_registry: Registry) -> None:
    async def load(name: str) -> Block:
        raise AssertionError(f"{name} was looked for")

    accepted = a_finished_execution(quick_registry)
    off = Sender(quick_registry, NoticeSettings.of(Settings()), lambda: BASE, load)
    for channel in Channel:
        assert not await off.send_next(channel)
    assert {notice.state for notice in quick_registry.notices(accepted.execution_id)} == {NoticeState.OFF}


@pytest.mark.parametrize(
    ("chosen", "on"),
    [
        ({"notice_email": "email-server-credentials/n"}, {Channel.EMAIL}),
        ({"notice_email": "a/n", "notice_requesters": False}, set()),
        ({"notice_email": "a/n", "notice_operators": "x@y.z, "}, {Channel.EMAIL, Channel.OPERATORS}),
        ({"notice_operators": "x@y.z"}, set()),
        ({"notice_webhook": "signed-webhook/n"}, {Channel.WEBHOOK}),
    ],
)
def test_the_settings_say_who_is_told(chosen: dict[str, Any], on: set[Channel]) -> None:
    told = NoticeSettings.of(Settings(**chosen))
    assert {channel for channel in Channel if told.is_on(channel)} == on


async def test_old_news_is_not_sent_when_somebody_switches_it_on(quick_registry: Registry, server: Received) -> None:
    accepted = a_finished_execution(quick_registry)
    with quick_registry.engine.begin() as connection:
        connection.execute(text("UPDATE notices SET created_at = datetime(created_at, '-25 hours')"))
    assert await sender(quick_registry, plain(server.port)).send_next(Channel.EMAIL)
    notice = the_notice(quick_registry, accepted)
    assert (notice.state, server.mails) == (NoticeState.GIVEN_UP, [])
    assert notice.error == "too old: it came to be 25 hours ago"


async def test_a_question_that_was_answered_meanwhile_is_not_asked(quick_registry: Registry, server: Received) -> None:
    accepted = an_execution(quick_registry)
    first = quick_registry.ask_question(accepted.run_id, "agent", 1, "Dark?", 600)
    quick_registry.answer_question(first.question_id, {}, "somebody")
    quick_registry.ask_question(accepted.run_id, "agent", 2, "Light?", 600)
    one = sender(quick_registry, plain(server.port))
    while await one.send_next(Channel.EMAIL):
        pass
    answered, open_ = quick_registry.notices(accepted.execution_id, [Channel.EMAIL])
    assert (answered.state, answered.error) == (NoticeState.GIVEN_UP, "nobody is waited for any more")
    assert open_.state is NoticeState.SENT
    (letter,) = server.mails
    assert "Light?" in content(letter)


async def test_a_question_of_a_run_that_was_cancelled_is_not_asked(quick_registry: Registry, server: Received) -> None:
    accepted = an_execution(quick_registry)
    quick_registry.ask_question(accepted.run_id, "agent", 1, "Dark?", 600)
    quick_registry.set_status(accepted.execution_id, Status.CANCELLED)
    await sender(quick_registry, plain(server.port)).send_next(Channel.EMAIL)
    notice = the_notice(quick_registry, accepted)
    assert (notice.error, server.mails) == ("nobody is waited for any more", [])


async def test_an_agent_that_asks_without_end_fills_nobodys_mailbox(
    quick_registry: Registry, server: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAILS_AN_HOUR", 2)
    accepted = an_execution(quick_registry)
    for number in (1, 2, 3):
        quick_registry.ask_question(accepted.run_id, "agent", number, f"number {number}?", 600)
    one = sender(quick_registry, plain(server.port), operators=("ops@example.com",))
    for channel in (Channel.EMAIL, Channel.OPERATORS):
        while await one.send_next(channel):
            pass
    assert len(server.mails) == 2 + 3
    third = quick_registry.notices(accepted.execution_id, [Channel.EMAIL])[-1]
    assert third.error == "2 questions were mailed within the hour; the page has this one"


async def test_a_wait_without_a_question_is_told_only_where_it_lasts(quick_registry: Registry) -> None:
    accepted = an_execution(quick_registry)
    quick_registry.begin_step(accepted.run_id, Step.CREATE_USER)
    quick_registry.set_status(accepted.execution_id, Status.WAITING_INPUT)
    assert quick_registry.claim_notice(Channel.EMAIL, 60) is None
    due_now(quick_registry)
    assert quick_registry.claim_notice(Channel.EMAIL, 60) is not None


async def test_who_ordered_reads_no_places_of_ours_and_no_links_of_strangers(
    quick_registry: Registry, server: Received
) -> None:
    accepted = an_execution(quick_registry)
    words = "No space left: /root/builder/x.html; look with: tmux -S /root/run/ab attach; pay at evil.example/pay"
    quick_registry.set_status(accepted.execution_id, Status.FAILED, Failure(step=6, step_name="deploy", message=words))
    one = sender(quick_registry, plain(server.port), operators=("ops@example.com",))
    await one.send_next(Channel.EMAIL)
    await one.send_next(Channel.OPERATORS)
    requesters, operators = (content(letter) for letter in server.mails)
    assert "  No space left: …/x.html; try again; pay at (link)\n" in requesters
    assert words in operators


def test_questions_and_plans_bring_no_links_to_who_ordered(quick_registry: Registry) -> None:
    accepted = an_execution(quick_registry)
    quick_registry.ask_question(accepted.run_id, "agent", 1, "Pay https://evil.example or evil-bank.com/x?", 600)
    assert "  Pay (link) or (link)" in worded(matter_of(quick_registry, accepted)).text
    assert "evil-bank.com" in worded(matter_of(quick_registry, accepted, Channel.OPERATORS)).text


@pytest.mark.parametrize(
    "text", [".evil.com", "+evil.com", "x@y@evil.com", "_evil.com_", "(evil.com/x)", "a." * 20 + "evil.com"]
)
def test_no_spelling_of_a_name_is_left_for_a_mail_program_to_find(text: str) -> None:
    assert "evil.com" not in unlinked(text)


@pytest.mark.parametrize("piece", ["a.", "a+", "a@", "www.", "a:", "-", "1."])
def test_taking_links_out_takes_time_in_proportion_to_the_text(piece: str) -> None:
    assert growth(lambda text: unlinked(f"{text}1"), piece) < 50


async def test_who_is_erased_meanwhile_breaks_nothing(quick_registry: Registry, server: Received) -> None:
    a_finished_execution(quick_registry)

    def gone(_belonging: Belonging) -> Receipt:
        return Receipt(removed=("site",))

    class Erasing:
        def __getattr__(self, name: str) -> Any:
            return getattr(quick_registry, name)

        def claim_notice(self, channel: Channel, lease_s: float) -> Notice | None:
            found = quick_registry.claim_notice(channel, lease_s)
            if found is not None:
                quick_registry.erase_person(quick_registry.person("ana@example.com"), gone)
            return found

    one = sender(Erasing(), plain(server.port))  # type: ignore[arg-type]  # the registry, in which somebody is erased
    assert await one.send_next(Channel.EMAIL)
    assert not await one.send_next(Channel.EMAIL)
    assert server.mails == []


# -- trouble --


async def test_a_sender_that_dies_before_it_wrote_that_down_sends_again_under_the_same_id(
    registry: Registry, server: Received
) -> None:
    accepted = a_finished_execution(registry)

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(registry, name)

        def notice_sent(self, notice: Notice) -> None:
            raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        await sender(Dying(), plain(server.port)).send_next(Channel.EMAIL)  # type: ignore[arg-type]
    one = sender(registry, plain(server.port))
    assert not await one.send_next(Channel.EMAIL), "nobody else takes it while its lease lasts"
    due_now(registry)
    assert await one.send_next(Channel.EMAIL)
    first, second = server.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]
    notice = the_notice(registry, accepted)
    assert (notice.state, notice.attempts) == (NoticeState.SENT, 2)


async def test_two_senders_at_once_send_each_mail_once(registry: Registry, server: Received) -> None:
    for key in "abc":
        a_finished_execution(registry, key)

    async def until_none(one: Sender) -> None:
        while await one.send_next(Channel.EMAIL):
            pass

    await asyncio.gather(*(until_none(sender(registry, plain(server.port))) for _ in range(2)))
    await until_none(sender(registry, plain(server.port)))
    ids = [letter["Message-ID"] for letter in server.mails]
    assert len(ids) == len(set(ids)) == 3


async def test_a_server_that_is_away_is_asked_again_with_growing_pauses_and_then_no_more(
    quick_registry: Registry, server: Received, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = a_finished_execution(quick_registry)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        one = sender(quick_registry, plain(nobody.getsockname()[1]))
        pauses = []
        for attempt in range(1, 7):
            assert await one.send_next(Channel.EMAIL)
            notice = the_notice(quick_registry, accepted)
            assert notice.attempts == attempt
            assert "refused" in str(notice.error)
            pauses.append(round((notice.due_at - notice.created_at).total_seconds() - notice.age_s, -1))
            assert not await one.send_next(Channel.EMAIL), "not before its time"
            due_now(quick_registry)
        assert not await one.send_next(Channel.EMAIL)
    assert pauses[:5] == [10, 60, 300, 1800, 7200]
    assert the_notice(quick_registry, accepted).state is NoticeState.GIVEN_UP
    assert "attempt=6, given up" in caplog.text
    with quick_registry.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM links")).scalar() == 0, (
            "no link for a mail that went nowhere"
        )


async def test_a_server_that_says_nothing_keeps_nobody_else_waiting(
    quick_registry: Registry, receiver: Receiver
) -> None:
    accepted = a_finished_execution(quick_registry)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = sender(quick_registry, plain(silent.getsockname()[1]))
        quick = hooked(quick_registry, SignedWebhook(url=receiver.url, secret=SecretStr(SECRET)))
        sending = asyncio.create_task(slow.send_next(Channel.EMAIL))
        connection, _address = await asyncio.to_thread(silent.accept)
        assert await quick.send_next(Channel.WEBHOOK)
        assert receiver.taken
        assert not sending.done()
        connection.close()
        assert await sending
    assert the_notice(quick_registry, accepted).state is NoticeState.PENDING


async def test_a_server_that_says_nothing_is_left_after_a_while(
    quick_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "TIMEOUT_S", 0.2)
    accepted = a_finished_execution(quick_registry)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        await sender(quick_registry, plain(silent.getsockname()[1])).send_next(Channel.EMAIL)
    assert (
        the_notice(quick_registry, accepted).error
        == "SMTPServerDisconnected: Connection unexpectedly closed: timed out"
    )


async def test_a_sender_outlives_what_goes_wrong_and_says_so_once(
    quick_registry: Registry, server: Received, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notices, "LOOK_S", 0.01)
    trouble = iter([ConnectionError("away"), RuntimeError("a fault of ours"), RuntimeError("again")])

    class Troubled:
        def __getattr__(self, name: str) -> Any:
            return getattr(quick_registry, name)

        def claim_notice(self, channel: Channel, lease_s: float) -> Notice | None:
            for error in trouble:
                raise error
            return quick_registry.claim_notice(channel, lease_s)

    a_finished_execution(quick_registry)
    one = sender(Troubled(), plain(server.port))  # type: ignore[arg-type]
    serving = asyncio.create_task(one.serve(Channel.EMAIL))
    async with asyncio.timeout(20):
        while not server.mails:
            await asyncio.sleep(0.02)
    serving.cancel()
    assert caplog.text.count("tried again with growing pauses") == 1


@pytest.mark.parametrize(
    ("code", "state"), [("550 <ana@example.com> is unknown here", "given_up"), ("451 greylisted", "pending")]
)
async def test_an_address_that_is_refused_for_good_is_not_asked_again(
    quick_registry: Registry, server: Received, caplog: pytest.LogCaptureFixture, code: str, state: str
) -> None:
    server.to_recipient = code
    accepted = a_finished_execution(quick_registry)
    links = links_of(quick_registry)
    await sender(quick_registry, plain(server.port)).send_next(Channel.EMAIL)
    notice = the_notice(quick_registry, accepted)
    assert notice.state == state
    assert notice.error == f"the mail server refused the address: {code[:3]}"
    assert "ana@" not in caplog.text
    assert links_of(quick_registry) == links, "one that nobody got is worth nothing"


async def test_a_server_that_drips_its_answer_is_hung_up_on(
    quick_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "ATTEMPT_S", 0.5)
    accepted = a_finished_execution(quick_registry)

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            for _ in range(200):
                connection.sendall(b"2")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as dripping:
        threading.Thread(target=drip, args=(dripping,), daemon=True).start()
        began = time.monotonic()
        await sender(quick_registry, plain(dripping.getsockname()[1])).send_next(Channel.EMAIL)
    assert time.monotonic() - began < 5
    assert the_notice(quick_registry, accepted).state is NoticeState.PENDING


async def test_what_the_server_took_is_sent_however_it_says_good_bye(
    quick_registry: Registry, server: Received
) -> None:
    server.hangs_up = True
    accepted = a_finished_execution(quick_registry)
    await sender(quick_registry, plain(server.port)).send_next(Channel.EMAIL)
    assert the_notice(quick_registry, accepted).state is NoticeState.SENT


async def test_an_error_does_not_quote_addresses(quick_registry: Registry, server: Received) -> None:
    server.answer = "554 ana@example.com has no room"
    accepted = a_finished_execution(quick_registry)
    await sender(quick_registry, plain(server.port)).send_next(Channel.EMAIL)
    assert the_notice(quick_registry, accepted).error == "the mail server answered 554: (address) has no room"


# -- TLS and login --


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_certificate(tmp_path_factory.mktemp("certificate"))


def locked(port: int, **more: Any) -> EmailServerCredentials:
    told = {"smtp_server": "127.0.0.1", "smtp_type": "STARTTLS", "smtp_port": port, "username": USER}
    return EmailServerCredentials(**{**told, "password": SecretStr(PASSWORD), "verify": False, **more})


async def test_a_login_over_starttls(quick_registry: Registry, certificate: Path) -> None:
    a_finished_execution(quick_registry)
    async with mail_server(certificate) as server:
        await sender(quick_registry, locked(server.port), sender="").send_next(Channel.EMAIL)
        assert (server.over_tls, server.logins) == ([True], ["good"])
        assert server.mails[0]["From"] == USER, "where no sender is set"


async def test_a_certificate_that_nobody_vouches_for_gets_no_password(
    quick_registry: Registry, certificate: Path
) -> None:
    accepted = a_finished_execution(quick_registry)
    async with mail_server(certificate) as server:
        await sender(quick_registry, locked(server.port, verify=True)).send_next(Channel.EMAIL)
        assert (server.logins, server.mails) == ([], [])
    assert "certificate verify failed" in str(the_notice(quick_registry, accepted).error)


async def test_a_wrong_password_is_told_and_not_shown(
    quick_registry: Registry, certificate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = a_finished_execution(quick_registry)
    async with mail_server(certificate) as server:
        wrong = locked(server.port, password=SecretStr("not the password"))
        await sender(quick_registry, wrong).send_next(Channel.EMAIL)
        assert (set(server.logins), server.mails) == ({"bad"}, [])
    notice = the_notice(quick_registry, accepted)
    assert (notice.state, str(notice.error)[:31]) == (NoticeState.PENDING, "the mail server answered 535: 5")
    assert "not the password" not in caplog.text + str(notice.error)


# -- webhooks --


async def test_a_signed_webhook_verifies_and_says_what_happened(registry: Registry, receiver: Receiver) -> None:
    accepted = an_execution(registry)
    url = published(registry, accepted)
    question = registry.ask_question(accepted.run_id, "agent", 1, "Dark or light?", 600)
    one = hooked(registry, SignedWebhook(url=receiver.url, secret=SecretStr(SECRET)))
    await one.send_next(Channel.WEBHOOK)
    registry.answer_question(question.question_id, {}, "somebody")
    registry.set_status(accepted.execution_id, Status.COMPLETED, verdict=Verdict.PASSED)
    await one.send_next(Channel.WEBHOOK)
    asked, done = (Webhook(SECRET).verify(body, headers) for headers, body in receiver.taken)
    ids = [notice.notice_id for notice in registry.notices(accepted.execution_id, [Channel.WEBHOOK])]
    assert [headers["webhook-id"] for headers, _body in receiver.taken] == ids
    assert asked["type"] == "execution.waiting_input"
    assert (asked["data"]["question"], asked["data"]["question_id"]) == ("Dark or light?", question.question_id)
    assert done["type"] == "execution.completed"
    assert (done["data"]["site_url"], done["data"]["verdict"]) == (url, "passed")
    assert done["data"]["link"] == f"{BASE}/e/{accepted.execution_id}"
    assert "token" not in json.dumps([asked, done])


@pytest.mark.parametrize(("status", "said"), [(500, "HTTP 500"), (302, "HTTP 302"), (410, "HTTP 410")])
async def test_a_receiver_that_does_not_take_it_gets_it_again_unchanged(
    quick_registry: Registry, receiver: Receiver, status: int, said: str
) -> None:
    accepted = a_finished_execution(quick_registry)
    one = hooked(quick_registry, SignedWebhook(url=receiver.url, secret=SecretStr(SECRET)))
    receiver.status = status
    await one.send_next(Channel.WEBHOOK)
    assert the_notice(quick_registry, accepted, Channel.WEBHOOK).error == said
    due_now(quick_registry)
    receiver.status = 200
    await one.send_next(Channel.WEBHOOK)
    (first, body), (second, again) = receiver.taken
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert the_notice(quick_registry, accepted, Channel.WEBHOOK).state is NoticeState.SENT


async def test_prefects_own_blocks_serve_and_their_failures_are_seen(
    quick_registry: Registry, receiver: Receiver
) -> None:
    accepted = an_execution(quick_registry)
    error = Failure(step=6, step_name="deploy", message="<!channel> @everyone see <https://evil.example|this>")
    quick_registry.set_status(accepted.execution_id, Status.FAILED, error)
    block = CustomWebhookNotificationBlock(
        name="ours", url=receiver.url, json_data={"title": "{{subject}}", "text": "{{body}}"}
    )
    one = hooked(quick_registry, block)
    receiver.status = 503
    await one.send_next(Channel.WEBHOOK)
    assert the_notice(quick_registry, accepted, Channel.WEBHOOK).error == "HTTP 503"
    due_now(quick_registry)
    receiver.status = 200
    await one.send_next(Channel.WEBHOOK)
    told = json.loads(receiver.taken[-1][1])
    assert told["title"] == "Website of ana@example.com could not be finished"
    assert "‹!channel› (at)everyone see ‹https:" in told["text"]
    assert accepted.execution_id in told["text"]


async def test_a_block_that_fails_in_silence_is_made_to_speak(quick_registry: Registry) -> None:
    """Prefect's blocks for Slack and the like swallow failures unless they are told not to."""
    accepted = a_finished_execution(quick_registry)
    secret = "T00000000/B00000000/aVerySecretPartOfTheAddress"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"json://127.0.0.1:{nobody.getsockname()[1]}/{secret}"
        await hooked(quick_registry, MattermostLike(url=SecretStr(url))).send_next(Channel.WEBHOOK)
    notice = the_notice(quick_registry, accepted, Channel.WEBHOOK)
    assert notice.state is NoticeState.PENDING
    assert notice.error is not None
    assert "aVerySecretPart" not in notice.error


class MattermostLike(AppriseNotificationBlock):
    _block_type_slug = "apprise-for-tests"


async def test_a_block_of_another_kind_is_refused_by_name(quick_registry: Registry, server: Received) -> None:
    accepted = a_finished_execution(quick_registry)
    await hooked(quick_registry, plain(server.port)).send_next(Channel.WEBHOOK)
    hook = SignedWebhook(url="https://h.example", secret=SecretStr(SECRET))
    await sender(quick_registry, hook).send_next(Channel.EMAIL)
    errors = {notice.channel: notice.error for notice in quick_registry.notices(accepted.execution_id)}
    assert "some-webhook/notices cannot notify; choose a notification block" in str(errors[Channel.WEBHOOK])
    assert "email-server-credentials/notices is no mail server" in str(errors[Channel.EMAIL])
