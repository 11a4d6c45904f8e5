"""Uses a running server as its users do: logs in as admin, mounts, writes and reads files."""

from typing import Any

import httpx

from tests.harness.dittofs_standin import greeting
from tests.harness.operator_namespace import Namespace

REQUEST_SECONDS = 10.0


class Files:
    """The server of this name in a user's namespace, reached through its Services."""

    def __init__(self, user: Namespace, server: str = "files") -> None:
        self._user = user
        self._server = server

    def login(self, password: str) -> str:
        """Returns a token; raises when the password is wrong."""
        answer = self._request("POST", "/api/v1/auth/login", json={"username": "admin", "password": password})
        return str(answer.raise_for_status().json()["access_token"])

    def api(self, password: str, method: str, path: str, body: Any = None) -> Any:
        """Returns the answer to a request as admin, to a path below /api/v1."""
        headers = {"Authorization": f"Bearer {self.login(password)}"}
        answer = self._request(method, f"/api/v1{path}", json=body, headers=headers).raise_for_status()
        return answer.json() if answer.content else None

    def exports(self, service: str = "file", port: int = 2049) -> list[str]:
        """Returns the shares that an NFS client can mount, none while nobody answers."""
        try:
            return greeting(self._address(service), port)[1:]
        except OSError:
            return []

    def write(self, share: str, file: str, content: str) -> str:
        """Writes a file and returns the ID of the key with which it went to S3, or what was wrong."""
        path = f"/standin/shares/{share}/files/{file}"
        try:
            answer = self._request("PUT", path, content=content)
        except httpx.TransportError:
            return "unreachable"
        return str(answer.json()["key_id"]) if answer.is_success else f"{answer.status_code} {answer.text.strip()}"

    def read(self, share: str, file: str) -> str:
        answer = self._request("GET", f"/standin/shares/{share}/files/{file}")
        return answer.text if answer.is_success else f"{answer.status_code} {answer.text.strip()}"

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = f"http://{self._address('api')}:8080{path}"
        return httpx.request(method, url, trust_env=False, timeout=REQUEST_SECONDS, **options)

    def _address(self, service: str) -> str:
        return str(self._user.get("service", f"{self._server}-{service}")["spec"]["clusterIP"])
