"""Every rule about a DittoServer by its name, and judge(), which applies them all. It looks nothing up."""

import json
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from app.storage import quantity
from app.storage.difference import APPLIED, DIGEST_CHARACTERS
from app.storage.facts import Claim, Facts, Needs, Unknown
from app.storage.finding import Finding, rejection, sort_findings, warning
from app.storage.images import can_move, is_same_image, pinned_image
from app.storage.metadata import MAX_ANNOTATIONS_BYTES
from app.storage.names import (
    MAX_NAME_CHARACTERS,
    MAX_SERVER_NAME_CHARACTERS,
    is_annotation_key,
    is_secret_key,
    is_server_name,
    is_subdomain,
)
from app.storage.objects import Owner
from app.storage.ports import FIXED_PORTS, Listener, listeners
from app.storage.reading import Reading, field_name, read
from app.storage.secret_references import (
    ADMIN,
    S3_PATH,
    SecretReference,
    overwritten_references,
    secret_findings,
    secret_references,
)
from app.storage.sections import Section, changed_sections, section_findings, stateful_set_for_dry_run
from app.storage.server_health import Family, family_of_image, image_version
from app.storage.shares import store_of
from app.storage.spec import S3, DittoServer, Spec
from app.storage.status_schema import ServerStatus
from app.storage.volumes import (
    Volume,
    describe_reuse,
    mount_paths,
    resized_volumes,
    second_mount_paths,
    storage_class_of,
    unknown_resizability,
    volumes,
    why_not_resizable,
)

# The API server adds as many to generateName.
GENERATED_CHARACTERS = 5

# The operator adds one annotation to those of the spec, and all of them together must fit.
_MAX_SERVICE_ANNOTATIONS_BYTES = MAX_ANNOTATIONS_BYTES - len(APPLIED) - DIGEST_CHARACTERS
_MAX_CLASSES_LISTED = 20
_MAX_QUOTED_CHARACTERS = 40
_NEVER_RAN = ServerStatus()


@dataclass(frozen=True)
class Change:
    """A change of a DittoServer: as it is wanted, and as it is; `old` is None if it is judged as a new server."""

    new: Reading
    old: DittoServer | None = None
    spec_is_unchanged: bool = False
    exists: bool = False  # It is judged like a new server although it exists, and so has claims of its own.
    running: ServerStatus = _NEVER_RAN  # What is known of the server that runs.

    @classmethod
    def read(cls, manifest: Any, old_manifest: Any = None) -> "Change":
        if old_manifest is None:
            return cls(read(manifest))

        new_spec, old_spec = (
            either.get("spec") if isinstance(either, dict) else None for either in (manifest, old_manifest)
        )
        try:
            spec_is_unchanged = bool(new_spec == old_spec)
        except RecursionError:
            # The specs are nested nearly a thousand deep, and get judged as if they were different.
            spec_is_unchanged = False
        running = ServerStatus.read(old_manifest) if isinstance(old_manifest, dict) else _NEVER_RAN
        return cls(read(manifest), read(old_manifest).server, spec_is_unchanged, running=running)

    @property
    def spec(self) -> Spec:
        return self.new.server.spec

    @property
    def name(self) -> str:
        return self.new.server.metadata.name

    @cached_property
    def listeners(self) -> tuple[Listener, ...]:
        return listeners(self.spec)

    @cached_property
    def resized(self) -> tuple[Volume, ...]:
        """The volumes with another size than before, all of them when the server is new."""
        if self.old is None:
            return self.added
        return tuple(resized_volumes(self.spec.storage, self.old.spec.storage))

    @cached_property
    def added(self) -> tuple[Volume, ...]:
        """The volumes that the server did not have, but whose claims an earlier server of this name may have left."""
        if self.old is None and not is_server_name(self.name):
            return ()
        existing = {volume.name for volume in volumes(self.old.spec.storage) if volume.size} if self.old else set()
        return tuple(volume for volume in volumes(self.spec.storage) if volume.size and volume.name not in existing)

    @cached_property
    def references(self) -> list[SecretReference]:
        """The references to Secrets that are new or changed."""
        old = secret_references(self.old.spec) if self.old else ()
        return [reference for reference in secret_references(self.spec) if reference not in old]

    @property
    def image_changes(self) -> bool:
        """Tells whether a server that exists gets another image."""
        return self.old is not None and self.old.spec.image != self.spec.image

    @cached_property
    def family(self) -> Family | None:
        """Tells which of the two servers will run; None when neither its status nor its image says."""
        is_of_this_image = self.running.image in (None, self.spec.image) and not self.image_changes
        # The servers from 0.10 to 0.12 answer like newer ones, and take the keys from their environment all the same.
        if self.running.family and is_of_this_image and image_version(self.spec.image) is None:
            return Family(self.running.family)
        return family_of_image(self.spec.image)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The sections that go into the pod verbatim and are new or changed."""
        return changed_sections(self.spec, self.old.spec if self.old else None)


Rule = Callable[[Change, Facts], Iterator[Finding]]

# A rule about the object alone is in the CustomResourceDefinition, too, so that it holds while no webhook answers.
RULES: list[Rule] = []
OBJECT_RULES: list[Rule] = []


def needs(change: Change) -> Needs:
    """Returns only what a changed field asks for: a class that is deleted later must not block other edits."""
    if change.spec_is_unchanged:
        return Needs()

    metadata = change.new.server.metadata
    owner = Owner(change.name or metadata.generate_name + "x" * GENERATED_CHARACTERS, metadata.namespace)
    claims = frozenset(volume.claim_name(change.name) for volume in change.resized)

    return Needs(
        namespace=metadata.namespace,
        storage_classes=bool(claims) or (change.old is None and change.spec.storage.storage_class_name != ""),
        storage_class=change.spec.storage.storage_class_name,
        secrets=frozenset(reference.secret for reference in change.references if reference.secret),
        claims=claims if change.old else frozenset(),
        leftovers=frozenset() if change.old else claims,
        stateful_set=stateful_set_for_dry_run(owner, change.spec, change.sections) if change.sections else None,
    )


def judge(change: Change, facts: Facts, rules: Sequence[Rule] | None = None) -> list[Finding]:
    """Returns the findings of all rules, or of these: rejections by path, then warnings in the order of the rules."""
    # Whatever the spec says: finalizers and labels stay editable.
    if change.spec_is_unchanged:
        return []
    return sort_findings(finding for rule in (RULES if rules is None else rules) for finding in rule(change, facts))


def invalid_findings(reading: Reading) -> list[Finding]:
    """Returns why the operator cannot act on an object that no review has judged; empty for nearly all objects."""
    change = Change(reading)
    return [finding for rule in OBJECT_RULES for finding in rule(change, Facts())]


def rule(function: Rule) -> Rule:
    """Adds a rule to RULES, which are applied in the order of this file."""
    RULES.append(function)
    return function


def object_rule(function: Rule) -> Rule:
    """Adds a rule that tells whether the operator can act on an object; others are about a change, or the cluster."""
    OBJECT_RULES.append(function)
    return rule(function)


@object_rule
def fields_are_readable(change: Change, _facts: Facts) -> Iterator[Finding]:
    yield from change.new.errors


@rule
def fields_are_known(change: Change, _facts: Facts) -> Iterator[Finding]:
    for path in change.new.unknown:
        yield warning(path, f"{field_name(path)} is not a field of a DittoServer and is ignored; is it misspelt?")


@object_rule
def name_fits_pods_and_services(change: Change, _facts: Facts) -> Iterator[Finding]:
    metadata = change.new.server.metadata
    field, name, max_characters = "metadata.name", metadata.name, MAX_SERVER_NAME_CHARACTERS
    if metadata.generate_name and not name:
        field, name = "metadata.generateName", metadata.generate_name + "x" * GENERATED_CHARACTERS
        max_characters -= GENERATED_CHARACTERS

    if not is_server_name(name):
        limit = f"at most {max_characters} lower-case letters, digits and dashes, beginning with a letter"
        yield rejection(field, f"{field} must have {limit}, to name Services and pods")


@object_rule
def ports_are_distinct(change: Change, _facts: Facts) -> Iterator[Finding]:
    for one, other in combinations(change.listeners, 2):
        if one.port == other.port:
            yield rejection(other.field, f"port {one.port} is used by both {one.name} and {other.name}")


@object_rule
def ports_are_free_in_the_pod(change: Change, _facts: Facts) -> Iterator[Finding]:
    for listener in _pod_listeners(change):
        if listener.port in FIXED_PORTS:
            reason = f"the server listens there for {FIXED_PORTS[listener.port]} inside the pod"
            yield rejection(listener.field, f"{field_name(listener.field)} must not be {listener.port}: {reason}")


@rule
def image_can_exist(change: Change, _facts: Facts) -> Iterator[Finding]:
    image = change.spec.image
    if change.old and change.old.spec.image == image:
        return

    if not image:
        yield rejection("spec.image", "image must not be empty; leave it out for the default one")
    elif any(character.isspace() for character in image):
        yield rejection("spec.image", f"image {_quote(image)} contains white space, which no image name has")


@rule
def image_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Warns before a migration of the database, after which the former server may not start, or show no shares."""
    if not change.image_changes or is_same_image(change.spec.image, change.running):
        return

    version = change.running.version or "the old image"
    what = "Postgres database" if change.spec.database.postgres_secret_ref else "metadata volume"
    problem = f"image changes: once the new one has migrated the database, {version} may fail or show no shares"
    yield warning("spec.image", f"{problem}; back up the {what} first")


@rule
def image_is_pinned(change: Change, _facts: Facts) -> Iterator[Finding]:
    image = change.spec.image
    if not image or not can_move(image) or not (change.old is None or change.image_changes):
        return

    pinned = pinned_image(change.running) if change.running.image == image else None
    advice = f"pin what runs now: {pinned}" if pinned else "pin a release, such as v0.29.0, or a digest"
    yield warning("spec.image", f"image {_quote(image)} may be a different one at each restart; {advice}")


@rule
def secrets_can_exist(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Rejects names and keys that no Secret can have: the API server takes no pod that names one."""
    old = {reference.path: reference for reference in (secret_references(change.old.spec) if change.old else ())}

    for reference in change.references:
        before = old.get(reference.path)

        name = reference.secret
        if name and not is_subdomain(name) and not (before and before.secret == name):
            problem = f"{reference.title} Secret {_quote(name)} cannot exist by that name"
            yield rejection(reference.path, f"{problem}; use lower-case letters, digits, dashes and dots")

        keys_before = {key.name for key in before.keys} if before else set()
        for key in sorted({key.name for key in reference.keys} - keys_before):
            if not is_secret_key(key):
                problem = f"{reference.title} Secret cannot have a key {_quote(key)}"
                yield rejection(reference.path, f"{problem}; use letters, digits, dashes, underscores and dots")


@rule
def annotations_fit_services(change: Change, _facts: Facts) -> Iterator[Finding]:
    path = "spec.service.annotations"
    new = change.spec.service.annotations or {}
    old = (change.old.spec.service.annotations if change.old else None) or {}

    for key in sorted(new.keys() - old.keys()):
        if not is_annotation_key(key):
            field = f"{path}[{key[:MAX_NAME_CHARACTERS]}]"
            yield rejection(field, f"{field_name(path)} has {_quote(key)}, which is no name for an annotation")

    size = sum(len(text.encode(errors="replace")) for item in new.items() for text in item)
    if new != old and size > _MAX_SERVICE_ANNOTATIONS_BYTES:
        limit = f"at most {_MAX_SERVICE_ANNOTATIONS_BYTES} bytes, keys included"
        yield rejection(path, f"{field_name(path)} must have {limit}")


@rule
def sections_are_accepted(change: Change, facts: Facts) -> Iterator[Finding]:
    yield from section_findings(change.spec, change.sections, facts.dry_run)


@object_rule
def shares_have_distinct_names(change: Change, _facts: Facts) -> Iterator[Finding]:
    names = [share.name for share in change.spec.shares or ()]
    for name, count in Counter(names).items():
        if count > 1:
            yield rejection("spec.shares", f'shares has {count} entries named "{name}"; give each a name of its own')


@object_rule
def shares_have_a_store(change: Change, _facts: Facts) -> Iterator[Finding]:
    s3, is_unreadable = change.spec.s3, any(error.path.startswith("spec.s") for error in change.new.errors)
    if is_unreadable:
        return

    for share in change.spec.shares or ():
        store = store_of(share, change.spec)
        if store == "s3" and not (s3.bucket and s3.credentials_secret_ref):
            yield rejection("spec.shares", f'share "{share.name}" in s3 needs s3.bucket and s3.credentialsSecretRef')
        if store == "local" and not change.spec.storage.content_size:
            yield rejection("spec.shares", f'share "{share.name}" in a local store needs storage.contentSize')


@rule
def storage_class_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    if change.old is None:
        return

    new, old = change.spec.storage.storage_class_name, change.old.spec.storage.storage_class_name
    if new != old:
        path = "spec.storage.storageClassName"
        was = "unset" if old is None else f'"{old}"'
        advice = "volumes cannot move; make a new DittoServer with the other class and copy the data"
        yield rejection(path, f"{field_name(path)} cannot change, it was {was}: {advice}")


@rule
def content_volume_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    if not (change.old and change.old.spec.storage.content_size) or change.spec.storage.content_size is not None:
        return

    path = "spec.storage.contentSize"
    is_unreadable = any(path.startswith(error.path) for error in change.new.errors)
    if not is_unreadable:
        advice = "its volume holds data; make a new DittoServer without it and copy the data"
        yield rejection(path, f"{field_name(path)} cannot be removed: {advice}")


@rule
def sizes_suit_live_claims(change: Change, facts: Facts) -> Iterator[Finding]:
    for volume in change.resized:
        claim = facts.claims.get(volume.claim_name(change.name))
        if not isinstance(claim, Claim) or (claim.terminating and volume in change.added):
            continue

        if why := why_not_resizable(volume, claim, facts.storage_classes):
            yield rejection(volume.field, f"{field_name(volume.field)} {why}")
        elif what := unknown_resizability(volume, claim, facts.storage_classes):
            yield warning(volume.field, f"Could not verify {what}")


@rule
def live_claims_are_known(change: Change, facts: Facts) -> Iterator[Finding]:
    """Warns once for each reason: without a cluster, or without an answer, it is the same for all claims."""
    unknown: dict[str, list[Volume]] = {}
    for volume in change.resized:
        claim = facts.claims.get(volume.claim_name(change.name))
        if isinstance(claim, Unknown):
            unknown.setdefault(claim.why, []).append(volume)

    for why, affected in unknown.items():
        names = ", ".join(volume.claim_name(change.name) for volume in affected)
        yield warning(affected[0].field, f"Could not verify volume claim{'s' * (len(affected) > 1)} {names}: {why}")


@rule
def existing_claims_can_be_reused(change: Change, facts: Facts) -> Iterator[Finding]:
    if change.exists:
        return

    wanted = storage_class_of(change.spec.storage, None, facts.storage_classes)
    for volume in change.added:
        claim = facts.claims.get(volume.claim_name(change.name))
        if not isinstance(claim, Claim):
            continue

        if claim.terminating or why_not_resizable(volume, claim, facts.storage_classes) is None:
            yield warning(volume.field, describe_reuse(volume, claim, wanted, facts.storage_classes))


@rule
def storage_class_exists(change: Change, facts: Facts) -> Iterator[Finding]:
    name, classes = change.spec.storage.storage_class_name, facts.storage_classes
    if change.old is not None or not name or classes.named(name):
        return

    path = "spec.storage.storageClassName"
    if classes.gap:
        yield warning(path, f'Could not verify StorageClass "{name}" exists: {classes.gap}')
        return

    default = classes.default
    names = sorted(f"{known.name} (default)" if known == default else known.name for known in classes.known)
    if (more := len(names) - _MAX_CLASSES_LISTED) > 0:
        names[_MAX_CLASSES_LISTED:] = [f"and {more} more"]
    yield rejection(path, f'StorageClass "{name}" does not exist in cluster; there are: {", ".join(names) or "none"}')


@rule
def default_storage_class_exists(change: Change, facts: Facts) -> Iterator[Finding]:
    if change.old is not None or change.spec.storage.storage_class_name is not None or facts.storage_classes.default:
        return

    path = "spec.storage.storageClassName"
    if facts.storage_classes.gap:
        yield warning(path, f"Could not verify that there is a default StorageClass: {facts.storage_classes.gap}")
    else:
        problem = f"{field_name(path)} is not set and no StorageClass is the default"
        yield warning(path, f"{problem}; the claims will stay Pending")


@rule
def secrets_have_usable_keys(change: Change, facts: Facts) -> Iterator[Finding]:
    for reference in change.references:
        if not reference.secret:
            yield warning(reference.path, f"{field_name(reference.path)}.name is not set; there is no Secret to read")
        else:
            secret = facts.secrets.get(reference.secret, Unknown("it was not looked up"))
            yield from secret_findings(reference, secret)


@object_rule
def secrets_are_not_overwritten(change: Change, _facts: Facts) -> Iterator[Finding]:
    # The CRD has no such rule: it must accept servers of the Go operator, which read the connection string where it is.
    for reference in overwritten_references(change.name, change.spec):
        path = f"{reference.path}.{'secretName' if reference.path == S3_PATH else 'name'}"
        reason = "the operator writes the parts of the connection string into that Secret; give yours another name"
        yield rejection(path, f'{field_name(path)} must not be "{reference.secret}": {reason}')


@rule
def database_type_and_secret_agree(change: Change, _facts: Facts) -> Iterator[Finding]:
    database = change.spec.database
    path = "spec.database.postgresSecretRef"

    if database.postgres_secret_ref and database.type == "sqlite":
        problem = f"{field_name(path)} is set but database.type is 'sqlite'"
        yield warning(path, f"{problem} - PostgreSQL will take precedence")
    if not database.postgres_secret_ref and database.type == "postgres":
        yield warning(path, f"database.type is 'postgres' but {field_name(path)} is not set; name the Secret")


@rule
def ports_are_unprivileged(change: Change, _facts: Facts) -> Iterator[Finding]:
    for listener in _pod_listeners(change):
        if listener.port < 1024:
            problem = f"{listener.name} port {listener.port} is privileged"
            yield warning(listener.field, f"{problem}; may require CAP_NET_BIND_SERVICE capability")


@rule
def cache_fits_its_volume(change: Change, _facts: Facts) -> Iterator[Finding]:
    path = "spec.cache.size"
    size, volume_size = change.spec.cache.size, change.spec.storage.cache_size
    wanted = quantity.parse_cache_size(size)

    if wanted is None:
        yield warning(path, f'cache.size "{_shorten(size)}" is not a size that DittoFS reads, such as 1GB')
    elif wanted > quantity.parse(volume_size):
        problem = f"cache.size {size} is above storage.cacheSize {volume_size}"
        yield warning(path, f"{problem}; the cache may fill its volume")


@rule
def paths_are_on_volumes(change: Change, _facts: Facts) -> Iterator[Finding]:
    paths = {"spec.cache.path": change.spec.cache.path}
    database = change.spec.database
    if not database.postgres_secret_ref and database.type == "sqlite":
        paths["spec.database.sqlite.path"] = database.sqlite.path

    mounts = mount_paths(change.spec.storage)
    for field, path in paths.items():
        folder = f"{posixpath.normpath(path)}/"
        if not any(folder.startswith(f"{mount}/") for mount in (*mounts, *second_mount_paths(change.spec.storage))):
            problem = f"{field_name(field)} {_shorten(path)} is on no volume and is lost with the pod"
            yield warning(field, f"{problem}; volumes: {', '.join(mounts)}")


@rule
def s3_credentials_have_a_bucket(change: Change, _facts: Facts) -> Iterator[Finding]:
    s3 = change.spec.s3
    if s3.bucket or not s3.credentials_secret_ref or change.family != Family.CURRENT:
        return

    old = change.old.spec.s3 if change.old and not change.image_changes else S3()
    if old.bucket or old.credentials_secret_ref != s3.credentials_secret_ref:
        problem = f"{field_name(S3_PATH)} has no effect without s3.bucket on DittoFS 0.13 or newer"
        yield warning(S3_PATH, f"{problem}; set s3.bucket")


@rule
def fields_have_an_effect(change: Change, _facts: Facts) -> Iterator[Finding]:
    spec, old = change.spec, change.old.spec if change.old else None

    username = spec.identity.admin.username
    if username != ADMIN and not (old and old.identity.admin.username == username):
        path = "spec.identity.admin.username"
        yield warning(path, f"{field_name(path)} {_quote(username)} has no effect; the user is called {ADMIN}")

    region, path = spec.s3.region, "spec.s3.region"
    is_as_before = old is not None and (old.s3.region, old.s3.bucket) == (region, spec.s3.bucket)
    if region != S3().region and not spec.s3.bucket and not is_as_before:
        yield warning(path, f"{field_name(path)} {_quote(region)} has no effect without s3.bucket; set s3.bucket")


def _pod_listeners(change: Change) -> list[Listener]:
    """Returns those that listen in the pod on the port of the spec; a Service maps the ports of nfs and smb."""
    return [listener for listener in change.listeners if listener.name in ("api", "metrics")]


def _quote(text: str) -> str:
    return json.dumps(_shorten(text), ensure_ascii=False)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_QUOTED_CHARACTERS else f"{text[: _MAX_QUOTED_CHARACTERS - 1]}…"
