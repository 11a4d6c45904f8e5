"""The models that the schema of a DittoServer's status comes from. They describe it and decide nothing."""

from typing import Annotated, Literal

from pydantic import Field

from app.storage.spec import Model, Name, Within

Message = Annotated[str, Field(max_length=32768)]


class Condition(Model):
    """One aspect of the server (meta/v1 Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """Ready, Reconciling, Stalled, StorageReady or CredentialsReady."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] | None = None
    """The generation of the spec that it was seen for."""
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    """When its status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, in one word for programs."""
    message: Message = Field(default_factory=str)
    """Why, for people."""


class VolumeStatus(Model):
    """One volume of the server."""

    name: Name
    """metadata, content or cache."""
    claim: Name | None = None
    """The name of its claim."""
    storage_class: Name | None = None
    """The StorageClass of its claim."""
    requested: Name | None = None
    """The size that the spec asks for."""
    capacity: Name | None = None
    """The size that it has."""
    phase: Name | None = None
    """The claim's phase, or what is being done to it."""
    message: Message | None = None
    """What a person should know about it."""


def _map_by(key: str) -> dict[str, object]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class Status(Model):
    """What the server is."""

    observed_generation: Annotated[int, Field(json_schema_extra={"format": "int64"})] | None = None
    """The generation of the spec that this status was made for, -1 before the first look."""
    available_replicas: Annotated[int, Within(0)] | None = None
    """How many pods are available."""
    nfs_endpoint: Annotated[str, Field(max_length=1024)] | None = None
    """Where NFS is served."""
    phase: Literal["Pending", "Running", "Failed", "Stopped"] | None = None
    """Pending, Running, Failed or Stopped."""
    conditions: Annotated[list[Condition], Field(max_length=16, json_schema_extra=_map_by("type"))] | None = None
    """Aspects of the server, one entry a type."""
    volumes: Annotated[list[VolumeStatus], Field(max_length=8, json_schema_extra=_map_by("name"))] | None = None
    """The server's volumes."""
