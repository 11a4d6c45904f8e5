"""Rules about the image and the sections of a DittoServer that go into its pod."""

from collections import Counter
from collections.abc import Iterator

from app.storage.change import Change
from app.storage.core_types import is_too_deep
from app.storage.facts import Facts, Unknown
from app.storage.finding import Finding, quote_value, rejection, warning
from app.storage.images import can_move, is_same_image, pinned_image
from app.storage.object_references import PULL_SECRET, object_findings
from app.storage.reading import field_name
from app.storage.sections import SECTIONS, section_findings, too_deep

_NESTED_SHORTCUTS = ("tolerations", "affinity")


def image_can_exist(change: Change, _facts: Facts) -> Iterator[Finding]:
    image = change.spec.image
    if change.old and change.old.spec.image == image:
        return

    if not image:
        yield rejection("spec.image", "image must not be empty; leave it out for the default one")
    elif image.split() != [image]:
        yield rejection("spec.image", f"image {quote_value(image)} contains white space, which no image name has")


def image_is_kept(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Warns before a migration of the database, after which the former server may not start, or show no shares."""
    if not change.image_changes or is_same_image(change.spec.image, change.running):
        return

    version = change.running.version or "the old image"
    what = "Postgres database" if change.spec.database.postgres_secret_ref else "metadata volume"
    problem = f"image changes: once the new one has migrated the database, {version} may fail or show no shares"
    yield warning("spec.image", f"{problem}; back up the {what} first")


def image_is_pinned(change: Change, _facts: Facts) -> Iterator[Finding]:
    image = change.spec.image
    if not image or not can_move(image) or not (change.old is None or change.image_changes):
        return

    pinned = pinned_image(change.running) if change.running.image == image else None
    advice = f"pin what runs now: {pinned}" if pinned else "pin a release, such as v0.29.0, or a digest"
    yield warning("spec.image", f"image {quote_value(image)} may be a different one at each restart; {advice}")


def pod_template_can_be_merged(change: Change, _facts: Facts) -> Iterator[Finding]:
    yield from change.pod_conflicts


def shortcuts_can_be_merged(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Rejects what nothing could follow to its end; `sections_are_accepted` says the same in a review."""
    for section in SECTIONS:
        if section.attribute in _NESTED_SHORTCUTS and is_too_deep(section.value(change.spec)):
            yield too_deep(section)


def pull_secrets_have_distinct_names(change: Change, _facts: Facts) -> Iterator[Finding]:
    path, names = "spec.imagePullSecrets", [secret.name for secret in change.spec.image_pull_secrets or ()]
    for name, count in Counter(names).items():
        if count > 1:
            yield rejection(path, f"{field_name(path)} has {count} entries named {quote_value(name)}; keep one of them")


def sections_are_accepted(change: Change, facts: Facts) -> Iterator[Finding]:
    yield from section_findings(change.spec, change.sections, facts.dry_run)


def named_objects_exist(change: Change, facts: Facts) -> Iterator[Finding]:
    unasked = Unknown("it was not looked up")
    for named in change.objects:
        if named.reference.kind == PULL_SECRET:
            yield from object_findings(named, facts.secrets.get(named.reference.name, unasked))
        else:
            yield from object_findings(named, facts.objects.get(named.reference, unasked))
