"""Defines the models of a DittoServer's status, which its schema comes from. They decide nothing."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from app.storage.fields import Image, Model, Name, Port, Within
from app.storage.server_health import MAX_SHARES, MAX_VERSION_CHARACTERS, VERSION_PATTERN

# As the container runtime reports it: with the repository, or without one for an image that came from none.
IMAGE_ID_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9._:/-]{0,400}@)?sha256:[0-9a-f]{64}$"

ImageID = Annotated[str, Field(max_length=512, pattern=IMAGE_ID_PATTERN)]
MAX_IGNORED_FIELDS, MAX_FIELD_PATH_CHARACTERS = 50, 120

Address = Annotated[str, Field(max_length=45)]
Message = Annotated[str, Field(max_length=32768)]


IgnoredField = Annotated[str, Field(max_length=MAX_FIELD_PATH_CHARACTERS)]


class Condition(Model):
    """One aspect of the server (meta/v1 Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """Ready, Reconciling, Stalled, StorageReady, CredentialsReady, StoresReady or EndpointsReady."""
    status: Literal["True", "False", "Unknown"]
    """Whether the condition holds."""
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = None
    """The generation of the spec that the condition is about."""
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    """When the status of the condition last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """The reason in one word, for programs."""
    message: Message = Field(default_factory=str)
    """The reason in full, for people."""

    @field_validator("message", mode="before")
    @classmethod
    def _read_null(cls, value: Any) -> Any:
        return "" if value is None else value


class VolumeStatus(Model):
    """One volume of the server."""

    name: Name
    """metadata, content, cache, or controlplane for the claim on which the Go operator put the database."""
    claim: Name | None = None
    """The name of the PersistentVolumeClaim."""
    storage_class: Name | None = None
    """The StorageClass of the claim."""
    requested: Name | None = None
    """The size that the spec asks for."""
    capacity: Name | None = None
    """The size that the volume has."""
    phase: Name | None = None
    """The phase of the claim, or what is being done to it, such as Resizing."""
    message: Message | None = None
    """What a person should know about the volume."""


class EndpointStatus(Model):
    """An address at which clients reach one part of the server, by its live Service."""

    protocol: Literal["nfs", "smb", "api", "metrics"]
    """nfs, smb, api or metrics."""
    host: Name
    """The name of the Service in the DNS of the cluster."""
    cluster_ip: Address | None = Field(None, alias="clusterIP")
    """The address of the Service in the cluster, which nodes reach as well."""
    external_address: Name | None = None
    """The address or the host name that the load balancer has given; absent without one."""
    port: Port
    """The port at these addresses."""
    node_port: Port | None = None
    """The port of every node; absent without one."""


class RemoteStoreStatus(Model):
    """The block store that the operator maintains for the bucket in DittoFS 0.13 or newer."""

    name: Name | None = None
    """The name of the block store in the server; unset while the operator maintains none."""
    config_hash: Name | None = None
    """A SHA-256 of the bucket, the region and the credentials that the server last accepted."""
    pod_hash: Name | None = None
    """A SHA-256 of all that the pod consumes except the S3 credentials; it tells their rotation from other changes."""
    restart_for: Name | None = None
    """The UID of the pod that still uses the earlier settings of the block store, and therefore restarts once."""


class ShareStatus(Model):
    """One share of the spec, or one that was removed from it."""

    name: Name
    """The name of the share."""
    path: Name
    """The path that NFS clients mount."""
    phase: Literal["Ready", "Pending", "Failed", "Retained"]
    """Ready, Pending or Failed; Retained if it was removed from the spec and is still in the server."""
    message: Message | None = None
    """Why the share is not Ready."""


class ServerStatus(Model):
    """The server as it last reported about itself."""

    family: Literal["Legacy", "Current"] | None = None
    """Legacy is DittoFS up to 0.8, Current is DittoFS 0.13 or newer."""
    version: Annotated[str, Field(max_length=MAX_VERSION_CHARACTERS, pattern=f"^{VERSION_PATTERN}$")] | None = None
    """The version that the server reports, or else the one that the tag of its image names."""
    started_at: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})] | None = None
    """When the server was started."""
    shares: Annotated[int, Within(0, MAX_SHARES)] | None = None
    """The number of shares that the server has loaded."""
    image: Image | None = None
    """The image with which the server was last ready, so that it has opened the database."""
    image_id: ImageID | None = Field(None, alias="imageID")
    """The digest of that image, to which spec.image can be pinned."""
    previous_image_id: ImageID | None = Field(None, alias="previousImageID")
    """The digest of the image before that one."""

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "ServerStatus":
        """Reads the status of a raw DittoServer. Nothing of it counts where a part of it is no such status."""
        status = manifest.get("status")
        try:
            return cls.model_validate((status.get("server") if isinstance(status, Mapping) else None) or {})
        except ValidationError:
            return cls()


def _map_by(key: str) -> dict[str, object]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class Status(Model):
    """The observed state of the server."""

    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] | None = None
    """The generation of the spec that the status is about; -1 until the operator has seen the server."""
    available_replicas: Annotated[int, Within(0)] | None = None
    """The number of pods that are available."""
    nfs_endpoint: Annotated[str, Field(max_length=1024)] | None = None
    """The address in the cluster and the port at which NFS is served; `endpoints` has the others."""
    endpoints: Annotated[list[EndpointStatus], Field(max_length=4, json_schema_extra=_map_by("protocol"))] | None = None
    """Where clients reach the server, one entry for each protocol of its Services."""
    phase: Literal["Pending", "Running", "Failed", "Stopped"] | None = None
    """Whether the server is starting (Pending), Running, Failed or Stopped, in one word."""
    pending_rollout: Message | None = None
    """What the next rollout of the pod will change as well, and how to start one; absent when nothing is pending."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=_map_by("type"))] | None = None
    """Aspects of the server, one entry for each type."""
    volumes: Annotated[list[VolumeStatus], Field(max_length=8, json_schema_extra=_map_by("name"))] | None = None
    """The volumes of the server."""
    server: ServerStatus | None = None
    """The running server."""
    remote_store: RemoteStoreStatus | None = None
    """The block store for the bucket in DittoFS 0.13 or newer."""
    shares: Annotated[list[ShareStatus], Field(max_length=256, json_schema_extra=_map_by("name"))] | None = None
    """The shares of the spec, and those removed from it that the server still has."""
    ignored_fields: Annotated[list[IgnoredField], Field(max_length=MAX_IGNORED_FIELDS)] | None = None
    """Fields of the spec that this operator does not know, such as those of the Go operator; they have no effect."""

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "Status":
        """Reads the status of a raw DittoServer. A field that has another shape counts as absent."""
        status = manifest.get("status")
        if not isinstance(status, Mapping):
            return cls()

        try:
            return cls.model_validate(status)
        except ValidationError as error:
            unreadable = {failure["loc"][0] for failure in error.errors(include_url=False) if failure["loc"]}
        return cls.model_validate({name: value for name, value in status.items() if name not in unreadable})
