"""Serves the webhook up to one of its layers, to measure what each adds: `python -m tests.bench.layers LAYER ...`.

Every layer does what those before it do and one thing more; the last one is the whole webhook. Each is made of the
operator's own parts, with its settings of TLS, log and garbage collector, and looks up from its own informers.
"""

import asyncio
import base64
import gc
import shlex
import sys
from pathlib import Path
from typing import Any, cast

import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from app import logs
from app.admission import api
from app.admission.api import ReviewEndpoint, WebhookApplication, webhook
from app.admission.review import Answer, Review, allow, read_review
from app.admission.server import WebhookServer
from app.certificates.files import CertificateFiles
from app.cli.serve import GARBAGE_THRESHOLD
from app.cluster.informers import Informers
from app.storage.change import Change
from app.storage.rendering import NO_DEFAULTS
from app.storage.rules import needs
from app.storage.webhook_configurations import VALIDATE_PATH

ANSWER = (
    b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview",'
    b'"response":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","allowed":true}}'
)
HEADERS = [(b"content-length", str(len(ANSWER)).encode()), (b"content-type", b"application/json")]
NAMESPACE = "ours"


def command(layer: str) -> str:
    """Returns the command of a layer, for a WebhookCommand."""
    return shlex.join((sys.executable, "-m", __name__, layer, "{port}", "{folder}"))


class Bytes(asyncio.Protocol):
    """Answers each request as soon as all of it has come, and reads nothing in it but its length."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._received, self._length = b"", 0

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._length:
            head, _, _ = self._received.partition(b"\r\n\r\n")
            self._length = len(head) + 4 + int(head.rpartition(b"content-length: ")[2])

        if len(self._received) >= self._length:
            self._received, self._length = b"", 0
            lines = b"".join(b"%b: %b\r\n" % header for header in HEADERS)
            self._transport.write(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n" + ANSWER)


async def _send_answer(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


async def read_body(_scope: Scope, receive: Receive, send: Send) -> None:
    await _receive_body(receive)
    await _send_answer(send)


async def read_json(_scope: Scope, receive: Receive, send: Send) -> None:
    read_review(await _receive_body(receive))
    await _send_answer(send)


async def _receive_body(receive: Receive) -> bytes:
    received = bytearray()
    while True:
        message = await receive()
        received += message["body"]
        if not message["more_body"]:
            return bytes(received)


def endpoint(decide: api.Decide) -> ASGIApp:
    return WebhookApplication({VALIDATE_PATH: ReviewEndpoint(VALIDATE_PATH, decide)})


async def admit(review: Review) -> Answer:
    return allow(review)


async def read_models(review: Review) -> Answer:
    _change(review)
    return allow(review)


async def derive_needs(review: Review) -> Answer:
    needs(_change(review), NO_DEFAULTS)
    return allow(review)


async def look_up(review: Review) -> Answer:
    await INFORMERS.look_up(needs(_change(review), NO_DEFAULTS))
    return allow(review)


def _change(review: Review) -> Change:
    return Change.read(review.object, review.old_object if review.operation == "UPDATE" else None)


def _informers() -> Informers:
    """Returns informers that have synced and that never ask the API server, with one StorageClass and one Secret."""
    informers = Informers(cast("Any", None))
    for reflector in informers._object_reflectors():  # As if it had listed.
        reflector.gap = None

    secret_metadata = {"name": "s3", "namespace": NAMESPACE, "resourceVersion": "2"}
    values = {"accessKeyId": "AKIA", "secretAccessKey": "s3cr3t", "endpoint": "https://192.0.2.1"}
    secret = {
        "metadata": secret_metadata,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }
    fast = {
        "name": "fast",
        "resourceVersion": "1",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    }
    informers.classes.put({"metadata": fast, "provisioner": "example.com/fast"})
    informers.secrets_metadata.put(secret)
    informers.secrets.put_fetched(secret)
    return informers


INFORMERS = _informers()
# What each layer adds to those before it, and what serves it.
APPLICATIONS: dict[str, ASGIApp | None] = {
    "kernel, TLS and event loop": None,
    "HTTP: parser, protocol, deadlines": read_body,
    "JSON of the review": read_json,
    "answer and metrics": endpoint(admit),
    "log line": endpoint(admit),
    "model": endpoint(read_models),
    "needs": endpoint(derive_needs),
    "look-up in memory": endpoint(look_up),
    "rules": webhook(INFORMERS.look_up),
}
LAYERS = tuple(APPLICATIONS)
FIRST_THAT_LOGS = "log line"


async def _serve(layer: str, port: int, certificate: CertificateFiles) -> None:
    application = APPLICATIONS[layer]
    if application is None:
        server = await asyncio.get_running_loop().create_server(Bytes, "127.0.0.1", port, ssl=certificate.context)
        await server.serve_forever()
    else:
        webhook_server = WebhookServer(application, "127.0.0.1", port, certificate.context)
        await webhook_server.listen()
        await webhook_server.serve()


def main(layer: str, port: str, folder: str) -> None:
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    logs.configure("info" if LAYERS.index(layer) >= LAYERS.index(FIRST_THAT_LOGS) else "warning", "json")
    uvloop.run(_serve(layer, int(port), CertificateFiles(Path(folder, "tls.crt"), Path(folder, "tls.key"))))


if __name__ == "__main__":
    main(*sys.argv[1:])
