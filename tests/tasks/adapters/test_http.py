"""The health check against a site that misbehaves, and against addresses that no site may have."""

import datetime
import ipaddress
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.adapters.http import Unanswered, fetch, health_check, is_public
from tasks.domain.check import Check, Outcome
from tasks.domain.errors import NotHealthy
from tasks.domain.hosting import Site
from tests.support import bad_site as behaviours
from tests.support.bad_site import BadSite, Behaviour, answer, bad_site, marker, redirect, serving
from tests.support.site_server import free_port

__all__ = ["bad_site"]

OLD, NEW = "r1-0123456789ab", "r2-ba9876543210"


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def check(site: Site, deadline_s: float = 60) -> Check:
    clock = Clock()
    return health_check(site, deadline_s, clock=clock, sleep=clock.sleep)


def complaint(site: Site, deadline_s: float = 60) -> str:
    with pytest.raises(NotHealthy) as caught:
        check(site, deadline_s)
    return caught.value.complaint


def test_a_site_that_serves_this_release_is_healthy(bad_site: BadSite) -> None:
    bad_site.serve(answer(), marker(NEW))

    found = check(bad_site.site(NEW))
    assert (found.name, found.outcome, found.red_gates) == ("health_check", Outcome.PASSED, ())
    assert [finding.name for finding in found.findings] == ["answers", "release"]
    assert NEW in found.findings[1].detail
    assert set(bad_site.hosts) == {f"tmux-00000000-00000000.localhost:{bad_site.port}"}


def test_trouble_that_passes_is_waited_for_with_growing_pauses(bad_site: BadSite) -> None:
    clock = Clock()
    bad_site.serve(
        [answer(503), behaviours.reset, behaviours.garbage, answer(404), answer()],
        [answer(404), marker(OLD), marker(NEW)],
    )

    found = health_check(bad_site.site(NEW), 60, clock=clock, sleep=clock.sleep)
    assert found.outcome is Outcome.PASSED
    assert clock.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert found.seconds == pytest.approx(sum(clock.slept))


def test_the_check_ends_at_its_deadline_and_never_after_it(bad_site: BadSite) -> None:
    clock = Clock()
    bad_site.serve(answer(503), marker(NEW))

    with pytest.raises(NotHealthy) as caught:
        health_check(bad_site.site(NEW), 7, clock=clock, sleep=clock.sleep)
    assert sum(clock.slept) == pytest.approx(7)
    assert str(caught.value).startswith(
        f"http://tmux-00000000-00000000.localhost:{bad_site.port} was not healthy after 7 s: HTTP 503;"
    )


def test_a_stale_release_is_named(bad_site: BadSite) -> None:
    bad_site.serve(answer(), marker(OLD))

    assert complaint(bad_site.site(NEW)) == f"serves {OLD} instead of {NEW}"


@pytest.mark.parametrize(
    "body",
    [b"<html>Welcome to nginx!</html>", b"[]", b"null", b'"x"', b'{"release_id": 5}', b'{"release_id": "\x1b[31m"}',
     b"[" * 3000, b"", b"\xff\xfe", b'{"release_id": "r1-0123456789ab; <script>"}'],
)  # fmt: skip
def test_a_page_of_somebody_else_is_no_marker_and_is_not_quoted(bad_site: BadSite, body: bytes) -> None:
    bad_site.serve(answer(), answer(200, body))

    assert complaint(bad_site.site(NEW)) == (
        f"/.well-known/release.json is no release marker; another site answers instead of {NEW}"
    )


@pytest.mark.parametrize(
    ("root", "marked", "expected"),
    [
        (answer(500), marker(NEW), "HTTP 500"),
        (answer(403), marker(NEW), "HTTP 403"),
        (answer(204, b""), marker(NEW), "HTTP 204"),
        (answer(304, b""), marker(NEW), "HTTP 304"),
        (answer(), answer(404), f"HTTP 404 at /.well-known/release.json instead of the marker of {NEW}"),
        (redirect("/"), marker(NEW), "more than 3 redirects"),
        (redirect("http://169.254.169.254/latest/"), marker(NEW), "a redirect to 'http://169.254.169.254/latest/'"),
        (redirect("//evil.example/"), marker(NEW), "a redirect to 'http://evil.example/', which is not this site"),
        (redirect("file:///etc/passwd"), marker(NEW), "a redirect to 'file:/etc/passwd', which is not this site"),
        (redirect("http://[::1/"), marker(NEW), "a redirect to 'http://[::1/', which is no address"),
        (redirect("javascript:alert(1)"), marker(NEW), "which is not this site"),
        (answer(), redirect("http://127.0.0.1:1/"), "a redirect to 'http://127.0.0.1:1/', which is not this site"),
        (behaviours.endless_body, marker(NEW), "an answer of more than 4,194,304 bytes"),
        (answer(), answer(200, b" " * 5000), "an answer of more than 4,096 bytes"),
        (behaviours.bomb, marker(NEW), "an answer packed as 'gzip', which was not asked for"),
        (behaviours.short, marker(NEW), "an answer that ends early or is not HTTP"),
        (behaviours.garbage, marker(NEW), "an answer that ends early or is not HTTP"),
        (behaviours.endless_header, marker(NEW), "an answer that ends early or is not HTTP"),
        (behaviours.reset, marker(NEW), "an answer that ends early or is not HTTP"),
    ],
)  # fmt: skip
def test_each_misbehaviour_is_said_in_words(
    bad_site: BadSite, root: Behaviour, marked: Behaviour, expected: str
) -> None:
    bad_site.serve(root, marked)

    assert expected in complaint(bad_site.site(NEW), deadline_s=1)


@pytest.mark.parametrize("name", ["slow_header", "slow_body", "hang", "endless_continue"])
def test_one_byte_at_a_time_does_not_outlast_the_deadline(bad_site: BadSite, name: str) -> None:
    bad_site.serve(getattr(behaviours, name), marker(NEW))

    began = time.monotonic()
    with pytest.raises(NotHealthy) as caught:
        health_check(bad_site.site(NEW), 0.6)
    assert time.monotonic() - began < 2
    assert caught.value.complaint == "no whole answer within 0.6 s"


def test_a_hanging_attempt_leaves_time_for_the_next(bad_site: BadSite) -> None:
    bad_site.serve([behaviours.hang, answer()], marker(NEW))

    assert health_check(bad_site.site(NEW), 20, attempt_s=0.3).outcome is Outcome.PASSED


def test_an_attempt_cut_by_the_deadline_does_not_hide_what_was_seen_before(bad_site: BadSite) -> None:
    bad_site.serve([answer(503), behaviours.hang], marker(NEW))

    with pytest.raises(NotHealthy) as caught:
        health_check(bad_site.site(NEW), 0.7)
    assert caught.value.complaint == "HTTP 503"


def test_a_refusal_that_time_cannot_mend_ends_the_check_at_once(bad_site: BadSite) -> None:
    bad_site.serve(redirect("http://10.0.0.1/"), marker(NEW))

    complaint(bad_site.site(NEW))
    assert bad_site.requests == ["/"]


def test_a_redirect_loop_ends_after_the_third(bad_site: BadSite) -> None:
    bad_site.serve(redirect("/"), marker(NEW))

    complaint(bad_site.site(NEW))
    assert bad_site.requests == ["/"] * 4


def test_nobody_listening_is_a_refused_connection() -> None:
    port = free_port()
    site = Site(name="x", url=f"http://x.localhost:{port}", release_id=NEW, dial=f"127.0.0.1:{port}")

    assert complaint(site) == f"no connection: Connection refused at x.localhost:{port}"


def test_redirects_within_the_site_are_followed(bad_site: BadSite) -> None:
    bad_site.serve(redirect("/a"), marker(NEW))
    bad_site.paths |= {
        "/a": redirect("b"),
        "/b": redirect(f"http://tmux-00000000-00000000.localhost:{bad_site.port}/c"),
    }
    bad_site.paths["/c"] = answer(200, b"here")

    assert "/c" in check(bad_site.site(NEW)).findings[0].detail


def test_a_site_with_a_dial_address_is_asked_there_whatever_its_name(bad_site: BadSite) -> None:
    bad_site.serve(answer(), marker(NEW))
    site = bad_site.site(NEW).model_copy(update={"url": f"http://sites.example:{bad_site.port}"})

    assert check(site).outcome is Outcome.PASSED
    assert set(bad_site.hosts) == {f"sites.example:{bad_site.port}"}


def test_proxies_of_the_environment_are_not_asked(bad_site: BadSite, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_site.serve(answer(), marker(NEW))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert check(bad_site.site(NEW)).outcome is Outcome.PASSED


# ---------------------------------------------------------------- addresses


def test_a_public_name_that_leads_inside_is_never_dialled(bad_site: BadSite) -> None:
    """Without ``dial``, as for a cloud's site: the name's address is judged when it is dialled."""
    bad_site.serve(answer(), marker(NEW))
    site = Site(name="x", url=f"http://shop.example:{bad_site.port}", release_id=NEW)

    clock = Clock()
    with pytest.raises(NotHealthy, match=r"shop\.example has no public address, but 127\.0\.0\.1"):
        health_check(site, 60, clock=clock, sleep=clock.sleep, resolve=lambda name, port: ["127.0.0.1", "10.0.0.1"])
    assert bad_site.requests == []
    assert clock.slept == []


def test_a_name_that_does_not_resolve_is_said_and_waited_for() -> None:
    def unknown(name: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    clock = Clock()
    with pytest.raises(NotHealthy, match=r"name shop\.example does not resolve"):
        health_check(
            Site(name="x", url="http://shop.example", release_id=NEW),
            5,
            clock=clock,
            sleep=clock.sleep,
            resolve=unknown,
        )
    assert sum(clock.slept) == pytest.approx(5)


def test_a_resolver_that_hangs_does_not_outlast_the_deadline() -> None:
    release = threading.Event()

    def hanging(name: str, port: int) -> list[str]:
        release.wait(30)
        return []

    began = time.monotonic()
    with pytest.raises(NotHealthy):
        health_check(Site(name="x", url="http://shop.example", release_id=NEW), 0.4, resolve=hanging)
    assert time.monotonic() - began < 2
    release.set()


_INSIDE = [
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://169.254.169.254/",
    "http://0177.0.0.1:{port}/", "http://2130706433:{port}/", "http://0x7f.1:{port}/", "http://127.1:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/", "http://[::127.0.0.1]:{port}/", "http://10.1.2.3/", "http://192.168.0.1/",
    "http://172.16.0.1/", "http://0.0.0.0:{port}/", "http://[::]:{port}/", "http://100.64.0.1/",
    "http://100.100.100.200/", "http://168.63.129.16/", "http://192.0.0.192/", "http://192.88.99.1/",
    "http://[64:ff9b::a9fe:a9fe]/", "http://[64:ff9b:1::a9fe:a9fe]/", "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:a9fe:a9fe::1]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fec0::1]/",
    "http://[fc00::1]/", "http://224.0.0.1/", "http://[ff02::1]/", "http://255.255.255.255/", "http://240.0.0.1/",
]  # fmt: skip

_ATTACK = """
import json, sys
from tasks.adapters.http import health_check
from tasks.domain.errors import NotHealthy
from tasks.domain.hosting import Site
for url in json.load(sys.stdin):
    try:
        health_check(Site(name="x", url=url, release_id="r1-0123456789ab"), 0.5)
    except NotHealthy as error:
        print(json.dumps([url, error.complaint]))
"""


def test_no_spelling_of_an_inside_address_is_dialled() -> None:
    """In a network namespace of its own, so that a guard that fails sends no packet; loopback is up in there."""
    urls = [url.format(port=8080) for url in _INSIDE]
    run = subprocess.run(
        ["unshare", "-rn", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh", sys.executable, "-c", _ATTACK],
        input=json.dumps(urls), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    seen = dict(json.loads(line) for line in run.stdout.splitlines())

    assert list(seen) == urls
    refusals = ("has no public address", "is no address of a site")
    assert {url: said for url, said in seen.items() if not any(words in said for words in refusals)} == {}


def test_public_addresses_are_public_and_inside_ones_are_not() -> None:
    for address in ("93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"):
        assert is_public(address), address
    for network in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "fe80::/10", "fd00::/8", "::/96"):
        block = ipaddress.ip_network(network)
        assert not is_public(str(block[1])), network
        assert not is_public(str(block[-2])), network
    for address in ("fe80::1%eth0", "::ffff:168.63.129.16", "::ffff:192.0.0.192", "::ffff:10.0.0.1"):
        assert not is_public(address), address


# ---------------------------------------------------------------- TLS


def _certificate(folder: Path, name: str) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_a_certificate_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    with serving(BadSite(), _certificate(tmp_path, "tmux-00000000-00000000.localhost")) as site:
        site.serve(answer(), marker(NEW))
        assert complaint(site.site(NEW, "https"), 1) == "its certificate is not valid: self-signed certificate"


def test_a_valid_certificate_passes_and_one_for_another_name_does_not(tmp_path: Path) -> None:
    for name, passes in (("tmux-00000000-00000000.localhost", True), ("other.localhost", False)):
        certificate = _certificate(tmp_path, name)
        with serving(BadSite(), certificate) as site:
            site.serve(answer(), marker(NEW))
            trust = ssl.create_default_context(cafile=certificate)
            clock = Clock()
            if passes:
                assert health_check(site.site(NEW, "https"), 5, clock=clock, sleep=clock.sleep, trust=trust)
            else:
                with pytest.raises(NotHealthy, match="its certificate is not valid: Hostname mismatch"):
                    health_check(site.site(NEW, "https"), 5, clock=clock, sleep=clock.sleep, trust=trust)


def test_a_handshake_of_single_bytes_does_not_outlast_the_deadline() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(b"\x16\x03\x03\x40\x00")
                    while not stop.wait(0.05):
                        connection.sendall(b"\x00")
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began = time.monotonic()
        site = Site(name="x", url=f"https://x.localhost:{port}", release_id=NEW, dial=f"127.0.0.1:{port}")
        with pytest.raises(NotHealthy):
            health_check(site, 0.5)
        assert time.monotonic() - began < 2
        stop.set()
        thread.join(5)


# ---------------------------------------------------------------- one path


def test_any_path_can_be_fetched_whatever_its_status(bad_site: BadSite) -> None:
    bad_site.paths = {"/a?b=c": answer(410, b"gone", X_Thing="1"), "/big": answer(200, b"x" * 2000)}
    site = bad_site.site(NEW)

    found = fetch(site, "/a?b=c", 5)
    assert (found.status, found.body, found.headers["x-thing"]) == (410, b"gone", "1")
    with pytest.raises(Unanswered, match="more than 1,000 bytes"):
        fetch(site, "/big", 5, limit=1000)


@pytest.mark.parametrize(
    "path", ["//evil.example/x", "http://evil.example/", "http://@evil.example", "file:///etc/passwd"]
)
def test_a_path_cannot_lead_to_another_site(bad_site: BadSite, path: str) -> None:
    with pytest.raises(Unanswered, match="not this site"):
        fetch(bad_site.site(NEW), path, 5)
    assert bad_site.requests == []
