"""The site server: a real Caddy in front of releases that were really packaged and published."""

import gzip
import json
import os
import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tasks.adapters.hosts.caddy import caddyfile, site_server_argv, write_config
from tasks.adapters.hosts.local import LocalHost
from tasks.domain.release import EXTENSIONS, MARKER_PATH
from tests.support.releases import Packager
from tests.support.site_server import Answer, SiteServer, free_port, site_server

__all__ = ["site_server"]

PAGE = "<!doctype html><title>%s</title>"


class Published:
    """One site: package files, publish them, ask for paths."""

    def __init__(self, server: SiteServer, root: Path) -> None:
        self.name = f"tmux-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        self.packager = Packager(root)
        self.host = LocalHost(server.home, self.name, server.port, keep=3)
        self._server = server

    def publish(self, files: dict[str, str | bytes]) -> str:
        return self.host.publish(self.packager.package(files)).release_id

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return self._server.get(self.name, path, method, **headers)


@pytest.fixture
def site(site_server: SiteServer, tmp_path: Path) -> Iterator[Published]:
    published = Published(site_server, tmp_path)
    yield published
    published.host.teardown()


def test_every_file_is_served_with_the_headers_of_its_manifest(site: Published) -> None:
    names = [f"{stem}{extension}" for extension in EXTENSIONS for stem in ("a", "B.x", "c.3f2a9c1b", "d.3F2A9C1B")]
    names += [f"up{extension.upper()}" for extension in EXTENSIONS]
    names += ["noext", "other.bin", "x.3f2a9c1b.bin", "trailing.", "tar.tar.gz", "3f2a9c1b.css", "a.3f2a9c1.js"]
    names += ["deep.3f2a9c1b.css/file", "deep.css/noext", "v1.2/page.html", "menu.12345678.pdf", "x.deadbeef."]
    release = site.packager.package({"index.html": PAGE, **{name: f"content of {name}" for name in names}})
    site.host.publish(release)

    for entry in release.manifest.files:
        answer = site.get("/" + quote(entry.path))
        assert answer.status == 200, entry.path
        served = {name: answer.headers[name.lower()] for name in entry.headers}
        assert served == entry.headers, entry.path


def test_names_that_mean_something_to_a_pattern_language_are_only_names(site: Published) -> None:
    names = [
        "a*b.html",
        "a[1].html",
        "[ab].html",
        "{path}.html",
        "wie geht's?.html",
        "ü+%20&=.html",
        "#x.html",
        "a{1,2}",
    ]
    site.publish(
        {"index.html": PAGE, "axb.html": "no", "a.html": "no", "a1.html": "no", **{name: name for name in names}}
    )

    for name in names:
        assert site.get("/" + quote(name)).body.decode() == name
        assert site.get("/" + quote(name.removesuffix(".html"))).body.decode() == name


def test_addresses_work_without_their_extension_and_folders_show_their_index(site: Published) -> None:
    site.publish({"index.html": "home", "about.html": "about", "blog/index.html": "blog", "blog/one.html": "one"})

    assert [site.get(path).body for path in ("/", "/about", "/about.html", "/blog/", "/blog/one")] == [
        b"home",
        b"about",
        b"about",
        b"blog",
        b"one",
    ]
    answer = site.get("/about?from=mail")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_folder_without_its_slash_is_redirected_within_the_site_and_not_for_ever(site: Published) -> None:
    site.publish({"index.html": "home", "blog/index.html": "blog"})

    for path, location in (
        ("/blog", "/blog/"),
        ("/blog?a=b", "/blog/?a=b"),
        ("//blog", "/blog/"),
        ("/x/..//blog", None),
    ):
        answer = site.get(path)
        assert answer.status in (308, 404) if location is None else answer.status == 308
        assert answer.headers.get("location") in (location, "/blog/")
        assert answer.status == 404 or answer.headers["cache-control"] == "no-cache"


def test_a_missing_page_is_answered_with_the_sites_own_404_page(site: Published) -> None:
    site.publish({"index.html": "home", "404.html": "our own 404", "empty/x.txt": "x"})

    for path in ("/nothing", "/nothing.css", "/empty/", "/nothing/", "/index.html/", "/%00", "/%ff"):
        answer = site.get(path)
        if path != "/%00":
            assert (answer.status, answer.body) == (404, b"our own 404"), path
        assert answer.status in (400, 404)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"


def test_a_condition_does_not_turn_a_missing_page_into_not_modified(site: Published) -> None:
    site.publish({"index.html": "home", "404.html": "our own 404"})
    etag = site.get("/404.html").headers["etag"]

    assert site.get("/nothing", if_none_match=etag).status == 404
    assert site.get("/nothing", if_none_match="*").status == 404
    assert site.get("/nothing", if_match='"other"').body == b"our own 404"
    assert site.get("/nothing", if_range=etag, range="bytes=0-2").body == b"our own 404"
    assert site.get("/nothing", range="bytes=0-2").body == b"our own 404"


def test_a_site_without_a_404_page_gets_a_pleasant_one(site: Published) -> None:
    site.publish({"index.html": "home"})

    answer = site.get("/nothing")
    assert answer.status == 404
    assert b"This page does not exist" in answer.body
    assert b'href="/"' in answer.body
    assert b"{" not in answer.body.split(b"</style>")[1]


def test_an_address_without_a_site_gets_a_pleasant_404(site_server: SiteServer, site: Published) -> None:
    site.publish({"index.html": "home"})
    outside = site_server.home / "sites" / "other" / "live"
    outside.mkdir(parents=True, exist_ok=True)
    (outside / "index.html").write_text("must not be served")

    hosts = ["tmux-00000000-00000000", "other", "..", "a.b", site.name.upper(), f"x{site.name}", f"{site.name}.evil"]
    for host in hosts:
        answer = site_server.get(host, "/")
        assert answer.status == 404, host
        assert b"There is no site at this address" in answer.body
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for host in (f"127.0.0.1:{site_server.port}", "evil.example", f"{site.name}.evil.example", f"{site.name}/../x"):
        assert site_server.get("x", "/", host=host).status in (400, 404), host


def test_a_site_that_was_taken_down_is_not_served(site: Published) -> None:
    site.publish({"index.html": "home", "404.html": "own"})
    site.host.teardown()

    answer = site.get("/")
    assert answer.status == 404
    assert b"There is no site at this address" in answer.body


def test_hidden_files_are_not_served_though_they_got_into_a_release(site: Published, site_server: SiteServer) -> None:
    release_id = site.publish({"index.html": "home", ".well-known/security.txt": "Contact: x"})
    root = site_server.home / "sites" / site.name / "releases" / release_id
    for path in (".env", ".git/config", "a/.b", ".well-known/.secret", ".wel", ".html"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text("SECRET")

    plain = ["/.env", "/.git/config", "/a/.b", "/.well-known/.secret", "/.wel", "/.html", "/.well-known"]
    devious = ["//.env", "/%2eenv", "/a/%2eb", "/.well-known/../.env", "/./.env", "/a/../.env", "/%2F.env"]
    for path in (*plain, *devious, "/.well-known/%2e%2e/.env"):
        answer = site.get(path)
        assert answer.status in (400, 404), path
        assert b"SECRET" not in answer.body
    assert site.get("/.well-known/security.txt").body == b"Contact: x"
    assert json.loads(site.get(f"/{MARKER_PATH}").body) == {"release_id": release_id}


def test_nothing_outside_the_live_release_is_reachable(site: Published) -> None:
    first = site.publish({"index.html": "one", "old.html": "old"})
    site.publish({"index.html": "two"})

    inside = ["/../manifests/x", f"/../releases/{first}/old.html", f"/..%2freleases%2f{first}/old.html", "/old"]
    for path in (*inside, "/%2e%2e/live/index.html", "/../../../../../../etc/passwd", "/..\\..\\x"):
        assert site.get(path).status in (400, 404), path


def test_pages_are_compressed_for_those_who_take_it(site: Published) -> None:
    text = PAGE + "word " * 5000
    site.publish({"index.html": text, "logo.svg": f"<svg>{text}</svg>", "pic.png": os.urandom(20_000)})

    for path in ("/", "/logo.svg"):
        answer = site.get(path, accept_encoding="gzip")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert text in gzip.decompress(answer.body).decode()
        assert site.get(path, accept_encoding="zstd, gzip").headers["content-encoding"] == "zstd"
        assert "content-encoding" not in site.get(path).headers
    assert "content-encoding" not in site.get("/pic.png", accept_encoding="gzip").headers


def test_each_answer_carries_safe_headers_and_none_that_tells_the_server(site: Published) -> None:
    site.publish({"index.html": "home", "404.html": "own", "blog/index.html": "b"})

    for path, method in (("/", "GET"), ("/nothing", "GET"), ("/", "POST"), ("/blog", "GET"), ("/.env", "GET")):
        headers = site.get(path, method).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
        assert headers["content-security-policy"] == "frame-ancestors 'self'"
        assert not {"server", "last-modified", "x-powered-by"} & set(headers), (path, method)


def test_only_reading_is_answered(site: Published) -> None:
    site.publish({"index.html": "home", "404.html": "own"})

    for method in ("POST", "PUT", "DELETE", "PROPFIND"):
        answer = site.get("/", method)
        assert answer.status == 405
        assert b"This request could not be answered" in answer.body
    head = site.get("/", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "4")


def test_a_condition_is_answered_by_content_whatever_the_time_and_size(site: Published) -> None:
    site.publish({"index.html": "one", "same.css": "same"})
    first, same = site.get("/").headers["etag"], site.get("/same.css").headers["etag"]
    assert site.get("/", if_none_match=first).status == 304

    site.publish({"index.html": "two", "same.css": "same"})  # as long as before, and as old as its content
    second = site.get("/").headers["etag"]
    assert second != first
    answer = site.get("/", if_none_match=first, if_modified_since="Fri, 01 Jan 2038 00:00:00 GMT")
    assert (answer.status, answer.body) == (200, b"two")
    assert site.get("/same.css", if_none_match=same).status == 304

    site.host.activate(site.host.releases()[1])
    assert site.get("/", if_none_match=second).body == b"one"
    assert site.get("/", if_none_match=first).status == 304


def test_a_date_alone_never_says_not_modified(site: Published) -> None:
    site.publish({"index.html": "one"})

    assert site.get("/", if_modified_since="Fri, 01 Jan 2038 00:00:00 GMT").status == 200


def test_a_compressed_answer_has_an_etag_of_its_own_that_revalidates(site: Published) -> None:
    site.publish({"index.html": PAGE + "word " * 5000})

    plain, packed = site.get("/").headers["etag"], site.get("/", accept_encoding="gzip").headers["etag"]
    assert plain != packed
    assert site.get("/", accept_encoding="gzip", if_none_match=packed).status == 304


def test_visitors_see_a_whole_release_at_each_moment_of_a_switch(site: Published) -> None:
    ids = [site.publish({"index.html": f"{letter * 4000}"}) for letter in "ab"]
    bad: list[object] = []
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            answer = site.get("/")
            if answer.status != 200 or answer.body not in (b"a" * 4000, b"b" * 4000):
                bad.append(answer)

    visitors = [threading.Thread(target=visit) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    for turn in range(150):
        site.host.activate(ids[turn % 2])
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert not bad


def test_it_listens_on_loopback_alone_and_has_no_admin_port(site_server: SiteServer) -> None:
    inodes = set()
    for descriptor in Path(f"/proc/{site_server.pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{site_server.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.add(fields[1])
    port = f"{site_server.port:04X}"
    assert listening <= {f"0100007F:{port}", f"00000000000000000000000001000000:{port}"}
    assert f"0100007F:{port}" in listening


def test_it_serves_ipv6_loopback_where_the_machine_has_it(site_server: SiteServer, site: Published) -> None:
    site.publish({"index.html": "home"})
    config = (site_server.home / "service" / "sites" / "Caddyfile").read_text()

    if "[::1]" in config:
        assert site_server.get(site.name, "/", address="::1").body == b"home"
    else:
        assert "bind 127.0.0.1\n" in config


def test_the_server_gets_no_environment_and_writes_only_below_the_home(site_server: SiteServer) -> None:
    environment = Path(f"/proc/{site_server.pid}/environ").read_bytes().split(b"\0")
    names = {entry.split(b"=")[0] for entry in environment if entry}
    assert names == {b"HOME", b"XDG_CONFIG_HOME", b"XDG_DATA_HOME"}
    assert all(str(site_server.home).encode() in entry for entry in environment if entry)


def test_the_configuration_is_clean_by_caddys_own_judgement(tmp_path: Path) -> None:
    config = write_config(tmp_path, free_port())
    caddy = site_server_argv(tmp_path)[-6]

    assert caddy.endswith("/caddy")
    validated = subprocess.run(
        [caddy, "validate", "--config", str(config), "--adapter", "caddyfile"], capture_output=True, text=True,
        env={"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
    )  # fmt: skip
    assert validated.returncode == 0, validated.stderr
    assert '"warn"' not in validated.stderr.replace('"admin endpoint disabled"', "")


@pytest.mark.parametrize("character", ["{", "}", '"', "`", "*", "?", "[", "\n", "\x1b"])
def test_a_home_that_caddy_would_misread_is_refused_by_name(character: str) -> None:
    with pytest.raises(ValueError, match="TMUX_BUILDER_HOME"):
        caddyfile(Path(f"/home/a{character}b"), 8401)
