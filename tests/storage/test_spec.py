from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest

from app.storage.defaulting import set_defaults
from app.storage.edit import edit
from app.storage.live import LiveState
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from tests.harness.server_table import server, storage
from tests.harness.spec_edits import EDITED, SCHEMA, FieldEdit, Path

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
# Where a field of this server changes, the field matters.
USED: Manifest = {
    **storage(contentSize="50Gi"),
    "metrics": {"enabled": True},
    "s3": {"credentialsSecretRef": {"secretName": "s3"}, "bucket": "media"},
    "smb": {"enabled": True},
}
# Only of a running server is known that another bucket restarts it.
RESTARTS_SOME_SERVERS = {("s3", "bucket")}


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


@pytest.mark.parametrize("path", sorted(EDITED), ids=".".join)
def test_each_text_says_whether_a_change_restarts_the_pod(path: Path) -> None:
    texts, schema = [], SCHEMA
    for name in path if path[0] != "podTemplate" else path[:1]:
        schema = schema["properties"][name]
        texts.append(schema["description"])

    is_announced = any("restarts the pod" in text for text in texts)

    if path[:2] != ("podTemplate", "spec") and path not in RESTARTS_SOME_SERVERS:
        assert is_announced == restarts(path)
    else:
        assert is_announced


def restarts(path: Path) -> bool:
    """Tells whether some change of the field restarts a server that uses it."""
    edits = [*(FieldEdit(path, value) for value in EDITED[path]), FieldEdit(path, removes=True)]
    if path == ("storage", "metadataSize"):
        edits.pop()
    old, *others = (set_defaults({**server(), "spec": change.apply(server(**USED)["spec"])}) for change in edits)

    return any(effect.restarts for new in others for effect in effects(old, new))


def effects(old: Manifest, new: Manifest) -> Any:
    return edit(old, new, LiveState(), NOON)
