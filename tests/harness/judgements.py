"""Judges DittoServers with facts about a small cluster, and returns the messages."""

from app.storage.change import Change
from app.storage.facts import Facts, Secret, StorageClass, StorageClasses
from app.storage.finding import rejections, warnings
from app.storage.rules import judge
from app.storage.unstructured import Manifest

FAST = StorageClass("fast", is_default=True, expandable=True)
SLOW = StorageClass("slow")
FAST_FIXED = StorageClass("fast", is_default=True)
VOLUMES = ("metadata", "content", "cache")
CLASSES = StorageClasses((FAST, SLOW))
S3_SECRET = Secret.read(
    {"stringData": {"accessKeyId": "AKIA", "secretAccessKey": "s3cr3t", "endpoint": "https://192.0.2.1"}}
)
MOUNTS = "/data/metadata, /data/cache, /data/controlplane"
QUIET = Facts(storage_classes=CLASSES, secrets={"s3": S3_SECRET})


def rejected(manifest: Manifest, old: Manifest | None = None, facts: Facts = QUIET) -> list[str]:
    return [finding.message for finding in rejections(judge(Change.read(manifest, old), facts))]


def warned(manifest: Manifest, old: Manifest | None = None, facts: Facts = QUIET) -> list[str]:
    return [finding.message for finding in warnings(judge(Change.read(manifest, old), facts))]


def secret(**data: str) -> Facts:
    return Facts(storage_classes=CLASSES, secrets={"s3": Secret.read({"stringData": data})})
