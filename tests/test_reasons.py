"""The table of reasons is complete: each reason in the code has a row, and each row is used by the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from app.storage.reasons import REASONS, VOLUME_PHASES
from app.storage.volume_states import Phase

ROOT = Path(__file__).parent.parent
CONDITIONS = {"Ready", "Reconciling", "Stalled", "StorageReady", "CredentialsReady", "StoresReady", "EndpointsReady"}
# The code builds these from the kind of the object.
TERMINATING = {"ServiceTerminating", "ConfigMapTerminating", "StatefulSetTerminating"}
DOCUMENTED = {reason.name for reason in REASONS} | {phase for phase, _ in VOLUME_PHASES}
# Names in the code that look like reasons of the operator and are something else.
KINDS = """
    APIGroupList APIResourceList AdmissionReview ConfigMap ConfigMapVolumeSource ContainerPort
    CustomResourceDefinition DittoServer DownwardAPIVolumeSource ExecCredential GRPCAction HTTPGetAction
    HostPathVolumeSource MutatingWebhookConfiguration NFSVolumeSource NetworkPolicy ObjectFieldSelector
    PartialObjectMetadataList PersistentVolume PersistentVolumeClaim PersistentVolumeClaimVolumeSource
    PodSecurityContext PodSpec PriorityClass ProjectedVolumeSource ResourceFieldSelector ResourceRequirements
    SecretVolumeSource SecurityContext ServiceAccount ServiceAccountTokenProjection StatefulSet StorageClass
    CSIDriver EndpointSlice LimitRange ResourceQuota SecretRef SelfSubjectAccessReview SubjectAccessReview
    ValidatingWebhookConfiguration VolumeMount VolumeSnapshot
"""
VALUES_OF_FIELDS = """
    BearerToken ClusterFirst ExternalName FieldValueInvalid IfAvailable IfNotPresent JSONPatch LoadBalancer NodePort
    NotOlderThan OnRootMismatch PortForward PreferDualStack ReadOnlyMany ReadWriteMany ReadWriteOnce RequireDualStack
    RollingUpdate RuntimeDefault WaitForFirstConsumer
"""
CONDITIONS_OF_OTHERS = "NamesAccepted PodScheduled ReplicaFailure"
REASONS_OF_OTHERS = """
    ContainerCannotRun ContainerCreating ControllerResizeError ErrImageNeverPull ErrImagePull FailedAttachVolume
    FailedBinding FailedCreate FailedCreatePodSandBox FailedMapVolume FailedMount FailedToRetrieveImagePullSecret
    InvalidImageName NetworkNotReady NodeResizeError NotLookedUp NotReady OOMKilled ProvisioningFailed
    ReadinessGatesNotReady ResizeInfeasible RunContainerError StartError VolumeMismatch
"""
REASONS_OF_THE_COMMAND_STATUS = """
    CertificateExpired OperatorBehind OperatorDown OperatorNoLeader VolumeFull VolumeNearlyFull
    WebhookDown WebhookFails
"""
OTHER_NAMES = {
    *CONDITIONS,
    *f"{KINDS} {VALUES_OF_FIELDS} {CONDITIONS_OF_OTHERS} {REASONS_OF_OTHERS} {REASONS_OF_THE_COMMAND_STATUS}".split(),
}


def test_every_reason_in_the_code_is_documented() -> None:
    undocumented = {word: place for word, place in possible_reasons() if word not in DOCUMENTED | OTHER_NAMES}
    assert undocumented == {}, "add a row to app/storage/reasons.py, or the name to the other names here"


def test_every_documented_reason_is_used() -> None:
    used = {node.value for _, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not DOCUMENTED - TERMINATING - used


def test_every_other_name_is_still_in_the_code() -> None:
    used = {word for word, _ in possible_reasons()}
    assert not OTHER_NAMES - CONDITIONS - used


def test_every_phase_of_a_volume_is_documented() -> None:
    assert {str(phase) for phase in Phase} <= DOCUMENTED


def possible_reasons() -> Iterator[tuple[str, str]]:
    """Yields what is handed to a Problem, an Event or a Step, and each other name of several words in app and certs."""
    for path, tree in modules():
        type_names = {id(part) for node in ast.walk(tree) for part in parts_of_types(node)}

        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Problem", "Event", "Step"):
                texts = [text for argument in node.args if (text := literal(argument))]
                yield from ((text, path) for text in texts if text.isalpha() and text not in ("Normal", "Warning"))

            text = literal(node)
            if text and id(node) not in type_names and re.fullmatch(r"[A-Z]+[a-z]*([A-Z]+[a-z]+)+", text):
                yield text, path


def literal(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def parts_of_types(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what an annotation or a cast consists of; names of types may be in quotes."""
    for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
        if annotation is not None:
            yield from ast.walk(annotation)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "cast":
        yield from ast.walk(node.args[0])


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "certs").rglob("*.py")]:
        # core_v1 is generated, and full of names of types; reasons is the table itself.
        if path.name not in ("core_v1.py", "reasons.py"):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())
