import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import REASONS, Fault, Harm, Proxy, Request
from tests.harness.wait import until

# To Python's blocking TLS, a reset may look like a connection that ended too early.
BROKEN = (httpx.ReadError, httpx.RemoteProtocolError)


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(control_plane, tmp_path) as running:
        yield running


@pytest.fixture
def client(control_plane: ControlPlane, proxy: Proxy) -> Iterator[httpx.Client]:
    with admin(control_plane, proxy) as client:
        yield client


def admin(control_plane: ControlPlane, proxy: Proxy, connections: int = 100) -> httpx.Client:
    trust = ssl.create_default_context(cafile=control_plane.ca_file)
    headers = {"Authorization": f"Bearer {control_plane.token}"}
    return httpx.Client(
        base_url=proxy.url,
        verify=trust,
        headers=headers,
        trust_env=False,
        timeout=30,
        limits=httpx.Limits(max_connections=connections),
    )


def config_maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def create(client: httpx.Client, namespace: str, name: str = "sample", **data: str) -> httpx.Response:
    return client.post(config_maps(namespace), json=config_map(name, **data))


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def exists(control_plane: ControlPlane, namespace: str, name: str = "sample") -> bool:
    return control_plane.kubectl("get", "configmap", name, "-n", namespace, check=False).returncode == 0


def posts(request: Request) -> bool:
    return request.method == "POST"


def watches(request: Request) -> bool:
    return request.watch


class LeaseWatch:
    """A watch of a namespace's Leases, read in a thread.

    `outcome` is None while it is open, then "ended" or the error. It ends by itself after so many seconds, which are
    more than a test takes.
    """

    def __init__(self, client: httpx.Client, namespace: str, seconds: int = 120) -> None:
        self.lines: list[str] = []
        self.outcome: httpx.TransportError | str | None = None
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._query = {"watch": "1", "timeoutSeconds": str(seconds)}
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _read(self) -> None:
        try:
            with self._client.stream("GET", self._path, params=self._query) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)

            self.outcome = "ended"
        except httpx.TransportError as error:
            self.outcome = error


def create_lease(control_plane: ControlPlane, namespace: str, name: str) -> None:
    lease = f"{{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{name: {name}}}}}"
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=lease)


def test_reads_and_writes_pass_and_are_recorded(control_plane: ControlPlane, proxy: Proxy, namespace: str) -> None:
    through = ("-n", namespace, f"--kubeconfig={proxy.kubeconfig}")
    control_plane.kubectl("create", "configmap", "sample", "--from-literal=key=value", *through)
    read = control_plane.kubectl("get", "configmap", "sample", "-o", "jsonpath={.data.key}", *through)

    assert read.stdout == "value"

    [written] = filter(posts, proxy.requests)

    assert (written.path, written.status) == (config_maps(namespace), 201)
    assert written.query["fieldManager"] == "kubectl-create"
    assert written.user_agent.startswith("kubectl/")
    assert b"value" in written.body
    assert proxy.requests[-1].path == f"{config_maps(namespace)}/sample"
    assert [request.number for request in proxy.requests] == list(range(1, len(proxy.requests) + 1))


def test_an_account_keeps_its_identity_through_the_proxy(
    control_plane: ControlPlane, proxy: Proxy, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    reader = f"--kubeconfig={proxy.kubeconfig_for('reader', namespace)}"
    who = control_plane.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", reader)

    assert who.stdout == f"system:serviceaccount:{namespace}:reader"
    assert "Forbidden" in control_plane.kubectl("get", "secrets", "-n", namespace, reader, check=False).stderr
    assert proxy.requests[-1].status == 403


def test_a_compressed_answer_stays_compressed(
    control_plane: ControlPlane, client: httpx.Client, namespace: str
) -> None:
    create(client, namespace, key="value" * 50_000)

    answer = client.get(config_maps(namespace))

    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.json()["items"][-1]["data"] == {"key": "value" * 50_000}


def test_a_large_write_is_judged_by_the_api_server(client: httpx.Client, namespace: str) -> None:
    assert create(client, namespace, key="x" * 2_000_000).json()["reason"] == "Invalid"


def test_path_and_query_arrive_unchanged(proxy: Proxy, client: httpx.Client, namespace: str) -> None:
    answer = client.get(f"{config_maps(namespace)}/a%2541")

    assert '"a%41"' in answer.json()["message"]

    selector = "app in (one, two),tier!=a"

    assert client.get(config_maps(namespace), params={"labelSelector": selector}).json()["items"] == []
    assert proxy.requests[-1].query == {"labelSelector": selector}


def test_lines_arrive_while_a_watch_is_open(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    with LeaseWatch(client, namespace) as watch:
        until(lambda: len(proxy.watches) == 1)

        assert proxy.watches[0].status == 200

        for number, name in enumerate(("first", "second"), start=1):
            create_lease(control_plane, namespace, name)
            until(lambda number=number: len(watch.lines) == number)  # type: ignore[misc]
            assert f'"name":"{name}"' in watch.lines[-1]

        assert not watch.outcome

        proxy.cut_watches()


def test_a_watch_without_its_client_is_closed(control_plane: ControlPlane, proxy: Proxy, client: httpx.Client) -> None:
    with client.stream("GET", "/api/v1/namespaces", params={"watch": "true"}):
        assert len(proxy.watches) == 1

    until(lambda: not proxy.watches)


def test_a_watch_that_times_out_ends_without_an_error(proxy: Proxy, client: httpx.Client, namespace: str) -> None:
    with LeaseWatch(client, namespace, seconds=1) as watch:
        until(lambda: watch.outcome is not None)

    assert watch.outcome == "ended"
    assert not proxy.watches


def test_cut_watches_are_reset_and_others_stay_open(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    with client.stream("GET", "/api/v1/secrets", params={"watch": "true"}), LeaseWatch(client, namespace) as watch:
        until(lambda: len(proxy.watches) == 2)

        assert proxy.cut_watches(lambda request: request.path.endswith("leases")) == 1

        until(lambda: watch.outcome is not None)

        assert isinstance(watch.outcome, BROKEN)
        assert [request.path for request in proxy.watches] == ["/api/v1/secrets"]


def test_a_stalled_watch_waits_for_the_end_of_the_fault(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    """The watch may have been open before or not; `times` counts watches."""
    with ExitStack() as stack:
        early = stack.enter_context(LeaseWatch(client, namespace))
        until(lambda: len(proxy.watches) == 1)

        stalled = proxy.fault(watches, stall=True, times=2)
        late = stack.enter_context(LeaseWatch(client, namespace))
        until(lambda: stalled.taken == 2)
        free = stack.enter_context(LeaseWatch(client, namespace))
        until(lambda: len(proxy.watches) == 3)

        create_lease(control_plane, namespace, "sample")
        until(lambda: len(free.lines) == 1)

        assert (early.lines, late.lines) == ([], [])
        assert (early.outcome, late.outcome) == (None, None)

        stalled.remove()
        until(lambda: early.lines == late.lines == free.lines)

        proxy.cut_watches()


def test_a_stalled_watch_can_be_cut(proxy: Proxy, client: httpx.Client, namespace: str) -> None:
    with LeaseWatch(client, namespace) as watch, client.stream("GET", "/api/v1/secrets", params={"watch": "true"}):
        until(lambda: len(proxy.watches) == 2)
        with proxy.fault(lambda request: request.path.endswith("leases"), stall=True) as stalled:
            assert stalled.taken == 1
            assert proxy.cut_watches() == 2

            until(lambda: isinstance(watch.outcome, BROKEN))


@pytest.mark.parametrize("status", REASONS)
def test_an_injected_answer_is_a_status_and_not_passed_on(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str, status: int
) -> None:
    with proxy.fault(posts, answer=status):
        answer = create(client, namespace)

    assert answer.status_code == status == proxy.requests[-1].status
    assert answer.json() | {"message": ""} == {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": "",
        "reason": REASONS[status],
        "code": status,
    }
    assert answer.headers.get("Retry-After") == ("1" if status == 429 else None)
    assert client.get(f"{config_maps(namespace)}/sample").status_code == 404


def test_a_watch_can_be_answered_410(proxy: Proxy, client: httpx.Client, namespace: str) -> None:
    proxy.fault(watches, answer=410)
    answer = client.get(config_maps(namespace), params={"watch": "true"})

    assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")


def test_the_oldest_fault_comes_first_and_ends_after_its_times(proxy: Proxy, client: httpx.Client) -> None:
    def versions(request: Request) -> bool:
        return request.path == "/version"

    faults = [proxy.fault(versions, answer=status, times=times) for status, times in ((409, 2), (500, 1))]
    statuses = [client.get(path).status_code for path in ("/version", "/api", "/version", "/version", "/version")]

    assert statuses == [409, 200, 409, 500, 200]
    assert [fault.taken for fault in faults] == [2, 1]


def test_a_stall_affects_watches_only(proxy: Proxy, client: httpx.Client) -> None:
    with proxy.fault(lambda _: True, stall=True) as stalled:
        assert client.get("/api").json()["kind"] == "APIVersions"

    assert stalled.taken == 0


def test_each_proxy_has_its_own_faults(control_plane: ControlPlane, proxy: Proxy, tmp_path: Path) -> None:
    with Proxy(control_plane, tmp_path) as other:
        other.fault(lambda _: True, answer=403)
        codes = [
            control_plane.kubectl("get", "--raw=/version", f"--kubeconfig={through.kubeconfig}", check=False).returncode
            for through in (proxy, other)
        ]

    assert codes == [0, 1]


def test_a_fault_ends_when_it_is_removed(proxy: Proxy, client: httpx.Client) -> None:
    fault = proxy.fault(lambda _: True, answer=503)

    assert [client.get("/api").status_code for _ in range(3)] == [503, 503, 503]

    fault.remove()
    fault.remove()

    assert client.get("/api").status_code == 200

    with proxy.fault(lambda _: True, answer=503):
        assert client.get("/api").status_code == 503

    assert client.get("/api").status_code == 200


def test_a_hanging_request_is_not_passed_on(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    asyncio.run(send_and_hang_up(control_plane, proxy, namespace, proxy.fault(posts, hang=True)))

    assert client.get(f"{config_maps(namespace)}/sample").status_code == 404
    assert [request.status for request in proxy.requests] == [None, 404]


def test_a_hanging_request_ends_with_the_proxy(control_plane: ControlPlane, tmp_path: Path) -> None:
    with (
        ThreadPoolExecutor() as threads,
        Proxy(control_plane, tmp_path) as proxy,
        admin(control_plane, proxy) as client,
    ):
        hung = proxy.fault(lambda _: True, hang=True)
        answer = threads.submit(client.get, "/api")
        until(lambda: hung.taken == 1)

        proxy.__exit__()

        assert isinstance(answer.exception(60), httpx.TransportError)


@pytest.mark.parametrize(("cut", "done"), [("before", False), ("after", True)])
def test_a_request_is_cut_before_or_after_its_effect(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str, cut: Any, done: bool
) -> None:
    with proxy.fault(posts, cut=cut), pytest.raises(BROKEN):
        create(client, namespace)

    assert proxy.requests[-1].status is None
    assert exists(control_plane, namespace) is done


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_watch_is_cut_before_it_opens(proxy: Proxy, client: httpx.Client, cut: Any) -> None:
    with proxy.fault(watches, cut=cut, times=1), pytest.raises(BROKEN):
        client.get("/api/v1/secrets", params={"watch": "true"})

    assert not proxy.watches


def test_functions_run_around_a_write_and_before_its_answer(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    observed: list[tuple[bool, int | None]] = []

    def look() -> None:
        observed.append((exists(control_plane, namespace), proxy.requests[-1].status))

    with proxy.fault(posts, before=look, after=look):
        assert create(client, namespace).status_code == 201

    assert observed == [(False, None), (True, None)]
    assert proxy.requests[-1].status == 201


def test_a_function_may_use_the_proxy(proxy: Proxy, client: httpx.Client) -> None:
    def end() -> None:
        fault.remove()

    fault = proxy.fault(lambda _: True, answer=500, before=end)

    assert [client.get("/api").status_code for _ in range(2)] == [500, 200]


def test_a_request_outlives_its_client(control_plane: ControlPlane, proxy: Proxy, namespace: str) -> None:
    gone = threading.Event()

    asyncio.run(send_and_hang_up(control_plane, proxy, namespace, proxy.fault(posts, before=gone.wait)))

    assert not exists(control_plane, namespace)

    gone.set()
    until(lambda: exists(control_plane, namespace))


async def send_and_hang_up(control_plane: ControlPlane, proxy: Proxy, namespace: str, fault: Fault) -> None:
    """Creates a ConfigMap, and closes the connection without an answer as soon as the fault has taken the request."""
    url = httpx.URL(proxy.url)
    trust = ssl.create_default_context(cafile=control_plane.ca_file)
    _, writer = await asyncio.open_connection(url.host, url.port, ssl=trust)
    body = json.dumps(config_map("sample"))
    head = (
        f"POST {config_maps(namespace)} HTTP/1.1",
        "Host: sample",
        f"Authorization: Bearer {control_plane.token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    writer.write("\r\n".join([*head, "", body]).encode())

    await asyncio.to_thread(until, lambda: fault.taken == 1)

    writer.close()
    await writer.wait_closed()


@pytest.mark.anyio
async def test_a_cut_connection_is_reset(control_plane: ControlPlane, proxy: Proxy) -> None:
    proxy.fault(lambda _: True, cut="before")
    trust = ssl.create_default_context(cafile=control_plane.ca_file)
    url = httpx.URL(proxy.url)
    reader, writer = await asyncio.open_connection(url.host, url.port, ssl=trust)
    writer.write(b"GET /api HTTP/1.1\r\nHost: sample\r\n\r\n")

    with pytest.raises(ConnectionResetError):
        await reader.read()


def test_a_stopped_api_server_ends_open_watches(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    with LeaseWatch(client, namespace) as watch:
        until(lambda: len(proxy.watches) == 1)

        control_plane.stop_apiserver()
        try:
            with pytest.raises(BROKEN):
                client.get("/api")

            until(lambda: watch.outcome is not None)
        finally:
            control_plane.start_apiserver()

    assert client.get("/api").status_code == 200
    assert [request.status for request in proxy.requests[1:]] == [None, 200]


def fails() -> None:
    raise LookupError("not as expected")


@pytest.mark.parametrize(
    ("predicate", "harm"),
    [(lambda _: fails(), Harm()), (posts, Harm(before=fails)), (posts, Harm(after=fails))],
    ids=["predicate", "before", "after"],
)
def test_an_error_in_a_function_ends_the_proxy(
    control_plane: ControlPlane, tmp_path: Path, namespace: str, predicate: Callable[[Request], bool], harm: Harm
) -> None:
    def use() -> None:
        with Proxy(control_plane, tmp_path) as proxy, admin(control_plane, proxy) as client:
            proxy.fault(predicate, **harm)
            with pytest.raises(BROKEN):
                create(client, namespace)

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="not as expected")):
        use()


def test_an_error_in_the_test_comes_out_unchanged(control_plane: ControlPlane, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="not as expected"), Proxy(control_plane, tmp_path):
        fails()


def test_hundreds_of_watches_are_open_at_once(control_plane: ControlPlane, proxy: Proxy, namespace: str) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(admin(control_plane, proxy, connections=300))
        for _ in range(200):
            stack.enter_context(client.stream("GET", config_maps(namespace), params={"watch": "true"}))

        assert len(proxy.watches) == 200
        assert client.get("/api").status_code == 200
        assert proxy.cut_watches() == 200
