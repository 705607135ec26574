import inspect
import pickle

import pytest

from tasks.domain import errors
from tasks.domain.errors import BuilderError, HostingError, SiteBusy, is_transient

SAMPLES = {
    "field": "email", "found": "'x'", "allowed": "an address", "execution_id": "a1b2c3d4_sess20260124143022",
    "delivery_key": "k", "attach": "tmux attach", "waited_s": 3.0, "complaint": "nothing", "phase": "coding",
    "exit_code": 3, "last_lines": ("boom",), "last_line": "boom", "expected": "coding", "found_": "planning",
    "path": "a", "reason": "a link", "host": "local-hosting/default", "next_move": "free some space",
    "transient": False, "site": "tmux-1", "owner": "run 1", "since": "noon", "url": "http://x", "check": "screenshot",
    "findings": ("a", "b", "c", "d"), "doing": "opening", "waiting_for": "coding",
    "by_a_person": True, "cause": "health_check: HTTP 503", "serves": "release r1 serves again", "wanted": "r1",
    "kept": ("r1",), "live": "r2", "trouble": "the disk is full", "left": ("a", "b", "c", "d", "e", "f"),
    "shown": "the store refused; try again",
}  # fmt: skip

LEAVES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, BuilderError) and "__init__" in vars(kind)
]


@pytest.mark.parametrize("kind", LEAVES)
def test_an_error_survives_the_trip_between_processes_and_ends_in_a_next_move(kind: type[BuilderError]):
    names = list(inspect.signature(kind.__init__).parameters)[1:]
    error = kind(*(SAMPLES[name] for name in names))

    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert ";" in str(error), "what was found and what to do are two clauses"


def test_only_what_may_pass_by_itself_is_tried_again():
    assert is_transient(HostingError("h", "503", "wait", True))
    assert is_transient(SiteBusy("s", "o", "now"))
    assert is_transient(ConnectionResetError())
    assert not is_transient(HostingError("h", "403", "allow it"))
    assert not is_transient(ValueError("x"))
