# SPDX-License-Identifier: MIT
"""A proxy between the handler and PostgreSQL that breaks a conversation at a chosen message.

It speaks enough of the protocol (version 3) to know where messages end. A plan names a side and how
many of its messages, from the Parse of record_deliveries() on, still pass. Then the connection is
cut, or nothing passes any more and it stays open. After so many calls of the statement the plan is
used up and everything passes.
"""
import contextlib
import os
import select
import socket
import struct
import threading

STATEMENT = b"from foloosi.record_deliveries($1"   # and not the empty batch of the greeting
CLIENT = [b"P", b"B", b"D", b"E", b"S"]  # Parse, Bind, Describe, Execute, Sync: as libpq sends a statement
SERVER = [b"1", b"2", b"T", b"D", b"C", b"Z"]  # the commit comes behind C and before Z


class Stream:
    """Bytes of one direction, cut into messages."""

    def __init__(self, has_startup):
        self.buffer = b""
        self.in_startup = has_startup  # messages without a type byte: startup, and TLS or GSS requests

    def feed(self, data):
        self.buffer += data
        while True:
            head = 0 if self.in_startup else 1
            if len(self.buffer) < head + 4:
                return
            size = head + struct.unpack_from(">I", self.buffer, head)[0]
            if len(self.buffer) < size:
                return
            message, self.buffer = self.buffer[:size], self.buffer[size:]
            if self.in_startup:
                self.in_startup = struct.unpack_from(">I", message, 4)[0] >> 16 != 3
                yield b"", message
            else:
                yield message[:1], message


class PgProxy:
    def __init__(self, directory, target, port=5432):
        self.directory = directory
        self.target = f"{target}/.s.PGSQL.{port}"
        self.path = f"{directory}/.s.PGSQL.{port}"
        self.lock = threading.Lock()
        self.plan = None  # [side, messages, swallow, calls left]
        self.broken = 0  # calls that the plan has hit
        self.calls = []  # of each call since set(): its messages, as pairs of side and type
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(64)
        self.closing = False
        threading.Thread(target=self.accept, daemon=True).start()

    def set(self, side=None, messages=0, swallow=False, calls=1):
        with self.lock:
            self.plan = [side, messages, swallow, calls] if side else None
            self.broken = 0
            self.calls = []

    def take(self):
        """A call begins: its plan (None: let it pass) and where to note its messages.

        Each call has a list of its own: a client may act on a message, and the test may call set(),
        before this side has noted that it passed.
        """
        with self.lock:
            self.calls.append(seen := [])
            if self.plan is None or self.plan[3] == 0:
                return None, seen
            self.plan[3] -= 1
            self.broken += 1
            return tuple(self.plan[:3]), seen

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self.target)
            self.relay(client, server)

    def relay(self, client, server):
        ends = {client: (server, Stream(True), "client"), server: (client, Stream(False), "server")}
        plan, seen, inside, passed = None, [], False, {"client": 0, "server": 0}
        mute = False
        while True:
            for end in select.select(list(ends), [], [])[0]:
                other, stream, side = ends[end]
                data = end.recv(65536)
                if not data:
                    return
                if mute:
                    continue
                for kind, message in stream.feed(data):
                    if side == "client" and kind == b"P" and STATEMENT in message:
                        (plan, seen), inside, passed = self.take(), True, {"client": 0, "server": 0}
                    if inside and plan and side == plan[0] and passed[side] == plan[1]:
                        if not plan[2]:
                            return
                        mute = True
                        break
                    other.sendall(message)
                    if inside:
                        passed[side] += 1
                        seen.append((side, kind))
                        # Nothing comes behind the last message: to cut there, do it now.
                        if plan and side == plan[0] and passed[side] == plan[1] and plan[1] == len(CLIENT if side == "client" else SERVER):
                            if not plan[2]:
                                return
                            mute = True
                            break
                        if side == "server" and kind == b"Z":
                            inside = False

    def close(self):
        self.listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
