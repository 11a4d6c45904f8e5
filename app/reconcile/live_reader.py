"""Reads what the cluster has of one server: from the informers, and Secrets from the API server when they changed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from app.cluster.client import Cluster
from app.cluster.errors import ClusterError, NotFound
from app.cluster.informers import Informers
from app.cluster.reader import CLAIMS, NODES, SECRETS
from app.cluster.secrets import SecretDigest
from app.reconcile.unlabelled_pods import UnlabelledPods
from app.storage.containers import failed_run
from app.storage.desired import new_until, postgres_reference
from app.storage.diagnosis import node_in_question
from app.storage.evidence import Node, NodeState, quote
from app.storage.facts import Secret, Unknown
from app.storage.images import MIGRATION_PHRASES
from app.storage.live import LiveState
from app.storage.objects import controller
from app.storage.pause import is_paused
from app.storage.pod import CONTAINER, config_map_name, pod_name
from app.storage.remote_store import RemoteStore, store_to_adopt
from app.storage.resize import may_lose_data, may_restart
from app.storage.rollout import is_ready
from app.storage.secret_references import consumed_references, generated_references, postgres_secret_name
from app.storage.server_health import ServerHealth
from app.storage.services import service_names
from app.storage.shares import reported_shares
from app.storage.spec import DittoServer
from app.storage.status_schema import ServerStatus
from app.storage.takeover import former_admin_secret_name
from app.storage.unstructured import Manifest, ObjectKey, key_of
from app.storage.volumes import control_plane_volume, volumes
from app.storage.workload import restarted_at

# Returns what a server has reported, or why it does not answer; None before it was asked.
ReportSource = Callable[[ObjectKey], ServerHealth | Unknown | None]


class LiveReader:
    """Reads the LiveState of servers; `patience` is how long a file system may take to grow while it is in use."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        clock: Callable[[], datetime],
        patience: timedelta,
        report_of: ReportSource,
    ) -> None:
        self._cluster = cluster
        self._informers = informers
        self._clock = clock
        self._patience = patience
        self._report_of = report_of
        self._unlabelled_pods = UnlabelledPods(informers, clock)

        # Versions of the Secret with a connection string and of the one with its parts, when they last agreed.
        self._agreed: dict[ObjectKey, tuple[int, int]] = {}
        informers.secrets_metadata.rewind_handlers.append(self._agreed.clear)
        # By pod, the run whose log was searched, and whether a failed migration was in it.
        self._migrations: dict[ObjectKey, tuple[tuple[str, int], bool]] = {}

    async def read(self, server: DittoServer, manifest: Manifest) -> LiveState:
        """Returns all that a decision about the server needs."""
        key = key_of(manifest)
        await self._unlabelled_pods.look_for(key)
        live = self.observe(server, manifest)

        secrets: dict[str, Secret | Unknown | None] = {}
        digests = {}
        for reference in consumed_references(server.metadata.name, server.spec):
            if not reference.secret:
                continue
            secret = await self._informers.secret((key[0], reference.secret))
            if isinstance(secret, SecretDigest):
                digests[reference.secret] = secret.digests
            secrets[reference.secret] = secret.secret if isinstance(secret, SecretDigest) else secret
        live = replace(live, secrets=secrets, digests=digests)

        # The Secret with the connection string is read only where it, or the one with its parts, has changed since.
        connection = postgres_reference(server.metadata.name, server.spec)
        name = connection.secret if connection else None
        if not name or name not in digests:
            return live
        if live.postgres_secret and self._agreed.get(key) == self._versions(key, name):
            return live

        try:
            return replace(live, postgres_source=await self._cluster.get(SECRETS, name, key[0]))
        except ClusterError as error:
            return replace(live, secrets={**secrets, name: Unknown(str(error))})

    def agree(self, key: ObjectKey, source: Manifest) -> None:
        """Remembers that the Secret with the parts agrees with the connection string as it was read."""
        _, parts = self._versions(key, source["metadata"]["name"])
        self._agreed[key] = int(source["metadata"]["resourceVersion"]), parts

    def _versions(self, key: ObjectKey, source: str) -> tuple[int, int]:
        namespace, name = key
        metadata = self._informers.secrets_metadata
        return metadata.version((namespace, source)), metadata.version((namespace, postgres_secret_name(name)))

    def observe(self, server: DittoServer, manifest: Manifest) -> LiveState:
        """Returns what the informers know at this moment, without the Secrets that the pod reads."""
        key = namespace, name = key_of(manifest)
        informers = self._informers
        possible_volumes = (*volumes(server.spec.storage), control_plane_volume(None))
        claims = [informers.claim((namespace, volume.claim_name(name))) for volume in possible_volumes]
        stateful_set = informers.stateful_sets.get(key)
        pod = informers.pods.get((namespace, pod_name(name)))
        # What a server said that has ended says nothing of the next one.
        report = self._report_of(key) if pod and is_ready(pod) else None
        live_services = [informers.services.get((namespace, service)) for service in service_names(name)]

        generated = [reference.secret or "" for reference in generated_references(name, server.spec)]
        generated_metadata = {secret: informers.secrets_metadata.get((namespace, secret)) for secret in generated}

        return LiveState(
            uid=manifest["metadata"]["uid"],
            claims={claim.name: claim for claim in claims if claim},
            classes=informers.storage_classes,
            stateful_set=stateful_set,
            pod=pod,
            is_paused=is_paused(manifest),
            may_restart=may_restart(manifest),
            may_lose_data=may_lose_data(manifest),
            restarted_at=restarted_at(manifest),
            patience=self._patience,
            unlabelled_pod=self._unlabelled_pods.get(key),
            claims_gap=informers.gap(CLAIMS),
            is_new=bool(stateful_set and new_until(stateful_set) > self._clock()),
            config_map=informers.config_maps.get((namespace, config_map_name(name))),
            services={service["metadata"]["name"]: service for service in live_services if service},
            generated_secrets={secret: metadata for secret, metadata in generated_metadata.items() if metadata},
            former_admin_secret=informers.secrets_metadata.get((namespace, former_admin_secret_name(name))),
            postgres_secret=informers.secrets_metadata.get((namespace, postgres_secret_name(name))),
            health=report if isinstance(report, ServerHealth) else None,
            unanswered=report.why if isinstance(report, Unknown) else "",
            adopt_store=store_to_adopt(manifest),
            remote_store=RemoteStore.read(manifest),
            shares=reported_shares(manifest),
            server=ServerStatus.read(manifest),
        )

    async def read_node(self, live: LiveState) -> Node | None:
        """Looks the pod's node up when the pod does not end or has lost it; with nothing wrong, nothing is asked."""
        name = node_in_question(live.pod, self._clock())
        if name is None or live.pod is None or live.stateful_set is None:
            return None
        # Somebody else may have created a pod under this name, and users may not read nodes.
        if (controller(live.pod) or {}).get("uid") != live.stateful_set["metadata"]["uid"]:
            return None

        try:
            return Node.read(await self._cluster.get(NODES, name))
        except NotFound:
            return Node(name, NodeState.DELETED)
        except ClusterError as error:
            return Node(name, NodeState.NOT_LOOKED_UP, message=quote(error))

    async def read_migration(self, live: LiveState) -> bool:
        """Tells whether the server ended because it could not migrate its database; asks once for each of its runs."""
        run = failed_run(live.pod) if live.pod else None
        if run is None or live.pod is None or live.stateful_set is None:
            return False
        # Somebody else may have created a pod under this name.
        if (controller(live.pod) or {}).get("uid") != live.stateful_set["metadata"]["uid"]:
            return False

        key = namespace, name = key_of(live.pod)
        known_run, has_failed = self._migrations.get(key, (None, False))
        if known_run == run:
            return has_failed

        try:
            has_failed = await self._cluster.previous_log_contains(name, namespace, CONTAINER, *MIGRATION_PHRASES)
        except ClusterError:
            # The log only explains something. Of this pod, what an earlier run has said still holds.
            has_failed = has_failed and known_run is not None and known_run[0] == run[0]
        self._migrations[key] = run, has_failed
        return has_failed

    def recheck_seconds(self, key: ObjectKey) -> float | None:
        """Returns the seconds until the pod has to be searched again; None when no search is due."""
        seconds = self._unlabelled_pods.seconds_left(key)
        return None if seconds is None else max(seconds, 0.0)

    def forget(self, key: ObjectKey) -> None:
        self._agreed.pop(key, None)
        self._migrations.pop((key[0], pod_name(key[1])), None)
        self._unlabelled_pods.forget(key)
