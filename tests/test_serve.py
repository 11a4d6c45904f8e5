"""`serve` as a process: changing and missing facts, certificates in files and self-managed ones, and how it stops."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time
from typing import Any

import httpx
import pytest
import yaml

from app import serve
from app.admission.review import wrap_in_review
from app.storage.crd import custom_resource_definition
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.fleet import metric
from tests.harness.free_ports import free_port
from tests.harness.nodes import set_pod
from tests.harness.operator_namespace import FAST as FAST_CLASS
from tests.harness.operator_namespace import OperatorNamespace, Request
from tests.harness.operator_process import Operator
from tests.harness.server_table import claim, s3, server, storage
from tests.harness.wait import until
from tests.helm.build import helm

FAST = """\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: example.com/fast
"""
REVIEW = wrap_in_review(server(), "u-1")
REVIEW_WITH_SECRET = wrap_in_review(server(**s3()), "u-1")


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text(FAST)
    return file


@pytest.fixture
def operator(tmp_path: Path, snapshot: Path) -> Iterator[Operator]:
    with Operator(tmp_path, "--snapshot", snapshot) as running:
        yield running


def messages(operator: Operator) -> list[str]:
    return [json.loads(line)["message"] for line in operator.log.read_text().splitlines()]


def is_refused(operator: Operator) -> bool:
    return operator.post(VALIDATE_PATH, REVIEW)["allowed"] is False


def test_a_changed_snapshot_is_reloaded(operator: Operator, snapshot: Path) -> None:
    assert operator.post(VALIDATE_PATH, REVIEW)["allowed"] is True

    snapshot.write_text(FAST.replace("fast", "slow"))
    until(lambda: is_refused(operator))
    snapshot.write_text("apiVersion: [")
    until(lambda: is_refused(operator) and any("snapshot unusable" in message for message in messages(operator)))

    assert is_refused(operator)

    snapshot.write_text(FAST)
    until(lambda: not is_refused(operator))


def test_a_wrong_pair_is_refused_until_a_good_one_comes(operator: Operator, tmp_path: Path) -> None:
    good = (tmp_path / "tls.crt").read_bytes()
    (tmp_path / "tls.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    until(lambda: any("the previous one stays in use" in message for message in messages(operator)))

    assert operator.post(VALIDATE_PATH, REVIEW)["allowed"] is True

    (tmp_path / "tls.crt").write_bytes(good)
    until(lambda: any("certificate reloaded" in message for message in messages(operator)))

    assert operator.post(VALIDATE_PATH, REVIEW)["allowed"] is True


def test_a_silent_cluster_is_a_warning_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"server": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        context = {"cluster": "c", "user": "u"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": context}],
            "current-context": "c",
        }
        kubeconfig.write_text(json.dumps(config))
        with Operator(tmp_path, "--kubeconfig", kubeconfig, "--no-reconcile") as running:
            started = monotonic()
            response = running.post(VALIDATE_PATH, REVIEW_WITH_SECRET)

            assert 2 <= monotonic() - started < 4

    assert response["allowed"] is True
    assert response["warnings"] == [
        "Could not verify volume claims metadata-files-0, cache-files-0: no answer within 2 s",
        'Could not verify StorageClass "fast" exists: no answer within 2 s',
        'Could not verify S3 credentials Secret "s3": no answer within 2 s',
    ]


def test_a_forbidden_look_up_is_a_warning(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    control_plane.kubectl("--namespace", namespace, "create", "serviceaccount", "nobody")
    kubeconfig = control_plane.kubeconfig_for("nobody", namespace)
    with Operator(tmp_path, "--kubeconfig", kubeconfig, "--no-reconcile") as running:
        response = running.post(VALIDATE_PATH, REVIEW_WITH_SECRET)

    assert response["allowed"] is True

    [*about_claims, about_class, about_secret] = response["warnings"]

    assert [message.split(":")[0] for message in about_claims] == [
        "Could not verify volume claim metadata-files-0",
        "Could not verify volume claim cache-files-0",
    ]
    assert about_class.startswith(
        'Could not verify StorageClass "fast" exists: forbidden: storageclasses.storage.k8s.io'
    )
    assert about_secret.startswith('Could not verify S3 credentials Secret "s3": forbidden: secrets "s3" is forbidden')


def test_sigterm_asks_clients_to_leave_first(operator: Operator) -> None:
    with httpx.Client(verify=operator.trust, trust_env=False) as client:
        assert "connection" not in client.post(operator.url + VALIDATE_PATH, json=REVIEW).headers

        operator.signal(signal.SIGTERM)
        until(lambda: operator.health("/readyz").status_code == 503)
        answer = client.post(operator.url + VALIDATE_PATH, json=REVIEW)

        assert (answer.status_code, answer.headers["connection"]) == (200, "close")

    assert operator.ended_well(within=15)
    assert messages(operator)[-1] == "stopped"


def test_ctrl_c_ends_it_at_once(operator: Operator) -> None:
    started = monotonic()
    operator.signal(signal.SIGINT)

    assert operator.ended_well(within=5)
    assert monotonic() - started < 5
    assert messages(operator)[-1] == "stopped"


def test_the_garbage_collector_skips_what_was_imported(operator: Operator) -> None:
    [times] = re.findall(
        r'^python_gc_collections_total{generation="2"} (\S+)$', operator.health("/metrics").text, re.MULTILINE
    )
    assert float(times) == 0


def test_a_port_in_use_is_reported_and_ends_it(operator: Operator, tmp_path: Path, snapshot: Path) -> None:
    second = Operator(tmp_path, "--snapshot", snapshot)
    second.take_ports_of(operator)
    with pytest.raises(RuntimeError, match="address already in use"):
        second.start()


def test_a_namespace_needs_no_cluster_wide_permission(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    with OperatorNamespace(control_plane, namespace, tmp_path, confined=True) as confined:
        confined.apply(server())
        until(lambda: bool(confined.get("pod", "files-0")))
        other = {**server(), "metadata": {"name": "other", "namespace": namespace}}
        [warning] = confined.operator.post(VALIDATE_PATH, wrap_in_review(other, "u-5"))["warnings"]

    assert warning.startswith('Could not verify StorageClass "fast" exists: forbidden')

    # Nothing but StorageClasses is reported as forbidden.
    lines = map(json.loads, confined.operator.log.read_text().splitlines())
    broken = [line for line in lines if line["message"] == "watch broken"]

    assert {line["resource"] for line in broken if "forbidden" in line["reason"]} == {"storageclasses"}


def test_without_reconciling_nothing_is_written(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    with OperatorNamespace(control_plane, namespace, tmp_path, "--no-reconcile") as judging:
        judging.apply(server())
        judging.operator.post(VALIDATE_PATH, REVIEW)

    assert judging.writes() == []
    assert not judging.get("statefulset", "files")


def test_only_what_is_not_watched_yet_is_requested(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", accessKeyId="id", secretAccessKey="key")
    operated.apply(server(**s3()))
    operated.wait_until_observed("files")
    # The Event about what was created may be sent after the status.
    until(lambda: any(request.resource == "events" for request in operated.writes()))
    review = wrap_in_review(
        server("other", **s3()) | {"metadata": {"name": "other", "namespace": operated.namespace}}, "u-2"
    )
    before = len(operated.requests())

    assert "warnings" not in operated.operator.post(VALIDATE_PATH, review)
    assert since(operated, before) == []

    # kubectl apply creates a class and what uses it within milliseconds.
    name = f"new-{operated.namespace}"
    operated.apply({**FAST_CLASS, "metadata": {"name": name}})

    assert operated.operator.post(VALIDATE_PATH, wrap_in_review(server(**storage(storageClassName=name)), "u-3"))[
        "allowed"
    ]

    operated.kubectl("delete", "storageclass", name)


def since(operated: OperatorNamespace, before: int) -> list[Request]:
    """Returns the requests after so many, without those about the Lease, and without watches: these end at any time."""
    requests = operated.requests()[before:]
    return [request for request in requests if request.resource != "leases" and request.verb != "watch"]


def test_leftovers_are_known_without_a_request(operated: OperatorNamespace) -> None:
    manifest = {**server(), "metadata": {"name": "files", "namespace": operated.namespace}}
    kept, lost = claim("metadata-files-0", "10Gi", "fast"), claim("cache-files-0", "5Gi", "slow")

    def warnings() -> list[str]:
        messages: list[str] = operated.operator.post(VALIDATE_PATH, wrap_in_review(manifest, "u-4")).get("warnings", [])
        return [message.split(",")[0] for message in messages]

    before = len(operated.requests())

    assert warnings() == []

    operated.apply(kept, lost)
    until(lambda: warnings() == ["volume claim metadata-files-0", "volume claim cache-files-0"])
    operated.kubectl("delete", "pvc", "cache-files-0")
    until(lambda: warnings() == ["volume claim metadata-files-0"])

    assert since(operated, before) == []


def test_a_leader_asks_the_servers_that_are_ready(operated: OperatorNamespace) -> None:
    """Nothing answers at the address of the Service here, where no pod ever runs."""
    name = "dittofs_operator_server_health_requests_total"
    operated.apply(server())
    until(lambda: operated.get("pod", "files-0") is not None)
    operated.wait_until_observed("files")
    assert metric(operated.operator, name) == 0

    set_pod(operated, ready=True)
    until(lambda: metric(operated.operator, name) > 0)


def test_sigterm_releases_the_lease_for_a_successor(operated: OperatorNamespace) -> None:
    operated.apply(server())
    operated.wait_until_observed("files")
    operated.operator.signal(signal.SIGTERM)
    until(lambda: operated.get("lease", "dittofs-operator")["spec"]["holderIdentity"] == "")

    assert operated.operator.ended_well(within=30)

    started = monotonic()
    operated.operator.start()
    until(lambda: operated.get("lease", "dittofs-operator")["spec"]["holderIdentity"] != "")

    assert monotonic() - started < 10


@pytest.fixture
def site(control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path) -> Iterator[OperatorNamespace]:
    """Registered but not started; it will manage its certificate itself."""
    site = OperatorNamespace(control_plane, namespace, tmp_path, self_managed=True)
    site.register()
    yield site
    site.kubectl("delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", namespace)


def secret_event_reasons(site: OperatorNamespace) -> list[str]:
    """Returns the reasons of the Events about the Secret, in alphabetical order."""
    about = [event for event in site.list_all("events") if event["involvedObject"]["name"] == f"{site.namespace}-tls"]
    return sorted(event["reason"] for event in about)


FIRST_EVENTS = ["CABundleUpdated", "CABundleUpdated", "CertificateServed", "CertificatesIssued"]


def test_a_self_managed_certificate_is_trusted(site: OperatorNamespace) -> None:
    with site:
        site.apply(server())

        with pytest.raises(subprocess.CalledProcessError) as refused:
            site.apply(server("other", **storage(storageClassName="none")))

        until(lambda: secret_event_reasons(site) == FIRST_EVENTS)
        metrics = site.operator.health("/metrics").text

    # Only the webhook knows about classes: the API server called it.
    assert 'StorageClass "none" does not exist' in refused.value.stderr

    [end] = re.findall(
        r'^dittofs_operator_certificate_expiry_timestamp_seconds{certificate="serving"} (.*)$', metrics, re.M
    )

    assert float(end) - time() == pytest.approx(90 * 86400, abs=300)


def test_the_last_events_are_sent_before_it_ends(site: OperatorNamespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Every Event takes a second: the API server first asks a webhook that never answers.
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        site.apply(event_webhook(url, site.namespace))
        with site:
            assert len(secret_event_reasons(site)) < len(FIRST_EVENTS)

            site.operator.signal(signal.SIGINT)

            assert site.operator.ended_well(within=15)
    site.kubectl("delete", "validatingwebhookconfiguration", f"{site.namespace}-events")

    assert secret_event_reasons(site) == FIRST_EVENTS


def event_webhook(url: str, namespace: str) -> dict[str, Any]:
    webhook = {
        "name": "events.example.com",
        "clientConfig": {"url": url},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["events"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Ignore",
        "timeoutSeconds": 1,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"{namespace}-events"},
        "webhooks": [webhook],
    }


@pytest.fixture
def without_crd(tmp_path: Path) -> Iterator[OperatorNamespace]:
    """Launched in another cluster, which has no CustomResourceDefinition."""
    (tmp_path / "plane").mkdir()
    helm(os.environ)
    with ControlPlane(programs(os.environ), tmp_path / "plane") as plane:
        plane.create("/api/v1/namespaces", {"metadata": {"name": "site"}})
        site = OperatorNamespace(plane, "site", tmp_path)
        site.operator.launch()
        try:
            yield site
        finally:
            site.operator.stop()


def install(plane: ControlPlane, crd: Any) -> None:
    plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(crd))


def reports(site: OperatorNamespace, *words: str) -> bool:
    return all(word in site.operator.why_not_ready() for word in words)


def test_readiness_waits_for_the_crd_and_says_so(without_crd: OperatorNamespace) -> None:
    site, plane, crd = without_crd, without_crd.control_plane, custom_resource_definition()
    missing = "CustomResourceDefinition dittoservers.dittofs.dittofs.com is not installed"
    until(lambda: reports(site, missing, "dittofs-operator crd | kubectl apply -f -"))

    # Another version of it does not help.
    [version] = crd["spec"]["versions"]
    install(plane, {**crd, "spec": {**crd["spec"], "versions": [{**version, "name": "v1beta1"}]}})
    until(lambda: reports(site, "v1alpha1 is not served, only v1beta1"))
    plane.kubectl("delete", "crd", crd["metadata"]["name"])

    # Nor does one that is not established because another one has its kind.
    other = {"plural": "others", "singular": "other", "kind": "DittoServer", "listKind": "DittoServerList"}
    name = {"name": "others.dittofs.dittofs.com"}
    install(plane, {**crd, "metadata": name, "spec": {**crd["spec"], "names": other}})
    plane.wait_until_established("others.dittofs.dittofs.com")
    install(plane, crd)
    until(lambda: reports(site, "is not established: kubectl describe crd"))

    # It becomes ready by itself, and starts to reconcile.
    plane.kubectl("delete", "crd", "others.dittofs.dittofs.com")
    until(lambda: site.operator.why_not_ready() == "ok")
    site.apply(server())
    site.wait_until_observed("files")

    # An unreachable API server changes nothing, but without the CRD it is not ready.
    plane.stop_apiserver()
    until(lambda: "Connection refused" in site.operator.log.read_text())

    assert site.operator.why_not_ready() == "ok"

    plane.start_apiserver()
    # The API server takes five seconds for the servers of a definition.
    site.kubectl("delete", "dittoserver", "files")
    plane.kubectl("delete", "crd", crd["metadata"]["name"])
    until(lambda: reports(site, missing))


def test_readiness_names_what_is_forbidden(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    control_plane.kubectl("--namespace", namespace, "create", "serviceaccount", "nobody")
    operator = Operator(tmp_path, "--kubeconfig", control_plane.kubeconfig_for("nobody", namespace))
    operator.launch()
    try:
        until(lambda: "cannot list dittoservers: forbidden: dittoservers" in operator.why_not_ready())
        # Reviews are answered nevertheless.
        assert operator.post(VALIDATE_PATH, REVIEW)["allowed"] is True
        account = f"--serviceaccount={namespace}:nobody"
        control_plane.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=cluster-admin", account)
        until(lambda: operator.why_not_ready() == "ok")
        # Permissions are unknown to an API server that has just started, and readiness does not depend on that.
        control_plane.kubectl("delete", "clusterrolebinding", namespace)
    finally:
        operator.stop()


def test_readiness_waits_for_the_api_server(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c"}}],
    }
    kubeconfig.write_text(json.dumps(config))
    operator = Operator(tmp_path, "--kubeconfig", kubeconfig)
    operator.launch()
    try:
        until(lambda: "cannot list dittoservers: cannot ask 127.0.0.1" in operator.why_not_ready())
    finally:
        operator.stop()


def test_the_domain_of_the_cluster_is_the_one_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    monkeypatch.setattr(serve, "RESOLV_CONF", resolv_conf)

    assert serve.cluster_domain(None) == "cluster.local"

    resolv_conf.write_bytes(b"search ns.svc.example.org svc.example.org example.org\n# \xff\n")

    assert serve.cluster_domain(None) == "example.org"
    assert serve.cluster_domain("example.net") == "example.net"
