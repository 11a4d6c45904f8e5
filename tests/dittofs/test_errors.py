from app.dittofs.errors import Rejected


def test_a_rejection_says_what_was_asked_and_answered() -> None:
    assert str(Rejected("GET /x", 404, "no x")) == "the server answered GET /x with HTTP status 404: no x"
    assert str(Rejected("GET /x", 500, "")) == "the server answered GET /x with HTTP status 500"
