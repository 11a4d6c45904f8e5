"""Decides what becomes of what the Go operator left on a server: its finalizer, its Secrets, and fields of its spec."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from app.storage.finding import one_line
from app.storage.metadata import field_path
from app.storage.objects import Owner, controller
from app.storage.schema import Schema, spec_schema
from app.storage.spec import GROUP, KIND
from app.storage.status_schema import MAX_FIELD_PATH_CHARACTERS, MAX_IGNORED_FIELDS
from app.storage.unstructured import Manifest

# Nobody but the Go operator would ever remove it, and a server that has it cannot be deleted.
FINALIZER = f"{GROUP}/finalizer"
# What a server in a store has beside its metadata, spec and status, and what its status has: the paths of these fields.
IGNORED_FIELDS = "ignoredFields"
# Whoever may edit a DittoServer decides what is in it.
_MAX_DEPTH = 12
_MAX_NODES = 5000


def former_admin_secret_name(server: str) -> str:
    """Returns the name that the Go operator gave the Secret with the first password until it renamed that Secret."""
    return f"{server}-admin-credentials"


def is_of_server(secret: Mapping[str, Any], owner: Owner) -> bool:
    """Tells whether a Secret was generated for a DittoServer of this name, be it an earlier one."""
    reference = controller(secret)
    return reference is not None and _refers_to(reference, owner)


def without_owner(secret: Manifest, owner: Owner) -> Manifest | None:
    """Returns the Secret without the server among its owners, so that it outlives the server as the claims do.

    None when the server is not among them.
    """
    references = secret["metadata"].get("ownerReferences") or []
    others = [reference for reference in references if not _refers_to(reference, owner)]
    if others == references:
        return None
    return {**secret, "metadata": {**secret["metadata"], "ownerReferences": others}}


def remaining_finalizers(server: Mapping[str, Any]) -> list[str] | None:
    """Returns the finalizers of a raw DittoServer without that of the Go operator; None when it does not have it."""
    finalizers = server["metadata"].get("finalizers") or []
    return [finalizer for finalizer in finalizers if finalizer != FINALIZER] if FINALIZER in finalizers else None


def ignored_fields(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the paths of fields of the spec that this operator does not know, no more than a status can have.

    They are in the spec while the CustomResourceDefinition of the Go operator is installed. After that the API server
    leaves them out, and only managedFields still name them, until their manager writes the object again.
    """
    entries = (manifest.get("metadata") or {}).get("managedFields")
    sets = (
        [entry.get("fieldsV1") for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    )
    specs = [fields.get("f:spec") for fields in sets if isinstance(fields, Mapping)]

    paths = [*_unknown(manifest.get("spec"), spec_schema(), "spec")]
    for managed in specs:
        paths += _unknown(_names(managed), spec_schema(), "spec")
    shortened = {one_line(path)[:MAX_FIELD_PATH_CHARACTERS] for path in paths}
    return tuple(sorted(shortened)[:MAX_IGNORED_FIELDS])


def _refers_to(reference: Mapping[str, Any], owner: Owner) -> bool:
    group, _, _ = str(reference.get("apiVersion")).partition("/")
    is_namesake = (group, reference.get("kind"), reference.get("name")) == (GROUP, KIND, owner.name)
    return is_namesake or (owner.uid is not None and reference.get("uid") == owner.uid)


def _unknown(value: Any, schema: Schema, parent: str, depth: int = 0) -> Iterator[str]:
    """Yields the path of each field that the schema lacks, and nothing of what is in such a field."""
    if not isinstance(value, Mapping) or "properties" not in schema or depth > _MAX_DEPTH:
        return

    for name, field in islice(value.items(), _MAX_NODES):
        if field is None:
            continue

        path = field_path(parent, str(name))
        known = schema["properties"].get(name)
        if known is None:
            yield path
        else:
            yield from _unknown(field, known, path, depth + 1)


def _names(fields: Any, depth: int = 0) -> Manifest:
    """Returns the fields of an entry of managedFields by their names, without the items of lists."""
    if not isinstance(fields, Mapping) or depth > _MAX_DEPTH:
        return {}

    named = {name: content for name, content in fields.items() if isinstance(name, str) and name.startswith("f:")}
    return {name.removeprefix("f:"): _names(content, depth + 1) for name, content in named.items()}
