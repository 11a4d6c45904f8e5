"""No admission fails, whatever is done to the operator: a steady stream of them through the API server, counted."""

import base64
import signal
from os import kill
from pathlib import Path
from time import sleep

from tests.controlplane.cluster import ControlPlane
from tests.e2e.admissions import CONNECTIONS, Admissions, failed_open
from tests.e2e.installation import (
    CONFIGURATIONS,
    NAME,
    NAMESPACE,
    REPLICAS,
    bundle,
    helm,
    patiently,
    ready_replicas,
    served,
    values,
)
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until
from tests.helm.chart import CHART

WANTED = 20_000
# Renewed at two thirds: the certificate after 55 s, the CA after 95 s.
DAYS, CA_DAYS = 0.00095, 0.00165
# Time for a CA to be renewed twice, and for a rolling update.
SECONDS = 300.0
# What a connection can lose when a replica is killed: what was under way, and then, until the Service forgets the
# replica, every second attempt to connect anew.
LOST = 10


def test_no_admission_fails_while_certificates_are_changed_and_replicas_replaced(user: Namespace) -> None:
    cluster = user.control_plane
    operator = Namespace(cluster, NAMESPACE)
    open_before = failed_open(cluster)
    print()
    with Admissions(user) as stream:
        with stream.during("nothing special"):
            sleep(5)
        with stream.during("a rolling update, to short-lived certificates"):
            upgrade(cluster, short_lived=True)
        with stream.during("the Secret deleted: a new CA and certificate at once"):
            begin_anew(operator)
        with stream.during("a certificate renewed, then a CA, as in years"):
            until(lambda: {"CertificateRenewed", "CARotated"} <= told(operator), SECONDS, pause=1)
            settled(operator)
        with stream.during("a rolling update, back to long-lived certificates"):
            upgrade(cluster, short_lived=False)
            begin_anew(operator)
        with stream.during("as many more as it takes"):
            # However busy the machine is with other things.
            until(lambda: stream.tried >= WANTED, 3 * SECONDS, pause=0.5)
    print(f"  {stream.tried} tried in all, {len(stream.failures)} failed")

    assert stream.failures == []
    assert failed_open(cluster) == open_before


def test_what_no_operator_can_prevent_costs_a_few_admissions_and_then_no_more(user: Namespace) -> None:
    """A replica that is killed answers nobody any more, and a blank caBundle trusts nobody until it is put back."""
    cluster = user.control_plane
    print()
    with Admissions(user) as stream:
        with stream.during("nothing special"):
            sleep(5)
        for _ in range(3):
            failed = len(stream.failures)
            with stream.during("a replica killed with -9"):
                kill_a_replica(cluster)
                sleep(3)
                until(lambda: ready_replicas(cluster) == REPLICAS, SECONDS, pause=0.5)
            assert len(stream.failures) - failed <= CONNECTIONS * LOST
        for kind in CONFIGURATIONS:
            with stream.during(f"the caBundle of the {kind} blanked"):
                blank(cluster, kind)
                until(lambda kind=kind: bundle(cluster, kind) != "")  # type: ignore[misc]
                sleep(3)
        failed = len(stream.failures)
        with stream.during("nothing special again"):
            sleep(5)

        assert len(stream.failures) == failed
    print(f"  {stream.tried} tried in all, {len(stream.failures)} failed")


def upgrade(cluster: ControlPlane, *, short_lived: bool) -> None:
    days = {"certificates.days": DAYS, "certificates.caDays": CA_DAYS} if short_lived else {}
    given = [part for name, value in days.items() for part in ("--set-json", f"{name}={value}")]
    helm(cluster, "upgrade", NAME, CHART, *values(), *given, *patiently())
    # What the former ones make until they have ended is as long-lived as they were told.
    until(lambda: len(Namespace(cluster, NAMESPACE).list_all("pods")) == REPLICAS, SECONDS, pause=0.5)


def begin_anew(operator: Namespace) -> None:
    """With a CA of the life that is set now."""
    former = operator.get("secret", f"{NAME}-tls")["metadata"]["uid"]
    operator.kubectl("delete", "secret", f"{NAME}-tls")
    until(lambda: secret_uid(operator) not in ("", former), SECONDS)
    settled(operator)


def settled(operator: Namespace) -> None:
    """Waits until every replica serves what the Secret holds."""
    until(lambda: all(each == secret_value(operator, "tls.crt") for each in served(operator)), SECONDS, pause=0.5)


def secret_uid(operator: Namespace) -> str:
    found = operator.get("secret", f"{NAME}-tls")
    return found["metadata"]["uid"] if found else ""


def secret_value(operator: Namespace, key: str) -> str:
    return base64.b64decode(operator.get("secret", f"{NAME}-tls")["data"][key]).decode()


def told(operator: Namespace) -> set[str]:
    """The reasons of the Events about the Secret that there is."""
    uid = secret_uid(operator)
    return {each["reason"] for each in operator.list_all("events") if each["involvedObject"].get("uid") == uid}


def kill_a_replica(cluster: ControlPlane) -> None:
    [pod, *_] = Namespace(cluster, NAMESPACE).list_all("pods")
    kill(process_of(pod["metadata"]["name"]), signal.SIGKILL)


def process_of(pod: str) -> int:
    """As this machine, which is the node, counts processes."""
    for process in Path("/proc").glob("[0-9]*"):
        if is_in(process, pod):
            return int(process.name)
    raise AssertionError(f"no process of pod {pod} found")


def is_in(process: Path, pod: str) -> bool:
    try:
        serves = b"\0serve\0" in (process / "cmdline").read_bytes()
        return serves and f"HOSTNAME={pod}\0".encode() in (process / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # It has just ended.
        return False


def blank(cluster: ControlPlane, kind: str) -> None:
    change = '[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]'
    cluster.kubectl("patch", kind, NAME, "--type=json", "-p", change)
