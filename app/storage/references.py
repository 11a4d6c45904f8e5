"""The Secrets that a DittoServer names, and what is wrong with them. Only warnings: a Secret may still come."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.storage.facts import JWT_SECRET_CHARACTERS, Secret, Trait, Unknown
from app.storage.finding import Finding, warning
from app.storage.spec import S3Credentials, SecretKey, Spec

_COMPLAINTS = {
    Trait.EMPTY: "is empty",
    Trait.PADDED: "has white space around its value",
}
_ENDPOINT_COMPLAINTS = {
    **_COMPLAINTS,
    Trait.NOT_A_URL: "is not a URL that starts with https:// or http://",
    Trait.PLAIN_HTTP: "is plain http; data travels unencrypted",
}
_JWT_COMPLAINTS = {
    **_COMPLAINTS,
    Trait.SHORT: f"has fewer than {JWT_SECRET_CHARACTERS} characters; the server will not start",
}
_PASSWORD_COMPLAINTS = {
    **_COMPLAINTS,
    Trait.BCRYPT: "looks like a bcrypt hash; the server expects the password itself",
}


@dataclass(frozen=True)
class Key:
    """A key that the server reads; `complaints` are the traits of its value that are worth a warning, worst first."""

    name: str
    complaints: Mapping[Trait, str]
    optional: bool = False


@dataclass(frozen=True)
class SecretReference:
    """`secret` is None when the reference names no Secret; `optional` says that the Secret itself may be absent."""

    path: str
    title: str
    secret: str | None
    keys: tuple[Key, ...]
    optional: bool = False


def secret_references(spec: Spec) -> tuple[SecretReference, ...]:
    """Every Secret that the spec names, S3 first."""
    s3 = spec.s3 and spec.s3.credentials_secret_ref
    identity = spec.identity
    jwt = identity and identity.jwt and identity.jwt.secret_ref
    password = identity and identity.admin and identity.admin.password_secret_ref
    dsn = spec.database and spec.database.postgres_secret_ref
    found = (
        s3 and _s3_reference(s3),
        jwt and _reference("spec.identity.jwt.secretRef", "JWT", jwt, _JWT_COMPLAINTS),
        password
        and _reference("spec.identity.admin.passwordSecretRef", "admin password", password, _PASSWORD_COMPLAINTS),
        dsn and _reference("spec.database.postgresSecretRef", "Postgres", dsn, _COMPLAINTS),
    )
    return tuple(reference for reference in found if reference)


def judge_secret(reference: SecretReference, secret: Secret | Unknown | None) -> Iterator[Finding]:
    """What a look-up of the Secret gave; None when it does not exist."""
    title = f'{reference.title} Secret "{reference.secret}"'
    if isinstance(secret, Unknown):
        yield warning(reference.path, f"Could not verify {title}: {secret.why}")
    elif secret is not None:
        yield from _judge_keys(reference, title, secret)
    elif not reference.optional:
        yield warning(reference.path, f"{title} not found; ensure it exists before DittoFS pod starts")


def _judge_keys(reference: SecretReference, title: str, secret: Secret) -> Iterator[Finding]:
    for key in reference.keys:
        if key.name not in secret.keys:
            if not key.optional:
                yield warning(reference.path, f'{title} missing key "{key.name}"')
            continue
        traits = secret.keys[key.name]
        complaints = [text for trait, text in key.complaints.items() if trait in traits]
        for complaint in complaints[:1] if Trait.EMPTY in traits else complaints:
            yield warning(reference.path, f'{title} key "{key.name}" {complaint}')


def _s3_reference(reference: S3Credentials) -> SecretReference:
    keys = (
        Key(reference.access_key_id_key, _COMPLAINTS),
        Key(reference.secret_access_key_key, _COMPLAINTS),
        Key(reference.endpoint_key, _ENDPOINT_COMPLAINTS, optional=True),
    )
    return SecretReference("spec.s3.credentialsSecretRef", "S3 credentials", reference.secret_name, keys)


def _reference(path: str, title: str, given: SecretKey, complaints: Mapping[Trait, str]) -> SecretReference:
    optional = bool(given.optional)
    return SecretReference(path, title, given.name, (Key(given.key, complaints, optional),), optional)
