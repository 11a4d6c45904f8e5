import pytest

from app.storage.cluster_domain import DEFAULT_CLUSTER_DOMAIN, detect_cluster_domain, is_cluster_domain


@pytest.mark.parametrize(
    ("resolv_conf", "domain"),
    [
        ("nameserver 10.0.0.10\nsearch ns.svc.a.example svc.a.example a.example b\noptions ndots:5\n", "a.example"),
        ("search ns.svc.Cluster.Local. svc.Cluster.Local. Cluster.Local.", "cluster.local"),
        ("search svc.first\nsearch\tsvc.second\n", "second"),
        ("search example.com\nnameserver ::1", DEFAULT_CLUSTER_DOMAIN),
        ("# search svc.a\n", DEFAULT_CLUSTER_DOMAIN),
        ("search", DEFAULT_CLUSTER_DOMAIN),
        ("", DEFAULT_CLUSTER_DOMAIN),
        ("search svc. svc.a_b svc..c svc.d", "d"),
        (f"search svc.{'a' * 130}", DEFAULT_CLUSTER_DOMAIN),
    ],
)
def test_the_domain_is_that_of_services(resolv_conf: str, domain: str) -> None:
    assert detect_cluster_domain(resolv_conf) == domain


def test_the_longest_name_of_a_service_fits_into_the_dns() -> None:
    longest = "a" * 120

    assert is_cluster_domain(longest)
    assert not is_cluster_domain(f"{longest}a")
    assert len(f"{'s' * 52}-file.{'n' * 63}.svc.{longest}") <= 253
