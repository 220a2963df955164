"""Which timesteps are left out, decision by decision."""

from __future__ import annotations

from edge_runtime.engine.decision import Decision
from edge_runtime.engine.still_scene import SETTLED_AFTER, StillScene

A, B = object(), object()


def decision(*, speak: bool = False, decided: bool = True) -> Decision:
    return Decision(0.0, (0.0, 1.0), 0.1, speak=speak, decided=decided)


def watch(
    scene: StillScene, images: list[object], *, start: int = 1, says: frozenset[int] = frozenset()
) -> str:
    """One letter per timestep of a second: d for decided, s for one that speaks, . for left out."""
    line = ""
    for time_s, image in enumerate(images, start):
        if scene.leaves_out(image, float(time_s)):
            line += "."
            continue
        scene.decided([decision(speak=time_s in says)], float(time_s))
        line += "s" if time_s in says else "d"
    return line


def test_a_still_scene_is_decided_on_every_so_many_seconds() -> None:
    settled = "d" * (1 + SETTLED_AFTER)
    assert watch(StillScene(5), [A] * 16) == settled + "....d....d.."
    assert watch(StillScene(1), [A] * 10) == "d" * 10


def test_a_change_is_decided_on_at_once_and_so_is_what_follows() -> None:
    images = [*[A] * 7, *[B] * 7, A]
    assert watch(StillScene(60), images) == "dddd...dddd...d"


def test_a_scene_that_always_changes_is_always_decided_on() -> None:
    assert "." not in watch(StillScene(60), [object() for _ in range(20)])


def test_while_the_model_speaks_nothing_is_left_out() -> None:
    scene = StillScene(60)
    assert watch(scene, [A] * 12, says=frozenset({2, 4, 6})) == "dsdsdsddd..."
    scene.restart()  # a question was asked
    assert watch(scene, [A] * 5, start=13) == "ddd.."


def test_frames_that_wait_for_their_turn_are_no_decisions() -> None:
    """Turns of two frames: a turn is never left half, because the time counts from the last decision."""
    scene, line = StillScene(8), ""
    for time_s in range(1, 25):
        if scene.leaves_out(A, float(time_s)):
            line += "."
        else:
            complete = time_s % 2 == 0
            scene.decided([decision(decided=complete)], float(time_s))
            line += "d" if complete else "w"
    assert line == "wdwdwd.......d.......d.."


def test_decisions_that_come_later_count_as_silent_until_they_speak() -> None:
    scene = StillScene(60)
    for time_s in range(1, 5):
        assert not scene.leaves_out(A, float(time_s))
        scene.decided([], float(time_s))
    assert scene.leaves_out(A, 5.0)
    scene.restart()
    assert not scene.leaves_out(A, 6.0)


def test_tokens_are_those_of_an_image_that_was_repeated() -> None:
    """The first frame after a change still shows the change: its tokens are not used again."""
    scene = StillScene(60)
    for image, made, kept in ((A, 1, None), (A, 2, None), (A, 3, 2), (B, 4, None), (B, 5, None), (B, 6, 5)):
        scene.leaves_out(image, 0.0)
        assert scene.tokens() == kept
        if kept is None:
            scene.encoded(made)
