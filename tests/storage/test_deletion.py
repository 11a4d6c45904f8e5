from app.storage.deletion import deletion_event
from app.storage.events import Event


def test_what_is_kept_of_a_server_is_named() -> None:
    assert deletion_event("files", ["metadata-files-0", "cache-files-0"], ["files-jwt-secret"]) == Event(
        "Normal",
        "ServerDeleted",
        "the server was deleted, and volume claims metadata-files-0, cache-files-0 and Secret files-jwt-secret are "
        "kept: another DittoServer named files in this namespace uses them again; delete them to delete its data",
    )


def test_nothing_is_said_where_nothing_is_kept() -> None:
    assert deletion_event("files", [], []) is None
