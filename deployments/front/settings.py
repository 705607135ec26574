"""How the front door is set: environment variables, and ``front.env`` in the home.

It reads no ``service.env``: the Prefect key stands there, and is none of its business.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from deployments.front.scopes import Scope
from tasks.adapters.archive import folder_of

FRONT_ENV = "front.env"
"""Below the home: written by the operator, as lines NAME=value. The environment wins."""


class FrontSettings(BaseSettings):
    """Every field is an environment variable with the prefix ``TMUX_BUILDER_``."""

    model_config = SettingsConfigDict(env_prefix="TMUX_BUILDER_", extra="ignore", frozen=True)

    home: Path = Field(Path("~/.tmux-builder"), description="Folder that holds all state.")
    database_url: SecretStr | None = Field(None, description="The registry. Empty: SQLite under the home.")
    store: str = Field(
        "", description="The archive, as make up has it; read where it is a folder. Empty: one under the home."
    )
    web_port: int = Field(8400, ge=1, le=65535, description="Loopback port of the front door.")
    web_url: str = Field("", description="Where people reach it, as https://build.example. Empty: on loopback.")
    web_hosts: str = Field("", description="More host names that it answers to, with commas between.")
    web_proxies: str = Field(
        "", description="Addresses of reverse proxies whose X-Forwarded-For is believed, with commas between."
    )
    web_form: Literal["open", "invite", "closed"] = Field(
        "closed", description="Who may order without a key: anybody, who has an invite code, or nobody."
    )
    web_invites: SecretStr = Field(SecretStr(""), description="Invite codes, with commas between.")
    web_link_may: str = Field(
        "read,chat,change,teardown", description="What the link of an execution allows, with commas between."
    )
    web_rate_ip: int = Field(600, ge=1, description="Requests a minute from one address.")
    web_rate_key: int = Field(600, ge=1, description="Requests a minute with one key or link.")
    web_rate_user: int = Field(60, ge=1, description="Requests a minute that change something of one user.")
    web_orders_ip: int = Field(10, ge=1, description="Orders an hour from one address without a key.")
    web_streams: int = Field(200, ge=1, description="Event streams that are open at a time.")
    max_queue: int = Field(100, ge=1, description="How many runs may wait before orders are turned away.")
    max_executions: int = Field(8, ge=1, description="How many runs run at a time; shown to operators.")
    max_agents: int = Field(4, ge=1, description="How many agents work at a time; shown to operators.")
    web_prefect: str = Field(
        "", description="Where operators reach Prefect's pages, as http://127.0.0.1:4200. Empty: no links there."
    )
    max_per_user_day: int = Field(20, ge=1, description="How many sites one user may order within a day.")
    hook_secrets: SecretStr = Field(
        SecretStr(""), description="Secrets of the webhook: the newest, and the one before it, with a comma between."
    )
    hook_scheme: Literal["standard", "tally", "typeform"] = Field(
        "standard", description="Who signs: a standard-webhooks sender, Tally, or Typeform."
    )
    hook_fields: dict[str, str] = Field(
        default_factory=dict, description="Field of the request, and where it stands in the form's body; as JSON."
    )
    hook_failures: int = Field(10, ge=1, description="Deliveries refused in a row, after which the webhook is paused.")

    @field_validator("web_link_may")
    @classmethod
    def _known(cls, value: str) -> str:
        for name in listed(value):
            Scope(name)
        return value

    @property
    def registry_url(self) -> str:
        return self.database_url.get_secret_value() if self.database_url else f"sqlite:///{self.home / 'registry.db'}"

    @property
    def archive(self) -> Path | None:
        """None where it is elsewhere: no key to it is here."""
        folder = folder_of(self.store or str(self.home / "store"))
        return folder.resolve() if folder is not None else None

    @property
    def base_url(self) -> str:
        return (self.web_url or f"http://127.0.0.1:{self.web_port}").rstrip("/")

    @cached_property
    def hosts(self) -> frozenset[str]:
        """Names that may stand in a Host header, in lower case, without port."""
        own = urlsplit(self.base_url).hostname or ""
        return frozenset({"127.0.0.1", "localhost", "[::1]", own, *(name.lower() for name in listed(self.web_hosts))})

    @cached_property
    def link_scopes(self) -> frozenset[Scope]:
        return frozenset(Scope(name) for name in listed(self.web_link_may))


def listed(value: str) -> list[str]:
    """
    >>> listed("a, b,,")
    ['a', 'b']
    """
    return [part.strip() for part in value.split(",") if part.strip()]


def front_settings() -> FrontSettings:
    home = Path(os.environ.get("TMUX_BUILDER_HOME") or "~/.tmux-builder").expanduser().absolute()
    return FrontSettings(_env_file=home / FRONT_ENV, home=home)
