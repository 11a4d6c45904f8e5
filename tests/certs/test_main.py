import ssl
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from certs.__main__ import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_usable_pair_is_written(tmp_path: Path) -> None:
    out = tmp_path / "new"
    printed = run("--out", str(out)).output

    assert printed == f"Wrote ca.crt, tls.crt and tls.key to {out} for localhost, 127.0.0.1, ::1\n"
    assert sorted(content(out)) == ["ca.crt", "tls.crt", "tls.key"]

    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(out / "tls.crt", out / "tls.key")

    assert stat.S_IMODE((out / "tls.key").stat().st_mode) == 0o600


def test_valid_files_are_kept(tmp_path: Path) -> None:
    run("--out", str(tmp_path))
    before = content(tmp_path)
    assert "still good" in run("--out", str(tmp_path)).output
    assert content(tmp_path) == before


@pytest.mark.parametrize("damaged", ["ca.crt", "tls.crt"])
def test_damaged_files_are_replaced(tmp_path: Path, damaged: str) -> None:
    run("--out", str(tmp_path))
    (tmp_path / damaged).write_text("nonsense")
    assert "Wrote" in run("--out", str(tmp_path)).output


def test_missing_files_are_replaced(tmp_path: Path) -> None:
    run("--out", str(tmp_path))
    (tmp_path / "tls.key").unlink()
    assert "Wrote" in run("--out", str(tmp_path)).output


def test_another_host_needs_another_certificate(tmp_path: Path) -> None:
    run("--out", str(tmp_path))
    assert "webhook.example.com" in run("--out", str(tmp_path), "--host", "webhook.example.com").output
