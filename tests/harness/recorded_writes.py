"""A cluster client that records what it writes."""

from typing import Any

from app.cluster.client import Cluster, Request


class Recording(Cluster):
    """The cluster as the operator reaches it; `writes` are its requests that are not reads, in their order."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.connection)
        self.writes: list[Request] = []

    async def _request(self, request: Request, *kinds: str) -> dict[str, Any]:
        if request.method != "GET":
            self.writes.append(request)
        return await super()._request(request, *kinds)
