"""The key in the shell goes into the block that everybody's builds use; a person's own login never does."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.actions import BlockDocumentUpdate

from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio

KEY = "sk-ant-test-0123456789abcdef0123456789"
GATEWAY, ANTHROPIC = "https://gateway.example", "https://api.anthropic.com"


async def block(service: ServiceUnderTest, name: str) -> dict[str, Any]:
    async with service.client() as client:
        found = await client.read_block_document_by_name(name, "coding-agent", include_secrets=True)
        return dict(found.data)


@pytest.fixture
async def restored(service: ServiceUnderTest):
    async with service.client() as client:
        before = await client.read_block_document_by_name("default", "coding-agent", include_secrets=True)
    yield
    async with service.client() as client:
        await client.update_block_document(before.id, BlockDocumentUpdate(data=before.data, merge_existing_data=False))


def prepare(service: ServiceUnderTest, home: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    bare = {name: value for name, value in service.environment.items() if not name.startswith("ANTHROPIC")}
    return service.run("deployments.agent_key", environment={**bare, "HOME": str(home), **environment})


@pytest.mark.usefixtures("restored")
async def test_a_login_gets_a_block_of_its_own_and_a_key_everybodys(service: ServiceUnderTest, tmp_path: Path):
    nothing = prepare(service, tmp_path)
    assert nothing.returncode == 2
    assert nothing.stdout.startswith("AGENT=claude needs a key or a login: set ANTHROPIC_API_KEY"), nothing.stderr

    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".credentials.json").write_text("{}")
    own = prepare(service, tmp_path)
    assert own.stdout.startswith("own-login\nClaude Code works with your own login"), own.stderr
    assert (await block(service, "own-login"))["own_login"] is True
    assert (await block(service, "default"))["own_login"] is False

    keyed = prepare(service, tmp_path, ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=f"{GATEWAY}/")
    assert keyed.stdout.startswith("default\n"), keyed.stderr
    assert KEY not in keyed.stdout + keyed.stderr
    found = await block(service, "default")
    assert (found["api_key"], found["api_url"], found["own_login"]) == (KEY, GATEWAY, False)

    prepare(service, tmp_path, ANTHROPIC_API_KEY=KEY)
    assert (await block(service, "default"))["api_url"] == ANTHROPIC, "a key is never sent to an earlier gateway"
    assert prepare(service, tmp_path).stdout.startswith("default\n"), "the key that is kept comes before a login"


@pytest.mark.usefixtures("restored")
async def test_a_bad_address_is_refused_with_an_example(service: ServiceUnderTest, tmp_path: Path):
    refused = prepare(service, tmp_path, ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL="gateway")
    assert refused.returncode == 2
    assert refused.stdout.startswith("ANTHROPIC_BASE_URL: ")
    assert "such as https://gateway.example" in refused.stdout
    assert KEY not in refused.stdout + refused.stderr
