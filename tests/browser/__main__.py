"""Takes the pictures of the page for the documentation; `make browser PICTURES=docs/how-to` runs it."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from PIL import Image
from playwright.sync_api import ViewportSize

from tests.browser.chromium import Scheme, chromium, opened, write
from tests.harness.sample_page import FILES, MUSIC, PHOTOS, page


@dataclass(frozen=True)
class Picture:
    """A picture of the top of the page, in CSS pixels; `scale` is how many pixels of the file each of them has."""

    name: str
    width: int
    height: int
    scheme: Scheme
    scale: float


PICTURES = (
    Picture("status-page.png", 1080, 1530, "light", 1),
    Picture("status-page-on-a-phone.png", 360, 760, "dark", 1.5),
)


@click.command(help="Write the pictures of the page into FOLDER.")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(folder: Path) -> None:
    with TemporaryDirectory() as place, chromium() as browser:
        file = write(Path(place), "status", page(FILES, MUSIC, PHOTOS))
        for picture in PICTURES:
            with opened(browser, file, picture.width, picture.scheme, picture.scale) as shown:
                shown.set_viewport_size(ViewportSize(width=picture.width, height=picture.height))
                image = Image.open(BytesIO(shown.screenshot()))

            # No palette: it would lose the colours that only a few words have, or give the others a tint.
            image.convert("RGB").save(folder / picture.name, optimize=True)


if __name__ == "__main__":
    main()
