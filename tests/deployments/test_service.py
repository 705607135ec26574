"""What `make up` leaves running."""

import http.client
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import httpx
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.exceptions import PrefectHTTPStatusError

from deployments.processes import Record
from tests.support.databases import free_port
from tests.support.service import PROGRAMS, ServiceUnderTest, processes_of, until


def ask(
    service: ServiceUnderTest, method: str, path: str, *, auth: bool = False, **headers: str
) -> http.client.HTTPResponse:
    if auth:
        headers["Authorization"] = "Basic " + b64encode(service.auth_string.encode()).decode()
    connection = http.client.HTTPConnection(service.ui_url.removeprefix("http://"), timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse()


def test_a_second_up_changes_nothing_and_says_the_same(service: ServiceUnderTest) -> None:
    before = {program: service.process(program) for program in (*PROGRAMS, "supervisord")}
    assert all(process.alive() for process in before.values())
    first, second = service.make("up"), service.make("up")
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout
    assert service.ui_url in first.stdout
    assert str(service.home / "service" / "prefect-auth-string") in first.stdout
    assert "make down" in first.stdout
    assert service.auth_string.split(":")[1] not in first.stdout
    assert {program: service.process(program) for program in before} == before


def test_up_remembers_what_it_was_told(service: ServiceUnderTest) -> None:
    forgetful = {name: value for name, value in service.base.items() if not name.endswith("_PORT")}
    again = service.run("deployments.service", "up", environment=forgetful)
    assert again.returncode == 0, again.stderr
    assert service.ui_url in again.stdout


def test_up_does_not_pretend_that_other_settings_came_into_force(service: ServiceUnderTest) -> None:
    refused = service.make("up", TMUX_BUILDER_SITES_PORT=str(free_port()))
    assert refused.returncode == 1
    assert "make down first, then make up" in refused.stderr


def test_the_api_answers_nobody_without_the_auth_string(service: ServiceUnderTest) -> None:
    assert ask(service, "GET", "/api/health").status == 200
    for path in ("/api/admin/version", "/api/admin/settings", "/api/flow_runs/" + "0" * 32, "/api/block_types/"):
        assert ask(service, "GET", path).status == 401, path
    assert ask(service, "GET", "/api/admin/version", Authorization="Basic YWRtaW46eA==").status == 401
    assert ask(service, "GET", "/api/admin/version", auth=True).status == 200


def test_a_write_needs_a_csrf_token_besides(service: ServiceUnderTest) -> None:
    assert ask(service, "POST", "/api/flows/count", auth=True).status == 403


def test_a_page_from_elsewhere_may_not_call_the_api(service: ServiceUnderTest) -> None:
    preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", service.ui_url + ".evil.example"):
        answer = ask(service, "OPTIONS", "/api/flow_runs/filter", Origin=origin, **preflight)
        assert answer.status == 400, origin
        assert answer.getheader("Access-Control-Allow-Origin") is None
    assert ask(service, "OPTIONS", "/api/flow_runs/filter", Origin=service.ui_url, **preflight).status == 200


def test_a_name_that_was_rebound_to_this_machine_gets_nowhere_without_the_auth_string(
    service: ServiceUnderTest,
) -> None:
    assert ask(service, "GET", "/api/admin/version", Host="rebound.example").status == 401


def test_nothing_listens_beyond_this_machine(service: ServiceUnderTest) -> None:
    addresses = listening(service.home)
    assert len(addresses) >= 3
    assert {address for address, _ in addresses} <= {"127.0.0.1", "::1"}
    assert {port for _, port in addresses} >= {
        int(service.told[name])
        for name in (
            "PREFECT_SERVER_API_PORT",
            "TMUX_BUILDER_WEB_PORT",
            "TMUX_BUILDER_SITES_PORT",
            "TMUX_BUILDER_POSTGRES_PORT",
        )
    }


def listening(home: Path) -> set[tuple[str, int]]:
    """Where the processes of this home take TCP connections (proc(5): /proc/net/tcp; state 0A is LISTEN)."""
    sockets = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] != "0A":
                continue
            packed, port = fields[1].split(":")
            words = [bytes.fromhex(packed[start : start + 8])[::-1] for start in range(0, len(packed), 8)]
            sockets[f"socket:[{fields[9]}]"] = (socket.inet_ntop(family, b"".join(words)), int(port, 16))
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if str(home).encode() not in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                continue
            links = [str(entry.readlink()) for entry in (folder / "fd").iterdir()]
        except OSError:
            continue
        found |= {sockets[link] for link in links if link in sockets}
    return found


def test_what_up_writes_is_the_owners_alone(service: ServiceUnderTest) -> None:
    assert service.home.stat().st_mode & 0o077 == 0
    for path in [service.home / "service", *(service.home / "service").rglob("*"), *(service.home / "logs").glob("*")]:
        assert path.lstat().st_mode & 0o077 == 0, path


def test_no_secret_is_in_a_log_a_command_line_or_a_deployment(service: ServiceUnderTest) -> None:
    secrets = [service.auth_string.split(":")[1], (service.home / "service" / "encryption-key").read_text().strip()]
    secrets += [file.read_text().strip() for file in (service.home / "postgresql" / "passwords").iterdir()]
    assert len(secrets) >= 5
    places = {str(path): path.read_text(errors="replace") for path in (service.home / "logs").rglob("*.log*")}
    places |= {"command lines": "\n".join(processes_of(service.home))}
    for where, text in places.items():
        assert not any(secret in text for secret in secrets), where


async def test_every_deployment_is_there_with_a_form_a_schedule_and_words(service: ServiceUnderTest) -> None:
    async with service.client() as client:
        found = {deployment.name: deployment for deployment in await client.read_deployments()}
        nightly = await client.read_deployment_by_name("reverify/nightly")
        build = await client.read_deployment_by_name("full-build/on-demand")
        redeploy = await client.read_deployment_by_name("redeploy/on-demand")
        pool = await client.read_work_pool("tmux-builder")
        block = await client.read_block_document_by_name("default", "local-hosting")
    assert len(found) >= 2
    assert pool.type == "process"
    assert block.data["keep_releases"] >= 1
    (schedule,) = nightly.schedules
    assert (schedule.slug, schedule.active) == ("nightly", True)
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("15 3 * * *", "UTC")
    for deployment in (nightly, build, redeploy):
        assert deployment.enforce_parameter_schema
        assert deployment.work_pool_name == "tmux-builder"
        assert len(deployment.description) > 100
        assert deployment.pull_steps == []
        assert deployment.job_variables["command"] == "bash deployments/engine.sh"
        assert set(deployment.job_variables) == {"command", "working_dir", "stream_output"}
    request = build.parameter_openapi_schema["definitions"]["SiteRequest"]["properties"]
    assert all(field["title"] and field["description"] for field in request.values())


async def test_what_the_form_forbids_is_refused_before_a_run_exists(service: ServiceUnderTest) -> None:
    async with service.client() as client:
        redeploy = await client.read_deployment_by_name("redeploy/on-demand")
        with pytest.raises(PrefectHTTPStatusError, match="409") as refusal:
            await client.create_flow_run_from_deployment(
                redeploy.id, parameters={"execution_id": "../../etc"}, name="refused run"
            )
        assert "execution_id" in refusal.value.response.text
        named = FlowRunFilter(name=FlowRunFilterName(any_=["refused run"]))
        assert await client.read_flow_runs(flow_run_filter=named) == []


def test_a_shell_that_reads_service_env_can_use_the_prefect_command(service: ServiceUnderTest) -> None:
    file = service.home / "service" / "service.env"
    listed = subprocess.run(
        ["sh", "-c", f"set -a; . {file}; set +a; {sys.executable} -m prefect deployment ls"],
        env=dict(service.base),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert listed.returncode == 0, listed.stderr
    assert "full-build/on-demand" in listed.stdout


def test_registering_again_changes_nothing_and_keeps_a_block_that_somebody_changed(service: ServiceUnderTest) -> None:
    change = (
        "import sys; from blocks.local_hosting import LocalHosting;"
        "block = LocalHosting.load('default'); before = block.keep_releases;"
        "block.keep_releases = int(sys.argv[1]); block.save('default', overwrite=True); print(before)"
    )

    def keep(count: str) -> str:
        argv = [sys.executable, "-c", change, count]
        done = subprocess.run(argv, env=service.environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    original = keep("17")
    again = service.run("deployments.register")
    assert again.returncode == 0, again.stdout + again.stderr
    assert keep(original) == "17"


def test_the_front_door_answers_and_holds_no_key_of_prefects(service: ServiceUnderTest) -> None:
    url = f"http://127.0.0.1:{service.told['TMUX_BUILDER_WEB_PORT']}"
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/api/health").json() == {"status": "ok"}
        assert client.post("/api/create-user", json={}).status_code == 401, "the form is closed by default"
    environment = Path(f"/proc/{service.process('web').pid}/environ").read_bytes()
    assert service.auth_string.encode() not in environment
    assert b"PREFECT_API" not in environment


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_killed_comes_back_and_works(service: ServiceUnderTest, program: str) -> None:
    killed = service.process(program)
    assert killed.send(signal.SIGKILL)

    def complaint() -> str | None:
        record = Record.read(service.home / "run" / "programs" / program)
        back = record is not None and record.process != killed and record.process.alive()
        return None if back else f"{program} is not back"

    until(complaint, 60)
    again = service.make("up")
    assert again.returncode == 0, again.stderr
    assert ask(service, "GET", "/api/admin/version", auth=True).status == 200
