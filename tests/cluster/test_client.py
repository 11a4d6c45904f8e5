import asyncio
import base64
import os
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from prometheus_client import REGISTRY

from app.cluster.client import FIELD_MANAGER, LOG_BYTES, LOG_LINES, Cluster, Selection, parse_warnings
from app.cluster.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound, Unavailable
from app.cluster.reader import CONFIG_MAPS, EVENTS, SECRETS, STATEFUL_SETS, STORAGE_CLASSES, Resource
from app.storage.facts import DryRun
from certs.authority import Authority
from tests.controlplane.build import TEMPLATES_CHECKED, programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.endpoints import address, failure, kubeconfig, listening, trusting_kubeconfig
from tests.harness.raw_server import raw_server
from tests.harness.wait import until, until_async


@contextmanager
def silent_server(folder: Path) -> Iterator[str]:
    """Starts a server that begins a watch over TLS, and neither sends nor reads anything from then on."""
    pair = Authority.create("test", datetime.now(UTC)).issue_pair(["127.0.0.1"], datetime.now(UTC))
    (folder / "pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    over = threading.Event()

    def serve() -> None:
        with context.wrap_socket(server.accept()[0], server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n")
            over.wait()

    with listening() as server, ThreadPoolExecutor(1) as pool:
        pool.submit(serve)
        try:
            yield f"https://{address(server)}"
        finally:
            over.set()


def open_sockets() -> int:
    """Counts the sockets of this process."""
    return sum("socket:" in str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink())


@pytest.mark.anyio
async def test_a_refused_connection_is_unavailable(tmp_path: Path) -> None:
    with listening() as server:
        gone = address(server)
    assert await failure(kubeconfig(tmp_path / "c", f"http://{gone}")) == f"cannot ask {gone}: Connection refused"


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_server_that_never_answers_times_out(tmp_path: Path, scheme: str) -> None:
    with listening() as server:
        path = kubeconfig(tmp_path / "c", f"{scheme}://{address(server)}")
        assert await failure(path, timeout_seconds=0.2) == f"no answer from {address(server)} within 0.2 s"


@pytest.mark.anyio
async def test_leaving_a_watch_closes_its_connection(tmp_path: Path) -> None:
    with silent_server(tmp_path) as url:
        path = kubeconfig(tmp_path / "c", url)
        content = yaml.safe_load(path.read_text())
        content["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
        path.write_text(yaml.safe_dump(content))
        async with Cluster.connect(path) as cluster:
            async with aclosing(cluster.watch(Selection(SECRETS), ())) as lines:
                assert await anext(lines) == b"{}"

                watching = open_sockets()
            await until_async(lambda: open_sockets() == watching - 1, seconds=2)


WHERE_CHUNKS_ARE = (
    "app/cluster/client.py",
    "aiohttp/streams.py",
    "aiohttp/base_protocol.py",
    "aiohttp/client_proto.py",
)


@pytest.mark.anyio
async def test_a_watch_keeps_nothing_while_it_is_silent(tmp_path: Path) -> None:
    """A pod watches ten resources, and the lists that come first end in chunks of up to 256 KB."""
    listed = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + (b"x" * 1000 + b"\n") * 1000

    async def answer() -> AsyncIterator[bytes]:
        yield listed
        await asyncio.Event().wait()

    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(raw_server(lambda _: answer()))
        cluster = await stack.enter_async_context(Cluster.connect(kubeconfig(tmp_path / "c", url)))
        lines = await stack.enter_async_context(aclosing(cluster.watch(Selection(SECRETS), ())))
        tracemalloc.start()
        stack.callback(tracemalloc.stop)

        for _ in range(1000):
            assert len(await anext(lines)) == 1000
        # Coverage takes memory as well, some of it for these files. What is kept otherwise are 20 KB.
        filters = [tracemalloc.Filter(inclusive=True, filename_pattern=f"*/{name}") for name in WHERE_CHUNKS_ARE]
        traces = tracemalloc.take_snapshot().filter_traces(filters).traces

    assert sum(trace.size for trace in traces if trace.size >= 1000) < 10_000


@pytest.mark.anyio
async def test_a_dropped_connection_is_no_answer(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await failure(kubeconfig(tmp_path / "c", f"http://{host}"))).startswith(f"cannot ask {host}: ")


LOG = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "contains"),
    [
        (LOG + b"password: hunter2\nfailed to migrate: x\n", True),
        (LOG + b"failed\0\xff to migrate", False),
        (LOG, False),
        (LOG + b"." * 10 * LOG_BYTES + b"failed to migrate", False),
    ],
    ids=["a line", "other bytes", "an empty log", "beyond the limit"],
)
async def test_of_a_log_only_a_phrase_counts(tmp_path: Path, answer: bytes, *, contains: bool) -> None:
    requests = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readline())
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        path = kubeconfig(tmp_path / "c", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with Cluster.connect(path) as cluster:
            assert await cluster.previous_log_contains("a-0", "here", "b", b"failed to migrate") is contains

    query = f"container=b&previous=true&tailLines={LOG_LINES}&limitBytes={LOG_BYTES}"
    assert requests == [f"GET /api/v1/namespaces/here/pods/a-0/log?{query} HTTP/1.1\r\n".encode()]


@pytest.mark.anyio
async def test_a_log_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 7\r\n\r\nhunter2")
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        path = kubeconfig(tmp_path / "c", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with Cluster.connect(path) as cluster:
            with pytest.raises(Unavailable) as failed:
                await cluster.previous_log_contains("a-0", "here", "b", b"x")

    assert "hunter2" not in str(failed.value)


@pytest.mark.anyio
async def test_a_pod_without_a_previous_run_has_no_log(control_plane: ControlPlane, namespace: str) -> None:
    container = {"name": "main", "image": "sample"}
    pod = {"metadata": {"name": "unbound"}, "spec": {"containers": [container]}}
    control_plane.create(f"/api/v1/namespaces/{namespace}/pods", pod)

    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        assert not await cluster.previous_log_contains("unbound", namespace, "main", b"x")

        with pytest.raises(Invalid, match="other is not valid for pod unbound"):
            await cluster.previous_log_contains("unbound", namespace, "other", b"x")
        for name in ("absent", "../unbound", "", "."):
            with pytest.raises(NotFound):
                await cluster.previous_log_contains(name, namespace, "main", b"x")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n<html></html>",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_a_foreign_answer_proves_no_absence(tmp_path: Path, answer: bytes) -> None:
    """It comes from a proxy, or from whatever else listens where the API server should."""

    def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        path = kubeconfig(tmp_path / "c", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

        assert await failure(path)

        async with Cluster.connect(path) as cluster:
            with pytest.raises(Unavailable):
                await cluster.list(STORAGE_CLASSES)


@pytest.mark.anyio
async def test_requests_are_counted_like_client_gos(tmp_path: Path) -> None:
    with listening() as server:
        host = address(server)
    await failure(kubeconfig(tmp_path / "c", f"http://{host}"))
    labels = {"code": "<error>", "method": "GET", "host": host}

    assert REGISTRY.get_sample_value("rest_client_requests_total", labels) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        ("200 OK", "{}", None),
        ("404 Not Found", "{}", None),
        ("429 Too Many Requests\r\nRetry-After: 3", "no", 3.0),
        ("429 Too Many Requests\r\nRetry-After: 3", "{}", 0.0),
        ("503 Service Unavailable\r\nRetry-After: Fri, 27 Nov 2026 03:00:00 GMT", "no", 0.0),
        ("504 Gateway Timeout", "{}", 0.0),
        ("no HTTP", "no", 0.0),
    ],
)
async def test_the_end_of_a_request_tells_of_overload(
    tmp_path: Path, head: str, body: str, expected: float | None
) -> None:
    def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\n{body}".encode())
        writer.close()

    starts: list[int] = []
    answers: list[tuple[float, float | None]] = []
    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        path = kubeconfig(tmp_path / "c", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with Cluster.connect(path) as cluster:
            cluster.request_handlers.append(lambda: starts.append(len(answers)))
            cluster.answer_handlers.append(lambda seconds, retry_after: answers.append((seconds, retry_after)))
            with suppress(ClusterError):
                await cluster.get(SECRETS, "s3", "default")

    assert starts == [0]
    [(seconds, retry_after)] = answers
    assert seconds > 0
    assert retry_after == expected


@pytest.mark.anyio
async def test_an_overloaded_api_server_says_for_how_long(tmp_path: Path) -> None:
    flags = "--enable-priority-and-fairness=false", "--max-mutating-requests-inflight=1"
    answers: list[float | None] = []

    with ControlPlane(programs(os.environ), tmp_path, *flags) as overloaded:
        # An administrator is always answered. What others are not allowed to do is refused only after this.
        overloaded.kubectl("create", "serviceaccount", "many-questions")
        async with Cluster.connect(overloaded.kubeconfig_for("many-questions", "default")) as cluster:
            cluster.answer_handlers.append(lambda _, retry_after: answers.append(retry_after))

            async def create(number: int) -> None:
                metadata = {"name": f"m{number}", "namespace": "default"}
                with suppress(Forbidden, Unavailable):
                    await cluster.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

            # It is a matter of luck which ones are under way at the same time.
            async with asyncio.timeout(60):
                while not any(answers):
                    async with asyncio.TaskGroup() as group:
                        for number in range(50):
                            group.create_task(create(number))

    assert None in answers


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../configmaps/x", "a%2fb"])
async def test_a_name_that_alters_the_path_is_not_found(tmp_path: Path, name: str) -> None:
    async with Cluster.connect(kubeconfig(tmp_path / "c", "http://127.0.0.1:1")) as cluster:
        with pytest.raises(NotFound):
            await cluster.get(SECRETS, name)
        with pytest.raises(NotFound):
            await cluster.get(SECRETS, "s3", name or "..")


def secret(name: str, value: str = "hunter2") -> str:
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{key: {value}}}\n---\n"


@pytest.mark.anyio
async def test_an_object_is_returned_as_it_is(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=secret("s3"))
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        secret_s3 = await cluster.get(SECRETS, "s3", namespace)

    assert secret_s3["metadata"]["namespace"] == namespace
    assert base64.b64decode(secret_s3["data"]["key"]) == b"hunter2"


@pytest.mark.anyio
async def test_a_missing_object_is_not_found(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        with pytest.raises(NotFound, match=r'^secrets "gone" not found$'):
            await cluster.get(SECRETS, "gone", namespace)
        with pytest.raises(NotFound, match=r'^storageclasses.storage.k8s.io "gone" not found$'):
            await cluster.get(STORAGE_CLASSES, "gone")
        with pytest.raises(NotFound):
            await cluster.get(SECRETS, "s3", "no-such-namespace")


@pytest.mark.anyio
@pytest.mark.parametrize("version", ["v1", "example.com/v1"])
async def test_an_unknown_resource_is_unavailable(control_plane: ControlPlane, version: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        with pytest.raises(Unavailable):
            await cluster.get(Resource(version, "things", "Thing"), "one")


@pytest.mark.anyio
async def test_a_long_list_is_read_page_by_page(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{number}" for number in range(5)]
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input="".join(map(secret, names)))
    monkeypatch.setattr("app.cluster.client.PAGE_SIZE", 2)
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        listing = await cluster.list(SECRETS, namespace)

    assert [item["metadata"]["name"] for item in listing.items] == names
    assert listing.gap is None


@pytest.mark.anyio
async def test_a_forbidden_request_names_the_permission(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "few-rights", "-n", namespace)
    async with Cluster.connect(control_plane.kubeconfig_for("few-rights", namespace)) as cluster:
        with pytest.raises(Forbidden, match=r'^forbidden: secrets "s3" is forbidden: User ".*" cannot get resource'):
            await cluster.get(SECRETS, "s3", namespace)
        with pytest.raises(Forbidden, match=r"^forbidden: storageclasses.* cannot list resource"):
            await cluster.list(STORAGE_CLASSES)


@pytest.mark.anyio
async def test_bad_credentials_are_forbidden(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with Cluster.connect(trusting_kubeconfig(control_plane, tmp_path, token="wrong")) as cluster:
        with pytest.raises(Forbidden, match=r"^forbidden: Unauthorized$"):
            await cluster.list(STORAGE_CLASSES)


@pytest.mark.anyio
async def test_no_value_of_a_secret_is_logged_or_kept(
    control_plane: ControlPlane, namespace: str, log_lines: list[dict[str, Any]]
) -> None:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=secret("s3"))
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        encoded = (await cluster.get(SECRETS, "s3", namespace))["data"]["key"]
        kept = [vars(cluster), vars(cluster.connection), vars(cluster.connection.session)]

    assert encoded not in f"{kept} {log_lines}"


def config_map(namespace: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one", "namespace": namespace},
        "data": data,
    }


@pytest.mark.anyio
async def test_creating_an_existing_object_conflicts(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        await cluster.create(CONFIG_MAPS, config_map(namespace, a="1"))

        with pytest.raises(Conflict):
            await cluster.create(CONFIG_MAPS, config_map(namespace, a="2"))
        assert (await cluster.get(CONFIG_MAPS, "one", namespace))["data"] == {"a": "1"}


@pytest.mark.anyio
async def test_apply_gives_up_only_fields_of_its_manager(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        await cluster.apply(CONFIG_MAPS, config_map(namespace, a="1", b="2"))
        control_plane.kubectl("-n", namespace, "patch", "configmap", "one", "-p", '{"data": {"theirs": "3"}}')
        applied = await cluster.apply(CONFIG_MAPS, config_map(namespace, a="1"))

    assert applied["data"] == {"a": "1", "theirs": "3"}
    assert {entry["manager"] for entry in applied["metadata"]["managedFields"]} == {FIELD_MANAGER, "kubectl-patch"}


@pytest.mark.anyio
async def test_annotations_are_set_and_removed_alone(control_plane: ControlPlane, namespace: str) -> None:
    metadata = {"name": "a", "namespace": namespace}

    def annotated(**annotations: str | None) -> dict[str, Any]:
        return {"metadata": {**metadata, "annotations": annotations}}

    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        await cluster.create(CONFIG_MAPS, {"metadata": metadata})
        await cluster.merge(CONFIG_MAPS, annotated(one="1", two="2"), "tester")
        live = await cluster.merge(CONFIG_MAPS, annotated(one=None), "tester")

    assert live["metadata"]["annotations"] == {"two": "2"}


@pytest.mark.anyio
async def test_the_next_object_of_a_name_is_not_annotated(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        created = await cluster.create(CONFIG_MAPS, config_map(namespace, a="1"))
        identity = {key: created["metadata"][key] for key in ("name", "namespace")}
        with pytest.raises(Invalid):
            await cluster.merge(CONFIG_MAPS, {"metadata": {**identity, "uid": "another", "annotations": {"a": "1"}}})


@pytest.mark.anyio
async def test_a_changed_object_is_not_overwritten(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        old = await cluster.create(CONFIG_MAPS, config_map(namespace, a="1"))
        new = await cluster.replace(CONFIG_MAPS, {**old, "data": {"a": "2"}})
        stale = {**config_map(namespace, a="3"), "metadata": {**config_map(namespace)["metadata"], **version_of(old)}}

        with pytest.raises(Conflict):
            await cluster.apply(CONFIG_MAPS, stale)
        with pytest.raises(Conflict):
            await cluster.replace(CONFIG_MAPS, {**old, "data": {"a": "3"}})
        with pytest.raises(Conflict):
            await cluster.delete(CONFIG_MAPS, old)
        with pytest.raises(Invalid):
            await cluster.patch(CONFIG_MAPS, old, [{"op": "test", "path": "/data/a", "value": "1"}])

        patched = await cluster.patch(CONFIG_MAPS, old, [{"op": "add", "path": "/data/b", "value": "1"}])

        assert patched["data"] == {**new["data"], "b": "1"}

        await cluster.delete(CONFIG_MAPS, patched)

        with pytest.raises(NotFound):
            await cluster.delete(CONFIG_MAPS, patched)


@pytest.mark.anyio
async def test_metadata_is_listed_without_data(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input="".join(map(secret, ("s0", "s1", "s2"))))
    monkeypatch.setattr("app.cluster.client.PAGE_SIZE", 2)
    selection = Selection(SECRETS, namespace, metadata_only=True)
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        pages = [page async for page in cluster.pages(selection)]

    assert [len(page["items"]) for page in pages] == [2, 1]
    assert not any("data" in item for page in pages for item in page["items"])


@pytest.mark.anyio
async def test_a_watch_yields_each_change_as_a_line(control_plane: ControlPlane, namespace: str) -> None:
    selection = Selection(CONFIG_MAPS, namespace, labels="watched=yes")
    labelled = {**config_map(namespace)["metadata"], "labels": {"watched": "yes"}}
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        await cluster.create(CONFIG_MAPS, config_map(namespace, a="1"))
        async with aclosing(cluster.watch(selection, [("timeoutSeconds", "2")])) as lines:
            long = {**config_map(namespace, a="x" * 900_000), "metadata": {**labelled, "name": "two"}}
            await cluster.create(CONFIG_MAPS, long)
            events = [orjson.loads(line) async for line in lines]

    assert [(event["type"], event["object"]["data"]) for event in events] == [("ADDED", long["data"])]


@pytest.mark.anyio
async def test_fields_and_names_select_together(control_plane: ControlPlane, namespace: str) -> None:
    event = {
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
        "apiVersion": "v1",
        "kind": "Event",
    }
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        for name, kind in (("a", "Warning"), ("b", "Warning"), ("c", "Normal")):
            await cluster.create(EVENTS, {**event, "metadata": {"name": name, "namespace": namespace}, "type": kind})

        async def names(**selection: str) -> list[str]:
            pages = cluster.pages(Selection(EVENTS, namespace, **selection))  # type: ignore[arg-type]
            return [item["metadata"]["name"] async for page in pages for item in page["items"]]

        assert await names(fields="type=Warning") == ["a", "b"]
        assert await names(fields="type=Warning", name="b") == ["b"]
        assert await names(fields="type=Warning", name="c") == []


@pytest.mark.anyio
async def test_an_idle_watch_is_broken(control_plane: ControlPlane, namespace: str) -> None:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        with pytest.raises(Unavailable, match=r"no answer from .* within 0.3 s"):
            _ = [line async for line in cluster.watch(Selection(SECRETS, namespace), [], idle_seconds=0.3)]


def version_of(manifest: dict[str, Any]) -> dict[str, str]:
    return {"resourceVersion": manifest["metadata"]["resourceVersion"]}


@pytest.mark.anyio
async def test_a_permission_for_one_name_is_enough(control_plane: ControlPlane, namespace: str) -> None:
    def kubectl(*args: str) -> None:
        control_plane.kubectl("--namespace", namespace, *args)

    kubectl("create", "serviceaccount", "one")
    kubectl("create", "role", "one", "--verb=list,watch", "--resource=configmaps", "--resource-name=mine")
    kubectl("create", "rolebinding", "one", "--role=one", f"--serviceaccount={namespace}:one")
    kubectl("create", "configmap", "mine")
    kubectl("create", "configmap", "other")
    async with Cluster.connect(control_plane.kubeconfig_for("one", namespace)) as cluster:
        named = Selection(CONFIG_MAPS, namespace, name="mine")

        assert [item["metadata"]["name"] async for page in cluster.pages(named) for item in page["items"]] == ["mine"]
        with pytest.raises(Forbidden):
            _ = [page async for page in cluster.pages(Selection(CONFIG_MAPS, namespace, name="other"))]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("date", "hours"), [("Thu, 01 Jan 2026 06:00:00 GMT", 6), ("Thu, 01 Jan 2026 06:00:00 -0200", 8)]
)
async def test_the_time_is_the_api_servers(tmp_path: Path, date: str, hours: int) -> None:
    cluster = await cluster_after(tmp_path, f"Date: {date}\r\n")
    assert timedelta() <= cluster.now() - datetime(2026, 1, 1, hours, tzinfo=UTC) < timedelta(seconds=10)


@pytest.mark.anyio
@pytest.mark.parametrize("header", ["", "Date: yesterday\r\n"])
async def test_the_time_is_this_machines_otherwise(tmp_path: Path, header: str) -> None:
    cluster = await cluster_after(tmp_path, header)
    assert abs(cluster.now() - datetime.now(UTC)) < timedelta(seconds=10)


async def cluster_after(folder: Path, header: str) -> Cluster:
    """Returns the client after one answer with that header."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 503 Busy\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    file = kubeconfig(folder / "kubeconfig", f"http://{address(server.sockets[0])}")
    async with server, Cluster.connect(file) as cluster:
        with pytest.raises(Unavailable):
            await cluster.get(SECRETS, "s3")
        return cluster


@pytest.mark.parametrize(
    ("headers", "texts"),
    [
        ([], ()),
        (['299 - "one"'], ("one",)),
        (['299 - "one"', '299 - "two"'], ("one", "two")),
        (['299 - "one", 299 kube "two" "Fri, 27 Nov 2026 03:58:39 GMT"'], ("one", "two")),
        (['299 - "one"', '299 - "one"'], ("one",)),
        ([r'299 - "say \"so\", or \\ not"'], (r'say "so", or \ not',)),
        (['299 - "größer"'], ("größer",)),
        (["299 - unquoted", '29 - "short"', '299 - "open'], ()),
    ],
)
def test_warnings_are_read_from_headers(headers: list[str], texts: tuple[str, ...]) -> None:
    assert parse_warnings(headers) == texts


def a_stateful_set(namespace: str, **container: Any) -> dict[str, Any]:
    labels = {"app": "one"}
    container = {"name": "one", "image": "one", **container}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"serviceName": "one", "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "one", "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


class TestADryRun:
    """The real API server answers whether it would create an object, and stores none."""

    @pytest.fixture
    def policy(self, control_plane: ControlPlane, namespace: str) -> Iterator[None]:
        """Denies every StatefulSet in the namespace."""
        selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["statefulsets"]}
        specs = {
            "ValidatingAdmissionPolicy": {
                "matchConstraints": {"namespaceSelector": selector, "resourceRules": [rule]},
                "validations": [{"expression": "false", "message": "not on a Friday"}],
            },
            "ValidatingAdmissionPolicyBinding": {"policyName": namespace, "validationActions": ["Deny"]},
        }
        about = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
        policy = yaml.safe_dump_all({**about, "kind": kind, "spec": spec} for kind, spec in specs.items())
        manifest = yaml.safe_dump(a_stateful_set(namespace))

        control_plane.kubectl("apply", "-f", "-", input=policy)
        # The API server takes up a policy after a moment.
        create = ("create", "--dry-run=server", "-f", "-")
        until(lambda: control_plane.kubectl(*create, input=manifest, check=False).returncode == 1)

        yield
        control_plane.kubectl("delete", "-f", "-", input=policy)

    async def try_out(self, control_plane: ControlPlane, namespace: str, **container: Any) -> DryRun:
        async with Cluster.connect(control_plane.kubeconfig) as cluster:
            return await cluster.dry_run(STATEFUL_SETS, a_stateful_set(namespace, **container))

    @pytest.mark.anyio
    async def test_stores_nothing(self, control_plane: ControlPlane, namespace: str) -> None:
        assert await self.try_out(control_plane, namespace) == DryRun()

        assert control_plane.get(f"/apis/apps/v1/namespaces/{namespace}/statefulsets")["items"] == []

    @pytest.mark.anyio
    @pytest.mark.since(TEMPLATES_CHECKED)
    async def test_names_each_field_that_is_invalid(self, control_plane: ControlPlane, namespace: str) -> None:
        resources = {"requests": {"cpu": 2}, "limits": {"cpu": 1, "memory": "-1Gi"}}

        tried = await self.try_out(control_plane, namespace, resources=resources)

        at = "spec.template.spec.containers[0].resources"

        assert [(cause.field, cause.message) for cause in tried.causes] == [
            (f"{at}.limits[memory]", 'Invalid value: "-1Gi": must be greater than or equal to 0'),
            (f"{at}.requests", 'Invalid value: "2": must be less than or equal to cpu limit of 1'),
        ]
        assert tried.decoded

    @pytest.mark.anyio
    async def test_names_each_field_that_is_unknown(self, control_plane: ControlPlane, namespace: str) -> None:
        tried = await self.try_out(control_plane, namespace, resources={"limit": {}}, securityContext={"a b": 1})

        at = "spec.template.spec.containers[0]"

        assert {cause.field for cause in tried.causes} == {f"{at}.resources.limit", f"{at}.securityContext.a b"}
        assert not tried.decoded

    @pytest.mark.anyio
    @pytest.mark.parametrize("limits", [{"memory": "much"}, ["memory"], "1Gi"])
    async def test_says_what_cannot_be_read(self, control_plane: ControlPlane, namespace: str, limits: Any) -> None:
        tried = await self.try_out(control_plane, namespace, resources={"limits": limits})

        [cause] = tried.causes

        assert (cause.field, tried.decoded) == ("", False)
        assert "cannot be handled" not in cause.message

    @pytest.mark.anyio
    async def test_of_a_name_that_is_taken_gives_warnings(self, control_plane: ControlPlane, namespace: str) -> None:
        control_plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
        control_plane.create(f"/apis/apps/v1/namespaces/{namespace}/statefulsets", a_stateful_set(namespace))

        tried = await self.try_out(control_plane, namespace, resources={"limits": {"memory": "500m"}})

        assert tried.causes == ()
        assert sorted(text.partition(":")[0] for text in tried.warnings) == [
            "spec.template.spec.containers[0].resources.limits[memory]",
            'would violate PodSecurity "restricted',
        ]

    @pytest.mark.anyio
    @pytest.mark.usefixtures("policy")
    async def test_that_a_policy_denies_is_not_about_the_object(
        self, control_plane: ControlPlane, namespace: str
    ) -> None:
        with pytest.raises(Invalid, match="not on a Friday") as caught:
            await self.try_out(control_plane, namespace)

        assert caught.value.causes == ()

    @pytest.mark.anyio
    async def test_beyond_a_quota_is_not_about_the_object(self, control_plane: ControlPlane, namespace: str) -> None:
        hard = "--hard=count/statefulsets.apps=0"
        control_plane.kubectl("--namespace", namespace, "create", "quota", "none", hard)

        with pytest.raises(Forbidden, match="exceeded quota"):
            await self.try_out(control_plane, namespace)

    @pytest.mark.anyio
    async def test_in_no_namespace_is_not_about_the_object(self, control_plane: ControlPlane) -> None:
        with pytest.raises(NotFound, match="namespaces"):
            await self.try_out(control_plane, "none-such")
