import os
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from pydantic import SecretStr
from supervisor.options import ServerOptions

from blocks.settings import Settings
from deployments.configuration import (
    PLAIN_KEEP,
    Service,
    ServiceRefused,
    programs,
    refuse_long_home,
    refuse_path,
    refuse_unsafe,
    service_environment,
    supervisor_configuration,
)

HOME = Path("/srv/tb home")


def service(**more: object) -> Service:
    values = {
        "root": Path("/src/My Projects/tmux-builder"),
        "python": Path("/src/My Projects/tmux-builder/.venv/bin/python"),
        "home": HOME,
        "prefect_port": 4300,
        "sites_port": 8501,
        "postgres_port": 8502,
        "worker_limit": 3,
        "registry_url": SecretStr("postgresql+psycopg://u:p%40ss,w=rd@h/d?x=1#y"),
        "prefect_database_url": SecretStr("postgresql+asyncpg://u:p%40ss@h/d_prefect"),
        "private_cluster": True,
        "auth_string": SecretStr("admin:a-b_c"),
        "encryption_key": SecretStr("k3y="),
    }
    return Service.model_validate({**values, **more})


CLUSTER, SITES = ["postgres", "-D", "a b"], ["caddy", "run"]


def read_by_supervisor(text: str, tmp_path: Path) -> ServerOptions:
    """As supervisord itself understands it. It checks that folders are there, so the paths are made ones."""
    made = tmp_path / "made home"
    (made / "logs").mkdir(parents=True)
    (made / "service").mkdir()
    shown = text.replace(str(HOME), str(made))
    shown = shown.replace("/src/My Projects/tmux-builder\n", f"{tmp_path}\n")
    (tmp_path / "supervisord.conf").write_text(shown)
    options = ServerOptions()
    options.realize(["-c", str(tmp_path / "supervisord.conf")])
    return options


def test_supervisord_understands_what_was_meant(tmp_path: Path) -> None:
    members = programs(service(), CLUSTER, SITES)
    options = read_by_supervisor(supervisor_configuration(service(), members, "root"), tmp_path)
    found = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert list(found) == ["postgresql", "apps", "prefect-server", "sites", "dispatcher", "web", "worker"]
    postgresql = shlex.split(found["postgresql"].command)
    assert postgresql[0] == "/src/My Projects/tmux-builder/.venv/bin/python"
    assert postgresql[postgresql.index("--") + 1 :] == CLUSTER
    for member in members:
        environment = found[member.name].environment
        meant = {
            name: value.replace(str(HOME), str(tmp_path / "made home")) for name, value in member.environment.items()
        }
        assert environment == {"PYTHONUNBUFFERED": "1", **meant}
        assert found[member.name].autorestart
        assert not found[member.name].autostart
    worker = found["worker"].environment
    assert worker["TMUX_BUILDER_DATABASE_URL"] == "postgresql+psycopg://u:p%40ss,w=rd@h/d?x=1#y"
    assert not found["worker"].stopasgroup


def test_nothing_but_a_socket_of_the_owners_controls_supervisord(tmp_path: Path) -> None:
    text = supervisor_configuration(service(), programs(service(), CLUSTER, SITES), "root")
    options = read_by_supervisor(text, tmp_path)
    (control,) = options.configroot.supervisord.server_configs
    assert control["section"] == "unix_http_server"
    assert control["chmod"] == 0o600
    assert options.configroot.supervisord.umask == 0o077


def test_no_program_but_the_worker_inherits_what_the_shell_had() -> None:
    members = {member.name: member for member in programs(service(), CLUSTER, SITES)}
    assert [name for name, member in members.items() if member.keep is None] == ["worker"]
    assert members["postgresql"].keep == PLAIN_KEEP
    assert members["sites"].keep == PLAIN_KEEP
    assert members["sites"].environment == {}
    assert members["apps"].keep == (*PLAIN_KEEP, "TMUX_BUILDER_HOME", "TMUX_BUILDER_SANDBOX")
    assert members["apps"].environment == {"TMUX_BUILDER_HOME": str(HOME)}
    assert "PREFECT_SERVER_ENCRYPTION_KEY" not in members["worker"].environment
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in members["dispatcher"].environment
    assert "TMUX_BUILDER_DATABASE_URL" not in members["prefect-server"].environment


def test_the_front_door_knows_the_registry_and_no_key_to_anything_else() -> None:
    (web,) = [member for member in programs(service(), CLUSTER, SITES) if member.name == "web"]
    assert set(web.environment) == {
        *("TMUX_BUILDER_HOME", "TMUX_BUILDER_DATABASE_URL", "TMUX_BUILDER_WEB_PORT", "TMUX_BUILDER_WEB_PREFECT"),
        *("TMUX_BUILDER_MAX_EXECUTIONS", "TMUX_BUILDER_MAX_AGENTS", "TMUX_BUILDER_STORE"),
    }
    for store, told in {"": "", "/srv/store": "/srv/store", "s3://key:secret@bucket/x": "s3://"}.items():
        assert service(store=store).web_environment["TMUX_BUILDER_STORE"] == told
    assert web.keep is not None
    foreign = ("PREFECT_API_AUTH_STRING", "PREFECT_API_URL", "AWS_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY")
    assert not [name for name in foreign if any(fnmatch(name, kept) for kept in web.keep)]
    assert "web" not in [member.name for member in programs(service(joined="http://x/api"), CLUSTER, SITES)]


def test_no_secret_is_in_a_command_line_or_a_job_variable() -> None:
    for member in programs(service(), CLUSTER, SITES):
        assert "p%40ss" not in " ".join(member.argv)
        assert "a-b_c" not in " ".join(member.argv)
    deployed = (Path(__file__).parent.parent.parent / "prefect.yaml").read_text()
    assert "env:" not in deployed
    assert "{{" not in deployed


def test_the_prefect_server_is_closed() -> None:
    environment = service().server_environment
    assert environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == "admin:a-b_c"
    assert environment["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4300"
    assert environment["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] == "true"
    assert environment["PREFECT_SERVER_ENCRYPTION_KEY"]


def test_a_server_that_was_named_is_not_started_again_by_us() -> None:
    assert "postgresql" not in [member.name for member in programs(service(private_cluster=False), [], SITES)]


def test_notices_are_sent_from_the_first_machine_alone() -> None:
    def dispatcher(**more: object) -> list[str]:
        (found,) = [each for each in programs(service(**more), [], []) if each.name == "dispatcher"]
        return list(found.argv)

    assert dispatcher()[-1] == "--notices"
    assert "--notices" not in dispatcher(joined="http://first.example:4200/api")


def test_who_is_told_of_what_is_remembered_for_the_next_start(tmp_path: Path) -> None:
    chosen = Settings(notice_email="email-server-credentials/notices", notice_from="Builder <b@example.com>")
    told = service(home=tmp_path, notices=chosen.notices)
    file = tmp_path / "service.env"
    file.write_text(service_environment(told), encoding="utf-8")
    again = Settings(_env_file=file)
    assert again.notices == chosen.notices
    assert again.notice_from == "Builder <b@example.com>"
    assert Settings().notices["TMUX_BUILDER_NOTICE_EMAIL"] == "", "off unless told"


def test_a_shell_and_the_settings_read_the_same_from_service_env(tmp_path: Path) -> None:
    told = service(home=tmp_path)
    (tmp_path / "service").mkdir()
    file = tmp_path / "service" / "service.env"
    file.write_text(service_environment(told))
    shell = subprocess.run(
        ["sh", "-c", f"set -a; . {file}; env -0"], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True
    )
    seen = dict(line.split("=", 1) for line in shell.stdout.decode().split("\0") if line)
    assert {name: seen[name] for name in told.client_environment} == told.client_environment
    settings = subprocess.run(
        [
            sys.executable,
            "-c",
            "from blocks.settings import settings; s = settings(); print(s.registry_url, s.sites_port)",
        ],
        env={"PATH": os.environ["PATH"], "TMUX_BUILDER_HOME": str(tmp_path)},
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert settings.stdout == f"{told.registry_url.get_secret_value()} 8501\n"


def test_a_variable_that_is_set_to_nothing_is_as_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = tmp_path / "service.env"
    stored.write_text("TMUX_BUILDER_NOTICE_EMAIL=email-server-credentials/notices\nTMUX_BUILDER_SITES_PORT=9000\n")
    for name in ("NOTICE_EMAIL", "NOTICE_REQUESTERS", "SITES_PORT", "DATABASE_URL"):
        monkeypatch.setenv(f"TMUX_BUILDER_{name}", "")
    found = Settings(_env_file=stored)
    assert (found.notice_email, found.notice_requesters, found.sites_port, found.database_url) == ("", True, 8401, None)


@pytest.mark.parametrize("value", ["a'b", 'a"b', "a\\b", "a`b`", "$HOME", "a\nX=1", "a\x00", "a #b", "a ;b"])
def test_what_no_generated_file_can_hold_is_refused_by_name(value: str) -> None:
    with pytest.raises(ServiceRefused, match=r"TMUX_BUILDER_DATABASE_URL: .*percent-encode"):
        refuse_unsafe("TMUX_BUILDER_DATABASE_URL", value)


@pytest.mark.parametrize("value", ["postgresql://u:p%40@h/d?a=b&c#d;e", "/home/Jörg/my sites", "k3y_-=", "~/x,y"])
def test_what_they_can_hold_is_taken(value: str) -> None:
    refuse_unsafe("X", value)


def test_a_folder_with_a_percent_sign_is_refused() -> None:
    with pytest.raises(ServiceRefused, match="TMUX_BUILDER_HOME: /srv/100% holds a %"):
        refuse_path("TMUX_BUILDER_HOME", Path("/srv/100%"))


def test_a_home_whose_sockets_would_have_too_long_names_is_refused_with_what_fits() -> None:
    with pytest.raises(ServiceRefused, match=r"at most (7[0-9]) bytes"):
        refuse_long_home(Path("/" + "x" * 90))
    refuse_long_home(Path("/" + "x" * 70))
