"""Reflectors of the real API server, which restarts, forgets versions and goes back to earlier ones."""

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.cluster.client import Cluster, Selection
from app.cluster.reader import CONFIG_MAPS, SECRETS, STORAGE_CLASSES
from app.cluster.reflector import Reflector
from app.cluster.store import Store
from app.storage.unstructured import Manifest, ObjectKey
from tests.controlplane.cluster import ControlPlane
from tests.harness.log_lines import record_lines
from tests.harness.wait import run_beside, until_async

pytestmark = pytest.mark.anyio


def config_map(name: str, namespace: str = "default", version: int = 1, **data: str) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@asynccontextmanager
async def running(reflector: Reflector) -> AsyncIterator[Reflector]:
    async with run_beside(reflector.run(), reflector.wait_for_sync(), 30):
        yield reflector


def names(store: Store) -> set[str]:
    return {name for _, name in store} - {"kube-root-ca.crt"}


def stored(store: Store, namespace: str, name: str) -> Manifest:
    manifest = store.get((namespace, name))
    assert manifest is not None
    return manifest


def create(control_plane: ControlPlane, namespace: str, *names: str, **labels: str) -> None:
    for name in names:
        item = {**config_map(name, namespace), "metadata": {"name": name, "labels": labels}}
        control_plane.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(item))


@pytest.mark.parametrize("streams_lists", [True, False])
async def test_a_store_follows_the_cluster(control_plane: ControlPlane, namespace: str, *, streams_lists: bool) -> None:
    create(control_plane, namespace, "a", "b", watched="yes")
    create(control_plane, namespace, "other")
    store = Store()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace, labels="watched=yes"), store)
        reflector.streams_lists = streams_lists
        async with running(reflector):
            assert names(store) == {"a", "b"}
            assert reflector.gap is None

            create(control_plane, namespace, "c", watched="yes")
            control_plane.kubectl("-n", namespace, "delete", "configmap", "a")
            control_plane.kubectl("-n", namespace, "label", "configmap", "b", "watched-")
            await until_async(lambda: names(store) == {"c"})


@pytest.mark.parametrize("streams_lists", [True, False])
async def test_a_long_list_lets_others_have_a_turn(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, namespace: str, *, streams_lists: bool
) -> None:
    # Every object takes too long.
    monkeypatch.setattr("app.cluster.reflector.EVENT_LOOP_TURN_SECONDS", -1.0)
    create(control_plane, namespace, "a", "b", "c")
    turn, turns = 0, []

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        store = Store()
        store.event_handlers.append(lambda *_: turns.append(turn))
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)
        reflector.streams_lists = streams_lists
        async with run_beside(take_turns(), asyncio.sleep(0), 30), running(reflector):
            assert names(store) == {"a", "b", "c"}

    assert len(set(turns)) == len(turns) >= 3


async def test_listed_keys_are_not_kept_beside_the_store(control_plane: ControlPlane, namespace: str) -> None:
    store = Store()
    create(control_plane, namespace, "before")
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)),
    ):
        create(control_plane, namespace, "after")
        await until_async(lambda: names(store) == {"before", "after"})
        keys = set(store)
        kept = [other for other in gc.get_objects() if isinstance(other, set) and other & keys and other is not keys]

    assert kept == []


async def test_a_secret_is_watched_without_its_data(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("-n", namespace, "create", "secret", "generic", "s3", "--from-literal=key=hunter2")
    store = Store()
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(SECRETS, namespace, metadata_only=True), store)),
    ):
        assert "data" not in stored(store, namespace, "s3")


async def test_a_watch_resumes_after_a_restart(control_plane: ControlPlane, namespace: str) -> None:
    create(control_plane, namespace, "a")
    store = Store()
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)),
    ):
        await asyncio.to_thread(control_plane.stop_apiserver)
        await asyncio.to_thread(control_plane.start_apiserver)
        create(control_plane, namespace, "b")
        await until_async(lambda: names(store) == {"a", "b"}, seconds=40)


async def test_a_missed_deletion_is_found_by_a_list(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cluster.reflector.LONGEST_GAP_SECONDS", 600.0)
    create(control_plane, namespace, "a", "b")
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
    """It may belong to another history by then, of which a watch would report only what follows."""
    create(control_plane, namespace, "a")
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
    create(control_plane, namespace, "a")
    listed = control_plane.get(f"/api/v1/namespaces/{namespace}/configmaps/a")
    create(control_plane, namespace, "b")
    version = 2**40 if ahead else int(listed["metadata"]["resourceVersion"]) + 1
    store = Store()
    store.put(config_map("a", namespace, version=version, of="the lost history"))
    store.put(config_map("lost", namespace, version=version))
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)
        reflector.streams_lists = streams_lists
        async with running(reflector):
            assert names(store) == {"a", "b"}
            assert "data" not in stored(store, namespace, "a") or stored(store, namespace, "a")["data"] == {}

            create(control_plane, namespace, "c")
            await until_async(lambda: names(store) == {"a", "b", "c"})


async def test_related_reflectors_rewind_together(control_plane: ControlPlane, namespace: str) -> None:
    create(control_plane, namespace, "a")
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


async def test_an_idle_watch_is_restarted(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    async with (
        Cluster.connect(control_plane.kubeconfig) as cluster,
        running(Reflector(cluster, Selection(CONFIG_MAPS, namespace), store, idle_seconds=1)),
    ):
        await until_async(lambda: "within 1 s" in str([vars(record).get("reason") for record in caplog.records]))
        create(control_plane, namespace, "late")
        await until_async(lambda: names(store) == {"late"})


async def test_without_streamed_lists_a_watch_may_be_idle(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an API server sends no bookmark while nothing changes."""
    store = Store()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store, idle_seconds=1)
        reflector.streams_lists = False
        async with running(reflector):
            await asyncio.sleep(3)
            create(control_plane, namespace, "late")
            await until_async(lambda: names(store) == {"late"})

    assert not [record for record in caplog.records if record.getMessage() == "watch broken"]


async def test_a_forbidden_list_is_a_gap_until_allowed(control_plane: ControlPlane, namespace: str) -> None:
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
async def test_a_foreign_answer_is_retried(tmp_path: Path, line: bytes) -> None:
    """Such an answer may come from a proxy."""
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


@pytest.mark.parametrize("streams_lists", [True, False])
async def test_a_relist_amid_events_lists_again(
    control_plane: ControlPlane, namespace: str, *, streams_lists: bool
) -> None:
    """What the watch that is about to end still hears is no version to resume from."""
    store, relisted = Store(), asyncio.Event()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)
        reflector.streams_lists = streams_lists

        def relist_once(key: ObjectKey, _: Manifest) -> None:
            if key[1] == "a" and not relisted.is_set():
                relisted.set()
                reflector.relist()

        async with running(reflector):
            store.event_handlers.append(relist_once)
            create(control_plane, namespace, "a")
            await asyncio.wait_for(relisted.wait(), 30)
            await asyncio.wait_for(reflector.wait_for_sync(), 30)

            assert "a" in names(store)


async def test_a_relist_amid_a_list_lists_again(control_plane: ControlPlane, namespace: str) -> None:
    create(control_plane, namespace, "a")
    store, lists = Store(), 0
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)

        def relist_once(key: ObjectKey, _: Manifest) -> None:
            nonlocal lists
            lists += key[1] == "a"
            if lists == 1:
                reflector.relist()

        store.event_handlers.append(relist_once)
        async with running(reflector):
            assert lists == 2
            assert not reflector.is_stale


async def test_an_outage_is_logged_once(control_plane: ControlPlane, namespace: str) -> None:
    store = Store()
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        url, cluster.connection.url = cluster.connection.url, "https://127.0.0.1:1"
        with record_lines(logging.DEBUG) as lines:
            reflector = Reflector(cluster, Selection(CONFIG_MAPS, namespace), store)
            async with run_beside(reflector.run(), asyncio.sleep(0), 10):
                await until_async(lambda: [line["message"] for line in lines].count("watch broken") > 2)
                cluster.connection.url = url
                await until_async(lambda: lines[-1]["message"] == "watching again")

    logged = [(line["level"], line["message"], line["resource"]) for line in lines if line["level"] != "DEBUG"]
    assert logged == [("WARNING", "watch broken", "configmaps"), ("INFO", "watching again", "configmaps")]
