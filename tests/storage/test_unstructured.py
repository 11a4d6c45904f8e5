from app.storage.unstructured import is_terminating, key_of, namespaced_key


def test_a_key_is_the_namespace_and_the_name() -> None:
    assert key_of({"metadata": {"namespace": "storage", "name": "files"}}) == ("storage", "files")


def test_what_has_no_namespace_has_an_empty_one_in_its_key() -> None:
    assert key_of({"metadata": {"name": "fast"}}) == ("", "fast")
    assert key_of({"metadata": {"namespace": None, "name": "fast"}}) == ("", "fast")


def test_a_manifest_without_a_namespace_belongs_to_the_default_one() -> None:
    assert namespaced_key({"metadata": {"name": "files"}}) == ("default", "files")
    assert namespaced_key({"metadata": {"namespace": "storage", "name": "files"}}) == ("storage", "files")


def test_an_object_with_a_deletion_timestamp_is_terminating() -> None:
    assert is_terminating({"metadata": {"deletionTimestamp": "2026-11-27T00:00:00Z"}})
    assert not is_terminating({"metadata": {"deletionTimestamp": None}})
    assert not is_terminating({"metadata": {}})
