"""The one settings class. Environment variables win; what `make up` wrote under the home comes next."""

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICE_ENV = "service/service.env"
"""Below the home: how this service is reached (database, Prefect), written by `make up` with mode 0600."""

BLOCK_NAME = r"^([a-z0-9-]+/[a-z0-9-]+)?$"


class Settings(BaseSettings):
    """Every field is an environment variable with the prefix ``TMUX_BUILDER_``."""

    model_config = SettingsConfigDict(env_prefix="TMUX_BUILDER_", extra="ignore", frozen=True)

    home: Path = Field(Path("~/.tmux-builder"), description="Folder that holds all state.")
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL of the registry. Empty: SQLite under the home, for one process."
    )
    store: str = Field("", description="fsspec URL of the archive (s3://…, abfs://…). Empty: a folder under the home.")
    sandbox: Literal["bwrap", "unsafe-none"] = Field(
        "bwrap", description="How the agent and its tests are confined. unsafe-none: not at all."
    )
    sites_port: int = Field(8401, ge=1, le=65535, description="Loopback port that local sites are served on.")
    postgres_port: int = Field(8402, ge=1, le=65535, description="Loopback port of the private PostgreSQL.")
    worker_limit: int = Field(4, ge=1, le=100, description="How many flow runs the worker works on at a time.")
    max_executions: int = Field(
        8, ge=1, le=1000, description="How many flow runs run at a time, on all machines together; more of them wait."
    )
    max_agents: int = Field(4, ge=1, le=1000, description="How many agents work at a time, on all machines together.")
    max_per_user: int = Field(2, ge=1, le=1000, description="How many agents work for one user at a time.")
    max_browsers: int = Field(
        os.cpu_count() or 1, ge=1, le=1000, description="How many browsers look at sites at a time, on each machine."
    )
    min_free_mb: int = Field(
        1024, ge=0, description="Free space, in MB, that a disk must have for work to be accepted. 0: no guard."
    )
    web_port: int = Field(8400, ge=1, le=65535, description="Loopback port of the web front.")
    approval_deadline_s: float = Field(
        7 * 86_400, ge=1, description="How long a plan waits for a person's answer, in seconds; a week unless told."
    )
    phase_deadline_s: float = Field(1800, gt=0, description="How long an agent may take for one phase, in seconds.")
    suite_deadline_s: float = Field(120, gt=0, description="How long a generated test suite may run, in seconds.")
    health_deadline_s: float = Field(60, gt=0, description="How long a site may take to become healthy, in seconds.")
    notice_email: str = Field(
        "",
        pattern=BLOCK_NAME,
        description="Block of the mail server that notices go through, such as email-server-credentials/notices. "
        "Empty: no e-mail.",
    )
    notice_from: str = Field(
        "", max_length=300, description="Sender of notices, as Builder <builder@example.com>. Empty: the block's user."
    )
    notice_requesters: bool = Field(True, description="Whether who ordered a site gets notices about it by e-mail.")
    notice_operators: str = Field(
        "", max_length=2000, description="Addresses that get a notice of every site by e-mail, with commas between."
    )
    notice_webhook: str = Field(
        "",
        pattern=BLOCK_NAME,
        description="Notification block that notices are handed to, such as signed-webhook/notices, "
        "custom-webhook/notices or slack-webhook/notices. Empty: none.",
    )
    browser: Path | None = Field(None, description="Chromium to use. Empty: Playwright's own, else one on PATH.")

    @field_validator("*", mode="before")
    @classmethod
    def _nothing_is_the_default(cls, value: Any, info: ValidationInfo) -> Any:
        """Also where ``service.env`` says something else: so that a setting which is remembered can be taken back."""
        return cls.model_fields[str(info.field_name)].default if value == "" else value

    @property
    def notices(self) -> dict[str, str]:
        """Who is told of what, as environment variables."""
        fields = ("notice_email", "notice_from", "notice_requesters", "notice_operators", "notice_webhook")
        return {f"TMUX_BUILDER_{name.upper()}": str(getattr(self, name)) for name in fields}

    @property
    def registry_url(self) -> str:
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'registry.db'}"

    @property
    def store_url(self) -> str:
        return self.store or str(self.home / "store")


@cache
def settings() -> Settings:
    """The settings of this process, read once.

    The home decides which ``service.env`` is read, so it is looked up first.
    """
    home = Path(os.environ.get("TMUX_BUILDER_HOME") or "~/.tmux-builder").expanduser().absolute()
    return Settings(_env_file=home / SERVICE_ENV, home=home)
