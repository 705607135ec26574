"""What every host promises, whatever it is made of. A host joins by one more case in `hosted`."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.adapters.hosts.fencing import StaleWriter
from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.hosts.local_app import LocalAppHost
from tasks.adapters.http import fetch, health_check
from tasks.domain.errors import HostingError
from tasks.domain.hosting import Host, Site
from tasks.domain.release import Release
from tests.support.apps import KeeperProcess, keeper, site_server
from tests.support.releases import Packager
from tests.support.site_server import SiteServer

__all__ = ["keeper", "site_server"]

KEEP = 3

PROGRAM = {
    "app.py": "import http.server, os\n"
    "http.server.test(http.server.SimpleHTTPRequestHandler, http.server.ThreadingHTTPServer, 'HTTP/1.0',"
    " int(os.environ['PORT']), '127.0.0.1')\n",
    "requirements.txt": "",
}


@dataclass
class Hosted:
    """A host of one site, another handle on the same site, and a way to look as a visitor does.

    ``always`` are files that each release holds for the host's sake.
    """

    open: Callable[[], Host]
    packager: Packager
    always: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.host = self.open()
        self.files = 3 + len(self.always)

    def release(self, text: str, **more: str) -> Release:
        return self.packager.package({"index.html": text, "site.css": "p {}", **self.always, **more})


@pytest.fixture(params=["local", "local app"])
def hosted(request: pytest.FixtureRequest, tmp_path: Path, site_server: SiteServer) -> Iterator[Hosted]:
    name = f"tmux-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
    match request.param:
        case "local":
            made = Hosted(lambda: LocalHost(site_server.home, name, site_server.port, KEEP), Packager(tmp_path))
        case "local app":
            running: KeeperProcess = request.getfixturevalue("keeper")
            made = Hosted(
                lambda: LocalAppHost(running.home, name, site_server.port, KEEP, "bwrap"), Packager(tmp_path), PROGRAM
            )
        case unknown:
            raise AssertionError(f"no host is called {unknown}")
    yield made
    made.host.teardown()


def seen(site: Site, path: str = "/") -> bytes:
    return fetch(site, path, 10).body


def test_a_published_release_is_served_and_healthy(hosted: Hosted) -> None:
    release = hosted.release("one")

    site = hosted.host.publish(release)
    assert (site.release_id, site.uploaded) == (release.release_id, hosted.files)
    assert seen(site) == b"one"
    assert health_check(site, 10).red_gates == ()
    assert (hosted.host.live(), hosted.host.releases()) == (release.release_id, [release.release_id])


def test_publishing_the_same_release_again_uploads_nothing(hosted: Hosted) -> None:
    release = hosted.release("one")
    first = hosted.host.publish(release)

    again = hosted.open().publish(release)
    assert (again.uploaded, again.kept) == (0, hosted.files)
    assert again.model_copy(update={"uploaded": hosted.files, "kept": 0}) == first
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
    assert (site.uploaded, seen(site)) == (hosted.files, b"one")


def test_a_release_whose_files_changed_after_packaging_is_not_published(hosted: Hosted) -> None:
    good = hosted.release("good")
    hosted.host.publish(good)
    changed = hosted.release("changed")
    (Path(changed.root) / "site.css").write_text("q {}")

    with pytest.raises(HostingError, match=r"site\.css of .* is not what its manifest says"):
        hosted.host.publish(changed)
    assert (hosted.host.live(), hosted.host.releases()) == (good.release_id, [good.release_id])


def test_a_writer_whose_lease_is_over_is_refused_and_changes_nothing(hosted: Hosted) -> None:
    one, two, late = hosted.release("one"), hosted.release("two"), hosted.release("late")
    hosted.host.publish(one, 3)
    hosted.host.publish(two, 7)

    for attempt in (
        lambda: hosted.host.publish(late, 6),
        lambda: hosted.host.activate(one.release_id, 6),
        lambda: hosted.host.publish(late),
    ):
        with pytest.raises(StaleWriter, match=r"newer run \(number 7; this one has [06]\)") as caught:
            attempt()
        assert not caught.value.transient
        assert hosted.host.live() == two.release_id
        assert hosted.host.releases() == [two.release_id, one.release_id]

    assert seen(hosted.open().activate(one.release_id, 7)) == b"one"
    assert seen(hosted.host.publish(late, 8)) == b"late"


def test_a_writer_that_slept_through_a_teardown_does_not_bring_the_site_back(hosted: Hosted) -> None:
    release = hosted.release("one")
    hosted.host.publish(release, 4)
    hosted.host.teardown(5)

    with pytest.raises(StaleWriter, match="nothing was written"):
        hosted.host.publish(release, 4)
    assert (hosted.host.live(), hosted.host.releases()) == (None, [])
