"""The metrics page of the operator as Prometheus scrapes it, from a process that has just started or done something."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from itertools import product
from pathlib import Path
from time import time

from prometheus_client.parser import text_string_to_metric_families

from app.storage.rules import RULES
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.controlplane.cluster import ControlPlane
from tests.harness.nodes import crash_pod, set_pod
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import s3, server, storage
from tests.harness.volume_driver import Expansion, VolumeDriver
from tests.harness.wait import until
from tests.prometheus.build import promtool

# What is looked up for a review.
KINDS = (
    "PersistentVolumeClaim",
    "PriorityClass",
    "Secret",
    "ServiceAccount",
    "StatefulSet",
    "StorageClass",
    "VolumeSnapshot",
)
DITTOSERVER = {("dittoserver",)}
WEBHOOKS = (MUTATE_PATH, VALIDATE_PATH)

# The values of the labels, in the order of their names, that are there before anything has happened.
FROM_THE_START = {
    "controller_runtime_active_workers": DITTOSERVER,
    "controller_runtime_max_concurrent_reconciles": DITTOSERVER,
    "controller_runtime_reconcile_errors_total": DITTOSERVER,
    "controller_runtime_reconcile_time_seconds_count": DITTOSERVER,
    "controller_runtime_reconcile_total": set(
        product(["dittoserver"], ["error", "requeue_after", "success"]),
    ),
    "controller_runtime_webhook_latency_seconds_count": set(product(WEBHOOKS)),
    "controller_runtime_webhook_requests_in_flight": set(product(WEBHOOKS)),
    "controller_runtime_webhook_requests_total": set(product(["200", "400", "413", "415", "499"], WEBHOOKS)),
    "dittofs_operator_admission_findings_total": set(
        product(["rejected", "warned"], [rule.__name__ for rule in RULES])
    ),
    "dittofs_operator_admission_reviews_total": set(
        product(["CREATE", "UPDATE", "other"], ["allowed", "denied", "error", "patched", "warned"], WEBHOOKS)
    ),
    "dittofs_operator_build_info": {(platform.python_version(), version("dittofs-operator"))},
    "dittofs_operator_certificate_expiry_timestamp_seconds": {("serving",)},
    "dittofs_operator_lookup_duration_seconds_count": set(product(KINDS)),
    "dittofs_operator_lookups_total": set(product(KINDS, ["absent", "found", "unknown"])),
    "dittofs_operator_server_health_requests_total": {("answered",), ("unexpected",), ("unreachable",)},
    "dittofs_operator_server_provisioning_attempts_total": {("complete",), ("incomplete",)},
    "leader_election_master_status": {("dittofs-operator",)},
    "workqueue_adds_total": DITTOSERVER,
    "workqueue_depth": DITTOSERVER,
    "workqueue_longest_running_processor_seconds": DITTOSERVER,
    "workqueue_queue_duration_seconds_count": DITTOSERVER,
    "workqueue_retries_total": DITTOSERVER,
    "workqueue_unfinished_work_seconds": DITTOSERVER,
    "workqueue_work_duration_seconds_count": DITTOSERVER,
}


SERVER = "dittofs_operator_server"
METRICS_PAGE = Path(__file__).parent.parent / "docs/reference/metrics.md"


def series(page: str, names: Iterable[str]) -> dict[str, set[tuple[str, ...]]]:
    """Returns the label values of these samples, in the order of the labels' names."""
    values: dict[str, set[tuple[str, ...]]] = {name: set() for name in names}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in values:
                values[sample.name].add(tuple(value for _, value in sorted(sample.labels.items())))
    return values


def test_every_bounded_series_is_there_from_the_start(operated: OperatorNamespace) -> None:
    page = operated.operator.health("/metrics").text

    assert series(page, FROM_THE_START) == FROM_THE_START


def test_no_series_says_when_another_began(operated: OperatorNamespace) -> None:
    assert "_created" not in operated.operator.health("/metrics").text


def values(operated: OperatorNamespace, name: str) -> dict[tuple[str, ...], float]:
    """Returns the values of a server's metric by its own labels, in the order of their names."""
    samples = {}
    for family in text_string_to_metric_families(operated.operator.health("/metrics").text):
        for sample in family.samples:
            if sample.name == f"{SERVER}_{name}":
                labels = dict(sample.labels)
                assert (labels.pop("namespace"), labels.pop("server")) == (operated.namespace, "files")
                samples[tuple(value for _, value in sorted(labels.items()))] = sample.value
    return samples


def names(operated: OperatorNamespace) -> set[str]:
    families = text_string_to_metric_families(operated.operator.health("/metrics").text)
    return {sample.name for family in families for sample in family.samples if sample.name.startswith(f"{SERVER}_")}


OPERATOR_WIDE = {f"{SERVER}_health_requests_total", f"{SERVER}_provisioning_attempts_total"}


def test_the_metrics_of_a_server_follow_its_state(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", accessKeyId="AKIA", secretAccessKey="before", endpoint="https://s3.example.com")
    operated.apply(server(**s3()))
    until(lambda: operated.get("pod", "files-0") is not None)
    until(lambda: values(operated, "volume_phase").get(("Pending", "cache")) == 1)

    assert values(operated, "condition")["False", "Ready"] == 1
    assert values(operated, "condition")["True", "CredentialsReady"] == 1
    assert values(operated, "volume_requested_bytes")["cache-files-0", "cache"] == 5 * 2**30
    assert values(operated, "volume_capacity_bytes") == {}
    assert 0 < values(operated, "waiting_seconds")[()] < 300
    assert set(values(operated, "restarts_total").values()) == {0}
    changed = values(operated, "credentials_changed_timestamp_seconds")[()]
    assert time() - changed < 300

    # Timestamps of Kubernetes are in whole seconds.
    until(lambda: time() > changed + 1)
    operated.put_secret("s3", accessKeyId="AKIA", secretAccessKey="after", endpoint="https://s3.example.com")
    until(lambda: values(operated, "restarts_total")["credentials",] == 1)
    assert values(operated, "credentials_changed_timestamp_seconds")[()] > changed

    operated.kubectl("delete", "dittoserver", "files", "--wait=false")
    until(lambda: names(operated) == OPERATOR_WIDE)


def test_a_volume_shows_how_its_expansion_goes(operated: OperatorNamespace, driver: VolumeDriver) -> None:
    sizes = {"cacheSize": "1Gi", "storageClassName": driver.storage_class}
    operated.apply(server(**storage(**sizes)))
    until(lambda: values(operated, "volume_phase").get(("Bound", "cache")) == 1)

    assert values(operated, "volume_capacity_bytes")["cache-files-0", "cache"] == 2**30

    driver.expansion = Expansion(most="1Gi")
    operated.apply(server(**storage(**{**sizes, "cacheSize": "2Gi"})))
    until(lambda: values(operated, "volume_phase").get(("ResizeRefused", "cache")) == 1)

    assert values(operated, "volume_requested_bytes")["cache-files-0", "cache"] == 2 * 2**30
    assert values(operated, "volume_capacity_bytes")["cache-files-0", "cache"] == 2**30

    driver.expansion = Expansion()
    operated.apply(server(**storage(**{**sizes, "cacheSize": "3Gi"})))
    until(lambda: values(operated, "volume_capacity_bytes")["cache-files-0", "cache"] == 3 * 2**30)
    until(lambda: values(operated, "volume_phase").get(("Bound", "cache")) == 1)


def test_a_crash_and_its_end_show(operated: OperatorNamespace, driver: VolumeDriver) -> None:
    def has_reason(reason: str) -> bool:
        return reason in {labels[1] for labels in values(operated, "info")}

    operated.apply(server(**storage(storageClassName=driver.storage_class)))
    until(lambda: operated.get("pod", "files-0") is not None)

    crash_pod(operated, "files-0", restarts=3)
    until(lambda: values(operated, "container_restarts")[()] == 3)
    until(lambda: has_reason("CrashLoopBackOff"))
    assert values(operated, "waiting_seconds")[()] > 0

    set_pod(operated, ready=True)
    until(lambda: values(operated, "condition")["True", "Ready"] == 1)
    assert values(operated, "container_restarts")[()] == 0
    assert has_reason("Available")


def test_every_metric_is_in_the_reference(operated: OperatorNamespace) -> None:
    operated.apply(server(**s3()))
    until(lambda: values(operated, "info") != {})
    page = operated.operator.health("/metrics").text
    names = set(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE))

    undocumented = {name for name in names if f"`{name}`" not in METRICS_PAGE.read_text()}

    # The page says of the metrics of the Prometheus client only that they are there.
    assert {name for name in undocumented if not name.startswith(("python_", "process_"))} == set()


def test_prometheus_accepts_the_page(operated: OperatorNamespace) -> None:
    operated.apply(server())
    until(lambda: values(operated, "info") != {})

    page = operated.operator.health("/metrics").text
    command = [str(promtool(os.environ)), "check", "metrics"]
    checked = subprocess.run(command, input=page, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_only_the_leader_serves_the_metrics_of_servers(operated: OperatorNamespace) -> None:
    operated.apply(server())
    until(lambda: values(operated, "info") != {})

    # Another replica takes the Lease, as it may once this one has not renewed it in time.
    operated.patch("lease", "dittofs-operator", spec={"holderIdentity": "another", "leaseDurationSeconds": 3600})
    until(lambda: names(operated) == OPERATOR_WIDE)

    operated.patch("lease", "dittofs-operator", spec={"holderIdentity": ""})
    until(lambda: values(operated, "info") != {})


def test_metrics_of_servers_can_be_left_out(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    with OperatorNamespace(control_plane, namespace, tmp_path, "--no-server-metrics") as operated:
        operated.apply(server())
        operated.wait_until_observed("files")

        assert names(operated) == OPERATOR_WIDE
