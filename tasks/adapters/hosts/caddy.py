"""The site server's configuration: one file for every local site, so that publishing reloads nothing.

Directives: https://caddyserver.com/docs/caddyfile/directives
"""

import re
import socket
import sysconfig
from pathlib import Path

from tasks.adapters.hosts.app_folder import PLAN, SOCKET
from tasks.adapters.hosts.local import sites_folder
from tasks.adapters.workspace import write_atomic
from tasks.domain.release import (
    EXTENSIONS,
    HASHED,
    HASHED_NAME,
    MARKER_PATH,
    REVALIDATE,
    SHORT,
    cache_control,
    content_type,
)

LOOPBACK = ("127.0.0.1", "::1")

_LABEL = "tmux-[0-9a-f]{8}-[0-9a-f]{8}"

_NO_EXTENSION = r"(?:/[^./]*|\.)$"
"""How `domain.release.cache_control` tells names apart, in RE2; a test compares the two on a served site."""

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%(title)s</title>
<style>
:root { color-scheme: light dark; font: 1.1rem/1.6 system-ui, sans-serif }
body { max-width: 34rem; margin: 18vh auto; padding: 0 1.5rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem }
p { margin: 0 0 .75rem; opacity: .8 }
</style>
<h1>%(title)s</h1>
<p>%(text)s</p>
</html>"""

_NO_SITE = {
    "title": "There is no site at this address",
    "text": "It was never published here, or it has been taken down.",
}
_NO_PAGE = {
    "title": "This page does not exist",
    "text": 'The address may be mistyped. <a href="/">Go to the start page</a>.',
}
_NOT_DONE = {
    "title": "This request could not be answered",
    "text": 'The site shows pages, and this was not a request for one. <a href="/">Go to the start page</a>.',
}

_NO_ANSWER = {
    "title": "This site does not answer at the moment",
    "text": "Its program has stopped or is starting. Try again in a few seconds.",
}
_TOO_LARGE = {
    "title": "That is too large",
    "text": "This site takes at most 25 MB at a time.",
}

_CONFIG = r"""# Written by `make up` from tasks/adapters/hosts/caddy.py; changes here are lost.
{
	# No admin port, nothing saved or fetched: the configuration is this file, and certificates are no use on loopback.
	admin off
	persist_config off
	auto_https off
	grace_period 2s
	log {
		level WARN
	}
	servers {
		protocols h1
		max_header_size 16KB
		timeouts {
			read_header 10s
			read_body 10s
			idle 2m
		}
	}
}

(always) {
	header {
		X-Content-Type-Options nosniff
		Referrer-Policy strict-origin-when-cross-origin
		# Only who may frame the site: any further policy could break what was generated.
		Content-Security-Policy "frame-ancestors 'self'"
		# A file's time is a function of its content (see content_mtime_ns), good for ETag and not for people.
		-Last-Modified
		-Server
	}
	# Apart from the block above: what is removed there is removed, and set, after the answer was made.
	header Cache-Control "%(revalidate)s"
	request_header -If-Modified-Since
	request_header -If-Unmodified-Since
}

http://:%(port)d {
	bind %(addresses)s

	# The label's shape is the whole check: nothing else of a request's host reaches a path on disk.
	@site header_regexp site Host ^(%(label)s)\.localhost(?::[0-9]+)?$
	handle @site {
		# What `live` leads to tells a program from pages: a plan, which no package can hold, being hidden.
		@app file {
			root "%(root)s/{re.site.1}/live"
			try_files /%(plan)s
		}
		handle @app {
			encode zstd gzip
			@marker path /%(marker)s
			handle @marker {
				import always
				root "%(root)s/{re.site.1}/live"
				header Content-Type application/json
				file_server
			}
			handle {
				header {
					>X-Content-Type-Options nosniff
					?Referrer-Policy strict-origin-when-cross-origin
					+Content-Security-Policy "frame-ancestors 'self'"
					?Cache-Control "%(revalidate)s"
					-Server
					-X-Powered-By
				}
				request_body {
					max_size 25MB
				}
				# By the pointer, as the marker above, and anew for each request: a kept connection outlives a switch.
				# Relative to the folder that the server was started in, since a socket's path is short.
				reverse_proxy unix/{re.site.1}/live/%(socket)s {
					# A program that is started again is waited for. Only where it has not seen the request: what made
					# it end would end it again.
					lb_try_duration 4s
					lb_try_interval 50ms
					lb_retry_match {
						expression false
					}
					transport http {
						keepalive off
						dial_timeout 2s
						response_header_timeout 60s
					}
				}
			}
		}

		handle {
			root "%(root)s/{re.site.1}/live"
			encode zstd gzip
			import always
			route {
				# Releases hold no hidden files; this holds where one got in.
				@hidden {
					path_regexp /\.
					not path /.well-known/*
				}
				error @hidden 404
				@deep_hidden path_regexp ^/.+/\.
				error @deep_hidden 404

				@index {
					path */
					file {path}index.html
				}
				rewrite @index {path}index.html
				@no_index path */
				error @no_index 404
				@clean {
					not file {path}
					file {path}.html
				}
				rewrite @clean {path}.html

				@file file {path}
				handle @file {
					map {path} {content_type} {
%(types)s
					}
					map {path} {cache_control} {
%(caching)s
					}
					header Content-Type {content_type}
					header Cache-Control {cache_control}
					file_server
				}
				# Not a file: a folder without its slash is redirected, the rest is 404.
				file_server
			}
		}
	}
	handle {
		error 404
	}

	handle_errors {
		import always
		@broken_app {
			header_regexp site Host ^(%(label)s)\.localhost(?::[0-9]+)?$
			file {
				root "%(root)s/{re.site.1}/live"
				try_files /%(plan)s
			}
		}
		handle @broken_app {
			header Content-Type "text/html; charset=utf-8"
			@too_large expression {err.status_code} == 413
			respond @too_large <<PAGE
%(too_large)s
PAGE 413
			header Retry-After 5
			respond <<PAGE
%(no_answer)s
PAGE {err.status_code}
		}
		@own_page {
			header_regexp site Host ^(%(label)s)\.localhost(?::[0-9]+)?$
			expression {err.status_code} == 404
			file {
				root "%(root)s/{re.site.1}/live"
				try_files /404.html
			}
		}
		handle @own_page {
			root "%(root)s/{re.site.1}/live"
			encode zstd gzip
			# The page belongs to every missing path: no condition of the request is about it.
			request_header -Range
			request_header -If-Match
			rewrite /404.html
			header Content-Type "text/html; charset=utf-8"
			header -Etag
			file_server
		}
		@live {
			header_regexp site Host ^(%(label)s)\.localhost(?::[0-9]+)?$
			file {
				root "%(root)s/{re.site.1}/live"
				try_files /%(marker)s
			}
		}
		header Content-Type "text/html; charset=utf-8"
		handle @live {
			@missing expression {err.status_code} == 404
			respond @missing <<PAGE
%(no_page)s
PAGE 404
			respond <<PAGE
%(not_done)s
PAGE {err.status_code}
		}
		respond <<PAGE
%(no_site)s
PAGE 404
	}
}
"""


def caddyfile(home: Path, port: int, addresses: tuple[str, ...] = LOOPBACK) -> str:
    """Serves ``{home}/sites/{site}/live`` as ``http://{site}.localhost:{port}``, on these addresses and no other.

    Types and caching are those that `domain.release.headers_for` puts into the manifest. Raises ValueError for a home
    that Caddy would read as a pattern or a placeholder.
    """
    root = str(sites_folder(home))
    if not root.isprintable() or set(root) & set('{}"`*?['):
        raise ValueError(
            f"TMUX_BUILDER_HOME: {str(home)!r} holds a character that Caddy gives a meaning; "
            'expected a path without {, }, ", `, *, ?, [ and control characters'
        )
    return _CONFIG % {
        "port": port,
        "addresses": " ".join(f"[{address}]" if ":" in address else address for address in addresses),
        "root": root,
        "label": _LABEL,
        "revalidate": REVALIDATE,
        "marker": MARKER_PATH,
        "types": _indented(_types()),
        "caching": _indented(_caching()),
        "no_site": _PAGE % _NO_SITE,
        "no_page": _PAGE % _NO_PAGE,
        "not_done": _PAGE % _NOT_DONE,
        "no_answer": _PAGE % _NO_ANSWER,
        "too_large": _PAGE % _TOO_LARGE,
        "plan": PLAN,
        "socket": SOCKET,
    }


def _types() -> list[str]:
    known = [f'~(?i){re.escape(extension)}$ "{content_type("x" + extension)}"' for extension in EXTENSIONS]
    return [*known, f'default "{content_type("x")}"']


def _caching() -> list[str]:
    always = [extension for extension in EXTENSIONS if cache_control("x.0a0a0a0a" + extension) == REVALIDATE]
    unless_hashed = [each for each in EXTENSIONS if cache_control("x" + each) == REVALIDATE and each not in always]
    return [
        *(f'~(?i){re.escape(extension)}$ "{REVALIDATE}"' for extension in always),
        f'~{_NO_EXTENSION} "{REVALIDATE}"',
        f'~{HASHED_NAME} "{HASHED}"',
        *(f'~(?i){re.escape(extension)}$ "{REVALIDATE}"' for extension in unless_hashed),
        f'default "{SHORT}"',
    ]


def _indented(lines: list[str]) -> str:
    return "\n".join(f"\t\t\t\t\t\t{line}" for line in lines)


def write_config(home: Path, port: int) -> Path:
    """Write the configuration below the home and return its path; ::1 is served where this machine has it."""
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sites_folder(home).mkdir(parents=True, exist_ok=True, mode=0o700)
    config = folder / "Caddyfile"
    write_atomic(config, caddyfile(home, port, tuple(address for address in LOOPBACK if _has(address))))
    return config


def site_server_argv(home: Path) -> list[str]:
    """Runs the site server in the foreground, with what `write_config` wrote; SIGTERM ends it.

    It starts with an empty environment, since the worker's may hold credentials, and keeps its own files below the
    home instead of the user's ~/.config and ~/.local.
    """
    folder = _folder(home)
    caddy = Path(sysconfig.get_path("scripts")) / "caddy"
    own = [f"{name}={folder}" for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")]
    run = [str(caddy), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    # In the folder of the sites: the sockets of apps are found from there.
    return ["/usr/bin/env", "-i", "-C", str(sites_folder(home)), *own, *run]


def _folder(home: Path) -> Path:
    return home / "service" / "sites"


def _has(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
