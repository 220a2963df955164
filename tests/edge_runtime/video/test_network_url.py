"""URLs as people write them: what is read, what is refused, and that no password is ever shown."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_runtime.video.network_url import (
    AmbiguousUrlError,
    UnreadableUrlError,
    masked,
    possible_passwords,
    read_url,
)

HOSTS = ["host", "cam.local", "192.168.1.5", "[fe80::1%eth0]", "küche", "localhost"]


@pytest.mark.parametrize(
    ("text", "user", "password", "host", "location"),
    [
        ("rtsp://user:p@ss@host/x", "user", "p@ss", "host", "rtsp://host/x"),
        ("rtsp://user:p#ss@host/x", "user", "p#ss", "host", "rtsp://host/x"),
        ("rtsp://user:p?ss@host/x", "user", "p?ss", "host", "rtsp://host/x"),
        ("rtsp://user:p/s?s#@host/x", "user", "p/s?s#", "host", "rtsp://host/x"),
        ("rtsp://user:50%off@host/x", "user", "50%off", "host", "rtsp://host/x"),
        ("rtsp://user:%ff%@host/x", "user", "%ff%", "host", "rtsp://host/x"),
        ("rtsp://user:p%40ss@host/x", "user", "p@ss", "host", "rtsp://host/x"),
        ("rtsp://user:pass:word@host:554/x", "user", "pass:word", "host", "rtsp://host:554/x"),
        ("rtsp://user:a b\tc@host/x", "user", "a b\tc", "host", "rtsp://host/x"),
        ("rtsp://bär:pässwörd@küche.local/x", "bär", "pässwörd", "küche.local", "rtsp://küche.local/x"),
        ("rtsp://u:a/b@[fe80::1%eth0]:554/x", "u", "a/b", "fe80::1%eth0", "rtsp://[fe80::1%eth0]:554/x"),
        ("rtsp://me@mail.com:word@host/x", "me@mail.com", "word", "host", "rtsp://host/x"),
        ("http://DOMAIN\\user:word@host/x", "DOMAIN\\user", "word", "host", "http://host/x"),
        ("rtsp://admin:1234/S3cret@10.0.0.9/cam", "admin", "1234/S3cret", "10.0.0.9", "rtsp://10.0.0.9/cam"),
        ("rtsp://u:word@10.0.0.9/live@main", "u", "word", "10.0.0.9", "rtsp://10.0.0.9/live@main"),
        ("rtsp://user@host/x", "user", "", "host", "rtsp://host/x"),
        ("RTSP://Host:8554/X?a=B", None, None, "host", "rtsp://Host:8554/X?a=B"),
        ("rtsp://[::1]:8554/live", None, None, "::1", "rtsp://[::1]:8554/live"),
        ("http://host/@user/x", None, None, "host", "http://host/@user/x"),
        ("http://host/x?mail=a@b", None, None, "host", "http://host/x?mail=a@b"),
        ("http://host:8080/x?mail=a@b", None, None, "host", "http://host:8080/x?mail=a@b"),
        ("http://10.0.0.9:80/x/a@b.c/d", None, None, "10.0.0.9", "http://10.0.0.9:80/x/a@b.c/d"),
        ("http://host/?t=10:30&m=a@b/c", None, None, "host", "http://host/?t=10:30&m=a@b/c"),
        ("rtsp://cam:8554/a@2x", None, None, "cam", "rtsp://cam:8554/a@2x"),
        ("rtsp://@cam:8554/live@main", None, None, "cam", "rtsp://cam:8554/live@main"),
    ],
)
def test_read(text: str, user: str | None, password: str | None, host: str, location: str) -> None:
    url = read_url(text)
    assert (url.user, url.password, url.host, url.location) == (user, password, host, location)
    if password:
        assert password not in repr(url)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://admin:1234/S3cret@host/cam",
        "rtsp://admin:1234?S3cret@host/cam",
        "rtsp://admin:1234#S3cret@host/cam",
        "rtsp://admin:S3cret@cam/S3cret@host/cam",
        "rtsp://admin:S3cret@10.0.0.9/S3cret@10.0.0.8/cam",
        "http://DOMAIN/user:S3cret@nas/x",
    ],
)
def test_two_readings_are_refused(text: str) -> None:
    with pytest.raises(AmbiguousUrlError) as caught:
        read_url(text)
    assert "S3cret" not in str(caught.value) + masked(text)
    assert any("S3cret" in word for word in possible_passwords(text))


@pytest.mark.parametrize(
    "text",
    [
        *("host/x", "rtsp://", "rtsp:///x", "rtsp://h:0/", "rtsp://h:65536/", "rtsp://h:x/", "rtsp://[::1/x"),
        *("rtsp://[cam]/x", "rtsp://a b/x", "rtsp://a..b/x", "rtsp://u:S3cret@/x", "rtsp://u:S3cret@h:x/"),
        "rtsp://cam/a\r\nb",
    ],
)
def test_no_host_is_refused(text: str) -> None:
    with pytest.raises(UnreadableUrlError) as caught:
        read_url(text)
    assert not isinstance(caught.value, AmbiguousUrlError)
    assert "S3cret" not in str(caught.value) + masked(text)


@settings(max_examples=1000, deadline=None)
@given(
    st.one_of(
        st.text("aB1@:/?#%&=+. \t\"'[]\\ü*-", min_size=1, max_size=12), st.text(min_size=1, max_size=12)
    ),
    st.sampled_from(HOSTS),
    st.sampled_from(["", ":554"]),
    st.sampled_from(["", "/", "/cam", "/a/b?c=d#e", "?x=1", "/live@2x", "/live@main"]),
)
@example("1/", "host", "", "/cam")
@example("1234/S3cret", "host", "", "/cam")
def test_a_password_is_read_or_the_url_is_refused(word: str, host: str, port: str, path: str) -> None:
    """Whatever the password: nothing of it is taken for host or path, which are shown and looked up."""
    text = f"rtsp://admin:{word}@{host}{port}{path}"
    assert masked(text).rpartition("@")[2] in f"{host}{port}{path}"
    try:
        url = read_url(text)
    except UnreadableUrlError as error:
        assert str(error) in (
            "it is not clear where the password ends and the host begins",
            "no host in the URL, or no port from 1 to 65535 behind it",
        )
        return
    assert (url.user, url.host) == ("admin", host.strip("[]"))
    assert url.location == f"rtsp://{host}{port}{path}"
    assert word in possible_passwords(text)


@pytest.mark.parametrize("piece", ["a", "@", "a@", "a:", ":@", "/", "a/@", "[", "@[", "@1.", "?a=@", "_"])
def test_a_long_text_takes_no_longer_than_its_length(piece: str) -> None:
    text = "http://" + piece * (200_000 // len(piece))
    before = time.thread_time()
    masked(text)
    possible_passwords(text)
    with contextlib.suppress(UnreadableUrlError):
        read_url(text)
    assert time.thread_time() - before < 3
