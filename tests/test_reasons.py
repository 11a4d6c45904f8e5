"""The table of reasons is complete: each reason in the code has a row, and each row is used by the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from app.storage.volume_states import Phase
from manifests.reasons import REASONS, VOLUME_PHASES

ROOT = Path(__file__).parent.parent
CONDITIONS = {"Ready", "Reconciling", "Stalled", "StorageReady", "CredentialsReady"}
# Put together in the code from the kind of the object.
TERMINATING = {"ServiceTerminating", "ConfigMapTerminating", "StatefulSetTerminating"}
# Names in the code that look like reasons and are something else, by what they are.
OTHER_NAMES = {
    "kinds": {
        *(
            "AdmissionReview",
            "ConfigMap",
            "CustomResourceDefinition",
            "DittoServer",
            "ExecCredential",
            "Event",
            "Lease",
        ),
        *("List", "MutatingWebhookConfiguration", "Node", "PartialObjectMetadataList", "PersistentVolumeClaim", "Pod"),
        *(
            "PodSecurityContext",
            "ResourceRequirements",
            "Secret",
            "SecurityContext",
            "Service",
            "StatefulSet",
            "Status",
        ),
        *("StorageClass", "ValidatingWebhookConfiguration"),
    },
    "values of fields": {
        *("Always", "Apply", "Background", "ClusterIP", "Equivalent", "Fail", "Filesystem", "IfAvailable", "Ignore"),
        *("LoadBalancer", "Namespaced", "Never", "NodePort", "NotOlderThan", "OnRootMismatch", "Opaque", "Orphan"),
        *("ReadWriteOnce", "Retain", "RollingUpdate", "RuntimeDefault", "Strict", "Update", "WaitForFirstConsumer"),
        *("None", "Failure", "FieldValueInvalid", "Invalid", "Normal", "Warning"),
        *("False", "True", "Unknown", "Running", "Failed", "Pending"),
    },
    "types of conditions": {*CONDITIONS, "PodScheduled"},
    "reasons that the operator reads": {
        *("ContainerCannotRun", "ContainerCreating", "ControllerResizeError", "ErrImageNeverPull", "ErrImagePull"),
        *("Error", "FailedAttachVolume", "FailedBinding", "FailedCreate", "FailedCreatePodSandBox", "FailedMapVolume"),
        *("FailedMount", "FailedToRetrieveImagePullSecret", "InvalidImageName", "NetworkNotReady", "NodeResizeError"),
        *("ProvisioningFailed", "ReadinessGatesNotReady", "ResizeInfeasible", "RunContainerError", "StartError"),
        *("VolumeMismatch", "Deleted", "NotLookedUp", "NotReady", "Unreachable"),
    },
    "columns, headers and text": {
        *(
            "Accept",
            "Age",
            "All",
            "Authorization",
            "Date",
            "Phase",
            "Protocol",
            "Reason",
            "Replicas",
            "Postgres",
            "Secrets",
        ),
        *("Ei", "Gi", "Ki", "Mi", "Pi", "Ti", "No", "Null", "Off", "On", "Text", "Yes"),
    },
    "keys of client configurations, types in annotations": {
        *(
            "BearerToken",
            "Change",
            "Claim",
            "Cluster",
            "Document",
            "Facts",
            "Function",
            "Name",
            "Result",
            "SecretDigest",
        ),
    },
}
NOT_REASONS = set().union(*OTHER_NAMES.values())
NAME = re.compile(r"[A-Z][a-z]+([A-Z][A-Za-z]+)*|CA[A-Z][A-Za-z]+|NextCA[A-Za-z]+")


def test_every_reason_in_the_code_is_documented() -> None:
    documented = {reason.name for reason in REASONS} | {phase for phase, _ in VOLUME_PHASES}
    undocumented = {word: place for word, place in names_in_the_code() if word not in documented | NOT_REASONS}

    assert undocumented == {}, "add a row to manifests/reasons.py, or the name to OTHER_NAMES here"


def test_every_documented_reason_is_used() -> None:
    used = {word for word, _ in names_in_the_code()} | TERMINATING
    assert {reason.name for reason in REASONS} <= used


def test_every_phase_of_a_volume_is_documented() -> None:
    documented = {phase for phase, _ in VOLUME_PHASES} | {reason.name for reason in REASONS}
    assert {str(phase) for phase in Phase} <= documented


def test_each_reason_has_one_complete_row() -> None:
    names = [reason.name for reason in REASONS]
    assert len(names) == len(set(names))

    for reason in REASONS:
        assert reason.conditions or reason.event, reason.name
        assert set(filter(None, reason.conditions.split(", "))) <= CONDITIONS, reason.name
        assert set(filter(None, reason.event.split(", "))) <= {"Normal", "Warning"}, reason.name
        assert reason.meaning.endswith("."), reason.name
        assert reason.remedy.endswith(".") or not reason.remedy, reason.name


def names_in_the_code() -> Iterator[tuple[str, str]]:
    """Yields every text in app and certs that could be a reason, with its file."""
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "certs").rglob("*.py")]:
        if path.name == "core_v1.py":  # Generated, and full of names of fields and their types.
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                yield node.value, str(path.relative_to(ROOT))
