"""Builds a release into a folder and cuts versions: `make release` and `make cut` run it. It publishes nothing."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import click

from manifests.release.changelog import CannotCut
from manifests.release.chart import build_chart
from manifests.release.checksums import SUMS, write_checksums
from manifests.release.sbom import build_sbom
from manifests.release.source import ROOT, ReleaseSource, read_source
from manifests.release.version import cut_version
from manifests.release.wheel import build_wheel


@click.group()
def main() -> None:
    """Build releases and cut versions."""


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=ROOT / "dist", help="Replaced by the new release.")
def build(folder: Path) -> None:
    """Build all files of a release."""
    source = read_source()
    _empty(folder)
    build_release(source, folder)
    click.echo((folder / SUMS).read_text(), nl=False)


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


def build_release(source: ReleaseSource, folder: Path) -> None:
    """Builds into an empty folder."""
    wheel = build_wheel(source, folder)
    build_chart(source, folder)
    shutil.copyfile(source.path("manifests/install.yaml"), folder / "install.yaml")
    build_sbom(source, wheel, folder)
    write_checksums(folder)


def _empty(folder: Path) -> None:
    """Removes an earlier release, and nothing else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / SUMS).exists():
        raise click.ClickException(f"{folder} holds other things than a release; name an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


if __name__ == "__main__":
    main()
