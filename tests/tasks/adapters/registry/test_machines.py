"""Machines that share a record: each has its own name, and leaves to the others what they have in hand."""

from pathlib import Path

import pytest

from tasks.adapters.registry import Registry, SecondMachine
from tasks.adapters.registry.machines import machine_id_of
from tasks.adapters.registry.schema import db_clock, machines
from tasks.domain.pipeline import Status
from tests.tasks.adapters.registry.orders import an_execution, at_once

ANA, BEN = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"


@pytest.fixture
def shared(postgres_database: str) -> str:
    """URL of a registry that two machines may share."""
    from tasks.adapters.registry import migrate

    migrate(postgres_database)
    return postgres_database


@pytest.fixture
def two(shared: str):
    registry = Registry.open(shared)
    registry.note_machine(ANA, "ana", "/srv/ana")
    registry.note_machine(BEN, "ben", "/srv/ben")
    yield registry
    registry.close()


def test_a_home_keeps_its_id_and_no_two_homes_have_the_same(tmp_path: Path) -> None:
    first = machine_id_of(tmp_path / "one")
    assert machine_id_of(tmp_path / "one") == first
    assert machine_id_of(tmp_path / "two") != first
    assert (tmp_path / "one" / "machine-id").stat().st_mode & 0o077 == 0


def test_of_many_that_make_the_id_at_once_all_get_the_same(tmp_path: Path) -> None:
    for number in range(20):
        home = tmp_path / str(number)
        home.mkdir()
        found = at_once([lambda home=home: machine_id_of(home) for _ in range(16)])
        assert len(set(found)) == 1
        assert [path.name for path in home.iterdir()] == ["machine-id"]


def test_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("me\n")
    with pytest.raises(ValueError, match=r"machine-id: 'me' is no machine's id; remove"):
        machine_id_of(tmp_path)


def test_a_machine_that_says_again_that_it_is_there_is_one_machine(registry: Registry) -> None:
    registry.note_machine(ANA, "ana", "/srv/old")
    (before,) = registry.machines()
    registry.note_machine(ANA, "ana", "/srv/new")
    (after,) = registry.machines()
    assert (after.machine_id, after.name, after.home) == (ANA, "ana", "/srv/new")
    assert after.first_seen == before.first_seen
    assert after.seen_at >= before.seen_at
    assert 0 <= after.seen_s < 30


def test_sqlite_refuses_a_second_machine_with_both_names_and_the_next_move(migrated_sqlite: Path, tmp_path: Path):
    file = tmp_path / "registry.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    registry = Registry.open(f"sqlite:///{file}")
    registry.note_machine(ANA, "ana", "/srv/ana")
    registry.note_machine(ANA, "ana", "/srv/ana")
    with pytest.raises(SecondMachine) as refused:
        registry.note_machine(BEN, "ben", "/srv/ben")
    for part in ("registry.db", "ana (/srv/ana)", "ben (/srv/ben)", "PostgreSQL as TMUX_BUILDER_DATABASE_URL"):
        assert part in str(refused.value)
    assert [machine.name for machine in registry.machines()] == ["ana"]
    registry.close()


def test_postgresql_takes_a_second_machine(two: Registry) -> None:
    assert [machine.name for machine in two.machines()] == ["ana", "ben"]


def test_what_another_living_machine_claimed_is_its_own_to_judge(two: Registry) -> None:
    an_execution(two, "one")
    an_execution(two, "two")
    two.claim_runs(BEN, ["flow-one", "flow-unknown"])
    two.claim_runs(ANA, ["flow-two"])
    assert two.held_elsewhere(ANA) == {"flow-one"}
    assert two.held_elsewhere(BEN) == {"flow-two"}


def test_what_a_machine_had_that_is_gone_is_anybodys(two: Registry) -> None:
    an_execution(two, "one")
    two.claim_runs(BEN, ["flow-one"])
    with two.engine.begin() as connection:
        connection.execute(machines.update().where(machines.c.machine_id == BEN).values(seen_at=db_clock(-60)))
    assert two.held_elsewhere(ANA, gone_s=30) == frozenset()
    assert two.held_elsewhere(ANA, gone_s=90) == {"flow-one"}
    two.claim_runs(ANA, ["flow-one"])
    two.note_machine(BEN, "ben", "/srv/ben")
    assert two.held_elsewhere(BEN) == {"flow-one"}, "it was taken over meanwhile"


def test_a_run_that_is_over_is_nobodys(two: Registry) -> None:
    accepted = an_execution(two, "one")
    two.claim_runs(BEN, ["flow-one"])
    two.set_status(accepted.execution_id, Status.CANCELLED)
    assert two.held_elsewhere(ANA) == frozenset()
    two.claim_runs(ANA, ["flow-one"])
    assert two.runs_of("flow-one")[0].machine_id == BEN, "where it ran stays known"
