"""The Secrets that a DittoServer names or gets generated, and the findings about them, such as a missing key."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from app.storage.facts import MIN_JWT_SECRET_CHARACTERS, Secret, Trait, Unknown
from app.storage.finding import Finding, rejection, warning
from app.storage.spec import SecretKey, Spec

S3_PATH = "spec.s3.credentialsSecretRef"
S3_CA_PATH = "spec.s3.caSecretRef"
JWT_PATH = "spec.identity.jwt.secretRef"
PASSWORD_PATH = "spec.identity.admin.passwordSecretRef"  # noqa: S105 - a path
POSTGRES_PATH = "spec.database.postgresSecretRef"

# Keys of the generated Secrets.
JWT_KEY = "jwt-secret"
USERNAME_KEY, PASSWORD_KEY = "username", "password"
# The server's first administrator, whatever the configuration says.
ADMIN = "admin"
POSTGRES_KEYS = ("host", "port", "database", "user", "password", "sslmode")

_COMPLAINTS = {Trait.EMPTY: "is empty", Trait.PADDED: "has white space around its value"}
_S3_COMPLAINTS = _COMPLAINTS | {
    Trait.UNSENDABLE: "has characters that no HTTP header can carry; "
    "look for a line break, a byte order mark or a space inside it"
}
_ENDPOINT_COMPLAINTS = _S3_COMPLAINTS | {
    Trait.NOT_A_URL: "is not a URL that starts with https:// or http://",
    Trait.PLAIN_HTTP: "is plain http; data travels unencrypted",
}
# The operator hands an endpoint to a server only along with a bucket; from its environment the server asks otherwise.
_LONE_ENDPOINT_COMPLAINTS = _ENDPOINT_COMPLAINTS | {
    Trait.HOST_NAME: "has a host name; without s3.bucket the server sends its requests to BUCKET.HOST"
}
_JWT_COMPLAINTS = _COMPLAINTS | {
    Trait.SHORT: f"has fewer than {MIN_JWT_SECRET_CHARACTERS} characters; the server will not start"
}
_CA_COMPLAINTS = {
    Trait.EMPTY: "is empty",
    Trait.NO_CERTIFICATE: "has no certificate in PEM (-----BEGIN CERTIFICATE-----) in it",
}
_PASSWORD_COMPLAINTS = _COMPLAINTS | {Trait.BCRYPT: "looks like a bcrypt hash; the server expects the password itself"}

# One cause is one warning: an empty value is no URL either, nor is one that begins with a byte order mark.
_HIDDEN_TRAITS = {Trait.EMPTY: {*Trait} - {Trait.EMPTY}, Trait.UNSENDABLE: {Trait.NOT_A_URL, Trait.HOST_NAME}}

# With such a value the server does not start, or starts without the CA that it has trusted so far.
_FATAL_TRAITS = {Trait.EMPTY, Trait.SHORT, Trait.NO_CERTIFICATE}


class ReferencedKey(NamedTuple):
    """A key that the server reads; `complaints` are the traits of its value that are worth a warning, worst first."""

    name: str
    complaints: Mapping[Trait, str]
    optional: bool = False


class SecretReference(NamedTuple):
    """`secret` is None when the reference names no Secret; `optional` says that the Secret itself may be absent."""

    path: str
    title: str
    secret: str | None
    keys: tuple[ReferencedKey, ...]
    optional: bool = False


def secret_references(spec: Spec) -> tuple[SecretReference, ...]:
    """Returns every Secret that the spec names, S3 first."""
    references = []
    if s3 := spec.s3.credentials_secret_ref:
        endpoint_complaints = _ENDPOINT_COMPLAINTS if spec.s3.bucket else _LONE_ENDPOINT_COMPLAINTS
        keys = (
            ReferencedKey(s3.access_key_id_key, _S3_COMPLAINTS),
            ReferencedKey(s3.secret_access_key_key, _S3_COMPLAINTS),
            ReferencedKey(s3.endpoint_key, endpoint_complaints, optional=True),
            *([ReferencedKey(s3.session_token_key, _S3_COMPLAINTS)] if s3.session_token_key else ()),
        )
        references.append(SecretReference(S3_PATH, "S3 credentials", s3.secret_name, keys))

    if ca := spec.s3.ca_secret_ref:
        keys_of_ca = (ReferencedKey(ca.key, _CA_COMPLAINTS),)
        references.append(SecretReference(S3_CA_PATH, "S3 CA", ca.name, keys_of_ca))
    if jwt := spec.identity.jwt:
        references.append(_reference(JWT_PATH, "JWT", jwt.secret_ref, _JWT_COMPLAINTS))
    if password := spec.identity.admin.password_secret_ref:
        references.append(_reference(PASSWORD_PATH, "admin password", password, _PASSWORD_COMPLAINTS))
    if dsn := spec.database.postgres_secret_ref:
        references.append(_reference(POSTGRES_PATH, "Postgres", dsn, _COMPLAINTS))
    return tuple(references)


def _reference(path: str, title: str, key: SecretKey, complaints: Mapping[Trait, str]) -> SecretReference:
    optional = bool(key.optional)
    return SecretReference(path, title, key.name, (ReferencedKey(key.key, complaints, optional),), optional)


def generated_references(name: str, spec: Spec) -> tuple[SecretReference, ...]:
    """Returns the Secrets that are generated for a server because its spec names none."""
    # A reference without the name of a Secret names none.
    named = {reference.path for reference in secret_references(spec) if reference.secret}
    jwt, password = ReferencedKey(JWT_KEY, _JWT_COMPLAINTS), ReferencedKey(PASSWORD_KEY, _PASSWORD_COMPLAINTS)

    # These are no models of the spec: the name of a server that is about to be rejected can be of any length.
    generated = (
        SecretReference(JWT_PATH, "JWT", jwt_secret_name(name), (jwt,)),
        SecretReference(PASSWORD_PATH, "admin password", admin_secret_name(name), (password,)),
    )
    return tuple(reference for reference in generated if reference.path not in named)


def consumed_references(name: str, spec: Spec) -> tuple[SecretReference, ...]:
    """Returns every Secret whose values the server's pod gets, named or generated."""
    generated = generated_references(name, spec)
    replaced = {reference.path for reference in generated}
    return (*(reference for reference in secret_references(spec) if reference.path not in replaced), *generated)


def pod_secret_names(name: str, spec: Spec) -> set[str]:
    """Returns the Secrets whose values the server's pod gets, or got before the spec named others."""
    references = (*consumed_references(name, spec), *generated_references(name, spec))
    return {reference.secret for reference in references if reference.secret} | {postgres_secret_name(name)}


def harmless_keys(name: str, spec: Spec, secret: str) -> set[str]:
    """Returns the keys of a Secret whose values need no masking, such as the name of a user, which logs repeat."""
    keys = set()
    if secret == postgres_secret_name(name):
        keys |= {*POSTGRES_KEYS} - {PASSWORD_KEY}
    if secret in [reference.secret for reference in generated_references(name, spec)]:
        keys.add(USERNAME_KEY)

    credentials = spec.s3.credentials_secret_ref
    if credentials and secret == credentials.secret_name:
        keys.add(credentials.endpoint_key)
    return keys


def jwt_secret_name(server: str) -> str:
    return f"{server}-jwt-secret"


def admin_secret_name(server: str) -> str:
    return f"{server}-admin-bootstrap-credentials"


def postgres_secret_name(server: str) -> str:
    return f"{server}-postgres"


def overwritten_references(name: str, spec: Spec) -> list[SecretReference]:
    """Returns the references to keys that the Secret with the parts of the connection string can never have."""
    references = secret_references(spec)
    is_written = name and any(reference.path == POSTGRES_PATH and reference.secret for reference in references)
    if not is_written:
        return []

    return [
        reference
        for reference in references
        if reference.secret == postgres_secret_name(name)
        and (
            reference.path == POSTGRES_PATH
            or any(key.name not in POSTGRES_KEYS for key in reference.keys if not key.optional)
        )
    ]


def secret_findings(reference: SecretReference, secret: Secret | Unknown | None) -> Iterator[Finding]:
    """Warns about a Secret, and about keys that are missing or have bad values; None stands for a missing Secret."""
    if isinstance(secret, Unknown):
        yield warning(reference.path, f"Could not verify {_title(reference)}: {secret.why}")
    elif secret is not None and secret.terminating:
        yield warning(reference.path, f"{_title(reference)} is being deleted; create it again once it is gone")
    elif secret is not None:
        yield from _key_findings(reference, secret)
    elif not reference.optional:
        yield warning(reference.path, f"{_title(reference)} not found; ensure it exists before DittoFS pod starts")


def why_not_usable(reference: SecretReference, secret: Secret | Unknown | None) -> Finding | None:
    """Returns what keeps a pod from starting with this Secret, such as half of a rotation; None when nothing does."""
    if not reference.secret:
        return rejection(reference.path, f"{reference.title} Secret is not named; set name in {reference.path}")

    if secret is None and reference.optional:
        return None

    if not isinstance(secret, Secret) or secret.terminating:
        return next(secret_findings(reference, secret))

    # This is laxer than secret_findings: white space may well be part of a password.
    keys = (
        key._replace(complaints={trait: text for trait, text in key.complaints.items() if trait in _FATAL_TRAITS})
        for key in reference.keys
    )
    return next(_key_findings(reference._replace(keys=tuple(keys)), secret), None)


def _key_findings(reference: SecretReference, secret: Secret) -> Iterator[Finding]:
    for key in reference.keys:
        traits = secret.keys.get(key.name)
        if traits is None:
            if not key.optional:
                yield warning(reference.path, f'{_title(reference)} missing key "{key.name}"')
            continue

        if traits.isdisjoint(key.complaints):
            continue

        for trait, hidden in _HIDDEN_TRAITS.items():
            if trait in traits and trait in key.complaints:
                traits -= hidden
                break

        for trait, complaint in key.complaints.items():
            if trait in traits:
                yield warning(reference.path, f'{_title(reference)} key "{key.name}" {complaint}')


def _title(reference: SecretReference) -> str:
    return f'{reference.title} Secret "{reference.secret}"'
