"""Caches of the real API server, and what becomes of them when it goes away or has forgotten where they were."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cluster.client import Cluster, Selection
from app.cluster.reader import CONFIG_MAPS, SECRETS, STORAGE_CLASSES
from app.cluster.reflector import GONE, Reflector, Store
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.wait import beside, until_async

pytestmark = pytest.mark.anyio
# Names of objects with the versions at which they are.
HISTORY = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9))


def config_map(name: str, namespace: str = "default", version: int = 1, **data: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@asynccontextmanager
async def running(reflector: Reflector) -> AsyncIterator[Reflector]:
    async with beside(reflector.run(), reflector.wait_for_sync(), 30):
        yield reflector


def names(store: Store) -> set[str]:
    return {name for _, name in store} - {"kube-root-ca.crt"}


def found(store: Store, namespace: str, name: str) -> Manifest:
    manifest = store.get((namespace, name))
    assert manifest is not None
    return manifest


def make(control_plane: ControlPlane, namespace: str, *names: str, **labels: str) -> None:
    for name in names:
        item = {**config_map(name, namespace), "metadata": {"name": name, "labels": labels}}
        control_plane.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(item))


async def test_older_news_never_replaces_newer() -> None:
    store = Store()
    store.put(config_map("a", version=7, at="7"))
    store.put(config_map("a", version=5, at="5"))
    store.remove(config_map("a", version=6))

    assert found(store, "default", "a")["data"] == {"at": "7"}

    store.remove(config_map("a", version=8))

    assert store.get(("default", "a")) is None


async def test_the_answer_to_a_write_is_read_at_once_and_does_not_bring_back_what_is_gone() -> None:
    store = Store()
    store.put_written(config_map("a", version=3))

    assert names(store) == {"a"}

    store.remove(config_map("a", version=9))
    store.put_written(config_map("a", version=8))

    assert names(store) == set()


async def test_an_answer_that_comes_after_news_of_others_is_kept_all_the_same() -> None:
    store = Store()
    store.put(config_map("b", version=9))
    store.put_written(config_map("a", version=8))
    store.remove(config_map("b", version=10))
    store.put_written(config_map("c", version=7))

    assert names(store) == {"a", "c"}


async def test_an_answer_that_comes_after_a_list_without_the_object_does_not_bring_it_back() -> None:
    store = Store()
    store.remove(config_map("a", version=5))
    store.keep_only([], None, 9)
    store.put_written(config_map("a", version=8))
    store.put_written(config_map("b", version=10))

    assert names(store) == {"b"}


async def test_an_answer_is_doubted_once_so_many_objects_are_gone_that_its_own_may_be_one_of_them() -> None:
    store = Store()
    for version in range(1, GONE + 3):
        store.remove(config_map(f"gone-{version}", version=version))
    store.put_written(config_map("gone-2", version=2))
    store.put_written(config_map("doubted", version=1))
    store.put_written(config_map("a", version=3))

    assert names(store) == {"a"}


async def test_what_was_written_after_a_list_is_not_missed_in_it() -> None:
    store = Store()
    for name, version in (("old", 3), ("new", 9)):
        store.put(config_map(name, version=version))
    store.put(config_map("elsewhere", "other", version=2))
    store.keep_only([], "default", 5)

    assert names(store) == {"new", "elsewhere"}


async def test_whoever_listens_hears_of_each_change_once() -> None:
    heard: list[str] = []
    store = Store()
    store.event_handlers.append(lambda _, manifest: heard.append(manifest["metadata"]["resourceVersion"]))
    for version in (1, 1, 2):
        store.put(config_map("a", version=version))
    store.remove(config_map("a", version=3))
    store.remove(config_map("a", version=3))

    assert heard == ["1", "2", "2"]


@given(before=HISTORY, after=HISTORY, list_version=st.integers(1, 9), late=HISTORY)
async def test_a_rewound_store_is_what_the_list_says(
    before: dict[str, int], after: dict[str, int], list_version: int, late: dict[str, int]
) -> None:
    """Whatever was known before, in whichever order versions come; writes of the new history are kept."""
    store = Store()
    for name, version in before.items():
        store.put(config_map(name, version=version, of="old"))
        store.remove(config_map(f"gone-{name}", version=version))

    store.forget_versions(None)
    heard: dict[str, str] = {}
    store.event_handlers.append(lambda key, manifest: heard.update({key[1]: manifest["data"]["of"]}))
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
        assert found(store, "default", name)["data"]["of"] == ("written" if name in written else "new")

    # The listeners are told of each object that there is, and of each one that there is no more.
    assert heard == dict.fromkeys(listed, "new") | dict.fromkeys(before.keys() - listed.keys(), "old")


async def test_a_rewind_of_one_namespace_leaves_others() -> None:
    store = Store()
    store.put(config_map("a", "here", version=7))
    store.put(config_map("a", "there", version=7))
    store.forget_versions("here")
    for namespace in ("here", "there"):
        store.put(config_map("a", namespace, version=5))

    assert [store.version((namespace, "a")) for namespace in ("here", "there")] == [5, 7]


async def test_an_answer_to_a_write_outlives_a_rewind() -> None:
    """The write was done after the restore, and the list that tells of the rewind does not have it."""
    store = Store()
    store.put(config_map("a", version=90))
    store.remove(config_map("b", version=95))
    store.forget_versions(None)
    for name, version in (("a", 12), ("b", 13)):
        store.put_written(config_map(name, version=version))
    store.put(config_map("a", version=7))
    store.keep_only([("default", "a")], None, 10)

    assert [store.version(("default", name)) for name in "ab"] == [12, 13]


async def test_the_garbage_collector_has_nothing_to_look_for_in_what_is_kept() -> None:
    store = Store()
    store.put(config_map("a"))
    store.forget_versions(None)
    store.put(config_map("a"))

    assert not gc.is_tracked(store._kept)
    assert not gc.is_tracked(store._versions)


@pytest.mark.parametrize("streams_lists", [True, False])
async def test_a_store_has_what_there_is_and_follows_it(
    control_plane: ControlPlane, namespace: str, *, streams_lists: bool
) -> None:
    make(control_plane, namespace, "a", "b", watched="yes")
    make(control_plane, namespace, "other")
    store = Store()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace, labels="watched=yes"), store)
        reflector._streams_lists = streams_lists
        async with running(reflector):
            assert names(store) == {"a", "b"}
            assert reflector.gap is None

            make(control_plane, namespace, "c", watched="yes")
            control_plane.kubectl("-n", namespace, "delete", "configmap", "a")
            control_plane.kubectl("-n", namespace, "label", "configmap", "b", "watched-")
            await until_async(lambda: names(store) == {"c"})


async def test_what_a_watch_has_told_is_kept_in_the_store_alone(control_plane: ControlPlane, namespace: str) -> None:
    store = Store()
    make(control_plane, namespace, "before")
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)),
    ):
        make(control_plane, namespace, "after")
        await until_async(lambda: names(store) == {"before", "after"})
        keys = set(store)
        kept = [each for each in gc.get_objects() if isinstance(each, set) and each & keys and each is not keys]

    assert kept == []


async def test_a_secret_is_watched_without_its_data(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "secret", "generic", "s3", "--from-literal=key=hunter2")
    store = Store()
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(SECRETS, namespace, metadata_only=True), store)),
    ):
        assert "data" not in found(store, namespace, "s3")


async def test_it_goes_on_from_where_it_was_when_the_server_comes_back(
    control_plane: ControlPlane, namespace: str
) -> None:
    make(control_plane, namespace, "a")
    store = Store()
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)),
    ):
        await asyncio.to_thread(control_plane.stop_apiserver)
        await asyncio.to_thread(control_plane.start_apiserver)
        make(control_plane, namespace, "b")
        await until_async(lambda: names(store) == {"a", "b"}, seconds=40)


async def test_what_was_deleted_while_nobody_looked_is_gone_though_the_server_forgot_the_deletion(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cluster.reflector.LONGEST_GAP_SECONDS", 600.0)
    make(control_plane, namespace, "a", "b")
    store = Store()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)
        async with running(reflector):
            assert names(store) == {"a", "b"}
        control_plane.kubectl("-n", namespace, "delete", "configmap", "a")
        # After a restart it knows nothing of what was before.
        await asyncio.to_thread(control_plane.stop_apiserver)
        await asyncio.to_thread(control_plane.start_apiserver)
        async with running(reflector):
            await until_async(lambda: names(store) == {"b"}, seconds=40)

    assert "too old resource version" in str([vars(record).get("reason") for record in caplog.records])


async def test_a_version_is_not_resumed_after_a_long_gap(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of another history by then, of which the watch would tell only from there on."""
    make(control_plane, namespace, "a")
    store = Store()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)
        async with running(reflector):
            assert names(store) == {"a"}
        store.put(config_map("of-another-history", namespace, version=1))
        monkeypatch.setattr("app.cluster.reflector.LONGEST_GAP_SECONDS", 0.0)
        async with running(reflector):
            await until_async(lambda: names(store) == {"a"})


@pytest.mark.parametrize("streams_lists", [True, False])
@pytest.mark.parametrize("ahead", [True, False], ids=["not yet as far", "further by now"])
async def test_a_list_of_a_rewound_history_is_the_truth(
    control_plane: ControlPlane, namespace: str, *, streams_lists: bool, ahead: bool
) -> None:
    make(control_plane, namespace, "a")
    listed = control_plane.get(f"/api/v1/namespaces/{namespace}/configmaps/a")
    make(control_plane, namespace, "b")
    version = 2**40 if ahead else int(listed["metadata"]["resourceVersion"]) + 1
    store = Store()
    store.put(config_map("a", namespace, version=version, of="the lost history"))
    store.put(config_map("lost", namespace, version=version))
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)
        reflector._streams_lists = streams_lists
        async with running(reflector):
            assert names(store) == {"a", "b"}
            assert "data" not in found(store, namespace, "a") or found(store, namespace, "a")["data"] == {}

            make(control_plane, namespace, "c")
            await until_async(lambda: names(store) == {"a", "b", "c"})


async def test_caches_that_belong_together_are_rewound_together(control_plane: ControlPlane, namespace: str) -> None:
    make(control_plane, namespace, "a")
    stores = Store(), Store()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:

        def relist() -> None:
            for reflector in reflectors:
                reflector.relist()

        selections = Selection(CONFIG_MAPS, namespace), Selection(SECRETS, namespace)
        reflectors = [
            Reflector(cluster, selection, store, handle_rewind=relist)
            for selection, store in zip(selections, stores, strict=True)
        ]
        async with running(reflectors[0]), running(reflectors[1]):
            stores[1].put(config_map("lost", namespace, version=2**40))
            stores[0].put(config_map("lost", namespace, version=2**40))
            # Only the watch of ConfigMaps breaks, as seen from here.
            reflectors[0]._version = ""

            assert reflectors[0]._attempt

            reflectors[0]._attempt.reschedule(0)
            await until_async(lambda: names(stores[0]) == {"a"} and names(stores[1]) == set())


async def test_silence_is_a_broken_connection(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(CONFIG_MAPS, namespace), store, silence=1)),
    ):
        await until_async(lambda: "within 1 s" in str([vars(record).get("reason") for record in caplog.records]))
        make(control_plane, namespace, "late")
        await until_async(lambda: names(store) == {"late"})


async def test_what_may_not_be_read_is_a_gap_until_it_may(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "few-rights")
    store = Store()
    async with Cluster.connect(control_plane.kubeconfig_for("few-rights", namespace)) as cluster:
        reflector = Reflector(cluster, Selection(STORAGE_CLASSES), store)
        async with running(reflector):
            assert reflector.gap
            assert reflector.gap.startswith("forbidden: storageclasses")

            account = f"{namespace}:few-rights"
            binding = ("clusterrolebinding", namespace, "--clusterrole=view-classes", f"--serviceaccount={account}")
            role = ("clusterrole", "view-classes", "--verb=list,watch", "--resource=storageclasses.storage.k8s.io")
            control_plane.kubectl("create", *role)
            control_plane.kubectl("create", *binding)
            await until_async(lambda: reflector.gap is None)
            control_plane.kubectl("delete", "clusterrole/view-classes", f"clusterrolebinding/{namespace}")


@pytest.mark.parametrize(
    "line", [b"<html>\n", b"{}\n", b"[]\n", b'{"type": "ERROR", "object": {"code": 500, "message": "x"}}\n', b""]
)
async def test_an_answer_that_is_no_watch_is_waited_out(tmp_path: Path, line: bytes) -> None:
    """As of a proxy in between."""
    answers: list[Any] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(line), line))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                    "users": [{"name": "c", "user": {}}],
                }
            )
        )
        async with Cluster.connect(kubeconfig) as cluster:
            reflector = Reflector(cluster, Selection(SECRETS), Store())
            async with asyncio.TaskGroup() as group:
                task = group.create_task(reflector.run())
                await until_async(lambda: len(answers) == 2)
                task.cancel()

    assert reflector.gap == "it has not been read yet"
