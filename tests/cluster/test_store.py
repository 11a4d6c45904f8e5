"""The store of a reflector: versions, tombstones, rewinds and event handlers, without any cluster."""

import gc
import tracemalloc

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.cluster.store import TOMBSTONE_LIMIT, Store, encode
from app.storage.unstructured import Manifest

# Names of objects with the versions at which they are.
HISTORY = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9))


def config_map(name: str, namespace: str = "default", version: int = 1, **data: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def names(store: Store) -> set[str]:
    return {name for _, name in store}


def stored(store: Store, namespace: str, name: str) -> Manifest:
    manifest = store.get((namespace, name))
    assert manifest is not None
    return manifest


def test_an_older_version_never_replaces_a_newer() -> None:
    store = Store()
    store.put(config_map("a", version=7, at="7"))
    store.put(config_map("a", version=5, at="5"))
    store.remove(config_map("a", version=6))

    assert stored(store, "default", "a")["data"] == {"at": "7"}

    store.remove(config_map("a", version=8))

    assert store.get(("default", "a")) is None


def test_an_answer_to_a_write_never_revives_an_object() -> None:
    store = Store()
    store.put_written(config_map("a", version=3))

    assert names(store) == {"a"}

    store.remove(config_map("a", version=9))
    store.put_written(config_map("a", version=8))

    assert names(store) == set()


def test_an_answer_after_events_of_others_is_kept() -> None:
    store = Store()
    store.put(config_map("b", version=9))
    store.put_written(config_map("a", version=8))
    store.remove(config_map("b", version=10))
    store.put_written(config_map("c", version=7))

    assert names(store) == {"a", "c"}


def test_an_answer_older_than_a_list_is_dropped() -> None:
    store = Store()
    store.remove(config_map("a", version=5))
    store.keep_only([], None, 9)
    store.put_written(config_map("a", version=8))
    store.put_written(config_map("b", version=10))

    assert names(store) == {"b"}


def test_an_answer_may_be_older_than_all_tombstones() -> None:
    store = Store()
    for version in range(1, TOMBSTONE_LIMIT + 3):
        store.remove(config_map(f"gone-{version}", version=version))
    store.put_written(config_map("gone-2", version=2))
    store.put_written(config_map("doubted", version=1))
    store.put_written(config_map("a", version=3))

    assert names(store) == {"a"}


def test_a_list_removes_no_object_written_after_it() -> None:
    store = Store()
    for name, version in (("old", 3), ("new", 9)):
        store.put(config_map(name, version=version))
    store.put(config_map("elsewhere", "other", version=2))
    store.keep_only([], "default", 5)

    assert names(store) == {"new", "elsewhere"}


def test_an_event_handler_is_called_once_per_change() -> None:
    reported: list[str] = []
    store = Store()
    store.event_handlers.append(lambda _, manifest: reported.append(manifest["metadata"]["resourceVersion"]))
    for version in (1, 1, 2):
        store.put(config_map("a", version=version))
    store.remove(config_map("a", version=3))
    store.remove(config_map("a", version=3))

    assert reported == ["1", "2", "2"]


@given(before=HISTORY, after=HISTORY, list_version=st.integers(1, 9), late=HISTORY)
def test_a_rewound_store_is_what_the_list_says(
    before: dict[str, int], after: dict[str, int], list_version: int, late: dict[str, int]
) -> None:
    """The earlier state and the order of versions do not matter; writes of the new history are kept."""
    store = Store()
    for name, version in before.items():
        store.put(config_map(name, version=version, of="old"))
        store.remove(config_map(f"gone-{name}", version=version))

    store.forget_versions(None)
    reported: dict[str, str] = {}
    store.event_handlers.append(lambda key, manifest: reported.update({key[1]: manifest["data"]["of"]}))
    listed = {name: min(version, list_version) for name, version in after.items()}
    for name, version in listed.items():
        store.put(config_map(name, version=version, of="new"))
    store.keep_only([("default", name) for name in listed], None, list_version)
    written = {name: list_version + version for name, version in late.items()}
    for name, version in written.items():
        store.put_written(config_map(name, version=version, of="written"))

    expected = listed | written

    assert {name: store.version(("default", name)) for name in names(store)} == expected

    for name in expected:
        assert stored(store, "default", name)["data"]["of"] == ("written" if name in written else "new")

    # Each object that exists is reported, and each one that no longer does.
    assert reported == dict.fromkeys(listed, "new") | dict.fromkeys(before.keys() - listed.keys(), "old")


def test_a_rewind_of_one_namespace_leaves_others() -> None:
    store = Store()
    store.put(config_map("a", "here", version=7))
    store.put(config_map("a", "there", version=7))
    store.forget_versions("here")
    for namespace in ("here", "there"):
        store.put(config_map("a", namespace, version=5))

    assert [store.version((namespace, "a")) for namespace in ("here", "there")] == [5, 7]


def test_an_answer_to_a_write_outlives_a_rewind() -> None:
    """The write followed the restore, and the list that reveals the rewind does not have it yet."""
    store = Store()
    store.put(config_map("a", version=90))
    store.remove(config_map("b", version=95))
    store.forget_versions(None)
    for name, version in (("a", 12), ("b", 13)):
        store.put_written(config_map(name, version=version))
    store.put(config_map("a", version=7))
    store.keep_only([("default", "a")], None, 10)

    assert [store.version(("default", name)) for name in "ab"] == [12, 13]


def test_the_garbage_collector_skips_what_is_stored() -> None:
    store = Store()
    store.put(config_map("a"))
    store.forget_versions(None)
    store.put(config_map("a"))

    assert not gc.is_tracked(store._objects)
    assert not any(gc.is_tracked(value) for value in store._objects.values())


def test_objects_that_are_alike_take_little_memory() -> None:
    store = Store()
    for number in range(100):
        store.put(config_map(f"a{number}", script="".join(map(str, range(500)))))

    assert sum(map(len, store._objects.values())) < 100 * 100


@given(sizes=st.lists(st.integers(0, 20_000), min_size=1, max_size=5))
def test_an_object_is_what_was_stored_whatever_was_stored_first(sizes: list[int]) -> None:
    """Also when all others are gone, and another one is the first."""
    store = Store()
    for _ in range(2):
        for number, size in enumerate(sizes):
            store.put(config_map(f"a{number}", text="x" * size, digits="".join(map(str, range(size % 999)))))
        for number, size in enumerate(sizes):
            assert len(stored(store, "default", f"a{number}")["data"]["text"]) == size

        store.forget_versions(None)
        store.keep_only([], None, 1)
        assert names(store) == set()


def test_encoded_values_take_no_more_memory_than_they_are_long() -> None:
    tracemalloc.start()
    try:
        kept = [encode({"number": number}) for number in range(1000)]
        memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert orjson.loads(kept[7]) == {"number": 7}
    assert memory < 1000 * 100
