"""Sends mutated AdmissionReviews to the webhook's application, without a socket, and finds wrong answers."""

import base64
import logging
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson
from fastapi import FastAPI

from app.admission.api import webhook
from app.admission.review import ALL_WARNINGS_CHARACTERS
from app.storage.facts import Cause, Claim, DryRun, Facts, Needs, Secret, StorageClass, StorageClasses, Unknown
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.fuzz.mutation import Mutator

Json = MutableMapping[str, Any]

SEEDS = Path(__file__).parent / "seeds"
PATHS = (MUTATE_PATH, VALIDATE_PATH)
_VALUES = ("", " ", "x" * 32, "https://s3.example.com", "http://[", "$2b$12$x", "a\nb", "\ufeffid", "\0", "x" * 5000)
_SIZES = ("1Gi", "10Gi", "1500M", "3e9", "99999Ti", None)


@dataclass(frozen=True)
class Failure:
    """A body that got a wrong answer, and why the answer is wrong."""

    path: str
    body: bytes
    why: str


def seeds() -> list[Any]:
    """Returns the reviews of the corpus, sorted by the names of their files."""
    return [orjson.loads(file.read_bytes()) for file in sorted(SEEDS.iterdir())]


class Fuzzer:
    """Sends one review after the other; equal seeds give equal reviews and equal facts about the cluster."""

    def __init__(self, seed: int, application: FastAPI | None = None) -> None:
        """Tests the application that `serve` serves, in a cluster of random facts, unless another one is passed."""
        self.seed = seed
        self.statuses: dict[int, int] = {}
        self._random = Random(seed)
        self._mutator = Mutator(self._random, seeds())
        self._application = application or webhook(self._facts)

    async def next(self) -> Failure | None:
        """Sends the next review; returns None when the answer is correct."""
        path = self._random.choice(PATHS)
        return await self.ask(path, self._mutator.body())

    async def ask(self, path: str, body: bytes) -> Failure | None:
        with _Errors() as errors:
            try:
                status, answer = await self._post(path, body)
            except Exception as error:  # noqa: BLE001 - any exception is a failure
                return Failure(path, body, repr(error))

        self.statuses[status] = self.statuses.get(status, 0) + 1
        if errors.texts:
            return Failure(path, body, errors.texts[0])

        why = _find_fault(status, body, answer)
        return Failure(path, body, why) if why else None

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Calls the application directly by ASGI, because a client would take three times as long."""
        answer: list[Json] = []

        async def receive() -> Json:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Json) -> None:
            answer.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "server": ("webhook", 443),
            "client": ("127.0.0.1", 1),
        }
        await self._application(scope, receive, send)
        return answer[0]["status"], b"".join(message.get("body", b"") for message in answer[1:])

    async def _facts(self, needs: Needs) -> Facts:
        """Returns random facts, in which anything can exist, be missing or be unknown."""
        classes = (StorageClass("fast", is_default=True, expandable=True), StorageClass(self._mutator.text()[:20]))
        return Facts(
            storage_classes=StorageClasses(classes, self._random.choice((None, "because", self._mutator.text()))),
            secrets={name: self._secret() for name in sorted(needs.secrets)},
            claims={name: self._claim(name) for name in sorted(needs.claims)},
            dry_run=self._dry_run(needs.stateful_set) if needs.stateful_set else None,
        )

    def _dry_run(self, stateful_set: Mapping[str, Any]) -> DryRun | Unknown | None:
        orjson.dumps(stateful_set)  # It is sent to the API server.
        fields = ("", "spec.template.spec", "spec.template.spec.containers[0].resources.limits", self._mutator.text())
        causes = tuple(
            Cause(self._random.choice(fields), self._mutator.text()) for _ in range(self._random.randint(0, 3))
        )
        warnings = (f"{self._random.choice(fields)}: {self._mutator.text()}",)
        decoded = not causes or self._random.random() < 0.5
        return self._random.choice((DryRun(causes, warnings, decoded), Unknown(self._mutator.text()), None))

    def _secret(self) -> Secret | Unknown | None:
        keys = ("accessKeyId", "secretAccessKey", "endpoint", "jwt-secret", "password", "dsn", "y")
        values = {key: self._random.choice(_VALUES) for key in keys if self._random.random() < 0.8}
        secrets = (Secret.read({"metadata": {}, "stringData": values}), Unknown(self._mutator.text()), None)
        return self._random.choice(secrets)

    def _claim(self, name: str) -> Claim | Unknown | None:
        storage_class = self._random.choice(("fast", "slow", "", None, self._mutator.text()))
        claim = Claim(name, storage_class, self._random.choice(_SIZES))
        return self._random.choice((claim, claim, Unknown(self._mutator.text()), None))


class _Errors(logging.Handler):
    """Collects what is logged as an error inside the `with`, since a review that failed is answered and logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))

    def __enter__(self) -> "_Errors":
        logging.getLogger("app").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("app").removeHandler(self)


def _find_fault(status: int, body: bytes, answer: bytes) -> str | None:
    if status == 400:
        return None if "error" in orjson.loads(answer) else "400 without an error"
    if status != 200:
        return f"HTTP status {status}"

    response = orjson.loads(answer)["response"]
    if response["uid"] != orjson.loads(body)["request"]["uid"]:
        return "another uid"
    if not response["allowed"] and response["status"]["code"] not in (400, 422):
        return f"code {response['status']['code']}"

    return _find_unreadable(response) or _find_wrong_patch(response)


def _find_unreadable(response: Mapping[str, Any]) -> str | None:
    """Finds texts that are too long or have control characters, which the API server drops or a terminal obeys."""
    warnings = response.get("warnings", [])
    status = response.get("status", {})
    causes = status.get("details", {}).get("causes", [])

    texts = [*warnings, status.get("message", ""), *(text for cause in causes for text in cause.values())]
    if not all(text.isprintable() for text in texts):
        return "a message with a control character"
    return "too many warnings" if sum(map(len, warnings)) > ALL_WARNINGS_CHARACTERS else None


def _find_wrong_patch(response: Mapping[str, Any]) -> str | None:
    if "patch" not in response:
        return None

    operations = orjson.loads(base64.b64decode(response["patch"]))
    expected = all(step["op"] in ("add", "replace") and step["path"].startswith("/spec/") for step in operations)
    return None if operations and expected else "a patch that does more than fill in defaults"
