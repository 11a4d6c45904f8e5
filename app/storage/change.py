"""The change of a DittoServer that rules judge: as it is wanted, and as it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

from app.storage.endpoints import exposes_api
from app.storage.facts import Facts
from app.storage.finding import Finding
from app.storage.names import (
    is_server_name,
)
from app.storage.object_references import NamedObject, object_references
from app.storage.pod_conflicts import pod_conflicts
from app.storage.ports import Listener, listeners
from app.storage.reading import Reading, read
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


@dataclass(frozen=True)
class Change:
    """A change of a DittoServer: as it is wanted, and as it is; `old` is None if it is judged as a new server."""

    new: Reading
    old: DittoServer | None = None
    spec_is_unchanged: bool = False
    exists: bool = False  # It is judged like a new server although it exists, and so has claims of its own.
    running: ServerStatus = _NEVER_RAN  # What is known of the server that runs.
    exposes_api: bool = False  # Clients outside of the cluster reach the API of the server that exists.

    @classmethod
    def read(cls, manifest: Any, old_manifest: Any = None) -> "Change":
        if old_manifest is None:
            return cls(read(manifest))

        new_spec, old_spec = (
            either.get("spec") if isinstance(either, dict) else None for either in (manifest, old_manifest)
        )
        try:
            spec_is_unchanged = bool(new_spec == old_spec)
        except RecursionError:
            # The specs are nested nearly a thousand deep, and get judged as if they were different.
            spec_is_unchanged = False
        running = ServerStatus.read(old_manifest) if isinstance(old_manifest, dict) else _NEVER_RAN
        return cls(
            read(manifest),
            read(old_manifest).server,
            spec_is_unchanged,
            running=running,
            exposes_api=isinstance(old_manifest, dict) and exposes_api(old_manifest.get("status")),
        )

    @property
    def spec(self) -> Spec:
        return self.new.server.spec

    @property
    def name(self) -> str:
        return self.new.server.metadata.name

    @cached_property
    def listeners(self) -> tuple[Listener, ...]:
        return listeners(self.spec)

    @cached_property
    def all_volumes(self) -> tuple[Volume, ...]:
        """Every volume that a server can have."""
        return volumes(self.spec.storage)

    @cached_property
    def old_volumes(self) -> tuple[Volume, ...]:
        """The same volumes as they were; none when the server is new."""
        return volumes(self.old.spec.storage) if self.old else ()

    @cached_property
    def volumes(self) -> tuple[Volume, ...]:
        """The volumes that the server is to have."""
        return tuple(volume for volume in self.all_volumes if volume.size)

    @cached_property
    def customized(self) -> tuple[tuple[Volume, Volume | None], ...]:
        """The volumes with settings of their own, each with what it was before; None when the server is new."""
        pairs = zip_longest(self.all_volumes, self.old_volumes)
        return tuple((volume, before) for volume, before in pairs if volume.settings is not NO_SETTINGS)

    @cached_property
    def resized(self) -> tuple[Volume, ...]:
        """The volumes with another size than before, all of them when the server is new."""
        if self.old is None:
            return self.added
        return tuple(resized_volumes(self.all_volumes, self.old_volumes))

    @cached_property
    def added(self) -> tuple[Volume, ...]:
        """The volumes that the server did not have, but whose claims an earlier server of this name may have left."""
        if self.old is None and not is_server_name(self.name):
            return ()
        existing = {volume.name for volume in self.old_volumes if volume.size}
        return tuple(volume for volume in self.volumes if volume.name not in existing)

    @cached_property
    def named_classes(self) -> dict[str, str]:
        """The StorageClasses that a new server names, or an added volume, by their fields."""
        classes = {} if self.old else {DEFAULT_CLASS_FIELD: self.spec.storage.storage_class_name}
        for volume in self.added if self.old else self.volumes:
            if volume.class_field != DEFAULT_CLASS_FIELD:
                classes[volume.class_field] = volume.storage_class
        return {path: name for path, name in classes.items() if name}

    @cached_property
    def references(self) -> list[SecretReference]:
        """The references to Secrets that are new or changed."""
        old = secret_references(self.old.spec) if self.old else ()
        return [reference for reference in secret_references(self.spec) if reference not in old]

    @cached_property
    def objects(self) -> tuple[NamedObject, ...]:
        """The objects that the spec names and did not name before."""
        named = object_references(self.spec)
        if not (named and self.old):
            return named
        before = {entry.reference for entry in object_references(self.old.spec)}
        return tuple(entry for entry in named if entry.reference not in before)

    @property
    def image_changes(self) -> bool:
        """Tells whether a server that exists gets another image."""
        return self.old is not None and self.old.spec.image != self.spec.image

    @cached_property
    def family(self) -> Family | None:
        """Tells which of the two servers will run; None when neither its status nor its image says."""
        is_of_this_image = self.running.image in (None, self.spec.image) and not self.image_changes
        # The servers from 0.10 to 0.12 answer like newer ones, and take the keys from their environment all the same.
        if self.running.family and is_of_this_image and image_version(self.spec.image) is None:
            return Family(self.running.family)
        return family_of_image(self.spec.image)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The sections that go into the pod and are new or changed, without a podTemplate that cannot be merged."""
        changed = changed_sections(self.spec, self.old.spec if self.old else None)
        return tuple(section for section in changed if section != POD_TEMPLATE or not self.pod_conflicts)

    @cached_property
    def pod_conflicts(self) -> list[Finding]:
        """Why the podTemplate cannot be merged into the pod."""
        return pod_conflicts(self.spec)


# A rule yields what is wrong with a change, or doubtful about it, by these facts.
Rule = Callable[[Change, Facts], Iterator[Finding]]
