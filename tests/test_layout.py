"""Checks where modules and their tests are, and what modules, classes and variables must not be called.

Every module of app, certs and manifests/release is tested in the file of the same place, and no test file stands alone.
"""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
# These test no single module, but the whole program, its files or its tools.
OF_THE_WHOLE = {
    "tests/test_bench.py",
    "tests/test_crd_compatibility.py",
    "tests/test_docs.py",
    "tests/test_documented_policy.py",
    "tests/test_drift.py",
    "tests/test_editing.py",
    "tests/test_gomodule.py",
    "tests/test_guides.py",
    "tests/test_incidents.py",
    "tests/test_interruptions.py",
    "tests/test_kube_state_metrics.py",
    "tests/test_layout.py",
    "tests/test_manifests_on_disk.py",
    "tests/test_memory.py",
    "tests/test_log_reference.py",
    "tests/test_log_volume.py",
    "tests/test_normalization.py",
    "tests/test_outages.py",
    "tests/test_packaging.py",
    "tests/test_pod_templates.py",
    "tests/test_rbac.py",
    "tests/test_reasons.py",
    "tests/test_server_life.py",
    "tests/test_through_the_api_server.py",
    "tests/test_verdicts.py",
    "tests/test_volume_settings.py",
    "tests/test_wishes.py",
    "tests/test_workflows.py",
    "tests/argocd/test_health_check.py",
    "tests/browser/test_page.py",
    "tests/controlplane/test_controlplane.py",
    "tests/controlplane/test_proxy.py",
    "tests/fuzz/test_fuzz.py",
    "tests/e2e/test_admission.py",
    "tests/e2e/test_certmanager.py",
    "tests/e2e/test_guides.py",
    "tests/e2e/test_install_guides.py",
    "tests/e2e/test_lifecycle.py",
    "tests/e2e/test_release.py",
    "tests/e2e/test_reproducibility.py",
    "tests/e2e/test_story.py",
    "tests/e2e/test_takeover.py",
    "tests/e2e/test_tutorial.py",
    "tests/e2e/test_wishes.py",
    "tests/helm/test_chart.py",
    "tests/helm/test_release.py",
    "tests/helm/test_rendering.py",
    "tests/helm/test_released_charts.py",
    "tests/helm/test_umbrella.py",
    "tests/helm/test_values.py",
    "tests/prometheus/test_operator_alerts.py",
    "tests/prometheus/test_dashboard.py",
    "tests/prometheus/test_rules.py",
    "tests/prometheus/test_server_alerts.py",
    "tests/test_faults.py",
    "tests/test_pausing.py",
    "tests/test_released_servers.py",
    "tests/test_rest_faults.py",
    "tests/test_restore.py",
    "tests/test_rotations.py",
    "tests/test_scale.py",
    "tests/test_served_metrics.py",
    "tests/test_server_health.py",
    "tests/test_settings_for_all_servers.py",
    "tests/test_standin.py",
    "tests/test_strictness.py",
    "tests/test_takeover.py",
    "tests/test_tampering.py",
    "tests/test_terminating.py",
    "tests/test_truths.py",
    "tests/test_upgrade.py",
    "tests/test_walks.py",
}


def modules() -> set[Path]:
    paths = [path for top in ("app", "certs", "manifests/release") for path in (ROOT / top).rglob("*.py")]
    return {path.relative_to(ROOT) for path in paths if path.name != "__init__.py"}


def mirror(module: Path) -> str:
    below = module.relative_to(module.parts[0]) if module.parts[0] in ("app", "manifests") else module
    return str(Path("tests") / below.with_name(f"test_{module.stem.strip('_')}.py"))


def test_every_module_is_tested_in_its_own_place() -> None:
    missing = {mirror(module) for module in modules()} - {str(path.relative_to(ROOT)) for path in files_of_tests()}
    assert not missing


def test_every_test_file_tests_a_module_or_the_whole() -> None:
    strays = {str(path.relative_to(ROOT)) for path in files_of_tests()} - {mirror(module) for module in modules()}
    assert strays == OF_THE_WHOLE


def test_no_module_has_a_name_that_says_nothing() -> None:
    names = {"utils", "util", "helpers", "common", "base", "manager", "service", "misc"}
    assert not [module for module in modules() if module.stem in names]


def test_no_variable_has_a_name_that_says_nothing() -> None:
    names = {"found", "each", "given", "said", "told", "former", "own", "hows", "looks"}
    places = {
        f"{module}:{node.lineno}"
        for module in modules()
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if (isinstance(node, ast.Name) and node.id in names) or (isinstance(node, ast.arg) and node.arg in names)
    }

    assert places == set()


def test_no_public_class_name_is_there_twice() -> None:
    places = defaultdict(list)
    for module in modules():
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(module))

    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_raw_objects_and_their_keys_have_one_type() -> None:
    """The types that nearly every module needs are imported, not defined again."""
    places = {
        (target.id, str(module))
        for module in modules()
        for node in ast.parse((ROOT / module).read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("Manifest", "ObjectKey", "Key")
    }

    assert places == {("Manifest", "app/storage/unstructured.py"), ("ObjectKey", "app/storage/unstructured.py")}


def files_of_tests() -> list[Path]:
    return list((ROOT / "tests").rglob("test_*.py"))
