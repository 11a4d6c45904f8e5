"""Rules about S3 and the shares of a DittoServer."""

from collections import Counter
from collections.abc import Iterator

from app.storage.change import Change
from app.storage.facts import Facts
from app.storage.finding import Finding, rejection, warning
from app.storage.object_references import SERVICE_ACCOUNT_PATH
from app.storage.pod import SERVICE_ACCOUNT_FIELDS
from app.storage.pod_conflicts import template_variables
from app.storage.reading import field_name
from app.storage.secret_references import (
    S3_PATH,
)
from app.storage.server_health import Family
from app.storage.shares import S3_NEEDS, store_of
from app.storage.spec import S3

# It cannot create a client then: the SDK of AWS refuses to add CAs to the HTTP client that the server brings along.
_CA_BUNDLE = "AWS_CA_BUNDLE"
_NO_S3 = S3()


def shares_have_distinct_names(change: Change, _facts: Facts) -> Iterator[Finding]:
    names = [share.name for share in change.spec.shares or ()]
    for name, count in Counter(names).items():
        if count > 1:
            yield rejection("spec.shares", f'shares has {count} entries named "{name}"; give each a name of its own')


def shares_have_a_store(change: Change, _facts: Facts) -> Iterator[Finding]:
    s3, is_unreadable = change.spec.s3, any(error.path.startswith("spec.s") for error in change.new.errors)
    if is_unreadable:
        return

    for share in change.spec.shares or ():
        store = store_of(share, change.spec)
        if store == "s3" and not (s3.bucket and (s3.credentials_secret_ref or s3.service_account_name)):
            yield rejection("spec.shares", f'share "{share.name}" in s3 needs {S3_NEEDS}')
        if store == "local" and not change.spec.storage.content_size:
            yield rejection("spec.shares", f'share "{share.name}" in a local store needs storage.contentSize')


def s3_credentials_have_a_bucket(change: Change, _facts: Facts) -> Iterator[Finding]:
    s3 = change.spec.s3
    if s3.bucket or not s3.credentials_secret_ref:
        return

    old = change.old.spec.s3 if change.old and not change.image_changes else _NO_S3
    is_as_before = not old.bucket and old.credentials_secret_ref == s3.credentials_secret_ref
    if not is_as_before and change.family == Family.CURRENT:
        problem = f"{field_name(S3_PATH)} has no effect without s3.bucket on DittoFS 0.13 or newer"
        yield warning(S3_PATH, f"{problem}; set s3.bucket")


def service_accounts_agree(change: Change, _facts: Facts) -> Iterator[Finding]:
    name, template = change.spec.s3.service_account_name, change.spec.pod_template
    if not name or template is None or not template.spec:
        return

    patch = template.spec
    for field in SERVICE_ACCOUNT_FIELDS:
        if patch.get(field) not in (None, name):
            path = f"spec.podTemplate.spec.{field}"
            yield rejection(path, f'{field_name(path)} must not differ from s3.serviceAccountName "{name}"; remove one')


def service_accounts_give_credentials(change: Change, _facts: Facts) -> Iterator[Finding]:
    s3 = change.spec.s3
    if not s3.service_account_name:
        return

    old = change.old.spec.s3 if change.old and not change.image_changes else _NO_S3
    is_as_before = bool(old.service_account_name) and bool(old.credentials_secret_ref) == bool(
        s3.credentials_secret_ref
    )
    if is_as_before:
        return

    field = field_name(SERVICE_ACCOUNT_PATH)
    if s3.credentials_secret_ref:
        yield warning(SERVICE_ACCOUNT_PATH, f"{field} gives no credentials: the keys of s3.credentialsSecretRef win")
    elif change.family == Family.CURRENT:
        problem = f"{field} gives DittoFS 0.13 or newer no S3 credentials"
        yield warning(SERVICE_ACCOUNT_PATH, f"{problem}; set s3.credentialsSecretRef")


def ca_bundles_leave_s3_reachable(change: Change, _facts: Facts) -> Iterator[Finding]:
    if change.spec.pod_template is None or change.family != Family.CURRENT:
        return
    if _CA_BUNDLE not in template_variables(change.spec):
        return

    if change.old is None or change.image_changes or _CA_BUNDLE not in template_variables(change.old.spec):
        problem = f"DittoFS 0.13 or newer reaches no S3 with {_CA_BUNDLE} set in podTemplate"
        yield warning("spec.podTemplate.spec.containers", f"{problem}; use s3.caSecretRef instead")


def session_tokens_have_an_effect(change: Change, _facts: Facts) -> Iterator[Finding]:
    credentials, old = (
        change.spec.s3.credentials_secret_ref,
        change.old.spec.s3.credentials_secret_ref if change.old else None,
    )
    if not credentials or not credentials.session_token_key or change.family != Family.CURRENT:
        return

    if change.image_changes or not (old and old.session_token_key):
        path = f"{S3_PATH}.sessionTokenKey"
        yield warning(path, f"{field_name(path)} has no effect on DittoFS 0.13 or newer; use keys that need no token")
