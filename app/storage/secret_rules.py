"""Rules about the Secrets that a DittoServer names."""

from collections.abc import Iterator

from app.storage.change import Change
from app.storage.facts import Facts, Unknown
from app.storage.finding import Finding, quote_value, rejection, warning
from app.storage.names import (
    is_secret_key,
    is_subdomain,
)
from app.storage.reading import field_name
from app.storage.secret_references import (
    S3_PATH,
    overwritten_references,
    secret_findings,
)


def secrets_can_exist(change: Change, _facts: Facts) -> Iterator[Finding]:
    """Rejects names and keys that no Secret can have: the API server takes no pod that names one."""
    old = {reference.path: reference for reference in (change.old_references if change.references else ())}

    for reference in change.references:
        before = old.get(reference.path)

        name = reference.secret
        if name and not is_subdomain(name) and not (before and before.secret == name):
            problem = f"{reference.title} Secret {quote_value(name)} cannot exist by that name"
            yield rejection(reference.path, f"{problem}; use lower-case letters, digits, dashes and dots")

        impossible = {key.name for key in reference.keys if not is_secret_key(key.name)}
        for key in sorted(impossible.difference(key.name for key in before.keys) if before else impossible):
            problem = f"{reference.title} Secret cannot have a key {quote_value(key)}"
            yield rejection(reference.path, f"{problem}; use letters, digits, dashes, underscores and dots")


def secrets_have_usable_keys(change: Change, facts: Facts) -> Iterator[Finding]:
    for reference in change.references:
        if not reference.secret:
            yield warning(reference.path, f"{field_name(reference.path)}.name is not set; there is no Secret to read")
        else:
            secret = facts.secrets.get(reference.secret, Unknown("it was not looked up"))
            yield from secret_findings(reference, secret)


def secrets_are_not_overwritten(change: Change, _facts: Facts) -> Iterator[Finding]:
    # The CRD has no such rule: it must accept servers of the Go operator, which read the connection string where it is.
    for reference in overwritten_references(change.name, change.spec):
        path = f"{reference.path}.{'secretName' if reference.path == S3_PATH else 'name'}"
        reason = "the operator writes the parts of the connection string into that Secret; give yours another name"
        yield rejection(path, f'{field_name(path)} must not be "{reference.secret}": {reason}')


def database_type_and_secret_agree(change: Change, _facts: Facts) -> Iterator[Finding]:
    database = change.spec.database
    path = "spec.database.postgresSecretRef"

    if database.postgres_secret_ref and database.type == "sqlite":
        problem = f"{field_name(path)} is set but database.type is 'sqlite'"
        yield warning(path, f"{problem} - PostgreSQL will take precedence")
    if not database.postgres_secret_ref and database.type == "postgres":
        yield warning(path, f"database.type is 'postgres' but {field_name(path)} is not set; name the Secret")
