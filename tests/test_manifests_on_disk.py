"""The generated manifests are those that the code makes."""

from pathlib import Path

import pytest

from manifests.__main__ import generated

FOLDER = Path(__file__).parent.parent / "manifests"


@pytest.mark.parametrize("name", sorted(generated()))
def test_a_generated_manifest_is_what_the_code_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == generated()[name], "run `make manifests`"


def test_no_yaml_anchor_is_in_them() -> None:
    assert not any("&id" in text or "*id" in text for text in generated().values())
