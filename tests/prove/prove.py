#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Nothing lost: faults at random under load, then compare every acknowledged body with the database.

  TIME=600          seconds of it
  SEED=n            the same faults again, in the same order (what they hit depends on the moment)
  EXPECT=loss       succeed only if something is found: the proof of the proof, see make prove-self

Senders post stories of orders whose end does not depend on the order of arrival, as a provider does: again
until the answer is 2xx, and now and then again after that. So at the end each body was acknowledged,
and the database must have each delivery once, each transaction once, each order in the state that the rules
say, with the events and paybacks of that.

Loss would be healed by a repeat, so bodies that are repeated after their acknowledgement are few.
"""
import collections
import contextlib
import hashlib
import http.client
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from support import stack  # noqa: E402
from support.processes import family, frozen  # noqa: E402
from support.site import Request, Site, encode, new_order, scratch, transfer  # noqa: E402

SENDERS = 16
REPEATED = 0.1
PATIENCE = 180  # seconds for one delivery
SPOOL_BYTES = 8 << 20

# statuses of an order's transactions, its last state, its events, its paybacks
STORIES = [
    (["success"], "paid", {"order.success": 1}, 0),
    (["failed"], "cancelled", {"order.cancel": 1}, 0),
    (["failed", "success"], "paid", None, 0),  # order.cancel, too, if the failure was first
    (["success", "success"], "paid", {"order.success": 1, "payback.due": 1}, 1),
]


class Senders:
    def __init__(self, site, front, seed):
        self.site, self.front = site, front
        self.going = True
        self.stories = []  # (order, story, bodies), all acknowledged at the end
        self.answers = collections.Counter()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(random.Random(seed * 1000 + n),)) for n in range(SENDERS)]
        for t in self.threads:
            t.start()

    def post(self, body):
        """Until it is acknowledged. No fault lasts long: a sender that waits for minutes has found a handler that is stuck."""
        end = time.monotonic() + PATIENCE
        while True:
            if time.monotonic() > end:
                with self.lock:
                    self.answers["STUCK"] += 1
                return
            try:
                answer = self.front.send(Request(self.site.path(), body=body, timeout=15))
                word = answer.json.get("outcome", answer.json.get("reason")) if answer.status in (200, 503) else str(answer.status)
                status = answer.status
            except (OSError, ValueError, http.client.HTTPException) as error:
                word, status = type(error).__name__, 0
            with self.lock:
                self.answers[word] += 1
            if status == 200:
                return
            time.sleep(0.05)

    def run(self, rng):
        while self.going:
            story = rng.choice(STORIES)
            order = new_order()
            bodies = [encode(transfer(status, order)) for status in story[0]]
            rng.shuffle(bodies)
            for body in bodies:
                self.post(body)
            for body in bodies:
                if rng.random() < REPEATED:
                    self.post(body)
            with self.lock:
                self.stories.append((order, story, bodies))

    def finish(self):
        self.going = False
        for t in self.threads:
            t.join()


class Faults:
    """What can be done to the servers. Each leaves everything running again."""

    def __init__(self, site, nginx, spool, rng):
        self.site, self.nginx, self.spool, self.rng = site, nginx, spool, rng
        self.made = collections.Counter()
        self.kinds = [self.kill_handler, self.kill_postgresql, self.kill_nginx, self.freeze_postgresql]
        if spool is not None:
            self.kinds.append(self.fill_the_spool)

    def one(self):
        kind = self.rng.choice(self.kinds)
        kind(self.rng.random())
        self.made[kind.__name__.replace("_", " ")] += 1

    def kill(self, service, number=signal.SIGKILL, children=True):
        pids = family(service.pid) if children else [service.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        service.process.wait()

    def kill_handler(self, how):
        self.kill(self.site.handler)
        time.sleep(how * 0.5)
        self.site.handler.start()

    def kill_postgresql(self, how):
        """An immediate stop: as after a crash, it recovers from its log."""
        self.kill(self.site.postgres, signal.SIGQUIT, children=False)
        time.sleep(how * 3)
        self.site.postgres.start()

    def kill_nginx(self, how):
        self.kill(self.nginx)
        time.sleep(how * 0.3)
        self.nginx.start()

    def freeze_postgresql(self, how):
        with frozen(self.site.postgres.pid):
            time.sleep(how * 5)

    def fill_the_spool(self, how):
        """Its disk is full while the database is away."""
        filler = self.spool / ".filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as f:
            while True:
                f.write(b"x" * 4096)
        self.kill(self.site.postgres, signal.SIGQUIT, children=False)
        time.sleep(how * 2)
        filler.unlink()
        self.site.postgres.start()


def compare(site, senders):
    """(acknowledged, lost, doubled, wrong state)"""
    deliveries = dict(site.query("select encode(digest, 'hex'), count(*) from foloosi.deliveries group by 1"))
    transactions = collections.Counter(dict(site.query(
        "select order_ref, count(*) from foloosi.transactions where order_ref is not null group by 1")))
    numbers = dict(site.query("select transaction_no, count(*) from foloosi.transactions group by 1"))
    states = dict(site.query("select order_ref, state::text from foloosi.orders"))
    paybacks = dict(site.query("select order_ref, count(*) from foloosi.paybacks group by 1"))
    events = collections.defaultdict(dict)
    for order, kind, n in site.query("select order_ref, type::text, count(*) from foloosi.events group by 1, 2"):
        events[order][kind] = n
    acked = wrong = 0
    # the bytes as well as the row: a person must be able to read what came
    lost = site.query("select count(*) from foloosi.deliveries d left join foloosi.bodies b on b.delivery_id = d.id"
                      " where b.body is null or substr(sha256(b.body), 1, 16) <> d.digest")[0][0]
    doubled = sum(n - 1 for n in (*deliveries.values(), *numbers.values()))
    for order, (statuses, state, expected, owed), bodies in senders.stories:
        acked += len(bodies)
        gone = sum(hashlib.sha256(b).hexdigest()[:32] not in deliveries for b in bodies)
        lost += gone
        if gone:
            continue
        seen = events[order]
        doubled += max(0, transactions[order] - len(bodies)) + sum(max(0, n - 1) for n in seen.values())
        if (states.get(order) != state or transactions[order] != len(bodies) or paybacks.get(order, 0) != owed
                or (expected is not None and seen != expected) or (state == "paid" and seen.get("order.success") != 1)):
            wrong += 1
            if wrong <= 5:
                print(f"wrong: {order} {statuses}: {states.get(order)}, {transactions[order]} transactions, "
                      f"{paybacks.get(order, 0)} paybacks, {seen}", file=sys.stderr)
    return acked, lost, doubled, wrong


def prove(seconds, seed):
    rng = random.Random(seed)
    home = pathlib.Path(scratch())
    spool = home / "spool"
    spool.mkdir()
    small = stack.IS_ROOT and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SPOOL_BYTES}", "tmpfs", spool], stderr=subprocess.DEVNULL).returncode == 0
    stack.give(spool, "www-data", mode=0o700)
    site = Site(home, spool_dir=spool)
    site.postgres.settings["fsync"] = "on"
    try:
        site.start()
        front = site.front("nginx")
        faults = Faults(site, site.services[-1], spool if small else None, rng)
        senders = Senders(site, front, seed)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                time.sleep(0.2 + rng.random())
                faults.one()
        finally:
            senders.finish()
        stack.wait_for("the drain", lambda: not list(spool.glob("*.delivery")), timeout=120)
        result = compare(site, senders)
        aside = len(list(spool.glob("aside/*")))
        print("acked %d, lost %d, doubled %d, wrong state %d" % result)
        print("faults: " + ", ".join(f"{kind} {n}" for kind, n in sorted(faults.made.items())) + f"; {sum(faults.made.values())} in all")
        print("answers: " + ", ".join(f"{word} {n}" for word, n in senders.answers.most_common()))
        if not small:
            print("the spool's disk was not filled: that takes root, who may mount a small one")
        if aside:
            print(f"set aside: {aside}")
        print(f"again: make prove TIME={seconds} SEED={seed}", flush=True)
        return result[1] > 0, result[0] > 0 and not any(result[1:]) and not aside and not senders.answers["STUCK"]
    finally:
        for service in reversed(site.services):
            with contextlib.suppress(stack.StackError):
                service.stop()
        if small:
            subprocess.run(["umount", "-l", spool], check=False)
        site.close()


def main():
    seconds = int(os.environ.get("TIME") or 600)
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 31))
    lost, whole = prove(seconds, seed)
    if os.environ.get("EXPECT") == "loss":
        print("the planted loss was found" if lost else "the planted loss was NOT found: this proof proves nothing")
        return 0 if lost else 1
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
