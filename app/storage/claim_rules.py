"""Rules about the volume claims of a DittoServer: their labels, annotations and data sources."""

from collections.abc import Iterator

from app.storage import quantity
from app.storage.change import Change
from app.storage.claim_metadata import RESERVED_PREFIXES, is_reserved, template_metadata
from app.storage.evidence import CLAIM
from app.storage.facts import Claim, ExistingObject, Facts
from app.storage.finding import Finding, quote_value, rejection, warning
from app.storage.metadata import MAX_ANNOTATIONS_BYTES, field_path
from app.storage.names import is_annotation_key, is_label_value, is_qualified_name, is_subdomain
from app.storage.reading import field_name
from app.storage.volumes import CONTENT, Volume

# Others have annotations on a claim as well: the volume controllers, kubectl, backup software.
MAX_CLAIM_ANNOTATIONS_BYTES = MAX_ANNOTATIONS_BYTES - 64 * 1024


def claim_settings_have_a_volume(change: Change, _facts: Facts) -> Iterator[Finding]:
    storage, size = change.spec.storage, "spec.storage.contentSize"
    is_unreadable = any(size.startswith(error.path) for error in change.new.errors)
    if storage.content is not None and storage.content_size is None and not is_unreadable:
        path = f"spec.storage.{CONTENT}"
        yield rejection(path, f"{field_name(path)} needs {field_name(size)}")


def claim_metadata_is_not_reserved(change: Change, _facts: Facts) -> Iterator[Finding]:
    reasons = {
        "labels": "is how Kubernetes finds the claims of a server",
        "annotations": f"belongs to Kubernetes or the operator, as do all in {', '.join(RESERVED_PREFIXES)}",
    }
    for volume, _ in change.customized:
        for kind, key in _metadata(volume):
            if is_reserved(kind, key):
                path = f"{volume.settings_field}.{kind}"
                problem = f"{field_name(path)} must not have {quote_value(key)}, which {reasons[kind]}"
                yield rejection(field_path(path, key), problem)


def claim_metadata_is_valid(change: Change, _facts: Facts) -> Iterator[Finding]:
    for volume, before in change.customized:
        had = _metadata(before) if before else {}
        for (kind, key), value in _metadata(volume).items():
            if had.get((kind, key)) == value:
                continue

            path = f"{volume.settings_field}.{kind}"
            name = f"{field_name(path)} has {quote_value(key)}"
            if not (is_qualified_name(key) if kind == "labels" else is_annotation_key(key)):
                yield rejection(field_path(path, key), f"{name}, which is no name for {_ARTICLES[kind]}")
            elif kind == "labels" and not is_label_value(value):
                limit = "must be up to 63 letters, digits, dashes, dots and underscores"
                yield rejection(field_path(path, key), f"{name}: its value {limit}")

        annotations = template_metadata(volume.settings).get("annotations") or {}
        size = sum(len(text.encode(errors="replace")) for item in annotations.items() for text in item)
        if had != _metadata(volume) and size > MAX_CLAIM_ANNOTATIONS_BYTES:
            path = f"{volume.settings_field}.annotations"
            yield rejection(path, f"{field_name(path)} must have at most {MAX_CLAIM_ANNOTATIONS_BYTES} bytes in all")


def data_sources_can_exist(change: Change, _facts: Facts) -> Iterator[Finding]:
    for volume, before in change.customized:
        source, path = volume.settings.data_source_ref, f"{volume.settings_field}.dataSourceRef"
        if source is None or (before and before.settings.data_source_ref == source):
            continue

        for field, name in (("apiGroup", source.api_group), ("name", source.name)):
            if name and not is_subdomain(name):
                problem = f"{field_name(path)}.{field} {quote_value(name)} cannot exist by that name"
                yield rejection(f"{path}.{field}", f"{problem}; use lower-case letters, digits, dashes and dots")


def data_sources_have_a_group(change: Change, _facts: Facts) -> Iterator[Finding]:
    for volume, _ in change.customized:
        source = volume.settings.data_source_ref
        if source and not source.api_group and source.kind != CLAIM:
            path = f"{volume.settings_field}.dataSourceRef.apiGroup"
            example = "snapshot.storage.k8s.io for a VolumeSnapshot"
            yield rejection(path, f"{field_name(path)} is required unless the kind is {CLAIM}, such as {example}")


def data_sources_are_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    for volume, before in change.customized:
        source = volume.settings.data_source_ref
        if source and before and before.size and source != before.settings.data_source_ref:
            path = f"{volume.settings_field}.dataSourceRef"
            advice = "a volume is restored only when it is created; make a new DittoServer with it"
            yield rejection(path, f"{field_name(path)} cannot be set or changed: {advice}")


def data_sources_have_an_effect(change: Change, facts: Facts) -> Iterator[Finding]:
    if change.exists:
        return

    for volume, before in change.customized:
        if volume.data_source is None or (before and before.size):
            continue
        claim = facts.claims.get(volume.claim_name(change.name))
        is_reused = isinstance(claim, Claim) and not claim.terminating and claim.data_source != volume.data_source
        if is_reused:
            path = f"{volume.settings_field}.dataSourceRef"
            problem = f"{field_name(path)} has no effect: volume claim {volume.claim_name(change.name)} exists"
            yield warning(path, f"{problem}; to restore it, delete the claim first, or choose another server name")


def snapshots_fit_their_volumes(change: Change, facts: Facts) -> Iterator[Finding]:
    for volume, before in change.customized:
        source = volume.data_source
        existing = facts.objects.get(source) if source else None
        if source is None or not isinstance(existing, ExistingObject) or (before and before.size):
            continue

        least, size = existing.restore_size, volume.bytes
        if least is not None and size is not None and size < quantity.parse(least):
            problem = f"{field_name(volume.field)} {volume.size} is less than {quote_value(least)}, which"
            snapshot = f"{source.kind} {quote_value(source.name)}"
            yield warning(volume.field, f"{problem} {snapshot} needs; its claim stays Pending")


_ARTICLES = {"labels": "a label", "annotations": "an annotation"}


def _metadata(volume: Volume) -> dict[tuple[str, str], str]:
    """Returns the labels and annotations of a volume by their kind and key."""
    settings = volume.settings
    kinds = {"labels": settings.labels, "annotations": settings.annotations}
    return {(kind, key): value for kind, entries in kinds.items() for key, value in (entries or {}).items()}
