from app.cli.resume import describe
from app.storage.pause import PAUSED_ANNOTATION
from tests.harness.server_table import server


def test_a_server_that_was_not_paused_is_told_so() -> None:
    paused = {**server(), "metadata": {"name": "files", "annotations": {PAUSED_ANNOTATION: "true"}}}

    assert describe(server()) == "was not paused"
    assert describe(paused) == "is resumed"
