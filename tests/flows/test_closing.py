"""What is left behind by a run that could not be cleaned up after: a site that says so, and a status all the same."""

import uuid

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.closing import close
from flows.full_build import full_build
from tasks.adapters.registry import Registry
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Status, Step
from tasks.domain.request import SiteRequest
from tests.flows.conftest import REQUEST
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio


@pytest.mark.usefixtures("here")
async def test_a_site_that_cannot_be_set_back_says_so_and_the_run_is_over(
    service: ServiceUnderTest,  # it runs, and `here` speaks to it
    record_of: Registry,
):
    """Its hosting block was deleted while the run published."""
    flow_run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), run_count=1)
    request = SiteRequest.model_validate({**REQUEST, "hosting": "local-hosting/deleted"})
    accepted = record_of.accept(request, f"test-{uuid.uuid4()}", str(flow_run.id))
    record_of.begin_step(accepted.run_id, Step.DEPLOY)
    record_of.plan_resource(accepted.execution_id, "site", accepted.site_name)
    site = Site(name=accepted.site_name, url="http://x.localhost", release_id="r1-aaaaaaaaaaaa", dial="127.0.0.1:1")
    record_of.record_published(accepted.execution_id, site)

    await close(full_build, flow_run, State(type=StateType.CANCELLED))

    assert record_of.progress(accepted.execution_id).status is Status.CANCELLED
    assert record_of.execution(accepted.execution_id).site_state == "rollback_failed"
    assert record_of.lease_of(accepted.site_name) is None
    record_of.record_taken_down(accepted.execution_id)
    record_of.resource_gone(accepted.execution_id, "site", accepted.site_name)
