"""The front door as a process of its own, as `make up` starts it."""

import subprocess
import sys
import time
from pathlib import Path

import httpx

from tasks.adapters.registry import Registry
from tests.support.databases import free_port
from tests.support.service import ROOT
from tests.tasks.adapters.registry.orders import an_execution


def test_it_serves_until_it_is_told_to_stop_also_with_a_stream_open(quick_registry: Registry, tmp_path: Path) -> None:
    accepted = an_execution(quick_registry)
    port = free_port()
    environment = {
        "TMUX_BUILDER_HOME": str(tmp_path),
        "TMUX_BUILDER_DATABASE_URL": quick_registry.engine.url.render_as_string(hide_password=False),
        "TMUX_BUILDER_WEB_PORT": str(port),
    }
    (tmp_path / "front.env").write_text("TMUX_BUILDER_WEB_FORM=open\n")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.front"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
            end = time.monotonic() + 60
            while True:
                try:
                    assert client.get("/api/health").json() == {"status": "ok"}
                    break
                except httpx.ConnectError:
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    assert time.monotonic() < end
                    time.sleep(0.1)
            order = {"email": "ana@example.com", "phone": "+4915112345678", "requirements": "A bakery"}
            told = client.post("/api/create-user", json=order)
            assert told.status_code == 202, "front.env opened the form"
            assert "server" not in told.headers
            link = {"Authorization": f"Bearer {told.json()['token']}"}
            with client.stream("GET", f"/api/executions/{told.json()['execution_id']}/events", headers=link) as stream:
                assert next(stream.iter_lines()).startswith("retry")
                process.terminate()
                assert process.wait(15) is not None
        log_text = (tmp_path / "log").read_text()
        for secret in (told.json()["token"], "ana@example.com", accepted.execution_id):
            assert secret not in log_text
    finally:
        process.kill()
        process.wait(10)


def test_without_a_schema_it_says_what_to_do(tmp_path: Path) -> None:
    environment = {"TMUX_BUILDER_HOME": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-m", "deployments.front"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 1
    assert "python -m tasks.adapters.registry" in told.stderr
    assert "Traceback" not in told.stderr


def test_it_loads_neither_prefect_nor_tmux_nor_a_cloud() -> None:
    program = (
        "import sys, deployments.front.__main__; "
        "print([name for name in ('prefect', 'libtmux', 'boto3', 'azure', 'playwright') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
