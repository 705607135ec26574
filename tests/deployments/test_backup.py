"""A backup gives back every row, or says why not and changes nothing."""

import json
import os
import shutil
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from deployments.backup import FENCE_LEAP, NotEmpty, ToolFailed, Unreadable, Unsuitable, back_up, restore
from tasks.adapters.registry import Registry, migrate
from tasks.adapters.registry.schema import REVISION
from tests.support.service import until
from tests.tasks.adapters.registry.lives import a_life, whole_record
from tests.tasks.adapters.registry.orders import a_finished_execution, an_execution, counts


def rows(registry: Registry) -> dict[str, list[str]]:
    """The whole record; fencing tokens as they would be without their leap."""
    record = whole_record(registry)
    leases = [json.loads(row) for row in record["leases"]]
    record["leases"] = [json.dumps({**lease, "fence": lease["fence"] % FENCE_LEAP}) for lease in leases]
    return record


@pytest.fixture
def backup(registry: Registry, registry_url: str, tmp_path: Path) -> Path:
    a_life(registry)
    a_finished_execution(registry, "second")
    file = tmp_path / "registry.backup"
    back_up(registry_url, file)
    return file


def test_what_was_changed_after_a_backup_is_as_before(registry: Registry, registry_url: str, backup: Path) -> None:
    before = rows(registry)
    an_execution(registry, "after the backup")
    site = registry.executions()[-1].site_name
    seen_by_host = [registry.acquire_lease(site, "x", 60).fence for _ in range(5)][-1]
    with registry.engine.begin() as connection:
        connection.execute(text("UPDATE users SET phone = 'lost'"))
    manifest = restore(registry_url, backup, replace=True)
    assert rows(registry) == before
    assert manifest.rows["executions"] == 2
    a_finished_execution(registry, "third")  # ids go on where they were
    assert registry.acquire_lease(site, "x", 60).fence > seen_by_host
    with pytest.raises(Exception, match="only ever added"), registry.engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))


def test_a_backup_goes_into_an_empty_database(empty_registry_url: str, tmp_path: Path) -> None:
    migrate(empty_registry_url)
    registry = Registry.open(empty_registry_url)
    a_life(registry)
    before = rows(registry)
    back_up(empty_registry_url, tmp_path / "kept")
    with registry.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    registry.close()
    if empty_registry_url.startswith("sqlite"):
        for file in tmp_path.glob("registry.db*"):
            file.unlink()
    restore(empty_registry_url, tmp_path / "kept")
    registry = Registry.open(empty_registry_url)
    assert rows(registry) == before
    registry.close()


def test_a_backup_is_one_moment_while_others_write(registry: Registry, registry_url: str, tmp_path: Path) -> None:
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            written.append(an_execution(registry, f"w{len(written)}").execution_id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: None if written else "nothing is written yet", 30)
        manifests = [back_up(registry_url, tmp_path / f"b{number}") for number in range(3)]
    finally:
        stop.set()
        writer.join()
    for number, manifest in enumerate(manifests):
        assert manifest.rows["executions"] == manifest.rows["sites"] == manifest.rows["runs"]
        restore(registry_url, tmp_path / f"b{number}", replace=True)
        assert counts(registry)["executions"] == manifest.rows["executions"]


def test_a_database_with_executions_is_not_overwritten_unasked(
    registry: Registry, registry_url: str, backup: Path
) -> None:
    an_execution(registry, "precious")
    before = rows(registry)
    with pytest.raises(NotEmpty, match=r"holds 3 executions.*--replace"):
        restore(registry_url, backup)
    assert rows(registry) == before


def test_a_backup_is_the_owners_alone_and_checks_itself(backup: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".backup-*"))
    folder = tmp_path / "looked"
    folder.mkdir()
    subprocess.run(["tar", "-xf", backup], cwd=folder, check=True)
    subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    told = json.loads((folder / "manifest.json").read_text())
    assert (told["revision"], told["rows"]["users"]) == (REVISION, 2)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size * 2 // 3)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def foreign(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        tar.add(__file__, "manifest.json")


@pytest.mark.parametrize("damage", [cut, flip, empty, foreign, Path.unlink])
def test_a_damaged_file_restores_nothing(
    registry: Registry, registry_url: str, backup: Path, damage: Callable[[Path], None]
) -> None:
    before = rows(registry)
    damage(backup)
    with pytest.raises(Unreadable):
        restore(registry_url, backup, replace=True)
    assert rows(registry) == before


def test_a_backup_of_a_newer_program_is_refused(registry: Registry, registry_url: str, tmp_path: Path) -> None:
    a_life(registry)
    with registry.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    back_up(registry_url, tmp_path / "newer")
    with registry.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :known"), {"known": REVISION})
    before = rows(registry)
    with pytest.raises(Unsuitable, match="revision 9999"):
        restore(registry_url, tmp_path / "newer", replace=True)
    assert rows(registry) == before


def test_a_backup_of_the_other_kind_of_database_is_refused(
    registry: Registry, registry_url: str, backup: Path, tmp_path: Path, migrated_sqlite: Path
) -> None:
    other = tmp_path / "other.db"
    shutil.copy(migrated_sqlite, other)
    if registry_url.startswith("postgresql"):
        with pytest.raises(Unsuitable, match="its own kind"):
            restore(f"sqlite:///{other}", backup)
    else:
        with pytest.raises(Unsuitable, match="its own kind"):
            restore("postgresql://nobody@127.0.0.1:1/none", backup)


def test_a_restore_that_fails_at_its_end_changes_nothing(registry: Registry, registry_url: str, tmp_path: Path) -> None:
    """The rows do not fit the manifest, whose sums are right: the last thing that is looked at."""
    a_life(registry)
    file = tmp_path / "kept"
    manifest = back_up(registry_url, file)
    with tarfile.open(file) as tar:
        tar.extractall(tmp_path / "parts", filter="data")
    lying = {**json.loads((tmp_path / "parts" / "manifest.json").read_text())}
    lying["rows"]["messages"] += 1
    (tmp_path / "parts" / "manifest.json").write_text(json.dumps(lying))
    payload = "registry.db" if manifest.kind == "sqlite" else "registry.pgdump"
    sums = subprocess.run(
        ["sha256sum", "manifest.json", payload], cwd=tmp_path / "parts", capture_output=True, check=True
    )
    (tmp_path / "parts" / "SHA256SUMS").write_bytes(sums.stdout)
    with tarfile.open(file, "w") as tar:
        for name in ("manifest.json", "SHA256SUMS", payload):
            tar.add(tmp_path / "parts" / name, name)
    an_execution(registry, "after the backup")
    before = rows(registry)
    with pytest.raises((ToolFailed, Unreadable), match="manifest"):
        restore(registry_url, file, replace=True)
    assert rows(registry) == before


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="make up"):
        back_up("postgresql://nobody:secretpassword@127.0.0.1:1/none", tmp_path / "none")
    assert not (tmp_path / "none").exists()
