"""A real mail server on loopback that keeps what it is given, with STARTTLS and a login where asked, and bad days."""

import asyncio
import datetime
import email
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "builder@example.com", "a mail password"


@dataclass
class Received:
    """``answer``: what the server says to the next messages; it takes them unless told. ``hangs_up``: at QUIT."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    over_tls: list[bool] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    answer: str = "250 taken"
    to_recipient: str = "250 fine"
    hangs_up: bool = False

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, to: str, _more: Any) -> str:  # noqa: N802  # aiosmtpd's name
        if self.to_recipient.startswith("2"):
            envelope.rcpt_tos.append(to)
        return self.to_recipient

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("2"):
            assert isinstance(envelope.content, bytes)
            self.raw.append(envelope.content)
            self.mails.append(email.message_from_bytes(envelope.content, policy=default))  # type: ignore[arg-type]
            self.recipients.append(list(envelope.rcpt_tos))
            self.over_tls.append(session.ssl is not None)
        return self.answer

    async def handle_QUIT(self, server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        if self.hangs_up:
            server.transport.abort()  # type: ignore[union-attr]
        return "221 bye"


@asynccontextmanager
async def mail_server(certificate: Path | None = None) -> AsyncIterator[Received]:
    """With a certificate: STARTTLS, then a login, and nothing is taken without."""
    received = Received()

    def login(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        good = given == LoginPassword(USER.encode(), PASSWORD.encode())
        received.logins.append("good" if good else "bad")
        return AuthResult(success=good, handled=False)

    more: dict[str, Any] = {}
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        more = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": login}
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(received, hostname="mail.example.com", **more), "127.0.0.1", 0
    )
    async with server:
        received.port = server.sockets[0].getsockname()[1]
        yield received


def own_certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself; key and certificate in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    file = folder / "mail.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return file
