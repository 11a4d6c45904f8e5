"""Reads the commands of the documentation, so that tests run what it tells people to type.

A block ```sh is typed as it is, and a block ```text right after it is what the terminal then shows. What is special
about a block is in the words after its language, which no reader sees:

    sh fails          its last command has to fail
    sh NAME           a test does something else in its place, which it knows by that name, such as `kind`
    sh manual REASON  no test can type it, for this reason, in several words
    yaml FILE         is the content of that file, which has to exist before the next commands are typed

Of a block ```console the lines after `$ ` are typed; what is below them is an example, which is not compared.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.harness.shell import Shell

ROOT = Path(__file__).parent.parent.parent
GUIDES = ROOT / "docs/how-to"
ANYTHING = "..."
_FENCE = re.compile(r"^( *)```([^`\n]*)\n(.*?)^ *``` *$", re.MULTILINE | re.DOTALL)
_LOG_LINE = re.compile(r"^[IWEF]\d{4} [\d:.]+ +\d+ \w+\.go:\d+\] .*\n", re.MULTILINE)
_NOTHING: Mapping[str, Callable[[], None]] = {}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is that of its text, `words` are those after its language."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def is_typed(self) -> bool:
        """Whether a person is to type it."""
        return self.language in ("sh", "console") and not self.is_manual

    @property
    def commands(self) -> str:
        if self.language != "console":
            return self.text
        return "".join(f"{line.removeprefix('$ ')}\n" for line in self.text.splitlines() if line.startswith("$ "))

    @property
    def is_manual(self) -> bool:
        return self.words[:1] == ("manual",)

    @property
    def fails(self) -> bool:
        return self.words == ("fails",)

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Returns all fenced blocks, without the indentation that they have in a list."""
    content = page.read_text()
    found = []
    for fence in _FENCE.finditer(content):
        indentation, info, text = fence.groups()
        language, *words = info.split() or [""]
        line = content.count("\n", 0, fence.start()) + 2
        text = re.sub(rf"^{indentation}", "", text, flags=re.MULTILINE)
        found.append(Block(page, line, language, tuple(words), text))
    return found


def named_block(page: Path, name: str) -> str:
    """Returns the text of the block that has this name: the word after its language."""
    [text] = [block.text for block in blocks(page) if block.words == (name,)]
    return text


def type_page(page: Path, shell: Shell, instead: Mapping[str, Callable[[], None]] = _NOTHING) -> None:
    """Types all blocks of a page in order, and compares what the terminal shows.

    `instead` has what a test does in place of the blocks of a name.
    """
    content = blocks(page)
    for block, following in zip(content, [*content[1:], None], strict=True):
        if block.language == "yaml" and block.words:
            (shell.folder / block.words[0]).write_text(block.text)
        if not block.is_typed:
            continue

        if block.words and not block.fails:
            instead[block.words[0]]()
            continue

        shown = shell.type(block.commands, fails=block.fails, title=str(block))
        print(f"{block}\n{block.commands}\n{shown}")
        if following and following.language == "text":
            assert shows(following.text, shown), difference(following, shown)


def shows(expected: str, shown: str) -> bool:
    """Tells whether a terminal shows what is expected.

    `...` stands for anything within a line, and for any number of lines if it is one. How wide a gap between words is
    does not count, because the columns of a table depend on their content. What client-go logs in helm and kubectl,
    such as that a watch has ended, does not count either.
    """
    shown = _LOG_LINE.sub("", shown)
    pattern = "".join(_line_pattern(line.rstrip()) for line in expected.rstrip().splitlines())
    lines = "".join(f"{line.rstrip()}\n" for line in shown.rstrip().splitlines())
    return re.fullmatch(pattern, lines) is not None


def _line_pattern(line: str) -> str:
    if line.strip() == ANYTHING:
        return r"(?:.*\n)*?"

    parts = re.split(r"(\.\.\.|[ \t]+)", line)
    return "".join(map(_part_pattern, parts)) + r"\n"


def _part_pattern(part: str) -> str:
    if part == ANYTHING:
        return ".*?"
    return r"[ \t]+" if part.isspace() else re.escape(part)


def difference(expected: Block, shown: str) -> str:
    return f"{expected} says that the terminal shows\n\n{expected.text}\nIt shows\n\n{shown}"


def code_blocks(guide: str, heading: str = "") -> list[str]:
    """Returns the shell code in a guide, from a heading on when one is given."""
    page = GUIDES / guide
    start = page.read_text().partition(f"\n{heading}\n")[0].count("\n") if heading else 0
    return [block.text for block in blocks(page) if block.language == "sh" and block.line > start]


def recovery_commands(*, server: str, claim: str, volume: str) -> list[list[str]]:
    """Returns the arguments of each kubectl command that recovers a volume claim that is being deleted."""
    [block] = code_blocks("recover-a-volume-claim.md")
    names = {"NAME": server, "CLAIM": claim, "PV": volume}

    commands = []
    for line in block.splitlines():
        program, *args = shlex.split(line)
        assert program == "kubectl"
        commands.append([re.sub(r"\b(NAME|CLAIM|PV)\b", lambda match: names[match[0]], arg) for arg in args])
    return commands


def pages() -> list[Path]:
    """Returns all pages that people read."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "charts/dittofs-operator/README.md"])
