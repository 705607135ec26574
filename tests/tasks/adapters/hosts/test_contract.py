"""What every host promises, whatever it is made of. A host joins by one more case in `hosted`."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.http import fetch, health_check
from tasks.domain.errors import HostingError
from tasks.domain.hosting import Host, Site
from tasks.domain.release import Release
from tests.support.releases import Packager
from tests.support.site_server import SiteServer, site_server

__all__ = ["site_server"]

KEEP = 3


@dataclass
class Hosted:
    """A host of one site, another handle on the same site, and a way to look as a visitor does."""

    open: Callable[[], Host]
    packager: Packager

    def __post_init__(self) -> None:
        self.host = self.open()

    def release(self, text: str, **more: str) -> Release:
        return self.packager.package({"index.html": text, "site.css": "p {}", **more})


@pytest.fixture(params=["local"])
def hosted(request: pytest.FixtureRequest, tmp_path: Path, site_server: SiteServer) -> Iterator[Hosted]:
    name = f"tmux-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
    match request.param:
        case "local":
            made = Hosted(lambda: LocalHost(site_server.home, name, site_server.port, KEEP), Packager(tmp_path))
        case unknown:
            raise AssertionError(f"no host is called {unknown}")
    yield made
    made.host.teardown()


def seen(site: Site, path: str = "/") -> bytes:
    return fetch(site, path, 10).body


def test_a_published_release_is_served_and_healthy(hosted: Hosted) -> None:
    release = hosted.release("one")

    site = hosted.host.publish(release)
    assert (site.release_id, site.uploaded) == (release.release_id, 3)
    assert seen(site) == b"one"
    assert health_check(site, 10).red_gates == ()
    assert (hosted.host.live(), hosted.host.releases()) == (release.release_id, [release.release_id])


def test_publishing_the_same_release_again_uploads_nothing(hosted: Hosted) -> None:
    release = hosted.release("one")
    first = hosted.host.publish(release)

    again = hosted.open().publish(release)
    assert (again.uploaded, again.kept) == (0, 3)
    assert again.model_copy(update={"uploaded": 3, "kept": 0}) == first
    assert seen(again) == b"one"


def test_a_new_release_takes_the_place_of_the_old_one_whole(hosted: Hosted) -> None:
    hosted.host.publish(hosted.release("one", **{"old.html": "old"}))
    site = hosted.host.publish(hosted.release("two", **{"new.html": "new"}))

    assert seen(site) == b"two"
    assert seen(site, "/new.html") == b"new"
    assert fetch(site, "/old.html", 10).status == 404


def test_a_kept_release_is_activated_without_uploading(hosted: Hosted) -> None:
    one, two = hosted.release("one"), hosted.release("two")
    hosted.host.publish(one)
    hosted.host.publish(two)

    back = hosted.host.activate(one.release_id)
    assert (back.release_id, back.uploaded, seen(back)) == (one.release_id, 0, b"one")
    assert health_check(back, 10).red_gates == ()
    assert hosted.open().live() == one.release_id
    assert seen(hosted.host.activate(two.release_id)) == b"two"


def test_activating_what_is_not_kept_is_refused_and_changes_nothing(hosted: Hosted) -> None:
    release = hosted.release("one")
    hosted.host.publish(release)

    for unknown in ("r9-000000000000", "", ".", "..", "../releases", f"{release.release_id}/", "r1-*"):
        with pytest.raises(HostingError) as caught:
            hosted.host.activate(unknown)
        assert release.release_id in caught.value.complaint
        assert "start redeploy/on-demand" in caught.value.next_move
    assert hosted.host.live() == release.release_id


def test_the_newest_and_the_live_releases_are_kept_and_older_ones_go(hosted: Hosted) -> None:
    ids = [hosted.release(f"number {number}") for number in range(6)]
    for release in ids:
        hosted.host.publish(release)
    assert hosted.host.releases() == [release.release_id for release in reversed(ids[-KEEP:])]

    hosted.host.activate(ids[-KEEP].release_id)
    for number in range(6, 10):
        hosted.host.publish(hosted.release(f"number {number}"))
    assert len(hosted.host.releases()) == KEEP


def test_the_last_good_release_outlives_any_number_of_failed_ones(hosted: Hosted) -> None:
    """A run whose checks are red goes back to the release that was live before it, however old that one is."""
    good = hosted.release("good")
    hosted.host.publish(good)
    for number in range(2 * KEEP):
        hosted.host.publish(hosted.release(f"bad {number}"))
        assert seen(hosted.host.activate(good.release_id)) == b"good"


def test_a_site_that_was_never_published_has_nothing(hosted: Hosted) -> None:
    assert (hosted.host.live(), hosted.host.releases()) == (None, [])
    with pytest.raises(HostingError, match="kept: none"):
        hosted.host.activate("r1-000000000000")


def test_teardown_removes_everything_and_says_so(hosted: Hosted) -> None:
    one, two = hosted.release("one"), hosted.release("two")
    hosted.host.publish(one)
    site = hosted.host.publish(two)

    receipt = hosted.host.teardown()
    assert receipt.left == ()
    for named in (one.release_id, two.release_id, site.url):
        assert any(named in removed for removed in receipt.removed), named
    assert fetch(site, "/", 10).status == 404
    assert (hosted.host.live(), hosted.host.releases()) == (None, [])
    assert hosted.open().teardown().removed == ()


def test_a_site_can_be_published_again_after_its_teardown(hosted: Hosted) -> None:
    release = hosted.release("one")
    hosted.host.publish(release)
    hosted.host.teardown()

    site = hosted.host.publish(release)
    assert (site.uploaded, seen(site)) == (3, b"one")


def test_a_release_whose_files_changed_after_packaging_is_not_published(hosted: Hosted) -> None:
    good = hosted.release("good")
    hosted.host.publish(good)
    changed = hosted.release("changed")
    (Path(changed.root) / "site.css").write_text("q {}")

    with pytest.raises(HostingError, match=r"site\.css of .* is not what its manifest says"):
        hosted.host.publish(changed)
    assert (hosted.host.live(), hosted.host.releases()) == (good.release_id, [good.release_id])
