import pickle

from app.reconcile.dependents import Dependents
from app.storage.unstructured import ObjectKey
from tests.harness.gc_objects import count_new_gc_objects
from tests.harness.server_table import jwt, s3, server, storage

ONE, TWO = ("default", "one"), ("default", "two")


def secret(name: str, namespace: str = "default") -> ObjectKey:
    return namespace, name


def test_a_secret_concerns_those_that_name_it_in_its_namespace() -> None:
    dependents = Dependents()
    dependents.put(ONE, server("one", **s3(secretName="shared")))
    dependents.put(TWO, server("two", **s3(secretName="shared"), **jwt(name="j", key="k")))

    assert dependents.of_secret(secret("shared")) == {ONE, TWO}
    assert dependents.of_secret(secret("j")) == {TWO}
    assert dependents.of_secret(secret("shared", "other")) == set()


def test_a_secret_concerns_the_server_for_which_it_is_made() -> None:
    for name in ("one-jwt-secret", "one-admin-bootstrap-credentials", "one-postgres"):
        assert Dependents().of_secret(secret(name)) == {ONE}


def test_a_class_concerns_those_that_name_it_and_those_that_name_none() -> None:
    dependents = Dependents()
    dependents.put(ONE, server("one", **storage(storageClassName="fast")))
    dependents.put(TWO, server("two", storage={"metadataSize": "1Gi"}))

    assert dependents.of_class("fast") == {ONE, TWO}
    assert dependents.of_class("slow") == {TWO}


def test_a_class_concerns_those_with_a_volume_of_it() -> None:
    dependents = Dependents()
    dependents.put(ONE, server("one", **storage(storageClassName="fast", cache={"storageClassName": "slow"})))
    own = {"metadata": {"storageClassName": "fast"}, "cache": {"storageClassName": "fast"}}
    dependents.put(TWO, server("two", storage={"metadataSize": "1Gi", **own}))

    assert dependents.of_class("slow") == {ONE}
    assert dependents.of_class("fast") == {ONE, TWO}
    assert dependents.of_class("other") == set()


def test_what_a_server_no_longer_names_does_not_concern_it() -> None:
    dependents = Dependents()
    dependents.put(ONE, server("one", **s3(secretName="former"), **storage(storageClassName="former")))
    dependents.put(ONE, server("one", **s3(secretName="present"), **storage(storageClassName="present")))

    assert dependents.of_secret(secret("former")) == dependents.of_class("former") == set()
    assert dependents.of_secret(secret("present")) == dependents.of_class("present") == {ONE}


def test_a_server_that_is_gone_leaves_nothing_behind() -> None:
    dependents = Dependents()
    dependents.put(ONE, server("one", **s3(secretName="its-own"), **storage(storageClassName="its-own")))
    dependents.remove(ONE)
    dependents.remove(TWO)

    assert pickle.dumps(dependents) == pickle.dumps(Dependents())


def test_a_server_more_is_nothing_more_for_the_garbage_collector_to_look_through() -> None:
    dependents = Dependents()

    def put() -> None:
        for number in range(1000):
            dependents.put(("default", f"s{number}"), server(f"s{number}", **s3(secretName="shared")))

    assert count_new_gc_objects(put) < 100
