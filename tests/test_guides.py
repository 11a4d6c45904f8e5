"""No page has a command that a test has not run: what tests type, and what they cannot type."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.guides import ROOT, Block, blocks, pages, shows, type_page
from tests.harness.shell import Shell
from tests.helm.chart import IMAGE

# The test that types the commands of a page, or that does what they do.
TYPED: dict[str, str] = {
    "CONTRIBUTING.md": ".ci/run",
    "README.md": ".ci/run",
    "SECURITY.md": "tests/e2e/test_guides.py",
    "charts/dittofs-operator/README.md": "tests/e2e/test_install_guides.py",
    "docs/explanation/security.md": "tests/e2e/test_guides.py",
    "docs/how-to/back-up-a-server.md": "tests/e2e/test_guides.py",
    "docs/how-to/check-an-installation.md": "tests/e2e/test_guides.py",
    "docs/how-to/check-manifests.md": "tests/e2e/test_guides.py",
    "docs/how-to/choose-an-image.md": "tests/e2e/test_guides.py",
    "docs/how-to/connect-other-tools.md": "tests/e2e/test_guides.py",
    "docs/how-to/create-shares.md": "tests/e2e/test_guides.py",
    "docs/how-to/expand-a-volume.md": "tests/e2e/test_guides.py",
    "docs/how-to/install-the-plugin.md": "tests/e2e/test_reproducibility.py",
    "docs/how-to/install-without-internet.md": "tests/e2e/test_guides.py",
    "docs/how-to/install.md": "tests/e2e/test_install_guides.py",
    "docs/how-to/keep-servers-in-git.md": "tests/e2e/test_guides.py",
    "docs/how-to/label-all-objects.md": "tests/e2e/test_guides.py",
    "docs/how-to/manage-certificates.md": "tests/e2e/test_certmanager.py",
    "docs/how-to/migrate-from-the-go-operator.md": "tests/e2e/test_takeover.py",
    "docs/how-to/monitor.md": "tests/e2e/test_guides.py",
    "docs/how-to/mount-a-share.md": "tests/e2e/test_guides.py",
    "docs/how-to/pause-a-server.md": "tests/e2e/test_guides.py",
    "docs/how-to/plan-an-edit.md": "tests/e2e/test_guides.py",
    "docs/how-to/recover-a-volume-claim.md": "tests/e2e/test_story.py",
    "docs/how-to/release.md": "tests/e2e/releases.py",
    "docs/how-to/restart-a-server.md": "tests/e2e/test_guides.py",
    "docs/how-to/rotate-s3-credentials.md": "tests/e2e/test_guides.py",
    "docs/how-to/run-on-openshift.md": "tests/e2e/test_guides.py",
    "docs/how-to/runbooks.md": "tests/e2e/test_guides.py",
    "docs/how-to/see-how-a-server-is.md": "tests/e2e/test_guides.py",
    "docs/how-to/see-volume-usage.md": "tests/e2e/test_guides.py",
    "docs/how-to/serve-outside-a-cluster.md": "tests/e2e/test_install_guides.py",
    "docs/how-to/stop-a-server.md": "tests/e2e/test_guides.py",
    "docs/how-to/troubleshoot-a-server.md": "tests/e2e/test_guides.py",
    "docs/how-to/twelve-incidents.md": "tests/test_incidents.py",
    "docs/how-to/upgrade-and-uninstall.md": "tests/e2e/test_guides.py",
    "docs/how-to/use-an-s3-endpoint-with-a-private-ca.md": "tests/e2e/test_guides.py",
    "docs/how-to/use-postgres.md": "tests/e2e/test_guides.py",
    "docs/reference/logs.md": "tests/e2e/test_guides.py",
    "docs/tutorial.md": "tests/e2e/test_tutorial.py",
}
# Languages that are no commands, or that show what commands print.
SHOWN = {"", "json", "mermaid", "powershell", "text", "yaml"}
# What a test does something else for, by the word after `sh`.
REPLACED = {
    "adopt",
    "backup",
    "install",
    "keys",
    "kind",
    "login",
    "logs",
    "manifests",
    "namespaces",
    "network",
    "password",
    "plugin",
    "serve",
    "twice",
}
MIN_REASON_WORDS = 3


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    with Shell(folder, scratch, os.environ, aliases={"user-4711": "default"}) as running:
        yield running


def page_of(folder: Path, *fences: str) -> Path:
    page = folder / "page.md"
    page.write_text("# Title\n\n" + "\n".join(f"Text.\n\n```{fence}```\n" for fence in fences))
    return page


@pytest.mark.parametrize("page", pages(), ids=name)
def test_blocks_are_of_known_kinds(page: Path) -> None:
    unknown = [str(block) for block in blocks(page) if not (block.is_typed or block.is_manual or is_shown(block))]
    assert not unknown


def is_shown(block: Block) -> bool:
    return block.language in SHOWN and (not block.words or block.language == "yaml")


@pytest.mark.parametrize("page", pages(), ids=name)
def test_words_after_a_language_are_known(page: Path) -> None:
    for block in blocks(page):
        if block.is_manual:
            assert len(block.words) > MIN_REASON_WORDS, f"{block} does not say why no test types it"
        elif block.language == "sh":
            assert not block.words or block.fails or {*block.words} <= REPLACED, block


def test_every_command_is_typed_by_a_test() -> None:
    with_commands = {name(page) for page in pages() if any(block.is_typed for block in blocks(page))}
    assert with_commands == TYPED.keys()


@pytest.mark.parametrize("page", [page for page, script in TYPED.items() if script == ".ci/run"])
def test_ci_types_every_command_or_the_tutorial_does(page: str) -> None:
    by_ci = {line.partition(" > ")[0].strip() for line in (ROOT / ".ci/run").read_text().splitlines()}
    by_tutorial = {line for block in blocks(ROOT / "docs/tutorial.md") for line in block.text.splitlines()}
    commands = {line for block in blocks(ROOT / page) if block.is_typed for line in block.text.splitlines()}

    assert commands <= by_ci | by_tutorial


@pytest.mark.parametrize(("page", "test"), TYPED.items())
def test_a_test_names_the_page_that_it_types(page: str, test: str) -> None:
    assert Path(page).name in (ROOT / test).read_text()


@pytest.mark.parametrize("page", pages(), ids=name)
def test_blocks_for_kind_load_the_image_of_the_chart(page: Path) -> None:
    for block in blocks(page):
        loads = [line for line in block.text.splitlines() if "kind load" in line or "k3s ctr" in line]
        assert all(IMAGE in line for line in loads), block


def test_blocks_are_typed_in_order_in_one_shell(tmp_path: Path, shell: Shell) -> None:
    page = page_of(
        tmp_path,
        "yaml one.yaml\na: 1\n",
        "sh\nmkdir inner && cd inner\nNAME=world\n",
        'sh\necho "Hello $NAME"\ncat ../one.yaml\n',
        "text\nHello world\na: 1\n",
        "sh manual there is no such program\nno-such-program\n",
        "text\nHello\n",
    )

    type_page(page, shell)


def test_what_is_shown_differs_from_the_page(tmp_path: Path, shell: Shell) -> None:
    page = page_of(tmp_path, "sh\necho one\n", "text\ntwo\n")

    with pytest.raises(AssertionError, match=r"page.md:12 says[^$]*two[^$]*It shows[^$]*one"):
        type_page(page, shell)


def test_a_command_that_fails_ends_the_page(tmp_path: Path, shell: Shell) -> None:
    page = page_of(tmp_path, "sh\necho one\nfalse\necho two\n")

    with pytest.raises(AssertionError, match=r"page.md:6 failed with 1:[^$]*shows\s+one\n$"):
        type_page(page, shell)


def test_a_command_may_have_to_fail(tmp_path: Path, shell: Shell) -> None:
    type_page(page_of(tmp_path, "sh fails\ncd /nowhere\n", "text\n... No such file ...\n", "sh\ntrue\n"), shell)

    with pytest.raises(AssertionError, match="has to fail"):
        type_page(page_of(tmp_path, "sh fails\ntrue\n"), shell)


def test_a_test_does_something_in_place_of_a_block(tmp_path: Path, shell: Shell) -> None:
    page = page_of(tmp_path, "sh kind\nkind create cluster\n", "text\nCreated\n", "sh\nls\n", "text\nmade\n")

    type_page(page, shell, instead={"kind": (shell.folder / "made").touch})


def test_a_page_may_have_another_name_for_a_namespace(tmp_path: Path, shell: Shell) -> None:
    type_page(page_of(tmp_path, "sh\necho in user-4711\n", "text\nin default\n"), shell)


def test_of_an_example_only_the_commands_are_typed(tmp_path: Path, shell: Shell) -> None:
    type_page(page_of(tmp_path, "console\n$ touch made\nno-such-program\n", "sh\nls\n", "text\nmade\n"), shell)


def test_what_runs_in_the_background_goes_on(tmp_path: Path, shell: Shell) -> None:
    page = page_of(tmp_path, "sh\nsleep 600 &\n", "sh\njobs -r\n", "text\n[1]+  Running                 sleep 600 &\n")

    type_page(page, shell)


@pytest.mark.parametrize(
    ("expected", "shown"),
    [
        ("a\n", "a\n\n"),
        ("NAME   AGE\nfiles  ...\n", "NAME          AGE  \nfiles         2s\n"),
        ("a\n...\nz\n", "a\nb\nc\nz\n"),
        ("a\n...\nz\n", "a\nz\n"),
        ("pod/... created\n", "pod/a-b created\n"),
        ("(a) [b] *\n", "(a) [b] *\n"),
        ("a\nb\n", 'a\nI1128 11:08:35.300110   28523 reflector.go:664] "Warning: watch ended with error"\nb\n'),
    ],
)
def test_stable_parts_are_compared(expected: str, shown: str) -> None:
    assert shows(expected, shown)


@pytest.mark.parametrize(
    ("expected", "shown"),
    [("a\n", "a\nb\n"), ("a b\n", "ab\n"), ("a\n...\nz\n", "a\nz\nb\n"), ("a ... c\n", "a\nc\n"), ("a.c\n", "abc\n")],
)
def test_other_output_is_noticed(expected: str, shown: str) -> None:
    assert not shows(expected, shown)


def test_a_block_in_a_list_has_no_indentation(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("1. First\n\n   ```sh\n   for i in 1; do\n     echo $i\n   done\n   ```\n")

    [block] = blocks(page)

    assert (block.line, block.text) == (4, "for i in 1; do\n  echo $i\ndone\n")
