"""What a machine checks before it takes part in another one's service."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.configuration import Service, ServiceRefused, programs, service_environment
from deployments.joining import (
    STORE_TOKEN,
    Invitation,
    refuse_other_api,
    refuse_other_record,
    refuse_other_store,
    refuse_store,
    shared_database,
    store_token,
)
from deployments.service import main
from tests.support.databases import (  # noqa: F401  # pytest finds fixtures by name
    free_port,
    postgres_cluster,
    postgres_database,
)
from tests.support.service import ServiceUnderTest, processes_of


def an_invitation(**more: object) -> Invitation:
    told = {
        "api_url": "http://first.example:4200/api",
        "auth_string": SecretStr("admin:a-b_c"),
        "registry_url": SecretStr("postgresql+psycopg://u:s3cret@db.example/sites"),
        "store": "s3://bucket/sites",
        "store_token": SecretStr("0123"),
        "max_executions": 8,
        "max_agents": 4,
        "max_per_user": 2,
    }
    return Invitation.model_validate({**told, **more})


def test_what_was_written_is_what_is_read_and_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "invitation.env"
    an_invitation().write(file, taken=False)
    assert file.stat().st_mode & 0o777 == 0o600
    assert Invitation.read(file) == an_invitation()


def test_a_home_is_a_guest_only_where_it_took_the_invitation(tmp_path: Path) -> None:
    file = tmp_path / "service" / "invitation.env"
    assert Invitation.taken_by(tmp_path) is None
    file.parent.mkdir()
    an_invitation().write(file, taken=False)
    assert Invitation.taken_by(tmp_path) is None, "this one invited others"
    an_invitation().write(file, taken=True)
    assert Invitation.taken_by(tmp_path) == an_invitation()


def test_an_invitation_that_others_can_read_is_refused_with_the_command(tmp_path: Path) -> None:
    file = tmp_path / "invitation.env"
    an_invitation().write(file, taken=False)
    file.chmod(0o640)
    with pytest.raises(ServiceRefused, match=r"mode 0640 .*chmod 600 "):
        Invitation.read(file)


def test_what_is_said_to_a_terminal_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMUX_BUILDER_HOME", str(tmp_path))
    assert main(["join", "--from", f"{tmp_path}/AKIAIOSFODNN7EXAMPLE"]) == 1
    said = capsys.readouterr().err
    assert "AKIA" not in said
    assert "[redacted]" in said


def test_an_invitation_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ServiceRefused, match=r"No such file.*deployments.service invite"):
        Invitation.read(tmp_path / "none")


@pytest.mark.parametrize("missing", list(an_invitation().lines))
def test_a_line_that_is_missing_is_named(missing: str) -> None:
    lines = {name: value for name, value in an_invitation().lines.items() if name != missing}
    with pytest.raises(ServiceRefused, match=f"has no {missing}; make it anew"):
        Invitation.of_lines(lines, "the file")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PREFECT_API_URL", "first.example:4200", "http://HOST:PORT/api"),
        ("PREFECT_API_URL", "http://first.example:4200", "http://HOST:PORT/api"),
        ("TMUX_BUILDER_MAX_AGENTS", "many", "not a number"),
        ("TMUX_BUILDER_STORE", "s3://b/$HOME", "percent-encode"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_with_what_is_allowed(name: str, value: str, words: str) -> None:
    with pytest.raises(ServiceRefused, match=words) as refused:
        Invitation.of_lines({**an_invitation().lines, name: value}, "the file")
    assert name in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:////srv/registry.db", "mysql://u:s3cret@h/d", "nonsense"])
def test_a_database_that_two_machines_cannot_share_is_refused(url: str) -> None:
    with pytest.raises(ServiceRefused, match="two machines share a PostgreSQL server") as refused:
        shared_database(url)
    assert "s3cret" not in str(refused.value)
    if url.startswith("sqlite"):
        assert "is SQLite, which is for one machine" in str(refused.value)


@pytest.mark.parametrize("store", ["memory://x", "http://h/x", "simplecache::s3://b", "store", "./store"])
def test_a_store_that_another_process_would_not_find_is_refused(store: str) -> None:
    with pytest.raises(ServiceRefused, match="TMUX_BUILDER_STORE"):
        refuse_store(store)


@pytest.mark.parametrize("store", ["", "/srv/store", "file:///srv/store", "s3://bucket/x", "abfs://c@a.x/y"])
def test_a_store_that_can_be_shared_is_taken(store: str) -> None:
    refuse_store(store)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_that_both_see_is_the_same_store(tmp_path: Path, form: str) -> None:
    store = form.format(tmp_path / "store")
    token = store_token(store)
    assert store_token(store) == token, "it is written once"
    refuse_other_store(store, token)


def test_a_folder_of_the_same_name_on_another_machine_is_not_the_same_store(tmp_path: Path) -> None:
    token = store_token(str(tmp_path / "first"))
    for folder in ("missing", "empty"):
        if folder == "empty":
            (tmp_path / folder).mkdir()
        with pytest.raises(
            ServiceRefused, match=rf"{folder}/{STORE_TOKEN}.* is not there; .*both machines see the same"
        ):
            refuse_other_store(str(tmp_path / folder), token)
    assert not (tmp_path / "missing").exists(), "looking makes nothing"
    store_token(str(tmp_path / "second"))
    with pytest.raises(ServiceRefused, match="is another store's"):
        refuse_other_store(str(tmp_path / "second"), token)


def test_a_store_whose_driver_is_missing_is_named() -> None:
    with pytest.raises(ServiceRefused, match=r"TMUX_BUILDER_STORE: .*nosuch://x"):
        store_token("nosuch://x")


def test_an_api_that_does_not_answer_is_named_with_a_way_to_reach_it() -> None:
    with pytest.raises(ServiceRefused, match=r"does not answer \(no word in time\); .*ssh -N -L"):
        refuse_other_api(an_invitation(api_url=f"http://127.0.0.1:{free_port()}/api"))


def test_a_record_of_another_revision_is_refused(postgres_database: str) -> None:  # noqa: F811
    with pytest.raises(ServiceRefused, match=r"TMUX_BUILDER_DATABASE_URL: .*has no schema yet; this program needs"):
        refuse_other_record(postgres_database)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(ServiceRefused, match="TMUX_BUILDER_DATABASE_URL") as refused:
        refuse_other_record(f"postgresql+psycopg://u:s3cret@127.0.0.1:{free_port()}/sites")
    assert "s3cret" not in str(refused.value)


def guest(home: Path) -> Service:
    return Service(
        root=home,
        python=home / "python",
        home=home,
        prefect_port=4200,
        sites_port=8401,
        postgres_port=8402,
        worker_limit=2,
        registry_url=SecretStr("postgresql+psycopg://u:s3cret@db.example/sites"),
        prefect_database_url=SecretStr(""),
        private_cluster=False,
        auth_string=SecretStr("admin:a-b_c"),
        encryption_key=SecretStr(""),
        machine_id="0a1b2c3d-0000-4000-8000-000000000000",
        joined="https://first.example/api",
        store="/srv/shared",
    )


def test_a_guest_runs_what_does_the_work_and_neither_database_nor_prefect_server(tmp_path: Path) -> None:
    members = {member.name: member for member in programs(guest(tmp_path), [], ["caddy"])}
    assert members.keys() >= {"sites", "worker", "dispatcher"}
    assert members.keys().isdisjoint({"postgresql", "prefect-server"})
    argv = list(members["worker"].argv)
    assert argv[argv.index("--name") + 1] == "tmux-builder-0a1b2c3d"
    told = members["dispatcher"].environment
    assert told["PREFECT_API_URL"] == "https://first.example/api"
    assert told["TMUX_BUILDER_STORE"] == "/srv/shared"
    assert "TMUX_BUILDER_CLUSTER='external'" in service_environment(guest(tmp_path))


def test_a_home_with_a_service_of_its_own_joins_nobody(own_service: ServiceUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "invitation.env"
    an_invitation().write(file, taken=False)
    (own_service.home / "service").mkdir()
    (own_service.home / "service" / "service.env").write_text("TMUX_BUILDER_DATABASE_URL='postgresql://p'\n")
    refused = own_service.make("join", "--from", str(file))
    assert refused.returncode == 1
    assert "has a service of its own" in refused.stderr
    assert "TMUX_BUILDER_HOME" in refused.stderr


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_join_that_is_refused_starts_nothing_and_leaves_no_guest(
    own_service: ServiceUnderTest, tmp_path: Path, by: str
) -> None:
    file = tmp_path / "invitation.env"
    an_invitation(api_url=f"http://127.0.0.1:{free_port()}/api").write(file, taken=False)
    if by == "argument":
        refused = own_service.make("join", "--from", str(file))
    else:
        refused = own_service.make("up", TMUX_BUILDER_JOIN=str(file))
    assert refused.returncode == 1
    assert "does not answer" in refused.stderr
    assert "s3cret" not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert processes_of(own_service.home) == []
    assert not (own_service.home / "service" / "invitation.env").exists()


def test_nobody_is_invited_to_what_was_never_started(own_service: ServiceUnderTest) -> None:
    refused = own_service.make("invite")
    assert refused.returncode == 1
    assert "start it with: make up" in refused.stderr
