"""Decides which image has opened a server's database, whether a tag can move, and what to do about another image."""

import re
from collections.abc import Iterator

from app.storage.adoption import why_not_adopted
from app.storage.events import Event
from app.storage.evidence import quote
from app.storage.fields import MAX_IMAGE_CHARACTERS
from app.storage.live import LiveState
from app.storage.names import image_tag
from app.storage.pod import container_status, server_container
from app.storage.rollout import is_ready
from app.storage.spec import DittoServer
from app.storage.status_schema import IMAGE_ID_PATTERN, ServerStatus

MIGRATION_FAILED = "DatabaseMigrationFailed"
# What a DittoFS server logs before it ends with an error; so does the stand-in of the tests. When the database of
# DittoFS up to 0.8 has no share, DittoFS 0.29 fails a step later, and at yet another one each time after that.
MIGRATION_PHRASES = (
    b"failed to run database migration",
    b"failed to drop payload_store_id column",
    b"failed to create default-local block store",
)

_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})")
# The newest release, and the newest one of a series: DittoFS publishes v0 and v0.29 along with v0.29.0.
_MOVING_TAG = re.compile(r"latest|v\d{1,6}(\.\d{1,6})?")
# Goes into a command that a person may copy.
_SAFE_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")
_DOCKER_PREFIX = "docker-pullable://"


def can_move(image: str) -> bool:
    """Tells whether the image can be another one at the next restart; that of a digest never is."""
    if "@" in image:
        return False

    tag = image_tag(image)
    return tag is None or _MOVING_TAG.fullmatch(tag) is not None


def is_same_image(image: str, server: ServerStatus) -> bool:
    """Tells whether a digest in the image's name is that of the image which has run last."""
    digest = _DIGEST.search(image)
    return digest is not None and (server.image_id or "").endswith(digest[1])


def pinned_image(server: ServerStatus) -> str | None:
    """Returns the image that has run last by its digest, as spec.image may have it; None when no registry knows it."""
    return server.image_id if server.image_id and "@" in server.image_id else None


def database_image(server: ServerStatus) -> str | None:
    """Returns the image that can open the database: the last one that was ready."""
    image = pinned_image(server) or server.image
    return image if image and _SAFE_IMAGE.fullmatch(image) else None


def observe_image(server: DittoServer, live: LiveState, known: ServerStatus) -> ServerStatus:
    """Returns what is known with the image of the pod, which counts once it is ready: it has opened the database."""
    pod = live.pod
    if pod is None or not is_ready(pod) or why_not_adopted(server, live):
        return known

    container = container_status(pod)
    image_id = str(container.get("imageID") or "").removeprefix(_DOCKER_PREFIX)
    if not container.get("ready") or not re.fullmatch(IMAGE_ID_PATTERN, image_id):
        return known

    # The runtime may report another name of the image than the one in the spec.
    named = server_container(pod).get("image") or container.get("image")
    previous = known.previous_image_id if known.image_id == image_id else known.image_id
    image = str(named or "")[:MAX_IMAGE_CHARACTERS]
    return known.model_copy(update={"image": image, "image_id": image_id, "previous_image_id": previous})


def image_events(before: ServerStatus, after: ServerStatus) -> Iterator[Event]:
    """Yields the Event about another image than the one that was ready before."""
    if before.image_id is None or after.image_id is None or after.image_id == before.image_id:
        return

    old, new = (server.image_id.rpartition("@")[2] for server in (before, after) if server.image_id)
    if before.image == after.image:
        message = f"a restart changed the image behind {_name(after.image)} from {old} to {new}"
        yield Event("Warning", "ImageChanged", f"{message}; pin the digest in spec.image to prevent that")
    else:
        message = f"the image changed from {_name(before.image)} ({old}) to {_name(after.image)} ({new})"
        yield Event("Normal", "ImageChanged", message)


def explain_failed_migration(server: str, image: object, image_id: object, able: str | None) -> str:
    """Says which image can open the database; `able` is that image, None when nobody knows."""
    problem = f"image {_name(image)} failed to migrate the database"
    if able is None:
        return f"{problem}; set spec.image to the image that ran before, which the operator does not know"

    if str(image_id or "").endswith(able.rpartition("@")[2]) and "@" in able:
        return f"{problem}, which it has opened before; kubectl logs -p says why"

    patch = f'kubectl patch dittoserver {server} --type=merge -p \'{{"spec":{{"image":"{able}"}}}}\''
    advice = "if DittoFS up to 0.8 then shows no shares, restore the volumes from before the change"
    return f"{problem}; {able} can open it: {patch}; {advice}"


def _name(image: object) -> str:
    text = str(image or "")
    # A digest would be quoted as an ellipsis.
    return text if _SAFE_IMAGE.fullmatch(text) else quote(text)
