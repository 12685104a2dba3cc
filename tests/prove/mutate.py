#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""No 5xx, no crash, no leak: the samples, mutated at random, through nginx, handler and PostgreSQL.

  N=1000000         requests
  SEED=n            the same mutations again

Senders keep their connections. Each request is a sample of tests/corpus, good or bad, with one to five mutations: bytes flipped, cut
out, doubled, inserted, spliced with another sample's, numbers blown up; now and then its target, method, type or an
authentication header is mutated as well. At the end: answers by status, the handler's memory after the first tenth and at
the end, and whether the process is the one that was started. Beyond the quota of rejected bodies the answer stays 400
or 422, and the body is counted only.
"""
import collections
import os
import pathlib
import random
import socket
import sys
import threading

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from support import stack  # noqa: E402
from support.processes import memory_mib  # noqa: E402
from support.site import Site, scratch  # noqa: E402

SENDERS = 4
PIPELINE = 32  # requests on their way at a time on a connection
SAMPLES = [p.read_bytes() for p in sorted((TESTS / "corpus").glob("*/*.json"))]
WORDS = [b'"', b"\\", b"\\u0000", b"{", b"}", b"[", b"null", b"1e999", b"-0", b"\xff", b"\xed\xa0\x80", b"\0", b"99999999999999999999",
         b"success", b"failed", b"refund", b"optional1", b"transaction_no", b",", b":"]
GROWN_MIB = 8


def mutate(rng, body):
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(body) + 1)
        to = min(len(body), at + rng.randint(1, 30))
        kind = rng.randrange(7)
        if kind == 0 and at < len(body):
            body = body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1:]
        elif kind == 1:
            body = body[:at] + body[to:]
        elif kind == 2:
            body = body[:to] + body[at:]
        elif kind == 3:
            body = body[:at] + rng.choice(WORDS) + body[at:]
        elif kind == 4:
            body = body[:at] + rng.randbytes(rng.randint(1, 8)) + body[at:]
        elif kind == 5:
            other = rng.choice(SAMPLES)
            body = body[:at] + other[rng.randrange(len(other) + 1):]
        else:
            body = body.replace(b"100", str(rng.choice([0, 1, 10 ** rng.randint(1, 20), 0.1])).encode(), 1)
    return body[:16384]


def head(rng, site, length):
    method, path, headers = b"POST", site.path(rng.choice(["shop", "shop", "shop", "basic", "signed"])).encode(), [b"Content-Type: application/json"]
    if rng.random() < 0.05:
        at = rng.randrange(10, len(path))
        path = path[:at] + rng.choice([b"/", b"%2f", b"?", b"x", b"..", b"%00", b""]) + path[at + rng.randrange(2):]
    if rng.random() < 0.02:
        method = rng.choice([b"PUT", b"GET", b"DELETE", b"PATCH", b"OPTIONS", b"QUERY"])
    if rng.random() < 0.05:
        headers[0] = b"Content-Type: " + rng.choice([b"text/plain", b"text/html", b"application/x+json", b"multipart/form-data", b";", b"application/json;"])
    if rng.random() < 0.2:
        headers.append(rng.choice([b"Authorization: Basic ", b"Webhook-Signature: v1,", b"Webhook-Timestamp: ", b"Webhook-Id: "])
                       + rng.randbytes(rng.randint(1, 20)).hex().encode())
    return b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n\r\n" % (method, path, length, b"\r\n".join(headers))


class Connection:
    """HTTP/1.1 with pipelining."""

    def __init__(self, port):
        self.port = port
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), 60)
        self.answers = self.socket.makefile("rb")

    def exchange(self, requests):
        """Their statuses. Requests behind one whose answer closed the connection are sent again."""
        statuses = []
        while len(statuses) < len(requests):
            try:
                self.socket.sendall(b"".join(requests[len(statuses):]))
                closed = False
                while len(statuses) < len(requests) and not closed:
                    status, closed = self.answer()
                    statuses.append(status)
            except (BrokenPipeError, ConnectionResetError):
                closed = True
            if closed:
                self.socket.close()
                self.connect()
        return statuses

    def answer(self):
        line = self.answers.readline()
        if not line:
            raise ConnectionResetError
        length, chunked, closed = 0, False, False
        while (field := self.answers.readline()) not in (b"\r\n", b""):
            name, _, value = field.lower().partition(b":")
            if name == b"content-length":
                length = int(value)
            chunked |= name == b"transfer-encoding"
            closed |= name == b"connection" and b"close" in value
        while chunked and (length := int(self.answers.readline(), 16)) >= 0:
            self.answers.read(length + 2)
            if length == 0:
                break
        if not chunked:
            self.answers.read(length)
        return int(line.split()[1]), closed


class Senders:
    def __init__(self, site, port, n, seed):
        self.site, self.port = site, port
        self.statuses = collections.Counter()
        self.lock = threading.Lock()
        self.left = n
        self.failures = []
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed * 1000 + i),)) for i in range(SENDERS)]
        for t in self.threads:
            t.start()

    def share(self):
        with self.lock:
            n = min(PIPELINE, self.left)
            self.left -= n
            return n

    def run(self, rng):
        try:
            connection = Connection(self.port)
            while (n := self.share()) > 0:
                bodies = [mutate(rng, rng.choice(SAMPLES)) for _ in range(n)]
                statuses = connection.exchange([head(rng, self.site, len(b)) + b for b in bodies])
                with self.lock:
                    self.statuses.update(statuses)
        except Exception as error:  # noqa: BLE001: whatever it is, main() fails with it
            self.failures.append(repr(error))

    def join(self):
        for t in self.threads:
            t.join()


def main():
    n, seed = int(os.environ.get("N") or 1000000), int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 31))
    site = Site(scratch(), log_level="warning")
    try:
        site.start()
        port = site.front("nginx").port
        pid = site.handler.pid
        total, memory = collections.Counter(), []
        for part, count in enumerate((n // 10, n - n // 10)):
            senders = Senders(site, port, count, seed + part)
            senders.join()
            total.update(senders.statuses)
            memory.append(memory_mib(pid)[0])
            if senders.failures:
                print(f"a sender failed: {senders.failures[0]}")
                return 1
        alive = site.handler.alive() and site.handler.pid == pid
        rejected, counted = site.query("select (select count(*) from foloosi.deliveries where outcome = 'rejected'),"
                                       " (select coalesce(sum(dropped), 0) from foloosi.rejections)")[0]
        print("answers: " + ", ".join(f"{status} {count}" for status, count in sorted(total.items())))
        print(f"rejected bodies kept {rejected}, counted beyond the quota {counted}")
        print(f"memory {memory[0]:.1f} MiB after a tenth, {memory[1]:.1f} at the end; the handler {'is' if alive else 'is NOT'} the one that was started")
        print(f"again: make mutate N={n} SEED={seed}", flush=True)
        bad = sum(count for status, count in total.items() if status >= 500)
        grown = "asan" not in str(stack.build_dir()) and memory[1] - memory[0] > GROWN_MIB
        return 1 if bad or not alive or grown or sum(total.values()) != n else 0
    finally:
        site.close()


if __name__ == "__main__":
    sys.exit(main())
