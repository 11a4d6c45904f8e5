"""Prints the state of a cluster after a failure, because the cluster is gone when somebody reads about it."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.controlplane.cluster import ControlPlane

LINES = 100


@contextmanager
def explain_failures(cluster: ControlPlane) -> Iterator[None]:
    """Prints pods, Events and the end of each log when something fails inside the `with`."""
    try:
        yield
    except Exception:
        print(*(run_kubectl(cluster, *args) for args in questions(cluster)), sep="\n")
        raise


def questions(cluster: ControlPlane) -> Iterator[tuple[str, ...]]:
    yield "get", "pods", "-A", "-o", "wide"
    yield "get", "events", "-A", "--sort-by=.metadata.creationTimestamp"
    for pod in cluster.get("/api/v1/pods")["items"]:
        logs = ("logs", "-n", pod["metadata"]["namespace"], pod["metadata"]["name"], f"--tail={LINES}")
        yield logs
        yield (*logs, "--previous")


def run_kubectl(cluster: ControlPlane, *args: str) -> str:
    process = cluster.kubectl(*args, check=False)
    return f"$ kubectl {' '.join(args)}\n{process.stdout}{process.stderr}"
