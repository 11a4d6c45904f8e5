import pydantic
import pytest

from app.storage.spec import DittoServer, Within
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


def test_a_bound_is_in_the_schema_as_it_is_checked() -> None:
    schema = DittoServer.model_json_schema()["$defs"]["Spec"]["properties"]["nfsPort"]

    assert (schema["minimum"], schema["maximum"], schema["format"]) == (1, 65535, "int32")
    assert Within(1).high == 2**31 - 1
