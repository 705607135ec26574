"""What an operator may enter for a receiver of notices."""

import base64

import pytest
from pydantic import SecretStr, ValidationError

from blocks.signed_webhook import SignedWebhook

SECRET = SecretStr(f"whsec_{base64.b64encode(b'24 random bytes, or more').decode()}")


@pytest.mark.parametrize("url", ["https://hooks.example.com/a?b=c", "http://127.0.0.1:9000/hook", "http://localhost/x"])
def test_an_address_that_keeps_notices_private_is_taken(url: str) -> None:
    assert SignedWebhook(url=url, secret=SECRET).url == url


@pytest.mark.parametrize("url", ["http://hooks.example.com", "http://10.0.0.7/x", "http://127.0.0.1.example.com"])
def test_an_address_in_the_clear_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="would send notices in the clear"):
        SignedWebhook(url=url, secret=SECRET)


@pytest.mark.parametrize("url", ["hooks.example.com", "https://user:password@hooks.example.com", "ftp://x", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        SignedWebhook(url=url, secret=SECRET)


@pytest.mark.parametrize(
    "secret",
    ["", "hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 not base64 not base64", f"whsec_{'a' * 33}"],
)
def test_a_secret_that_signs_nothing_is_refused_and_not_quoted(secret: str) -> None:
    with pytest.raises(ValidationError, match="whsec_ and at least 24 bytes") as refused:
        SignedWebhook(url="https://hooks.example.com", secret=SecretStr(secret))
    assert not secret or secret == "whsec_" or secret not in str(refused.value)
