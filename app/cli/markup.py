"""Builds HTML out of elements. No text in them can become markup or a control character."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Union

from app.storage.finding import one_line

# These have no content, and no closing tag.
_VOID = {"meta", "br"}

Node = Union["Element", str]


@dataclass(frozen=True)
class Element:
    """An element with its texts and elements. The names of tags and attributes are those of the program."""

    tag: str
    children: tuple[Node, ...] = ()
    attributes: tuple[tuple[str, str], ...] = field(default=())

    def render(self) -> str:
        """Returns HTML in ASCII, so that it is read correctly even where it is served with a wrong character set."""
        return "".join(_render(self)).encode("ascii", "xmlcharrefreplace").decode()


def element(tag: str, *children: Node | None, **attributes: str) -> Element:
    """Returns an element of all children but None. `class_` stands for class, and `data_label` for data-label."""
    named = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    return Element(tag, tuple(child for child in children if child is not None), tuple(named))


def _render(node: Node) -> Iterator[str]:
    if isinstance(node, str):
        yield escape(one_line(node))
        return

    attributes = "".join(f' {name}="{escape(one_line(value))}"' for name, value in node.attributes)
    yield f"<{node.tag}{attributes}>"
    if node.tag in _VOID:
        return

    for child in node.children:
        # A style sheet knows no references to characters.
        yield from [_style(child)] if node.tag == "style" and isinstance(child, str) else _render(child)
    yield f"</{node.tag}>"


def _style(text: str) -> str:
    if "<" in text or not text.isascii():
        raise ValueError("expected a style sheet in ASCII without <")
    return text
