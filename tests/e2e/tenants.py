"""Users who work at the same time, each with one server, so that their waits overlap."""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Self

from app.storage.unstructured import Manifest
from tests.e2e.cluster import Cluster
from tests.e2e.file_clients import Files
from tests.e2e.ledger import Ledger
from tests.e2e.object_store import ObjectStore
from tests.e2e.servers import POD_SECONDS, admin_password
from tests.harness.operator_namespace import Namespace
from tests.harness.wait import until

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


class Tenant:
    """A user with one server of an image, its clients, its object store, and the account of what happens to it.

    The namespace exists inside the `with`, at whose end the account is printed.
    """

    def __init__(self, cluster: Cluster, image: str, title: str = "") -> None:
        name = f"user-{secrets.token_hex(4)}"
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
        cluster.kubectl("create", "-f", "-", input=json.dumps(namespace))
        self.image = image
        self.user = Namespace(cluster, name)
        self.store = ObjectStore(self.user)
        self.files = Files(self.user)
        self.ledger = Ledger(self.user, title or image)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        print(self.ledger.show())
        self.user.kubectl("delete", "namespace", self.user.namespace, "--wait=false")

    def put_key(self, key: str, secret: str) -> None:
        self.user.put_secret("keys", accessKeyId=key, secretAccessKey=secret, endpoint=self.store.url)

    @property
    def password(self) -> str:
        return admin_password(self.user)

    def holds(self, condition: str) -> bool | None:
        """Tells whether the condition is True or False; None when it is neither."""
        status = (self.user.condition("files", condition) or {}).get("status")
        return {"True": True, "False": False}.get(status or "")

    def share_phases(self) -> dict[str, str]:
        return {share["path"]: share["phase"] for share in self._status.get("shares") or []}

    def awaits_restart(self) -> bool:
        """Tells whether the pod still serves with a key that is not the server's any more."""
        return "restartFor" in (self._status.get("remoteStore") or {})

    @property
    def _status(self) -> Manifest:
        status: Manifest = (self.user.get("dittoserver", "files") or {}).get("status") or {}
        return status


@contextmanager
def step(tenants: Sequence[Tenant], name: str, *, starts: int) -> Iterator[None]:
    with ExitStack() as stack:
        for tenant in tenants:
            stack.enter_context(tenant.ledger.step(name, starts=starts))
        yield


def until_all(tenants: Sequence[Tenant], holds: Callable[[Tenant], bool]) -> None:
    for tenant in tenants:
        until(partial(holds, tenant), seconds=POD_SECONDS, pause=0.2)
