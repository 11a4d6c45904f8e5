from app.storage.finding import rejection, rejections, warning, warnings


def test_rejections_and_warnings_are_told_apart() -> None:
    found = [warning("a", "w"), rejection("b", "r")]
    assert [finding.path for finding in rejections(found)] == ["b"]
    assert [finding.path for finding in warnings(found)] == ["a"]
