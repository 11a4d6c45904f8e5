"""A kubelet that reports how full volumes are and has logs, and does nothing else.

Requests reach it through the API server.
"""

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tests.controlplane.cluster import ControlPlane


@contextmanager
def kubelet(
    control_plane: ControlPlane,
    node: str,
    summary: Any = None,
    logs: Mapping[str, str] | None = None,
    current_logs: Mapping[str, str] | None = None,
) -> Iterator[list[str]]:
    """Answers for a node of this name while the `with` lasts; yields the paths of the requests.

    `logs` has the logs of previous runs by namespace, pod and container, such as `here/files-0/dittofs`; they may
    change while the `with` lasts. `current_logs` has those of the current runs, which end when they are followed.
    """
    requests: list[str] = []

    class KubeletHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            url = urlsplit(self.path)
            answer = json.dumps(summary) if url.path == "/stats/summary" else None
            if url.path.startswith("/containerLogs/"):
                runs = logs if "previous=true" in url.query.split("&") else current_logs
                answer = (runs or {}).get(url.path.removeprefix("/containerLogs/"))

            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write((answer or "").encode())

        def log_message(self, *_: object) -> None:
            """Logs nothing: nobody would read it."""

    with ThreadingHTTPServer((outward_address(), 0), KubeletHandler) as server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(control_plane.ca_file, control_plane.ca_file.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)

        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            _register(control_plane, node, *server.server_address[:2])
            yield requests
        finally:
            control_plane.kubectl("delete", "node", node, "--ignore-not-found")
            server.shutdown()
            thread.join()


def _register(control_plane: ControlPlane, node: str, host: Any, port: int) -> None:
    manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
    control_plane.kubectl("create", "-f", "-", input=json.dumps(manifest))

    status = {
        "addresses": [{"type": "InternalIP", "address": host}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
    control_plane.kubectl("patch", "node", node, *patch)


def outward_address() -> str:
    """Returns an address of this machine that is not loopback, where no API server looks for a kubelet.

    It sends nothing: a datagram socket is only asked which address it would use.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect(("192.0.2.1", 9))
        return str(route.getsockname()[0])
