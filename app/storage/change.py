"""The change of a DittoServer that rules judge: as it is wanted, and as it is."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from operator import attrgetter
from typing import Any

from app.storage.endpoints import exposes_api
from app.storage.facts import Facts
from app.storage.finding import Finding
from app.storage.lazy import lazy
from app.storage.names import is_server_name
from app.storage.object_references import NamedObject, object_references
from app.storage.pod_conflicts import pod_conflicts
from app.storage.ports import Listener, listeners
from app.storage.reading import Reading, read, read_server
from app.storage.secret_references import (
    SecretReference,
    secret_references,
)
from app.storage.sections import POD_TEMPLATE, Section, changed_sections
from app.storage.server_health import Family, family_of_image, image_version
from app.storage.spec import DittoServer, Spec
from app.storage.status_schema import ServerStatus
from app.storage.volumes import (
    DEFAULT_CLASS_FIELD,
    NO_SETTINGS,
    Volume,
    resized_volumes,
    volumes,
)

_NEVER_RAN = ServerStatus()
_sections_with_secrets = attrgetter("s3", "identity", "database")


@dataclass(frozen=True)
class Change:
    """A change of a DittoServer: as it is wanted, and as it is."""

    new: Reading
    live: Any = None  # The object as it is, None when there is none.
    spec_is_unchanged: bool = False
    exists: bool = False  # It is judged like a new server although it exists, and so has claims of its own.

    @classmethod
    def read(cls, manifest: Any, old_manifest: Any = None) -> "Change":
        if old_manifest is None:
            return cls(read(manifest))

        new_spec, old_spec = (
            either.get("spec") if isinstance(either, dict) else None for either in (manifest, old_manifest)
        )
        try:
            spec_is_unchanged = bool(new_spec == old_spec) and _as_json(new_spec) == _as_json(old_spec)
        except RecursionError:
            # The specs are nested nearly a thousand deep, and get judged as if they were different.
            spec_is_unchanged = False
        return cls(read(manifest), old_manifest, spec_is_unchanged)

    @lazy
    def spec(self) -> Spec:
        return self.new.server.spec

    @lazy
    def old(self) -> DittoServer | None:
        """The server as it is; None if it is judged as a new one."""
        return None if self.live is None or self.exists else read_server(self.live)

    @property
    def name(self) -> str:
        return self.new.server.metadata.name

    @lazy
    def written(self) -> frozenset[str]:
        """The attributes of the spec and of its storage that are not left out, or were not before."""
        written = self.spec.model_fields_set | self.spec.storage.model_fields_set
        if self.old:
            written = written | self.old.spec.model_fields_set | self.old.spec.storage.model_fields_set
        return frozenset(written)

    @lazy
    def listeners(self) -> tuple[Listener, ...]:
        return listeners(self.spec)

    @lazy
    def all_volumes(self) -> tuple[Volume, ...]:
        """Every volume that a server can have."""
        return volumes(self.spec.storage)

    @lazy
    def old_volumes(self) -> tuple[Volume, ...]:
        """The same volumes as they were; none when the server is new."""
        return volumes(self.old.spec.storage) if self.old else ()

    @lazy
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes that the server is to have."""
        return tuple([volume for volume in self.all_volumes if volume.size])

    @lazy
    def customized(self) -> tuple[tuple[Volume, Volume | None], ...]:
        """The volumes with settings of their own, each with what it was before; None when the server is new."""
        pairs = zip_longest(self.all_volumes, self.old_volumes)
        return tuple((volume, before) for volume, before in pairs if volume.settings is not NO_SETTINGS)

    @lazy
    def storage_is_unchanged(self) -> bool:
        return self.old is not None and self.old.spec.storage == self.spec.storage

    @lazy
    def resized(self) -> tuple[Volume, ...]:
        """The volumes with another size than before, all of them when the server is new."""
        if self.old is None:
            return self.added
        if self.storage_is_unchanged:
            return ()
        return tuple(resized_volumes(self.all_volumes, self.old_volumes))

    @lazy
    def added(self) -> tuple[Volume, ...]:
        """The volumes that the server did not have, but whose claims an earlier server of this name may have left."""
        if self.old is None:
            return self.volumes if is_server_name(self.name) else ()
        if self.storage_is_unchanged:
            return ()
        existing = {volume.name for volume in self.old_volumes if volume.size}
        return tuple(volume for volume in self.volumes if volume.name not in existing)

    @lazy
    def named_classes(self) -> dict[str, str]:
        """The StorageClasses that a new server names, or an added volume, by their fields."""
        default = None if self.old else self.spec.storage.storage_class_name
        classes = {DEFAULT_CLASS_FIELD: default} if default else {}
        for volume in self.added if self.old else self.volumes:
            if volume.settings.storage_class_name:
                classes[volume.class_field] = volume.settings.storage_class_name
        return classes

    @lazy
    def references(self) -> list[SecretReference]:
        """The references to Secrets that are new or changed."""
        if self.old is None:
            return list(secret_references(self.spec))
        if _sections_with_secrets(self.spec) == _sections_with_secrets(self.old.spec):
            return []
        return [reference for reference in secret_references(self.spec) if reference not in self.old_references]

    @lazy
    def old_references(self) -> tuple[SecretReference, ...]:
        """The references to Secrets as they were; none when the server is new."""
        return secret_references(self.old.spec) if self.old else ()

    @lazy
    def objects(self) -> tuple[NamedObject, ...]:
        """The objects that the spec names and did not name before."""
        named = object_references(self.spec)
        if not (named and self.old):
            return named
        before = {entry.reference for entry in object_references(self.old.spec)}
        return tuple(entry for entry in named if entry.reference not in before)

    @lazy
    def running(self) -> ServerStatus:
        """The status of the server that runs; empty when there is none."""
        return ServerStatus.read(self.live) if isinstance(self.live, dict) else _NEVER_RAN

    @property
    def exposes_api(self) -> bool:
        """Tells whether clients outside of the cluster reach the API of the server that exists."""
        return self.old is not None and isinstance(self.live, dict) and exposes_api(self.live.get("status"))

    @property
    def image_changes(self) -> bool:
        """Tells whether a server that exists gets another image."""
        return self.old is not None and self.old.spec.image != self.spec.image

    @lazy
    def family(self) -> Family | None:
        """Tells which of the two servers will run; None when neither its status nor its image says."""
        is_of_this_image = self.running.image in (None, self.spec.image) and not self.image_changes
        # The servers from 0.10 to 0.12 answer like newer ones, and take the keys from their environment all the same.
        if is_of_this_image and self.running.family and image_version(self.spec.image) is None:
            return Family(self.running.family)
        return family_of_image(self.spec.image)

    @lazy
    def sections(self) -> tuple[Section, ...]:
        """The sections that go into the pod and are new or changed, without a podTemplate that cannot be merged."""
        changed = changed_sections(self.spec, self.old.spec if self.old else None)
        return tuple(section for section in changed if section != POD_TEMPLATE or not self.pod_conflicts)

    @lazy
    def pod_conflicts(self) -> list[Finding]:
        """Why the podTemplate cannot be merged into the pod."""
        return pod_conflicts(self.spec)


def _as_json(value: Any) -> str:
    """Tells apart what Python holds equal: in a podTemplate, true and 1 are not the same."""
    return json.dumps(value, sort_keys=True)


# A rule yields what is wrong with a change, or doubtful about it, by these facts.
Rule = Callable[[Change, Facts], Iterator[Finding]]
