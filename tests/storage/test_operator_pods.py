from pathlib import Path

import yaml

from app.storage.operator_pods import DEPLOYMENT_SELECTOR, POD_SELECTOR, describe_pods, show_log

ROOT = Path(__file__).parent.parent.parent


def test_the_selectors_are_labels_of_the_chart() -> None:
    documents = yaml.load_all((ROOT / "manifests/install.yaml").read_text(), yaml.CSafeLoader)
    [deployment] = [manifest for manifest in documents if manifest["kind"] == "Deployment"]

    assert pairs(DEPLOYMENT_SELECTOR) <= deployment["metadata"]["labels"].items()
    assert pairs(POD_SELECTOR) <= deployment["spec"]["template"]["metadata"]["labels"].items()


def pairs(selector: str) -> set[tuple[str, ...]]:
    return {tuple(label.split("=")) for label in selector.split(",")}


def test_no_namespace_stands_for_all_and_none_begins_a_command() -> None:
    assert describe_pods("") == f"kubectl -A describe pods -l {POD_SELECTOR}"
    assert show_log("a; reboot") == f"kubectl -n 'a; reboot' logs -l {POD_SELECTOR} --tail=50"
