"""Serves an admission webhook that admits everything, to compare its cost: `python -m tests.bench.yes`."""

import os
import socket
import sys
from pathlib import Path
from typing import Self

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from app.admission.server import KEEP_ALIVE_SECONDS
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.controlplane.program import Program
from tests.harness.free_ports import free_port
from tests.harness.operator_process import ROOT
from tests.harness.wait import until


class YesWebhook:
    """Runs inside a `with`, with the operator's event loop, parser and keep-alive; the folder has its key pair."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"https://localhost:{self._port}"

    def __enter__(self) -> Self:
        command = (sys.executable, "-m", "tests.bench.yes", str(self._port), self._folder)
        self._program = Program(*command, folder=ROOT, log=self._folder / "yes.log", environ=os.environ)
        until(self._listens)
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    @property
    def pid(self) -> int:
        return self._program.pid

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


async def yes(request: Request) -> Response:
    review = orjson.loads(await request.body())
    response = {"uid": review["request"]["uid"], "allowed": True}
    answer = {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}
    return Response(orjson.dumps(answer), media_type="application/json")


def main(port: str, folder: str) -> None:
    api = FastAPI(openapi_url=None)
    for path in (MUTATE_PATH, VALIDATE_PATH):
        api.add_api_route(path, yes, methods=["POST"])

    uvicorn.run(
        api,
        port=int(port),
        ssl_certfile=f"{folder}/tls.crt",
        ssl_keyfile=f"{folder}/tls.key",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
