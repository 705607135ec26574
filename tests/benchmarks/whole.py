"""A whole offline build against a shell script that does the same raw work (`raw.sh`), engine start-up apart."""

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks.adapters import browser, suite
from tasks.adapters.agents import programs
from tasks.adapters.browser import find_browser
from tasks.adapters.workspace import Workspace
from tasks.domain import prompts
from tasks.domain.requirements import parse_requirements
from tests.flows.conftest import run_deployment
from tests.support.service import ServiceUnderTest
from tests.support.site_server import free_port

TEXT = "A dark portfolio called Northlight for a photographer, with a projects gallery, prices, FAQ and a contact form"
INSIDE = Path(browser.__file__).with_name("inside")


def raw_seconds() -> float:
    """One run of the shell script."""
    with tempfile.TemporaryDirectory(prefix="tb-raw-", dir="/tmp") as folder:  # sockets need short paths
        workspace, asked, shots, out = (Path(folder, name) for name in ("w", "prompts", "shots", "out"))
        Workspace(workspace).lay_out()
        for path in (asked, shots, out):
            path.mkdir()
        requirements = parse_requirements(TEXT)
        (workspace / "requirements.json").write_text(requirements.model_dump_json())
        port = free_port()
        host = f"raw.localhost:{port}"
        url = f"http://{host}/"
        for phase, text in {
            "planning": prompts.kickoff("raw", TEXT),
            "coding": prompts.coding("static", "output/plan.md"),
            "test_generation": prompts.test_generation(url, "deployment/tests/e2e_test.py"),
            "verification": prompts.verification(url, "deployment/tests/results.json"),
        }.items():
            (asked / f"{phase}.txt").write_text(text)
        chromium = str(find_browser(None))
        looks = {
            "url": url,
            "dial": f"127.0.0.1:{port}",
            "folder": str(shots),
            "executable": chromium,
            "arguments": list(browser._FLAGS),
            "pages": browser.PAGES,
            "pictures": browser.PICTURED,
            "links": browser.LINKS,
            "budget_s": 60.0,
            "look_s": 15.0,
            "disposable": False,
        }
        tests = {
            "suite": str(workspace / "deployment/tests/e2e_test.py"),
            "folder": str(out),
            "url": url.rstrip("/"),
            "executable": chromium,
            "arguments": list(browser._FLAGS),
            "budget_s": 100.0,
            "test_s": suite._TEST_S,
            "key": "00" * 32,
            "runner": str(INSIDE / "suite_runner.py"),
        }
        order = shots.parent / "suite.json"
        order.write_text(json.dumps(tests))
        command = [
            *("bash", str(Path(__file__).with_name("raw.sh")), str(workspace), str(asked), sys.executable),
            *(
                str(programs._OFFLINE_SOURCE.parent),
                str(Path(sysconfig.get_path("scripts")) / "caddy"),
                str(port),
                host,
            ),
            *(str(INSIDE / "photographer.py"), json.dumps(looks), str(INSIDE / "suite_supervisor.py"), str(order)),
        ]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=_environment())
        seconds = time.monotonic() - began
        # A bare file server has no 404 page of the site: the test that asks for it is red, and takes its time.
        if done.returncode or " passed" not in done.stdout:
            raise RuntimeError(f"raw.sh failed ({done.returncode}): {done.stdout[-500:]} {done.stderr[-1500:]}")
        return seconds


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


async def build_seconds(service: ServiceUnderTest) -> tuple[float, float, dict[str, float]]:
    """Seconds from step 1's start to the end of the run, before that, and of each step."""
    request = {"requirements": TEXT, "email": "bench@example.com", "phone": "+4915112345678"}
    seen = await run_deployment(service, "full-build/on-demand", {"request": request})
    assert seen.flow_run.state_name == "Completed", seen.lines
    run, first = seen.flow_run, seen.task_runs[0]
    assert run.end_time is not None
    assert run.created is not None
    assert first.start_time is not None
    steps = {task.name: round(task.total_run_time.total_seconds(), 2) for task in seen.task_runs}
    whole = (run.end_time - first.start_time).total_seconds()
    return whole, (first.start_time - run.created).total_seconds(), steps


async def measure(service: ServiceUnderTest, rounds: int) -> dict[str, Any]:
    builds, raws, starts = [], [], []
    steps: dict[str, float] = {}
    for _ in range(rounds):
        raws.append(raw_seconds())
        whole, start, steps = await build_seconds(service)
        builds.append(whole)
        starts.append(start)
    return {
        "rounds": rounds,
        "offline_build_median_s": round(statistics.median(builds), 2),
        "shell_script_median_s": round(statistics.median(raws), 2),
        "ratio": round(statistics.median(builds) / statistics.median(raws), 2),
        "target": "<= 1.3",
        "engine_start_median_s": round(statistics.median(starts), 2),
        "steps_of_the_last_build_s": steps,
        "all_s": {"build": [round(value, 2) for value in builds], "script": [round(value, 2) for value in raws]},
    }
