# SPDX-License-Identifier: MIT
"""Peers that mean harm: slow, half-open or silent at the web servers, and anything at all at the FastCGI socket."""
import os
import random
import socket
import struct

import pytest

from support import fcgi_client
from support.fcgi_client import BEGIN, PARAMS, STDIN, params, record
from support.site import BareFront, Request, Site, encode, scratch, transfer

pytestmark = pytest.mark.skipif(bool(os.environ.get("WRAP")), reason="it is about the bare program")
CROWD = 300  # more than the handler has threads
GET_VALUES = 9


@pytest.fixture(scope="module")
def own():
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


def is_served(site, front):
    answer = front.send(Request(site.path(), body=encode(transfer())))
    assert answer.status == 200 and answer.outcome == "recorded"
    assert answer.seconds < 2


def head(site, length):
    return f"POST {site.path()} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n".encode()


@pytest.mark.parametrize("name", ["nginx", "apache-proxy"])
@pytest.mark.parametrize("how", ["no byte", "slow headers", "slow bodies"])
def test_a_crowd_that_does_not_go_on(own, name, how):
    """As slowhttptest has them: the web server holds them, and a whole request is served."""
    front = own.front(name)
    body = encode(transfer())
    said = {"no byte": b"", "slow headers": head(own, len(body)), "slow bodies": head(own, len(body)) + b"\r\n" + body[:5]}[how]
    crowd = [socket.create_connection(("127.0.0.1", front.port), 10) for _ in range(CROWD if name == "nginx" else 100)]
    try:
        for s in crowd:
            s.sendall(said)
        for n in range(10):
            for s in crowd[n::10]:
                s.sendall(b"X-N: 1\r\n" if how == "slow headers" else body[5:6] if how == "slow bodies" else b"")
            is_served(own, front)
    finally:
        for s in crowd:
            s.close()
    is_served(own, front)


def speak(site, said, leave=True):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(str(site.handler.socket))
    try:
        s.sendall(said)
        if leave:
            s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
    except OSError:
        pass  # it may close the connection
    finally:
        s.close()


def test_garbage_and_torn_records_on_the_socket(own):
    rng = random.Random(7)
    pid = own.handler.pid
    begin = record(BEGIN, struct.pack(">HB5x", 1, 1))
    good = begin + record(PARAMS, params([("REQUEST_METHOD", "POST"), ("REQUEST_URI", own.path())])) + record(PARAMS) + record(STDIN, b"{}")
    for _ in range(100):
        speak(own, rng.randbytes(rng.randint(1, 300)))
        speak(own, good[:rng.randrange(len(good))])
        at = rng.randrange(len(good))
        speak(own, good[:at] + rng.randbytes(1) + good[at + 1:])
    is_served(own, BareFront(own.handler.socket))
    assert own.handler.pid == pid and own.handler.alive()


def test_a_body_is_never_a_request(own):
    """FCGI_KEEP_CONN, and a body that is refused unread: what is in it are records of a second, forged request."""
    forged = encode(transfer())
    pairs = [("REQUEST_METHOD", "POST"), ("REQUEST_URI", own.path()), ("CONTENT_TYPE", "application/json"), ("CONTENT_LENGTH", str(len(forged)))]
    inner = (record(BEGIN, struct.pack(">HB5x", 1, 1)) + record(PARAMS, params(pairs)) + record(PARAMS) + record(STDIN, forged) + record(STDIN))
    for uri in (own.path() + "x", own.path("basic")):
        c = fcgi_client.Connection(own.handler.socket)
        c.begin([("REQUEST_METHOD", "POST"), ("REQUEST_URI", uri), ("CONTENT_LENGTH", str(len(inner)))], keep=True)
        c.socket.sendall(inner)  # no STDIN record around it
        status, _, _ = fcgi_client.parse(c.answer())
        assert status in (401, 404)
        c.close()
    assert own.kept(forged) is None
    is_served(own, BareFront(own.handler.socket))


def test_a_flood_of_get_values(own):
    """Many names in one would make libfcgi abort; so only the web server's group reaches the socket."""
    for _ in range(50):
        speak(own, struct.pack(">BBHHBx", 1, GET_VALUES, 0, 0, 0))
    is_served(own, BareFront(own.handler.socket))
    mode = own.handler.socket.stat().st_mode
    assert mode & 0o777 == 0o660
