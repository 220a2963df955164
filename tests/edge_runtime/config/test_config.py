"""edge-run.toml: what it says, and what is said about its mistakes."""

from __future__ import annotations

import textwrap

import pytest

from edge_runtime.app.config_file import Config, find_config, find_path, load_config, read_config
from edge_runtime.config.key_lines import key_lines
from edge_runtime.errors import ConfigError
from edge_runtime.events.policy import PolicySettings
from edge_runtime.video.zones import Zone

GOOD = """\
[runtime]
bundle = "nano"
threads = 2
events = "log/events.jsonl"

[[camera]]
name = "door"
source = "rtsp://192.168.1.20/stream1"
user = "viewer"
password_env = "DOOR_PASSWORD"
threshold = 0.7

[[camera.ask]]
text = "Tell me when someone rings."

[[camera.ask]]
text = "Who comes?"
at = 10
min_gap = 30
threshold = 0.4

[[camera]]
name = "clip"
source = "clips/tent.mp4"
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "edge-run.toml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_a_full_file(write, tmp_path):
    config = load_config(write(GOOD))
    assert config.runtime.threads == 2
    assert config.runtime.events == tmp_path / "log" / "events.jsonl"
    door = config.camera("door")
    assert door.source == "rtsp://192.168.1.20/stream1"
    assert [ask.text for ask in door.queries] == ["Tell me when someone rings.", "Who comes?"]
    assert door.queries[0].policy == PolicySettings(threshold=0.7)  # the camera's
    assert door.queries[1].policy == PolicySettings(threshold=0.4, min_gap_s=30.0)
    assert door.queries[1].at == 10.0
    assert config.camera("clip").source == str(tmp_path / "clips/tent.mp4")
    assert config.camera("window") is None


ZONE = "[[camera]]\nname = 'a'\nsource = 'test:'\n[[camera.zone]]\n"


def test_zones(write):
    text = ZONE + "name = 'lawn'\npolygon = [[0, 0.5], [1, 0.5], [1, 1]]\n"
    (camera,) = load_config(write(text)).cameras
    assert camera.zones == (Zone("lawn", ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0))),)


@pytest.mark.parametrize(
    ("zone", "line", "said"),
    [
        ("name = 'lawn'\n", 4, "camera.zone.polygon: is missing; give the corners"),
        ("polygon = [[0, 0], [1, 0], [1, 1]]\n", 4, "camera.zone.name: is missing"),
        ("name = 'lawn'\npolygon = [[0, 0], [1, 0]]\n", 6, "expected at least 3 corners, got 2"),
        ("name = 'lawn'\npolygon = [[0, 0], [1, 0], [1, 2]]\n", 6, "corners are shares of the frame"),
        ("name = 'lawn'\npolygon = [[0, 0], [1, 0], 3]\n", 6, "expected a list in brackets, got 3"),
        ("name = '?'\npolygon = [[0, 0], [1, 0], [1, 1]]\n", 5, "expected at most 40 letters"),
        ("name = 'zone 2'\npolygon = [[0, 0], [1, 0], [1, 1]]\n", 5, "the name of another zone"),
        (
            "name = 'The Lawn'\npolygon = [[0, 0], [1, 0], [1, 1]]\n"
            "[[camera.zone]]\nname = 'lawn'\npolygon = [[0, 0], [1, 0], [1, 1]]\n",
            8,
            "'lawn' is taken by an earlier zone",
        ),
    ],
)
def test_mistakes_in_zones_name_line_and_key(write, zone, line, said):
    _, problems = read_config(write(ZONE + zone))
    assert [problem.line for problem in problems] == [line] and said in str(problems[0])


def test_passwords_come_from_the_environment(write):
    door = load_config(write(GOOD)).camera("door")
    assert door.password({"DOOR_PASSWORD": "secret"}) == "secret"
    with pytest.raises(ConfigError, match=r"camera door: .*DOOR_PASSWORD, which is not set"):
        door.password({})


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "edge-run.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("threads = 2", "thread = 2").encode())
    _, problems = read_config(path)
    assert [(problem.line, problem.subject) for problem in problems] == [(3, "runtime.thread")]
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_config(path).runtime.bundle == "nano"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[runtime]\nbundel = 'nano'\n", 2, "runtime.bundel: unknown key; did you mean bundle?"),
        ("[runtime]\n\nthreads = 0\n", 3, "runtime.threads: expected a whole number"),
        ("[runtime]\nthreads = true\n", 2, "runtime.threads: expected a whole number"),
        (
            "[runtime]\nthreads = 99999999999999999999\n",
            2,
            "runtime.threads: expected a whole number of threads",
        ),
        ("[runtime]\nbackend = 'gpu'\n", 2, "runtime.backend: expected one of auto, cpu, cuda, tensorrt"),
        ("[runtime]\nbundle = 3\n", 2, "runtime.bundle: expected a text in quotes, got 3"),
        ("[runtime]\nstats_every = 0\n", 2, "runtime.stats_every"),
        ("[camera]\nname = 'a'\n", 1, "camera: expected [[camera]] with two brackets"),
        ("[[camera]]\nname = 'a'\n", 1, "camera.source: is missing"),
        ("[[camera]]\nsource = 'test:'\n", 1, "camera.name: is missing"),
        ("[[camera]]\nname = 'a/b'\nsource = 'test:'\n", 2, "camera.name: expected a name without '/'"),
        ("[[camera]]\nname = 'a'\nsource = 'test:'\nfps = 0\n", 4, "camera.fps: expected from 0.0001 to 60"),
        ("[[camera]]\nname = 'a'\nsource = 'test:'\nfps = nan\n", 4, "camera.fps: expected a number"),
        (
            "[[camera]]\nname = 'a'\nsource = 'test:'\nthreshold = 2\n",
            4,
            "camera.threshold: expected a score",
        ),
        ("[[camera]]\nname = 'a'\nsource = 'test:'\npassword = 'x'\n", 4, "name an environment variable"),
        ("[[camera]]\nname = 'a'\nsource = 'rtsp://u:p@h/s'\n", 3, "move them to user and password_env"),
        (
            "[[camera]]\nname = 'a'\nsource = 'test:'\n[[camera]]\nsource = 'test:'\nname = 'a'\n",
            6,
            "camera.name: 'a' is taken by an earlier camera",
        ),
        (
            "[[camera]]\nname = 'a'\nsource = 'test:'\n[[camera.ask]]\ntext = 'x'\n[[camera.ask]]"
            "\nat = -1\ntext = 'y'",
            7,
            "camera.ask.at: expected seconds",
        ),
        ("[[camera]]\nname = 'a'\nsource = 'test:'\nask = [{ text = '', at = 1 }]\n", 4, "camera.ask.text"),
        ("runtime = 3\n", 1, "runtime: expected a table, [runtime], got 3"),
        ("x = 1\n", 1, "x: unknown key"),
    ],
)
def test_mistakes_name_file_line_and_key(write, text, line, said):
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    message = str(error.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert said in message
    assert "\n" not in message


def test_a_password_in_an_address_is_not_repeated(write):
    for userinfo in ("user:hunter2", "user:hunter2/x", "user:hun@hunter2"):
        with pytest.raises(ConfigError) as error:
            load_config(write(f"[[camera]]\nname = 'a'\nsource = 'rtsp://{userinfo}@host/s'\n"))
        assert "hunter2" not in str(error.value)


def test_broken_toml_and_files_that_cannot_be_read(write, tmp_path):
    with pytest.raises(ConfigError, match=r"edge-run.toml: not valid TOML: .*line 2"):
        load_config(write("[runtime]\nbundle = nano\n"))
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin.toml")


def test_which_file_is_used(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert find_config() == Config()
    (tmp_path / "home" / "edge-run").mkdir(parents=True)
    (tmp_path / "home" / "edge-run" / "edge-run.toml").write_text("[runtime]\nthreads = 3\n")
    assert find_config().runtime.threads == 3
    write("[runtime]\nthreads = 4\n")
    assert find_config().runtime.threads == 4


def test_lines_are_right_beside_texts_that_look_like_toml():
    text = '''\
# [comment]
[runtime]
bundle = """
[[camera]]
name = 'no'
"""
"quoted key" = 1
list = [
  "threads = 1", # ]
  "[x]",
]
a . b = 2
[[camera]] # first
name = "it's # no comment"
[[camera.ask]]
text = "\\"x"
[[camera]]
[[camera.ask]]
[[camera.ask]]
at = 1
'''
    lines = key_lines(text)
    assert lines[("runtime",)] == 2
    assert lines[("runtime", "bundle")] == 3
    assert lines[("runtime", "quoted key")] == 7
    assert lines[("runtime", "list")] == 8
    assert lines[("runtime", "a", "b")] == 12
    assert lines[("camera", 0)] == 13
    assert lines[("camera", 0, "name")] == 14
    assert lines[("camera", 0, "ask", 0, "text")] == 16
    assert lines[("camera", 1, "ask", 1, "at")] == 20
    assert ("runtime", "threads") not in lines and ("x",) not in lines


@pytest.mark.parametrize("source", ["rtsp://host/a@b", "rtsp://host:8554/x?y=a@b", "https://h/p", "a@b.mp4"])
def test_an_at_sign_alone_is_no_user(write, source):
    load_config(write(f"[[camera]]\nname = 'a'\nsource = '{source}'\n"))


def test_names_that_no_system_call_takes_are_told(write, tmp_path):
    """Found by spoiled configurations: both ended in an error of Python's."""
    with pytest.raises(ConfigError, match=r"runtime\.events: expected a text without the character U\+0000"):
        load_config(write('[runtime]\nevents = "a\\u0000b"\n'))
    config = load_config(write('[runtime]\nevents = "~nobody-of-this-name/x"\n'))
    assert config.runtime.events == tmp_path / "~nobody-of-this-name/x"


def test_the_number_of_further_problems_is_told_and_all_are_read(write):
    path = write("[runtime]\nthreads = 0\nstats_every = 0\nbundel = 'x'\n")
    with pytest.raises(ConfigError, match=r":2: runtime\.threads: .* \(2 more: see edge-run check\)$"):
        load_config(path)
    _, problems = read_config(path)
    assert [problem.line for problem in problems] == [2, 3, 4]


def test_a_home_that_cannot_be_looked_into_holds_no_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ("x" * 300)))  # refused by the system, to root too
    assert find_path() is None


def test_a_misspelt_key_is_not_missing_as_well(tmp_path):
    path = tmp_path / "edge-run.toml"
    path.write_text('[[camera]]\nname = "door"\nsorce = "test:"\n')
    assert [(problem.line, problem.subject) for problem in read_config(path)[1]] == [(3, "camera.sorce")]
    path.write_text('[[camera]]\nname = "door"\n')
    assert [(problem.line, problem.detail) for problem in read_config(path)[1]] == [(1, "is missing")]


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("runtime", "stats_every"),
        ("runtime", "events_megabytes"),
        ("runtime", "events_days"),
        ("camera", "connect_timeout"),
        ("camera", "stall_timeout"),
        ("camera", "give_up"),
        ("camera", "still_skip"),
        ("camera", "min_gap"),
        ("camera", "repeat"),
        ("webhook", "read_timeout"),
        ("webhook", "outbox_days"),
    ],
)
@pytest.mark.parametrize("value", ["1e300", "99999999999999999999"])
def test_numbers_that_no_clock_can_count_are_refused_with_what_is_allowed(write, table, key, value):
    """A socket given such a timeout raised OverflowError in its thread, and the run hung."""
    head = {
        "runtime": "[runtime]",
        "camera": "[[camera]]\nname = 'a'\nsource = 'test:'",
        "webhook": "[[webhook]]\nname = 'a'\nurl = 'http://h/'",
    }
    with pytest.raises(ConfigError, match=rf"{table}\.{key}: expected .*(to|at most) 1e\+0[69], got 1e\+"):
        load_config(write(f"{head[table]}\n{key} = {value}\n"))


def test_how_long_still_scenes_are_left_out(write):
    cameras = load_config(
        write(
            "[[camera]]\nname = 'a'\nsource = 'test:'\nstill_skip = 10\n"
            "[[camera]]\nname = 'b'\nsource = 'test:'\n"
        )
    ).cameras
    assert [camera.options.still_skip_s for camera in cameras] == [10.0, 0.0]
    with pytest.raises(ConfigError, match=r"camera\.still_skip: expected seconds from 0"):
        load_config(write("[[camera]]\nname = 'a'\nsource = 'test:'\nstill_skip = -1\n"))


def test_where_the_page_is_served(tmp_path):
    path = tmp_path / "edge-run.toml"
    path.write_text(
        '[web]\naddress = "0.0.0.0:8080"\ntoken_file = "web.token"\nhosts = ["cams.lan"]\n'
        'tls_certificate = "web.pem"\ntls_key = "web.key"\n'
    )
    web = load_config(path).web
    assert web.address == ("0.0.0.0", 8080) and web.token.file == tmp_path / "web.token"
    assert web.hosts == ("cams.lan",) and not web.on_loopback
    assert (web.tls_certificate, web.tls_key) == (tmp_path / "web.pem", tmp_path / "web.key")
    for wrong, said in (
        ('address = "8080:x"', "expected HOST:PORT"),
        ('token = "secret"', "secrets do not belong in this file"),
        ('tls_key = "web.key"', "tls_certificate: expected beside the other one"),
        ("hosts = [1]", "expected a list of names"),
        ('adress = "1"', "did you mean address"),
    ):
        path.write_text(f"[web]\n{wrong}\n")
        with pytest.raises(ConfigError, match=said):
            load_config(path)
    assert Config().web.address is None


def test_frames_that_may_wait(write):
    camera = "[[camera]]\nname = 'a'\nsource = 'test:'\n"
    assert load_config(write(camera)).cameras[0].options.catch_up is None
    assert load_config(write(camera + "catch_up = 8\n")).cameras[0].options.catch_up == 8
    for value in ("-1", "1001", "2.5", "true", '"8"'):
        with pytest.raises(ConfigError, match=r"camera\.catch_up: expected 0 to 1000 frames, got"):
            load_config(write(f"{camera}catch_up = {value}\n"))
