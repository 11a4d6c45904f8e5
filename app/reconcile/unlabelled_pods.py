"""Finds a server's pod that lost its labels by its name: the informer selects pods by label."""

from collections.abc import Callable
from datetime import datetime, timedelta

from app.cluster.errors import ClusterError, Forbidden, NotFound
from app.cluster.informers import Informers
from app.cluster.reader import PODS
from app.storage.pod import pod_name
from app.storage.unstructured import Manifest, ObjectKey, is_terminating

# The StatefulSet controller replaces a pod that has ended within moments.
SEARCH_DELAY = timedelta(seconds=10)
# Nothing reports what becomes of a pod that the informer does not select.
RECHECK = timedelta(minutes=1)


class UnlabelledPods:
    """Asks for a server's pod after it was missing for some seconds, and only once if it does not exist."""

    def __init__(self, informers: Informers, clock: Callable[[], datetime]) -> None:
        self._informers = informers
        self._clock = clock
        # When the next search for a pod that is missing is due, None once there is nothing more to find out.
        self._due: dict[ObjectKey, datetime | None] = {}
        self._pods: dict[ObjectKey, Manifest] = {}

    def get(self, key: ObjectKey) -> Manifest | None:
        """Returns the pod as the last search found it."""
        return self._pods.get(key)

    def seconds_left(self, key: ObjectKey) -> float | None:
        """Returns the seconds until the next search; None when none is due."""
        due = self._due.get(key)
        return (due - self._clock()).total_seconds() if due else None

    async def look_for(self, key: ObjectKey) -> None:
        """Searches for the server's pod if that is due. It never fails: the pod only explains something."""
        namespace, name = key
        live = self._informers.stateful_sets.get(key)
        is_expected = live and not is_terminating(live) and live["spec"]["replicas"]
        is_observed = live and (live.get("status") or {}).get("observedGeneration")
        if not (is_expected and is_observed) or (namespace, pod_name(name)) in self._informers.pods:
            self.forget(key)
            return

        now = self._clock()
        due = self._due.setdefault(key, now + SEARCH_DELAY)
        if due is None or now < due:
            return

        try:
            self._pods[key] = _trim(await self._informers.get(PODS, pod_name(name), namespace))
            self._due[key] = now + RECHECK
        except (NotFound, Forbidden):
            self._pods.pop(key, None)
            self._due[key] = None
        except ClusterError:
            self._due[key] = now + RECHECK

    def forget(self, key: ObjectKey) -> None:
        """Forgets a server that is gone, or that has its pod."""
        self._due.pop(key, None)
        self._pods.pop(key, None)


def _trim(pod: Manifest) -> Manifest:
    kept = ("name", "uid", "labels", "annotations", "ownerReferences", "deletionTimestamp", "creationTimestamp")
    metadata = {name: pod["metadata"][name] for name in kept if name in pod["metadata"]}
    return {"metadata": metadata, "spec": {"volumes": pod["spec"].get("volumes") or []}, "status": pod.get("status")}
