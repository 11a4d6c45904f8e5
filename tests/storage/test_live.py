from app.storage.live import LiveState

POD = {"metadata": {"name": "files-0"}}
OTHER = {"metadata": {"name": "files-0", "labels": {}}}


def test_the_pod_counts_whether_it_has_its_labels_or_lost_them() -> None:
    assert LiveState().named_pod is None
    assert LiveState(unlabelled_pod=OTHER).named_pod is OTHER
    assert LiveState(pod=POD, unlabelled_pod=OTHER).named_pod is POD


def test_nothing_is_held_against_a_server_of_which_nothing_is_known() -> None:
    nothing = LiveState()

    assert nothing.may_restart
    assert not nothing.may_lose_data
    assert nothing.claims_gap is None
