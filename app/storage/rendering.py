"""Numbers what the operator has rendered for one and the same spec, so that an upgrade of it restarts no pod.

It decides nothing: which rendering a server gets is decided in `workload`.
"""

from enum import IntEnum


class Rendering(IntEnum):
    """One version of the pod template and config.yaml. A released one never changes again: its pods are running."""

    changes: str

    def __new__(cls, number: int, changes: str) -> "Rendering":
        """Keeps what the rendering changes, for people, next to its number."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.changes = changes
        return member

    SINGLE_FAMILY = 1, "configuration and paths of DittoFS up to 0.8"
    BOTH_FAMILIES = 2, "paths of the volumes, limit of the cache and address of the metrics for DittoFS 0.13 or newer"

    @property
    def pending_changes(self) -> str | None:
        """Says what later renderings change in a pod that has this one; None when it is the newest."""
        return "; ".join(later.changes for later in Rendering if later > self) or None


NEWEST = max(Rendering)
