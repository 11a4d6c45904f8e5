"""The models of a DittoServer: fields, types, defaults and bounds. The CustomResourceDefinition is made from them."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
)

from app.storage.fields import (
    MAX_LIST_ENTRIES,
    Annotations,
    Credits,
    Image,
    KeyName,
    Labels,
    Model,
    Name,
    ObjectName,
    Path,
    Port,
    Size,
    Verbatim,
    Within,
    Word,
    field_error,
    limit_list,
    section,
)
from app.storage.service_spec import Service

GROUP = "dittofs.dittofs.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DittoServer"
PLURAL = "dittoservers"

MAX_SHARE_NAME_CHARACTERS = 63
SHARE_NAME_PATTERN = "^([a-z0-9]|[a-z0-9][-a-z0-9]*[a-z0-9])$"


class SecretKey(Model):
    """One key of a Secret in the server's namespace."""

    name: Name | None = None
    """The Secret's name."""
    key: KeyName
    """The key in that Secret."""
    optional: bool | None = None
    """Whether the Secret or its key may be absent."""


class DataSource(Model):
    """An object in the server's namespace whose content a new volume starts with."""

    api_group: Name | None = None
    """API group of the object, such as snapshot.storage.k8s.io; leave it out for a PersistentVolumeClaim."""
    kind: Annotated[str, Field(min_length=1, max_length=63)]
    """Kind of the object, such as VolumeSnapshot."""
    name: KeyName
    """Name of the object."""


class VolumeSettings(Model):
    """The PersistentVolumeClaim of one volume."""

    storage_class_name: Name | None = None
    """StorageClass of this volume; storage.storageClassName when left out, empty for a volume bound by hand."""
    labels: Labels | None = None
    """Labels of the claim. Changes are applied to a claim that exists, and no pod restarts."""
    annotations: Annotations | None = None
    """Annotations of the claim. Changes are applied to a claim that exists, and no pod restarts."""
    data_source_ref: DataSource | None = None
    """What a new volume is restored from, such as a VolumeSnapshot; it has no effect on a claim that exists."""


class Storage(Model):
    """The volumes of the server; each becomes a PersistentVolumeClaim that outlives it."""

    model_config = ConfigDict(json_schema_extra={"required": ["metadataSize", "cacheSize"]})

    metadata_size: Size | None = None
    """Size of the volume for metadata and the control plane's database, such as 10Gi. It can only grow."""
    content_size: Size | None = None
    """Size of the volume for content; without it there is none, as with content in S3. Adding it restarts the pod."""
    cache_size: Size = "5Gi"
    """Size of the volume for the cache, such as 5Gi. It can only grow, if its class allows that."""
    storage_class_name: Name | None = None
    """StorageClass of all volumes; the cluster's default class when left out, empty for volumes bound by hand."""
    metadata: VolumeSettings | None = None
    """The claim of the volume for metadata."""
    content: VolumeSettings | None = None
    """The claim of the volume for content; needs contentSize."""
    cache: VolumeSettings | None = None
    """The claim of the volume for the cache."""


class Sqlite(Model):
    path: Path = "/data/controlplane/controlplane.db"
    """The database file, on a volume. A change restarts the pod with another database; nothing is copied."""


class Database(Model):
    """The database of users, shares and stores."""

    type: Literal["sqlite", "postgres"] = "sqlite"
    """sqlite or postgres. What decides is whether postgresSecretRef is set."""
    sqlite: Sqlite = section(Sqlite)
    """The SQLite database."""
    postgres_secret_ref: SecretKey | None = None
    """The key that holds a PostgreSQL connection string; wins over SQLite. A change restarts the pod."""


class Cache(Model):
    """The server's cache on the cache volume."""

    path: Path = "/data/cache"
    """The folder of the cache. A change restarts the pod."""
    size: Word = "1GB"
    """How much the cache may hold, such as 1GB: less than storage.cacheSize. A change restarts the pod."""


class Metrics(Model):
    """Prometheus metrics of the server."""

    enabled: bool = False
    """Whether metrics are served. A change restarts the pod."""
    port: Port = 9090
    """The port of the metrics, in the pod and of the Service. A change restarts the pod."""


class ControlPlane(Model):
    """The server's API."""

    port: Port = 8080
    """The port of the API, in the pod and of the Service. A change restarts the pod."""


class Jwt(Model):
    """Tokens of the API."""

    secret_ref: SecretKey
    """The key that holds the signing secret, of 32 characters or more."""
    access_token_duration: Word = "15m"
    """How long an access token is valid, such as 15m."""
    refresh_token_duration: Word = "168h"
    """How long a refresh token is valid, such as 168h."""
    issuer: Name = "dittofs"
    """The issuer named in tokens."""


class Admin(Model):
    """The first administrator."""

    username: Name = "admin"
    """Has no effect: the first administrator is always called admin. A change restarts the pod all the same."""
    password_secret_ref: SecretKey | None = None
    """The key that holds the first password; when left out, one is generated. A change restarts the pod."""


class Identity(Model):
    """Who may use the server."""

    type: Literal["memory"] = "memory"
    """memory."""
    jwt: Jwt | None = None
    """Tokens of the API; when left out, a signing secret is generated. A change restarts the pod."""
    admin: Admin = section(Admin)
    """The first administrator."""


class Timeouts(Model):
    """Timeouts of SMB connections."""

    read: Word = "5m"
    """How long to wait for a request."""
    write: Word = "30s"
    """How long to wait until a client has received an answer."""
    idle: Word = "5m"
    """How long a connection may be idle."""
    shutdown: Word = "30s"
    """How long to wait for connections to end when the server stops."""


class SmbCredits(Model):
    """SMB flow control."""

    strategy: Literal["fixed", "echo", "adaptive"] = "adaptive"
    """fixed, echo or adaptive."""
    min_grant: Credits = 16
    """Minimum number of credits granted at once."""
    max_grant: Credits = 8192
    """Maximum number of credits granted at once."""
    initial_grant: Credits = 256
    """Credits granted to a new session."""
    max_session_credits: Credits = 65535
    """Maximum number of credits that a session may hold."""
    load_threshold_high: Credits = 1000
    """Number of requests in flight from which on fewer credits are granted."""
    load_threshold_low: Credits = 100
    """Number of requests in flight below which more credits are granted."""
    aggressive_client_threshold: Credits = 256
    """Number of requests in flight from which on a single client is slowed down."""


class Smb(Model):
    """Access by SMB."""

    enabled: bool = False
    """Whether the Service has a port for SMB. The server listens in any case, and does not restart."""
    port: Port = 445
    """The Service's port for SMB. A change restarts nothing."""
    max_connections: Annotated[int, Within(0)] = 0
    """Has no effect: the server's configuration has no such setting."""
    max_requests_per_connection: Annotated[int, Within(1)] = 100
    """Has no effect: the server's configuration has no such setting."""
    timeouts: Timeouts = section(Timeouts)
    """Timeouts of SMB connections. They have no effect: the server's configuration has no such settings."""
    credits: SmbCredits = section(SmbCredits)
    """SMB flow control. It has no effect: the server's configuration has no such setting."""
    metrics_log_interval: Word = "5m"
    """Has no effect: the server's configuration has no such setting."""


class S3Credentials(Model):
    """A Secret in the server's namespace with credentials for S3."""

    secret_name: KeyName
    """The Secret's name."""
    access_key_id_key: KeyName = "accessKeyId"
    """The key with the access key ID."""
    secret_access_key_key: KeyName = "secretAccessKey"
    """The key with the secret access key."""
    endpoint_key: KeyName = "endpoint"
    """The key with the URL of the endpoint, which the Secret may lack."""
    session_token_key: KeyName | None = None
    """The key with the session token of temporary credentials. Has no effect on DittoFS 0.13 or newer."""


class S3Ca(Model):
    """A Secret in the server's namespace with the CA of an S3 endpoint."""

    name: KeyName
    """The Secret's name."""
    key: KeyName = "ca.crt"
    """The key with the certificates of the CA in PEM; of the Secret, the pod gets this key alone."""


class S3(Model):
    """Content in S3."""

    credentials_secret_ref: S3Credentials | None = None
    """The Secret with the credentials. A change, also of the Secret, restarts the pod, so that the server uses it."""
    ca_secret_ref: S3Ca | None = None
    """The Secret with the CA of the S3 endpoint, trusted besides the public ones. A change restarts the pod."""
    service_account_name: ObjectName | None = None
    """The pod's ServiceAccount: DittoFS up to 0.12 gets S3 keys of the cloud by it. A change restarts the pod."""
    region: Word = "eu-west-1"
    """The region of the bucket; has no effect without a bucket. A change restarts the pod."""
    bucket: Name | None = None
    """The bucket. DittoFS 0.13 or newer needs it to get the credentials; there a change restarts the pod."""


def _check_share_name(value: str) -> str:
    if not re.fullmatch(SHARE_NAME_PATTERN, value):
        raise field_error(
            "share", "must be lower-case letters, digits and dashes, with a letter or a digit at both ends"
        )
    return value


ShareName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SHARE_NAME_CHARACTERS, json_schema_extra={"pattern": SHARE_NAME_PATTERN}),
    AfterValidator(_check_share_name),
]


class Share(Model):
    """A share that the operator creates in the server and keeps in line with the spec. It never deletes a share."""

    name: ShareName
    """The name; NFS clients mount the path /name."""
    read_only: bool = False
    """Whether clients may only read."""
    squash: Literal["none", "root_to_admin", "root_to_guest", "all_to_admin", "all_to_guest"] | None = None
    """Which user the server maps NFS clients to; its default when left out. DittoFS up to 0.8 has no such setting."""
    default_permission: Literal["none", "read", "read-write", "admin"] = "read-write"
    """The permission of users who have none of their own for the share."""
    store: Literal["s3", "local"] | None = None
    """s3 puts content in the bucket, local on the content volume. When left out: s3 if s3.bucket is set, else local."""


_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
Shares = Annotated[
    list[Share],
    Field(
        max_length=MAX_LIST_ENTRIES,
        json_schema_extra=_BY_NAME,
    ),
    BeforeValidator(limit_list),
]


class PodMetadata(Model):
    """Labels and annotations of the pod."""

    labels: Labels | None = None
    """Labels of the pod, next to those of the operator, of which app and instance cannot change."""
    annotations: Annotations | None = None
    """Annotations of the pod; those with the prefix dittofs.io/ are the operator's."""


RemovedDefaults = Annotated[
    list[Literal["runAsUser", "runAsGroup", "fsGroup"]],
    Field(max_length=MAX_LIST_ENTRIES),
    BeforeValidator(limit_list),
]


class PodTemplate(Model):
    """A strategic merge patch of the pod that the operator renders."""

    metadata: PodMetadata = section(PodMetadata)
    """Labels and annotations of the pod."""
    remove_defaults: RemovedDefaults | None = None
    """IDs that the operator must not set, as on OpenShift. The same as null in spec, which kubectl apply leaves out."""
    spec: Verbatim | None = None
    """Merged into the pod (core/v1 PodSpec): lists by name; null removes a default. The server's container: dittofs."""


class PullSecret(Model):
    """A Secret in the server's namespace with credentials for a registry."""

    name: KeyName
    """The Secret's name."""


PullSecrets = Annotated[
    list[PullSecret],
    Field(max_length=MAX_LIST_ENTRIES, json_schema_extra=_BY_NAME),
    BeforeValidator(limit_list),
]
Tolerations = Annotated[list[Verbatim], Field(max_length=MAX_LIST_ENTRIES), BeforeValidator(limit_list)]


class Spec(Model):
    """The desired state of the server."""

    model_config = ConfigDict(json_schema_extra={"required": ["storage"]})

    image: Image = "marmos91c/dittofs:latest"
    """The image of the server. A change restarts the pod, and may migrate the database for good: pin a release."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """Always, IfNotPresent or Never; the tag of the image decides when left out. A change restarts the pod."""
    replicas: Annotated[int, Within(0, 1)] = 1
    """1, or 0 to stop the server and keep its data. kubectl scale sets it."""
    storage: Storage = section(Storage)
    """The volumes."""
    database: Database = section(Database)
    """The database of users, shares and stores."""
    cache: Cache = section(Cache)
    """The server's cache on the cache volume."""
    metrics: Metrics = section(Metrics)
    """Prometheus metrics of the server."""
    control_plane: ControlPlane = section(ControlPlane)
    """The server's API."""
    identity: Identity = section(Identity)
    """Who may use the server."""
    service: Service = section(Service)
    """The Services, by which clients reach the server."""
    nfs_port: Port = 2049
    """The Service's port for NFS. A change moves the port under clients that have mounted it, and restarts nothing."""
    smb: Smb = section(Smb)
    """Access by SMB."""
    s3: S3 = section(S3)
    """Content in S3."""
    shares: Shares | None = None
    """Shares that the operator creates in the server while it runs. One that is removed here stays in the server."""
    resources: Verbatim | None = None
    """Resources of the container (core/v1 ResourceRequirements). A change restarts the pod."""
    security_context: Verbatim | None = None
    """Security context of the container (core/v1 SecurityContext), field by field. A change restarts the pod."""
    pod_security_context: Verbatim | None = None
    """Security context of the pod (core/v1 PodSecurityContext), field by field. A change restarts the pod."""
    image_pull_secrets: PullSecrets | None = None
    """Secrets with which the kubelet pulls the images of the pod. A change restarts the pod."""
    node_selector: Labels | None = None
    """Labels that a node must have to run the pod. A change restarts the pod."""
    tolerations: Tolerations | None = None
    """Taints of nodes on which the pod may run nevertheless (core/v1 Toleration). A change restarts the pod."""
    affinity: Verbatim | None = None
    """Where the pod should run, by labels of nodes and of other pods (core/v1 Affinity). A change restarts the pod."""
    pod_template: PodTemplate | None = None
    """What the pod has besides what the operator renders, such as labels or sidecars. A change restarts the pod."""


class Metadata(Model):
    name: str = ""
    generate_name: str = ""
    namespace: str = "default"
    deletion_timestamp: str | None = None


class DittoServer(Model):
    metadata: Metadata = Metadata()
    spec: Spec = Spec()
