"""A receiver of notices that can tell that they are ours."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from prefect.blocks.abstract import NotificationBlock
from pydantic import Field, SecretStr, field_validator
from standardwebhooks.webhooks import Webhook

from blocks.coding_agent import ADDRESS, is_here

TIMEOUT_S = 10.0

_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{32,}={0,2}")


class SignedWebhook(NotificationBlock):
    """Posts JSON that is signed as Standard Webhooks has it (https://www.standardwebhooks.com).

    The receiver verifies `webhook-signature` with the secret, and takes each `webhook-id` once: what could not be
    delivered for certain comes again under the same id.
    """

    _block_type_name = "Signed webhook"
    _block_type_slug = "signed-webhook"
    _logo_url = None
    _description = "Hands notices on as JSON, signed as Standard Webhooks has it."

    url: str = Field(
        pattern=ADDRESS,
        max_length=2000,
        title="Address",
        description="Where notices are posted, such as https://hooks.example.com/sites.",
    )
    secret: SecretStr = Field(
        title="Secret",
        description="whsec_ and at least 24 random bytes in base64, as the receiver has it. To make one: "
        "echo whsec_$(openssl rand -base64 24)",
    )

    @field_validator("url")
    @classmethod
    def _keeps_notices_private(cls, url: str) -> str:
        """A notice holds what people wrote: in the clear only where it does not leave this machine."""
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_here(parts.hostname or ""):
            raise ValueError(
                f"{url!r} would send notices in the clear; expected https://, or http:// with localhost, 127.0.0.1 or "
                "[::1] for a receiver on this machine"
            )
        return url

    @field_validator("secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr) -> SecretStr:
        words = "it is no secret of Standard Webhooks; expected whsec_ and at least 24 bytes in base64"
        if not _SECRET.fullmatch(secret.get_secret_value()):
            raise ValueError(words)
        try:
            base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise ValueError(words) from None
        return secret

    async def post(self, webhook_id: str, kind: str, moment: datetime, data: Mapping[str, Any]) -> None:
        """Deliver one event. One that is delivered again has the same ``webhook_id``.

        Raises httpx.HTTPError. A redirection is not followed, and is an error.
        """
        told = {"type": kind, "timestamp": moment.astimezone(UTC).isoformat(), "data": data}
        body = json.dumps(told, ensure_ascii=False)
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": "tmux-builder",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.secret.get_secret_value()).sign(webhook_id, now, body),
        }
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            response = await client.post(self.url, content=body.encode(), headers=headers)
        response.raise_for_status()

    async def notify(self, body: str, subject: str | None = None) -> None:
        """For Prefect's own notifications."""
        await self.post(f"msg_{uuid4()}", "notification", datetime.now(UTC), {"subject": subject, "text": body})
