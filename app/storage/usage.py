"""Reads from a kubelet's stats (Summary API) how full the volumes of claims are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.unstructured import ObjectKey


@dataclass(frozen=True)
class Usage:
    """Bytes of the file system: those in use, and all of them, which are fewer than the volume has."""

    used: int
    size: int

    @property
    def percent(self) -> int:
        """The part in use, rounded up, so that a full volume is not shown as less."""
        return -(-100 * self.used // self.size)


def usages(summary: Mapping[str, Any]) -> Iterator[tuple[ObjectKey, Usage]]:
    """Yields the usage of each claim; volumes that the kubelet has not measured yet are left out."""
    for pod in summary.get("pods") or []:
        for volume in pod.get("volume") or []:
            claim, used, size = volume.get("pvcRef"), volume.get("usedBytes"), volume.get("capacityBytes")
            if claim and used is not None and size:
                yield (claim["namespace"], claim["name"]), Usage(used, size)
