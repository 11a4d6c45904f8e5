import pydantic
import pytest

from app.storage.spec import DittoServer
from tests.harness.server_table import server


def test_names_are_those_of_the_manifest() -> None:
    parsed = DittoServer.model_validate(server(controlPlane={"port": 81}, nfsPort=82))

    assert (parsed.spec.control_plane.port, parsed.spec.nfs_port) == (81, 82)


def test_a_server_does_not_change_once_it_is_read() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        DittoServer().spec.nfs_port = 1  # type: ignore[misc]


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_nothing_is_taken_for_a_number_that_is_none(value: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        DittoServer.model_validate(server(nfsPort=value))
