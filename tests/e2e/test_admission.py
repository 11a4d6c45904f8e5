"""No admission fails, whatever is done to the operator: a steady stream through the API server is counted."""

import base64
import signal
from os import kill
from pathlib import Path
from time import sleep

from tests.controlplane.cluster import ControlPlane
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
from tests.harness.admissions import CONNECTIONS, Admissions, failed_open
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until
from tests.helm.chart import CHART

WANTED = 10_000
# Renewed at two thirds: the certificate after 55 s, the CA after 95 s.
DAYS, CA_DAYS = 0.00095, 0.00165
# Time for a CA to be renewed twice, and for a rolling update.
SECONDS = 300.0
# What a connection can lose when a replica is killed: the request under way, and then every second attempt to connect,
# until the Service forgets the replica.
LOST = 10


def test_no_admission_fails_during_renewals_and_updates(user: Namespace) -> None:
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
            replace_certificate(operator)
        with stream.during("a certificate renewed, then a CA, as in years"):
            until(lambda: {"CertificateRenewed", "CARotated"} <= event_reasons(operator), SECONDS, pause=1)
            wait_until_served(operator)
        with stream.during("a rolling update, back to long-lived certificates"):
            upgrade(cluster, short_lived=False)
            replace_certificate(operator)
        with stream.during("as many more as it takes"):
            # This may take long on a busy machine.
            until(lambda: stream.tried >= WANTED, 3 * SECONDS, pause=0.5)

    print(f"  {stream.tried} tried in all, {len(stream.failures)} failed")

    assert stream.failures == []
    assert failed_open(cluster) == open_before


def test_kills_and_blank_bundles_cost_few_admissions(user: Namespace) -> None:
    """A killed replica does not answer, and a blank caBundle trusts nobody until it is restored."""
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
                blank_bundle(cluster, kind)
                until(lambda kind=kind: bundle(cluster, kind) != "")  # type: ignore[misc]
                sleep(3)
        failed = len(stream.failures)
        with stream.during("nothing special again"):
            sleep(5)

        assert len(stream.failures) == failed

    print(f"  {stream.tried} tried in all, {len(stream.failures)} failed")


def upgrade(cluster: ControlPlane, *, short_lived: bool) -> None:
    days = {"certificates.days": DAYS, "certificates.caDays": CA_DAYS} if short_lived else {}
    options = [part for name, value in days.items() for part in ("--set-json", f"{name}={value}")]
    helm(cluster, "upgrade", NAME, CHART, *values(), *options, *patiently())

    # Until they have ended, the old replicas issue certificates with the old lifetime.
    until(lambda: len(Namespace(cluster, NAMESPACE).list_all("pods")) == REPLICAS, SECONDS, pause=0.5)


def replace_certificate(operator: Namespace) -> None:
    """Deletes the Secret, so that the operator creates a CA with the lifetime that is set now."""
    uid = operator.get("secret", f"{NAME}-tls")["metadata"]["uid"]
    operator.kubectl("delete", "secret", f"{NAME}-tls")

    until(lambda: secret_uid(operator) not in ("", uid), SECONDS)
    wait_until_served(operator)


def wait_until_served(operator: Namespace) -> None:
    """Waits until every replica serves what the Secret holds."""
    until(lambda: set(served(operator)) <= {secret_value(operator, "tls.crt")}, SECONDS, pause=0.5)


def secret_uid(operator: Namespace) -> str:
    secret = operator.get("secret", f"{NAME}-tls")
    return secret["metadata"]["uid"] if secret else ""


def secret_value(operator: Namespace, key: str) -> str:
    return base64.b64decode(operator.get("secret", f"{NAME}-tls")["data"][key]).decode()


def event_reasons(operator: Namespace) -> set[str]:
    """Returns the reasons of the Events about the current Secret."""
    uid = secret_uid(operator)
    return {event["reason"] for event in operator.list_all("events") if event["involvedObject"].get("uid") == uid}


def kill_a_replica(cluster: ControlPlane) -> None:
    [pod, *_] = Namespace(cluster, NAMESPACE).list_all("pods")
    kill(process_of(pod["metadata"]["name"]), signal.SIGKILL)


def process_of(pod: str) -> int:
    """Returns the number that the pod's process has on this machine, which is the node."""
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


def blank_bundle(cluster: ControlPlane, kind: str) -> None:
    change = '[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]'
    cluster.kubectl("patch", kind, NAME, "--type=json", "-p", change)
