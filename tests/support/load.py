# SPDX-License-Identifier: MIT
"""Many requests at the same time, and load that goes on."""
import http.client
import threading
import time

from support import stack
from support.site import Request, encode, transfer

A_PROCESS_EACH = ("apache-cgi", "apache-fcgid")


def at_once(front, n):
    """So many at the same time, but few where each is a process with ThreadSanitizer: it takes a second of CPU, and
    Apache waits ten."""
    return min(n, 5) if stack.build_dir().name == "tsan" and front.name in A_PROCESS_EACH else n


def volley(front, requests):
    """All at the same time. Answers, in the order of the requests."""
    answers = [None] * len(requests)
    barrier = threading.Barrier(len(requests))

    def one(i):
        barrier.wait()
        answers[i] = front.send(requests[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(requests))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


class Load:
    """Senders that go on until the end of the with. The answers stay in .answers."""

    def __init__(self, site, front, senders=16):
        self.site, self.front = site, front
        self.going = True
        self.answers = []  # (body, status or the exception's name)
        self.threads = [threading.Thread(target=self.run) for _ in range(senders)]

    def run(self):
        while self.going:
            body = encode(transfer())
            try:
                status = self.front.send(Request(self.site.path(), body=body)).status
            except (OSError, ValueError, http.client.HTTPException) as error:
                status = type(error).__name__  # not the error: it would keep its frames and sockets
                time.sleep(0.01)
            self.answers.append((body, status))

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.going = False
        for t in self.threads:
            t.join()

    def acknowledged(self):
        return [body for body, status in self.answers if status == 200]
