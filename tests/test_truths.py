"""The nine truths of the contract and what follows from them, as they hold at the real API server."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml

from app.storage.crd import custom_resource_definition
from app.storage.pod import CONFIG_HASH
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Proxy
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import CERTIFICATE, jwt, s3, s3_ca, server, storage
from tests.harness.wait import until

CLAIMS = ("metadata-files-0", "cache-files-0")
OWNED = ("statefulsets", "services", "configmaps", "pods")
GENERATED = ("files-jwt-secret", "files-admin-bootstrap-credentials")
WARNING = "dittofs-operator", "Warning"
KEYS = {"accessKeyId": "a", "secretAccessKey": "b"}
# The StatefulSet as the Go operator created it in February 2026; YAML, to be formatted with the DittoServer's uid.
OF_THE_GO_OPERATOR = """
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: files
  labels: &labels {{app: dittofs-server, instance: files}}
  ownerReferences:
  - {{apiVersion: dittofs.dittofs.com/v1alpha1, kind: DittoServer, name: files, uid: {uid}, controller: true,
     blockOwnerDeletion: true}}
spec:
  replicas: 1
  serviceName: files-headless
  selector: {{matchLabels: *labels}}
  template:
    metadata: {{labels: *labels, annotations: {{dittofs.io/config-hash: abc}}}}
    spec:
      containers:
      - name: dittofs
        image: marmos91c/dittofs:latest
        command: [/app/dittofs]
        args: [start]
        lifecycle: {{preStop: {{exec: {{command: [/bin/sh, -c, sleep 5]}}}}}}
        livenessProbe: &probe {{httpGet: {{path: /health, port: 9999}}}}
        readinessProbe: *probe
        volumeMounts: [{{name: metadata, mountPath: /data/metadata}}, {{name: cache, mountPath: /data/cache}}]
  volumeClaimTemplates:
  - metadata: {{name: metadata}}
    spec: &claim {{accessModes: [ReadWriteOnce], storageClassName: fast, resources: {{requests: {{storage: 10Gi}}}}}}
  - {{metadata: {{name: cache}}, spec: *claim}}
"""
# From 1.36 on, as far as is known, and not in 1.30, a status can be written below a spec that a rule refuses.
RATCHETED_STATUS = 36
# The garbage collector may take half a minute to notice a new kind.
SECONDS = 90.0


@pytest.fixture
def admitting(operated: OperatorNamespace, control_plane: ControlPlane) -> Iterator[OperatorNamespace]:
    """Runs the operator with its webhooks registered."""
    with registered(operated, control_plane):
        yield operated


@contextmanager
def registered(operated: OperatorNamespace, control_plane: ControlPlane) -> Iterator[None]:
    operated.operator.register(control_plane)
    try:
        yield
    finally:
        for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
            control_plane.kubectl("delete", kind, "dittofs-operator")


def test_1_the_cache_has_a_claim_that_survives_the_pod(operated: OperatorNamespace) -> None:
    operated.apply(server(**storage(cacheSize="7Gi")))
    until(lambda: bool(operated.get("pod", "files-0")))

    [cache] = [claim for claim in claim_templates(operated) if claim["metadata"]["name"] == "cache"]

    assert cache["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert cache["spec"]["storageClassName"] == "fast"
    assert cache["spec"]["resources"]["requests"] == {"storage": "7Gi"}

    pod, claims = operated.get("pod", "files-0"), uids(operated, *CLAIMS)

    assert {"name": "cache", "mountPath": "/data/cache"} in container(pod)["volumeMounts"]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "cache-files-0"}} in pod["spec"]["volumes"]
    # Where nothing is kept, nothing can be written either, but for temporary files.
    empty = {volume["name"] for volume in pod["spec"]["volumes"] if "emptyDir" in volume}
    writable = [mount for mount in container(pod)["volumeMounts"] if not mount.get("readOnly")]
    assert [mount["mountPath"] for mount in writable if mount["name"] in empty] == ["/tmp"]

    operated.kubectl("delete", "pod", "files-0", "--force", "--grace-period=0")
    until(lambda: uids(operated, "files-0", kind="pod") not in ([], [pod["metadata"]["uid"]]))

    assert uids(operated, *CLAIMS) == claims


def test_2_the_cache_size_is_required_with_a_default(operated: OperatorNamespace) -> None:
    operated.apply(server())
    operated.wait_until_observed("files")

    assert operated.get("dittoserver", "files")["spec"]["storage"]["cacheSize"] == "5Gi"
    assert claim_templates(operated)[-1]["spec"]["resources"]["requests"] == {"storage": "5Gi"}

    schema = operated.kubectl("get", "crd", "dittoservers.dittofs.dittofs.com", "-o", "json")
    [version] = json.loads(schema)["spec"]["versions"]
    sizes = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["storage"]

    assert "cacheSize" in sizes["required"]
    assert sizes["properties"]["cacheSize"]["default"] == "5Gi"
    assert sizes["properties"]["cacheSize"]["pattern"] == "^[0-9]+(Gi|Mi|Ti)$"
    assert "spec.storage.cacheSize" in kubectl_apply(operated, server("others", **storage(cacheSize="5G")))


def test_3_a_stopped_server_keeps_its_claims(operated: OperatorNamespace) -> None:
    operated.apply(server())
    until(lambda: bool(operated.get("pod", "files-0")))

    policy = operated.get("statefulset", "files")["spec"]["persistentVolumeClaimRetentionPolicy"]

    assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}

    claims = operated.list_all("pvc")
    operated.apply(server(replicas=0))
    until(lambda: operated.get("pod", "files-0") is None)

    assert uids(operated, *CLAIMS) == sorted(claim["metadata"]["uid"] for claim in claims)
    assert not [claim for claim in operated.list_all("pvc") if claim["metadata"].get("ownerReferences")]


def test_4_the_spec_names_the_s3_secret_and_its_keys(operated: OperatorNamespace) -> None:
    names = {"accessKeyIdKey": "id", "secretAccessKeyKey": "key", "endpointKey": "url"}
    operated.put_secret("other", id="a", key="b")
    operated.apply(server(s3={"credentialsSecretRef": {"secretName": "other", **names}}))
    wait_until_running(operated, "files")

    assert environment(operated)["AWS_ACCESS_KEY_ID"] == from_secret("other", "id")
    assert environment(operated)["AWS_SECRET_ACCESS_KEY"] == from_secret("other", "key")
    assert environment(operated)["AWS_ENDPOINT_URL"] == from_secret("other", "url", optional=True)


def test_5_the_pod_gets_s3_credentials_only_from_the_secret(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", **KEYS)
    operated.apply(server(s3={**s3()["s3"], "region": "eu-central-1"}), server("local"))
    wait_until_running(operated, "files", "local")

    assert {name: value for name, value in environment(operated).items() if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": from_secret("s3", "accessKeyId"),
        "AWS_SECRET_ACCESS_KEY": from_secret("s3", "secretAccessKey"),
        "AWS_ENDPOINT_URL": from_secret("s3", "endpoint", optional=True),
        "AWS_REGION": "eu-central-1",
    }
    assert not [name for name in environment(operated, "local") if name.startswith("AWS_")]


@pytest.mark.alone
def test_6_a_changed_secret_restarts_the_pod_in_two_seconds(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", **KEYS)
    operated.apply(server(**s3()))
    wait_until_running(operated, "files")
    before, spec = operated.template("files"), operated.get("dittoserver", "files")["spec"]

    operated.put_secret("s3", **KEYS | {"secretAccessKey": "c"})
    until(lambda: hash_of(operated.template("files")) != hash_of(before), seconds=2)

    assert without_hash(operated.template("files")) == without_hash(before)

    live = operated.get("dittoserver", "files")

    assert (live["metadata"]["generation"], live["spec"]) == (1, spec)


def test_7_a_missing_class_is_rejected_an_unknown_one_warned_of(
    admitting: OperatorNamespace,
) -> None:
    gone = server(**storage(storageClassName="gone"))

    assert 'StorageClass "gone" does not exist in cluster' in kubectl_apply(admitting, gone)
    assert admitting.get("dittoserver", "files") is None

    # From now on the operator may not look anything up.
    nobody = json.dumps([{"op": "remove", "path": "/subjects"}])
    admitting.kubectl("patch", "clusterrolebinding", admitting.namespace, "--type=json", "-p", nobody)
    until(lambda: 'Could not verify StorageClass "gone" exists: ' in kubectl_apply(admitting, gone, "--dry-run=server"))

    assert "dittoserver.dittofs.dittofs.com/files created" in kubectl_apply(admitting, gone)


def test_8_a_missing_s3_secret_or_key_is_a_warning(admitting: OperatorNamespace) -> None:
    missing = 'Warning: S3 credentials Secret "s3" not found; ensure it exists before DittoFS pod starts\n'

    assert kubectl_apply(admitting, server(**s3())) == f"{missing}dittoserver.dittofs.dittofs.com/files created\n"

    admitting.put_secret("s3", accessKeyId="a")
    lacking = 'Warning: S3 credentials Secret "s3" missing key "secretAccessKey"\n'

    assert (
        kubectl_apply(admitting, server("more", **s3())) == f"{lacking}dittoserver.dittofs.dittofs.com/more created\n"
    )


@pytest.mark.alone
def test_9_admission_asks_the_cluster_within_a_deadline(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    with (
        Proxy(control_plane, tmp_path) as proxy,
        OperatorNamespace(control_plane, namespace, tmp_path, proxy=proxy) as slow,
        registered(slow, control_plane),
    ):
        slow.put_secret("s3", **KEYS)

        assert "Warning" not in kubectl_apply(slow, server(**s3()), "--dry-run=server")
        assert ("get", "secrets", "s3") in [(asked.verb, asked.resource, asked.name) for asked in slow.requests()]

        with proxy.fault(lambda request: request.path.endswith("/secrets/late"), hang=True):
            answer = kubectl_apply(slow, server(**s3(secretName="late")), "--dry-run=server")

        assert 'Warning: Could not verify S3 credentials Secret "late": ' in answer
        assert max(decision["milliseconds"] for decision in slow.operator.decisions()) < 2500


def test_a_field_that_the_pod_ignores_restarts_nothing(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", **KEYS)
    operated.apply(server(**s3()))
    wait_until_running(operated, "files")
    before = operated.template("files")

    bucket = {"s3": {**s3()["s3"], "bucket": "other"}}
    edited = server(nfsPort=2050, service={"annotations": {"example.com/a": "b"}}, **bucket)
    edited["metadata"]["labels"] = {"example.com/team": "a"}
    operated.apply(edited)
    operated.wait_until_observed("files")

    assert operated.template("files") == before

    service = operated.get("service", "files-file")

    assert service["spec"]["ports"][0]["port"] == 2050
    assert service["metadata"]["annotations"]["example.com/a"] == "b"


def test_a_field_that_the_pod_uses_changes_its_template(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", **KEYS)
    operated.apply(server(**s3()))
    wait_until_running(operated, "files")
    region = {"s3": {**s3()["s3"], "region": "eu-central-1"}}

    for change in (region, s3(endpointKey="url"), {**s3(endpointKey="url"), "image": "example.com/dittofs:2"}):
        before = operated.template("files")
        operated.apply(server(**change))
        operated.wait_until_observed("files")

        assert operated.template("files") != before


def test_a_recreated_server_reuses_its_claims_and_secrets(operated: OperatorNamespace) -> None:
    operated.apply(server())
    until(lambda: len(operated.list_all("pvc")) == len(CLAIMS))
    wait_until_running(operated, "files")
    kept, secrets, template = uids(operated, *CLAIMS), data_of(operated, *GENERATED), operated.template("files")

    operated.kubectl("delete", "dittoserver", "files")
    until(lambda: not any(of_files(manifest) for kind in OWNED for manifest in operated.list_all(kind)), SECONDS)

    assert uids(operated, *CLAIMS) == kept

    operated.apply(server())
    until(lambda: operated.template("files") == template)
    until(lambda: bool(operated.get("pod", "files-0")))

    assert uids(operated, *CLAIMS) == kept
    assert data_of(operated, *GENERATED) == secrets


def test_a_server_recreated_at_once_keeps_its_objects(operated: OperatorNamespace) -> None:
    operated.apply(server())
    wait_until_running(operated, "files")

    operated.kubectl("delete", "dittoserver", "files", "--wait=false")
    operated.apply(server())

    uid = operated.get("dittoserver", "files")["metadata"]["uid"]
    names = ("statefulset/files", "configmap/files-config", "service/files-file", "service/files-api")
    until(lambda: all(owner(operated, *name.split("/")) == uid for name in names), SECONDS)


def test_changes_are_reverted_and_additions_kept(operated: OperatorNamespace) -> None:
    operated.apply(server())
    operated.wait_until_observed("files")
    config = operated.get("configmap", "files-config")

    operated.kubectl("annotate", "service", "files-file", "example.com/balancer=a")
    operated.kubectl("label", "service", "files-file", "example.com/team=a")
    operated.kubectl("rollout", "restart", "statefulset", "files")
    ports = [{"name": "nfs", "port": 9999, "targetPort": "nfs"}]
    operated.patch("service", "files-file", spec={"ports": ports})
    operated.kubectl("scale", "statefulset", "files", "--replicas=0")
    operated.kubectl("delete", "configmap", "files-config")
    operated.kubectl("delete", "service", "files-api")

    until(lambda: (operated.get("configmap", "files-config") or {}).get("data") == config["data"], SECONDS)
    until(lambda: bool(operated.get("service", "files-api")), SECONDS)
    until(lambda: operated.get("statefulset", "files")["spec"]["replicas"] == 1, SECONDS)
    until(lambda: [port["port"] for port in operated.get("service", "files-file")["spec"]["ports"]] == [2049], SECONDS)

    metadata = operated.get("service", "files-file")["metadata"]

    assert metadata["annotations"]["example.com/balancer"] == "a"
    assert metadata["labels"]["example.com/team"] == "a"
    assert "kubectl.kubernetes.io/restartedAt" in operated.template("files")["metadata"]["annotations"]


def test_a_taken_name_is_reported_and_left_alone(operated: OperatorNamespace) -> None:
    operated.kubectl("create", "configmap", "files-config", "--from-literal=config.yaml=mine")
    foreign = operated.get("configmap", "files-config")

    operated.apply(server())
    until(lambda: condition(operated, "Stalled") == ("True", "NameTaken"))
    until(lambda: "ConfigMap files-config exists" in warnings(operated).get("NameTaken", ""))

    assert operated.get("configmap", "files-config") == foreign

    operated.kubectl("delete", "configmap", "files-config")
    until(lambda: condition(operated, "Stalled") == ("False", "Reconciled"), SECONDS)

    assert operated.get("statefulset", "files")


def test_a_server_waits_for_a_complete_s3_secret(operated: OperatorNamespace) -> None:
    operated.apply(server(**s3()))
    until(lambda: credentials(operated).startswith('S3 credentials Secret "s3" not found'))

    operated.put_secret("s3", accessKeyId="a")
    until(lambda: credentials(operated) == 'S3 credentials Secret "s3" missing key "secretAccessKey"')

    assert operated.get("statefulset", "files") is None

    operated.put_secret("s3", **KEYS)
    until(lambda: bool(operated.get("statefulset", "files")))
    until(lambda: condition(operated, "CredentialsReady") == ("True", "Found"))
    until(lambda: warnings(operated).keys() == {"SecretNotFound", "SecretIncomplete"})

    assert [event["count"] for event in warning_events(operated)] == [1, 1]


def test_half_of_a_rotation_leaves_the_pod_alone(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", **KEYS)
    operated.apply(server(**s3()))
    wait_until_running(operated, "files")
    before = operated.template("files")

    operated.patch("secret", "s3", data={"secretAccessKey": None})
    until(lambda: credentials(operated) == 'S3 credentials Secret "s3" missing key "secretAccessKey"')

    assert operated.template("files") == before

    operated.kubectl("delete", "secret", "s3")
    until(lambda: credentials(operated).startswith('S3 credentials Secret "s3" not found'))

    assert operated.template("files") == before

    operated.put_secret("s3", accessKeyId="c", secretAccessKey="d")
    until(lambda: hash_of(operated.template("files")) != hash_of(before))


def test_a_new_ca_of_s3_restarts_the_pod_and_a_broken_one_does_not(operated: OperatorNamespace) -> None:
    operated.put_secret("s3", **KEYS)
    operated.apply(server(s3=s3()["s3"] | s3_ca()["s3"]))
    until(lambda: credentials(operated).startswith('S3 CA Secret "ca" not found'))

    assert operated.get("statefulset", "files") is None

    operated.put_secret("ca", **{"ca.crt": CERTIFICATE, "tls.key": "not for the pod"})
    wait_until_running(operated, "files")
    before = operated.template("files")
    [volume] = [volume for volume in before["spec"]["volumes"] if volume["name"] == "s3-ca"]

    assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]

    operated.put_secret("ca", **{"ca.crt": "rubbish"})
    until(lambda: 'S3 CA Secret "ca" key "ca.crt" has no certificate' in credentials(operated))

    assert operated.template("files") == before

    operated.put_secret("ca", **{"ca.crt": CERTIFICATE * 2, "tls.key": "another"})
    until(lambda: hash_of(operated.template("files")) != hash_of(before))

    assert without_hash(operated.template("files")) == without_hash(before)

    until(lambda: condition(operated, "CredentialsReady") == ("True", "Found"))


def test_a_service_account_comes_and_goes(operated: OperatorNamespace) -> None:
    for name in ("uploader", "other"):
        operated.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    operated.apply(server())
    wait_until_running(operated, "files")
    before = operated.template("files")

    for fields in (
        {"s3": {"serviceAccountName": "uploader"}},
        {"s3": {"serviceAccountName": "other"}},
        {},
        {"podTemplate": {"spec": {"serviceAccountName": "other"}}},
        {},
        {"podTemplate": {"spec": {"serviceAccount": "uploader"}}},
        {},
    ):
        operated.apply(server(**fields))
        wanted = next((name for name in ("uploader", "other") if name in str(fields)), None)
        until(lambda wanted=wanted: service_account_of(operated) == wanted)  # type: ignore[misc]

        assert operated.template("files")["spec"]["automountServiceAccountToken"] is False

    assert operated.template("files") == before


def service_account_of(operated: OperatorNamespace) -> Any:
    return operated.template("files")["spec"].get("serviceAccountName")


def test_a_stuck_pod_is_replaced_when_its_spec_is_fixed(operated: OperatorNamespace) -> None:
    operated.apply(server(image="example.com/dittofs:typo"))
    until(lambda: operated.get("pod", "files-0") is not None, SECONDS)

    operated.apply(server(image="example.com/dittofs:1"))
    until(lambda: container_of_the_pod(operated).get("image") == "example.com/dittofs:1", SECONDS)
    until(lambda: "files-0" in operated.events("files").get("PodReplaced", ""))


@pytest.mark.since(RATCHETED_STATUS)
def test_an_invalid_live_spec_is_reported_and_changes_nothing(operated: OperatorNamespace) -> None:
    operated.apply(server())
    operated.wait_until_observed("files")
    before = specs(operated)

    operated.operator.stop()
    apply_without_rules(operated, server(nfsPort=8080, image="example.com/dittofs:2"))
    operated.operator.start()
    until(lambda: condition(operated, "Stalled") == ("True", "InvalidSpec"), SECONDS)

    assert operated.condition("files", "Stalled")["message"] == "port 8080 is used by both nfs and api"
    assert specs(operated) == before

    operated.apply(server(image="example.com/dittofs:2"))
    until(lambda: condition(operated, "Stalled") == ("False", "Reconciled"), SECONDS)

    assert container(operated.template("files"))["image"] == "example.com/dittofs:2"


def test_objects_of_the_go_operator_are_adopted(operated: OperatorNamespace) -> None:
    operated.operator.stop()
    operated.apply(server())
    uid = operated.get("dittoserver", "files")["metadata"]["uid"]
    operated.kubectl("create", "--field-manager=manager", "-f", "-", input=OF_THE_GO_OPERATOR.format(uid=uid))
    until(lambda: container_of_the_pod(operated).get("args") == ["start"], SECONDS)
    identity, claims = uids(operated, "files", kind="statefulset"), uids(operated, *CLAIMS)

    operated.operator.start()
    until(lambda: "--foreground" in container(operated.template("files"))["args"], SECONDS)
    # The pod ended at once and was never ready: the StatefulSet controller would wait for it forever.
    until(lambda: "--foreground" in container_of_the_pod(operated).get("args", []), SECONDS)

    adopted = container(operated.template("files"))

    assert adopted.keys().isdisjoint({"command", "lifecycle"})
    assert adopted["livenessProbe"]["httpGet"]["port"] == "api"
    assert (uids(operated, "files", kind="statefulset"), uids(operated, *CLAIMS)) == (identity, claims)

    shown = operated.kubectl("get", "statefulset", "files", "-o", "json", "--show-managed-fields")
    entries = json.loads(shown)["metadata"]["managedFields"]

    assert [entry["manager"] for entry in entries if entry["operation"] == "Apply"] == ["dittofs-operator"]
    assert not [entry for entry in entries if entry["manager"] == "manager" and "f:spec" in entry["fieldsV1"]]


def test_no_value_of_a_secret_is_published(operated: OperatorNamespace) -> None:
    marks = [f"m4rk{token_hex(16)}" for _ in range(8)]
    access, secret, token, password, dsn, broken, half, other = marks
    operated.put_secret("s3", accessKeyId=access, secretAccessKey=secret, endpoint=f"ftp://{other}")
    operated.put_secret("keys", jwt=token, admin=password, dsn=f"postgres://user:{dsn}@db:5432/files")

    identity = {
        **jwt(name="keys", key="jwt")["identity"],
        "admin": {"passwordSecretRef": {"name": "keys", "key": "admin"}},
    }
    postgres = {"type": "postgres", "postgresSecretRef": {"name": "keys", "key": "dsn"}}
    operated.apply(server(identity=identity, database=postgres, **s3()))
    wait_until_running(operated, "files")

    assert dsn in decoded(data_of(operated, "files-postgres")[0]["password"])

    operated.put_secret("keys", jwt=token, admin=password, dsn=f"postgres://user:{broken}@db:{broken}/files")
    until(lambda: 'key "dsn": expected' in credentials(operated))
    operated.patch("secret", "s3", stringData={"accessKeyId": half}, data={"secretAccessKey": None})
    until(lambda: "missing key" in credentials(operated))
    until(lambda: "SecretIncomplete" in warnings(operated))
    text = published_text(operated)

    assert "files-config" in text
    assert "workqueue_depth" in text
    assert not [mark for mark in marks for form in forms(mark) if form in text]


def wait_until_running(operated: OperatorNamespace, *names: str) -> None:
    """Waits until each server has its pod template: the operator may see a server before its Secret."""
    until(lambda: all(operated.template(name) for name in names), SECONDS)


def kubectl_apply(operated: OperatorNamespace, manifest: Manifest, *options: str) -> str:
    """Applies the manifest and returns what kubectl prints, warnings first."""
    flags = ("--namespace", operated.namespace, "apply", "-f", "-", *options)
    process = operated.control_plane.kubectl(*flags, input=json.dumps(manifest), check=False)
    return process.stderr + process.stdout


def apply_without_rules(operated: OperatorNamespace, manifest: Manifest) -> None:
    """Applies the manifest as if the CRD had no rules yet."""
    complete = custom_resource_definition()
    lax = json.loads(json.dumps(complete))
    schema = lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["properties"]["spec"]["x-kubernetes-validations"]

    operated.control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(lax))
    try:
        # It takes a moment until the API server uses a changed CRD.
        until(lambda: "configured" in kubectl_apply(operated, manifest))
    finally:
        operated.control_plane.kubectl("apply", "-f", "-", input=yaml.safe_dump(complete))
        until(lambda: "used by both" in kubectl_apply(operated, server("others", nfsPort=8080), "--dry-run=server"))


def published_text(operated: OperatorNamespace) -> str:
    """Returns everything that the operator writes where others than the server's pod can read it."""
    kinds = "dittoservers,configmaps,statefulsets,services,events,leases"
    metrics = operated.operator.health("/metrics").text
    objects = operated.kubectl("get", kinds, "-o", "yaml", "--show-managed-fields")
    return operated.operator.log.read_text() + metrics + objects


def container(pod: Manifest) -> Any:
    [only] = pod["spec"]["containers"]
    return only


def container_of_the_pod(operated: OperatorNamespace) -> Manifest:
    """Returns the container, empty while there is no pod."""
    pod = operated.get("pod", "files-0")
    return dict(container(pod)) if pod else {}


def environment(operated: OperatorNamespace, name: str = "files") -> dict[str, Any]:
    variables = container(operated.template(name))["env"]
    return {entry["name"]: entry.get("value") or entry["valueFrom"]["secretKeyRef"] for entry in variables}


def from_secret(name: str, key: str, **options: bool) -> Manifest:
    return {"name": name, "key": key, **options}


def hash_of(template: Manifest) -> str:
    return str(template["metadata"]["annotations"][CONFIG_HASH])


def without_hash(template: Manifest) -> Manifest:
    return {**template, "metadata": {**template["metadata"], "annotations": None}}


def claim_templates(operated: OperatorNamespace) -> list[Any]:
    return list(operated.get("statefulset", "files")["spec"]["volumeClaimTemplates"])


def uids(operated: OperatorNamespace, *names: str, kind: str = "pvc") -> list[str]:
    metadata = [manifest["metadata"] for manifest in operated.list_all(kind)]
    return sorted(entry["uid"] for entry in metadata if entry["name"] in names)


def owner(operated: OperatorNamespace, kind: str, name: str) -> Any:
    """Returns the uid of the object's owner, or None while the object does not exist."""
    live = operated.get(kind, name)
    return live and live["metadata"]["ownerReferences"][0]["uid"]


def of_files(manifest: Manifest) -> bool:
    return bool((manifest["metadata"].get("labels") or {}).get("instance") == "files")


def data_of(operated: OperatorNamespace, *names: str) -> list[dict[str, str]]:
    return [operated.get("secret", name)["data"] for name in names]


def specs(operated: OperatorNamespace) -> list[Any]:
    """Returns the specs of the server's objects, and the data of its ConfigMap."""
    stateful_set, config_map = operated.get("statefulset", "files"), operated.get("configmap", "files-config")
    return [*(manifest["spec"] for manifest in (stateful_set, *operated.list_all("services"))), config_map["data"]]


def condition(operated: OperatorNamespace, kind: str) -> tuple[str, str] | None:
    live = operated.condition("files", kind)
    return live and (live["status"], live["reason"])


def credentials(operated: OperatorNamespace) -> str:
    """Returns why the server's Secrets are not ready; empty when they are."""
    live = operated.condition("files", "CredentialsReady")
    return live["message"] if live and live["status"] == "False" else ""


def warning_events(operated: OperatorNamespace) -> list[Any]:
    events = operated.list_all("events")
    return [event for event in events if (event["source"].get("component"), event["type"]) == WARNING]


def warnings(operated: OperatorNamespace) -> dict[str, str]:
    return {event["reason"]: event["message"] for event in warning_events(operated)}


def forms(value: str) -> list[str]:
    """Returns the value in clear, and in base64 at any position in a longer text."""
    texts = [value.encode(), *(b"_" * shift + value.encode() for shift in (1, 2))]
    return [value, *(base64.b64encode(text).decode()[4:-4] for text in texts)]


def decoded(value: str) -> str:
    return base64.b64decode(value).decode()
