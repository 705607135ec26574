"""``python -m deployments.front``: serve on loopback until killed. Part of `make up`."""

import logging
import os
import sys
import time

import uvicorn

from deployments.front.app import create_app
from deployments.front.settings import front_settings, listed
from tasks.adapters.redaction import Redact, redact
from tasks.adapters.registry import Registry
from tasks.domain.errors import BuilderError

LOOPBACK = "127.0.0.1"
LONGEST_PAUSE_S = 15.0


def open_registry(url: str) -> Registry:
    pause = 0.5
    while True:
        try:
            return Registry.open(url)
        except ConnectionError as error:
            logging.getLogger("front").warning("%s", error)
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_S, pause * 2)


def main() -> None:
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(Redact())
    settings = front_settings()
    registry = open_registry(settings.registry_url)
    proxies = listed(settings.web_proxies)
    logging.getLogger("front").info("started url=%s registry=%s", settings.base_url, registry.where)
    try:
        uvicorn.run(
            create_app(registry, settings),
            host=LOOPBACK,
            port=settings.web_port,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies or None,
            access_log=False,  # addresses of requests name executions
            server_header=False,
            date_header=True,
            log_config=None,
            ws="none",
            timeout_keep_alive=20,
            timeout_graceful_shutdown=3,
            h11_max_incomplete_event_size=32 * 1024,
        )
    finally:
        registry.close()


if __name__ == "__main__":
    try:
        main()
    except (BuilderError, ValueError) as error:
        sys.exit(f"front: {redact(str(error))}")
