import pytest

from tests.harness.judgements import rejected, warned
from tests.harness.server_table import server


@pytest.mark.parametrize(("port", "warns"), [(1023, True), (1024, False)])
def test_a_privileged_port_is_a_warning(port: int, *, warns: bool) -> None:
    assert bool(warned(server(metrics={"enabled": True, "port": port}))) is warns


def test_an_annotation_needs_a_name_kubernetes_takes() -> None:
    [message] = rejected(server(service={"annotations": {"a b": ""}}))

    assert message == 'service.annotations has "a b", which is no name for an annotation'
