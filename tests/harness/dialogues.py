"""Answers the requests of a dialogue with a DittoFS server from a script."""

from typing import Any, TypeVar

from app.storage.dialogue import Answer, Dialogue, ServerRequest
from app.storage.unstructured import Manifest

Result = TypeVar("Result")

NO_ANSWER = Answer(None, detail="no answer within 15 s")


def converse(dialogue: Dialogue[Result], *answers: Answer) -> tuple[list[ServerRequest], Result]:
    """Returns the requests that got these answers, and the result; all of the answers have to be asked for."""
    requests, script = [], list(answers)
    try:
        request = next(dialogue)
        while True:
            requests.append(request)
            request = dialogue.send(script.pop(0))
    except StopIteration as end:
        assert not script, f"nobody asked for {script}"
        result: Result = end.value
        return requests, result


def ok(body: Any = None) -> Answer:
    return Answer(200, body)


def refused(status: int, detail: str = "no") -> Answer:
    return Answer(status, detail=detail)


def store(name: str, kind: str = "s3", health: str = "healthy", **config: Any) -> Manifest:
    """Builds a store as DittoFS 0.13 or newer returns it."""
    config = {"secret_access_key": "********", **config} if kind == "s3" else config
    return {"name": name, "id": f"id-{name}", "type": kind, "config": config, "status": {"status": health}}
