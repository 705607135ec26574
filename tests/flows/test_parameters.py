"""Bad parameters: what JSON Schema can say is refused before a run exists, the rest fails in step 1 in our words."""

import json
import subprocess
import sys
from typing import Any

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from tasks.adapters.registry import Registry
from tests.flows.conftest import REQUEST, run_deployment
from tests.support.service import ROOT, ServiceUnderTest

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("deployment", "parameters", "words"),
    [
        ("full-build/on-demand", {"request": REQUEST | {"email": "notmail"}}, "request.email"),
        ("full-build/on-demand", {"request": REQUEST | {"phone": "0151 1234"}}, "request.phone"),
        ("full-build/on-demand", {"request": REQUEST | {"requirements": ""}}, "request.requirements"),
        ("full-build/on-demand", {"request": REQUEST | {"requirements": "x" * 20_001}}, "request.requirements"),
        ("full-build/on-demand", {"request": REQUEST | {"requirements": "a\x07b"}}, "request.requirements"),
        ("full-build/on-demand", {"request": REQUEST | {"host_provider": "mars"}}, "request.host_provider"),
        ("full-build/on-demand", {"request": REQUEST | {"site_type": "flash"}}, "request.site_type"),
        ("full-build/on-demand", {"request": REQUEST | {"agent": "human"}}, "request.agent"),
        ("full-build/on-demand", {"request": REQUEST | {"hosting": "default"}}, "request.hosting"),
        ("full-build/on-demand", {"request": REQUEST | {"colour": "red"}}, "colour"),
        ("full-build/on-demand", {"request": {"email": "a@b.co"}}, "required"),
        ("full-build/on-demand", {}, "required"),
        ("redeploy/on-demand", {"execution_id": "../../etc/passwd"}, "execution_id"),
        ("redeploy/on-demand", {}, "required"),
        ("reverify/nightly", {"execution_ids": ["all"]}, "execution_ids"),
    ],
)
async def test_what_the_schema_forbids_is_refused_before_a_run_exists(
    service: ServiceUnderTest, deployment: str, parameters: dict[str, Any], words: str
):
    async with service.client() as client:
        known = await client.read_deployment_by_name(deployment)
        with pytest.raises(PrefectHTTPStatusError) as refusal:
            await client.create_flow_run_from_deployment(known.id, parameters=parameters)

    assert refusal.value.response.status_code == 409
    assert words in refusal.value.response.text


async def test_the_command_line_says_the_same_and_exits_with_1(service: ServiceUnderTest):
    parameters = json.dumps({"request": REQUEST | {"email": "notmail"}})
    told = subprocess.run(
        [sys.executable, "-m", "prefect", "deployment", "run", "full-build/on-demand", "--params", parameters],
        cwd=ROOT,
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert told.returncode == 1
    assert "request.email" in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"email": "ana@ex_ample.com"}, "email: 'ana@ex_ample.com' is not an e-mail address"),
        ({"phone": "+9991234567"}, "phone: '+9991234567' is not a number that exists"),
        ({"requirements": "!!! ???"}, "requirements: there is no word in it"),
        ({"hosting": "local-hosting/nowhere"}, "hosting: no block is called 'local-hosting/nowhere'"),
        ({"hosting": "aws-hosting/default"}, "hosting: 'aws-hosting/default' does not belong to host_provider 'local'"),
    ],
)
async def test_what_the_schema_cannot_say_fails_in_step_1_with_field_value_and_what_is_allowed(
    service: ServiceUnderTest, record_of: Registry, changes: dict[str, str], words: str
):
    seen = await run_deployment(service, "full-build/on-demand", {"request": REQUEST | changes})

    assert seen.flow_run.state is not None
    assert seen.flow_run.state_name == "Failed"
    assert seen.tasks == ["create_user"]
    assert words in str(seen.flow_run.state.message)
    assert "allowed: " in str(seen.flow_run.state.message)
    assert words in seen.page("failure")
    refused = record_of.delivery(str(seen.flow_run.id))
    assert refused is not None
    assert refused.execution_id is None
    assert words in str(refused.refusal)


async def test_an_execution_that_nobody_knows_is_said_to_be_unknown(service: ServiceUnderTest):
    unknown = "ffffffff_sess20200101000000"

    seen = await run_deployment(service, "redeploy/on-demand", {"execution_id": unknown})

    assert seen.tasks == []
    assert f"no execution is called '{unknown}'" in seen.page("failure")


async def test_the_form_explains_every_field_in_its_order(service: ServiceUnderTest):
    async with service.client() as client:
        build = await client.read_deployment_by_name("full-build/on-demand")
        redeploy = await client.read_deployment_by_name("redeploy/on-demand")

    fields = build.parameter_openapi_schema["definitions"]["SiteRequest"]["properties"]
    in_order = sorted(fields, key=lambda name: fields[name]["position"])
    asked, choices = ["requirements", "email", "phone"], ["host_provider", "site_type", "agent"]
    assert in_order == [*asked, *choices, "approve_plan", "keep_days", "hosting", "coding_agent"]
    assert all(field["title"] and field["description"] for field in fields.values())
    top = {**build.parameter_openapi_schema["properties"], **redeploy.parameter_openapi_schema["properties"]}
    assert all(field.get("description") for field in top.values())
