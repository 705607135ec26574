"""Notices as the service has them: blocks out of the Prefect server, and the dispatcher that sends."""

import base64
from uuid import uuid4

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect_email import EmailServerCredentials
from pydantic import SecretStr

from blocks.signed_webhook import SignedWebhook
from deployments.notices import load
from tasks.domain.notice import NoticeState, Occasion
from tests.support.service import ServiceUnderTest, until
from tests.tasks.adapters.registry.orders import a_request

SECRET = f"whsec_{base64.b64encode(b'24 random bytes, or more').decode()}"


async def test_blocks_are_found_by_name_with_their_secrets(service: ServiceUnderTest) -> None:
    told = {PREFECT_API_URL: service.told["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: service.auth_string}
    with temporary_settings(told):
        async with service.client() as client:
            types = {each.slug for each in await client.read_block_types()}
        assert {"email-server-credentials", "signed-webhook"} <= types, "registered: an operator makes them in the UI"
        mail = EmailServerCredentials(smtp_server="mail.example.com", smtp_type="STARTTLS", password=SecretStr("pass"))
        await mail.asave("notices-test")
        await SignedWebhook(url="https://hooks.example.com", secret=SecretStr(SECRET)).asave("notices-test")
        try:
            found = await load("email-server-credentials/notices-test")
            hook = await load("signed-webhook/notices-test")
        finally:
            await EmailServerCredentials.adelete("notices-test")
            await SignedWebhook.adelete("notices-test")
    assert isinstance(found, EmailServerCredentials)
    assert (found.smtp_server, found.password.get_secret_value()) == ("mail.example.com", "pass")
    assert isinstance(hook, SignedWebhook)
    assert hook.secret.get_secret_value() == SECRET


def test_the_dispatcher_looks_after_notices_and_sends_none_unless_told(service: ServiceUnderTest) -> None:
    registry = service.registry()
    try:
        gone = registry.accept(a_request(), f"notices-{uuid4()}", flow_run_id=str(uuid4()))  # Prefect never heard of it

        def complaint() -> str | None:
            found = {(notice.occasion, notice.state) for notice in registry.notices(gone.execution_id)}
            return None if found == {(Occasion.FAILED, NoticeState.OFF)} else f"they are {found}"

        until(complaint, 30)
    finally:
        registry.close()
    assert "started notices=off" in service.log("dispatcher")
