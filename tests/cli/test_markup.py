from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.markup import element

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "&lt;b&gt; &#60;",
    "</style></title><svg onload=alert(1)>",
    "]]> --> <!--",
    "\u202etxt.exe\u2066\u200b\ufeff",
    "\x00\x1b[2J\x85\ud800\n",
]


class Parsed(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"expected no comment, got {data}")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_elements_are_nested() -> None:
    row = element("p", "a", element("b", "c", class_="d"), None, element("br"), data_label="e", id="f")
    assert row.render() == '<p data-label="e" id="f">a<b class="d">c</b><br></p>'


@given(st.sampled_from(HOSTILE) | st.text())
def test_a_text_stays_a_text(text: str) -> None:
    html = element("p", text, title=text).render()
    parsed = Parsed(html)

    assert html.isascii()
    assert parsed.tags == ["p"]
    assert [name for name, _ in parsed.attributes] == ["title"]
    assert parsed.text == parsed.attributes[0][1]
    assert len(parsed.text) == len(text)
    assert parsed.text.isprintable()


def test_other_languages_and_emoji_are_kept() -> None:
    html = element("p", "héllo 一 🙂 שלום").render()

    assert html.isascii()
    assert Parsed(html).text == "héllo 一 🙂 שלום"


@pytest.mark.parametrize("text", ["</style><script>", "p { content: 'é' }"])
def test_a_style_sheet_cannot_end_early(text: str) -> None:
    assert element("style", "a > b { c: d }").render() == "<style>a > b { c: d }</style>"
    with pytest.raises(ValueError, match="expected a style sheet"):
        element("style", text).render()
