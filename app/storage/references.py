"""The Secrets that a DittoServer names or is given, and what is wrong with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from app.storage.facts import JWT_SECRET_CHARACTERS, Secret, Trait, Unknown
from app.storage.finding import Finding, rejection, warning
from app.storage.spec import S3Credentials, SecretKey, Spec

S3_PATH = "spec.s3.credentialsSecretRef"
JWT_PATH = "spec.identity.jwt.secretRef"
PASSWORD_PATH = "spec.identity.admin.passwordSecretRef"  # noqa: S105 - a path
POSTGRES_PATH = "spec.database.postgresSecretRef"

# Keys of the generated Secrets.
JWT_KEY = "jwt-secret"
USERNAME_KEY, PASSWORD_KEY = "username", "password"
POSTGRES_KEYS = ("host", "port", "database", "user", "password", "sslmode")

_COMPLAINTS = {
    Trait.EMPTY: "is empty",
    Trait.PADDED: "has white space around its value",
}
_S3_COMPLAINTS = {
    **_COMPLAINTS,
    Trait.UNSENDABLE: "has characters that no HTTP header can carry; "
    "look for a line break, a byte order mark or a space inside it",
}
_ENDPOINT_COMPLAINTS = {
    **_S3_COMPLAINTS,
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
# What a trait explains, and is not reported beside it.
_HIDDEN = {Trait.EMPTY: ~Trait.EMPTY, Trait.UNSENDABLE: Trait.NOT_A_URL}


@dataclass(frozen=True)
class ReferencedKey:
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
    keys: tuple[ReferencedKey, ...]
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
        jwt and _reference(JWT_PATH, "JWT", jwt, _JWT_COMPLAINTS),
        password and _reference(PASSWORD_PATH, "admin password", password, _PASSWORD_COMPLAINTS),
        dsn and _reference(POSTGRES_PATH, "Postgres", dsn, _COMPLAINTS),
    )
    return tuple(reference for reference in found if reference)


def generated_references(name: str, spec: Spec) -> tuple[SecretReference, ...]:
    """The Secrets that are made for a server because its spec names none; a reference without a name names none."""
    named = {reference.path for reference in secret_references(spec) if reference.secret}
    jwt, password = ReferencedKey(JWT_KEY, _JWT_COMPLAINTS), ReferencedKey(PASSWORD_KEY, _PASSWORD_COMPLAINTS)
    # No model of what a user writes: the name of a server that is about to be rejected can be of any length.
    made = (
        SecretReference(JWT_PATH, "JWT", jwt_secret_name(name), (jwt,)),
        SecretReference(PASSWORD_PATH, "admin password", admin_secret_name(name), (password,)),
    )
    return tuple(reference for reference in made if reference.path not in named)


def consumed_references(name: str, spec: Spec) -> tuple[SecretReference, ...]:
    """Every Secret whose values the server's pod gets, named or generated."""
    generated = generated_references(name, spec)
    replaced = {reference.path for reference in generated}
    return (*(each for each in secret_references(spec) if each.path not in replaced), *generated)


def jwt_secret_name(server: str) -> str:
    return f"{server}-jwt-secret"


def admin_secret_name(server: str) -> str:
    return f"{server}-admin-bootstrap-credentials"


def postgres_secret_name(server: str) -> str:
    return f"{server}-postgres"


def overwritten_references(name: str, spec: Spec) -> list[SecretReference]:
    """The references to the Secret into which the operator writes the parts of the connection string.

    They can never be satisfied. Only one of those parts itself can be read from there, such as the password.
    """
    references = secret_references(spec)
    is_written = name and any(reference.path == POSTGRES_PATH and reference.secret for reference in references)
    if not is_written:
        return []

    there = [reference for reference in references if reference.secret == postgres_secret_name(name)]
    return [reference for reference in there if reference.path == POSTGRES_PATH or not _reads_parts(reference)]


def _reads_parts(reference: SecretReference) -> bool:
    return all(key.name in POSTGRES_KEYS for key in reference.keys if not key.optional)


def judge_secret(reference: SecretReference, secret: Secret | Unknown | None) -> Iterator[Finding]:
    """What a look-up of the Secret gave; None when it does not exist."""
    title = f'{reference.title} Secret "{reference.secret}"'
    if isinstance(secret, Unknown):
        yield warning(reference.path, f"Could not verify {title}: {secret.why}")
    elif secret is not None and secret.terminating:
        yield warning(reference.path, f"{title} is being deleted; create it again once it is gone")
    elif secret is not None:
        yield from _judge_keys(reference, title, secret)
    elif not reference.optional:
        yield warning(reference.path, f"{title} not found; ensure it exists before DittoFS pod starts")


def unusable(reference: SecretReference, secret: Secret | Unknown | None) -> Finding | None:
    """What keeps a pod from being started with this Secret, if anything does: half of a rotation, for one.

    Laxer than judge_secret: white space may well be part of a password.
    """
    if not reference.secret:
        return rejection(reference.path, f"{reference.title} Secret is not named; set name in {reference.path}")
    if secret is None and reference.optional:
        return None
    if not isinstance(secret, Secret) or secret.terminating:
        [finding] = judge_secret(reference, secret)
        return finding
    fatal = {Trait.EMPTY, Trait.SHORT}
    keys = tuple(
        ReferencedKey(key.name, {trait: text for trait, text in key.complaints.items() if trait in fatal}, key.optional)
        for key in reference.keys
    )
    return next(
        _judge_keys(replace(reference, keys=keys), f'{reference.title} Secret "{reference.secret}"', secret), None
    )


def _judge_keys(reference: SecretReference, title: str, secret: Secret) -> Iterator[Finding]:
    for key in reference.keys:
        if key.name not in secret.keys:
            if not key.optional:
                yield warning(reference.path, f'{title} missing key "{key.name}"')
            continue
        traits = secret.keys[key.name]
        # One cause is one warning: an empty value is no URL either, nor is one that begins with a byte order mark.
        hidden = next(
            (hidden for trait, hidden in _HIDDEN.items() if trait in traits and trait in key.complaints), Trait(0)
        )
        for complaint in [text for trait, text in key.complaints.items() if trait in traits & ~hidden]:
            yield warning(reference.path, f'{title} key "{key.name}" {complaint}')


def _s3_reference(reference: S3Credentials) -> SecretReference:
    keys = (
        ReferencedKey(reference.access_key_id_key, _S3_COMPLAINTS),
        ReferencedKey(reference.secret_access_key_key, _S3_COMPLAINTS),
        ReferencedKey(reference.endpoint_key, _ENDPOINT_COMPLAINTS, optional=True),
    )
    return SecretReference(S3_PATH, "S3 credentials", reference.secret_name, keys)


def _reference(path: str, title: str, given: SecretKey, complaints: Mapping[Trait, str]) -> SecretReference:
    optional = bool(given.optional)
    return SecretReference(path, title, given.name, (ReferencedKey(given.key, complaints, optional),), optional)
