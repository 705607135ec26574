"""Which program a folder is, and which lists of packages are refused."""

import json

import pytest

from tasks.domain.app import PACKAGE, PACKAGE_LOCK, PROCFILE, REQUIREMENTS, App, Runtime, app_of, detect, requirements
from tasks.domain.errors import SourceRefused


def app(**texts: str) -> App:
    """``app_py="x"`` is a file app.py."""
    files = {
        {"package_json": PACKAGE, "lock": PACKAGE_LOCK, "requirements": REQUIREMENTS, "procfile": PROCFILE}.get(
            name, name.replace("_", ".")
        ): text
        for name, text in texts.items()
    }
    return app_of(set(files), files)


def node(**package: object) -> App:
    return app(package_json=json.dumps(package), server_js="")


@pytest.mark.parametrize(
    ("paths", "runtime"),
    [
        ({"package.json"}, Runtime.NODE),
        ({"requirements.txt"}, Runtime.PYTHON),
        ({"package.json", "requirements.txt"}, Runtime.NODE),
        ({"package.json", "requirements.txt", "app.py", "server.js"}, Runtime.NODE),
        ({"package.json", "requirements.txt", "app.py"}, Runtime.PYTHON),
        ({"index.html", "app.py", "below/package.json"}, None),
        (set(), None),
    ],
)
def test_the_files_at_the_top_decide(paths: set[str], runtime: Runtime | None) -> None:
    found, reason = detect(paths)
    assert found is runtime
    assert reason


def test_how_a_python_program_starts() -> None:
    assert app(requirements="", app_py="", main_py="").command == ("python", "app.py")
    assert app(requirements="", server_py="").command == ("python", "server.py")
    said = app(requirements="", procfile="release: x\nweb:  gunicorn app:app --bind 0:$PORT \n")
    assert said.command == ("/bin/sh", "-c", "gunicorn app:app --bind 0:$PORT")
    with pytest.raises(SourceRefused, match=r"none of app\.py, .* \(found: other\.py\).*web: python program\.py"):
        app(requirements="", other_py="")


def test_how_a_node_program_starts() -> None:
    assert node(scripts={"start": " node server.js --x "}).command == ("/bin/sh", "-c", "node server.js --x")
    assert node(main="./server.js").command == ("node", "server.js")
    assert node(main="gone.js", scripts={"start": ""}).command == ("node", "server.js")
    assert node(scripts=["start"]).command == ("node", "server.js")
    with pytest.raises(SourceRefused, match=r"no scripts\.start.*found: other\.js"):
        app(package_json="{}", other_js="")
    for text in ("", "{", "[]", "3", "[" * 100_000):
        with pytest.raises(SourceRefused, match=r"package\.json"):
            app(package_json=text, server_js="")


@pytest.mark.parametrize(
    "line",
    [
        "flask",
        "Flask==3.0.0",
        "zope.interface >= 5, < 7",
        "requests[security,socks]~=2.31",
        "x (>=1,<2)",
        'tomli>=2; python_version < "3.11"',
        "a==1.*  # why",
        "b!=1.0+local",
    ],
)
def test_packages_by_name_are_taken(line: str) -> None:
    assert requirements(line) == (line.split("  #")[0],)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-e .", "option"),
        ("-r other.txt", "option"),
        ("--index-url https://evil.example/simple", "option"),
        ("--extra-index-url=https://evil.example", "option"),
        ("flask --global-option=x", "option"),
        ("flask==1 -e .", "option"),
        ("https://evil.example/x.whl", "address"),
        ("git+https://evil.example/x", "address"),
        ("x @ file:///etc/passwd", "address"),
        ("x@http://127.0.0.1:4200/x", "address"),
        ("./local", "path"),
        ("local/x", "path"),
        ("..", "path"),
        ("x.whl", "path"),
        ("flask \\", "path or continues"),
        ("~/x", "path"),
        ("flask;", "not understood"),
        ("${HOME}", "not understood"),
        ("flask=1", "not understood"),
        ("fl ask", "not understood"),
        ("пакет", "not understood"),
    ],
)
def test_what_is_no_package_by_name_is_refused_with_its_line(line: str, reason: str) -> None:
    with pytest.raises(SourceRefused, match=rf"line 3, .*{reason}"):
        requirements(f"# first\nflask\n{line}\n")


def test_only_names_and_versions_of_a_package_json_reach_the_installer() -> None:
    made = node(
        name="../x",
        scripts={"preinstall": "curl evil", "start": "node server.js"},
        dependencies={"express": "^4.18.0", "@scope/x": "1.x || >=2.5.0 <3"},
        devDependencies={"vite": "latest"},
        workspaces=["*"],
        overrides={"express": {"qs": "6.11.0", "x": "$express"}},
        config={"registry": "https://evil.example"},
    )
    assert json.loads(made.installer_files[PACKAGE]) == {
        "name": "app",
        "version": "0.0.0",
        "private": True,
        "dependencies": {"express": "^4.18.0", "@scope/x": "1.x || >=2.5.0 <3"},
        "devDependencies": {"vite": "latest"},
        "overrides": {"express": {"qs": "6.11.0", "x": "$express"}},
    }
    assert node(dependencies={}, devDependencies={"vite": "5"}).installer_files == {}


@pytest.mark.parametrize(
    "spec",
    [
        "git+https://evil.example/x",
        "git://x",
        "http://127.0.0.1:4200/x.tgz",
        "https://evil.example/x.tgz",
        "file:../x",
        "link:../x",
        "user/repository",
        "github:user/repository",
        "npm:other@1",
        "workspace:*",
        "../x",
        7,
        None,
        {"a": "b"},
    ],
)
@pytest.mark.parametrize("kind", ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"])
def test_what_comes_from_elsewhere_than_the_registry_is_refused(kind: str, spec: object) -> None:
    with pytest.raises(SourceRefused, match=rf"{kind}\.x is .*expected a version"):
        node(**{kind: {"x": spec}})


def test_overrides_and_odd_names_are_no_way_round() -> None:
    with pytest.raises(SourceRefused, match=r"overrides\.a\.b is .*an address"):
        node(dependencies={"a": "1"}, overrides={"a": {"b": "http://127.0.0.1/x"}})
    with pytest.raises(SourceRefused, match="no package's name"):
        node(dependencies={"../x": "1"})
    with pytest.raises(SourceRefused, match="dependencies is list"):
        node(dependencies=["x"])


def lock(**entry: object) -> str:
    packages = {
        "": {"dependencies": {"x": "1"}},
        "node_modules/x": {"version": "1.0.0", "integrity": "sha512-a", **entry},
    }
    return json.dumps({"lockfileVersion": 3, "packages": packages, "dependencies": {"x": {"resolved": "git+ssh://y"}}})


def test_a_lock_file_says_which_versions_and_never_from_where() -> None:
    made = app(
        package_json='{"dependencies": {"x": "1"}}', server_js="", lock=lock(resolved="https://evil.example/x.tgz")
    )
    assert "evil" not in made.installer_files[PACKAGE_LOCK]
    entry = json.loads(made.installer_files[PACKAGE_LOCK])["packages"]["node_modules/x"]
    assert entry == {"version": "1.0.0", "integrity": "sha512-a"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (lock(resolved="git+ssh://git@evil.example/x"), "comes from"),
        (lock(resolved="file:../x"), "comes from"),
        (lock(resolved="http://127.0.0.1:4200/x"), "comes from"),
        (lock(version="git+https://evil.example/x"), "has version"),
        (lock(link=True), "link"),
        (json.dumps({"packages": {"../outside": {}}}), "folder of its own"),
        (json.dumps({"packages": {"node_modules/x": 3}}), "expected an object"),
        (json.dumps({"dependencies": {}}), "npm older than 7"),
        (json.dumps({"packages": {"": {"dependencies": {"x": "file:.."}}}}), "an address"),
    ],
)
def test_a_lock_file_that_leads_elsewhere_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(SourceRefused, match=complaint):
        app(package_json='{"dependencies": {"x": "1"}}', server_js="", lock=text)
