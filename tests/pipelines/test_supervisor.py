"""A camera's life by a fake clock: no threads, no waiting."""

from __future__ import annotations

from pipelines.sources.errors import Problem
from pipelines.supervisor import Action, Connect, Disconnect, GiveUp, Report, RetryPolicy, Supervisor

LOST = Problem("the connection was lost", "check the network")
REFUSED = Problem("refused", "check the port")
DENIED = Problem("wrong password (401)", "check it", "auth")


class Life:
    """A supervisor, its clock and what it did."""

    def __init__(self, **policy: object) -> None:
        self.now = 1000.0
        self.supervisor = Supervisor(RetryPolicy(**policy), clock=lambda: self.now, draw=lambda: 0.5)
        self.actions: list[Action] = self.supervisor.start()

    def does(self, event: str, *arguments: object) -> list[Action]:
        self.actions = getattr(self.supervisor, event)(*arguments)
        return self.actions

    def wait(self, seconds: float, *, frames: bool = False) -> list[Action]:
        """Let time pass in ticks of 0.1 s; returns everything done meanwhile."""
        done: list[Action] = []
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            if frames:
                self.supervisor.frame_seen()
            done += self.supervisor.tick()
        return done

    def go_live(self) -> None:
        assert self.does("first_frame", "h264") == [Report("live", "h264")]


def states(actions: list[Action]) -> list[str]:
    return [action.state for action in actions if isinstance(action, Report)]


def test_the_first_connection() -> None:
    life = Life()
    assert life.actions == [Report("connecting", ""), Connect()]
    life.go_live()
    assert life.wait(60, frames=True) == []


def test_a_first_failure_is_final_only_when_told_so() -> None:
    told = Life(give_up_s=0)
    assert told.does("lost", REFUSED) == [Disconnect(), Report("failed", "refused"), GiveUp(REFUSED)]
    life = Life()
    assert life.does("lost", REFUSED)[1:] == [Report("connecting", "refused; retrying in 0.2 s")]
    assert life.wait(1) == [Connect()]


def test_a_week_without_a_camera() -> None:
    """It never gives up by itself, says why each time, and does not flood the network."""
    life, attempts = Life(), 0
    end = life.now + 7 * 86_400
    while life.now < end:
        assert states(life.does("lost", REFUSED)) == ["connecting"]
        while life.supervisor.tick() != [Connect()]:
            life.now += 1
        attempts += 1
    assert 7 * 86_400 / 20 < attempts < 7 * 86_400 / 10
    life.go_live()


def test_a_night_without_a_camera_that_answers() -> None:
    """Asked every second, so its return is seen at once; told once a minute, or when the cause changes."""
    away = Problem("127.0.0.1 refuses connections on port 554", "check the port", unreachable=True)
    life, told, attempts = Life(), 0, 0
    life.go_live()
    assert states(life.does("lost", LOST)) == ["stalled"]
    end = life.now + 8 * 3600
    while life.now < end:
        while Connect() not in life.wait(0.1):
            pass
        attempts += 1
        told += len(states(life.does("lost", away)))
    assert 8 * 3600 * 0.85 < attempts <= 8 * 3600 + 5
    assert 8 * 55 < told <= 8 * 60 + 1
    other = Problem("the name door cannot be resolved", "check it", unreachable=True)
    while Connect() not in life.wait(0.1):
        pass
    assert states(life.does("lost", other)) == ["connecting"]
    while Connect() not in life.wait(0.1):
        pass
    life.go_live()
    life.does("lost", LOST)
    while Connect() not in life.wait(0.1):
        pass
    assert states(life.does("lost", other)) == ["connecting"]  # a new outage is told anew


def test_connect_timeout() -> None:
    life = Life(connect_timeout_s=3, give_up_s=0)
    assert life.wait(2.8) == []
    assert states(life.wait(0.4)) == ["failed"]


def test_a_camera_that_accepts_and_then_hangs() -> None:
    life = Life(connect_timeout_s=3)
    for _ in range(5):
        actions = life.wait(3.1)
        assert actions[0] == Disconnect()
        assert "no frame within 3 s" in actions[1].cause
        while Connect() not in life.wait(0.1):
            pass
    life.go_live()
    assert life.wait(60, frames=True) == []


def test_a_camera_that_dies_at_once() -> None:
    """One frame, then nothing: the waits grow, as each connection was good for nothing."""
    life = Life(retry_first_s=0.25, retry_limit_s=15)
    gaps = []
    for _ in range(8):
        life.go_live()
        assert states(life.does("lost", LOST)) == ["stalled"]
        started = life.now
        while Connect() not in life.wait(0.1):
            pass
        gaps.append(round(life.now - started, 1))
    assert gaps == sorted(gaps)
    assert gaps[-1] > 14


def test_the_hundredth_reconnect_is_as_quick_as_the_first() -> None:
    life, waits = Life(), []
    for _ in range(100):
        life.go_live()
        life.wait(11, frames=True)
        life.does("lost", LOST)
        started = life.now
        while Connect() not in life.wait(0.1):
            pass
        waits.append(round(life.now - started, 1))
    assert set(waits) == {waits[0]}
    assert waits[0] <= 0.4


def test_a_clock_that_was_put_forward_stalls_once() -> None:
    """The machine slept for an hour: the connection is replaced, nothing is given up."""
    life = Life()
    life.go_live()
    life.now += 3600
    assert states(life.supervisor.tick()) == ["stalled"]
    assert life.wait(1) == [Connect()]
    life.go_live()
    assert life.wait(60, frames=True) == []


def test_a_short_drop_is_mended_at_once() -> None:
    life = Life()
    life.go_live()
    life.wait(30, frames=True)
    actions = life.does("lost", LOST)
    assert actions == [Disconnect(), Report("stalled", "the connection was lost; retrying in 0.2 s")]
    assert life.wait(0.4) == [Connect()]
    life.go_live()
    assert life.supervisor.reconnects == 1


def test_a_stall_without_any_error_is_seen() -> None:
    life = Life(stall_timeout_s=5)
    life.go_live()
    life.wait(30, frames=True)
    assert life.wait(4.8) == []
    actions = life.wait(0.4)
    assert actions[0] == Disconnect()
    assert states(actions) == ["stalled"]


def test_a_long_outage_backs_off_and_recovers_a_second_time() -> None:
    life = Life(retry_first_s=0.25, retry_limit_s=15)
    for _ in range(2):
        life.go_live()
        life.wait(20, frames=True)
        life.does("lost", LOST)
        gaps = []
        for _ in range(10):
            started = life.now
            while Connect() not in life.wait(0.1):
                pass
            gaps.append(life.now - started)
            life.does("lost", REFUSED)
        assert gaps == sorted(gaps)
        assert gaps[0] < 0.5
        assert 14.5 < gaps[-1] < 15.5
        while Connect() not in life.wait(0.1):
            pass
    assert life.supervisor.reconnects == 1


def test_jitter_spreads_the_attempts() -> None:
    delays = set()
    for draw in (0.0, 0.5, 0.999):
        supervisor = Supervisor(RetryPolicy(retry_first_s=1), clock=lambda: 0.0, draw=lambda draw=draw: draw)
        supervisor.start()
        supervisor.first_frame("")
        delays.add(supervisor.lost(LOST)[-1].cause.split()[-2])
    assert delays == {"0.8", "1.0", "1.2"}


def test_a_flapping_camera_does_not_reset_the_backoff() -> None:
    life = Life(retry_first_s=1, retry_limit_s=100, stable_s=10)
    waits = []
    for _ in range(4):
        life.go_live()
        life.wait(1, frames=True)
        life.does("lost", LOST)
        started = life.now
        while Connect() not in life.wait(0.1):
            pass
        waits.append(round(life.now - started))
    assert waits == [1, 2, 4, 8]


def test_refused_credentials() -> None:
    life = Life(give_up_s=0)
    assert states(life.does("lost", DENIED)) == ["auth-failed", "failed"]
    assert life.actions[-1] == GiveUp(DENIED)

    life = Life(auth_retry_s=60)
    life.go_live()
    assert states(life.does("lost", LOST)) == ["stalled"]
    assert life.wait(0.5) == [Connect()]
    assert states(life.does("lost", DENIED)) == ["auth-failed"]
    assert life.wait(59) == []
    assert life.wait(2) == [Connect()]


def test_a_wrong_password_from_the_start_is_retried_slowly() -> None:
    life = Life(auth_retry_s=60)
    for _ in range(3):
        report = life.does("lost", DENIED)[-1]
        assert report == Report("auth-failed", "wrong password (401); retrying in 60.0 s")
        assert life.wait(59) == []
        assert life.wait(2) == [Connect()]
    life.go_live()


def test_giving_up_when_told_to() -> None:
    life = Life(give_up_s=20, retry_limit_s=4)
    life.go_live()
    life.wait(30, frames=True)
    ended = life.now + 20
    life.does("lost", LOST)
    while life.supervisor.phase != "over":
        assert life.now < ended + 1
        if Connect() in life.wait(0.1):
            life.does("lost", REFUSED)
    assert life.now >= ended - 0.2
    assert life.actions[-1] == GiveUp(REFUSED)
    assert life.wait(1000) == []


def test_no_reconnect() -> None:
    life = Life(give_up_s=0)
    life.go_live()
    assert life.does("lost", LOST)[-1] == GiveUp(LOST)


def test_a_permanent_problem_is_never_retried() -> None:
    problem = Problem("no decoder for H.265 is installed", "install it", "permanent")
    assert Life().does("lost", problem)[-1] == GiveUp(problem)


def test_late_news_of_a_dead_connection_change_nothing() -> None:
    life = Life()
    life.does("lost", REFUSED)
    assert life.does("lost", REFUSED) == []
    assert life.does("first_frame", "late") == []
    assert life.supervisor.phase == "waiting"


def test_a_day_of_outages() -> None:
    life = Life()
    for hour in range(24):
        life.go_live()
        life.wait(60, frames=True)
        life.does("lost", LOST)
        while Connect() not in life.wait(0.1):
            pass
        assert life.supervisor.reconnects == hour
