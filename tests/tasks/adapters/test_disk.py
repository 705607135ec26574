"""Room on a disk, on a real small one."""

import os
from pathlib import Path

from tasks.adapters.disk import room_complaint
from tests.support.full_disk import small_disk  # noqa: F401  # pytest finds fixtures by name

MIB = 2**20


def test_a_disk_with_room_is_not_complained_about(tmp_path: Path) -> None:
    assert room_complaint(tmp_path, MIB, 10) is None


def test_a_disk_without_space_is_named_with_what_is_free_and_what_to_do(small_disk: Path) -> None:  # noqa: F811
    assert room_complaint(small_disk, MIB // 2, 10) is None
    (small_disk / "big").write_bytes(b"x" * (MIB - 64 * 1024))
    words = room_complaint(small_disk, MIB // 2, 10)
    assert words is not None
    assert str(small_disk) in words
    assert "TMUX_BUILDER_MIN_FREE_MB" in words
    assert room_complaint(small_disk, 0, 0) is None, "0 asks for nothing"


def test_a_disk_without_inodes_is_full_too(small_disk: Path) -> None:  # noqa: F811
    free = os.statvfs(small_disk).f_favail
    assert room_complaint(small_disk, 0, free) is None
    for number in range(3):
        (small_disk / str(number)).touch()
    words = room_complaint(small_disk, 0, free)
    assert words is not None
    assert f"{free - 3:,} more files" in words


def test_a_home_that_is_not_made_yet_is_on_the_disk_of_the_folder_above(small_disk: Path) -> None:  # noqa: F811
    assert room_complaint(small_disk / "not" / "yet", MIB // 2, 10) is None
    assert room_complaint(small_disk / "not" / "yet", 2 * MIB, 10) is not None
