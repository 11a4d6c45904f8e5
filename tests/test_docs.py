"""The documentation keeps its promises: links lead somewhere, commands and files exist, tables are complete."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.__main__ import SUMMARIES, import_command

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "charts/dittofs-operator/README.md"])
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
# A subcommand of this project where a command begins, with its arguments; what is left out is an error message.
CALL = re.compile(
    r"(?:^|[`$|] ?|bin/)(?:kubectl[ -]dittofs|dittofs-operator) (?!failed to judge)([a-z]+)([^\n`|;>&#)]*)",
    re.MULTILINE,
)
# What happened to a file in an earlier version stays as it was written.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def text(page: Path) -> str:
    return page.read_text()


def prose(page: Path) -> str:
    """Returns the page without code blocks, in which `#` is a comment and brackets are no link."""
    return re.sub(r"^ *```.*?^ *```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(f"{words}-{found.count(words)}" if words in found else words)
    return set(found)


def links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page

        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    reached, pending = set[Path](), [ROOT / "README.md"]

    while pending:
        page = pending.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            pending += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if link[0] != "#"]

    assert set(PAGES) <= reached


def test_the_readme_is_short_enough_to_read() -> None:
    assert len(text(ROOT / "README.md").splitlines()) <= 130


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_every_make_target_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = " ".join(re.findall(r"`+[^`]+`+", text(page)))

    assert set(re.findall(r"\bmake ([a-z0-9]+)\b", code)) <= targets


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_every_subcommand_and_option_named_exists(page: Path) -> None:
    """Also those in sentences, which no test types."""
    code = "\n".join(re.findall(r"`+[^`]+`+", text(page)))
    unknown = []
    for command, arguments in CALL.findall(code):
        named = {argument.partition("=")[0] for argument in arguments.split() if argument.startswith("-")}
        unknown += [(command, name) for name in {"", *named} - options_of(command)]

    assert not unknown


def options_of(command: str) -> set[str]:
    """Returns the options of a subcommand, and the empty one if there is such a subcommand."""
    if command not in SUMMARIES:
        return set()
    return {"", "--help", *(name for option in import_command(command).params for name in option.opts)}


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_every_file_named_exists(page: Path) -> None:
    named = re.findall(r"(?<![\w/.-])(?:tests|manifests|charts|app|certs|docs)/[\w./-]*\w", text(page))
    assert not [path for path in named if not (ROOT / path).exists()]


def test_make_lists_every_command_that_is_documented() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    described = set(re.findall(r"^\| `make ([a-z0-9]+)` \|", text(CONTRIBUTING), re.MULTILINE))

    assert targets - described == {"help", "install", "run"}
    assert {"make install", "make run"} <= set(re.findall(r"^make \w+$", text(CONTRIBUTING), re.MULTILINE))


def test_ci_runs_the_commands_that_a_person_types() -> None:
    script = (ROOT / ".ci/run").read_text()
    typed = "".join(re.findall(r"```sh\n(.*?)```", text(ROOT / "README.md") + text(CONTRIBUTING), re.DOTALL))

    for command in (
        "make run",
        "make check",
        "make test",
        "make e2e",
        ".venv/bin/dittofs-operator check manifests/samples",
        ".venv/bin/dittofs-operator check manifests/samples --snapshot tests/demo/snapshot.yaml",
    ):
        assert command in script
        assert re.search(rf"^{re.escape(command)}$", typed, re.MULTILINE), command


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_option_is_documented_with_its_variable(command: str) -> None:
    section = text(DOCS / "reference/cli.md").partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(--[a-z-]+)`[^|]*\| `([A-Z_]+)` \|", section.replace(r"\|", ""), re.MULTILINE)
    options = [option for option in import_command(command).params if option.param_type_name == "option"]

    assert {(option.opts[0], option.envvar) for option in options} == set(rows)


def test_the_table_of_permissions_is_what_the_operator_may_do() -> None:
    page = text(DOCS / "explanation/security.md")
    table = re.findall(r"^\| ((?:`[a-z/]+`(?:, )?)+) \| ((?:[a-z]+(?:, )?)+) \|", page, re.MULTILINE)
    documented = [(re.findall(r"[a-z/]+", resources), verbs.split(", ")) for resources, verbs in table]

    documents = yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text())
    [rules] = [manifest["rules"] for manifest in documents if is_the_role_of_reconciling(manifest)]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}

    assert {(resource, verb) for resources, verbs in documented for resource in resources for verb in verbs} == granted


def is_the_role_of_reconciling(manifest: dict[str, Any]) -> bool:
    return (manifest["kind"], manifest["metadata"]["name"]) == ("ClusterRole", "dittofs-operator")


def test_what_contributors_look_for_is_where_the_table_says() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([^`|]+)` \| `([^`|]+)` \|$", text(CONTRIBUTING), re.MULTILINE)
    assert rows

    missing = [(file, word) for file, word in rows if not re.search(rf"\b{word}\b", (ROOT / file).read_text())]
    assert not missing


def test_the_architecture_names_every_module_of_app() -> None:
    page = text(DOCS / "explanation/architecture.md")
    modules = {
        path.stem for path in (ROOT / "app").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    named = {name for cell in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE) for name in re.findall(r"\w+", cell)}

    assert modules - {"__init__"} == named
