"""Every rule about a DittoServer by its name, and judge(), which applies them all.

A rule about the object alone is in the CustomResourceDefinition too (`crd`), so that it holds while nobody answers.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from app.storage import quantity
from app.storage.difference import APPLIED, DIGEST_CHARACTERS
from app.storage.facts import Claim, Facts, Needs, StorageClass, Unknown
from app.storage.finding import Finding, in_order, rejection, warning
from app.storage.metadata import ANNOTATIONS_BYTES
from app.storage.names import is_annotation_key, is_secret_key, is_subdomain
from app.storage.objects import Owner
from app.storage.ports import TAKEN_PORTS, Listener, listeners
from app.storage.reading import LONGEST_NAME, Reading, field_name, read
from app.storage.references import (
    S3_PATH,
    SecretReference,
    judge_secret,
    overwritten_references,
    secret_references,
)
from app.storage.sections import Section, changed_sections, section_findings, stateful_set_to_try
from app.storage.spec import (
    API_VERSION,
    DEFAULT_CACHE,
    DEFAULT_SQLITE,
    DittoServer,
    Spec,
)
from app.storage.volumes import (
    Volume,
    doubt,
    mount_paths,
    refusal,
    resized,
    reuse,
    storage_class_of,
    volumes,
)

# A StatefulSet labels its pods `controller-revision-hash: <name>-<ten characters>`, 63 in all.
NAME_CHARACTERS = 52
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
GENERATED_CHARACTERS = 5

# All annotations of an object, less the one that the operator adds.
_ANNOTATION_BYTES = ANNOTATIONS_BYTES - len(APPLIED) - DIGEST_CHARACTERS
_FIRST_UNPRIVILEGED_PORT = 1024
_CLASSES_LISTED = 20


@dataclass(frozen=True)
class Change:
    """A DittoServer that somebody wants, and the one there is; `old` is None when it is new, or judged as if it were.

    `exists` says that there is one of its name nevertheless, whose claims are its own.
    """

    new: Reading
    old: DittoServer | None = None
    spec_is_kept: bool = False
    exists: bool = False

    @classmethod
    def of(cls, manifest: Any, old_manifest: Any = None) -> "Change":
        if old_manifest is None:
            return cls(read(manifest))
        return cls(read(manifest), read(old_manifest).server, _spec_is_kept(manifest, old_manifest))

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
        return tuple(resized(self.spec.storage, self.old.spec.storage))

    @cached_property
    def added(self) -> tuple[Volume, ...]:
        """The volumes that there were none of, but of which an earlier server of this name may have left the claims."""
        if self.old is None and not _fits(self.name):
            return ()
        had = {volume.name for volume in volumes(self.old.spec.storage) if volume.size} if self.old else set()
        return tuple(volume for volume in volumes(self.spec.storage) if volume.size and volume.name not in had)

    @cached_property
    def references(self) -> list[SecretReference]:
        """The Secrets that are named and were not before, or not like that."""
        old = secret_references(self.old.spec) if self.old else ()
        return [reference for reference in secret_references(self.spec) if reference not in old]

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The sections that go into the pod verbatim and are new or changed."""
        return changed_sections(self.spec, self.old.spec if self.old else None)


Rule = Callable[[Change, Facts], Iterator[Finding]]


def needs(change: Change) -> Needs:
    """Only what a field that changed asks for: a class deleted later must not block other edits."""
    if change.spec_is_kept:
        return Needs()
    claims = frozenset(volume.claim_name(change.name) for volume in change.resized)
    metadata = change.new.server.metadata
    owner = Owner(change.name or metadata.generate_name + "x" * GENERATED_CHARACTERS, metadata.namespace)
    return Needs(
        namespace=change.new.server.metadata.namespace,
        storage_classes=bool(claims) or (change.old is None and change.spec.storage.storage_class_name != ""),
        storage_class=change.spec.storage.storage_class_name,
        secrets=frozenset(reference.secret for reference in change.references if reference.secret),
        claims=claims if change.old else frozenset(),
        leftovers=frozenset() if change.old else claims,
        stateful_set=stateful_set_to_try(owner, change.spec, change.sections) if change.sections else None,
    )


def of_another_version(manifest: Mapping[str, Any]) -> list[Finding]:
    """What no API server would ask about; it is for those who read manifests themselves."""
    wrong = manifest.get("apiVersion") != API_VERSION
    return [rejection("apiVersion", f"apiVersion must be {API_VERSION}")] if wrong else []


def judge(change: Change, facts: Facts, rules: Sequence[Rule] | None = None) -> list[Finding]:
    """All findings of all rules, or of those given: rejections by path, then warnings in the order of the rules.

    An update that leaves the spec as it is has none, whatever the spec says: finalizers and labels stay editable.
    """
    if change.spec_is_kept:
        return []
    found = [finding for rule in (RULES if rules is None else rules) for finding in rule(change, facts)]
    return in_order(found)


def invalid_findings(reading: Reading) -> list[Finding]:
    """Why nothing can be made of an object that nobody judged when it came in; empty for nearly all."""
    change = Change(reading)
    return [finding for rule in OBJECT_RULES for finding in rule(change, Facts())]


def fields_are_readable(change: Change, _facts: Facts) -> Iterator[Finding]:
    for problem in change.new.problems:
        yield rejection(problem.path, problem.message)


def fields_are_known(change: Change, _facts: Facts) -> Iterator[Finding]:
    for path in change.new.unknown:
        yield warning(path, f"{field_name(path)} is not a field of a DittoServer and is ignored; is it misspelt?")


def name_fits_pods_and_services(change: Change, _facts: Facts) -> Iterator[Finding]:
    metadata = change.new.server.metadata
    generated = metadata.generate_name and not metadata.name
    name = metadata.generate_name + "x" * GENERATED_CHARACTERS if generated else metadata.name
    if not _fits(name):
        field = "metadata.generateName" if generated else "metadata.name"
        longest = NAME_CHARACTERS - GENERATED_CHARACTERS if generated else NAME_CHARACTERS
        limit = f"at most {longest} lower-case letters, digits and dashes, beginning with a letter"
        yield rejection(field, f"{field} must have {limit}, to name Services and pods")


def ports_are_distinct(change: Change, _facts: Facts) -> Iterator[Finding]:
    for one, other in combinations(change.listeners, 2):
        if one.port == other.port:
            yield rejection(other.field, f"port {one.port} is used by both {one.name} and {other.name}")


def ports_are_free_in_the_pod(change: Change, _facts: Facts) -> Iterator[Finding]:
    for listener in _pod_listeners(change):
        if listener.port in TAKEN_PORTS:
            why = f"the server listens there for {TAKEN_PORTS[listener.port]} inside the pod"
            yield rejection(listener.field, f"{field_name(listener.field)} must not be {listener.port}: {why}")


def sections_are_accepted(change: Change, facts: Facts) -> Iterator[Finding]:
    yield from section_findings(change.spec, change.sections, facts.dry_run)


def image_can_exist(change: Change, _facts: Facts) -> Iterator[Finding]:
    image = change.spec.image
    if change.old and change.old.spec.image == image:
        return
    if not image:
        yield rejection("spec.image", "image must not be empty; leave it out for the default one")
    elif any(character.isspace() for character in image):
        yield rejection("spec.image", f"image {_quoted(image)} has white space in it; no image is named like that")


def secrets_can_exist(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Rejects names and keys that no Secret can have: the API server takes no pod that names one."""
    old = {reference.path: reference for reference in (secret_references(change.old.spec) if change.old else ())}
    for reference in change.references:
        before = old.get(reference.path)

        name = reference.secret
        if name and not is_subdomain(name) and not (before and before.secret == name):
            problem = f"{reference.title} Secret {_quoted(name)} cannot exist by that name"
            yield rejection(reference.path, f"{problem}; use lower-case letters, digits, dashes and dots")

        keys_before = {key.name for key in before.keys} if before else set()
        for key in sorted({key.name for key in reference.keys} - keys_before):
            if not is_secret_key(key):
                problem = f"{reference.title} Secret cannot have a key {_quoted(key)}"
                yield rejection(reference.path, f"{problem}; use letters, digits, dashes, underscores and dots")


def annotations_fit_services(change: Change, _facts: Facts) -> Iterator[Finding]:
    path = "spec.service.annotations"
    new, old = _annotations(change.spec), _annotations(change.old.spec) if change.old else {}
    for key in sorted(new.keys() - old.keys()):
        if not is_annotation_key(key):
            field = f"{path}[{key[:LONGEST_NAME]}]"
            yield rejection(field, f"{field_name(path)} has {_quoted(key)}, which is no name for an annotation")
    if new != old and _size(new) > _ANNOTATION_BYTES:
        yield rejection(path, f"{field_name(path)} must have at most {_ANNOTATION_BYTES} bytes, keys included")


def storage_class_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    if change.old is None:
        return
    new, old = change.spec.storage.storage_class_name, change.old.spec.storage.storage_class_name
    if new != old:
        advice = "volumes cannot move; make a new DittoServer with the other class and copy the data"
        was = "unset" if old is None else f'"{old}"'
        yield rejection(
            "spec.storage.storageClassName", f"storage.storageClassName cannot change, it was {was}: {advice}"
        )


def content_volume_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    path = "spec.storage.contentSize"
    unreadable = any(path.startswith(problem.path) for problem in change.new.problems)
    had_one = change.old and change.old.spec.storage.content_size
    if had_one and change.spec.storage.content_size is None and not unreadable:
        advice = "its volume holds data; make a new DittoServer without it and copy the data"
        yield rejection(path, f"storage.contentSize cannot be removed: {advice}")


def sizes_suit_live_claims(change: Change, facts: Facts) -> Iterator[Finding]:
    for volume in change.resized:
        claim = facts.claims.get(volume.claim_name(change.name))
        if not isinstance(claim, Claim) or (claim.terminating and volume in change.added):
            continue
        if why := refusal(volume, claim, facts.storage_classes):
            yield rejection(volume.field, f"{field_name(volume.field)} {why}")
        elif what := doubt(volume, claim, facts.storage_classes):
            yield warning(volume.field, f"Could not verify {what}")


def live_claims_are_known(change: Change, facts: Facts) -> Iterator[Finding]:
    """One finding for each reason: without a cluster, or without an answer, it is the same for all of them."""
    unknown: dict[str, list[Volume]] = {}
    for volume in change.resized:
        claim = facts.claims.get(volume.claim_name(change.name))
        if isinstance(claim, Unknown):
            unknown.setdefault(claim.why, []).append(volume)
    for why, some in unknown.items():
        names = ", ".join(volume.claim_name(change.name) for volume in some)
        yield warning(some[0].field, f"Could not verify volume claim{'s' * (len(some) > 1)} {names}: {why}")


def existing_claims_can_be_reused(change: Change, facts: Facts) -> Iterator[Finding]:
    if change.exists:
        return
    wanted = storage_class_of(change.spec.storage, None, facts.storage_classes)
    for volume in change.added:
        claim = facts.claims.get(volume.claim_name(change.name))
        if not isinstance(claim, Claim):
            continue
        if claim.terminating or refusal(volume, claim, facts.storage_classes) is None:
            yield warning(volume.field, reuse(volume, claim, wanted, facts.storage_classes))


def storage_class_exists(change: Change, facts: Facts) -> Iterator[Finding]:
    name, classes = change.spec.storage.storage_class_name, facts.storage_classes
    if change.old is not None or not name or classes.named(name):
        return
    path = "spec.storage.storageClassName"
    if classes.gap:
        yield warning(path, f'Could not verify StorageClass "{name}" exists: {classes.gap}')
    else:
        there_are = _listed(classes.known, classes.default)
        yield rejection(path, f'StorageClass "{name}" does not exist in cluster; there are: {there_are}')


def default_storage_class_exists(change: Change, facts: Facts) -> Iterator[Finding]:
    if change.old is not None or change.spec.storage.storage_class_name is not None or facts.storage_classes.default:
        return
    path = "spec.storage.storageClassName"
    if facts.storage_classes.gap:
        yield warning(path, f"Could not verify that there is a default StorageClass: {facts.storage_classes.gap}")
    else:
        message = "storage.storageClassName is not set and no StorageClass is the default; the claims will stay Pending"
        yield warning(path, message)


def secrets_hold_what_the_server_reads(change: Change, facts: Facts) -> Iterator[Finding]:
    for reference in change.references:
        if not reference.secret:
            yield warning(reference.path, f"{field_name(reference.path)}.name is not set; there is no Secret to read")
        else:
            yield from judge_secret(reference, facts.secrets.get(reference.secret, Unknown("it was not looked up")))


def secrets_are_not_overwritten(change: Change, _facts: Facts) -> Iterator[Finding]:
    """In no CRD: it must go on to accept what the Go operator's did, which read the connection string where it is."""
    for reference in overwritten_references(change.name, change.spec):
        path = f"{reference.path}.{'secretName' if reference.path == S3_PATH else 'name'}"
        why = "the operator writes the parts of the connection string into that Secret; give yours another name"
        yield rejection(path, f'{field_name(path)} must not be "{reference.secret}": {why}')


def database_type_and_secret_agree(change: Change, _facts: Facts) -> Iterator[Finding]:
    database = change.spec.database
    path = "spec.database.postgresSecretRef"
    if database and database.postgres_secret_ref and database.type == "sqlite":
        yield warning(
            path, "database.postgresSecretRef is set but database.type is 'sqlite' - PostgreSQL will take precedence"
        )
    if database and not database.postgres_secret_ref and database.type == "postgres":
        yield warning(path, "database.type is 'postgres' but database.postgresSecretRef is not set; name the Secret")


def ports_are_unprivileged(change: Change, _facts: Facts) -> Iterator[Finding]:
    for listener in _pod_listeners(change):
        if listener.port < _FIRST_UNPRIVILEGED_PORT:
            yield warning(
                listener.field,
                f"{listener.name} port {listener.port} is privileged; may require CAP_NET_BIND_SERVICE capability",
            )


def cache_fits_its_volume(change: Change, _facts: Facts) -> Iterator[Finding]:
    size, volume = (change.spec.cache or DEFAULT_CACHE).size, change.spec.storage.cache_size
    wanted = quantity.parse_cache_size(size)
    if wanted is None:
        yield warning(
            "spec.cache.size", f'cache.size "{_shortened(size)}" is not a size that DittoFS reads, such as 1GB'
        )
    elif wanted > quantity.parse(volume):
        yield warning(
            "spec.cache.size", f"cache.size {size} is above storage.cacheSize {volume}; the cache may fill its volume"
        )


def paths_are_on_volumes(change: Change, _facts: Facts) -> Iterator[Finding]:
    paths = {"spec.cache.path": (change.spec.cache or DEFAULT_CACHE).path}
    database = change.spec.database
    if not (database and (database.postgres_secret_ref or database.type == "postgres")):
        paths["spec.database.sqlite.path"] = ((database and database.sqlite) or DEFAULT_SQLITE).path
    mounts = mount_paths(change.spec.storage)
    for field, path in paths.items():
        if not _is_under(path, mounts):
            lost = f"{field_name(field)} {_shortened(path)} is on no volume and is lost with the pod"
            yield warning(field, f"{lost}; volumes: {', '.join(mounts)}")


RULES: tuple[Rule, ...] = (
    fields_are_readable,
    fields_are_known,
    name_fits_pods_and_services,
    ports_are_distinct,
    ports_are_free_in_the_pod,
    image_can_exist,
    secrets_can_exist,
    annotations_fit_services,
    sections_are_accepted,
    storage_class_is_kept,
    content_volume_is_kept,
    sizes_suit_live_claims,
    live_claims_are_known,
    existing_claims_can_be_reused,
    storage_class_exists,
    default_storage_class_exists,
    secrets_hold_what_the_server_reads,
    secrets_are_not_overwritten,
    database_type_and_secret_agree,
    ports_are_unprivileged,
    cache_fits_its_volume,
    paths_are_on_volumes,
)
# What makes an object unfit to be acted upon; the others are about a change, or about the cluster.
OBJECT_RULES = (
    fields_are_readable,
    name_fits_pods_and_services,
    ports_are_distinct,
    ports_are_free_in_the_pod,
    secrets_are_not_overwritten,
)


def _fits(name: str) -> bool:
    return len(name) <= NAME_CHARACTERS and re.fullmatch(NAME_PATTERN, name) is not None


def _spec_is_kept(manifest: Any, old_manifest: Any) -> bool:
    try:
        return bool(_spec(manifest) == _spec(old_manifest))
    except RecursionError:
        # Nested nearly a thousand deep: it is judged as if it were another one.
        return False


def _spec(manifest: Any) -> Any:
    return manifest.get("spec") if isinstance(manifest, dict) else None


def _pod_listeners(change: Change) -> list[Listener]:
    """Those that listen in the pod on the port that the spec says; nfs and smb are mapped by a Service."""
    return [listener for listener in change.listeners if listener.name in ("api", "metrics")]


def _listed(classes: tuple[StorageClass, ...], default: StorageClass | None) -> str:
    names = sorted(f"{each.name} (default)" if each == default else each.name for each in classes)
    more = len(names) - _CLASSES_LISTED
    return ", ".join([*names[:_CLASSES_LISTED], *([f"and {more} more"] if more > 0 else [])]) or "none"


def _is_under(path: str, mounts: tuple[str, ...]) -> bool:
    normal = posixpath.normpath(path)
    return any(normal == mount or normal.startswith(f"{mount}/") for mount in mounts)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _quoted(text: str) -> str:
    return json.dumps(_shortened(text), ensure_ascii=False)


def _annotations(spec: Spec) -> Mapping[str, str]:
    return (spec.service and spec.service.annotations) or {}


def _size(annotations: Mapping[str, str]) -> int:
    return sum(len(text.encode(errors="replace")) for item in annotations.items() for text in item)
