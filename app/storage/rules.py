"""Every rule about a DittoServer in the order of its findings, and judge(), which applies them. It looks nothing up."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from app.storage.change import Change, Rule
from app.storage.claim_rules import (
    claim_metadata_is_not_reserved,
    claim_metadata_is_valid,
    claim_settings_have_a_volume,
    data_sources_are_kept,
    data_sources_can_exist,
    data_sources_have_a_group,
    data_sources_have_an_effect,
    snapshots_fit_their_volumes,
)
from app.storage.facts import Facts, Needs
from app.storage.finding import Finding, quote_value, rejection, sort_findings, warning
from app.storage.names import (
    MAX_SERVER_NAME_CHARACTERS,
    is_server_name,
)
from app.storage.object_references import PULL_SECRET
from app.storage.objects import Owner
from app.storage.pod_rules import (
    image_can_exist,
    image_is_kept,
    image_is_pinned,
    named_objects_exist,
    pod_template_can_be_merged,
    pull_secrets_have_distinct_names,
    sections_are_accepted,
    shortcuts_can_be_merged,
)
from app.storage.reading import Reading, field_name
from app.storage.rendering import NO_DEFAULTS, ObjectDefaults
from app.storage.s3_rules import (
    ca_bundles_leave_s3_reachable,
    s3_credentials_have_a_bucket,
    service_accounts_agree,
    service_accounts_give_credentials,
    session_tokens_have_an_effect,
    shares_have_a_store,
    shares_have_distinct_names,
)
from app.storage.secret_references import (
    ADMIN,
)
from app.storage.secret_rules import (
    database_type_and_secret_agree,
    secrets_are_not_overwritten,
    secrets_can_exist,
    secrets_have_usable_keys,
)
from app.storage.sections import SECTIONS, stateful_set_for_dry_run
from app.storage.service_rules import (
    address_families_fit,
    annotations_fit_services,
    exposure_of_api_is_explicit,
    node_ports_are_distinct,
    ports_are_distinct,
    ports_are_free_in_the_pod,
    ports_are_unprivileged,
    service_fields_fit_types,
    service_labels_are_free,
    service_values_are_valid,
    services_keep_their_address,
)
from app.storage.spec import S3
from app.storage.volume_rules import (
    cache_fits_its_volume,
    content_volume_is_kept,
    default_storage_class_exists,
    existing_claims_can_be_reused,
    live_claims_are_known,
    paths_are_on_volumes,
    sizes_suit_live_claims,
    storage_class_exists,
    storage_class_is_kept,
)

# The API server adds as many to generateName.
GENERATED_CHARACTERS = 5
DEFAULT_REGION = S3().region

Fields = tuple[str, ...]


def needs(change: Change, defaults: ObjectDefaults = NO_DEFAULTS) -> Needs:
    """Returns only what a changed field asks for: a class that is deleted later must not block other edits."""
    if change.spec_is_unchanged:
        return Needs()

    claims = frozenset([volume.claim_name(change.name) for volume in change.resized])
    classes = {volume.storage_class for volume in (change.resized if change.old else change.volumes)}
    class_names = frozenset(classes.union(change.named_classes.values())) - {""}
    objects = [entry.reference for entry in change.objects]
    secrets = [reference.secret for reference in change.references if reference.secret]
    secrets += [entry.name for entry in objects if entry.kind == PULL_SECRET]

    metadata, stateful_set = change.new.server.metadata, None
    # Without a volume for metadata the API server would name what it misses in the pod, which no user has written.
    if change.sections and change.spec.storage.metadata_size:
        owner = Owner(change.name or metadata.generate_name + "x" * GENERATED_CHARACTERS, metadata.namespace)
        stateful_set = stateful_set_for_dry_run(owner, change.spec, change.sections, defaults)

    return Needs(
        namespace=metadata.namespace,
        storage_classes=bool(claims or class_names),
        class_names=class_names,
        secrets=frozenset(secrets),
        claims=claims if change.old else frozenset(),
        leftovers=frozenset() if change.old else claims,
        objects=frozenset([entry for entry in objects if entry.kind != PULL_SECRET]),
        stateful_set=stateful_set,
    )


def judge(change: Change, facts: Facts, rules: Sequence[Rule] | None = None) -> list[Finding]:
    """Returns the findings of all rules, or of these: rejections by path, then warnings in the order of the rules."""
    # Whatever the spec says: finalizers and labels stay editable.
    if change.spec_is_unchanged:
        return []

    return sort_findings(
        Finding(finding.path, finding.message, finding.rejects, rule.__name__)
        for rule in (_rules_about(change.written) if rules is None else rules)
        for finding in rule(change, facts)
    )


# Users write the same few fields: of nearly all changes the rules are known already.
@lru_cache(maxsize=256)
def _rules_about(written: frozenset[str]) -> tuple[Rule, ...]:
    """Returns the rules that may find something when only these fields are not left out."""
    return tuple(rule for rule, fields in RULES.items() if not fields or not written.isdisjoint(fields))


def invalid_findings(reading: Reading) -> list[Finding]:
    """Returns why the operator cannot act on an object that no review has judged; empty for nearly all objects."""
    change = Change(reading)
    return [finding for rule in OBJECT_RULES for finding in rule(change, Facts())]


def fields_are_readable(change: Change, _facts: Facts) -> Iterator[Finding]:
    yield from change.new.errors


def fields_are_known(change: Change, _facts: Facts) -> Iterator[Finding]:
    for path in change.new.unknown:
        yield warning(path, f"{field_name(path)} is not a field of a DittoServer and is ignored; is it misspelt?")


def name_fits_pods_and_services(change: Change, _facts: Facts) -> Iterator[Finding]:
    metadata = change.new.server.metadata
    field, name, max_characters = "metadata.name", metadata.name, MAX_SERVER_NAME_CHARACTERS
    if metadata.generate_name and not name:
        field, name = "metadata.generateName", metadata.generate_name + "x" * GENERATED_CHARACTERS
        max_characters -= GENERATED_CHARACTERS

    if not is_server_name(name):
        limit = f"at most {max_characters} lower-case letters, digits and dashes, beginning with a letter"
        yield rejection(field, f"{field} must have {limit}, to name Services and pods")


def fields_have_an_effect(change: Change, _facts: Facts) -> Iterator[Finding]:
    spec, old = change.spec, change.old.spec if change.old else None

    username = spec.identity.admin.username
    if username != ADMIN and not (old and old.identity.admin.username == username):
        path = "spec.identity.admin.username"
        yield warning(path, f"{field_name(path)} {quote_value(username)} has no effect; the user is called {ADMIN}")

    region, path = spec.s3.region, "spec.s3.region"
    is_as_before = old is not None and (old.s3.region, old.s3.bucket) == (region, spec.s3.bucket)
    if region != DEFAULT_REGION and not spec.s3.bucket and not is_as_before:
        yield warning(path, f"{field_name(path)} {quote_value(region)} has no effect without s3.bucket; set s3.bucket")


# Attributes of a spec, or of its storage, that a rule is about: it finds nothing while all of them are left out.
ALWAYS: Fields = ()
_POD_PORTS: Fields = ("control_plane", "metrics")
_SECRETS: Fields = ("s3", "identity", "database")
_SECTIONS: Fields = tuple(section.attribute for section in SECTIONS)
_CLAIMS: Fields = ("metadata", "content", "cache")
_CLASSES: Fields = ("storage_class_name", *_CLAIMS)

RULES: Mapping[Rule, Fields] = {
    fields_are_readable: ALWAYS,
    fields_are_known: ALWAYS,
    name_fits_pods_and_services: ALWAYS,
    ports_are_distinct: ("nfs_port", "smb", *_POD_PORTS),
    ports_are_free_in_the_pod: _POD_PORTS,
    service_fields_fit_types: ("service",),
    node_ports_are_distinct: ("service",),
    address_families_fit: ("service",),
    service_labels_are_free: ("service",),
    image_can_exist: ("image",),
    image_is_kept: ("image",),
    image_is_pinned: ALWAYS,
    secrets_can_exist: _SECRETS,
    annotations_fit_services: ("service",),
    service_values_are_valid: ("service",),
    services_keep_their_address: ("service",),
    pull_secrets_have_distinct_names: ("image_pull_secrets",),
    pod_template_can_be_merged: ("pod_template",),
    sections_are_accepted: _SECTIONS,
    shares_have_distinct_names: ("shares",),
    shares_have_a_store: ("shares",),
    service_accounts_agree: ("pod_template",),
    claim_settings_have_a_volume: ("content",),
    claim_metadata_is_not_reserved: _CLAIMS,
    claim_metadata_is_valid: _CLAIMS,
    data_sources_can_exist: _CLAIMS,
    data_sources_have_a_group: _CLAIMS,
    storage_class_is_kept: _CLASSES,
    content_volume_is_kept: ("content_size",),
    data_sources_are_kept: _CLAIMS,
    sizes_suit_live_claims: ALWAYS,
    live_claims_are_known: ALWAYS,
    existing_claims_can_be_reused: ALWAYS,
    data_sources_have_an_effect: _CLAIMS,
    storage_class_exists: _CLASSES,
    default_storage_class_exists: ALWAYS,
    secrets_have_usable_keys: _SECRETS,
    named_objects_exist: ("pod_template", "image_pull_secrets", "s3", *_CLAIMS),
    snapshots_fit_their_volumes: _CLAIMS,
    secrets_are_not_overwritten: ("database",),
    database_type_and_secret_agree: ("database",),
    exposure_of_api_is_explicit: ("service",),
    ports_are_unprivileged: _POD_PORTS,
    cache_fits_its_volume: ALWAYS,
    paths_are_on_volumes: ("cache", "database"),
    s3_credentials_have_a_bucket: ("s3",),
    session_tokens_have_an_effect: ("s3",),
    service_accounts_give_credentials: ("s3",),
    ca_bundles_leave_s3_reachable: ("pod_template",),
    fields_have_an_effect: ("identity", "s3"),
}
# These tell whether the operator can act on an object. Others are about a change, or about the cluster. What the object
# alone shows is in the CustomResourceDefinition, too, so that it holds while no webhook answers.
OBJECT_RULES: Sequence[Rule] = (
    fields_are_readable,
    name_fits_pods_and_services,
    ports_are_distinct,
    ports_are_free_in_the_pod,
    service_fields_fit_types,
    node_ports_are_distinct,
    address_families_fit,
    service_labels_are_free,
    pull_secrets_have_distinct_names,
    pod_template_can_be_merged,
    shortcuts_can_be_merged,
    shares_have_distinct_names,
    shares_have_a_store,
    service_accounts_agree,
    claim_settings_have_a_volume,
    claim_metadata_is_not_reserved,
    data_sources_have_a_group,
    secrets_are_not_overwritten,
)
