"""A person who has left something in every table of the record."""

import json
from typing import Any

from sqlalchemy import Table, select

from tasks.adapters.registry import Accepted, Registry
from tasks.adapters.registry.schema import metadata, slots
from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Failure, Status, Step, Verb
from tasks.domain.release import FileEntry, Manifest, Release, release_id_for
from tasks.domain.request import SiteRequest

EMAIL, PHONE, CANARY = "Berta.Quast@Example.com", "+4915198765432", "a tea house called Zwielicht-4711"
EVERY_TRACE = ("berta.quast", "4915198765432", "zwielicht-4711")


def a_life(registry: Registry, key: str = "life", email: str = EMAIL, phone: str = PHONE) -> Accepted:
    """A build that failed loudly, with its site up; every word of it is the person's."""
    accepted = registry.accept(SiteRequest(requirements=CANARY, email=email, phone=phone), key)
    execution_id, run_id = accepted.execution_id, accepted.run_id
    registry.adopt_run(execution_id, Verb.FULL_BUILD, f"flow-{key}")
    registry.begin_step(run_id, Step.CREATE_USER)
    registry.finish_step(run_id, Step.CREATE_USER, {"email": email, "wish": CANARY})
    registry.fail_step(run_id, Step.CREATE_SESSION, f"{CANARY} for {email} at {phone}")
    files = (FileEntry(path="index.html", size=5, sha256=key, headers={}),)
    release_id = release_id_for(1, files)
    manifest = Manifest(release_id=release_id, files=files)
    registry.record_release(execution_id, Release(number=1, release_id=release_id, root="/releases", manifest=manifest))
    registry.plan_resource(execution_id, "site", accepted.site_name, {"for": email})
    registry.resource_created(execution_id, "site", accepted.site_name)
    url = f"http://{accepted.site_name}.localhost:8401"
    registry.record_published(execution_id, Site(name=accepted.site_name, url=url, release_id=release_id))
    finding = Finding(name="title", outcome=Outcome.FAILED, detail=CANARY)
    registry.record_check(run_id, Check(name="health_check", outcome=Outcome.FAILED, findings=(finding,)))
    registry.post_message(execution_id, "user", f"call me at {phone}")
    registry.ask_question(run_id, "plan", 1, f"Is this plan right? {CANARY}", 60)
    registry.add_key(f"key of {email}", f"hash-{key}", ["read"], accepted.user_id)
    registry.add_link(execution_id, f"link-{key}")
    registry.write_screen(execution_id, f"> building {CANARY} for {email}")
    with registry.engine.begin() as connection:
        connection.execute(slots.insert().values(kind="agent", run_id=run_id))
    registry.set_status(
        execution_id, Status.FAILED, Failure(step=2, step_name="create_session", message=CANARY), run_id=run_id
    )
    return accepted


def rows_of(registry: Registry, table: Table) -> list[str]:
    with registry.engine.connect() as connection:
        found = connection.execute(select(table).order_by(*table.primary_key)).all()
    return [json.dumps(dict(row._mapping), default=str, ensure_ascii=False) for row in found]


def whole_record(registry: Registry) -> dict[str, list[str]]:
    return {name: rows_of(registry, table) for name, table in metadata.tables.items()}


def traces_in(record: Any) -> list[str]:
    told = json.dumps(record, ensure_ascii=False).lower()
    return [trace for trace in EVERY_TRACE if trace in told]
