"""Admission as a user of kubectl sees it: the real API server calls the webhook, which looks things up in it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.desired import render
from app.storage.reading import read
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_TIMEOUT_SECONDS
from manifests.wishes import WISHES
from tests.controlplane.build import TEMPLATES_CHECKED
from tests.controlplane.cluster import ControlPlane
from tests.harness.definitions import definition
from tests.harness.operator_process import Operator
from tests.harness.server_table import s3, server, storage
from tests.harness.wait import until

CLASSES = """
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: example.com/fast
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: slow}
provisioner: example.com/slow
"""
SAMPLES = sorted(Path("manifests/samples").glob("*.yaml"))
# What admission warns about while there is nothing but the sample.
NO_KEYS = 'S3 credentials Secret "s3-credentials" not found; ensure it exists before DittoFS pod starts'
NEEDS = {wish.sample: wish.needs for wish in WISHES} | {"s3": (NO_KEYS,), "shares": (NO_KEYS,)}
# Grants exactly what the webhook reads.
ROLE = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: webhook, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: webhook}
rules:
- {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [list]}
- {apiGroups: [""], resources: [secrets, persistentvolumeclaims, serviceaccounts], verbs: [get]}
- {apiGroups: [snapshot.storage.k8s.io], resources: [volumesnapshots], verbs: [get]}
- {apiGroups: [apps], resources: [statefulsets], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: webhook}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: webhook}
subjects: [{kind: ServiceAccount, name: webhook, namespace: default}]
"""


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(custom_resource_definition()))
    control_plane.kubectl("apply", "-f", "-", input=f"{CLASSES}---{ROLE}")
    snapshots = definition("snapshot.storage.k8s.io", "VolumeSnapshot", "volumesnapshots")
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(snapshots))
    for name in ("dittoservers.dittofs.dittofs.com", snapshots["metadata"]["name"]):
        control_plane.wait_until_established(name)
    # kubectl asks again after a 429, as long as the API server does not serve the new definition yet.
    control_plane.kubectl("get", "volumesnapshots")

    kubeconfig = control_plane.kubeconfig_for("webhook", "default")
    with Operator(tmp_path_factory.mktemp("operator"), "--kubeconfig", kubeconfig, "--no-reconcile") as running:
        running.register(control_plane)
        yield running

    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        control_plane.kubectl("delete", kind, "dittofs-operator")
    control_plane.kubectl("delete", "crd", snapshots["metadata"]["name"])


class Kubectl:
    """Runs kubectl in the test's namespace; a manifest is its standard input."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self._control_plane = control_plane
        self.namespace = namespace

    def __call__(self, *args: str, manifest: Manifest | str = "") -> subprocess.CompletedProcess[str]:
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        return self._control_plane.kubectl("--namespace", self.namespace, *args, input=text, check=False)

    def apply(self, manifest: Manifest | str, *options: str) -> subprocess.CompletedProcess[str]:
        return self("apply", "-f", "-", *options, manifest=manifest)

    def stored(self, name: str = "files") -> Manifest:
        live: Manifest = json.loads(self("get", "dittoserver", name, "--output=json").stdout)
        return live


@pytest.fixture
def kubectl(operator: Operator, control_plane: ControlPlane, namespace: str) -> Kubectl:
    return Kubectl(control_plane, namespace)


@pytest.fixture
def without_webhook(operator: Operator) -> Iterator[None]:
    """Stops the operator while its webhooks stay registered."""
    operator.stop()
    yield
    operator.start()


def test_a_rejection_lists_every_finding_with_its_path(kubectl: Kubectl) -> None:
    refused = kubectl.apply(server(controlPlane={"port": 80}, **storage(storageClassName="gone"), **s3()))

    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        'Warning: S3 credentials Secret "s3" not found; ensure it exists before DittoFS pod starts',
        "Warning: api port 80 is privileged; may require CAP_NET_BIND_SERVICE capability",
        'The DittoServer "files" is invalid: spec.storage.storageClassName: StorageClass "gone" does not exist in '
        "cluster; there are: fast (default), slow",
    ]


def test_several_rejections_are_all_printed(kubectl: Kubectl) -> None:
    content = storage(contentSize="5Gi")

    assert kubectl.apply(server(**content)).returncode == 0

    refused = kubectl.apply(server(**storage(storageClassName="slow", contentSize=None)))

    assert refused.returncode == 1
    # Both come from the CRD, whose rules the API server applies before it calls the webhook.
    assert "* spec.storage: Invalid value" in refused.stderr
    assert "storageClassName of the volume metadata cannot change" in refused.stderr
    assert "contentSize cannot be removed" in refused.stderr


def test_a_server_gets_the_default_cache_size(kubectl: Kubectl) -> None:
    assert kubectl.apply(server()).stderr == ""
    assert kubectl.stored()["spec"]["storage"]["cacheSize"] == "5Gi"


def test_the_webhook_fills_in_missing_defaults(
    kubectl: Kubectl, control_plane: ControlPlane, operator: Operator
) -> None:
    """An older CRD has no defaults: then the API server does call the mutating webhook."""
    complete = custom_resource_definition()
    control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(without_defaults(complete)))
    try:
        # It takes a moment until the API server uses a changed CRD.
        until(lambda: dry_run(kubectl)["status"] == {})
        until(lambda: operator.decisions()[-2]["verdict"] == "patched")

        assert dry_run(kubectl)["spec"]["storage"]["cacheSize"] == "5Gi"
    finally:
        control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(complete))
        until(lambda: dry_run(kubectl)["status"] == {"observedGeneration": -1})


def test_a_dry_run_is_judged_and_stores_nothing(kubectl: Kubectl) -> None:
    assert (
        "does not exist in cluster"
        in kubectl.apply(server(**storage(storageClassName="gone")), "--dry-run=server").stderr
    )
    assert "created (server dry run)" in kubectl.apply(server(), "--dry-run=server").stdout
    assert "NotFound" in kubectl("get", "dittoserver", "files").stderr


def test_updates_of_metadata_do_not_call_the_webhook(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(server())
    before = len(operator.decisions())

    assert kubectl("label", "dittoserver", "files", "a=b").returncode == 0

    patch = json.dumps({"metadata": {"finalizers": ["example.com/a"], "annotations": {"a": "b"}}})

    assert kubectl("patch", "dittoserver", "files", "--type=merge", "--patch", patch).returncode == 0
    assert len(operator.decisions()) == before

    kubectl("patch", "dittoserver", "files", "--type=merge", "--patch", '{"spec": {"nfsPort": 2050}}')

    assert len(operator.decisions()) == before + 1

    kubectl("patch", "dittoserver", "files", "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


def test_a_class_that_was_deleted_later_blocks_no_other_edit(kubectl: Kubectl) -> None:
    kubectl.apply(CLASSES.partition("---")[2].replace("slow", "short-lived"))

    assert kubectl.apply(server(**storage(storageClassName="short-lived"))).returncode == 0

    kubectl("delete", "storageclass", "short-lived")
    edited = kubectl.apply(server(nfsPort=2050, **storage(storageClassName="short-lived")))

    assert (edited.returncode, edited.stderr) == (0, "")


@pytest.mark.usefixtures("without_webhook")
class TestWhileNobodyAnswers:
    def test_a_deleting_object_is_not_blocked(self, kubectl: Kubectl, operator: Operator) -> None:
        operator.start()
        kubectl.apply(server() | {"metadata": {"name": "files", "finalizers": ["example.com/a"]}})
        operator.stop()

        assert kubectl("delete", "dittoserver", "files", "--wait=false").returncode == 0
        assert "deletionTimestamp" in kubectl.stored()["metadata"]

        freed = kubectl(
            "patch", "dittoserver", "files", "--type=merge", "--patch", '{"metadata": {"finalizers": null}}'
        )

        assert freed.returncode == 0
        assert "NotFound" in kubectl("get", "dittoserver", "files").stderr

    def test_the_rules_about_one_object_hold(self, kubectl: Kubectl) -> None:
        assert "the same port is used by both nfs and api" in kubectl.apply(server(nfsPort=8080)).stderr
        assert "must be more than zero" in kubectl.apply(server(**storage(cacheSize="0Gi"))).stderr
        assert "metadata.name must have at most 52" in kubectl.apply(server("a" * 53)).stderr
        assert "the server listens there for NFS" in kubectl.apply(server(controlPlane={"port": 12049})).stderr

    def test_a_good_server_has_to_wait(self, kubectl: Kubectl) -> None:
        assert 'failed calling webhook "validate.dittofs.dittofs.com"' in kubectl.apply(server()).stderr


def test_a_generated_name_counts_with_its_five_more(kubectl: Kubectl) -> None:
    fits, long = ({**server(), "metadata": {"generateName": "a" * length}} for length in (47, 48))
    assert kubectl("create", "-f", "-", manifest=fits).returncode == 0
    assert "at most 52" in kubectl("create", "-f", "-", manifest=long).stderr


class TestASecret:
    def test_that_is_absent_is_a_warning(self, kubectl: Kubectl) -> None:
        admitted = kubectl.apply(server(**s3()))

        assert admitted.returncode == 0
        assert admitted.stderr == (
            'Warning: S3 credentials Secret "s3" not found; ensure it exists before DittoFS pod starts\n'
        )

    def test_that_lacks_keys_is_a_warning_a_key(self, kubectl: Kubectl) -> None:
        kubectl(
            "create", "secret", "generic", "s3", "--from-literal=accessKeyId= m4rk3r", "--from-literal=endpoint=m4rk3r"
        )
        admitted = kubectl.apply(server(**s3()))

        assert admitted.stderr.splitlines() == [
            'Warning: S3 credentials Secret "s3" key "accessKeyId" has white space around its value',
            'Warning: S3 credentials Secret "s3" missing key "secretAccessKey"',
            'Warning: S3 credentials Secret "s3" key "endpoint" is not a URL that starts with https:// or http://',
        ]

    def test_that_is_complete_is_no_warning(self, kubectl: Kubectl) -> None:
        values = ("accessKeyId=a", "secretAccessKey=b", "endpoint=https://192.0.2.1")
        kubectl("create", "secret", "generic", "s3", *(f"--from-literal={value}" for value in values))
        assert kubectl.apply(server(**s3())).stderr == ""

    def test_for_jwt_admin_and_postgres_is_looked_up_too(self, kubectl: Kubectl) -> None:
        kubectl("create", "secret", "generic", "keys", "--from-literal=jwt=short", "--from-literal=admin=$2b$12$abc")
        key = {"name": "keys"}
        identity = {
            "jwt": {"secretRef": {**key, "key": "jwt"}},
            "admin": {"passwordSecretRef": {**key, "key": "admin"}},
        }
        database = {"postgresSecretRef": {**key, "key": "dsn"}}

        assert kubectl.apply(server(identity=identity, database=database)).stderr.splitlines() == [
            'Warning: JWT Secret "keys" key "jwt" has fewer than 32 characters; the server will not start',
            'Warning: admin password Secret "keys" key "admin" looks like a bcrypt hash; '
            "the server expects the password itself",
            'Warning: Postgres Secret "keys" missing key "dsn"',
            "Warning: database.postgresSecretRef is set but database.type is 'sqlite' - "
            "PostgreSQL will take precedence",
        ]


class TestAResizedVolume:
    @pytest.fixture(autouse=True)
    def live_claim(self, kubectl: Kubectl, request: pytest.FixtureRequest) -> None:
        """Creates the claim of a running server as a volume driver leaves it, with 6Gi."""
        kubectl.apply(server(**storage(cacheSize="7Gi")))
        self.claim(kubectl, "fast")

    def claim(self, kubectl: Kubectl, storage_class: str, name: str = "cache-files-0") -> None:
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": storage_class,
                "resources": {"requests": {"storage": "6Gi"}},
            },
        }
        kubectl("delete", "pvc", name, "--ignore-not-found")
        assert kubectl.apply(claim).returncode == 0

        capacity = json.dumps({"status": {"phase": "Bound", "capacity": {"storage": "6Gi"}}})
        options = ("--subresource=status", "--type=merge", "--patch", capacity)
        assert kubectl("patch", "pvc", name, *options).returncode == 0

    def test_cannot_go_below_what_it_has(self, kubectl: Kubectl) -> None:
        assert "storage.cacheSize must be at least 6Gi" in kubectl.apply(server(**storage(cacheSize="5Gi"))).stderr

    def test_is_refused_together_with_another_one(self, kubectl: Kubectl) -> None:
        self.claim(kubectl, "slow", "metadata-files-0")
        refused = kubectl.apply(server(**storage(metadataSize="20Gi", cacheSize="5Gi")))

        assert refused.stderr.splitlines() == [
            'The DittoServer "files" is invalid: ',
            "* spec.storage.cacheSize: storage.cacheSize must be at least 6Gi, "
            "which volume claim cache-files-0 has; volumes cannot shrink",
            '* spec.storage.metadataSize: storage.metadataSize cannot grow: StorageClass "slow" '
            "of volume claim metadata-files-0 cannot expand volumes; classes that can: fast",
        ]

    def test_that_the_driver_refused_can_be_lowered_again(self, kubectl: Kubectl) -> None:
        request = {"spec": {"resources": {"requests": {"storage": "7Gi"}}}}
        refusal = {
            "allocatedResources": {"storage": "7Gi"},
            "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"},
        }
        claim = ("patch", "pvc", "cache-files-0", "--type=merge", "--patch")

        assert kubectl(*claim, json.dumps(request)).returncode == 0
        assert kubectl(*claim, json.dumps({"status": refusal}), "--subresource=status").returncode == 0
        assert "must be at least 6Gi" in kubectl.apply(server(**storage(cacheSize="6143Mi"))).stderr
        assert kubectl.apply(server(**storage(cacheSize="6Gi"))).returncode == 0

    def test_of_content_can_be_added_where_there_was_none(self, kubectl: Kubectl) -> None:
        assert kubectl.apply(server(**storage(cacheSize="7Gi", contentSize="1Gi"))).returncode == 0

    def test_of_content_cannot_be_smaller_than_an_earlier_claim(self, kubectl: Kubectl) -> None:
        self.claim(kubectl, "fast", "content-files-0")

        refused = kubectl.apply(server(**storage(cacheSize="7Gi", contentSize="1Gi")))

        assert "storage.contentSize must be at least 6Gi, which volume claim content-files-0 has" in refused.stderr
        assert kubectl.apply(server(**storage(cacheSize="7Gi", contentSize="6Gi"))).returncode == 0

    def test_binds_a_recreated_server(self, kubectl: Kubectl) -> None:
        self.claim(kubectl, "slow")
        kubectl("delete", "dittoserver", "files")

        smaller, larger = (kubectl.apply(server(**storage(cacheSize=size))) for size in ("5Gi", "7Gi"))
        same = kubectl.apply(server(**storage(cacheSize="6Gi")))

        assert "storage.cacheSize must be at least 6Gi, which volume claim cache-files-0 has" in smaller.stderr
        assert 'StorageClass "slow" of volume claim cache-files-0 cannot expand volumes' in larger.stderr
        assert (same.returncode, same.stderr) == (
            0,
            "Warning: volume claim cache-files-0 exists and is reused with its data: 6Gi of StorageClass "
            '"slow", not "fast"; for "fast", delete the claim and its data, or choose another server name\n',
        )

    def test_can_grow_in_a_class_that_expands(self, kubectl: Kubectl) -> None:
        assert kubectl.apply(server(**storage(cacheSize="20Gi"))).returncode == 0

    def test_cannot_grow_in_a_class_that_does_not_expand(self, kubectl: Kubectl) -> None:
        self.claim(kubectl, "slow")
        refused = kubectl.apply(server(**storage(cacheSize="20Gi"))).stderr

        assert (
            'StorageClass "slow" of volume claim cache-files-0 cannot expand volumes; classes that can: fast' in refused
        )


class TestASectionForThePod:
    """Tests for the sections that go verbatim into the pod, which the webhook tries in a dry run of a StatefulSet."""

    def test_is_rejected_by_the_name_that_the_user_gave_it(self, kubectl: Kubectl) -> None:
        refused = kubectl.apply(server(resources={"limit": {"memory": "1Gi"}}, podSecurityContext={"fsGroup": -1}))

        assert refused.stderr.splitlines() == [
            'The DittoServer "files" is invalid: spec.resources.limit: resources.limit is not a field of a '
            "ResourceRequirements in Kubernetes 1.36; did you mean limits?"
        ]

    @pytest.mark.since(TEMPLATES_CHECKED)
    def test_is_rejected_for_what_no_schema_says(self, kubectl: Kubectl) -> None:
        requests = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}

        refused = kubectl.apply(server(resources=requests, securityContext={"runAsUser": -1}))

        assert refused.stderr.splitlines() == [
            'The DittoServer "files" is invalid: ',
            "* spec.resources.requests: resources.requests has 2Gi of memory, which is above its limit of 1Gi",
            "* spec.securityContext.runAsUser: securityContext.runAsUser: Invalid value: -1: must be between 0 and "
            "2147483647, inclusive",
        ]

    @pytest.mark.parametrize("label", ["enforce", "warn"])
    def test_that_violates_pod_security_is_one_warning(self, kubectl: Kubectl, label: str) -> None:
        kubectl("label", "namespace", kubectl.namespace, f"pod-security.kubernetes.io/{label}=restricted")

        admitted = kubectl.apply(server(securityContext={"allowPrivilegeEscalation": True}))

        assert admitted.returncode == 0

        [warning] = admitted.stderr.splitlines()

        assert warning.startswith('Warning: the API server warns: would violate PodSecurity "restricted:latest"')
        assert "allowPrivilegeEscalation" in warning

    def test_that_is_restricted_draws_no_warning(self, kubectl: Kubectl) -> None:
        kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")

        admitted = kubectl.apply(server(securityContext={"readOnlyRootFilesystem": True}))

        assert (admitted.returncode, admitted.stderr) == (0, "")

    @pytest.mark.since(TEMPLATES_CHECKED)
    def test_of_a_server_that_runs_is_tried_as_well(self, kubectl: Kubectl) -> None:
        kubectl.apply(server())
        kubectl("create", "-f", "-", manifest=yaml.safe_dump(render(read(server()).server)[-1]))

        assert "runAsUser" in kubectl.apply(server(securityContext={"runAsUser": -1})).stderr
        assert kubectl.apply(server(securityContext={"runAsUser": 1})).returncode == 0

    def test_that_was_bad_before_blocks_no_other_edit(self, kubectl: Kubectl, operator: Operator) -> None:
        bad = {"resources": {"limit": {"memory": "1Gi"}}, "securityContext": {"runAsUser": -1}}
        with unregistered(kubectl):
            assert kubectl.apply(server(**bad)).returncode == 0

        edited = kubectl.apply(server(nfsPort=2050, **bad))

        assert (edited.returncode, edited.stderr) == (0, "")

        fixed = kubectl.apply(server(**{**bad, "resources": {"limits": {"memory": "1Gi"}}}))

        assert (fixed.returncode, fixed.stderr) == (0, "")

    def test_that_a_quota_leaves_no_room_for_is_a_warning(self, kubectl: Kubectl) -> None:
        kubectl("create", "quota", "none", "--hard=count/statefulsets.apps=0")

        admitted = kubectl.apply(server(resources={"limits": {"memory": "1Gi"}}))

        assert admitted.returncode == 0
        assert admitted.stderr.startswith("Warning: Could not verify resources with the API server: forbidden: ")
        assert "exceeded quota" in admitted.stderr

    def test_asks_once_and_only_when_it_changes(self, kubectl: Kubectl, control_plane: ControlPlane) -> None:
        def tries(manifest: Manifest) -> int:
            before = len(dry_runs(control_plane, kubectl.namespace))
            assert kubectl.apply(manifest).returncode == 0
            return len(dry_runs(control_plane, kubectl.namespace)) - before

        resources = {"limits": {"memory": "1Gi"}}

        assert tries(server()) == 0
        assert tries(server(nfsPort=2050)) == 0
        assert tries(server(resources=resources)) == 1
        assert tries(server(resources=resources, image="a:1")) == 0
        assert tries(server(resources={"limits": {"memory": "2Gi"}}, image="a:1")) == 1
        assert tries(server(image="a:1")) == 0


def dry_runs(control_plane: ControlPlane, namespace: str) -> list[Any]:
    """Returns the webhook's dry runs of StatefulSets from the audit log, where they are before the answer is sent."""
    entries = [json.loads(line) for line in control_plane.audited() if b"system:serviceaccount:default:webhook" in line]
    wanted = {"namespace": namespace, "resource": "statefulsets"}
    return [entry for entry in entries if wanted.items() <= (entry.get("objectRef") or {}).items()]


@contextmanager
def unregistered(kubectl: Kubectl) -> Iterator[None]:
    """Takes the namespace out of the webhook's registration inside the `with`."""
    path = "/webhooks/0/namespaceSelector"
    elsewhere = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [kubectl.namespace]}
    selector = {"matchExpressions": [elsewhere]}
    hook = ("patch", "validatingwebhookconfiguration", "dittofs-operator", "--type=json", "--patch")
    invalid = server("probe", **storage(storageClassName="gone"))

    kubectl(*hook, json.dumps([{"op": "add", "path": path, "value": selector}]))
    until(lambda: kubectl.apply(invalid, "--dry-run=server").returncode == 0)

    yield

    kubectl(*hook, json.dumps([{"op": "add", "path": path, "value": {}}]))
    until(lambda: kubectl.apply(invalid, "--dry-run=server").returncode == 1)


@pytest.mark.parametrize(
    ("spec", "warning"),
    [
        ({"storage": {"metadataSize": "1Gi"}}, ""),
        ({"controlPlane": {"port": 80}}, "api port 80 is privileged"),
        ({"cache": {"size": "9GB"}}, "cache.size 9GB is above storage.cacheSize 5Gi"),
        ({"cache": {"path": "/tmp/cache"}}, "cache.path /tmp/cache is on no volume"),
        ({"database": {"sqlite": {"path": "/x.db"}}}, "database.sqlite.path /x.db is on no volume"),
    ],
)
def test_a_surprising_setting_is_a_warning(kubectl: Kubectl, spec: dict[str, Any], warning: str) -> None:
    admitted = kubectl.apply(server(**spec))

    assert admitted.returncode == 0
    assert warning in admitted.stderr
    assert admitted.stderr.count("Warning:") == bool(warning)


def test_no_default_class_is_a_warning(kubectl: Kubectl) -> None:
    annotation = "storageclass.kubernetes.io/is-default-class"
    kubectl("annotate", "--overwrite", "storageclass", "fast", f"{annotation}=false")
    try:
        assert "the claims will stay Pending" in kubectl.apply(server(storage={"metadataSize": "1Gi"})).stderr
    finally:
        kubectl("annotate", "--overwrite", "storageclass", "fast", f"{annotation}=true")


def test_decisions_are_fast_and_log_no_secret_value(operator: Operator) -> None:
    decisions = operator.decisions()

    assert decisions
    assert max(decision["milliseconds"] for decision in decisions) < 1000 * VALIDATE_TIMEOUT_SECONDS
    assert "m4rk3r" not in operator.log.read_text()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_a_sample_warns_of_what_it_needs_and_no_more(kubectl: Kubectl, sample: Path) -> None:
    applied = kubectl.apply(sample.read_text())
    warnings = tuple(line.removeprefix("Warning: ") for line in applied.stderr.splitlines())

    assert (applied.returncode, warnings) == (0, NEEDS.get(sample.stem, ()))


def test_the_samples_can_be_applied_together(kubectl: Kubectl) -> None:
    applied = kubectl.apply("---\n".join(path.read_text() for path in SAMPLES))

    assert applied.returncode == 0, applied.stderr
    assert len(applied.stdout.splitlines()) == sum(path.read_text().count("\nkind: ") for path in SAMPLES)


def dry_run(kubectl: Kubectl) -> Manifest:
    result: Manifest = json.loads(kubectl.apply(server(), "--dry-run=server", "--output=json").stdout)
    return {"status": {}, **result}


def without_defaults(node: Any) -> Any:
    if isinstance(node, list):
        return [without_defaults(item) for item in node]
    if not isinstance(node, dict):
        return node

    kept = {key: without_defaults(value) for key, value in node.items() if key != "default"}
    # A required field can be left out only if it has a default.
    if "required" in kept:
        kept["required"] = [name for name in kept["required"] if name != "cacheSize"]

    return kept
