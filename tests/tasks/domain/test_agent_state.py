from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.agent import QUESTION_TOOL, AgentEvent, AskedQuestion, Turn
from tasks.domain.agent_state import AgentState, Doing, Evidence, Passage, read_state, refusal

WORKING = Evidence("planning", Turn.WORKING)
STOPPED = Evidence("planning", Turn.IDLE, AgentEvent("Stop", message="I have a question"))
DONE = replace(STOPPED, signals=("planning",))
THEME = AskedQuestion("Theme", "Dark or light?", ("Dark", "Light"))
SIZE = AskedQuestion("Size", "How many pages?", ("1", "5"))
ASKING = AgentEvent("PermissionRequest", tool=QUESTION_TOOL, questions=(THEME, SIZE))
SPENT = Passage("budget", "/v1/messages")
KEY_REFUSED = Passage("model", "/v1/messages", 401)


@pytest.mark.parametrize(
    ("evidence", "doing"),
    [
        (Evidence("planning", Turn.STARTING), Doing.STARTING),
        (WORKING, Doing.WORKING),
        (Evidence("planning", Turn.WAITING, AgentEvent("PermissionRequest", tool="Bash")), Doing.PERMISSION),
        (Evidence("planning", Turn.WAITING, ASKING), Doing.QUESTION),
        (STOPPED, Doing.IDLE),
        (Evidence("planning", Turn.ENDED), Doing.IDLE),
        (DONE, Doing.DONE),
        (replace(WORKING, ended=True), Doing.CRASHED),
        (replace(WORKING, overdue=True), Doing.SILENT),
        (replace(WORKING, passages=(SPENT,)), Doing.REFUSED),
    ],
    ids=lambda value: value.name if isinstance(value, Doing) else "",
)
def test_what_it_does_is_read_from_the_evidence(evidence: Evidence, doing: Doing) -> None:
    assert read_state(evidence).doing is doing


def test_a_person_is_needed_where_it_waits_and_nowhere_else() -> None:
    assert {doing for doing in Doing if doing.needs_person} == {Doing.PERMISSION, Doing.QUESTION, Doing.IDLE}


# --- done --------------------------------------------------------------------------------------------------------


def test_it_is_done_only_once_its_turn_has_ended_and_its_own_phase_is_signalled() -> None:
    assert read_state(replace(STOPPED, signals=("coding",))).doing is Doing.IDLE
    assert read_state(replace(STOPPED, signals=("coding", "planning", "coding"))).doing is Doing.DONE
    for turn in (Turn.STARTING, Turn.WORKING):
        assert read_state(replace(DONE, turn=turn)).doing is Doing(turn.value)
    assert read_state(replace(DONE, turn=Turn.WAITING)).doing is Doing.PERMISSION


def test_what_was_signalled_counts_even_where_the_model_has_refused_since() -> None:
    refused = replace(DONE, passages=(SPENT, KEY_REFUSED), dollars=9.0, dollars_allowed=1.0, overdue=True)
    assert read_state(refused).doing is Doing.DONE
    assert read_state(replace(refused, signals=())).doing is Doing.REFUSED
    assert read_state(replace(DONE, last=AgentEvent("StopFailure", kind="rate_limit"))).doing is Doing.DONE


@given(
    turn=st.sampled_from(Turn),
    last=st.sampled_from([None, ASKING, AgentEvent("StopFailure", kind="rate_limit")]),
    signals=st.sampled_from([(), ("planning",)]),
    passages=st.sampled_from([(), (SPENT,), (KEY_REFUSED,)]),
    overdue=st.booleans(),
)
def test_a_program_that_has_ended_has_crashed_whatever_it_told(
    turn: Turn,
    last: AgentEvent | None,
    signals: tuple[str, ...],
    passages: tuple[Passage, ...],
    overdue: bool,
) -> None:
    told = Evidence("planning", turn, last, signals, passages, overdue=overdue)
    ended = replace(told, ended=True, exit_code=3, last_lines=("Killed",))
    assert read_state(ended) == AgentState(Doing.CRASHED, exit_code=3, last_lines=("Killed",))
    assert read_state(told).doing is not Doing.CRASHED


# --- waiting -----------------------------------------------------------------------------------------------------


def test_a_permission_says_for_what() -> None:
    asked = AgentEvent("PermissionRequest", tool="Bash", about="curl example.com")
    assert read_state(replace(WORKING, turn=Turn.WAITING, last=asked)).words == "may it use Bash: curl example.com?"
    assert read_state(replace(WORKING, turn=Turn.WAITING)).doing is Doing.PERMISSION


def test_a_question_brings_its_questions_and_choices() -> None:
    state = read_state(replace(WORKING, turn=Turn.WAITING, last=ASKING))
    assert state.words == "Dark or light?\nHow many pages?"
    assert state.questions == (THEME, SIZE)


def test_a_question_tool_that_asks_nothing_waits_for_a_permission() -> None:
    assert read_state(replace(WORKING, turn=Turn.WAITING, last=replace(ASKING, questions=()))).doing is Doing.PERMISSION
    assert read_state(replace(WORKING, turn=Turn.WAITING, last=replace(ASKING, tool="Bash"))).doing is Doing.PERMISSION


def test_who_stopped_without_a_signal_has_its_last_words_shown() -> None:
    assert read_state(STOPPED).words == "I have a question"


# --- refused -----------------------------------------------------------------------------------------------------

KINDS = {
    "authentication_failed": ("does not take the key", "the key in the coding agent's block"),
    "billing_error": ("no credit left", "add credit"),
    "rate_limit": ("usage limit of the key is reached", "wait until it is lifted"),
    "server_error": ("failed again and again", "retry the run in a while"),
    "invalid_request": ("refused the request", "the model in the agent's block"),
    "unknown": ("its turn failed", "see its screen"),
    "": ("its turn failed", "see its screen"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_that_failed_says_why_and_what_to_do(kind: str) -> None:
    failed = AgentEvent("StopFailure", kind=kind, message="API Error: " + "x" * 1000)
    state = read_state(replace(STOPPED, last=failed))
    words, next_move = KINDS[kind]
    assert state.doing is Doing.REFUSED
    assert words in state.words
    assert state.words.endswith(": " + failed.message[:300])
    assert next_move in state.next_move
    assert not read_state(replace(STOPPED, last=AgentEvent("StopFailure", kind=kind))).words.endswith(": ")


def test_a_failure_of_a_turn_that_goes_on_is_none() -> None:
    failed = AgentEvent("StopFailure", kind="server_error")
    for turn in Turn:
        assert (refusal(replace(WORKING, turn=turn, last=failed)) is None) is (turn is not Turn.IDLE)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_gateway_saw_refused_is_named_even_while_the_agent_tries_again(status: int) -> None:
    tried = (Passage("model", "/v1/messages", 200), Passage("model", "/v1/messages", status))
    state = read_state(replace(WORKING, passages=tried))
    assert (state.doing, state.words) == (Doing.REFUSED, f"the model's API does not take the key (HTTP {status})")
    assert "the key in the coding agent's block" in state.next_move


@pytest.mark.parametrize(
    "passage",
    [
        *(Passage("model", "/v1/messages", status) for status in (0, 200, 400, 404, 429, 500, 529)),
        *(Passage("model", "/v1/messages/count_tokens", status) for status in (401, 403)),
        Passage("deny", "example.com:443", 403),
        Passage("deny", "/v1/messages", 403),
        Passage("allow", "example.com:443"),
        Passage("unreachable", "api.anthropic.com"),
    ],
    ids=lambda passage: f"{passage.verdict} {passage.target} {passage.status}",
)
def test_what_the_program_itself_tries_again_or_does_without_is_no_refusal(passage: Passage) -> None:
    assert read_state(replace(WORKING, passages=(passage,))).doing is Doing.WORKING


@pytest.mark.parametrize("status", [200, 429, 529])
def test_a_key_that_was_taken_after_all_ends_nothing(status: int) -> None:
    tried = (KEY_REFUSED, Passage("model", "/v1/messages", status))
    counted = Passage("model", "/v1/messages/count_tokens", 401)
    assert read_state(replace(WORKING, passages=(*tried, counted))).doing is Doing.WORKING
    assert read_state(replace(WORKING, passages=(*tried, KEY_REFUSED))).doing is Doing.REFUSED
    assert read_state(replace(WORKING, passages=(KEY_REFUSED, replace(counted, status=200)))).doing is Doing.REFUSED


def test_a_spent_budget_of_requests_ends_it() -> None:
    state = read_state(replace(WORKING, passages=(Passage("model", "/v1/messages", 200), SPENT)))
    assert (state.doing, state.words) == (Doing.REFUSED, "its budget of model requests is spent")
    assert "raise it" in state.next_move


def test_it_may_cost_what_is_allowed_and_no_more() -> None:
    assert read_state(replace(WORKING, dollars=5.0, dollars_allowed=5.0)).doing is Doing.WORKING
    assert read_state(replace(WORKING, dollars=500.0)).doing is Doing.WORKING
    state = read_state(replace(WORKING, dollars=5.011, dollars_allowed=5.0))
    assert (state.doing, state.words) == (Doing.REFUSED, "it has cost $5.01, and $5.00 are allowed")
    assert "raise the limit" in state.next_move


def test_a_refusal_says_more_than_that_time_is_up() -> None:
    assert read_state(replace(WORKING, passages=(SPENT,), overdue=True)).doing is Doing.REFUSED
    assert read_state(replace(STOPPED, overdue=True)).doing is Doing.SILENT
