"""What an operator may enter for the agent, and what is said where it cannot be."""

import pytest
from pydantic import ValidationError

from blocks.coding_agent import CodingAgent


def complaint(**fields: object) -> str:
    with pytest.raises(ValidationError) as caught:
        CodingAgent.model_validate(fields)
    (error,) = caught.value.errors()
    return str(error["msg"])


@pytest.mark.parametrize("entry", ["fonts.example.com:443", "a:1", "10.0.0.7:65535", "Registry.Example:8443"])
def test_a_host_is_a_name_and_a_port(entry: str) -> None:
    assert CodingAgent(domains=["first.example:443", entry]).domains[1] == entry


@pytest.mark.parametrize(
    "entry",
    [
        *("example.com", "https://example.com:443", "*.example.com:443", "*:443", ":443", "example.com:", "a b:443"),
        *("example.com:0", "example.com:65536", "example.com:99999", "example.com:443/path", "example.com:443\n", ""),
        "user@example.com:443",
    ],
)
def test_an_entry_that_is_no_host_is_named(entry: str) -> None:
    said = complaint(domains=["first.example:443", entry])
    assert f"{entry!r} is no host:port; expected such as" in said
    assert "first.example" not in said


@pytest.mark.parametrize(
    "address",
    [
        *("https://api.anthropic.com", "https://gateway.example:8443/anthropic", "https://[2001:db8::1]:8443/v"),
        *("http://localhost:8080", "http://127.0.0.1:4000/x", "http://127.9.9.9", "http://[::1]:4000"),
    ],
)
def test_the_key_may_travel_where_nobody_listens(address: str) -> None:
    assert CodingAgent(api_url=address).api_url == address


@pytest.mark.parametrize(
    "address",
    [
        *("http://api.anthropic.com", "http://10.0.0.7:4000", "http://127.example.com", "http://localhost.example.com"),
        *("http://0.0.0.0:4000", "http://[::ffff:10.0.0.1]", "http://127.1"),
    ],
)
def test_the_key_does_not_travel_in_the_clear(address: str) -> None:
    assert "would send the key in the clear" in complaint(api_url=address)


@pytest.mark.parametrize("address", ["https://gateway.example:0", "https://gateway.example:65536", "https://:443"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    assert "expected https://host" in complaint(api_url=address)
