"""The description of the API, and schemathesis, which believes it and tries everything that it says."""

import subprocess
import sys
from pathlib import Path

from pydantic import SecretStr

from tasks.adapters.workspace import Workspace
from tests.deployments.front.test_hooks import NEW
from tests.support.front import Door, OpenDoor, a_running_execution

CONFIGURATION = """\
[parameters]
"path.execution_id" = "{execution_id}"
"path.user_id" = "{user_id}"

# What is asked of an execution may not fit how it stands, which no description can say.
[[operations]]
include-path-regex = "/api/(chat|redeploy)/|/(cancel|retry|rollback|teardown)$"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 429, "5xx"]

# Nor can it say which telephone numbers exist.
[[operations]]
include-path = "/api/create-user"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 409, 422, 429, "5xx"]
"""


def test_schemathesis_finds_no_answer_that_the_description_does_not_know(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door(max_queue=100_000, max_per_user_day=100_000, hook_secrets=SecretStr(NEW))
    door.app.state.streams.lifetime_s = 0.05
    accepted = a_running_execution(door.registry)
    workspace = Workspace.of(door.settings.home, accepted.user_id, accepted.session_id)
    workspace.lay_out()
    for file in (workspace.plan, workspace.report, workspace.screenshots / "desktop.jpg"):
        file.write_text("something")
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION.format(execution_id=accepted.execution_id, user_id=accepted.user_id))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run"]
    command += [f"{door.url}/api/openapi.json", "-H", f"Authorization: {door.key()['Authorization']}"]
    command += ["--checks", "all", "--phases", "coverage,fuzzing", "--max-examples", "8", "--max-time", "30"]
    command += ["--seed", "1", "--no-color", "--generation-database", "none"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Tested: 23" in done.stdout, done.stdout[-4000:]


def test_everything_is_described(door: Door) -> None:
    document = door.client.get("/api/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["tags"], (method, path)
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), (method, path, parameter["name"])
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
    order = document["components"]["schemas"]["SiteRequest"]["properties"]
    assert all(field.get("title") and field.get("description") for field in order.values())
    for name in ("Problem", "Created", "ChatMessage", "ExecutionView"):
        fields = document["components"]["schemas"][name]["properties"]
        assert fields, name
    assert "HTTPValidationError" not in document["components"]["schemas"]
