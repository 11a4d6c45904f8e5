from app.storage.facts import Secret
from app.storage.reading import read
from app.storage.references import judge_secret, secret_references
from tests.servers import jwt, s3, server


def test_a_server_without_references_names_no_secret() -> None:
    assert secret_references(read(server(database={}, identity={"admin": {}}, s3={})).server.spec) == ()


def test_each_reference_has_its_path_and_s3_is_first() -> None:
    spec = read(server(**jwt(name="jwt", key="k"), **s3())).server.spec
    found = [(reference.path, reference.secret) for reference in secret_references(spec)]
    assert found == [("spec.s3.credentialsSecretRef", "s3"), ("spec.identity.jwt.secretRef", "jwt")]


def test_a_finding_has_the_path_of_its_reference() -> None:
    [reference] = secret_references(read(server(**jwt(name="jwt", key="k"))).server.spec)
    [finding] = judge_secret(reference, Secret({}))
    assert finding.path == "spec.identity.jwt.secretRef"
    assert finding.message == 'JWT Secret "jwt" missing key "k"'
