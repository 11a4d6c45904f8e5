import pytest

from app.cluster.verdict import causes, decoding_causes, parse_warnings
from app.storage.facts import Cause

CANNOT = 'StatefulSet in version "v1" cannot be handled as a StatefulSet: '


@pytest.mark.parametrize(
    ("headers", "texts"),
    [
        ([], ()),
        (['299 - "one"'], ("one",)),
        (['299 - "one"', '299 - "two"'], ("one", "two")),
        (['299 - "one", 299 kube "two" "Fri, 27 Nov 2026 03:58:39 GMT"'], ("one", "two")),
        (['299 - "one"', '299 - "one"'], ("one",)),
        ([r'299 - "say \"so\", or \\ not"'], (r'say "so", or \ not',)),
        (['299 - "größer"'], ("größer",)),
        (["299 - unquoted", '29 - "short"', '299 - "open'], ()),
    ],
)
def test_warnings_are_read_from_headers(headers: list[str], texts: tuple[str, ...]) -> None:
    assert parse_warnings(headers) == texts


def test_causes_without_a_field_are_about_a_policy() -> None:
    listed = [{"message": "denied by a policy"}, {"field": "spec.a", "message": "Required value"}]

    assert causes({"details": {"causes": listed}}) == (Cause("spec.a", "Required value"),)
    assert causes({"details": {"causes": listed[:1]}}) == ()
    assert causes({}) == ()


def test_every_unknown_field_is_a_cause() -> None:
    message = f'{CANNOT}strict decoding error: unknown field "spec.a[0].b", unknown field "spec.x "y", z"'

    assert decoding_causes(message) == (Cause("spec.a[0].b", "unknown field"), Cause('spec.x "y", z', "unknown field"))


def test_a_wrong_type_is_a_cause_without_a_field() -> None:
    reason = "json: cannot unmarshal string into Go struct field X.spec.y of type bool"

    assert decoding_causes(CANNOT + reason) == (Cause("", reason),)


@pytest.mark.parametrize(
    "message",
    ["", 'admission webhook "a" does not support dry run', f'admission webhook "a" denied the request: {CANNOT}no'],
)
def test_another_refusal_is_no_decoding_error(message: str) -> None:
    assert decoding_causes(message) == ()
