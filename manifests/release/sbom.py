"""Writes the software bill of materials of a release: SPDX 2.3 as JSON, from the lock files and the wheel."""

import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from license_expression import ExpressionError, LicenseExpression, get_spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.writer.json.json_writer import write_document_to_file

from manifests.release.checksums import sha256
from manifests.release.source import NAME, ReleaseSource

_DOCUMENT, _WHEEL = "SPDXRef-DOCUMENT", "SPDXRef-wheel"
_LICENSES = get_spdx_licensing()


def build_sbom(source: ReleaseSource, wheel: Path, folder: Path) -> Path:
    """Writes the document about a wheel and returns its path; a document that breaks a rule of SPDX is an error."""
    path = folder / f"{NAME}-{source.version}.spdx.json"
    write_document_to_file(_document(source, wheel), str(path), validate=True)
    return path


def locked_versions(lock: Path) -> dict[str, str]:
    """Returns the versions of a lock file by the names of their packages."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE))


def _document(source: ReleaseSource, wheel: Path) -> Document:
    of_client = locked_versions(source.path("requirements-client.lock"))
    of_server = locked_versions(source.path("requirements.lock"))
    digest = sha256(wheel)

    creation = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=f"{NAME}-{source.version}",
        # The customary form of a namespace: unique for each content, and no address.
        document_namespace=f"https://spdx.org/spdxdocs/{NAME}-{source.version}-{uuid5(NAMESPACE_URL, digest)}",
        creators=[Actor(ActorType.TOOL, f"{NAME}-release")],
        created=datetime.fromtimestamp(source.time, UTC).replace(tzinfo=None),
    )
    relationships = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _WHEEL)]
    for name in of_server:
        if name in of_client:
            relationships.append(Relationship(_WHEEL, RelationshipType.DEPENDS_ON, _identifier(name)))
        else:
            relationships.append(Relationship(_identifier(name), RelationshipType.OPTIONAL_DEPENDENCY_OF, _WHEEL))

    packages = [_wheel(source, wheel, digest), *(_locked(name, version) for name, version in of_server.items())]
    return Document(creation, packages, relationships=relationships)


def _wheel(source: ReleaseSource, wheel: Path, digest: str) -> Package:
    apache = _LICENSES.parse("Apache-2.0")
    return Package(
        _WHEEL,
        NAME,
        SpdxNoAssertion(),
        version=source.version,
        file_name=wheel.name,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, digest)],
        source_info=f"git commit {source.revision}",
        license_concluded=apache,
        license_declared=apache,
        files_analyzed=False,
        primary_package_purpose=PackagePurpose.APPLICATION,
    )


def _locked(name: str, version: str) -> Package:
    reference = ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", f"pkg:pypi/{name}@{version}")
    return Package(
        _identifier(name),
        name,
        SpdxNoAssertion(),
        version=version,
        license_declared=_declared_license(name, version),
        files_analyzed=False,
        external_references=[reference],
        primary_package_purpose=PackagePurpose.LIBRARY,
    )


def _declared_license(name: str, version: str) -> LicenseExpression | SpdxNoAssertion:
    """Returns the license in the package's metadata, which is there for packages that are installed in this version."""
    try:
        installed = metadata(name)
    except PackageNotFoundError:
        return SpdxNoAssertion()

    if "License-Expression" not in installed or installed["Version"] != version:
        return SpdxNoAssertion()

    try:
        return _LICENSES.parse(installed["License-Expression"], validate=True)
    except ExpressionError:
        return SpdxNoAssertion()


def _identifier(name: str) -> str:
    return f"SPDXRef-{name}"
