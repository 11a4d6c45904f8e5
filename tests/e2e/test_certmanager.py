"""Moving to cert-manager and back by the commands of the guide: no admission fails on the way."""

import base64
import os
import subprocess
from pathlib import Path
from time import sleep

from cryptography import x509

from certs.authority import Authority, certificates
from tests.controlplane.build import programs
from tests.e2e.certmanager import CertManager
from tests.e2e.cluster import Cluster
from tests.e2e.installation import CONFIGURATIONS, NAME, REPLICAS, bundle, served
from tests.e2e.installation import helm as helm_in
from tests.e2e.servers import POD_SECONDS
from tests.harness.admissions import Admissions, failed_open
from tests.harness.guides import code_blocks
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until
from tests.helm.build import helm
from tests.helm.chart import environ_in

ROOT = Path(__file__).parent.parent.parent


def type_commands(cluster: Cluster, commands: str) -> None:
    folders = (helm(os.environ).parent, programs(os.environ))
    environ = environ_in(cluster) | {"PATH": ":".join([*map(str, folders), os.environ["PATH"]])}
    command = ("bash", "-euo", "pipefail", "-c", commands)
    process = subprocess.run(command, cwd=ROOT, env=environ, check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def published(cluster: Cluster) -> list[tuple[x509.Certificate, ...]]:
    """Returns the certificates in each caBundle."""
    return [certificates(base64.b64decode(bundle(cluster, kind))) for kind in CONFIGURATIONS]


def count_serving(operator: Namespace, authority: Authority) -> int:
    """Returns how many replicas serve a certificate of this authority."""
    issuers = [x509.load_pem_x509_certificate(pem.encode()).issuer for pem in served(operator)]
    return issuers.count(authority.certificate.subject)


def replicas(operator: Namespace) -> set[str]:
    """Returns the uids of all replicas, including those that are ending."""
    return {pod["metadata"]["uid"] for pod in operator.list_all("pods")}


def test_no_admission_fails_during_a_move_to_cert_manager(
    cluster: Cluster, operator: Namespace, user: Namespace
) -> None:
    watch, publish, serve, leave, back, begin = code_blocks("manage-certificates.md")
    type_commands(cluster, watch)
    open_before = failed_open(cluster)
    print()

    with CertManager(cluster) as manager, Admissions(user) as stream:
        theirs = manager.authority.certificate
        with stream.during("its CA published beside the operator's own"):
            type_commands(cluster, publish)
            until(lambda: all(theirs in bundle and len(bundle) > 1 for bundle in published(cluster)))
        with stream.during("its certificate served"):
            type_commands(cluster, serve)
            until(lambda: len(replicas(operator)) == REPLICAS, seconds=POD_SECONDS)

        assert count_serving(operator, manager.authority) == REPLICAS

        pods = replicas(operator)
        with stream.during("the caBundles left to it"):
            type_commands(cluster, leave)
            until(lambda: published(cluster) == [(theirs,), (theirs,)])
            sleep(5)

        assert replicas(operator) == pods

        with stream.during("and back"):
            type_commands(cluster, back)
            until(lambda: len(replicas(operator)) == REPLICAS, seconds=POD_SECONDS)
            sleep(5)

        assert count_serving(operator, manager.authority) == 0

    begin_with_it(cluster, operator, begin)
    print(f"  {stream.tried} tried in all, {len(stream.failures)} failed")

    assert stream.failures == []
    assert failed_open(cluster) == open_before


def begin_with_it(cluster: Cluster, operator: Namespace, begin: str) -> None:
    helm_in(cluster, "uninstall", NAME)
    until(lambda: replicas(operator) == set(), seconds=POD_SECONDS)
    operator.kubectl("delete", "secret", "dittofs-operator-serving-cert")

    with CertManager(cluster) as manager:
        type_commands(cluster, begin)
        until(lambda: published(cluster) == [(manager.authority.certificate,)] * 2)

        assert count_serving(operator, manager.authority) == REPLICAS
