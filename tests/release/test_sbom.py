import json
from pathlib import Path

import pytest
from spdx_tools.spdx.model import Document, Package, RelationshipType
from spdx_tools.spdx.parser.json.json_parser import parse_from_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from manifests.release.checksums import sha256
from manifests.release.sbom import build_sbom, locked_versions
from manifests.release.source import ROOT, read_source


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "a-1-py3-none-any.whl"
    path.write_text("a wheel")
    return path


@pytest.fixture
def document(wheel: Path, tmp_path: Path) -> Document:
    """Returns the document as others read it."""
    return parse_from_file(str(build_sbom(read_source(), wheel, tmp_path)))


def of_wheel(document: Document) -> Package:
    [package] = [package for package in document.packages if package.spdx_id == "SPDXRef-wheel"]
    return package


def test_the_document_is_valid_spdx(document: Document) -> None:
    assert validate_full_spdx_document(document) == []
    assert document.creation_info.spdx_version == "SPDX-2.3"


def test_every_locked_package_is_listed(document: Document) -> None:
    listed = {package.name: package.version for package in document.packages if package != of_wheel(document)}
    purls = {reference.locator for package in document.packages for reference in package.external_references}

    assert listed == locked_versions(ROOT / "requirements.lock")
    assert purls == {f"pkg:pypi/{name}@{version}" for name, version in listed.items()}


def test_the_wheel_needs_what_a_client_has_installed(document: Document) -> None:
    needed = {
        str(relationship.related_spdx_element_id).removeprefix("SPDXRef-")
        for relationship in document.relationships
        if relationship.relationship_type == RelationshipType.DEPENDS_ON
    }
    optional = {
        relationship.spdx_element_id.removeprefix("SPDXRef-")
        for relationship in document.relationships
        if relationship.relationship_type == RelationshipType.OPTIONAL_DEPENDENCY_OF
    }

    assert needed == set(locked_versions(ROOT / "requirements-client.lock"))
    assert optional == set(locked_versions(ROOT / "requirements.lock")) - needed
    assert "fastapi" in optional


def test_the_wheel_is_named_by_its_digest(document: Document, wheel: Path) -> None:
    [checksum] = of_wheel(document).checksums
    assert (of_wheel(document).file_name, checksum.value) == (wheel.name, sha256(wheel))


def test_licenses_are_those_that_packages_declare(document: Document) -> None:
    licenses = {package.name: str(package.license_declared) for package in document.packages}
    assert licenses["dittofs-operator"] == "Apache-2.0"
    assert licenses["fastapi"] == "MIT"


def test_another_wheel_has_another_namespace(document: Document, wheel: Path, tmp_path: Path) -> None:
    wheel.write_text("another wheel")
    other = json.loads(build_sbom(read_source(), wheel, tmp_path).read_text())

    assert other["documentNamespace"] != document.creation_info.document_namespace
