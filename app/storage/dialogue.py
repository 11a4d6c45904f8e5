"""Requests to a DittoFS server that a decision asks for, and the answers. Decisions are generators: none is sent here.

The answers are hostile data, as the image can be anything: read them only with the functions of this module.
"""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Result = TypeVar("Result")

MAX_RECORDS = 1000


@dataclass(frozen=True)
class ServerRequest:
    """A request to the REST API; the path is in segments that are not encoded yet. Its body may contain S3 keys."""

    method: Literal["GET", "POST", "PUT", "PATCH"]
    path: tuple[str, ...]
    body: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Answer:
    """`status` is None when no answer came, so that nobody knows whether the server has done what it was asked to.

    `detail` says what is wrong: one line of limited length, without secrets, empty where nothing is.
    """

    status: int | None
    body: Any = field(default=None, repr=False)
    detail: str = ""

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


# Yields the requests one by one, gets the answer to each, and returns its result.
Dialogue = Generator[ServerRequest, Answer, Result]


class Unanswered(Exception):
    """A request that a dialogue cannot do without has failed, or its answer makes no sense."""

    def __init__(self, request: ServerRequest, answer: Answer) -> None:
        what = f"{request.method} /{'/'.join(request.path)}"
        super().__init__(answer.detail or f"the answer to {what} makes no sense")
        self.status = answer.status


@dataclass(frozen=True)
class StoreRecord:
    """A store of a server, or a share; `config` is that of a store, and `message` is as the server wrote it."""

    name: str
    id: str = ""
    type: str = ""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_healthy: bool = False
    message: str = field(default="", repr=False)

    @classmethod
    def read(cls, value: Any) -> "StoreRecord | None":
        """Returns None for what is no record with a name."""
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            return None

        config = value.get("config")
        if isinstance(config, str):
            # DittoFS up to 0.8 returns it as it was sent: JSON in a string.
            try:
                config = json.loads(config)
            except (ValueError, RecursionError):
                config = None

        check = value.get("status")
        check = check if isinstance(check, Mapping) else {}
        return cls(
            name=value["name"],
            id=str(value.get("id") or ""),
            type=str(value.get("type") or ""),
            config=config if isinstance(config, Mapping) else {},
            fields=value,
            is_healthy=check.get("status") == "healthy",
            message=str(check.get("message") or ""),
        )


def list_records(path: tuple[str, ...]) -> Dialogue[dict[str, StoreRecord]]:
    """Asks for a list, and returns its records by name. Raises Unanswered."""
    request = ServerRequest("GET", path)
    answer = yield request
    if not answer.is_success or not isinstance(answer.body, list) or len(answer.body) > MAX_RECORDS:
        raise Unanswered(request, answer)

    records = (StoreRecord.read(item) for item in answer.body)
    return {record.name: record for record in records if record}
