from app.storage.service_spec import Service


def test_a_service_is_only_reached_in_the_cluster() -> None:
    service = Service()

    assert (service.type, service.api, service.load_balancer_source_ranges) == ("ClusterIP", None, None)


def test_fields_have_the_names_of_kubernetes() -> None:
    service = Service.model_validate({"ipFamilies": ["IPv6"], "nodePorts": {"nfs": 30049}})

    assert (service.ip_families, service.node_ports.nfs) == (["IPv6"], 30049)
