"""Tells the Prefect server what this project has: work pool, blocks and deployments. Safe to repeat.

``python -m deployments.register``, with the environment of ``service.env``. One process does all: starting Prefect's
command line takes longer than what it then does.
"""

import asyncio
import sys
import time

import httpx
from prefect.cli import app
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate, WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker
from prefect_email import EmailServerCredentials  # type: ignore[import-untyped]  # has no types

from blocks.coding_agent import CodingAgent
from blocks.local_hosting import LocalHosting
from blocks.settings import settings
from blocks.signed_webhook import SignedWebhook
from deployments.automations import register_automations
from deployments.configuration import POOL, PROGRAM_VARIABLE
from deployments.joining import program_stamp

SERVER_DEADLINE_S = 120.0


async def await_server() -> None:
    """Return when the server answers; it may be starting at the same time."""
    url = f"{get_current_settings().api.url}/health"
    deadline = time.monotonic() + SERVER_DEADLINE_S
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        while True:
            try:
                if (await client.get(url)).is_success:
                    return
                words = "it is not healthy"
            except httpx.HTTPError as error:
                words = f"{type(error).__name__}: {error}"
            if time.monotonic() > deadline:
                sys.exit(f"{url} did not answer in {SERVER_DEADLINE_S:.0f} s: {words}; start the service with: make up")
            await asyncio.sleep(0.1)


async def register_pool() -> None:
    """The pool, with the limit of the settings: runs beyond it wait, without a process, on all machines together.

    Prefect looks at the limit when a worker asks for work, so two workers that ask in the same moment may go over it
    by one.
    """
    limit = settings().max_executions
    pool = WorkPoolCreate(
        name=POOL,
        type=ProcessWorker.type,
        description="Runs builds as processes on the machine of the worker; started and stopped by make up and down.",
        concurrency_limit=limit,
        base_job_template=ProcessWorker.get_default_base_job_template(),
    )
    async with get_client() as client:
        try:
            await client.create_work_pool(pool)
        except ObjectAlreadyExists:
            await client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=limit))


async def register_program() -> None:
    """Say which program the deployments are of, for machines that want to join."""
    stamp = program_stamp()
    async with get_client() as client:
        if await client.read_variable_by_name(PROGRAM_VARIABLE) is None:
            await client.create_variable(VariableCreate(name=PROGRAM_VARIABLE, value=stamp))
        else:
            await client.update_variable(VariableUpdate(name=PROGRAM_VARIABLE, value=stamp))


async def register_blocks() -> None:
    """Block types with their forms, and one block to start with; a block that somebody changed stays as it is.

    What notices go through is made by the operator alone.
    """
    for form in (EmailServerCredentials, SignedWebhook):
        await form.aregister_type_and_schema()
    for block in (LocalHosting, CodingAgent):
        await block.aregister_type_and_schema()
        try:
            await block.aload("default")
        except ValueError:
            await block().asave("default")


async def register() -> None:
    await await_server()
    await register_pool()
    await register_blocks()


if __name__ == "__main__":
    asyncio.run(register())
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    try:
        app()
    except SystemExit as end:
        if end.code:
            raise
    asyncio.run(register_automations())
    asyncio.run(register_program())
