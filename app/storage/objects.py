"""Renders the objects that a DittoServer owns, with only what the operator decides on, as dicts shaped like YAML."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.storage.claim_metadata import template_metadata
from app.storage.config import config_yaml
from app.storage.names import APP_LABEL, INSTANCE
from app.storage.pod import CONFIG_FILE, PodRevision, config_map_name, pod_template
from app.storage.pod_patch import patch_pod
from app.storage.rendering import NEWEST, Rendering
from app.storage.secret_references import (
    ADMIN,
    JWT_KEY,
    PASSWORD_KEY,
    USERNAME_KEY,
    admin_secret_name,
    jwt_secret_name,
    postgres_secret_name,
)
from app.storage.spec import API_VERSION, KIND, Spec
from app.storage.unstructured import Manifest
from app.storage.volumes import Volume, volumes

APP = "dittofs-server"
OPERATOR = "dittofs-operator"
# What the informers select; a Secret that somebody named is none of these.
SELECTOR = f"{APP_LABEL}={APP}"


@dataclass(frozen=True)
class Owner:
    """The DittoServer that the objects belong to; without a uid, as in a file, they belong to none yet."""

    name: str
    namespace: str  # Empty where a file leaves it to kubectl.
    uid: str | None = None

    @property
    def selector(self) -> dict[str, str]:
        """The labels that select the pod; they are immutable on a StatefulSet that is adopted."""
        return {APP_LABEL: APP, INSTANCE: self.name}

    @property
    def labels(self) -> dict[str, str]:
        return {
            **self.selector,
            "app.kubernetes.io/name": "dittofs",
            "app.kubernetes.io/instance": self.name,
            "app.kubernetes.io/component": "server",
            "app.kubernetes.io/managed-by": OPERATOR,
            "app.kubernetes.io/part-of": "dittofs",
        }

    @property
    def reference(self) -> Manifest:
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def owns(self, manifest: Mapping[str, Any]) -> bool:
        reference = controller(manifest)
        return reference is not None and reference["uid"] == self.uid


# A label that somebody else chooses must be none of these.
RESERVED_LABELS = tuple(Owner("", "").labels)


def controller(manifest: Mapping[str, Any]) -> Manifest | None:
    """Returns the reference to the one owner that controls the object; None when nobody does."""
    references = manifest["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def config_map(owner: Owner, spec: Spec, rendering: Rendering = NEWEST) -> Manifest:
    data = {CONFIG_FILE: config_yaml(spec, rendering)}
    return owned_object("v1", "ConfigMap", config_map_name(owner.name), owner, data=data)


def stateful_set(
    owner: Owner, spec: Spec, revision: PodRevision | None = None, templates: Sequence[Manifest] | None = None
) -> Manifest:
    """Renders the StatefulSet; `templates` are the claim templates of the live one, which are immutable."""
    claims = claim_templates(spec) if templates is None else list(templates)
    names = [claim["metadata"]["name"] for claim in claims]
    template = patch_pod(pod_template(owner.name, spec, owner.labels, names, revision or PodRevision()), spec)

    return owned_object(
        "apps/v1",
        "StatefulSet",
        owner.name,
        owner,
        spec={
            "replicas": spec.replicas,
            "serviceName": service_name(owner.name, "headless"),
            "selector": {"matchLabels": owner.selector},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "template": template,
            "volumeClaimTemplates": claims,
        },
    )


def claim_templates(spec: Spec) -> list[Manifest]:
    return [claim_template(volume) for volume in volumes(spec.storage) if volume.size]


def claim_template(volume: Volume) -> Manifest:
    """Renders the template of one volume, whose claim gets its labels and annotations when it is created."""
    named = {} if volume.storage_class is None else {"storageClassName": volume.storage_class}
    source = volume.settings.data_source_ref
    restored = {"dataSourceRef": source.model_dump(by_alias=True, exclude_none=True)} if source else {}
    requests = {"requests": {"storage": volume.size}}
    return {
        "metadata": {"name": volume.name, **template_metadata(volume.settings)},
        "spec": {"accessModes": ["ReadWriteOnce"], **named, **restored, "resources": requests},
    }


def live_claim_templates(stateful_set: Mapping[str, Any]) -> list[Manifest]:
    """Returns the templates as they were written, labels included, without what the API server adds."""
    kept, added = ("name", "labels", "annotations"), ("volumeMode", "Filesystem")
    return [
        {
            "metadata": {name: template["metadata"][name] for name in kept if name in template["metadata"]},
            "spec": {name: value for name, value in template["spec"].items() if (name, value) != added},
        }
        for template in stateful_set["spec"].get("volumeClaimTemplates") or []
    ]


def jwt_secret(owner: Owner, token: bytes) -> Manifest:
    return _secret(jwt_secret_name(owner.name), owner, {JWT_KEY: token})


def admin_secret(owner: Owner, password: str) -> Manifest:
    """Renders the credentials of the first administrator, whose name no server takes from its configuration."""
    data = {USERNAME_KEY: ADMIN.encode(), PASSWORD_KEY: password.encode()}
    return _secret(admin_secret_name(owner.name), owner, data)


def postgres_secret(owner: Owner, fields: Mapping[str, str]) -> Manifest:
    manifest = _secret(postgres_secret_name(owner.name), owner, {key: value.encode() for key, value in fields.items()})
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner.reference]}}


def servers_given(secret: str) -> Iterator[str]:
    """Yields the servers, by name, for which a Secret of this name would be generated; they need not exist."""
    for name_of in (jwt_secret_name, admin_secret_name, postgres_secret_name):
        if secret.endswith(name_of("")):
            yield secret.removesuffix(name_of(""))


def service_name(server: str, suffix: str) -> str:
    return f"{server}-{suffix}"


def _secret(name: str, owner: Owner, data: Mapping[str, bytes]) -> Manifest:
    """Renders a Secret without an owner: the claims outlive the server, and the database on them knows these values."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return owned_object("v1", "Secret", name, Owner(owner.name, owner.namespace), type="Opaque", data=encoded)


def owned_object(version: str, kind: str, name: str, owner: Owner, **content: Any) -> Manifest:
    """Renders an object with the labels of the server's objects, which belongs to the owner if that exists."""
    metadata: Manifest = {"name": name, "labels": owner.labels}
    if owner.namespace:
        metadata["namespace"] = owner.namespace
    if owner.uid:
        metadata["ownerReferences"] = [owner.reference]
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
