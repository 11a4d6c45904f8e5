import pytest

from app.storage.finding import one_line, rejection, rejections, warning, warnings


def test_rejections_and_warnings_are_told_apart() -> None:
    findings = [warning("a", "w"), rejection("b", "r")]

    assert [finding.path for finding in rejections(findings)] == ["b"]
    assert [finding.path for finding in warnings(findings)] == ["a"]


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "a\u202eb", "a\x9bb", "a\0b", "a\udcffb", "\ufeff"])
def test_a_message_has_nothing_a_terminal_obeys(text: str) -> None:
    assert rejection("x", text).message.isprintable()
    assert warning("x", text).message.isprintable()


def test_what_prints_stays_as_it_is() -> None:
    assert one_line("\N{GRINNING FACE} e\u0301 ${x} {}") == "\N{GRINNING FACE} e\u0301 ${x} {}"
