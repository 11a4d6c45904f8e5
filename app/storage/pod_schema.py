"""The schemas of the sections of a DittoServer that have a type of core/v1, for the CustomResourceDefinition."""

from app.storage.core_types import fields_of
from app.storage.schema import Schema

MAX_ENTRIES = 256
MAX_KEY_CHARACTERS = 4096

# A null removes a field, where the operator or Kubernetes has a default; elsewhere the API server drops it.
_NULLABLE: Schema = {"nullable": True}
# The API server that stores a DittoServer may be older or newer than these types.
_OPEN: Schema = {"x-kubernetes-preserve-unknown-fields": True}


def core_schema(kind: str) -> Schema:
    """Returns the structural schema of a type of core/v1, without descriptions and enums, for which there is no room.

    Lists that are merged by a key have no nulls, and no two items of the same key, where one field is the key.
    """
    properties = {name: _field_schema(kind, name, field) for name, field in fields_of(kind).items()}
    return {"type": "object", **_OPEN, "properties": properties}


def _field_schema(kind: str, name: str, field: Schema) -> Schema:
    key = field.get("mergeKey")
    if key is None:
        return _schema(field) | _NULLABLE

    items = core_schema(field["items"]["$ref"])
    # Of these, only an integer is not a string.
    bound = {"maxLength": MAX_KEY_CHARACTERS} if items["properties"][key]["type"] == "string" else {}
    items["properties"][key] = {"type": items["properties"][key]["type"], **bound}
    items["required"] = [key]

    # One port may be there for TCP and for UDP, and one topologyKey for a hard and for a soft constraint.
    is_map = name not in ("ports", "topologySpreadConstraints")
    identity = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]} if is_map else {}
    return {"type": "array", "items": items, "maxItems": MAX_ENTRIES, **identity}


def _schema(field: Schema) -> Schema:
    if "$ref" in field:
        return core_schema(field["$ref"])
    if field["type"] == "intOrString":
        return {"x-kubernetes-int-or-string": True}
    if field["type"] == "quantity":
        # A number may have a fraction, which no schema of a quantity allows.
        return dict(_OPEN)
    if "items" in field:
        return {"type": "array", "items": _schema(field["items"]), "maxItems": MAX_ENTRIES}
    if "additionalProperties" in field:
        entries = _schema(field["additionalProperties"]) | _NULLABLE
        return {"type": "object", "additionalProperties": entries, "maxProperties": MAX_ENTRIES}
    return {"type": field["type"], **(_OPEN if field["type"] == "object" else {})}
