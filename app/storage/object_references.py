"""Lists the objects that a DittoServer names and that only have to exist, and the findings about those that do not.

Secrets whose keys the server reads are in `secret_references`; those for pulling an image are here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from app.storage.facts import (
    PRIORITY_CLASS,
    SERVICE_ACCOUNT,
    SNAPSHOT_GROUP,
    VOLUME_SNAPSHOT,
    ExistingObject,
    ObjectReference,
    Secret,
    Unknown,
)
from app.storage.finding import Finding, quote_value, warning
from app.storage.names import MAX_NAME_CHARACTERS
from app.storage.spec import Spec
from app.storage.volumes import volumes

SERVICE_ACCOUNT_PATH = "spec.s3.serviceAccountName"
PULL_SECRET = "Secret"  # noqa: S105 - a kind
PULL_SECRET_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")
# Each is a request of the review, and nobody needs so many.
MAX_PULL_SECRETS = 16

# The cluster itself creates these.
_ALWAYS_THERE = {
    ObjectReference(SERVICE_ACCOUNT, "default"),
    ObjectReference(PRIORITY_CLASS, "system-cluster-critical"),
    ObjectReference(PRIORITY_CLASS, "system-node-critical"),
}
_CONSEQUENCES = {
    PRIORITY_CLASS: "the pod cannot be created until it does",
    SERVICE_ACCOUNT: "the pod cannot be created until it does",
    VOLUME_SNAPSHOT: "its claim stays Pending until it does",
    PULL_SECRET: "a private image cannot be pulled without it",
}


@dataclass(frozen=True)
class NamedObject:
    """An object, and the field that names it."""

    path: str
    reference: ObjectReference


def object_references(spec: Spec) -> tuple[NamedObject, ...]:
    """Returns the objects that the spec names, each once. What is no name is left to the API server's dry run."""
    # Each review asks, and nearly no server names anything.
    settings = spec.storage.metadata or spec.storage.content or spec.storage.cache
    if not (spec.pod_template or spec.image_pull_secrets or spec.s3.service_account_name or settings):
        return ()

    # In the pod that the user wrote, anything may have the wrong type.
    pod = (spec.pod_template.spec if spec.pod_template else None) or {}
    named = []
    for field, kind in (("priorityClassName", PRIORITY_CLASS), ("serviceAccountName", SERVICE_ACCOUNT)):
        if isinstance(name := pod.get(field), str):
            named.append(NamedObject(f"spec.podTemplate.spec.{field}", ObjectReference(kind, name)))
    if account := spec.s3.service_account_name:
        named.append(NamedObject(SERVICE_ACCOUNT_PATH, ObjectReference(SERVICE_ACCOUNT, account)))

    named += islice(_pull_secrets(spec, pod), MAX_PULL_SECRETS)

    for volume in volumes(spec.storage):
        source = volume.settings.data_source_ref
        if source and (source.api_group, source.kind) == (SNAPSHOT_GROUP, VOLUME_SNAPSHOT):
            reference = ObjectReference(VOLUME_SNAPSHOT, source.name)
            named.append(NamedObject(f"{volume.settings_field}.dataSourceRef", reference))

    return tuple(
        {
            entry.reference: entry
            for entry in named
            if entry.reference not in _ALWAYS_THERE and 0 < len(entry.reference.name) <= MAX_NAME_CHARACTERS
        }.values()
    )


def object_findings(named: NamedObject, existing: ExistingObject | Secret | Unknown | None) -> Iterator[Finding]:
    """Warns about an object; None stands for one that does not exist."""
    reference = named.reference
    title = f"{'pull ' if reference.kind == PULL_SECRET else ''}{reference.kind} {quote_value(reference.name)}"

    if isinstance(existing, Unknown):
        yield warning(named.path, f"Could not verify {title}: {existing.why}")
    elif existing is None:
        yield warning(named.path, f"{title} does not exist; {_CONSEQUENCES[reference.kind]}")
    elif existing.terminating:
        yield warning(named.path, f"{title} is being deleted; create it again once it is gone")
    elif isinstance(existing, Secret):
        if existing.type not in PULL_SECRET_TYPES:
            problem = f"{title} has type {quote_value(existing.type)} and has no effect"
            yield warning(named.path, f"{problem}; its type must be {PULL_SECRET_TYPES[0]}")
    elif not existing.ready:
        yield warning(named.path, f"{title} is not ready to use yet; its claim stays Pending until it is")


def _pull_secrets(spec: Spec, pod: Mapping[str, Any]) -> Iterator[NamedObject]:
    for secret in spec.image_pull_secrets or ():
        yield NamedObject("spec.imagePullSecrets", ObjectReference(PULL_SECRET, secret.name))

    entries = pod.get("imagePullSecrets")
    for entry in entries if isinstance(entries, list) else ():
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if isinstance(name, str):
            yield NamedObject("spec.podTemplate.spec.imagePullSecrets", ObjectReference(PULL_SECRET, name))
