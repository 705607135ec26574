"""What a person asks for. The Prefect form, the command line and the API share this one model.

Two rings of checks: what JSON Schema can say stands on the fields, and Prefect refuses it before a run exists;
the rest is `vet`, which step 1 calls, so that the refusal names field, value and what is allowed.
"""

import re
import unicodedata
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.networks import validate_email
from pydantic_core import PydanticCustomError
from pydantic_extra_types.phone_numbers import PhoneNumberValidator

from tasks.domain.errors import RequestRefused


class HostProvider(StrEnum):
    LOCAL = "local"


class SiteType(StrEnum):
    STATIC = "static"
    DYNAMIC = "dynamic"


class AgentKind(StrEnum):
    OFFLINE = "offline"
    CLAUDE = "claude"


def _at(position: int, **more: Any) -> dict[str, Any]:
    """Prefect's form follows ``position``; without it PostgreSQL's JSONB order decides."""
    return {"position": position, **more}


# Surrounding blanks are dropped first: a JSON Schema ``$`` lets a final line break through.
Line = Annotated[str, StringConstraints(strip_whitespace=True)]


class SiteRequest(BaseModel):
    """One order for a website."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Website request")

    requirements: Line = Field(
        title="What shall the website be?",
        description=(
            "Your own words, in any language: what it is for, its name, the pages or sections it needs, colours or "
            "mood. 1 to 20,000 characters. For example: A dark portfolio for the photographer Ana Reis with a projects "
            "gallery and a contact form."
        ),
        min_length=1,
        max_length=20_000,
        pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$",
        examples=["A dark portfolio for the photographer Ana Reis with a projects gallery and a contact form"],
        json_schema_extra=_at(0),
    )
    email: Line = Field(
        title="E-mail",
        description="Who the site is for, such as ana@example.com. One address means one user. Never published.",
        min_length=3,
        max_length=254,
        pattern=r"^[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+$",
        examples=["ana@example.com"],
        json_schema_extra=_at(1),
    )
    phone: Line = Field(
        title="Phone",
        description="With country code, as + and 7 to 15 digits (E.164), such as +4915112345678. Never published.",
        pattern=r"^\+[1-9][0-9]{6,14}$",
        examples=["+4915112345678"],
        json_schema_extra=_at(2),
    )
    host_provider: HostProvider = Field(
        HostProvider.LOCAL,
        title="Where shall it live?",
        description="local: on this machine, served at its own address under localhost.",
        json_schema_extra=_at(3),
    )
    site_type: SiteType = Field(
        SiteType.STATIC,
        title="Kind of site",
        description=(
            "static: pages, styles and scripts; nothing runs on the server. dynamic: a program of its own that keeps "
            "what visitors send, such as messages or bookings."
        ),
        json_schema_extra=_at(4),
    )
    agent: AgentKind = Field(
        AgentKind.OFFLINE,
        title="Who writes it?",
        description=(
            "offline: a template generator without a language model. It needs no key and no internet. claude: Claude "
            "Code, with the key of the agent block below."
        ),
        json_schema_extra=_at(5),
    )
    approve_plan: bool = Field(
        False,
        title="Shall a person approve the plan?",
        description=(
            "The run then pauses after the plan until somebody presses Resume and answers yes, no, or what to change."
        ),
        json_schema_extra=_at(6),
    )
    keep_days: int | None = Field(
        None,
        title="Take it down after so many days",
        description="Counted from the first time that it is live. Empty: it stays until somebody takes it down.",
        ge=1,
        le=3650,
        examples=[30],
        json_schema_extra=_at(7),
    )
    hosting: Line = Field(
        "local-hosting/default",
        title="Hosting block",
        description="Name of the Prefect block that holds the host's settings, as type/name.",
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=100,
        examples=["local-hosting/default"],
        json_schema_extra=_at(8),
    )
    coding_agent: Line = Field(
        "coding-agent/default",
        title="Agent block",
        description="Name of the Prefect block that holds Claude Code's key and budgets. Not read for offline.",
        pattern=r"^coding-agent/[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=100,
        examples=["coding-agent/default"],
        json_schema_extra=_at(9),
    )


_PHONE: TypeAdapter[str] = TypeAdapter(Annotated[str, PhoneNumberValidator(number_format="E164", default_region=None)])


def vet(request: SiteRequest) -> None:
    """Refuse what JSON Schema cannot: an address or number that cannot exist, words that are none.

    Raises RequestRefused for the first such field.
    """
    try:
        validate_email(request.email)
    except PydanticCustomError as error:
        reason = (error.context or {}).get("reason", error.message())
        raise RequestRefused(
            "email", f"{request.email!r} is not an e-mail address ({reason})", "name@domain, such as ana@example.com"
        ) from None
    try:
        _PHONE.validate_python(request.phone)
    except ValidationError:
        raise RequestRefused(
            "phone",
            f"{request.phone!r} is not a number that exists in any country",
            "+, country code and number without blanks, such as +4915112345678",
        ) from None
    if not re.search(r"\w", request.requirements):
        raise RequestRefused(
            "requirements", "there is no word in it", "at least one word that says what the site shall be"
        )
    expected = f"{request.host_provider}-hosting/"
    if not request.hosting.startswith(expected):
        raise RequestRefused(
            "hosting",
            f"{request.hosting!r} does not belong to host_provider {str(request.host_provider)!r}",
            f"a block of type {expected.rstrip('/')}, such as {expected}default",
        )


def normalise_email(email: str) -> str:
    """The form under which a user is found: two spellings of one mailbox are one user.

    >>> normalise_email(" Ana.Reis@Example.COM ")
    'ana.reis@example.com'
    """
    return unicodedata.normalize("NFKC", email.strip()).casefold()
