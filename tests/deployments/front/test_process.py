"""The front door as a process of its own, as `make up` starts it."""

import subprocess
import sys
from pathlib import Path

import httpx

from tasks.adapters.registry import Registry
from tests.support.front import ROOT, serving
from tests.tasks.adapters.registry.orders import an_execution


def test_it_serves_until_it_is_told_to_stop_also_with_a_stream_open(quick_registry: Registry, tmp_path: Path) -> None:
    accepted = an_execution(quick_registry)
    (tmp_path / "front.env").write_text("TMUX_BUILDER_WEB_FORM=open\n")
    database = quick_registry.engine.url.render_as_string(hide_password=False)
    with serving(tmp_path, database) as (process, url), httpx.Client(base_url=url, trust_env=False) as client:
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
