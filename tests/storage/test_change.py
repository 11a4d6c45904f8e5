from app.storage.change import Change
from tests.harness.server_table import server, storage


def test_a_new_server_adds_all_its_volumes() -> None:
    change = Change.read(server())

    assert [volume.name for volume in change.added] == ["metadata", "cache"]
    assert change.resized == change.added


def test_an_edit_resizes_what_it_names() -> None:
    change = Change.read(server(**storage(cacheSize="6Gi")), server())

    assert [volume.name for volume in change.resized] == ["cache"]
    assert not change.added


def test_an_unchanged_spec_is_no_change() -> None:
    assert Change.read(server(), server()).spec_is_unchanged
    assert not Change.read(server(nfsPort=2050), server()).spec_is_unchanged
