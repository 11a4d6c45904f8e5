"""The types of the fields of a DittoServer, with their bounds, and the model that its parts are made from."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from app.storage import quantity
from app.storage.names import MAX_NAME_CHARACTERS, SUBDOMAIN_PATTERN, is_subdomain

INT32_MAX = 2**31 - 1
MAX_ANNOTATIONS = 256
MAX_LIST_ENTRIES = 64
MAX_IMAGE_CHARACTERS = 1024
_SIZE = re.compile(quantity.SIZE_PATTERN)


@dataclass(frozen=True)
class Within:
    """An int32 from `low` to `high`; its message names both bounds, where pydantic's names only the one violated."""

    low: int
    high: int = INT32_MAX

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: int) -> int:
        if not self.low <= value <= self.high:
            raise field_error("bounds", f"must be between {self.low} and {self.high}, not {value}")
        return value

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema["schema"]), "format": "int32", "minimum": self.low, "maximum": self.high}


def field_error(kind: str, message: str) -> PydanticCustomError:
    """Passes the message as a value and never as the template, in which pydantic would replace what is in braces."""
    return PydanticCustomError(kind, "{message}", {"message": message})


def _check_size(value: str) -> str:
    if not _SIZE.fullmatch(value):
        raise field_error("size", f'must match {quantity.SIZE_PATTERN}, such as 10Gi, not "{value[:40]}"')
    if quantity.parse(value) == 0:
        raise field_error("size", f'must be more than zero, not "{value[:40]}"')
    return value


def _check_object_name(value: str) -> str:
    if not is_subdomain(value):
        raise field_error("name", "must be the name of an object: lower-case letters, digits, dashes and dots")
    return value


def _limit_entries(value: Any) -> Any:
    """Runs before the entries are checked: a flood of wrong ones would be a flood of errors."""
    if isinstance(value, dict) and len(value) > MAX_ANNOTATIONS:
        raise field_error("entries", f"must have at most {MAX_ANNOTATIONS} entries")
    return value


def limit_list(value: Any) -> Any:
    """Runs before the entries are checked, as with maps; a null among them is left to the checks."""
    if isinstance(value, list) and len(value) > MAX_LIST_ENTRIES:
        raise field_error("entries", f"must have at most {MAX_LIST_ENTRIES} entries")
    return value


def _drop_nulls(value: Any) -> Any:
    """Drops nulls, as the API server does where the schema knows none, before it fills in defaults."""
    if isinstance(value, dict) and None in value.values():
        return {k: v for k, v in value.items() if v is not None}
    return value


Port = Annotated[int, Within(1, 65535)]
Credits = Annotated[int, Within(1)]
Name = Annotated[str, Field(max_length=253)]
ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_CHARACTERS, json_schema_extra={"pattern": SUBDOMAIN_PATTERN}),
    AfterValidator(_check_object_name),
]
KeyName = Annotated[str, Field(min_length=1, max_length=253)]
Word = Annotated[str, Field(max_length=64)]
Path = Annotated[str, Field(max_length=4096)]
Image = Annotated[str, Field(max_length=MAX_IMAGE_CHARACTERS)]
_SIZE_SCHEMA: dict[str, Any] = {
    "pattern": quantity.SIZE_PATTERN,
    "x-kubernetes-validations": [{"rule": "!self.matches('^0+[A-Z]')", "message": "must be more than zero"}],
}
Size = Annotated[str, Field(max_length=20, json_schema_extra=_SIZE_SCHEMA), AfterValidator(_check_size)]
Annotations = Annotated[
    dict[str, Annotated[str, Field(max_length=65536)]],
    Field(max_length=MAX_ANNOTATIONS),
    BeforeValidator(_limit_entries),
    BeforeValidator(_drop_nulls),
]
Labels = Annotated[
    dict[str, Annotated[str, Field(max_length=63)]],
    Field(max_length=MAX_ANNOTATIONS),
    BeforeValidator(_limit_entries),
    BeforeValidator(_drop_nulls),
]
# Types of core/v1 that go into the pod as they are; `sections` tells whether the API server accepts them.
Verbatim = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel, use_attribute_docstrings=True)


def section(model: type[Model]) -> Any:
    """Returns a field that is a section with its defaults when left out; the schema shows no default for it."""
    return Field(model(), json_schema_extra=_hide_default)


def _hide_default(schema: dict[str, Any]) -> None:
    del schema["default"]
