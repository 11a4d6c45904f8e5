"""A private registry: it serves the images of this cluster, under a host of its own, to who knows user and password."""

import base64
import json
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from app.storage.unstructured import Manifest
from tests.e2e import machine
from tests.e2e.cluster import Cluster
from tests.harness.background import Background

USER, PASSWORD = "puller", "marker-password-of-the-registry"
SECRET_TYPE = "kubernetes.io/dockerconfigjson"


class Registry(Background):
    """Serves one image inside a `with`, where containerd finds it when it is asked for an image of the host."""

    def __init__(self, cluster: Cluster, host: str, image: str) -> None:
        super().__init__()
        self._host = host
        layout = _export(cluster, image, cluster.folder / host)
        self._server = _Server(layout)
        folder = cluster.registries / host
        folder.mkdir()
        # In place of a name in DNS and a certificate.
        (folder / "hosts.toml").write_text(f'server = "http://{machine.ADDRESS}:{self._server.server_port}"\n')

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        super().__exit__()

    def run(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    @property
    def refused(self) -> int:
        """How many requests came without the password."""
        return self._server.refused

    @property
    def pulled(self) -> int:
        """How often the manifest was fetched with the password."""
        return self._server.pulled

    def pull_secret(self, name: str) -> Manifest:
        """Builds what `kubectl create secret docker-registry` creates."""
        login = {"username": USER, "password": PASSWORD, "auth": base64.b64encode(_LOGIN).decode()}
        content = json.dumps({"auths": {self._host: login}})
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": SECRET_TYPE,
            "stringData": {".dockerconfigjson": content},
        }


_LOGIN = f"{USER}:{PASSWORD}".encode()


def _export(cluster: Cluster, image: str, folder: Path) -> Path:
    """Writes the image into the folder in the layout of OCI: an index, and blobs by their digests."""
    folder.mkdir()
    archive = folder / "image.tar"
    cluster.save(image, archive)
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, layout: Path) -> None:
        super().__init__((machine.ADDRESS, 0), _Handler)
        self.blobs = layout / "blobs/sha256"
        [self.manifest] = json.loads((layout / "index.json").read_text())["manifests"]
        self.refused = self.pulled = 0


class _Handler(BaseHTTPRequestHandler):
    """Answers what a client of the Distribution API asks when it pulls: by tag for the one image, else by digest."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        authorization = f"Basic {base64.b64encode(_LOGIN).decode()}"
        if self.headers["Authorization"] != authorization:
            self.server.refused += 1
            self._answer(401, b"{}", **{"WWW-Authenticate": 'Basic realm="registry"'})
            return

        kind, reference = self.path.rsplit("/", 2)[-2:] if self.path != "/v2/" else ("", "")
        if kind == "manifests" and not reference.startswith("sha256:"):
            reference = self.server.manifest["digest"]
        blob = self.server.blobs / reference.removeprefix("sha256:")
        if not kind:
            self._answer(200, b"{}")
        elif not blob.is_file():
            self._answer(404, b"{}")
        else:
            self.server.pulled += kind == "manifests"
            media_type = self.server.manifest["mediaType"] if kind == "manifests" else "application/octet-stream"
            self._answer(200, blob.read_bytes(), **{"Content-Type": media_type, "Docker-Content-Digest": reference})

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keeps the output of the tests free of requests."""
