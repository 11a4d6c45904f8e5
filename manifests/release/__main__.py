"""Builds and publishes releases, and cuts versions: `make release`, `plugin`, `publish` and `cut` run it.

Only `publish` with a confirmation changes anything outside of this repository.
"""

import shlex
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from manifests.release.changelog import CannotCut
from manifests.release.chart import build_chart
from manifests.release.checksums import SUMS, write_checksums
from manifests.release.image import build_image
from manifests.release.krew import build_krew_manifest
from manifests.release.plugin import CannotBuild, build_plugin
from manifests.release.publish import publish_commands, why_not_publishable
from manifests.release.sbom import build_sbom
from manifests.release.source import ROOT, ReleaseSource, read_source
from manifests.release.version import cut_version
from manifests.release.wheel import build_wheel

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def main() -> None:
    """Build releases and cut versions."""


@main.command()
@click.option("--folder", type=_FOLDER, default=ROOT / "dist", help="Replaced by the new release.")
@click.option("--plugins", type=_FOLDER, help="Holds the plugin built on other machines; otherwise it is built here.")
@click.option("--platforms", default="", help="What the image is built for, such as linux/amd64,linux/arm64.")
@click.option("--downloads", required=True, help="The address below which the files of a version will be.")
def build(folder: Path, plugins: Path | None, platforms: str, downloads: str) -> None:
    """Build all files of a release."""
    source = read_source()
    _empty(folder)
    wheel = build_files(source, folder)

    if plugins:
        for archive in sorted(plugins.glob("*.tar.gz")):
            shutil.copy(archive, folder)
    else:
        _build_plugin(source, wheel, folder)
    build_krew_manifest(source, folder, downloads)

    if platforms:
        build_image(source, folder, platforms)
    write_checksums(folder)
    click.echo((folder / SUMS).read_text(), nl=False)


@main.command()
@click.option("--folder", type=_FOLDER, required=True, help="Where the archive is written.")
def plugin(folder: Path) -> None:
    """Build the plugin as a single file for this machine."""
    source = read_source()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        _build_plugin(source, build_wheel(source, Path(scratch)), folder)


@main.command()
@click.option("--folder", type=_FOLDER, default=ROOT / "dist", help="Holds the release.")
@click.option("--registry", required=True, help="Where image and chart are pushed to.")
@click.option("--confirm", default="no", help="With yes it publishes, otherwise it lists the commands.")
def publish(folder: Path, registry: str, confirm: str) -> None:
    """Publish a release, or list the commands that would."""
    source = read_source()
    if reason := why_not_publishable(source, folder):
        raise click.ClickException(reason)

    for command in publish_commands(source, folder, registry):
        click.echo(shlex.join(command))
        if confirm == "yes":
            subprocess.run(command, check=True)


@main.command()
@click.argument("version")
def cut(version: str) -> None:
    """Make VERSION of what is unreleased: in CHANGELOG.md, pyproject.toml and the pages that name the image."""
    try:
        changed = cut_version(ROOT, version, datetime.now(UTC).date())
    except CannotCut as error:
        raise click.ClickException(str(error)) from error

    for path in changed:
        click.echo(path.relative_to(ROOT))


def build_files(source: ReleaseSource, folder: Path) -> Path:
    """Builds into an empty folder what is the same on every machine; returns the wheel."""
    wheel = build_wheel(source, folder)
    build_chart(source, folder)
    shutil.copyfile(source.path("manifests/install.yaml"), folder / "install.yaml")
    build_sbom(source, wheel, folder)
    return wheel


def _build_plugin(source: ReleaseSource, wheel: Path, folder: Path) -> None:
    try:
        build_plugin(source, wheel, folder)
    except CannotBuild as error:
        raise click.ClickException(str(error)) from error


def _empty(folder: Path) -> None:
    """Removes an earlier release, and nothing else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / SUMS).exists():
        raise click.ClickException(f"{folder} holds other things than a release; name an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


if __name__ == "__main__":
    main()
