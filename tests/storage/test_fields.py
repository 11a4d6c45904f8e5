from app.storage.fields import Within
from app.storage.spec import DittoServer


def test_a_bound_is_in_the_schema_as_it_is_checked() -> None:
    schema = DittoServer.model_json_schema()["$defs"]["Spec"]["properties"]["nfsPort"]

    assert (schema["minimum"], schema["maximum"], schema["format"]) == (1, 65535, "int32")
    assert Within(1).high == 2**31 - 1
