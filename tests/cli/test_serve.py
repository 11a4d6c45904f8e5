from tests.harness.command_line import SNAPSHOT, run


def test_a_certificate_that_is_not_there_is_told_with_what_to_do() -> None:
    refused = run("serve", "--tls-cert=a", "--tls-key=b", "--snapshot", SNAPSHOT)
    assert refused.returncode == 1
    assert "cannot serve certificate a with key b: No such file or directory" in refused.stderr
    assert "python -m certs" in refused.stderr
