"""Every rule about a DittoServer in the order of its findings, and judge(), which applies them. It looks nothing up."""

from collections.abc import Iterator, Sequence

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
from app.storage.sections import stateful_set_for_dry_run
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


def needs(change: Change, defaults: ObjectDefaults = NO_DEFAULTS) -> Needs:
    """Returns only what a changed field asks for: a class that is deleted later must not block other edits."""
    if change.spec_is_unchanged:
        return Needs()

    metadata = change.new.server.metadata
    owner = Owner(change.name or metadata.generate_name + "x" * GENERATED_CHARACTERS, metadata.namespace)
    claims = frozenset(volume.claim_name(change.name) for volume in change.resized)
    classes = {volume.storage_class for volume in (change.resized if change.old else change.volumes)}
    class_names = frozenset(classes | {*change.named_classes.values()}) - {""}
    objects = [entry.reference for entry in change.objects]
    pull_secrets = {reference.name for reference in objects if reference.kind == PULL_SECRET}

    stateful_set = None
    # Without a volume for metadata the API server would name what it misses in the pod, which no user has written.
    if change.sections and change.spec.storage.metadata_size:
        stateful_set = stateful_set_for_dry_run(owner, change.spec, change.sections, defaults)

    return Needs(
        namespace=metadata.namespace,
        storage_classes=bool(claims or class_names),
        class_names=class_names,
        secrets=frozenset(reference.secret for reference in change.references if reference.secret) | pull_secrets,
        claims=claims if change.old else frozenset(),
        leftovers=frozenset() if change.old else claims,
        objects=frozenset(reference for reference in objects if reference.kind != PULL_SECRET),
        stateful_set=stateful_set,
    )


def judge(change: Change, facts: Facts, rules: Sequence[Rule] | None = None) -> list[Finding]:
    """Returns the findings of all rules, or of these: rejections by path, then warnings in the order of the rules."""
    # Whatever the spec says: finalizers and labels stay editable.
    if change.spec_is_unchanged:
        return []

    return sort_findings(
        Finding(finding.path, finding.message, finding.rejects, rule.__name__)
        for rule in (RULES if rules is None else rules)
        for finding in rule(change, facts)
    )


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
    if region != S3().region and not spec.s3.bucket and not is_as_before:
        yield warning(path, f"{field_name(path)} {quote_value(region)} has no effect without s3.bucket; set s3.bucket")


RULES: Sequence[Rule] = (
    fields_are_readable,
    fields_are_known,
    name_fits_pods_and_services,
    ports_are_distinct,
    ports_are_free_in_the_pod,
    service_fields_fit_types,
    node_ports_are_distinct,
    address_families_fit,
    service_labels_are_free,
    image_can_exist,
    image_is_kept,
    image_is_pinned,
    secrets_can_exist,
    annotations_fit_services,
    service_values_are_valid,
    services_keep_their_address,
    pull_secrets_have_distinct_names,
    pod_template_can_be_merged,
    sections_are_accepted,
    shares_have_distinct_names,
    shares_have_a_store,
    service_accounts_agree,
    claim_settings_have_a_volume,
    claim_metadata_is_not_reserved,
    claim_metadata_is_valid,
    data_sources_can_exist,
    data_sources_have_a_group,
    storage_class_is_kept,
    content_volume_is_kept,
    data_sources_are_kept,
    sizes_suit_live_claims,
    live_claims_are_known,
    existing_claims_can_be_reused,
    data_sources_have_an_effect,
    storage_class_exists,
    default_storage_class_exists,
    secrets_have_usable_keys,
    named_objects_exist,
    snapshots_fit_their_volumes,
    secrets_are_not_overwritten,
    database_type_and_secret_agree,
    exposure_of_api_is_explicit,
    ports_are_unprivileged,
    cache_fits_its_volume,
    paths_are_on_volumes,
    s3_credentials_have_a_bucket,
    session_tokens_have_an_effect,
    service_accounts_give_credentials,
    ca_bundles_leave_s3_reachable,
    fields_have_an_effect,
)
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
