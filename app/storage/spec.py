"""A DittoServer as the rules read it: types, defaults, bounds. The CustomResourceDefinition is made from it."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from app.storage import quantity

GROUP = "dittofs.dittofs.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DittoServer"
PLURAL = "dittoservers"

INT32_MAX = 2**31 - 1
MOST_ANNOTATIONS = 256


@dataclass(frozen=True)
class Within:
    """An int32 from `low` to `high`; one message says both bounds, where pydantic's own says only the one crossed."""

    low: int
    high: int = INT32_MAX

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: int) -> int:
        if not self.low <= value <= self.high:
            raise _error("bounds", f"must be between {self.low} and {self.high}, not {value}")
        return value

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema["schema"]), "format": "int32", "minimum": self.low, "maximum": self.high}


def _error(kind: str, message: str) -> PydanticCustomError:
    """The message is a value and never the template, in which pydantic would replace whatever is in braces."""
    return PydanticCustomError(kind, "{message}", {"message": message})


def _checked_size(value: str) -> str:
    if not re.fullmatch(quantity.SIZE_PATTERN, value):
        raise _error("size", f'must match {quantity.SIZE_PATTERN}, such as 10Gi, not "{value[:40]}"')
    if quantity.parse(value) == 0:
        raise _error("size", f'must be more than zero, not "{value[:40]}"')
    return value


def _few(value: Any) -> Any:
    """Before the entries are looked at: a flood of wrong ones would be a flood of errors."""
    if isinstance(value, dict) and len(value) > MOST_ANNOTATIONS:
        raise _error("entries", f"must have at most {MOST_ANNOTATIONS} entries")
    return value


def _without_nulls(value: Any) -> Any:
    """The API server drops a null where the schema knows none, before it fills in defaults."""
    if isinstance(value, dict) and None in value.values():
        return {k: v for k, v in value.items() if v is not None}
    return value


Port = Annotated[int, Within(1, 65535)]
Credits = Annotated[int, Within(1)]
Name = Annotated[str, Field(max_length=253)]
KeyName = Annotated[str, Field(min_length=1, max_length=253)]
Word = Annotated[str, Field(max_length=64)]
Path = Annotated[str, Field(max_length=4096)]
Image = Annotated[str, Field(max_length=1024)]
_SIZE_SCHEMA: dict[str, Any] = {
    "pattern": quantity.SIZE_PATTERN,
    "x-kubernetes-validations": [{"rule": "!self.matches('^0+[A-Z]')", "message": "must be more than zero"}],
}
Size = Annotated[str, Field(max_length=20, json_schema_extra=_SIZE_SCHEMA), AfterValidator(_checked_size)]
Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=65536)]],
    Field(max_length=MOST_ANNOTATIONS),
    BeforeValidator(_few),
    BeforeValidator(_without_nulls),
]
# Types of core/v1 that go into the pod as they were given; `sections` tells whether the API server accepts them.
Verbatim = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return _without_nulls(value)


class SecretKey(Model):
    """One key of a Secret in the server's namespace."""

    name: Name | None = None
    """The Secret's name."""
    key: KeyName
    """The key in it."""
    optional: bool | None = None
    """Whether the Secret or its key may be absent."""


class Storage(Model):
    """The volumes of the server; each becomes a claim that outlives it."""

    model_config = ConfigDict(json_schema_extra={"required": ["metadataSize", "cacheSize"]})

    metadata_size: Size | None = None
    """Size of the volume for metadata and the control plane's database, such as 10Gi."""
    content_size: Size | None = None
    """Size of the volume for content; without it there is no such volume, as with content in S3."""
    cache_size: Size = "5Gi"
    """Size of the volume for the cache, such as 5Gi."""
    storage_class_name: Name | None = None
    """StorageClass of all volumes; without it the cluster's default class, empty for volumes bound by hand."""


class Sqlite(Model):
    path: Path = "/data/controlplane/controlplane.db"
    """The database file."""


class Database(Model):
    """Where users, shares and stores are kept."""

    type: Literal["sqlite", "postgres"] = "sqlite"
    """sqlite or postgres."""
    sqlite: Sqlite | None = None
    """The SQLite database."""
    postgres_secret_ref: SecretKey | None = None
    """The key that holds a PostgreSQL connection string; wins over SQLite."""


class Cache(Model):
    """The server's cache on the cache volume."""

    path: Path = "/data/cache"
    """The cache's folder."""
    size: Word = "1GB"
    """How much the cache may hold, as DittoFS writes sizes."""


class Metrics(Model):
    """Prometheus metrics of the server."""

    enabled: bool = False
    """Whether they are served."""
    port: Port = 9090
    """The port they are served on."""


class ControlPlane(Model):
    """The server's API."""

    port: Port = 8080
    """The port of the API."""


class Jwt(Model):
    """Tokens of the API."""

    secret_ref: SecretKey
    """The key that holds the signing secret, of 32 characters or more."""
    access_token_duration: Word = "15m"
    """How long an access token is valid."""
    refresh_token_duration: Word = "168h"
    """How long a refresh token is valid."""
    issuer: Name = "dittofs"
    """The issuer named in tokens."""


class Admin(Model):
    """The first administrator."""

    username: Name = "admin"
    """The name to log in with."""
    password_secret_ref: SecretKey | None = None
    """The key that holds the first password; without it one is generated."""


class Identity(Model):
    """Who may use the server."""

    type: Literal["memory"] = "memory"
    """memory."""
    jwt: Jwt | None = None
    """Tokens of the API; without it a signing secret is generated."""
    admin: Admin | None = None
    """The first administrator."""


class Service(Model):
    """The Services for files and the API."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """ClusterIP, NodePort or LoadBalancer."""
    annotations: Annotations | None = None
    """Annotations of those Services."""


class Timeouts(Model):
    """Timeouts of SMB connections."""

    read: Word = "5m"
    """Longest wait for a request."""
    write: Word = "30s"
    """Longest wait for an answer to be taken."""
    idle: Word = "5m"
    """Longest silence of a connection."""
    shutdown: Word = "30s"
    """Longest wait for connections to end when the server stops."""


class SmbCredits(Model):
    """SMB flow control."""

    strategy: Literal["fixed", "echo", "adaptive"] = "adaptive"
    """fixed, echo or adaptive."""
    min_grant: Credits = 16
    """Fewest credits granted at once."""
    max_grant: Credits = 8192
    """Most credits granted at once."""
    initial_grant: Credits = 256
    """Credits granted to a new session."""
    max_session_credits: Credits = 65535
    """Most credits a session may hold."""
    load_threshold_high: Credits = 1000
    """Requests in flight from which fewer credits are granted."""
    load_threshold_low: Credits = 100
    """Requests in flight below which more credits are granted."""
    aggressive_client_threshold: Credits = 256
    """Requests in flight of one client from which it is slowed down."""


class Smb(Model):
    """Serving SMB."""

    enabled: bool = False
    """Whether SMB is served."""
    port: Port = 445
    """The Service's port for SMB."""
    max_connections: Annotated[int, Within(0)] = 0
    """Most connections at once, 0 for no limit."""
    max_requests_per_connection: Annotated[int, Within(1)] = 100
    """Most requests at once on a connection."""
    timeouts: Timeouts | None = None
    """Timeouts of connections."""
    credits: SmbCredits | None = None
    """Flow control."""
    metrics_log_interval: Word = "5m"
    """How often figures are logged."""


class S3Credentials(Model):
    """A Secret in the server's namespace with credentials for S3."""

    secret_name: KeyName
    """The Secret's name."""
    access_key_id_key: KeyName = "accessKeyId"
    """The key with the access key ID."""
    secret_access_key_key: KeyName = "secretAccessKey"
    """The key with the secret access key."""
    endpoint_key: KeyName = "endpoint"
    """The key with the endpoint's URL; it may be absent from the Secret."""


class S3(Model):
    """Content in S3."""

    credentials_secret_ref: S3Credentials | None = None
    """Where the credentials are."""
    region: Word = "eu-west-1"
    """The region."""
    bucket: Name | None = None
    """The bucket, for information."""


class Spec(Model):
    """What the server should be."""

    model_config = ConfigDict(json_schema_extra={"required": ["storage"]})

    image: Image = "marmos91c/dittofs:latest"
    """The container image of the server."""
    replicas: Annotated[int, Within(0, 1)] = 1
    """1, or 0 to stop the server and keep its data."""
    storage: Storage = Field(default_factory=Storage)
    """The volumes."""
    database: Database | None = None
    """Where users, shares and stores are kept."""
    cache: Cache | None = None
    """The server's cache on the cache volume."""
    metrics: Metrics | None = None
    """Prometheus metrics of the server."""
    control_plane: ControlPlane | None = None
    """The server's API."""
    identity: Identity | None = None
    """Who may use the server."""
    service: Service | None = None
    """The Services for files and the API."""
    nfs_port: Port = 2049
    """The Service's port for NFS."""
    smb: Smb | None = None
    """Serving SMB."""
    s3: S3 | None = None
    """Content in S3."""
    resources: Verbatim | None = None
    """Resources of the container (core/v1 ResourceRequirements)."""
    security_context: Verbatim | None = None
    """Security context of the container (core/v1 SecurityContext)."""
    pod_security_context: Verbatim | None = None
    """Security context of the pod (core/v1 PodSecurityContext)."""


# What a section is that was left out.
DEFAULT_ADMIN, DEFAULT_CACHE, DEFAULT_CONTROL_PLANE, DEFAULT_IDENTITY = Admin(), Cache(), ControlPlane(), Identity()
DEFAULT_METRICS, DEFAULT_SERVICE, DEFAULT_SMB, DEFAULT_SQLITE = Metrics(), Service(), Smb(), Sqlite()


class Metadata(Model):
    name: str = ""
    generate_name: str = ""
    namespace: str = "default"
    deletion_timestamp: str | None = None


class DittoServer(Model):
    metadata: Metadata = Metadata()
    spec: Spec = Spec()
