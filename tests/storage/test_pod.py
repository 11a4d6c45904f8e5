from collections.abc import Sequence
from typing import Any

import pytest

from app.storage.pod import PodRevision, pod_template
from app.storage.reading import read
from app.storage.rendering import Rendering
from tests.harness.server_table import jwt, s3, server

TEMPLATES = ("metadata", "cache")


def template(**fields: Any) -> dict[str, Any]:
    return revised(PodRevision(), **fields)


def revised(revision: PodRevision, templates: Sequence[str] = TEMPLATES, **fields: Any) -> dict[str, Any]:
    return pod_template("files", read(server(**fields)).server.spec, {"app": "a"}, templates, revision)


def pod(**fields: Any) -> Any:
    return template(**fields)["spec"]


def container(**fields: Any) -> Any:
    [found] = pod(**fields)["containers"]
    return found


def environment(**fields: Any) -> dict[str, Any]:
    found = {}
    for variable in container(**fields)["env"]:
        source = variable.get("valueFrom", {}).get("secretKeyRef", {})
        found[variable["name"]] = variable.get("value") or (source["name"], source["key"], source.get("optional"))
    return found


def test_the_images_own_entry_point_runs_in_the_foreground() -> None:
    assert "command" not in container()
    assert container()["args"] == ["start", "--foreground", "--config", "/config/config.yaml"]


def test_the_server_gets_a_signing_secret_and_a_first_password() -> None:
    assert environment() == {
        "DITTOFS_CONTROLPLANE_SECRET": ("files-jwt-secret", "jwt-secret", None),
        "DITTOFS_ADMIN_INITIAL_PASSWORD": ("files-admin-bootstrap-credentials", "password", None),
    }


def test_named_secrets_take_the_place_of_generated_ones() -> None:
    admin = {"passwordSecretRef": {"name": "pw", "key": "p"}}
    found = environment(identity={**jwt(name="j", key="k", optional=True)["identity"], "admin": admin})
    assert found["DITTOFS_CONTROLPLANE_SECRET"] == ("j", "k", True)
    assert found["DITTOFS_ADMIN_INITIAL_PASSWORD"] == ("pw", "p", None)


def test_s3_credentials_come_from_the_secret_with_its_own_key_names() -> None:
    found = environment(**s3(accessKeyIdKey="id", secretAccessKeyKey="key", endpointKey="url"))

    assert {name: value for name, value in found.items() if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": ("s3", "id", None),
        "AWS_SECRET_ACCESS_KEY": ("s3", "key", None),
        "AWS_ENDPOINT_URL": ("s3", "url", True),
        "AWS_REGION": "eu-west-1",
    }


@pytest.mark.parametrize("section", [{}, {"s3": {}}, {"s3": {"region": "us-east-1", "bucket": "b"}}])
def test_without_s3_credentials_there_is_nothing_of_the_sort(section: dict[str, Any]) -> None:
    assert not [name for name in environment(**section) if name.startswith("AWS_")]


def test_a_service_account_mounts_no_token_of_its_own() -> None:
    named = pod(s3={"serviceAccountName": "uploader"})

    assert named["automountServiceAccountToken"] is False
    assert {**named, "serviceAccountName": None, "serviceAccount": None} == {
        **pod(),
        "serviceAccountName": None,
        "serviceAccount": None,
    }
    assert named["serviceAccountName"] == named["serviceAccount"] == "uploader"


def test_a_session_token_is_passed_when_its_key_is_named() -> None:
    assert environment(**s3(sessionTokenKey="token"))["AWS_SESSION_TOKEN"] == ("s3", "token", None)


def test_the_ca_of_s3_is_trusted_besides_the_public_ones() -> None:
    ca = {"s3": {"caSecretRef": {"name": "minio", "key": "public.crt"}}}

    assert environment(**ca)["SSL_CERT_DIR"] == "/etc/ssl/certs:/etc/pki/tls/certs:/s3-ca"
    assert {"name": "s3-ca", "mountPath": "/s3-ca", "readOnly": True} in container(**ca)["volumeMounts"]
    assert pod(**ca)["volumes"][-1] == {
        "name": "s3-ca",
        "secret": {"secretName": "minio", "items": [{"key": "public.crt", "path": "ca.crt"}]},
    }


def test_an_empty_region_is_none() -> None:
    credentials = s3()["s3"]
    assert "AWS_REGION" not in environment(s3={**credentials, "region": ""})


def test_postgres_comes_in_parts() -> None:
    found = environment(database={"postgresSecretRef": {"name": "db", "key": "dsn"}})
    assert found["DITTOFS_DATABASE_POSTGRES_PASSWORD"] == ("files-postgres", "password", None)
    assert len([name for name in found if name.startswith("DITTOFS_DATABASE_POSTGRES_")]) == 6


def mounts(revision: PodRevision | None = None, templates: Sequence[str] = TEMPLATES, **fields: Any) -> dict[str, Any]:
    [container] = revised(revision or PodRevision(), templates, **fields)["spec"]["containers"]
    return {mount.pop("mountPath"): mount for mount in container["volumeMounts"]}


def test_the_database_is_on_the_metadata_volume() -> None:
    assert mounts()["/data/controlplane"] == {"name": "metadata", "subPath": "controlplane"}


def test_a_database_with_a_volume_of_its_own_stays_there() -> None:
    found = mounts(PodRevision(database="controlplane"), ("metadata", "controlplane"))

    assert found["/data/controlplane"] == {"name": "controlplane"}


def test_volumes_are_where_either_server_documents_them() -> None:
    found = mounts(templates=("metadata", "content", "cache"))

    assert found["/data/metadata"] == found["/data/store/metadata"] == {"name": "metadata"}
    assert found["/data/content"] == found["/data/store/block"] == {"name": "content"}
    assert found["/data/cache"] == {"name": "cache"}


def test_content_without_a_volume_is_refused_and_not_lost() -> None:
    found = mounts()

    assert found["/data/content"] == found["/data/store/block"] == {"name": "no-content", "readOnly": True}
    assert {"name": "no-content", "emptyDir": {"sizeLimit": "1Mi"}} in pod()["volumes"]


def test_the_root_is_read_only_but_for_temporary_files() -> None:
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert mounts()["/tmp"] == {"name": "tmp"}
    assert {"name": "tmp", "emptyDir": {}} in pod()["volumes"]


@pytest.mark.parametrize(
    ("revision", "fields"),
    [
        (PodRevision(has_writable_root=True), {}),
        (PodRevision(), {"securityContext": {"readOnlyRootFilesystem": False}}),
        (PodRevision(Rendering.SINGLE_FAMILY), {"securityContext": {"readOnlyRootFilesystem": True}}),
    ],
)
def test_a_writable_root_has_writable_content(revision: PodRevision, fields: dict[str, Any]) -> None:
    assert not {"/data/content", "/data/store/block", "/tmp"} & mounts(revision, **fields).keys()
    assert [volume["name"] for volume in revised(revision, **fields)["spec"]["volumes"]] == ["config"]


def test_owners_of_a_writable_root_opt_in() -> None:
    opted_in = revised(PodRevision(has_writable_root=True), securityContext={"readOnlyRootFilesystem": True})

    assert opted_in == template()


def test_a_restart_is_an_annotation() -> None:
    annotations = revised(PodRevision(config_hash="h", restarted_at="noon"))["metadata"]["annotations"]

    assert annotations == {"dittofs.io/config-hash": "h", "dittofs.io/restartedAt": "noon"}


def test_every_probe_asks_health_on_the_api_port() -> None:
    found = container(controlPlane={"port": 9000})
    assert {"name": "api", "containerPort": 9000, "protocol": "TCP"} in found["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert found[probe]["httpGet"] == {"path": "/health", "port": "api"}


def test_nfs_and_smb_listen_where_the_server_does() -> None:
    ports = {port["name"]: port["containerPort"] for port in container(nfsPort=3049)["ports"]}
    assert ports == {"nfs": 12049, "smb": 1445, "api": 8080}
    assert "metrics" in {port["name"] for port in container(metrics={"enabled": True})["ports"]}


def test_it_has_time_to_drain_and_no_token() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 105
    assert pod()["automountServiceAccountToken"] is False


def test_the_users_own_contexts_win_field_by_field() -> None:
    found = pod(podSecurityContext={"fsGroup": 7, "runAsUser": None, "sysctls": [{"name": "a", "value": None}]})

    assert found["securityContext"]["fsGroup"] == 7
    assert found["securityContext"]["runAsUser"] == 65532
    assert found["securityContext"]["sysctls"] == [{"name": "a"}]

    mine = container(securityContext={"capabilities": {"add": ["NET_BIND_SERVICE"]}})["securityContext"]

    assert mine == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"add": ["NET_BIND_SERVICE"]},
    }


def test_a_pull_policy_is_rendered_only_when_set() -> None:
    assert "imagePullPolicy" not in container()
    assert container(imagePullPolicy="Always")["imagePullPolicy"] == "Always"


def test_resources_are_as_given() -> None:
    assert "resources" not in container()
    assert container(resources={"limits": {"cpu": 1}, "claims": None})["resources"] == {"limits": {"cpu": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"service": {"type": "LoadBalancer", "annotations": {"a": "b"}}},
        {"nfsPort": 3049},
        {"smb": {"enabled": True, "port": 446}},
        {"s3": {"bucket": "b"}},
        {"replicas": 0},
    ],
)
def test_what_the_pod_does_not_consume_does_not_change_it(change: dict[str, Any]) -> None:
    assert template(**change) == template()


def test_image_region_and_key_names_change_it() -> None:
    regional = {"s3": {**s3()["s3"], "region": "us-east-1"}}
    found = [
        template(),
        template(image="x"),
        template(**s3()),
        template(**regional),
        template(**s3(accessKeyIdKey="i")),
    ]

    assert all(one != other for i, one in enumerate(found) for other in found[:i])
