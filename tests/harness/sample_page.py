"""A status page about servers of every kind, and one whose texts try everything that a tenant could."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.cli.page import StatusPage
from app.cli.server_report import ServerReport, report
from app.cluster.survey import Survey
from app.storage.facts import Claim
from app.storage.unstructured import Manifest
from app.storage.usage import Usage
from tests.harness.server_table import s3, server

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
GIB = 2**30
IMAGE = "marmos91c/dittofs:v0.29.0"
DIGEST = "sha256:3f1b0c3c6c0a9d4be53e2a3d0a77a1f0cf0b4ab6a8f39a9bf3a7f6b1f0d9c2e1"
FINE = {
    "Ready": ("True", "Available", "NFS is served"),
    "Reconciling": ("False", "Reconciled", ""),
    "Stalled": ("False", "Reconciled", ""),
    "StorageReady": ("True", "Bound", "every claim is bound"),
    "CredentialsReady": ("True", "Found", "every Secret is there"),
    "StoresReady": ("True", "Loaded", "the server has loaded its shares"),
    "EndpointsReady": ("True", "Assigned", "every Service has its address"),
}
QUOTA = (
    "pod films-0 cannot be created: exceeded quota: team, requested: pods=1, limited: pods=0; "
    "raise ResourceQuota team, or free some of it"
)
HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "' onmouseover='alert(1)",
    "</style></title></td><svg onload=alert(1)>",
    "&lt;b&gt; &#60;i&#62; <!-- ]]>",
    "\u202egnp.exe\u2066 \u200b\ufeff\u2028",
    "\x00\x1b]0;title\x07\x1b[2J\r\n\t",
    "%3Cscript%3E {0} %s ${x} javascript:alert(1)",
)


def ago(**duration: float) -> str:
    return (NOW - timedelta(**duration)).isoformat()


@dataclass(frozen=True)
class SampleServer:
    """What the cluster has of a server; `used` are the GiB in use of each volume."""

    name: str
    since: timedelta = timedelta(days=3)
    conditions: dict[str, tuple[str, str, str]] | None = None
    used: tuple[float, float] | None = None
    runs: bool = True
    shares: tuple[Manifest, ...] = ()
    events: tuple[Manifest, ...] = ()

    def report(self, namespace: str = "media") -> ServerReport:
        key, sizes = (namespace, self.name), {"metadata": 10, "cache": 20}
        used = dict(zip(sizes, self.used or (), strict=False))
        claims = {volume: (namespace, f"{volume}-{self.name}-0") for volume in sizes}
        spec = {"storage": {"metadataSize": "10Gi", "cacheSize": "20Gi", "storageClassName": "fast"}}
        metadata = {"name": self.name, "namespace": namespace, "generation": 1}
        manifest = {**server(**s3(), **spec, image=IMAGE), "metadata": metadata, "status": self._status(namespace)}
        live = Survey(
            servers={key: manifest},
            claims={
                claims[volume]: Claim(claims[volume][1], "fast", f"{size}Gi", "Bound", f"{size}Gi")
                for volume, size in sizes.items()
            },
            pods={(namespace, f"{self.name}-0"): self._pod()} if self.runs else {},
            usages={claims[name]: Usage(int(gib * GIB), sizes[name] * GIB) for name, gib in used.items()},
        )
        return report(live, key, NOW, self.events)

    def _status(self, namespace: str) -> Manifest:
        changed = self.conditions or {}
        since = (NOW - self.since).isoformat()
        host = f"{self.name}-file.{namespace}.svc.cluster.local"
        api = {"protocol": "api", "host": f"{self.name}-api.{namespace}.svc.cluster.local", "port": 8080}
        conditions = [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastTransitionTime": since if kind in changed else ago(days=3),
            }
            for kind, (status, reason, message) in {**FINE, **changed}.items()
        ]
        return {
            "observedGeneration": 1,
            "conditions": conditions,
            "endpoints": [
                {"protocol": "nfs", "host": host, "clusterIP": "10.96.0.17", "port": 2049},
                {**api, "clusterIP": "10.96.0.18"},
            ],
            "server": {"family": "Current", "version": "0.29.0", "startedAt": ago(days=3)} if self.runs else {},
            "shares": list(self.shares),
        }

    def _pod(self) -> Manifest:
        running = {"running": {"startedAt": ago(days=3)}}
        container = {"name": "dittofs", "restartCount": 0, "state": running, "imageID": f"dittofs@{DIGEST}"}
        return {
            "metadata": {"name": f"{self.name}-0"},
            "spec": {"nodeName": "worker-1", "containers": [{"name": "dittofs", "image": IMAGE}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [container],
            },
        }


def event(reason: str, message: str, about: tuple[str, str], **fields: Any) -> Manifest:
    kind, name = about
    return {
        "metadata": {"name": reason},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        **fields,
    }


FILMS = SampleServer(
    "films",
    since=timedelta(minutes=12),
    conditions={
        "Ready": ("False", "QuotaExceeded", QUOTA),
        "Reconciling": ("True", "QuotaExceeded", QUOTA),
        "StoresReady": ("Unknown", "NotRunning", "the server is asked about its shares and stores once it runs"),
    },
    runs=False,
    events=(
        event(
            "FailedCreate",
            'create Pod films-0 in StatefulSet films failed error: pods "films-0" is forbidden: exceeded quota: team, '
            "requested: pods=1, used: pods=0, limited: pods=0",
            ("StatefulSet", "films"),
            type="Warning",
            count=12,
            lastTimestamp=ago(seconds=8),
        ),
        event(
            "Killing", "Stopping container dittofs", ("Pod", "films-0"), type="Normal", lastTimestamp=ago(minutes=13)
        ),
    ),
)
FILES = SampleServer(
    "files",
    used=(9.55, 6.2),
    shares=(
        {"name": "projects", "path": "/projects", "phase": "Ready"},
        {"name": "scans", "path": "/scans", "phase": "Ready"},
        {
            "name": "attic",
            "path": "/attic",
            "phase": "Retained",
            "message": "it was removed from spec.shares, and kept",
        },
    ),
)
MUSIC = SampleServer("music", used=(4.1, 3), shares=({"name": "export", "path": "/export", "phase": "Ready"},))

PHOTOS = SampleServer(
    "photos",
    since=timedelta(minutes=3),
    conditions={"Reconciling": ("True", "RollingOut", "pod photos-0 is being replaced by one of the current revision")},
    used=(1.2, 2.5),
)


def page(*servers: SampleServer, gaps: tuple[str, ...] = ()) -> StatusPage:
    reports = sorted((item.report() for item in servers), key=lambda item: item.rank)
    return StatusPage(reports, gaps, "context production", "namespace media", NOW)


def sample_page() -> StatusPage:
    return page(FILMS, FILES, MUSIC, PHOTOS)


def hostile_server(text: str) -> SampleServer:
    """Builds a server whose status and Events repeat the text wherever the API server lets a tenant write."""
    return SampleServer(
        "files",
        conditions={
            "Ready": ("False", text, text),
            "StorageReady": ("Unknown", text, f"{text} and more"),
            text: FINE["Ready"],
        },
        shares=({"name": text, "path": text, "phase": "Failed", "message": text},),
        events=(event(text, text, ("Pod", "files-0"), type=text, lastTimestamp=text),),
    )


def hostile_page() -> StatusPage:
    long = "x" * 3000, "一" * 300, "word " * 300
    servers = [hostile_server(text) for text in (*HOSTILE, *long)]
    texts = "".join(HOSTILE)
    reports = [
        item.report(f"{text}{number}")
        for number, (item, text) in enumerate(zip(servers, (*HOSTILE, *long), strict=True))
    ]
    return StatusPage(reports, (texts, *long), texts, texts, NOW)
