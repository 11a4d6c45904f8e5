"""Sets the version: in pyproject.toml, in CHANGELOG.md, and in the pages that name the image of this version."""

import re
from datetime import date
from pathlib import Path

from manifests.release.changelog import cut_changelog
from manifests.release.source import project_version

# What precedes the version where a page tells users what to type, or what they will see.
_MENTION = r"(dittofs-operator:|\bversion(?: = \"|: | ))"
_PAGES = ("README.md", "docs/**/*.md", "charts/*/README.md")


def cut_version(root: Path, version: str, day: date) -> list[Path]:
    """Makes the files those of a new version and returns the changed ones. `make manifests` derives the rest.

    The version in pyproject.toml may already be the new one, as before the first release.
    """
    changelog = root / "CHANGELOG.md"
    texts = {changelog: cut_changelog(changelog.read_text(), version, day)}

    previous = project_version(root)
    mention = re.compile(rf"{_MENTION}{re.escape(previous)}(?![\w.-]*\d)")
    for path in [root / "pyproject.toml", *(page for pattern in _PAGES for page in sorted(root.glob(pattern)))]:
        texts[path] = mention.sub(rf"\g<1>{version}", path.read_text())

    changed = [path for path, text in texts.items() if text != path.read_text()]
    for path in changed:
        path.write_text(texts[path])
    return changed
