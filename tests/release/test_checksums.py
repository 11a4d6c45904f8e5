import subprocess
from pathlib import Path

from manifests.release.checksums import sha256, write_checksums


def test_sha256sum_checks_the_list(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("b")
    (tmp_path / "a").write_text("a")

    sums = write_checksums(tmp_path)
    check = ("sha256sum", "--check", "--strict", sums.name)

    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).stdout == b"a: OK\nb: OK\n"
    (tmp_path / "a").write_text("other")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_the_list_is_not_in_itself(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    first = write_checksums(tmp_path).read_text()

    assert write_checksums(tmp_path).read_text() == first == f"{sha256(tmp_path / 'a')}  a\n"
