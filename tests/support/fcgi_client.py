# SPDX-License-Identifier: MIT
"""A FastCGI client, small enough to do wrong on purpose what web servers do right.

One request a connection, role responder (FastCGI 1.0, sections 3 and 5).
"""
import socket
import struct
import time

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
RECORD_MAX = 65535


def record(kind, content=b"", request=1):
    return struct.pack(">BBHHBx", 1, kind, request, len(content), 0) + content


def records(kind, content, request=1):
    """A stream's content in as many records as it takes; without the empty one that ends it."""
    return b"".join(
        record(kind, content[i:i + RECORD_MAX], request) for i in range(0, len(content), RECORD_MAX)
    )


def length(n):
    return bytes([n]) if n < 128 else struct.pack(">I", n | 0x80000000)


def params(pairs):
    """Name-value pairs; a name may come twice."""
    out = b""
    for name, value in pairs:
        name, value = name.encode("latin-1"), value.encode("latin-1")
        out += length(len(name)) + length(len(value)) + name + value
    return out


class Connection:
    def __init__(self, path, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def begin(self, pairs, keep=False):
        self.socket.sendall(
            record(BEGIN, struct.pack(">HB5x", 1, keep)) + records(PARAMS, params(pairs)) + record(PARAMS)
        )

    def stdin(self, pieces, delay=0, end=True):
        for piece in pieces:
            self.socket.sendall(records(STDIN, piece))
            if delay:
                time.sleep(delay)
        if end:
            self.socket.sendall(record(STDIN))

    def abort(self):
        self.socket.sendall(record(ABORT))

    def answer(self):
        """What came on stdout until the end of the request or the connection."""
        out = b""
        buffer = b""
        while True:
            while len(buffer) < 8 or len(buffer) < 8 + sum(struct.unpack(">HB", buffer[4:7])):
                try:
                    more = self.socket.recv(65536)
                except ConnectionResetError:
                    more = b""
                if not more:
                    return out
                buffer += more
            kind = buffer[1]
            content, padding = struct.unpack(">HB", buffer[4:7])
            if kind == STDOUT:
                out += buffer[8:8 + content]
            buffer = buffer[8 + content + padding:]
            if kind == END:
                return out

    def close(self):
        self.socket.close()


def parse(out):
    """A CGI response: status, [(name, value)], body."""
    head, _, body = out.partition(b"\r\n\r\n")
    status, headers = 200, []
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        elif name:
            headers.append((name, value.strip()))
    return status, headers, body
