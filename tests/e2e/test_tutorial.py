"""Somebody who knows nothing of the operator types the tutorial, and sees what it says."""

from tests.e2e.installation import uninstall
from tests.harness.guides import ROOT, type_page
from tests.harness.operator_namespace import Namespace
from tests.harness.shell import Shell

TUTORIAL = ROOT / "docs/tutorial.md"


def test_a_stranger_finishes_the_tutorial(operator: Namespace, shell: Shell) -> None:
    """The cluster takes the place of the one that kind creates, and has the image."""
    uninstall(operator)

    type_page(TUTORIAL, shell, instead={"kind": lambda: None})
