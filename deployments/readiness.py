"""Whether each program does its work: checks that complain, and a clock."""

import http.client
import json
import time
import uuid
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deployments.configuration import LOOPBACK, POOL, Service, ServiceRefused
from deployments.supervision import Supervisor
from tasks.adapters.redaction import Redactor, secrets_of

Complaint = Callable[[], str | None]


def wait_for(name: str, complaint: Complaint, deadline: float, log: Path, redact: Redactor) -> None:
    """Return when ``complaint()`` has none. Raises ServiceRefused with its last words and the end of the log."""
    began = time.monotonic()
    while (words := complaint()) is not None:
        if time.monotonic() > deadline:
            raise ServiceRefused(
                f"{name} was not ready after {time.monotonic() - began:.0f} s: {words}\n"
                f"its log {log} ends:\n{redact(last_lines(log))}\nsee what is wrong there, then run make up again"
            )
        time.sleep(0.1)


def last_lines(log: Path, count: int = 12) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16_384))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError as error:
        return f"  ({error.strerror})"
    return "\n".join(f"  {line}" for line in lines[-count:]) or "  (empty)"


def credentials(auth_string: str) -> dict[str, str]:
    """The header that Prefect's server takes an auth string in."""
    return {"Authorization": f"Basic {b64encode(auth_string.encode()).decode()}"}


class Readiness:
    """One method per program; each returns a complaint, or None when the program is ready."""

    def __init__(self, service: Service, supervisor: Supervisor) -> None:
        self.service, self.supervisor = service, supervisor
        self.redact = Redactor(secrets_of(service.server_environment | service.client_environment))

    def wait(self, name: str, complaint: Complaint, deadline: float) -> None:
        wait_for(name, complaint, deadline, self.service.logs / f"{name}.log", self.redact)

    def down(self, name: str) -> str | None:
        member = self.supervisor.members()[name]
        return None if member.up else f"it is {member.state.lower()} ({member.trouble})"

    def server(self) -> str | None:
        """Healthy, and ours: it knows the auth string."""
        if not self.service.joined and (words := self.down("prefect-server")):
            return words
        status, _ = self._get("/api/health")
        if status == 200:
            status, _ = self._get("/api/admin/version", self._credentials())
            if status == 401:
                return f"{self.service.ui_url} answers, but does not know this service's auth string: it is another's"
        return None if status == 200 else f"{self.service.api_url}/health: {status or 'nothing answers'}"

    def worker(self) -> str | None:
        if words := self.down("worker"):
            return words
        status, workers = self._post(f"/api/work_pools/{POOL}/workers/filter", {})
        if status != 200:
            return f"the list of workers: {status or 'nothing answers'}"
        since = self.supervisor.members()["worker"].started_at
        beats = [
            datetime.fromisoformat(found["last_heartbeat_time"]).timestamp()
            for found in workers
            if found["name"] == self.service.worker_name and found["last_heartbeat_time"]
        ]
        return None if any(beat >= since for beat in beats) else "it has not reported to the Prefect server"

    def dispatcher(self) -> str | None:
        if words := self.down("dispatcher"):
            return words
        try:
            ready = (self.service.home / "run" / "dispatcher.ready").read_text(encoding="ascii")
        except OSError:
            ready = ""
        member = self.supervisor.members()["dispatcher"]
        return None if ready == str(member.pid) else "it has not looked through the registry once"

    def sites(self) -> str | None:
        if words := self.down("sites"):
            return words
        status, _ = self._get("/", port=self.service.sites_port)
        return None if status else f"nothing answers on {LOOPBACK}:{self.service.sites_port}"

    def web(self) -> str | None:
        if words := self.down("web"):
            return words
        status, told = self._get("/api/health", port=self.service.web_port)
        well = status == 200 and told == {"status": "ok"}
        return None if well else f"{self.service.web_url}/api/health: {status or 'nothing answers'}"

    def _credentials(self) -> dict[str, str]:
        return credentials(self.service.auth_string.get_secret_value())

    def _get(self, path: str, headers: dict[str, str] | None = None, port: int = 0) -> tuple[int, Any]:
        base = f"http://{LOOPBACK}:{port}" if port else self.service.ui_url
        return ask(base + path, "GET", headers or {}, None)

    def _post(self, path: str, body: Any) -> tuple[int, Any]:
        client = str(uuid.uuid4())
        status, token = self._get(f"/api/csrf-token?client={client}", self._credentials())
        if status != 200:
            return status, None
        headers = {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token["token"]}
        headers |= {"Content-Type": "application/json", **self._credentials()}
        return ask(self.service.ui_url + path, "POST", headers, json.dumps(body))


def ask(url: str, method: str, headers: dict[str, str], body: str | None, timeout_s: float = 2) -> tuple[int, Any]:
    """Status and JSON value; status 0 where nobody answers in time. No proxy of the environment is used."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=timeout_s)
    try:
        connection.request(method, parts._replace(scheme="", netloc="").geturl(), body, headers)
        response = connection.getresponse()
        text = response.read(1_000_000)
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
    is_json = (response.headers.get_content_type() or "") == "application/json"
    return response.status, json.loads(text) if is_json and text else None
