"""Checks the CustomResourceDefinition in a cluster against the one of this program. Looks nothing up."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.storage.checkup import Check, CheckResult
from app.storage.crd import custom_resource_definition
from app.storage.facts import Unknown
from app.storage.next_step import NextStep
from app.storage.spec import GROUP, KIND, PLURAL, VERSION
from app.storage.unstructured import is_terminating

CRD = "custom resource"
CRD_NAME = f"{PLURAL}.{GROUP}"
VERSION_LABEL = "app.kubernetes.io/version"

INSTALL = NextStep(
    "Upgrade the chart with crds.enabled, or apply the definition of this version.",
    "dittofs-operator crd | kubectl apply --server-side --force-conflicts -f -",
)
_DESCRIBE = f"kubectl describe crd {CRD_NAME}"
_MAX_FIELDS_LISTED = 5


def crd_checks(crd: Mapping[str, Any] | Unknown | None, program: str) -> Iterator[Check]:
    """Checks the live definition, None where there is none; `program` is the version of this program."""
    if isinstance(crd, Unknown):
        step = NextStep("Ask an administrator to run this command.")
        yield Check(CRD, CheckResult.UNKNOWN, f"the CustomResourceDefinition is unknown: {crd.why}", step)
        return

    if crd is None:
        message = f"the CustomResourceDefinition {CRD_NAME} is not installed"
        yield Check(CRD, CheckResult.PROBLEM, message, INSTALL)
        return

    if is_terminating(crd):
        message = f"the CustomResourceDefinition is being deleted, and with it every {KIND}"
        step = NextStep("Wait until it is gone, and install it again; volume claims are kept.", _DESCRIBE)
        yield Check(CRD, CheckResult.PROBLEM, message, step)
        return

    conditions = {item["type"]: item for item in (crd.get("status") or {}).get("conditions") or ()}
    for kind in ("NamesAccepted", "Established"):
        condition = conditions.get(kind) or {}
        if condition.get("status") != "True":
            why = condition.get("message") or "the API server has not said why"
            step = NextStep("Remove the cause that the message quotes.", _DESCRIBE)
            yield Check(CRD, CheckResult.PROBLEM, f"the CustomResourceDefinition is not {kind}: {why}", step)
            return

    yield from _version_checks(crd, program)


def _version_checks(crd: Mapping[str, Any], program: str) -> Iterator[Check]:
    versions = {version["name"]: version for version in crd["spec"]["versions"]}
    live = versions.get(VERSION) or {}
    if not live.get("served") or not live.get("storage"):
        message = f"the API server does not serve and store {VERSION}, only {', '.join(sorted(versions))}"
        yield Check(CRD, CheckResult.PROBLEM, message, INSTALL)
        return

    if earlier := [name for name in (crd.get("status") or {}).get("storedVersions") or () if name != VERSION]:
        message = f"servers may still be stored as {', '.join(earlier)}"
        step = NextStep("Write each of them once, and remove the version from status.storedVersions.", _DESCRIBE)
        yield Check(CRD, CheckResult.WARNING, message, step)

    labels = crd["metadata"].get("labels") or {}
    version = f"of version {labels[VERSION_LABEL]}" if VERSION_LABEL in labels else "without a version"
    live_definition = f"the CustomResourceDefinition {version}"

    [ours] = custom_resource_definition()["spec"]["versions"]
    fields, live_fields = set(_field_paths(_schema(ours))), set(_field_paths(_schema(live)))

    if lacking := sorted(fields - live_fields):
        message = f"{live_definition} lacks fields of this program's version {program}: {_list(lacking)}"
        yield Check(CRD, CheckResult.PROBLEM, message, INSTALL)
    elif more := sorted(live_fields - fields):
        message = f"{live_definition} has fields that this program of version {program} does not know: {_list(more)}"
        step = NextStep("Use the version of this program that belongs to the operator.")
        yield Check(CRD, CheckResult.WARNING, message, step)
    elif _schema(ours) != _schema(live):
        message = f"{live_definition} has other rules or descriptions than this program's version {program}"
        yield Check(CRD, CheckResult.WARNING, message, INSTALL)
    else:
        message = f"the CustomResourceDefinition is established, and the one of this program's version {program}"
        yield Check(CRD, CheckResult.OK, message)


def _schema(version: Mapping[str, Any]) -> Any:
    return (version.get("schema") or {}).get("openAPIV3Schema") or {}


def _field_paths(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yields the path of every field, those in lists included."""
    for name, field in (schema.get("properties") or {}).items():
        inner = f"{path}.{name}" if path else name
        yield inner
        yield from _field_paths(field, inner)
    if isinstance(schema.get("items"), Mapping):
        yield from _field_paths(schema["items"], f"{path}[]")


def _list(paths: list[str]) -> str:
    """Lists the outermost of these fields."""
    outermost = [path for path in paths if not any(path.startswith((f"{other}.", f"{other}[")) for other in paths)]
    more = len(outermost) - _MAX_FIELDS_LISTED
    return ", ".join(outermost[:_MAX_FIELDS_LISTED]) + (f" and {more} more" if more > 0 else "")
