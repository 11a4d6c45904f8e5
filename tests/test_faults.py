"""Injects the faults that a cluster can have, at the real API server.

Nothing is lost, nothing is created twice, and a pod template changes only when its server asks for it.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from time import monotonic
from typing import Any, Literal

import pytest

from app.cluster.client import REQUEST_TIMEOUT_SECONDS
from app.cluster.lease import LeaseTiming
from app.cluster.reader import LEASE_NAME as LEASE
from app.reconcile.queue import LONGEST_DELAY
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Harm, Proxy, Request
from tests.harness.operator_namespace import ACCOUNT, OperatorNamespace
from tests.harness.operator_process import Operator
from tests.harness.server_table import jwt, server
from tests.harness.wait import until

OLD, NEW, NEWEST = (f"example.com/dittofs:{version}" for version in (1, 2, 3))
KINDS = ("configmaps", "services", "secrets", "statefulsets", "dittoservers")
# More than a request that hangs until its timeout, or an API server that restarts.
SECONDS = 60.0
# A record counts from when a candidate last saw it change, and a candidate looks only at its attempts; one more second
# is for the requests.
LEASE_SECONDS = LeaseTiming().duration + 2 * LeaseTiming().retry + 1
# Less than it takes until a record that its holder did not give up has expired.
HANDOVER_SECONDS = LeaseTiming().duration - 2 * LeaseTiming().retry

Objects = dict[tuple[str, str], Manifest]


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(control_plane, tmp_path) as running:
        yield running


@pytest.fixture
def operated(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, proxy: Proxy
) -> Iterator[OperatorNamespace]:
    """Runs the operator behind the proxy, without a Lease. If one write of each kind hangs, a worker is still free."""
    workers = f"--workers={len(KINDS) + 1}"
    with OperatorNamespace(control_plane, namespace, tmp_path, "--no-leader-elect", workers, proxy=proxy) as running:
        yield running


def files(name: str = "files", **spec: Any) -> Manifest:
    return server(name, **{"image": OLD, "s3": {"region": "eu-west-1"}, **spec})


def parts(name: str) -> set[tuple[str, str]]:
    """Returns the keys of the objects that a server owns."""
    services = {("Service", f"{name}-{suffix}") for suffix in ("headless", "file", "api")}
    secrets = {("Secret", f"{name}-jwt-secret"), ("Secret", f"{name}-admin-bootstrap-credentials")}
    return {("ConfigMap", f"{name}-config"), ("StatefulSet", name), *services, *secrets}


def objects(operated: OperatorNamespace) -> Objects:
    manifests = [manifest for kind in KINDS for manifest in operated.list_all(kind)]
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}


def is_complete(name: str, among: Objects) -> bool:
    """Tells whether the server has all its objects as its spec asks, and its status says so."""
    live = among["DittoServer", name]
    status = live.get("status") or {}
    conditions = {entry["type"]: entry["reason"] for entry in status.get("conditions") or []}

    return (
        parts(name) <= among.keys()
        and status.get("observedGeneration") == live["metadata"]["generation"]
        and conditions["CredentialsReady"] == "Found"
        and conditions["Reconciling"] != "WriteFailed"
        and image(among["StatefulSet", name]) == live["spec"]["image"]
    )


def image(stateful_set: Manifest) -> str:
    return str(stateful_set["spec"]["template"]["spec"]["containers"][0]["image"])


def wait_until_complete(operated: OperatorNamespace, *names: str, seconds: float = SECONDS) -> Objects:
    """Waits until the servers are complete, and returns all objects."""
    live: Objects = {}

    def are_complete() -> bool:
        live.clear()
        live.update(objects(operated))
        return all(is_complete(name, live) for name in names)

    # The pause is long enough that asking does not take the operator's time.
    until(are_complete, seconds, pause=0.1)
    return live


def identities(among: Objects) -> dict[tuple[str, str], tuple[str, str]]:
    """Returns what stays the same unless an object is recreated: its uid, and the data of a Secret."""
    data = {key: json.dumps(manifest["data"]) if key[0] == "Secret" else "" for key, manifest in among.items()}
    return {key: (manifest["metadata"]["uid"], data[key]) for key, manifest in among.items()}


def templates(among: Objects) -> dict[str, int]:
    """Counts the pod templates that each server has had: nothing else in a StatefulSet changes here."""
    return {name: it["metadata"]["generation"] for (kind, name), it in among.items() if kind == "StatefulSet"}


def change(operated: OperatorNamespace, *names: str, to: str = NEW) -> None:
    """Changes the pod templates of the servers, by way of the image and of config.yaml."""
    for name in names:
        operated.patch("dittoserver", name, spec={"image": to, "s3": {"region": f"of-{to[-1]}"}})


def is_write(request: Request) -> bool:
    """Tells whether the request writes, even if it fails; writes of Events and of the Lease do not count."""
    return request.method != "GET" and not {"events", "leases"} & set(request.path.split("/"))


def target(request: Request) -> str:
    """Describes a write. The name of a new object is only in the body."""
    body = json.loads(request.body)
    name = "a JSON patch" if isinstance(body, list) else body.get("metadata", {}).get("name", "")
    return f"{request.method} {request.path.partition('/namespaces/')[2].partition('/')[2]} {name}"


def writes(proxy: Proxy) -> list[str]:
    return [target(request) for request in proxy.requests if is_write(request)]


# The API server goes and comes back.


@contextmanager
def stopped(control_plane: ControlPlane) -> Iterator[None]:
    control_plane.stop_apiserver()
    try:
        yield
    finally:
        control_plane.start_apiserver()


def test_an_idle_operator_survives_an_api_server_restart(operated: OperatorNamespace, proxy: Proxy) -> None:
    operated.apply(files())
    before = wait_until_complete(operated, "files")
    written = len(writes(proxy))

    with stopped(operated.control_plane):
        until(lambda: not proxy.watches)
    operated.apply(files("later"))
    after = wait_until_complete(operated, "files", "later")

    assert identities(before).items() <= identities(after).items()
    assert templates(after) == {"files": 1, "later": 1}
    assert not [write for write in writes(proxy)[written:] if write.endswith(("Set files", "files-config"))]


def test_a_burst_continues_after_an_api_server_restart(operated: OperatorNamespace, proxy: Proxy) -> None:
    names = [f"files-{number}" for number in range(30)]
    operated.operator.signal(SIGSTOP)
    operated.apply(*map(files, names))

    numbers = count(1)
    down = threading.Event()

    def stop() -> None:
        operated.control_plane.stop_apiserver()
        down.set()

    with proxy.fault(lambda request: is_write(request) and next(numbers) == 100, times=1, before=stop):
        operated.operator.signal(SIGCONT)
        try:
            assert down.wait(SECONDS)
        finally:
            operated.control_plane.start_apiserver()

    before = objects(operated)
    after = wait_until_complete(operated, *names)

    assert identities(before).items() <= identities(after).items()
    assert templates(after) == dict.fromkeys(names, 1)
    assert {write.verb for write in operated.writes() if write.resource in ("secrets", "statefulsets")} == {"create"}


# Watches break.


@pytest.mark.parametrize("forgotten", [False, True], ids=["history", "no history"])
def test_deletions_without_an_open_watch_are_noticed(
    operated: OperatorNamespace, proxy: Proxy, forgotten: bool
) -> None:
    operated.put_secret("jwt", key="k" * 40)
    operated.apply(files(identity=jwt_of("jwt")))
    until(lambda: credentials(operated) == "Found")
    template = operated.template("files")

    refused = proxy.fault(lambda request: request.watch, cut="before")

    assert proxy.cut_watches() >= len(KINDS)

    operated.kubectl("delete", "secret/jwt", "configmap/files-config")
    if forgotten:
        # An API server that has just started has no history. Nobody asks for it: after a refused watch comes a list.
        with stopped(operated.control_plane):
            pass
    refused.remove()

    until(lambda: credentials(operated) == "SecretNotFound", SECONDS)
    until(lambda: operated.get("configmap", "files-config") is not None, SECONDS)

    operated.put_secret("jwt", key="k" * 40)
    until(lambda: credentials(operated) == "Found", SECONDS)

    assert operated.template("files") == template


def jwt_of(secret: str) -> Any:
    return jwt(name=secret, key="key")["identity"]


def test_a_stale_object_is_not_written(operated: OperatorNamespace, proxy: Proxy) -> None:
    operated.apply(files())
    wait_until_complete(operated, "files")
    with proxy.fault(lambda request: request.path.endswith("/statefulsets"), stall=True) as stalled:
        assert stalled.taken == 1

        operated.kubectl("annotate", "statefulset", "files", "example.com/by=another")
        change(operated, "files")
        until(lambda: len(answers(proxy, "GET")) + len(answers(proxy, "PATCH")) >= 3, SECONDS)

        assert 200 not in answers(proxy, "PATCH")
        assert image(operated.get("statefulset", "files")) == OLD

    made = wait_until_complete(operated, "files")["StatefulSet", "files"]

    assert made["metadata"]["annotations"]["example.com/by"] == "another"
    assert made["metadata"]["generation"] == 2


def answers(proxy: Proxy, method: str) -> list[int | None]:
    """Returns the status of each answer to a request for the StatefulSet."""
    requests = [request for request in proxy.requests if request.path.endswith("/statefulsets/files")]
    return [request.status for request in requests if request.method == method]


def credentials(operated: OperatorNamespace) -> str:
    return str((operated.condition("files", "CredentialsReady") or {}).get("reason"))


# Writes fail.


FAILURES = {
    "409": Harm(answer=409),
    "429": Harm(answer=429),
    "500": Harm(answer=500),
    "cut before it is done": Harm(cut="before"),
    "cut after it was done": Harm(cut="after"),
}


def is_write_for(kind: str) -> Callable[[Request], bool]:
    """Selects writes of this kind for the server with the kind's name: each server fails at one kind, all at once."""
    return lambda request: is_write(request) and f"/{kind}" in request.path and f'"{kind}' in request.body.decode()


@contextmanager
def failing(proxy: Proxy, kinds: Iterable[str], times: int, harm: Harm) -> Iterator[None]:
    with ExitStack() as stack:
        faults = [stack.enter_context(proxy.fault(is_write_for(kind), times=times, **harm)) for kind in kinds]
        yield

    assert all(fault.taken for fault in faults)


@pytest.mark.parametrize("harm", FAILURES.values(), ids=FAILURES)
def test_only_failed_writes_are_repeated(operated: OperatorNamespace, proxy: Proxy, harm: Harm) -> None:
    with failing(proxy, KINDS, 3, harm):
        operated.apply(*map(files, KINDS))
        made = wait_until_complete(operated, *KINDS)

    assert templates(made) == dict.fromkeys(KINDS, 1)

    with failing(proxy, ("configmaps", "statefulsets", "dittoservers"), 3, harm):
        change(operated, *KINDS)
        changed = wait_until_complete(operated, *KINDS)

    assert templates(changed) == dict.fromkeys(KINDS, 2)
    assert identities(made).items() <= identities(changed).items()


def test_an_unreadable_secret_is_read_again(operated: OperatorNamespace, proxy: Proxy) -> None:
    operated.put_secret("jwt", key="k" * 40)
    operated.apply(files(identity=jwt_of("jwt")))
    until(lambda: credentials(operated) == "Found", SECONDS)
    template = operated.template("files")

    with proxy.fault(lambda request: request.path.endswith("/secrets/jwt"), times=3, answer=500) as fault:
        operated.put_secret("jwt", key="l" * 40)
        until(lambda: operated.template("files") != template, SECONDS)

    assert fault.taken == 3

    until(lambda: "SecretUnreadable" in operated.events("files"), SECONDS)

    assert templates(objects(operated)) == {"files": 2}


def test_a_hanging_request_delays_no_other_server(operated: OperatorNamespace, proxy: Proxy) -> None:
    with failing(proxy, KINDS, 1, Harm(hang=True)):
        operated.apply(*map(files, KINDS))
        until(lambda: {"configmaps", "services"} <= {name.split("-")[0] for name in hanging(proxy)})

        operated.apply(files("other"))
        wait_until_complete(operated, "other", seconds=REQUEST_TIMEOUT_SECONDS)

        assert templates(wait_until_complete(operated, *KINDS, "other")) == dict.fromkeys([*KINDS, "other"], 1)


def hanging(proxy: Proxy) -> list[str]:
    requests = [request for request in proxy.requests if is_write(request) and request.status is None]
    return [target(request).split()[-1] for request in requests]


def test_failing_servers_delay_no_other(control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path) -> None:
    annotations = {"annotations": {"no key": "that an annotation can have"}}
    refused = [files(f"refused-{number}", service=annotations) for number in range(3)]
    taken = [files(f"taken-{number}") for number in range(2)]
    good = [f"good-{number}" for number in range(10)]

    with OperatorNamespace(control_plane, namespace, tmp_path, "--no-leader-elect", "--workers=2") as operated:
        operated.apply(*(config_map(f"taken-{number}-config") for number in range(2)), *refused, *taken)
        until(lambda: all(reason(operated, f"taken-{number}", "Stalled") == "NameTaken" for number in range(2)))
        until(
            lambda: all(reason(operated, f"refused-{number}", "Reconciling") == "ServiceMissing" for number in range(3))
        )

        operated.apply(*map(files, good))
        # Workers that waited for the next attempt at a failing server would take longer.
        live = wait_until_complete(operated, *good, seconds=LONGEST_DELAY / 2)

    assert templates(live) == dict.fromkeys([*good, *(f"refused-{number}" for number in range(3))], 1)
    assert live["ConfigMap", "taken-0-config"]["data"] == {"is": "another's"}


def config_map(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"is": "another's"}}


def reason(operated: OperatorNamespace, name: str, kind: str) -> str:
    return str((operated.condition(name, kind) or {}).get("reason"))


# The operator is killed.


Moment = Literal["before", "after"]


def kill_at(operated: OperatorNamespace, proxy: Proxy, wanted: str, moment: Moment) -> threading.Event:
    """Kills the operator at this write; the event is set once it is dead."""
    killed = threading.Event()

    def kill() -> None:
        operated.operator.signal(SIGKILL)
        operated.operator.ended_well(within=SECONDS)
        killed.set()

    harm = Harm(before=kill, cut="before") if moment == "before" else Harm(after=kill, cut="after")
    proxy.fault(lambda request: is_write(request) and target(request) == wanted, times=1, **harm)
    return killed


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_server_is_created_once_despite_a_kill(operated: OperatorNamespace, proxy: Proxy, moment: Moment) -> None:
    operated.apply(files("first"))
    wait_until_complete(operated, "first")
    targets = list(dict.fromkeys(writes(proxy)))
    names = [f"files-{number}" for number in range(len(targets))]

    for name, wanted in zip(names, targets, strict=True):
        killed = kill_at(operated, proxy, wanted.replace("first", name), moment)
        operated.apply(files(name))
        assert killed.wait(SECONDS)

        before = objects(operated)
        operated.operator.start()
        assert identities(before).items() <= identities(wait_until_complete(operated, name)).items()

    print(f"killed {moment} each of {len(targets)} writes")

    assert len(targets) >= len(parts("first")) + 1
    assert templates(objects(operated)) == dict.fromkeys(["first", *names], 1)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_change_is_made_once_despite_a_kill(operated: OperatorNamespace, proxy: Proxy, moment: Moment) -> None:
    most = [f"files-{number}" for number in range(8)]
    operated.apply(*map(files, ["first", *most]))
    until(lambda: len(operated.list_all("pods")) == len(most) + 1, SECONDS)
    made = wait_until_complete(operated, "first", *most)

    written = len(writes(proxy))
    change(operated, "first")
    wait_until_complete(operated, "first")
    targets = list(dict.fromkeys(write for write in writes(proxy)[written:] if "first" in write))
    names = most[: len(targets)]

    for name, wanted in zip(names, targets, strict=True):
        killed = kill_at(operated, proxy, wanted.replace("first", name), moment)
        change(operated, name)
        assert killed.wait(SECONDS)

        operated.operator.start()
        changed = wait_until_complete(operated, name)
        assert identities(made).items() <= identities(changed).items()

    print(f"killed {moment} each of {len(targets)} writes")

    assert templates(objects(operated)) == {**dict.fromkeys(most, 1), **dict.fromkeys(["first", *names], 2)}


# Two operators, of which one leads.


@pytest.fixture
def led(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, proxy: Proxy
) -> Iterator[OperatorNamespace]:
    """Runs the operator behind the proxy until it holds the Lease."""
    with OperatorNamespace(control_plane, namespace, tmp_path, proxy=proxy) as running:
        until(lambda: bool(holder(running)))
        yield running


@pytest.fixture
def other_proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(control_plane, tmp_path) as running:
        yield running


@contextmanager
def another(led: OperatorNamespace, other_proxy: Proxy) -> Iterator[Operator]:
    folder = other_proxy.folder / "another"
    folder.mkdir()
    kubeconfig = other_proxy.kubeconfig_for(ACCOUNT, led.namespace)
    with Operator(folder, "--kubeconfig", kubeconfig, "--namespace", led.namespace) as running:
        yield running


def holder(operated: OperatorNamespace) -> str:
    lease = operated.get("lease", LEASE)
    return str(lease["spec"]["holderIdentity"]) if lease else ""


def asks_for_lease(proxy: Proxy) -> int:
    return sum("/leases" in request.path for request in proxy.requests)


def test_of_two_operators_started_at_once_one_writes(led: OperatorNamespace, proxy: Proxy, other_proxy: Proxy) -> None:
    proxies = proxy, other_proxy
    with another(led, other_proxy) as rival:
        led.operator.stop()
        rival.stop()
        led.kubectl("delete", "lease", LEASE)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Operator.start, (led.operator, rival)))

        led.apply(files())
        wait_until_complete(led, "files")
        before = [asks_for_lease(through) for through in proxies]
        until(lambda: all(asks_for_lease(through) > asks for through, asks in zip(proxies, before, strict=True)))

    assert sorted(bool(writes(through)) for through in proxies) == [False, True]


def test_a_paused_leader_writes_nothing_stale(led: OperatorNamespace, proxy: Proxy, other_proxy: Proxy) -> None:
    led.apply(files())
    made = wait_until_complete(led, "files")

    paused, taken_over = threading.Event(), threading.Event()

    def pause() -> None:
        led.operator.signal(SIGSTOP)
        paused.set()
        taken_over.wait(SECONDS)

    proxy.fault(
        lambda request: is_write(request) and request.path.endswith("/statefulsets/files"), times=1, before=pause
    )
    with another(led, other_proxy):
        change(led, "files", to=NEW)

        assert paused.wait(SECONDS)

        change(led, "files", to=NEWEST)
        until(lambda: image(led.get("statefulset", "files")) == NEWEST, SECONDS)

        asked, written = asks_for_lease(proxy), len(writes(proxy))
        taken_over.set()
        led.operator.signal(SIGCONT)
        until(lambda: asks_for_lease(proxy) > asked + 1, SECONDS)
        live = wait_until_complete(led, "files")

    assert writes(proxy)[written:] == []
    assert templates(live) == {"files": 2}
    assert identities(made).items() <= identities(live).items()


@pytest.mark.alone
def test_a_killed_leader_is_replaced_within_its_lease(led: OperatorNamespace, proxy: Proxy, other_proxy: Proxy) -> None:
    """The successor also finishes what was left half done, and changes nothing else."""
    led.apply(files())
    made = wait_until_complete(led, "files")

    with another(led, other_proxy):
        until(lambda: asks_for_lease(other_proxy) >= 2)
        first = holder(led)
        killed = kill_at(led, proxy, "PATCH statefulsets/files files", "before")
        change(led, "files")

        assert killed.wait(SECONDS)

        began = monotonic()
        until(lambda: holder(led) not in ("", first), SECONDS)
        took = monotonic() - began
        live = wait_until_complete(led, "files")

    print(f"succeeded {took:.1f} s after it was killed")

    assert took <= LEASE_SECONDS
    assert identities(made).items() <= identities(live).items()
    assert templates(live) == {"files": 2}


@pytest.mark.alone
def test_a_stopped_leader_finishes_and_hands_over(led: OperatorNamespace, proxy: Proxy, other_proxy: Proxy) -> None:
    first = holder(led)
    with proxy.fault(is_write_for("statefulsets"), times=1, before=lambda: led.operator.signal(SIGTERM)):
        led.apply(files("statefulsets"))

        assert led.operator.ended_well(within=SECONDS)

    assert is_complete("statefulsets", objects(led))
    assert holder(led) == ""

    led.operator.start()
    until(lambda: holder(led) not in ("", first), HANDOVER_SECONDS)

    with another(led, other_proxy):
        until(lambda: asks_for_lease(other_proxy) >= 2)
        second = holder(led)

        led.operator.signal(SIGTERM)
        until(lambda: holder(led) not in ("", second), HANDOVER_SECONDS)

        assert led.operator.ended_well(within=SECONDS)
