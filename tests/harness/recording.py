"""Plays a list of requests to a DittoFS server, and returns its answers without what differs from run to run.

The answers of real servers are kept in the repository; see `tests/test_standin.py`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

Step = dict[str, Any]

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIMES = {"timestamp", "started_at", "created_at", "updated_at", "checked_at", "expires_at", "last_login", "mounted_at"}
_TOKENS = {"access_token", "refresh_token"}
# The real servers list these in any order.
_UNORDERED = {"types", "metadata_stores"}
# How long something took, which is left out when it took no time.
_DURATIONS = {"latency", "latency_ms", "uptime", "uptime_sec"}


class Playable(Protocol):
    """A server that a list of requests can be played to."""

    url: str

    def restart(self) -> None: ...

    def put_keys(self, **keys: str) -> None: ...


@dataclass
class Player:
    """Plays steps; `values` are what stands in the requests for `$NAME`, and is put back in the answers."""

    target: Playable
    values: Mapping[str, str]
    _ids: dict[str, str] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    def play(self, steps: list[Step]) -> Iterator[Step]:
        """Yields each step with the answer that it gets; a step without a request changes the server or S3."""
        with httpx.Client(trust_env=False, timeout=60) as client:
            for step in steps:
                if step.get("do") == "restart":
                    self.target.restart()
                    yield step
                elif "keys" in step:
                    self.target.put_keys(**step["keys"])
                    yield step
                else:
                    yield self._ask(client, step)

    def _ask(self, client: httpx.Client, step: Step) -> Step:
        method, _, path = step["request"].partition(" ")
        headers = {}
        if user := step.get("as", "admin" if path.startswith("/api/") else ""):
            headers["Authorization"] = f"Bearer {self._tokens.get(user, user)}"
        body = json.dumps(step["body"]) if not isinstance(step.get("body", ""), str) else step.get("body", "")

        answer = client.request(method, self.target.url + path, content=self._fill(body), headers=headers)
        parsed = _parse(answer)
        if isinstance(parsed, dict) and "access_token" in parsed:
            self._tokens[parsed["user"]["username"]] = parsed["access_token"]

        kind = answer.headers.get("Content-Type", "")
        return {**step, "status": answer.status_code, "type": kind, "answer": self._normalize(parsed)}

    def _fill(self, text: str) -> str:
        for name, value in self.values.items():
            text = text.replace(f"${name}", value)
        return text

    def _normalize(self, value: Any, key: str = "") -> Any:
        if key in _TIMES and value:
            return "TIME"
        if key in _TOKENS:
            return "TOKEN"
        if isinstance(value, dict):
            return {name: self._normalize(item, name) for name, item in value.items() if name not in _DURATIONS}
        if isinstance(value, list):
            items = [self._normalize(item) for item in value]
            return sorted(items, key=str) if key in _UNORDERED else items
        if not isinstance(value, str):
            return value

        for name, secret in self.values.items():
            value = value.replace(secret, f"${name}")
        return _ID.sub(lambda match: self._ids.setdefault(match[0], f"ID-{len(self._ids) + 1}"), value)


def _parse(answer: httpx.Response) -> Any:
    if "json" in answer.headers.get("Content-Type", ""):
        return answer.json()
    return answer.text
