import os
import re
import subprocess

from manifests.release.source import ROOT


def build_command(**variables: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in ("IMAGE", "BASE", "BUILD_OPTIONS")}
    command = ["make", "--silent", "image", "BUILDER=echo", *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True).stdout


def test_the_base_is_pinned_by_its_digest() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    [base] = re.findall(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)

    assert re.fullmatch(r"[a-z./]+:[\w.-]+@sha256:[0-9a-f]{64}", base)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${BASE}"}


def test_what_the_image_contains_is_locked() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    commands = [part for line in re.findall(r"^RUN (.*)$", dockerfile, re.MULTILINE) for part in line.split("&&")]
    installing = [command for command in commands if " install " in command]

    assert installing
    assert not [command for command in installing if not re.search(r"--require-hashes|--no-deps", command)]


def test_a_release_tags_no_image() -> None:
    assert "--tag" not in build_command(IMAGE="")
    assert "--tag localhost/dittofs-operator:" in build_command()


def test_the_time_of_a_source_is_not_in_the_image() -> None:
    """Compiled code that is checked by time would be another one in each build, and never up to date in the image."""
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    into_image = [line for line in dockerfile.splitlines() if "--python /opt/dittofs-operator" in line]

    assert into_image
    assert all(
        line.count(" install ") - line.count("-r requirements-build.lock") == line.count("--no-compile")
        for line in into_image
    )
    assert "compileall -q -f --invalidation-mode unchecked-hash /opt/dittofs-operator/lib" in dockerfile
