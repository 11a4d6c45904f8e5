"""Every fault that a cluster has in store, played against the real API server: nothing is lost, nothing made twice, no
pod template changes but as it was asked to.
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
from app.cluster.lease import NAME as LEASE
from app.cluster.lease import LeaseTiming
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Harm, Proxy, Request
from tests.harness.operator_namespace import ACCOUNT, OperatorNamespace
from tests.harness.operator_process import Operator
from tests.harness.server_table import jwt, server
from tests.harness.wait import until

OLD, NEW, NEWEST = (f"example.com/dittofs:{version}" for version in (1, 2, 3))
KINDS = ("configmaps", "services", "secrets", "statefulsets", "dittoservers")
# A request that hangs takes all of the client's patience; an API server that starts again, some more.
SECONDS = 60.0
# The record counts from when it was last seen to change, and both that and its end are seen at attempts alone; one
# more second is for the requests.
LEASE_SECONDS = LeaseTiming().duration + 2 * LeaseTiming().retry + 1

Objects = dict[tuple[str, str], Manifest]


@pytest.fixture
def proxy(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(control_plane, tmp_path) as running:
        yield running


@pytest.fixture
def behind(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, proxy: Proxy
) -> Iterator[OperatorNamespace]:
    """The operator is at work behind the proxy, and needs no Lease. If one of each kind hangs, a worker is left."""
    workers = f"--workers={len(KINDS) + 1}"
    with OperatorNamespace(control_plane, namespace, tmp_path, "--no-leader-elect", workers, proxy=proxy) as running:
        yield running


def files(name: str = "files", **spec: Any) -> Manifest:
    return server(name, **{"image": OLD, "s3": {"region": "eu-west-1"}, **spec})


def parts(name: str) -> set[tuple[str, str]]:
    """What is made for a server, each once."""
    services = {("Service", f"{name}-{suffix}") for suffix in ("headless", "file", "api")}
    secrets = {("Secret", f"{name}-jwt-secret"), ("Secret", f"{name}-admin-bootstrap-credentials")}
    return {("ConfigMap", f"{name}-config"), ("StatefulSet", name), *services, *secrets}


def objects(operated: OperatorNamespace) -> Objects:
    return {(each["kind"], each["metadata"]["name"]): each for kind in KINDS for each in operated.list_all(kind)}


def is_complete(name: str, among: Objects) -> bool:
    """Made as the spec asks, and its status says so."""
    found = among["DittoServer", name]
    status = found.get("status") or {}
    conditions = {each["type"]: each["reason"] for each in status.get("conditions") or []}
    return (
        parts(name) <= among.keys()
        and status.get("observedGeneration") == found["metadata"]["generation"]
        and conditions["CredentialsReady"] == "Found"
        and conditions["Reconciling"] != "WriteFailed"
        and image(among["StatefulSet", name]) == found["spec"]["image"]
    )


def image(stateful_set: Manifest) -> str:
    return str(stateful_set["spec"]["template"]["spec"]["containers"][0]["image"])


def completed(operated: OperatorNamespace, *names: str, seconds: float = SECONDS) -> Objects:
    """Waits until the servers are complete."""
    found: Objects = {}

    def are_complete() -> bool:
        found.clear()
        found.update(objects(operated))
        return all(is_complete(name, found) for name in names)

    # What asks is not to be what takes the time.
    until(are_complete, seconds, pause=0.1)
    return found


def identities(among: Objects) -> dict[tuple[str, str], tuple[str, str]]:
    """What stays as long as an object is not made anew: its uid, and a Secret's data."""
    data = {key: json.dumps(each["data"]) if key[0] == "Secret" else "" for key, each in among.items()}
    return {key: (each["metadata"]["uid"], data[key]) for key, each in among.items()}


def templates(among: Objects) -> dict[str, int]:
    """How many pod templates each server had; nothing else of the StatefulSets changes here."""
    return {name: each["metadata"]["generation"] for (kind, name), each in among.items() if kind == "StatefulSet"}


def change(operated: OperatorNamespace, *names: str, to: str = NEW) -> None:
    """Of the pod template, by way of the image and of config.yaml."""
    for name in names:
        operated.patch("dittoserver", name, spec={"image": to, "s3": {"region": f"of-{to[-1]}"}})


def is_write(request: Request) -> bool:
    """Also one that is not done; but for Events and the Lease."""
    return request.method != "GET" and not {"events", "leases"} & set(request.path.split("/"))


def target(request: Request) -> str:
    """What is written where: the name of an object that is made is only in the body."""
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


def test_an_idle_operator_outlives_the_api_server(behind: OperatorNamespace, proxy: Proxy) -> None:
    behind.apply(files())
    before = completed(behind, "files")
    written = len(writes(proxy))
    with stopped(behind.control_plane):
        until(lambda: not proxy.watches)
    behind.apply(files("later"))
    after = completed(behind, "files", "later")

    assert identities(before).items() <= identities(after).items()
    assert templates(after) == {"files": 1, "later": 1}
    assert not [each for each in writes(proxy)[written:] if each.endswith(("Set files", "files-config"))]


def test_a_burst_goes_on_where_the_api_server_left_off(behind: OperatorNamespace, proxy: Proxy) -> None:
    names = [f"files-{number}" for number in range(30)]
    behind.operator.signal(SIGSTOP)
    behind.apply(*map(files, names))
    numbers = count(1)
    down = threading.Event()

    def stop() -> None:
        behind.control_plane.stop_apiserver()
        down.set()

    with proxy.fault(lambda request: is_write(request) and next(numbers) == 100, times=1, before=stop):
        behind.operator.signal(SIGCONT)
        try:
            assert down.wait(SECONDS)
        finally:
            behind.control_plane.start_apiserver()
    before = objects(behind)
    after = completed(behind, *names)

    assert identities(before).items() <= identities(after).items()
    assert templates(after) == dict.fromkeys(names, 1)
    assert {each.verb for each in behind.writes() if each.resource in ("secrets", "statefulsets")} == {"create"}


# Watches break.


@pytest.mark.parametrize("forgotten", [False, True], ids=["history", "no history"])
def test_what_is_deleted_while_no_watch_is_open_is_noticed(
    behind: OperatorNamespace, proxy: Proxy, forgotten: bool
) -> None:
    behind.put_secret("jwt", key="k" * 40)
    behind.apply(files(identity=jwt_of("jwt")))
    until(lambda: credentials(behind) == "Found")
    template = behind.template("files")
    refused = proxy.fault(lambda request: request.watch, cut="before")

    assert proxy.cut_watches() >= len(KINDS)

    behind.kubectl("delete", "secret/jwt", "configmap/files-config")
    if forgotten:
        # One that has just started knows of nothing before. Nobody asks it: after a refusal there is a list.
        with stopped(behind.control_plane):
            pass
    refused.remove()
    until(lambda: credentials(behind) == "SecretNotFound", SECONDS)
    until(lambda: behind.get("configmap", "files-config") is not None, SECONDS)
    behind.put_secret("jwt", key="k" * 40)
    until(lambda: credentials(behind) == "Found", SECONDS)

    assert behind.template("files") == template


def jwt_of(secret: str) -> Any:
    return jwt(name=secret, key="key")["identity"]


def test_what_is_out_of_date_is_no_ground_for_a_write(behind: OperatorNamespace, proxy: Proxy) -> None:
    behind.apply(files())
    completed(behind, "files")
    with proxy.fault(lambda request: request.path.endswith("/statefulsets"), stall=True) as stalled:
        assert stalled.taken == 1

        behind.kubectl("annotate", "statefulset", "files", "example.com/by=another")
        change(behind, "files")
        until(lambda: len(answers(proxy, "GET")) + len(answers(proxy, "PATCH")) >= 3, SECONDS)

        assert 200 not in answers(proxy, "PATCH")
        assert image(behind.get("statefulset", "files")) == OLD
    made = completed(behind, "files")["StatefulSet", "files"]

    assert made["metadata"]["annotations"]["example.com/by"] == "another"
    assert made["metadata"]["generation"] == 2


def answers(proxy: Proxy, method: str) -> list[int | None]:
    """To what was asked of the StatefulSet."""
    asked = [each for each in proxy.requests if each.path.endswith("/statefulsets/files")]
    return [each.status for each in asked if each.method == method]


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
    """To the server that has the kind's name: each fails at one kind, and all of them at the same time."""
    return lambda request: is_write(request) and f"/{kind}" in request.path and f'"{kind}' in request.body.decode()


@contextmanager
def failing(proxy: Proxy, kinds: Iterable[str], times: int, harm: Harm) -> Iterator[None]:
    with ExitStack() as stack:
        faults = [stack.enter_context(proxy.fault(is_write_for(kind), times=times, **harm)) for kind in kinds]
        yield
    assert all(fault.taken for fault in faults)


@pytest.mark.parametrize("harm", FAILURES.values(), ids=FAILURES)
def test_what_failed_is_done_again_and_only_that(behind: OperatorNamespace, proxy: Proxy, harm: Harm) -> None:
    with failing(proxy, KINDS, 3, harm):
        behind.apply(*map(files, KINDS))
        made = completed(behind, *KINDS)

    assert templates(made) == dict.fromkeys(KINDS, 1)

    with failing(proxy, ("configmaps", "statefulsets", "dittoservers"), 3, harm):
        change(behind, *KINDS)
        changed = completed(behind, *KINDS)

    assert templates(changed) == dict.fromkeys(KINDS, 2)
    assert identities(made).items() <= identities(changed).items()


def test_a_secret_that_cannot_be_read_for_a_while_is_read_in_the_end(behind: OperatorNamespace, proxy: Proxy) -> None:
    behind.put_secret("jwt", key="k" * 40)
    behind.apply(files(identity=jwt_of("jwt")))
    until(lambda: credentials(behind) == "Found", SECONDS)
    template = behind.template("files")
    with proxy.fault(lambda request: request.path.endswith("/secrets/jwt"), times=3, answer=500) as fault:
        behind.put_secret("jwt", key="l" * 40)
        until(lambda: behind.template("files") != template, SECONDS)

    assert fault.taken == 3

    until(lambda: "SecretUnreadable" in behind.events("files"), SECONDS)

    assert templates(objects(behind)) == {"files": 2}


def test_a_request_that_hangs_is_given_up_and_meanwhile_others_are_served(
    behind: OperatorNamespace, proxy: Proxy
) -> None:
    with failing(proxy, KINDS, 1, Harm(hang=True)):
        behind.apply(*map(files, KINDS))
        until(lambda: {"configmaps", "services"} <= {each.split("-")[0] for each in hanging(proxy)})
        behind.apply(files("other"))
        completed(behind, "other", seconds=REQUEST_TIMEOUT_SECONDS)

        assert templates(completed(behind, *KINDS, "other")) == dict.fromkeys([*KINDS, "other"], 1)


def hanging(proxy: Proxy) -> list[str]:
    return [target(each).split()[-1] for each in proxy.requests if is_write(each) and each.status is None]


def test_servers_that_always_fail_delay_no_other(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
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
        found = completed(operated, *good, seconds=REQUEST_TIMEOUT_SECONDS)

    assert templates(found) == dict.fromkeys([*good, *(f"refused-{number}" for number in range(3))], 1)
    assert found["ConfigMap", "taken-0-config"]["data"] == {"is": "another's"}


def config_map(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"is": "another's"}}


def reason(operated: OperatorNamespace, name: str, kind: str) -> str:
    return str((operated.condition(name, kind) or {}).get("reason"))


# The operator is killed.


Moment = Literal["before", "after"]


def kill_at(behind: OperatorNamespace, proxy: Proxy, wanted: str, moment: Moment) -> threading.Event:
    """The operator dies when it asks for this write; set once it is dead."""
    killed = threading.Event()

    def kill() -> None:
        behind.operator.signal(SIGKILL)
        behind.operator.ended_well(within=REQUEST_TIMEOUT_SECONDS)
        killed.set()

    harm = Harm(before=kill, cut="before") if moment == "before" else Harm(after=kill, cut="after")
    proxy.fault(lambda request: is_write(request) and target(request) == wanted, times=1, **harm)
    return killed


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_new_server_is_made_once_wherever_the_operator_is_killed(
    behind: OperatorNamespace, proxy: Proxy, moment: Moment
) -> None:
    behind.apply(files("first"))
    completed(behind, "first")
    targets = list(dict.fromkeys(writes(proxy)))
    names = [f"files-{number}" for number in range(len(targets))]
    for name, wanted in zip(names, targets, strict=True):
        killed = kill_at(behind, proxy, wanted.replace("first", name), moment)
        behind.apply(files(name))
        assert killed.wait(SECONDS)
        before = objects(behind)
        behind.operator.start()
        assert identities(before).items() <= identities(completed(behind, name)).items()
    print(f"killed {moment} each of {len(targets)} writes")

    assert len(targets) >= len(parts("first")) + 1
    assert templates(objects(behind)) == dict.fromkeys(["first", *names], 1)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_change_is_made_once_wherever_the_operator_is_killed(
    behind: OperatorNamespace, proxy: Proxy, moment: Moment
) -> None:
    most = [f"files-{number}" for number in range(8)]
    behind.apply(*map(files, ["first", *most]))
    until(lambda: len(behind.list_all("pods")) == len(most) + 1, SECONDS)
    made = completed(behind, "first", *most)
    written = len(writes(proxy))
    change(behind, "first")
    completed(behind, "first")
    targets = list(dict.fromkeys(each for each in writes(proxy)[written:] if "first" in each))
    names = most[: len(targets)]
    for name, wanted in zip(names, targets, strict=True):
        killed = kill_at(behind, proxy, wanted.replace("first", name), moment)
        change(behind, name)
        assert killed.wait(SECONDS)
        behind.operator.start()
        changed = completed(behind, name)
        assert identities(made).items() <= identities(changed).items()
    print(f"killed {moment} each of {len(targets)} writes")

    assert templates(objects(behind)) == {**dict.fromkeys(most, 1), **dict.fromkeys(["first", *names], 2)}


# Two operators, of which one leads.


@pytest.fixture
def led(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, proxy: Proxy
) -> Iterator[OperatorNamespace]:
    """The operator is at work behind the proxy, as the holder of the Lease."""
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
    found = operated.get("lease", LEASE)
    return str(found["spec"]["holderIdentity"]) if found else ""


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
        completed(led, "files")
        asked = [asks_for_lease(each) for each in proxies]
        until(lambda: all(asks_for_lease(each) > before for each, before in zip(proxies, asked, strict=True)))

    assert sorted(bool(writes(each)) for each in proxies) == [False, True]


def test_a_leader_that_was_paused_writes_nothing_stale(
    led: OperatorNamespace, proxy: Proxy, other_proxy: Proxy
) -> None:
    led.apply(files())
    made = completed(led, "files")
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
        found = completed(led, "files")

    assert writes(proxy)[written:] == []
    assert templates(found) == {"files": 2}
    assert identities(made).items() <= identities(found).items()


@pytest.mark.alone
def test_a_leader_that_is_killed_is_succeeded_within_its_lease(
    led: OperatorNamespace, proxy: Proxy, other_proxy: Proxy
) -> None:
    """And what it left half done is done; by the successor, for whom nothing else changes."""
    led.apply(files())
    made = completed(led, "files")
    with another(led, other_proxy):
        until(lambda: asks_for_lease(other_proxy) >= 2)
        first = holder(led)
        killed = kill_at(led, proxy, "PATCH statefulsets/files files", "before")
        change(led, "files")

        assert killed.wait(SECONDS)

        began = monotonic()
        until(lambda: holder(led) not in ("", first), SECONDS)
        took = monotonic() - began
        found = completed(led, "files")
    print(f"succeeded {took:.1f} s after it was killed")

    assert took <= LEASE_SECONDS
    assert identities(made).items() <= identities(found).items()
    assert templates(found) == {"files": 2}


@pytest.mark.alone
def test_an_operator_that_is_told_to_stop_finishes_and_hands_over(
    led: OperatorNamespace, proxy: Proxy, other_proxy: Proxy
) -> None:
    first = holder(led)
    with proxy.fault(is_write_for("statefulsets"), times=1, before=lambda: led.operator.signal(SIGTERM)):
        led.apply(files("statefulsets"))

        assert led.operator.ended_well(within=SECONDS)

    assert is_complete("statefulsets", objects(led))
    assert holder(led) == ""

    led.operator.start()
    until(lambda: holder(led) not in ("", first), seconds=5)
    with another(led, other_proxy):
        until(lambda: asks_for_lease(other_proxy) >= 2)
        second = holder(led)
        led.operator.signal(SIGTERM)
        until(lambda: holder(led) not in ("", second), seconds=5)

        assert led.operator.ended_well(within=SECONDS)
