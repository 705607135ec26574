"""A person is handed out whole, and erased so that a dump of the database does not know them."""

import json
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import exc, text

from tasks.adapters.registry import Registry, UnknownSite
from tasks.adapters.registry.people import UNNAMED, Belonging, SiteStays, StillAtWork, UnknownPerson, _theirs
from tasks.adapters.registry.schema import metadata
from tasks.domain.errors import SiteBusy
from tasks.domain.hosting import Receipt
from tasks.domain.pipeline import Status, Verb
from tests.tasks.adapters.registry.lives import CANARY, EMAIL, EVERY_TRACE, PHONE, a_life, traces_in, whole_record
from tests.tasks.adapters.registry.orders import a_request, an_execution, at_once, counts


def gone(_belonging: Belonging) -> Receipt:
    return Receipt(removed=("site",))


def test_every_table_is_either_a_persons_or_nobodys() -> None:
    assert {table.name for table, _condition in _theirs("someone")} | UNNAMED == set(metadata.tables)


@pytest.mark.parametrize("spelling", [EMAIL, "  BERTA.QUAST@example.COM "])
def test_a_person_is_found_by_any_spelling_of_the_address_and_by_id(registry: Registry, spelling: str) -> None:
    accepted = a_life(registry)
    by_address, by_id = registry.person(spelling), registry.person(accepted.user_id)
    assert by_address.user_id == by_id.user_id == accepted.user_id
    assert [belonging.execution_id for belonging in by_id.belongings] == [accepted.execution_id]
    assert by_id.flow_run_ids == {"flow-life"}
    assert by_id.traces.found_in(CANARY)


def test_who_is_neither_address_nor_user_is_told_what_to_give(registry: Registry) -> None:
    with pytest.raises(UnknownPerson, match="give the address"):
        registry.person("00000000-0000-4000-8000-000000000000")
    with pytest.raises(UnknownPerson):
        registry.person("Berta")


def test_an_export_has_every_table_and_nothing_of_anybody_else(registry: Registry) -> None:
    accepted = a_life(registry)
    a_life(registry, "other", "carl@example.org", "+4915111111111")
    registry.refuse("bad", {"email": EMAIL.upper(), "requirements": "x"}, "too short")
    registry.refuse("bad-other", {"email": f"x{EMAIL}", "phone": PHONE}, "too short")
    exported = json.loads(json.dumps(registry.export_person(registry.person(EMAIL))))
    assert set(exported) == set(metadata.tables) - UNNAMED
    told = json.dumps(exported)
    assert accepted.execution_id in told
    assert "carl@example.org" not in told
    assert "hash-life" not in told
    assert {row["delivery_key"] for row in exported["deliveries"]} == {"life", "bad"}


def test_who_is_erased_leaves_nothing_and_takes_nothing_of_others(registry: Registry) -> None:
    a_life(registry, "other", "carl@example.org", "+4915111111111")
    registry.refuse("kept", {"email": "xberta.quast@example.com"}, "another mailbox")
    with registry.engine.connect() as connection:
        canary_of_other = connection.execute(text("SELECT count(*) FROM events")).scalar_one()
    a_life(registry)
    registry.refuse("bad", {"email": EMAIL.upper(), "text": CANARY}, f"'{EMAIL}' is not an address")
    registry.refuse("worse", f"no JSON, but {PHONE}", "no JSON")
    before = whole_record(registry)
    assert traces_in(before) == list(EVERY_TRACE)
    down: list[str] = []

    def take_down(belonging: Belonging) -> Receipt:
        down.append(belonging.site_name)
        return Receipt(removed=(belonging.site_name,))

    person = registry.person(EMAIL)
    erased = registry.erase_person(person, take_down)
    assert down == [person.belongings[0].site_name]
    assert set(erased.rows) == set(metadata.tables) - UNNAMED
    after = whole_record(registry)
    left = [row for rows in after.values() for row in rows if EMAIL.lower() in row.lower() and "xberta" not in row]
    assert left == []
    assert not any(PHONE in row for rows in after.values() for row in rows)
    assert len(after["executions"]) == len(after["users"]) == 1
    assert "carl@example.org" in after["users"][0]
    assert len(after["events"]) == canary_of_other + 1
    assert json.loads(after["events"][-1])["kind"] == "erased"
    assert [json.loads(row)["delivery_key"] for row in after["deliveries"]] == ["kept", "other"]


def test_erasing_twice_is_erasing_once(registry: Registry) -> None:
    a_life(registry)
    person = registry.person(EMAIL)
    registry.erase_person(person, gone)
    before = counts(registry)
    assert registry.erase_person(person, gone).rows == {}
    assert registry.erase_person(registry.person(EMAIL), gone).rows == {}
    assert counts(registry) == before


def test_the_file_of_the_database_forgets_too(registry: Registry, registry_url: str) -> None:
    a_life(registry)
    registry.erase_person(registry.person(EMAIL), gone)
    if registry_url.startswith("sqlite"):
        file = Path(registry_url.removeprefix("sqlite:///"))
        raw = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*")).lower()
        assert [trace for trace in EVERY_TRACE if trace.encode() in raw] == []
    assert traces_in(whole_record(registry)) == []


def test_a_run_that_is_not_over_is_named_with_the_way_to_end_it(registry: Registry) -> None:
    accepted = an_execution(registry)
    before = whole_record(registry)
    down: list[Belonging] = []
    with pytest.raises(StillAtWork, match="prefect flow-run cancel flow-first") as refusal:
        registry.erase_person(registry.person("ana@example.com"), lambda site: down.append(site) or gone(site))
    assert down == [], "the site of a run that works stays up"
    assert accepted.run_id in str(refusal.value)
    assert whole_record(registry) == before
    registry.set_status(accepted.execution_id, Status.CANCELLED, run_id=accepted.run_id)
    waiting = registry.request_run(accepted.execution_id, Verb.REDEPLOY, "again")
    with pytest.raises(StillAtWork, match=waiting):
        registry.erase_person(registry.person("ana@example.com"), gone)


def test_a_run_that_begins_while_the_site_is_taken_down_wins(registry: Registry) -> None:
    accepted = a_life(registry)

    def begins(_belonging: Belonging) -> Receipt:
        registry.request_run(accepted.execution_id, Verb.REDEPLOY, "meanwhile")
        return Receipt(removed=())

    with pytest.raises(StillAtWork):
        registry.erase_person(registry.person(EMAIL), begins)
    assert len(whole_record(registry)["users"]) == 1


def test_a_site_that_stays_up_keeps_every_row(registry: Registry) -> None:
    a_life(registry)
    before = whole_record(registry)
    with pytest.raises(SiteStays, match=r"left are: index\.html"):
        registry.erase_person(registry.person(EMAIL), lambda _site: Receipt(removed=(), left=("index.html",)))
    assert whole_record(registry) == before


def test_a_site_that_somebody_holds_is_not_erased_under_them(registry: Registry) -> None:
    accepted = a_life(registry)
    lease = registry.acquire_lease(accepted.site_name, "run of somebody", 60)
    with pytest.raises(SiteBusy, match="run of somebody"):
        registry.erase_person(registry.person(EMAIL), gone)
    registry.release_lease(lease)
    registry.erase_person(registry.person(EMAIL), gone)
    with pytest.raises(UnknownSite):
        registry.acquire_lease(accepted.site_name, "anybody", 60)


def test_events_are_only_ever_added_again_afterwards(registry: Registry) -> None:
    a_life(registry)
    a_life(registry, "other", "carl@example.org", "+4915111111111")
    registry.erase_person(registry.person(EMAIL), gone)
    for change in ("DELETE FROM events", "UPDATE events SET kind = 'x'"):
        with pytest.raises(exc.IntegrityError, match="only ever added"), registry.engine.begin() as connection:
            connection.execute(text(change))


def test_who_orders_while_being_erased_is_either_gone_or_new(registry: Registry) -> None:
    for turn in range(5):
        a_life(registry, f"old-{turn}")
        erase = partial(registry.erase_person, registry.person(EMAIL), gone)
        order = partial(registry.accept, a_request(email=EMAIL), f"new-{turn}")
        results: list[object] = [*at_once([erase, order])]
        trouble = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(error, StillAtWork | ConnectionError) for error in trouble), trouble
        for row in registry.executions(limit=1000):
            registry.set_status(row.execution_id, Status.CANCELLED)
        registry.erase_person(registry.person(EMAIL), gone)
        assert traces_in(whole_record(registry)) == []
