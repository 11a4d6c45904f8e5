"""Serves an admission webhook that admits everything, to compare its cost: `python -m tests.bench.yes`."""

import shlex
import sys

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from app.admission.protocol import KEEP_ALIVE_SECONDS
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH

# As a WebhookCommand, with the operator's event loop, parser and keep-alive.
COMMAND = f"{shlex.quote(sys.executable)} -m tests.bench.yes {{port}} {{folder}}"


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
