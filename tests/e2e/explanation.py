"""What a cluster, which is gone when somebody reads of a failure, had to say about it."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.controlplane.cluster import ControlPlane

LINES = 100


@contextmanager
def explained(cluster: ControlPlane) -> Iterator[None]:
    """When something fails inside, pods, Events and the end of each log are shown."""
    try:
        yield
    except Exception:
        print(*(shown(cluster, *args) for args in questions(cluster)), sep="\n")
        raise


def questions(cluster: ControlPlane) -> Iterator[tuple[str, ...]]:
    yield "get", "pods", "-A", "-o", "wide"
    yield "get", "events", "-A", "--sort-by=.metadata.creationTimestamp"
    for pod in cluster.get("/api/v1/pods")["items"]:
        logs = ("logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], f"--tail={LINES}")
        yield logs
        yield (*logs, "--previous")


def shown(cluster: ControlPlane, *args: str) -> str:
    said = cluster.kubectl(*args, check=False)
    return f"$ kubectl {' '.join(args)}\n{said.stdout}{said.stderr}"
