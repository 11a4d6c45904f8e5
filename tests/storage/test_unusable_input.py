from app.storage.unusable_input import UnusableInput


def test_the_message_begins_with_the_place() -> None:
    assert str(UnusableInput("a.yaml", 3, "expected a mapping")) == "a.yaml:3: expected a mapping"
    assert str(UnusableInput("a.yaml", None, "expected YAML")) == "a.yaml: expected YAML"
