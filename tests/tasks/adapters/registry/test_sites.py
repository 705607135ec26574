"""Sites, releases, checks, resources and messages."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from tasks.adapters.registry import Registry, UnknownSite
from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.errors import SiteBusy
from tasks.domain.hosting import Site
from tasks.domain.pipeline import SiteState, Verb
from tasks.domain.release import FileEntry, Manifest, Release, content_digest, release_id_for
from tests.tasks.adapters.registry.orders import a_finished_execution, an_execution, at_once, counts, kinds


def a_release(number: int, content: str = "hello") -> Release:
    files = (FileEntry(path="index.html", size=len(content), sha256=content, headers={}),)
    release_id = release_id_for(number, files)
    return Release(
        number=number, release_id=release_id, root="/releases", manifest=Manifest(release_id=release_id, files=files)
    )


def a_site(name: str, release_id: str = "r1-000000000000") -> Site:
    return Site(name=name, url=f"http://{name}.localhost:8401", release_id=release_id, dial="127.0.0.1:8401")


def test_the_same_content_is_found_as_the_release_that_it_is(registry: Registry) -> None:
    accepted = an_execution(registry)
    release = a_release(1)
    digest = content_digest(release.manifest.files)
    assert registry.release_for_digest(accepted.session_id, digest) is None
    assert registry.next_release_number(accepted.session_id) == 1
    registry.record_release(accepted.execution_id, release)
    registry.record_release(accepted.execution_id, release)
    assert registry.release_for_digest(accepted.session_id, digest) == 1
    assert registry.next_release_number(accepted.session_id) == 2
    [kept] = registry.releases(accepted.execution_id)
    assert (kept.release_id, kept.digest, kept.files, kept.total_bytes) == (release.release_id, digest, 1, 5)
    assert kinds(registry, accepted.execution_id).count("release") == 1


def test_a_number_is_one_release_and_a_content_is_one_number(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.record_release(accepted.execution_id, a_release(1, "hello"))
    with pytest.raises(IntegrityError):
        registry.record_release(accepted.execution_id, a_release(1, "other"))
    with pytest.raises(IntegrityError):
        registry.record_release(accepted.execution_id, a_release(2, "hello"))
    registry.record_release(accepted.execution_id, a_release(2, "other"))
    assert [release.number for release in registry.releases(accepted.execution_id)] == [2, 1]


def test_the_releases_of_two_sessions_are_counted_apart(registry: Registry) -> None:
    one, other = an_execution(registry, "a"), an_execution(registry, "b")
    registry.record_release(one.execution_id, a_release(1))
    assert registry.next_release_number(other.session_id) == 1
    assert registry.release_for_digest(other.session_id, content_digest(a_release(1).manifest.files)) is None
    registry.record_release(other.execution_id, a_release(1))


def test_a_published_site_is_live_at_its_address_since_a_moment(registry: Registry) -> None:
    waiting, accepted = an_execution(registry, "waiting"), an_execution(registry)
    with pytest.raises(LookupError, match="has published nothing yet"):
        _ = registry.execution(accepted.execution_id).site
    site = a_site(accepted.site_name)
    registry.record_published(accepted.execution_id, site)
    [live] = registry.live_sites()
    assert live.execution_id == accepted.execution_id != waiting.execution_id
    assert live.site == site
    progress = registry.progress(accepted.execution_id)
    assert progress.deployed_url == site.url
    assert progress.last_deployed is not None
    assert progress.last_deployed.tzinfo is UTC or progress.last_deployed.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - progress.last_deployed) < timedelta(minutes=1)


def test_a_site_is_published_by_its_own_execution_only(registry: Registry) -> None:
    mine, theirs = an_execution(registry, "a"), an_execution(registry, "b")
    with pytest.raises(UnknownSite):
        registry.record_published(mine.execution_id, a_site(theirs.site_name))
    assert registry.live_sites() == []


def test_a_sites_state_is_news_when_it_changes(registry: Registry) -> None:
    accepted = an_execution(registry)
    said = [
        registry.set_site_state(accepted.site_name, state)
        for state in (SiteState.LIVE, SiteState.LIVE, SiteState.DEGRADED, SiteState.DEGRADED, SiteState.LIVE)
    ]
    assert said == [True, False, True, False, True]
    assert kinds(registry, accepted.execution_id).count("site_state") == 3
    assert registry.execution(accepted.execution_id).site_state is SiteState.LIVE
    with pytest.raises(UnknownSite):
        registry.set_site_state("tmux-00000000-00000000", SiteState.LIVE)


def test_a_change_of_state_that_many_see_is_news_once(registry: Registry) -> None:
    accepted = an_execution(registry)
    found = at_once([lambda: registry.set_site_state(accepted.site_name, SiteState.DEGRADED)] * 20)
    assert sorted(map(bool, found)) == [False] * 19 + [True]


def test_a_check_keeps_its_findings_and_a_repeated_one_replaces_the_first(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    red = Check(
        name="health_check",
        outcome=Outcome.FAILED,
        findings=(Finding(name="answers", outcome=Outcome.FAILED, detail="HTTP 503 \x00"),),
        evidence=("deployment/a.png",),
        seconds=1.5,
    )
    green = Check(name="health_check", outcome=Outcome.PASSED)
    registry.record_check(accepted.run_id, red)
    assert registry.checks(accepted.execution_id) == [
        red.model_copy(update={"findings": (Finding(name="answers", outcome=Outcome.FAILED, detail="HTTP 503 "),)})
    ]
    registry.record_check(accepted.run_id, green)
    assert registry.checks(accepted.execution_id) == [green]
    nightly = registry.adopt_run(accepted.execution_id, Verb.REVERIFY, "nightly")
    registry.record_check(nightly.run_id, green)
    assert len(registry.checks(accepted.execution_id)) == 2
    outcomes = [event.data["outcome"] for event in registry.events(accepted.execution_id) if event.kind == "check"]
    assert outcomes == ["failed", "passed", "passed"], "what was red once stays known"


def test_the_executions_of_a_user_are_listed_newest_first(registry: Registry) -> None:
    accepted = [an_execution(registry, key) for key in "abc"]
    listed = registry.executions(accepted[0].user_id)
    assert [each.execution_id for each in listed] == [each.execution_id for each in reversed(accepted)]
    assert registry.executions("nobody") == []
    assert len(registry.executions(limit=2)) == 2


def test_a_resource_is_written_down_before_it_exists_and_until_it_is_gone(registry: Registry) -> None:
    accepted = an_execution(registry)
    with pytest.raises(LookupError, match="never planned"):
        registry.resource_created(accepted.execution_id, "bucket", "b")
    registry.plan_resource(accepted.execution_id, "bucket", "b", {"region": "eu"})
    registry.plan_resource(accepted.execution_id, "bucket", "b")
    registry.resource_created(accepted.execution_id, "bucket", "b", {"arn": "a"})
    registry.resource_created(accepted.execution_id, "bucket", "b")
    registry.plan_resource(accepted.execution_id, "bucket", "b")
    [bucket] = registry.resources(accepted.execution_id)
    assert (bucket.state, bucket.details) == ("created", {"region": "eu", "arn": "a"})
    assert registry.resource_gone(accepted.execution_id, "bucket", "b")
    assert not registry.resource_gone(accepted.execution_id, "bucket", "b")
    registry.plan_resource(accepted.execution_id, "bucket", "b")
    assert [each.state for each in registry.resources(accepted.execution_id)] == ["gone", "planned"]
    assert [kind for kind in kinds(registry, accepted.execution_id) if kind.startswith("resource")] == [
        "resource_planned",
        "resource_created",
        "resource_gone",
        "resource_planned",
    ]


def test_a_living_resource_belongs_to_one_execution(registry: Registry) -> None:
    mine, theirs = an_execution(registry, "a"), an_execution(registry, "b")
    registry.plan_resource(mine.execution_id, "bucket", "b")
    with pytest.raises(IntegrityError):
        registry.plan_resource(theirs.execution_id, "bucket", "b")
    assert not registry.resource_gone(theirs.execution_id, "bucket", "b")
    assert counts(registry)["resources"] == 1


def test_a_message_is_delivered_once_and_in_order(registry: Registry) -> None:
    accepted = an_execution(registry)
    first = registry.post_message(accepted.execution_id, "user", "make it \x00 blue \udc00")
    registry.post_message(accepted.execution_id, "agent", "done")
    second = registry.post_message(accepted.execution_id, "user", "make it green")
    waiting = registry.undelivered_messages(accepted.execution_id)
    assert [(each.message_id, each.body) for each in waiting] == [(first, "make it  blue "), (second, "make it green")]
    found = at_once([lambda: registry.message_delivered(first)] * 10)
    assert found.count(True) == 1
    assert [each.message_id for each in registry.undelivered_messages(accepted.execution_id)] == [second]
    assert [each.author for each in registry.messages(accepted.execution_id)] == ["user", "agent", "user"]
    assert [each.body for each in registry.messages(accepted.execution_id, after_id=first, limit=1)] == ["done"]


def test_the_release_to_go_back_to_is_the_one_that_passed_last(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert registry.execution(accepted.execution_id).good_release is None
    registry.record_good(accepted.execution_id, "r1-aaaaaaaaaaaa")
    assert registry.execution(accepted.execution_id).good_release == "r1-aaaaaaaaaaaa"
    assert "good_release" in kinds(registry, accepted.execution_id)


def test_a_site_that_was_taken_down_serves_nothing_in_the_record(registry: Registry) -> None:
    accepted = an_execution(registry)
    site = Site(name=accepted.site_name, url="http://x.localhost", release_id="r1-aaaaaaaaaaaa", dial="127.0.0.1:1")
    registry.record_published(accepted.execution_id, site)
    registry.record_good(accepted.execution_id, site.release_id)
    lease = registry.acquire_lease(accepted.site_name, "run a", 60)
    registry.acquire_lease(accepted.site_name, "run a", 60)
    with pytest.raises(SiteBusy):
        registry.record_taken_down(accepted.execution_id, lease)
    assert registry.execution(accepted.execution_id).live_release == site.release_id
    registry.record_taken_down(accepted.execution_id)
    after = registry.execution(accepted.execution_id)
    assert (after.live_release, after.good_release, after.url, after.site_state) == (None, None, None, "taken_down")
    assert registry.live_sites() == []
    assert registry.progress(accepted.execution_id).deployed_url is None


def test_what_was_seen_of_one_release_says_nothing_of_the_next(registry: Registry) -> None:
    accepted = an_execution(registry)
    site = Site(name=accepted.site_name, url="http://x.localhost", release_id="r2-bbbbbbbbbbbb", dial="127.0.0.1:1")
    registry.record_published(accepted.execution_id, site)
    assert registry.set_site_state(accepted.site_name, SiteState.LIVE, "r2-bbbbbbbbbbbb")
    assert not registry.set_site_state(accepted.site_name, SiteState.DEGRADED, "r1-aaaaaaaaaaaa")
    assert registry.execution(accepted.execution_id).site_state == "live"


def test_a_site_expires_only_where_that_was_asked_for(registry: Registry) -> None:
    kept, brief = (an_execution(registry, key) for key in ("first", "second"))
    for accepted in (kept, brief):
        site = Site(name=accepted.site_name, url="http://x.localhost", release_id="r1-aaaaaaaaaaaa", dial="127.0.0.1:1")
        registry.record_published(accepted.execution_id, site)
    assert registry.expired_sites() == []
    registry.set_expiry(brief.execution_id, -1)
    assert [record.execution_id for record in registry.expired_sites()] == [brief.execution_id]
    registry.set_expiry(brief.execution_id, 1)
    assert registry.expired_sites() == []
