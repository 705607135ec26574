"""reap/hourly on the real service: it lists what nobody needs, and removes it only when it is told to."""

import asyncio
import os
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tasks.adapters.registry import Registry
from tasks.adapters.tmux import TmuxSession
from tasks.adapters.workspace import Workspace
from tests.flows.conftest import REQUEST, run_deployment
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio

NOBODYS = "ffffffff_sess20200101000000"
LONG_AGO_S = 30 * 3600


def long_ago(*paths: Path) -> None:
    for root in paths:
        for path in (root, *root.rglob("*")):
            os.utime(path, (time.time() - LONG_AGO_S,) * 2, follow_symlinks=False)


async def test_reap_lists_by_default_and_removes_on_request(service: ServiceUnderTest, record_of: Registry):
    built = await run_deployment(service, "full-build/on-demand", {"request": {**REQUEST, "keep_days": 1}})
    site = record_of.execution(built.execution_id).site
    assert site is not None
    with record_of.engine.begin() as connection:
        connection.execute(
            text("UPDATE sites SET expires_at = now() - interval '1 minute' WHERE site_name = :name"),
            {"name": site.name},
        )
    terminal = TmuxSession(service.home, NOBODYS)
    terminal.start([sys.executable, "-c", "import time; time.sleep(600)"], service.home)
    lost = Workspace.of(service.home, str(uuid.uuid4()), "sess20200101000000")
    lost.lay_out()
    long_ago(terminal.socket, lost.root)

    looked = await run_deployment(service, "reap/hourly", {})

    assert looked.flow_run.state_name == "Completed", looked.lines
    page = str(looked.page("orphans")).replace("\\_", "_")
    for named in (NOBODYS, lost.root.name, built.execution_id):
        assert named in page
    assert "removed nothing" in str(looked.flow_run.state and looked.flow_run.state.message)
    assert terminal.pane() is not None
    assert lost.root.exists()
    assert await asyncio.to_thread(answer, site.dial, site.url) == 200

    reaped = await run_deployment(service, "reap/hourly", {"dry_run": False})

    assert reaped.flow_run.state_name == "Completed", reaped.lines
    assert "still there" not in str(reaped.page("receipt")).replace("0 still there", "")
    assert terminal.pane() is None
    assert not lost.root.exists()
    async with asyncio.timeout(60):
        while record_of.execution(built.execution_id).site_state != "taken_down":
            await asyncio.sleep(0.2)
    assert await asyncio.to_thread(answer, site.dial, site.url) == 404

    again = await run_deployment(service, "reap/hourly", {"dry_run": False})
    assert NOBODYS not in str(again.page("orphans")).replace("\\_", "_")


def answer(dial: str, url: str) -> int:
    host = url.removeprefix("http://").rstrip("/")
    return httpx.get(f"http://{dial}/", headers={"Host": host}, trust_env=False).status_code
