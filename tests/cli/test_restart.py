from collections.abc import Callable
from datetime import datetime

from app.cli.restart import describe
from app.storage.pause import PAUSED_ANNOTATION
from app.storage.pod import RESTARTED_AT
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import server
from tests.harness.wait import until


def test_a_restart_reaches_the_pod(plugin: Callable[..., list[str]], operated: OperatorNamespace) -> None:
    operated.apply(server())
    until(lambda: bool(operated.get("pod", "files-0")))
    lines = plugin("restart", "-n", operated.namespace, "files")
    asked = operated.get("dittoserver", "files")["metadata"]["annotations"][RESTARTED_AT]

    assert lines == [f"DittoServer {operated.namespace}/files restarts"]
    assert datetime.fromisoformat(asked).tzinfo
    until(lambda: operated.template("files")["metadata"]["annotations"].get(RESTARTED_AT) == asked)


def test_what_does_not_restart_is_told_so() -> None:
    paused = {**server(), "metadata": {"name": "files", "annotations": {PAUSED_ANNOTATION: "true"}}}

    assert describe(paused) == "restarts once it is resumed: it is paused"
    assert describe(server(replicas=0)) == "is stopped, so that there is nothing to restart"
