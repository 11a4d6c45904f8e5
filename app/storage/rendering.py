"""Describes what a pod has that does not follow from its spec alone, and for which no pod is restarted.

That is the rendering of the operator's version, and what its settings add to the objects of all servers. It decides
nothing: what a server gets is decided in `workload`.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

_MAX_NAMES = 5


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


@dataclass(frozen=True)
class ObjectDefaults:
    """Labels, annotations and pull secrets that the operator's settings give to the objects of all servers."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()

    def encode(self) -> str:
        """Returns them as text; empty when there are none."""
        fields = {"labels": self.labels, "annotations": self.annotations, "imagePullSecrets": self.pull_secrets}
        present = {name: value for name, value in fields.items() if value}
        return json.dumps(present, sort_keys=True, separators=(",", ":")) if present else ""


NO_DEFAULTS = ObjectDefaults()


@dataclass(frozen=True)
class Baseline:
    """The operator's own share in a pod; by default, that of its newest version without settings."""

    rendering: Rendering = NEWEST
    defaults: ObjectDefaults = NO_DEFAULTS

    def pending_changes(self, newest: ObjectDefaults) -> str | None:
        """Says what the newest rendering and these defaults change in a pod that has this; None for nothing."""
        changes = [self.rendering.pending_changes, *_differences(self.defaults, newest)]
        return "; ".join(change for change in changes if change) or None


def _differences(old: ObjectDefaults, new: ObjectDefaults) -> Iterator[str]:
    changed = {
        "label": _changed_keys(old.labels, new.labels),
        "annotation": _changed_keys(old.annotations, new.annotations),
        "pull secret": sorted({*old.pull_secrets} ^ {*new.pull_secrets}),
    }
    texts = [_listed(kind, names) for kind, names in changed.items() if names]
    if texts or old != new:
        yield f"{', '.join(texts) or 'order of pull secrets'} by the operator's settings for all servers"


def _changed_keys(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(key for key in {**old, **new} if old.get(key) != new.get(key))


def _listed(kind: str, names: Collection[str]) -> str:
    """Names no more than a line has room for: there may be dozens."""
    first, others = list(names)[:_MAX_NAMES], len(names) - _MAX_NAMES
    text = f"{kind}{'s' if len(names) > 1 else ''} {', '.join(first)}"
    return f"{text} and {others} more" if others > 0 else text
