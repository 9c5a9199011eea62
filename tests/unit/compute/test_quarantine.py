from bbopt_server.compute.quarantine import Quarantine
from tests.waiting import Clock


def test_a_study_is_set_aside_at_its_third_crash() -> None:
    clock = Clock()
    quarantine = Quarantine(clock)
    for _ in range(2):
        quarantine.record("bad")
        assert quarantine.time_left_s("bad") == 0.0
    quarantine.record("bad")
    assert quarantine.time_left_s("bad") == 600.0


def test_other_studies_are_not_set_aside() -> None:
    quarantine = Quarantine(Clock())
    for _ in range(3):
        quarantine.record("bad")
    assert quarantine.time_left_s("good") == 0.0


def test_crashes_far_apart_do_not_add_up() -> None:
    clock = Clock()
    quarantine = Quarantine(clock)
    for _ in range(10):
        quarantine.record("unlucky")
        clock.now_s += 301.0
        assert quarantine.time_left_s("unlucky") == 0.0


def test_a_study_comes_back_when_its_crashes_are_old() -> None:
    clock = Clock()
    quarantine = Quarantine(clock)
    for _ in range(3):
        quarantine.record("bad")
        clock.now_s += 100.0
    assert quarantine.time_left_s("bad") == 300.0
    clock.now_s += 300.0
    assert quarantine.time_left_s("bad") == 0.0
