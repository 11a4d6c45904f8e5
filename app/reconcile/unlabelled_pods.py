"""Finds a server's pod that lost its labels. The informer selects pods by label; this asks for one by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.cluster.errors import ClusterError, Forbidden, NotFound
from app.cluster.informers import Informers
from app.cluster.reader import PODS
from app.storage.pod import pod_name
from app.storage.unstructured import Manifest, ObjectKey, is_terminating

# The StatefulSet controller replaces a pod that has ended within moments; until then none is missed.
SEARCH_DELAY = timedelta(seconds=10)
# Nothing reports what becomes of a pod that the informer does not select.
RECHECK = timedelta(minutes=1)


@dataclass
class Search:
    """A search for a pod that is missed; `due` is None once there is nothing more to find out."""

    due: datetime | None
    pod: Manifest | None = None


class UnlabelledPods:
    """Asks for the pod of a server only after it was missed for some seconds, and only once where there is none."""

    def __init__(self, informers: Informers, clock: Callable[[], datetime]) -> None:
        self._informers = informers
        self._clock = clock
        self._searches: dict[ObjectKey, Search] = {}

    def get(self, key: ObjectKey) -> Manifest | None:
        """The pod of the server as it was last found."""
        search = self._searches.get(key)
        return search.pod if search else None

    def seconds_left(self, key: ObjectKey) -> float | None:
        """Seconds until the next look; None when there is none."""
        search = self._searches.get(key)
        return (search.due - self._clock()).total_seconds() if search and search.due else None

    async def look_for(self, key: ObjectKey) -> None:
        """Looks for the server's pod where that is due. It never fails: this only explains."""
        if not self._is_missed(key):
            self.forget(key)
            return

        now = self._clock()
        search = self._searches.setdefault(key, Search(due=now + SEARCH_DELAY))
        if search.due is None or now < search.due:
            return

        namespace, name = key
        try:
            search.pod = _trimmed(await self._informers.get(PODS, pod_name(name), namespace))
            search.due = now + RECHECK
        except (NotFound, Forbidden):
            search.pod, search.due = None, None
        except ClusterError:
            search.due = now + RECHECK

    def forget(self, key: ObjectKey) -> None:
        """Forgets a server that is gone, or that has its pod."""
        self._searches.pop(key, None)

    def _is_missed(self, key: ObjectKey) -> bool:
        namespace, name = key
        live = self._informers.stateful_sets.get(key)
        if live is None or is_terminating(live) or not live["spec"]["replicas"]:
            return False
        is_observed = (live.get("status") or {}).get("observedGeneration")
        return bool(is_observed) and (namespace, pod_name(name)) not in self._informers.pods


def _trimmed(pod: Manifest) -> Manifest:
    kept = ("name", "uid", "labels", "annotations", "ownerReferences", "deletionTimestamp", "creationTimestamp")
    metadata = {name: pod["metadata"][name] for name in kept if name in pod["metadata"]}
    return {"metadata": metadata, "spec": {"volumes": pod["spec"].get("volumes") or []}, "status": pod.get("status")}
