from tests.harness.command_line import SNAPSHOT, run


def test_a_missing_certificate_says_how_to_create_one() -> None:
    result = run("serve", "--tls-cert=a", "--tls-key=b", "--snapshot", SNAPSHOT)
    assert result.returncode == 1
    assert "cannot serve certificate a with key b: No such file or directory" in result.stderr
    assert "python -m certs" in result.stderr
