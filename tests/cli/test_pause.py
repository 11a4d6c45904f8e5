from collections.abc import Callable

from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import server
from tests.harness.wait import until


def test_a_paused_server_is_left_alone_until_it_is_resumed(
    plugin: Callable[..., list[str]], operated: OperatorNamespace
) -> None:
    operated.apply(server())
    until(lambda: bool(operated.get("pod", "files-0")))
    here = ("-n", operated.namespace)
    plugin("pause", *here, "files")
    until(lambda: operated.condition("files", "Reconciling")["reason"] == "Paused")

    plugin("restart", *here, "files")
    operated.kubectl("delete", "service", "files-api")
    operated.wait_until_observed("files")
    assert operated.get("service", "files-api") is None

    [line] = plugin("resume", *here, "files")
    assert line == f"DittoServer {operated.namespace}/files is resumed"
    until(lambda: bool(operated.get("service", "files-api")))
