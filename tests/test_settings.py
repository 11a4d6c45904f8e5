import os
from pathlib import Path

from app.settings import default_kubeconfigs


def test_the_default_kubeconfig_is_the_one_of_kubectl(tmp_path: Path) -> None:
    assert default_kubeconfigs({}, tmp_path) == ()

    at_home = tmp_path / ".kube" / "config"
    at_home.parent.mkdir()
    at_home.touch()

    assert default_kubeconfigs({}, tmp_path) == (at_home,)
    assert default_kubeconfigs({"KUBECONFIG": ""}, tmp_path) == (at_home,)


def test_the_files_of_kubeconfig_are_all_that_exist(tmp_path: Path) -> None:
    first, second, missing = (tmp_path / name for name in ("first", "second", "missing"))
    first.touch()
    second.touch()
    names = os.pathsep.join(map(str, ("", second, missing, first, second)))

    assert default_kubeconfigs({"KUBECONFIG": names}, tmp_path) == (second, first)
    # The one in the home folder is not looked at then.
    assert default_kubeconfigs({"KUBECONFIG": os.pathsep}, tmp_path) == ()
