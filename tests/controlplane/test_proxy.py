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

# Python's blocking TLS takes a reset for an end that came too early.
BROKEN = (httpx.ReadError, httpx.RemoteProtocolError)


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(control_plane, tmp_path) as running:
        yield running


@pytest.fixture
def client(control_plane: ControlPlane, proxy: Proxy) -> Iterator[httpx.Client]:
    with admin(control_plane, proxy) as connected:
        yield connected


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


class Watching:
    """A watch of a namespace's Leases, read in a thread; `ended` is how it ended once it has."""

    def __init__(self, client: httpx.Client, namespace: str, seconds: int = 20) -> None:
        self.lines: list[str] = []
        self.ended: httpx.TransportError | str | None = None
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
            self.ended = "well"
        except httpx.TransportError as error:
            self.ended = error


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


def test_an_account_is_itself_through_the_proxy(control_plane: ControlPlane, proxy: Proxy, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    reader = f"--kubeconfig={proxy.kubeconfig_for('reader', namespace)}"
    who = control_plane.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", reader)

    assert who.stdout == f"system:serviceaccount:{namespace}:reader"
    assert "Forbidden" in control_plane.kubectl("get", "secrets", "-n", namespace, reader, check=False).stderr
    assert proxy.requests[-1].status == 403


def test_what_the_api_server_compressed_stays_so(
    control_plane: ControlPlane, client: httpx.Client, namespace: str
) -> None:
    create(client, namespace, key="value" * 50_000)
    answer = client.get(config_maps(namespace))
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.json()["items"][-1]["data"] == {"key": "value" * 50_000}


def test_a_large_write_is_judged_by_the_api_server(client: httpx.Client, namespace: str) -> None:
    assert create(client, namespace, key="x" * 2_000_000).json()["reason"] == "Invalid"


def test_path_and_query_arrive_as_they_were_sent(proxy: Proxy, client: httpx.Client, namespace: str) -> None:
    answer = client.get(f"{config_maps(namespace)}/a%2541")

    assert '"a%41"' in answer.json()["message"]

    selector = "app in (one, two),tier!=a"

    assert client.get(config_maps(namespace), params={"labelSelector": selector}).json()["items"] == []
    assert proxy.requests[-1].query == {"labelSelector": selector}


def test_a_line_of_a_watch_arrives_while_the_watch_is_open(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    with Watching(client, namespace) as watching:
        until(lambda: len(proxy.watches) == 1)

        assert proxy.watches[0].status == 200

        for number, name in enumerate(("first", "second"), start=1):
            create_lease(control_plane, namespace, name)
            until(lambda number=number: len(watching.lines) == number)  # type: ignore[misc]
            assert f'"name":"{name}"' in watching.lines[-1]

        assert not watching.ended

        proxy.cut_watches()


def test_a_watch_that_its_client_left_is_no_longer_open(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client
) -> None:
    with client.stream("GET", "/api/v1/namespaces", params={"watch": "true"}):
        assert len(proxy.watches) == 1
    until(lambda: not proxy.watches)


def test_a_watch_that_the_api_server_ended_ends_well(proxy: Proxy, client: httpx.Client, namespace: str) -> None:
    with Watching(client, namespace, seconds=1) as watching:
        until(lambda: watching.ended is not None)
    assert watching.ended == "well"
    assert not proxy.watches


def test_cut_watches_are_reset_and_the_others_stay(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    with client.stream("GET", "/api/v1/secrets", params={"watch": "true"}), Watching(client, namespace) as watching:
        until(lambda: len(proxy.watches) == 2)

        assert proxy.cut_watches(lambda request: request.path.endswith("leases")) == 1

        until(lambda: watching.ended is not None)

        assert isinstance(watching.ended, BROKEN)
        assert [request.path for request in proxy.watches] == ["/api/v1/secrets"]


def test_a_stalled_watch_is_silent_until_the_fault_is_removed(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    """Whether it was open before or not; `times` counts watches."""
    with ExitStack() as stack:
        early = stack.enter_context(Watching(client, namespace))
        until(lambda: len(proxy.watches) == 1)
        stalled = proxy.fault(watches, stall=True, times=2)
        late = stack.enter_context(Watching(client, namespace))
        until(lambda: stalled.taken == 2)
        free = stack.enter_context(Watching(client, namespace))
        until(lambda: len(proxy.watches) == 3)
        create_lease(control_plane, namespace, "sample")
        until(lambda: len(free.lines) == 1)

        assert (early.lines, late.lines) == ([], [])
        assert (early.ended, late.ended) == (None, None)

        stalled.remove()
        until(lambda: early.lines == late.lines == free.lines)
        proxy.cut_watches()


def test_a_stalled_watch_can_be_cut_and_others_are_not_stalled(
    proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    with Watching(client, namespace) as watching, client.stream("GET", "/api/v1/secrets", params={"watch": "true"}):
        until(lambda: len(proxy.watches) == 2)
        with proxy.fault(lambda request: request.path.endswith("leases"), stall=True) as stalled:
            assert stalled.taken == 1
            assert proxy.cut_watches() == 2

            until(lambda: isinstance(watching.ended, BROKEN))


@pytest.mark.parametrize("status", REASONS)
def test_an_answer_is_a_status_and_nothing_is_passed_on(
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


def test_a_fault_ends_after_so_many_times_and_the_oldest_comes_first(proxy: Proxy, client: httpx.Client) -> None:
    def versions(request: Request) -> bool:
        return request.path == "/version"

    faults = [proxy.fault(versions, answer=status, times=times) for status, times in ((409, 2), (500, 1))]
    statuses = [client.get(path).status_code for path in ("/version", "/api", "/version", "/version", "/version")]

    assert statuses == [409, 200, 409, 500, 200]
    assert [fault.taken for fault in faults] == [2, 1]


def test_a_fault_of_watches_concerns_nothing_else(proxy: Proxy, client: httpx.Client) -> None:
    with proxy.fault(lambda _: True, stall=True) as stalled:
        assert client.get("/api").json()["kind"] == "APIVersions"
    assert stalled.taken == 0


def test_two_proxies_are_cut_one_by_one(control_plane: ControlPlane, proxy: Proxy, tmp_path: Path) -> None:
    with Proxy(control_plane, tmp_path) as other:
        other.fault(lambda _: True, answer=403)
        asked = [
            control_plane.kubectl("get", "--raw=/version", f"--kubeconfig={one.kubeconfig}", check=False).returncode
            for one in (proxy, other)
        ]

    assert asked == [0, 1]


def test_a_fault_ends_when_it_is_removed(proxy: Proxy, client: httpx.Client) -> None:
    fault = proxy.fault(lambda _: True, answer=503)

    assert [client.get("/api").status_code for _ in range(3)] == [503, 503, 503]

    fault.remove()
    fault.remove()

    assert client.get("/api").status_code == 200

    with proxy.fault(lambda _: True, answer=503):
        assert client.get("/api").status_code == 503

    assert client.get("/api").status_code == 200


def test_a_request_that_hangs_is_never_answered_nor_passed_on(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    asyncio.run(send_and_hang_up(control_plane, proxy, namespace, proxy.fault(posts, hang=True)))

    assert client.get(f"{config_maps(namespace)}/sample").status_code == 404
    assert [request.status for request in proxy.requests] == [None, 404]


def test_a_request_that_hangs_ends_with_the_proxy(control_plane: ControlPlane, tmp_path: Path) -> None:
    with (
        ThreadPoolExecutor() as threads,
        Proxy(control_plane, tmp_path) as proxy,
        admin(control_plane, proxy) as client,
    ):
        hung = proxy.fault(lambda _: True, hang=True)
        answer = threads.submit(client.get, "/api")
        until(lambda: hung.taken == 1)
        proxy.__exit__()

        assert isinstance(answer.exception(10), httpx.TransportError)


@pytest.mark.parametrize(("cut", "done"), [("before", False), ("after", True)])
def test_a_request_is_cut_before_or_after_it_is_done(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str, cut: Any, done: bool
) -> None:
    with proxy.fault(posts, cut=cut), pytest.raises(BROKEN):
        create(client, namespace)
    assert proxy.requests[-1].status is None
    assert exists(control_plane, namespace) is done


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_watch_is_cut_before_it_is_open(proxy: Proxy, client: httpx.Client, cut: Any) -> None:
    with proxy.fault(watches, cut=cut, times=1), pytest.raises(BROKEN):
        client.get("/api/v1/secrets", params={"watch": "true"})
    assert not proxy.watches


def test_functions_run_before_and_after_the_write_and_before_its_answer(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    seen: list[tuple[bool, int | None]] = []

    def look() -> None:
        seen.append((exists(control_plane, namespace), proxy.requests[-1].status))

    with proxy.fault(posts, before=look, after=look):
        assert create(client, namespace).status_code == 201

    assert seen == [(False, None), (True, None)]
    assert proxy.requests[-1].status == 201


def test_a_function_may_use_the_proxy(proxy: Proxy, client: httpx.Client) -> None:
    def end() -> None:
        fault.remove()

    fault = proxy.fault(lambda _: True, answer=500, before=end)

    assert [client.get("/api").status_code for _ in range(2)] == [500, 200]


def test_a_request_is_done_even_if_its_client_goes_away_meanwhile(
    control_plane: ControlPlane, proxy: Proxy, namespace: str
) -> None:
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


@pytest.mark.anyio
async def test_what_is_cut_is_reset(control_plane: ControlPlane, proxy: Proxy) -> None:
    proxy.fault(lambda _: True, cut="before")
    trust = ssl.create_default_context(cafile=control_plane.ca_file)
    url = httpx.URL(proxy.url)
    reader, writer = await asyncio.open_connection(url.host, url.port, ssl=trust)
    writer.write(b"GET /api HTTP/1.1\r\nHost: sample\r\n\r\n")

    with pytest.raises(ConnectionResetError):
        await reader.read()


def test_a_stopped_api_server_is_no_answer_and_ends_what_was_open(
    control_plane: ControlPlane, proxy: Proxy, client: httpx.Client, namespace: str
) -> None:
    with Watching(client, namespace) as watching:
        until(lambda: len(proxy.watches) == 1)
        control_plane.stop_apiserver()
        try:
            with pytest.raises(BROKEN):
                client.get("/api")
            until(lambda: watching.ended is not None)
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
def test_a_function_that_raises_ends_the_proxy_with_its_error(
    control_plane: ControlPlane, tmp_path: Path, namespace: str, predicate: Callable[[Request], bool], harm: Harm
) -> None:
    def use() -> None:
        with Proxy(control_plane, tmp_path) as proxy, admin(control_plane, proxy) as client:
            proxy.fault(predicate, **harm)
            with pytest.raises(BROKEN):
                create(client, namespace)

    with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="not as expected")):
        use()


def test_an_error_of_the_test_comes_out_as_it_is(control_plane: ControlPlane, tmp_path: Path) -> None:
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
