"""The coding program that writes sites."""

import re
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

ADDRESS = r"^https?://[^@\s/]+(:[0-9]{1,5})?(/[^@\s]*)?$"
HOST_AND_PORT = r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?:[0-9]{1,5}$"


class CodingAgent(Block):
    """Claude Code, with the key and the budgets that it works under.

    The key is never inside the agent's sandbox: it is put into each request on its way out.
    """

    _block_type_name = "Coding agent"
    _block_type_slug = "coding-agent"
    _logo_url = None
    _description = "Claude Code for builds: which program, model and key, and how much of each a build may use."

    kind: Literal["claude"] = Field("claude", title="Program", description="claude: Claude Code.")
    api_key: SecretStr = Field(
        SecretStr(""),
        title="API key",
        description="Of the Anthropic API or of the gateway below, such as sk-ant-…. It stays outside of the sandbox.",
    )
    api_url: str = Field(
        "https://api.anthropic.com",
        pattern=ADDRESS,
        title="API address",
        description="Where the model is asked: Anthropic's API, or a gateway with the same interface.",
    )
    own_login: bool = Field(
        False,
        title="Use the worker's own login",
        description="In place of a key: the login of Claude Code on the worker's account (~/.claude). The sandbox then "
        "holds it, and whatever runs in there can read it: only for requests that you write yourself.",
    )
    model: str = Field(
        "",
        max_length=100,
        pattern=r"^[\w.:/@-]*$",
        title="Model",
        description="Such as sonnet. Empty: Claude Code's own choice.",
    )
    command: str = Field(
        "",
        title="Path of the program",
        description="Empty: claude on the worker's PATH, else the one in the Python package claude-agent-sdk.",
    )
    domains: list[str] = Field(
        default_factory=list,
        max_length=50,
        title="Further hosts",
        description="What the agent may reach besides the model, each as host:port, such as fonts.example.com:443. "
        "What is not on the list is refused and noted. Empty: nothing.",
        json_schema_extra={"items": {"type": "string", "pattern": HOST_AND_PORT}},
    )
    packages: bool = Field(
        True,
        title="May it install packages?",
        description="While it writes code, it may reach the package registries that pip and npm on the worker use.",
    )
    requests: int = Field(
        400, ge=1, le=100_000, title="Model requests", description="How many requests a build may make; then it ends."
    )
    dollars: float = Field(
        20.0, gt=0, le=10_000, title="Dollars", description="What a build may cost, by Claude Code's own account."
    )
    minutes: float = Field(30.0, gt=0, le=600, title="Minutes per phase", description="How long a phase may take.")

    @field_validator("api_url")
    @classmethod
    def _keeps_the_key_private(cls, address: str) -> str:
        """The key travels in each request: in the clear only where it does not leave this machine."""
        parts = urlsplit(address)
        if not parts.hostname or not _is_port(str(parts.netloc.rpartition("]")[2].partition(":")[2] or 443)):
            raise ValueError(f"{address!r} is no address; expected https://host or https://host:port, port 1 to 65535")
        if parts.scheme == "http" and not is_here(parts.hostname):
            raise ValueError(
                f"{address!r} would send the key in the clear; expected https://, or http:// with localhost, 127.0.0.1 "
                "or [::1] for a gateway on this machine"
            )
        return address

    @field_validator("domains")
    @classmethod
    def _are_hosts(cls, domains: list[str]) -> list[str]:
        for entry in domains:
            if not re.fullmatch(HOST_AND_PORT, entry) or not _is_port(entry.rpartition(":")[2]):
                raise ValueError(f"{entry!r} is no host:port; expected such as fonts.example.com:443, port 1 to 65535")
        return domains


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= 65535


def is_here(host: str) -> bool:
    """Whether this is loopback by its own words; a name that merely begins like it, such as 127.example.com, is not."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
