from app.storage.reasons import REASONS
from app.storage.status import CONDITIONS


def test_each_reason_has_one_complete_row() -> None:
    names = [reason.name for reason in REASONS]
    assert len(names) == len(set(names))

    for reason in REASONS:
        assert reason.conditions or reason.event, reason.name
        assert set(filter(None, reason.conditions.split(", "))) <= CONDITIONS.keys(), reason.name
        assert set(filter(None, reason.event.split(", "))) <= {"Normal", "Warning"}, reason.name
        assert reason.meaning.endswith("."), reason.name
        assert reason.remedy.endswith(".") or not reason.remedy, reason.name
