"""What the record answers, and how fast, when it holds 100,000 executions: one per user, on a PostgreSQL of its own."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg

from deployments.postgres import PrivateCluster
from tasks.adapters.registry import Registry, migrate
from tasks.domain.pipeline import Verb
from tasks.domain.request import SiteRequest
from tests.support.databases import free_port

REQUEST = SiteRequest(requirements="A bakery", email="bench@example.com", phone="+4915112345678")

# Ids are made of the number n: the first eight digits of a user's GUID, and a session in the year 2026.
_FILL = """
CREATE TEMP TABLE n AS SELECT n, lpad(to_hex(n), 8, '0') AS hex,
  'sess' || to_char(timestamp '2026-01-01' + n * interval '1 second', 'YYYYMMDDHH24MISS') AS session
  FROM generate_series(1, %(count)s) AS n;
INSERT INTO users (user_id, email, phone, created_at)
  SELECT hex || '-0000-4000-8000-000000000000', 'p' || n || '@example.com', '+4915112345678', now() FROM n;
INSERT INTO sessions (session_id, user_id, created_at)
  SELECT session, hex || '-0000-4000-8000-000000000000', now() FROM n;
INSERT INTO executions (execution_id, user_id, session_id, status, current_step, request, created_at, updated_at)
  SELECT hex || '_' || session, hex || '-0000-4000-8000-000000000000', session, 'completed', 9, %(request)s,
         now() - n * interval '1 second', now() FROM n;
INSERT INTO runs (run_id, execution_id, verb, status, attempt, flow_run_id, leads, created_at, ended_at)
  SELECT hex || '-0000-4000-9000-000000000000', hex || '_' || session, 'full-build', 'completed', 1,
         hex || '-0000-4000-a000-000000000000', true, now(), now() FROM n;
INSERT INTO steps (run_id, step, status, attempt, outcome, started_at, finished_at)
  SELECT hex || '-0000-4000-9000-000000000000', step, 'done', 1, '{}', now(), now()
  FROM n, generate_series(1, 9) AS step;
INSERT INTO sites (site_name, site_id, execution_id, url, live_release, good_release, state, created_at)
  SELECT 'tmux-' || hex || '-00000000', hex, hex || '_' || session, 'http://localhost', 'r1-000000000000',
         'r1-000000000000', 'live', now() FROM n;
INSERT INTO leases (site_name, fence) SELECT 'tmux-' || hex || '-00000000', 1 FROM n;
INSERT INTO events (execution_id, run_id, kind, data, at)
  SELECT hex || '_' || session, hex || '-0000-4000-9000-000000000000', 'step_done', '{}', now()
  FROM n, generate_series(1, 9);
"""


def measure(count: int = 100_000, rounds: int = 50) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tb-bench-", dir="/tmp") as folder:
        cluster = PrivateCluster(Path(folder), free_port(), durable=False)
        cluster.init()
        with Path(folder, "log").open("wb") as log, Popen(cluster.argv(), stdout=log, stderr=log) as server:
            try:
                cluster.wait_ready()
                cluster.create_database("registry")
                return _measured(cluster.url("registry"), count, rounds)
            finally:
                server.send_signal(2)


def _measured(url: str, count: int, rounds: int) -> dict[str, Any]:
    migrate(url)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = psycopg.ClientCursor(connection)
        cursor.execute(_FILL, {"count": count, "request": REQUEST.model_dump_json()})
        cursor.execute("ANALYZE")
    registry = Registry.open(url)
    try:
        execution_id = registry.executions(limit=1)[0].execution_id
        accepted = registry.accept(REQUEST, "bench")
        (middle,) = registry.find_executions(f"{count // 2:08x}")
        queries: dict[str, Callable[[], object]] = {
            "progress of one": lambda: registry.progress(execution_id),
            "one execution": lambda: registry.execution(execution_id),
            "the newest 100": lambda: registry.executions(limit=100),
            "one user's": lambda: registry.executions(accepted.user_id),
            "one person's, by e-mail": lambda: registry.find_executions(f"p{count // 2}@example.com"),
            "a page from the middle of all": lambda: registry.find_executions(before=(middle.created_at, "")),
            "its events": lambda: registry.events(execution_id),
            "what waits to be dispatched": registry.undispatched,
            "what is active": registry.active_runs,
            "ask for a run": lambda: registry.request_run(accepted.execution_id, Verb.REDEPLOY, str(time.time_ns())),
            "accept a request": lambda: registry.accept(REQUEST, str(time.time_ns())),
        }
        return {"executions": count, "median_ms": {name: _median_ms(ask, rounds) for name, ask in queries.items()}}
    finally:
        registry.close()


def _median_ms(ask: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return round(1000 * statistics.median(taken), 2)
