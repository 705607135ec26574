"""A form's webhook becomes an order: whose signature, how often, which field is which.

Signed as Standard Webhooks has it (https://www.standardwebhooks.com): id, moment and body, five minutes of tolerance,
the newest secret or the one before it. Tally and Typeform sign the body alone; their delivery's id is in it, and an id
is good for one order for ever. What is refused counts; a form that fails again and again is paused until somebody has
looked, so that it does not fill the record. Nobody without the secret can cause that.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr, ValidationError
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from deployments.front import bodies, models
from deployments.front.problems import Complaint, Problem, complaints, of_refusal
from deployments.front.service import Front, admission, links, status_of
from deployments.front.settings import FrontSettings, listed
from deployments.front.tokens import LINK, mint, sha256_of
from tasks.adapters.registry import Hook
from tasks.domain.errors import RequestRefused
from tasks.domain.request import SiteRequest, vet

NAME = "form"
PAUSED_S = 300.0

_ID = re.compile(r"[\x21-\x7e]{1,150}")
_PART = re.compile(r"([^.\[\]]+)(?:\[([^\[\]=]+)=([^\[\]]*)\])?(?:\.|$)")


def secret_of(text: str) -> bytes:
    """The bytes of ``whsec_…`` (base64), as `Webhook` has them."""
    return base64.b64decode(text.removeprefix("whsec_") + "==")


def verified(settings: FrontSettings, headers: Mapping[str, str], body: bytes) -> str | None:
    """The delivery's id, for Standard Webhooks; None where it stands in the body. Raises Problem 401."""
    secrets = listed(settings.hook_secrets.get_secret_value())
    if not secrets:
        raise Problem(404, "no webhook is set up here; the operator sets TMUX_BUILDER_HOOK_SECRETS")
    match settings.hook_scheme:
        case "standard":
            if any(_is_standard(secret, headers, body) for secret in secrets):
                return headers["webhook-id"]
        case "tally":
            if any(_is_signed(headers.get("tally-signature", ""), secret, body) for secret in secrets):
                return None
        case "typeform":
            given = headers.get("typeform-signature", "")
            if given.startswith("sha256=") and any(_is_signed(given[7:], secret, body) for secret in secrets):
                return None
    raise Problem(401, "the signature is missing, wrong or too old; see how the README signs a delivery")


def _is_standard(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return False
    return True


def _is_signed(given: str, secret: str, body: bytes) -> bool:
    """By Tally and Typeform: HMAC-SHA256 of the body with the secret's own characters, in base64."""
    expected = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256))
    return hmac.compare_digest(expected, given.encode("utf-8", "surrogateescape"))


def pick(body: Any, path: str) -> Any:
    """What stands at a path; None where nothing does. ``fields[label=Phone]`` is the item of a list whose label is so.

    >>> body = {"data": {"fields": [{"label": "Phone", "value": "+49"}, {"label": "E-mail", "value": "a@b"}]}}
    >>> pick(body, "data.fields[label=E-mail].value"), pick(body, "data.nothing")
    ('a@b', None)

    A value that begins with ``=`` is itself:

    >>> pick(body, "=static")
    'static'
    """
    if path.startswith("="):
        return path[1:]
    value = body
    for name, key, wanted in _PART.findall(path):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
        if key:
            value = next((item for item in value if _has(item, key, wanted)), None) if isinstance(value, list) else None
    return value


def _has(item: Any, key: str, wanted: str) -> bool:
    """``key`` may have slashes, for what is nested: ``field/ref``."""
    for name in key.split("/"):
        item = item.get(name) if isinstance(item, dict) else None
    return isinstance(item, str) and item == wanted


@dataclass
class Mapped:
    """A form's body as an order, or what keeps it from being one."""

    request: SiteRequest | None
    values: dict[str, Any]
    fields: list[models.FieldMapping]
    errors: list[Complaint] = field(default_factory=list)


def mapped(body: Any, sources: Mapping[str, str], allowed: Mapping[str, str]) -> Mapped:
    """Field by field, as the settings say; without any, a field stands in the body under its own name."""
    told = dict(sources) or {name: name for name in SiteRequest.model_fields}
    found = {name: pick(body, source) for name, source in told.items()}
    values = {name: as_people_write(name, value) for name, value in found.items() if value not in (None, "", [])}
    made = Mapped(
        None, values, [models.FieldMapping(field=name, source=told[name], found=name in values) for name in told]
    )
    try:
        request = SiteRequest.model_validate(values)
        vet(request)
        made.request = request
    except ValidationError as error:
        made.errors = complaints(error.errors(include_url=False, include_input=False, include_context=False), allowed)
    except RequestRefused as refusal:
        made.errors = list(of_refusal(refusal).errors)
    return made


def as_people_write(name: str, value: Any) -> Any:
    """Forms write a choice as a list of one, and a telephone number as people do."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if name == "phone" and isinstance(value, str):
        return re.sub(r"[\s()./-]", "", value)
    if name in ("host_provider", "site_type", "agent") and isinstance(value, str):
        return value.strip().lower()
    return value


def receive(
    front: Front, headers: Mapping[str, str], raw: bytes, allowed: Mapping[str, str], dry_run: bool
) -> models.HookReceipt | models.DryRun:
    """Take a delivery in. Blocks. Raises Problem, and what `Registry.accept` raises."""
    key = verified(front.settings, headers, raw)
    body = bodies.parse(raw)
    if dry_run:
        made = mapped(body, front.settings.hook_fields, allowed)
        errors = [each.model_dump() for each in made.errors]
        return models.DryRun(would="accept" if made.request else "refuse", fields=made.fields, errors=errors)
    if key is None:
        key = pick(body, "eventId" if front.settings.hook_scheme == "tally" else "event_id")
    if not isinstance(key, str) or not _ID.fullmatch(key):
        raise Problem.about(
            "webhook-id", "it is missing or cannot be used", "1 to 150 printable characters", status=400
        )
    if front.registry.hook(NAME).paused_at is not None:
        words = "the webhook is paused, for too many deliveries could not be used; the operator resumes it"
        raise Problem.later(503, words, PAUSED_S)
    made = mapped(body, front.settings.hook_fields, allowed)
    name = f"hook:{NAME}:{key}"
    if made.request is None:
        reason = "; ".join(f"{each.field}: {each.reason}" for each in made.errors[:3])
        front.registry.refuse(name, made.values, reason)
        front.registry.hook_failed(NAME, reason, front.settings.hook_failures)
        raise Problem(422, reason, made.errors)
    token = mint(LINK)
    accepted = front.registry.accept(
        made.request, name, first_link_sha256=sha256_of(token), admission=admission(front.settings), announce=True
    )
    front.registry.hook_worked(NAME)
    return models.HookReceipt(
        user_id=accepted.user_id,
        session_id=accepted.session_id,
        execution_id=accepted.execution_id,
        status=status_of(front, accepted),
        links=links(front.settings.base_url, accepted.execution_id, token) if accepted.created else None,
    )


def state(front: Front) -> models.HookState:
    hook: Hook = front.registry.hook(NAME)
    return models.HookState(
        name=NAME,
        configured=front.settings.hook_secrets != SecretStr(""),
        paused=hook.paused_at is not None,
        failures=hook.failures,
        reason=hook.reason,
        failed_at=hook.failed_at,
        accepted_at=hook.accepted_at,
    )
