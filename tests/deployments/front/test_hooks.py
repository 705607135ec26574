"""A form's webhook: only who has the secret is heard, and each delivery once."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from tasks.domain.notice import Channel, Occasion
from tests.support.front import ORDER, Door, OpenDoor, problem
from tests.tasks.adapters.registry.orders import counts

NEW, OLD, FOREIGN = (f"whsec_{base64.b64encode(name * 6).decode()}" for name in (b"newer", b"older", b"elses"))

TALLY = {
    "eventId": "5f0c9a3e-0000-4000-8000-000000000001",
    "eventType": "FORM_RESPONSE",
    "data": {
        "fields": [
            {"key": "question_a", "label": "E-mail", "type": "INPUT_EMAIL", "value": "ana@example.com"},
            {"key": "question_b", "label": "Phone", "type": "INPUT_PHONE_NUMBER", "value": "+49 151 1234-5678"},
            {"key": "question_c", "label": "Your site", "type": "TEXTAREA", "value": "A tea shop in Kyoto"},
        ]
    },
}
TALLY_FIELDS = {
    "email": "data.fields[label=E-mail].value",
    "phone": "data.fields[label=Phone].value",
    "requirements": "data.fields[label=Your site].value",
    "site_type": "=dynamic",
}
TYPEFORM = {
    "event_id": "01HTYPEFORM",
    "form_response": {
        "answers": [
            {"type": "email", "email": "ana@example.com", "field": {"ref": "mail"}},
            {"type": "phone_number", "phone_number": "+4915112345678", "field": {"ref": "tel"}},
            {"type": "text", "text": "A tea shop in Kyoto", "field": {"ref": "wish"}},
        ]
    },
}
TYPEFORM_FIELDS = {
    "email": "form_response.answers[field/ref=mail].email",
    "phone": "form_response.answers[field/ref=tel].phone_number",
    "requirements": "form_response.answers[field/ref=wish].text",
}


@pytest.fixture
def door(open_door: OpenDoor) -> Door:
    return open_door(hook_secrets=SecretStr(f"{NEW}, {OLD}"), hook_failures=3)


def signed(body: bytes, key: str = "", secret: str = NEW, age_s: float = 0) -> dict[str, str]:
    moment = datetime.fromtimestamp(time.time() - age_s, UTC)
    key = key or f"msg_{uuid.uuid4().hex}"
    signature = Webhook(secret).sign(key, moment, body.decode())
    return {"webhook-id": key, "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}


def deliver(door: Door, body: Any = ORDER, query: str = "", **how: Any) -> httpx.Response:
    raw = json.dumps(body).encode()
    return door.client.post(f"/hooks/form{query}", content=raw, headers=signed(raw, **how))


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_a_delivery_with_the_newest_secret_or_the_one_before_it_is_an_order(door: Door, secret: str) -> None:
    response = deliver(door, secret=secret)
    assert response.status_code == 202, response.text
    told = response.json()
    assert door.registry.execution(told["execution_id"]).request.email == "ana@example.com"
    page = told["links"]["page"].removeprefix(door.settings.base_url)
    assert door.client.get(page, follow_redirects=True).status_code == 200
    (notice,) = door.registry.notices(told["execution_id"])
    assert (notice.occasion, notice.channel) == (Occasion.ACCEPTED, Channel.EMAIL)


def test_the_same_delivery_again_is_the_same_order_and_another_body_is_none(door: Door) -> None:
    first = deliver(door, key="msg_1")
    again = deliver(door, key="msg_1", age_s=60)
    assert (again.status_code, again.json()) == (202, {**first.json(), "links": None})
    problem(deliver(door, {**ORDER, "requirements": "something else"}, key="msg_1"), 409)
    assert counts(door.registry)["executions"] == 1


def test_what_is_forged_is_not_heard(door: Door) -> None:
    raw = json.dumps(ORDER).encode()
    good = signed(raw, "msg_1")
    forged: list[tuple[bytes, dict[str, str]]] = [
        (raw, {}),
        (raw, {"webhook-id": "msg_1"}),
        (raw, signed(raw, "msg_1", secret=FOREIGN)),
        (raw.replace(b"ana@", b"eve@"), good),
        (raw, {**good, "webhook-id": "msg_2"}),
        (raw, {**good, "webhook-timestamp": str(int(time.time()) + 1)}),
        (raw, {**good, "webhook-timestamp": "nan"}),
        (raw, {**good, "webhook-signature": "v1,"}),
        (raw, {**good, "webhook-signature": "v1"}),
        (raw, {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}),
        (b"\xff" + raw, good),
    ]
    for body, headers in forged:
        problem(door.client.post("/hooks/form", content=body, headers=headers), 401)
    assert set(counts(door.registry)) == set(), "nothing is kept, and nothing is counted against the form"
    assert door.client.post("/hooks/form", content=raw, headers=good).status_code == 202


@pytest.mark.parametrize("age_s", [6 * 60, -6 * 60])
def test_what_is_late_or_early_is_not_heard(door: Door, age_s: float) -> None:
    problem(deliver(door, age_s=age_s), 401)
    assert set(counts(door.registry)) == set()


def test_a_delivery_that_was_recorded_and_is_played_again_starts_nothing(door: Door) -> None:
    raw = json.dumps(ORDER).encode()
    headers = signed(raw, "msg_1")
    answers = [door.client.post("/hooks/form", content=raw, headers=headers) for _ in range(5)]
    assert {answer.text for answer in answers[1:]} == {answers[1].text}
    assert "tbl_" not in answers[1].text, "nor does it open anything"
    assert (counts(door.registry)["executions"], counts(door.registry)["links"]) == (1, 1)
    assert counts(door.registry)["notices"] == 1


def test_a_dry_run_says_how_fields_were_mapped_and_keeps_nothing(open_door: OpenDoor) -> None:
    door = open_door(hook_secrets=SecretStr(NEW), hook_fields=TALLY_FIELDS)
    good = deliver(door, TALLY, "?dry_run=true")
    assert good.status_code == 200
    told = good.json()
    assert (told["would"], told["errors"]) == ("accept", [])
    assert {each["field"]: each["found"] for each in told["fields"]} == dict.fromkeys(TALLY_FIELDS, True)
    bad = deliver(door, {"data": {"fields": [{"label": "E-mail", "value": "zwielicht"}]}}, "?dry_run=true").json()
    assert bad["would"] == "refuse"
    assert {each["field"] for each in bad["errors"]} == {"email", "phone", "requirements"}
    assert "zwielicht" not in json.dumps(bad)
    assert set(counts(door.registry)) == set()


def test_fields_are_found_where_the_settings_say(open_door: OpenDoor) -> None:
    door = open_door(hook_secrets=SecretStr(NEW), hook_fields=TALLY_FIELDS)
    request = door.registry.execution(deliver(door, TALLY).json()["execution_id"]).request
    assert (request.email, request.phone, request.site_type) == ("ana@example.com", "+4915112345678", "dynamic")
    assert request.requirements == "A tea shop in Kyoto"


def test_tally_signs_the_body_and_its_event_is_the_delivery(open_door: OpenDoor) -> None:
    door = open_door(hook_secrets=SecretStr("tally secret"), hook_scheme="tally", hook_fields=TALLY_FIELDS)
    raw = json.dumps(TALLY).encode()
    signature = base64.b64encode(hmac.digest(b"tally secret", raw, hashlib.sha256)).decode()
    answers = [door.client.post("/hooks/form", content=raw, headers={"Tally-Signature": signature}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[1].json() == {**answers[0].json(), "links": None}
    problem(door.client.post("/hooks/form", content=raw + b" ", headers={"Tally-Signature": signature}), 401)
    problem(door.client.post("/hooks/form", content=raw, headers=signed(raw)), 401)


def test_typeform_signs_the_body_and_its_event_is_the_delivery(open_door: OpenDoor) -> None:
    door = open_door(hook_secrets=SecretStr("tf secret"), hook_scheme="typeform", hook_fields=TYPEFORM_FIELDS)
    raw = json.dumps(TYPEFORM).encode()
    signature = base64.b64encode(hmac.digest(b"tf secret", raw, hashlib.sha256)).decode()
    header = {"Typeform-Signature": f"sha256={signature}"}
    assert door.client.post("/hooks/form", content=raw, headers=header).status_code == 202
    problem(door.client.post("/hooks/form", content=raw, headers={"Typeform-Signature": signature}), 401)
    assert door.registry.delivery("hook:form:01HTYPEFORM") is not None


def test_a_form_that_fails_again_and_again_is_paused_until_somebody_has_looked(door: Door) -> None:
    bad, key = {**ORDER, "phone": "zwielicht-4711"}, door.key()
    for expected in (1, 2):
        told = problem(deliver(door, bad), 422)
        assert told["errors"][0]["field"] == "phone"
        assert "zwielicht" not in json.dumps(told)
        assert door.client.get("/hooks/form", headers=key).json()["failures"] == expected
    assert deliver(door).status_code == 202
    state = door.client.get("/hooks/form", headers=key).json()
    assert (state["failures"], state["paused"]) == (0, False)
    for _ in range(3):
        problem(deliver(door, bad), 422)
    state = door.client.get("/hooks/form", headers=key).json()
    assert (state["paused"], state["configured"]) == (True, True)
    assert "phone" in state["reason"]
    paused = deliver(door)
    problem(paused, 503)
    assert paused.headers["retry-after"] == "300"
    assert deliver(door, query="?dry_run=true").status_code == 200, "to see why"
    assert door.client.post("/hooks/form/resume", headers=key).json()["paused"] is False
    assert deliver(door).status_code == 202


def test_a_refused_delivery_may_come_again_mended(door: Door) -> None:
    problem(deliver(door, {**ORDER, "phone": "none"}, key="msg_1"), 422)
    kept = door.registry.delivery("hook:form:msg_1")
    assert kept is not None
    assert kept.refusal is not None
    assert deliver(door, key="msg_1").status_code == 202


@pytest.mark.parametrize(
    "raw", [b"", b"[1, 2]", b'{"email": NaN}', b"{" * 100_000, b'{"email": "\\ud800"}', b'{"email": []}']
)
def test_hostile_deliveries_are_no_fault_of_ours(door: Door, raw: bytes) -> None:
    response = door.client.post("/hooks/form", content=raw, headers=signed(raw))
    problem(response, response.status_code)
    assert response.status_code in (400, 422)
    assert "executions" not in counts(door.registry)


def test_an_id_that_cannot_be_kept_is_refused(door: Door) -> None:
    problem(deliver(door, key="x" * 151), 400)


def test_without_a_secret_there_is_no_webhook(open_door: OpenDoor) -> None:
    door = open_door()
    problem(deliver(door), 404)
    raw = json.dumps(ORDER).encode()
    empty = hmac.digest(b"", raw, hashlib.sha256)
    door = open_door(hook_scheme="tally", hook_secrets=SecretStr(" , "))
    problem(
        door.client.post("/hooks/form", content=raw, headers={"Tally-Signature": base64.b64encode(empty).decode()}), 404
    )
