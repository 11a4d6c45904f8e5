import os
import tarfile
from pathlib import Path

from manifests.release.archives import pack


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    for name, mode, time in (("a", 0o600, 1), ("b", 0o664, 2)):
        path = tmp_path / name
        path.write_text("text")
        path.chmod(mode)
        os.utime(path, (time, time))

    pack(tmp_path / "first.tgz", {"x/one": tmp_path / "a", "x/two": tmp_path / "b"}, time=9)
    pack(tmp_path / "second.tgz", {"x/two": tmp_path / "a", "x/one": tmp_path / "b"}, time=9)

    assert (tmp_path / "first.tgz").read_bytes() == (tmp_path / "second.tgz").read_bytes()


def test_a_program_stays_executable(tmp_path: Path) -> None:
    for name, mode in (("program", 0o700), ("text", 0o600)):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(mode)

    pack(tmp_path / "a.tgz", {name: tmp_path / name for name in ("text", "program")}, time=9)

    with tarfile.open(tmp_path / "a.tgz") as tar:
        members = [(member.name, member.mode, member.mtime, member.uid) for member in tar]
    assert members == [("program", 0o755, 9, 0), ("text", 0o644, 9, 0)]
