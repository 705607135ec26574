import jsonschema
import pytest
from pydantic import ValidationError

from tasks.domain.errors import RequestRefused
from tasks.domain.request import SiteRequest, normalise_email, vet

GOOD = {"requirements": "A bakery", "email": "ana@example.com", "phone": "+4915112345678"}


def refuses(changes: dict[str, object]) -> str:
    """The field that JSON Schema, which is all that Prefect checks before a run exists, complains about."""
    errors = list(jsonschema.Draft202012Validator(SiteRequest.model_json_schema()).iter_errors(GOOD | changes))
    assert errors, "JSON Schema let it pass"
    return str(errors[0].path[0]) if errors[0].path else errors[0].message


def test_the_least_request_is_enough_and_says_what_it_defaults_to():
    request = SiteRequest.model_validate(GOOD)

    vet(request)

    assert (request.host_provider, request.site_type, request.agent) == ("local", "static", "offline")
    assert request.hosting == "local-hosting/default"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "notmail"),
        ("email", "Foo <a@b.co>"),
        ("email", "a b@c.de"),
        ("phone", "4155552671"),
        ("phone", "+0123456789"),
        ("phone", "+49 151 1234"),
        ("host_provider", "mars"),
        ("site_type", "holographic"),
        ("agent", "human"),
        ("hosting", "default"),
        ("hosting", "local-hosting/../x"),
        ("requirements", ""),
        ("requirements", "x" * 20_001),
        ("requirements", "a\x00b"),
        ("requirements", "a\x1b[31mb"),
        ("requirements", 7),
    ],
)
def test_what_json_schema_can_say_is_refused_before_a_run_exists(field: str, value: object):
    assert refuses({field: value}) == field
    with pytest.raises(ValidationError) as refusal:
        SiteRequest.model_validate(GOOD | {field: value})
    assert refusal.value.errors()[0]["loc"] == (field,)


def test_an_unknown_field_is_refused_by_name():
    assert "color" in refuses({"color": "red"})


@pytest.mark.parametrize("field", ["requirements", "email", "phone"])
def test_a_missing_field_is_refused_by_name(field: str):
    without = {key: value for key, value in GOOD.items() if key != field}
    with pytest.raises(jsonschema.ValidationError, match=f"'{field}' is a required property"):
        jsonschema.validate(without, SiteRequest.model_json_schema())


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"email": "a@b..co"}, "email", "is not an e-mail address"),
        ({"email": "-@-.invalid-"}, "email", "is not an e-mail address"),
        ({"phone": "+9991234567"}, "phone", "not a number that exists"),
        ({"phone": "+15555555"}, "phone", "not a number that exists"),
        ({"requirements": "?!…"}, "requirements", "no word in it"),
        ({"hosting": "aws-hosting/default"}, "hosting", "does not belong to host_provider 'local'"),
    ],
)
def test_what_json_schema_cannot_say_is_refused_with_field_value_and_what_is_allowed(
    changes: dict[str, str], field: str, said: str
):
    with pytest.raises(RequestRefused, match=said) as refusal:
        vet(SiteRequest.model_validate(GOOD | changes))

    assert refusal.value.field == field
    assert "allowed: " in str(refusal.value)
    assert field == "requirements" or changes[field] in str(refusal.value)


def test_a_final_line_break_does_not_slip_through_the_patterns():
    request = SiteRequest.model_validate(GOOD | {"email": "ana@example.com\n", "phone": "+4915112345678\n"})

    assert (request.email, request.phone) == ("ana@example.com", "+4915112345678")


def test_every_field_explains_itself_in_the_form():
    properties = SiteRequest.model_json_schema()["properties"]

    assert all(field.get("title") and field.get("description") for field in properties.values())
    assert sorted(field["position"] for field in properties.values()) == list(range(len(properties)))


@pytest.mark.parametrize("other", ["ANA@EXAMPLE.COM", " ana@example.com", "ａｎａ@example.com"])
def test_two_spellings_of_one_mailbox_are_one_user(other: str):
    assert normalise_email(other) == normalise_email("ana@example.com")
