from app.dittofs.errors import Rejected, redact


def test_secrets_are_masked_in_every_form() -> None:
    text = 'for "s3cr\\"et" and s3cr"et, but not s3cret'

    assert redact(text, ['s3cr"et']) == 'for "********" and ********, but not s3cret'


def test_no_end_of_a_secret_stays_when_another_is_its_start() -> None:
    assert redact("refused: abcdef", ["abc", "abcdef", ""]) == "refused: ********"


def test_a_secret_across_the_limit_of_a_quote_is_masked() -> None:
    text = redact("x" * 495 + "abcdefghijkl", ["abcdefghijkl"])

    assert "abc" not in text
    assert len(text) <= 501


def test_a_quoted_error_is_one_line() -> None:
    assert redact("first\nsecond\x00\x1b[31m", ()) == "first second [31m"


def test_a_rejection_says_what_was_asked_and_answered() -> None:
    assert str(Rejected("GET /x", 404, "no x")) == "the server answered GET /x with HTTP status 404: no x"
    assert str(Rejected("GET /x", 500, "")) == "the server answered GET /x with HTTP status 500"
