"""Leaves a server behind as the last version of the operator with another rendering did."""

from app.cluster.reader import CONFIG_MAPS, SERVICES, STATEFUL_SETS
from app.reconcile.live_reader import LiveReader
from app.storage.live import RESIZE_PATIENCE
from app.storage.objects import admin_secret, config_map, jwt_secret, stateful_set
from app.storage.pod import PodRevision
from app.storage.provisioning import Hashes
from app.storage.reading import read
from app.storage.rendering import Rendering
from app.storage.resize import initial_templates
from app.storage.services import services
from app.storage.unstructured import key_of
from tests.harness.reconciler_namespace import ReconcilerNamespace, owner_of
from tests.harness.wait import until_async


async def write_objects(site: ReconcilerNamespace, rendering: Rendering) -> None:
    """Writes the objects of the server files, whose spec the informers have, and its generated Secrets."""
    manifest = site.informers.servers.get(site.key)
    assert manifest
    server, owner = read(manifest).server, owner_of(manifest)

    for secret in (jwt_secret(owner, b"0" * 64), admin_secret(owner, "password of 24 characters")):
        await site.writer.create_secret(secret)
        key = key_of(secret)
        await until_async(lambda key=key: key in site.informers.secrets_metadata)  # type: ignore[misc]

    reader = LiveReader(site.cluster, site.informers, site.now, RESIZE_PATIENCE, lambda _: None)
    live = await reader.read(server, manifest)
    revision = PodRevision(rendering, Hashes.of(server, live.digests, rendering).full)
    templates = initial_templates(server, live)

    await site.writer.ensure(CONFIG_MAPS, config_map(owner, server.spec, rendering), owner)
    await site.writer.ensure(STATEFUL_SETS, stateful_set(owner, server.spec, revision, templates), owner)
    for service in services(owner, server.spec):
        await site.writer.ensure(SERVICES, service, owner)
