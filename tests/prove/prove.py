#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Nothing lost: faults at random under load, then compare every acknowledged body with the database.

  TIME=600          seconds of it
  SEED=n            the same faults again, in the same order (what they hit depends on the moment)
  EXPECT=loss       succeed only if something is found: the proof of the proof, see make prove-self

Senders post stories of orders, refunds and renewals among them, in any order of arrival, as a provider does: again
until the answer is 2xx, and now and then again after that. So at the end each body was acknowledged,
and the database must have each delivery once, each transaction once, captured and refunded as was said, each order in
a state that the rules allow, with the events and paybacks of that. No payback is due for more than is left, no order
is cancelled while money of it is left, and none is paid by money that went back.

Persons announce and close orders of their own while these are paid. What all of them saw goes to a log, from which history.py
decides whether each answer was possible.

Loss would be healed by a repeat, so bodies that are repeated after their acknowledgement are few.
"""
import collections
import contextlib
import copy
import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import psycopg

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
from support import stack  # noqa: E402
from support.processes import family, frozen  # noqa: E402
from support.site import Request, Site, encode, new_order, scratch, transfer  # noqa: E402

SENDERS = 16
PERSONS = 3
REPEATED = 0.1
PATIENCE = 180  # seconds for one delivery
SPOOL_BYTES = 8 << 20

@dataclasses.dataclass
class Story:
    """What is said of the payments of one order, and what must have become of it in whatever order that arrives."""
    says: list  # (status, payment, amount): a refund names no order
    states: set  # of the order at the end; None: there is none, as of a payment whose refund came first
    refunded: dict = dataclasses.field(default_factory=dict)  # payment: how much
    events: dict | None = None  # all of them; None: they depend on the order of arrival
    paybacks: int | None = 0
    successes: int = 1  # order.success at most
    merchant: str = "shop"
    key: str = ""  # what the order's key begins with

    def captured(self, payment):
        return any(status == "success" and p == payment for status, p, _ in self.says)


ONE, TWO = ("success", 1, 100), ("success", 2, 100)
STORIES = [
    Story([ONE], {"paid"}, events={"order.success": 1}),
    Story([("failed", 1, 100)], {"cancelled"}, events={"order.cancel": 1}),
    Story([("failed", 1, 100), TWO], {"paid"}),  # order.cancel, too, if the failure was first
    Story([ONE, TWO], {"paid"}, events={"order.success": 1, "payback.due": 1}, paybacks=1),
    # one number: the contradiction of a success is a payback to check
    Story([("failed", 1, 100), ONE], {"paid"}, paybacks=None),
    # refunds: before the success, a whole one leaves no order, and a part puts it to review
    Story([ONE, ("refund", 1, 100)], {"refunded", None}, {1: 100}),
    Story([ONE, ("refund", 1, 30)], {"paid", "review"}, {1: 30}),
    # review: the second payment came after the first had gone back
    Story([ONE, TWO, ("refund", 2, 100)], {"paid", "review"}, {2: 100}, paybacks=None),
    # renewals: at "hushed" each is a period of its own, at "shop" two within a day are a repeat to check
    Story([ONE, TWO], {"paid"}, events={"order.success": 1, "payback.check": 1}, paybacks=1, key="FLSSUB_"),
    Story([ONE, TWO, ("success", 3, 100)], {"paid"}, paybacks=None, successes=3, merchant="hushed", key="FLSSUB_"),
    Story([ONE, TWO, ("refund", 2, 100)], {"paid", "review"}, {2: 100}, paybacks=None, successes=2, merchant="hushed", key="FLSSUB_"),
]


def bodies_of(story, order):
    """The bodies of a story, and the number of each payment."""
    payments = {payment: transfer("success", order) for _, payment, _ in story.says}
    bodies = []
    for status, payment, amount in story.says:
        body = copy.deepcopy(payments[payment])
        body["data"]["transfer"].update(transaction_status=status, transaction_amount=str(amount))
        if status == "refund":
            body["data"]["transfer"]["api"]["optional1"] = None
        bodies.append(encode(body))
    return bodies, {payment: body["data"]["transfer"]["transaction_no"] for payment, body in payments.items()}


class Calls:
    """What the clients saw, for history.py."""

    def __init__(self):
        self.calls = []

    @contextlib.contextmanager
    def call(self, what, order, **more):
        """One call. Within it answer() says what came; without that the answer is not known."""
        entry = {"what": what, "order": order, "start": time.time(), "end": None, "known": False, "ok": False, **more}

        def answer(ok, **said):
            entry.update(said, end=time.time(), known=True, ok=ok)

        try:
            yield answer
        finally:
            self.calls.append(entry)

    def write(self, path):
        path.write_text("".join(json.dumps(c) + "\n" for c in self.calls))


class Senders:
    def __init__(self, site, front, seed, calls):
        self.site, self.front, self.calls = site, front, calls
        self.going = True
        self.stories = []  # (order, story, bodies, numbers), all acknowledged at the end
        self.answers = collections.Counter()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=run, args=(random.Random(seed * 1000 + n),))
                        for n, run in enumerate([self.run] * SENDERS + [self.run_person] * PERSONS)]
        for t in self.threads:
            t.start()

    def post(self, body, merchant, order):
        """Until it is acknowledged. No fault lasts long: a sender that waits for minutes has found a handler that is stuck."""
        end = time.monotonic() + PATIENCE
        while True:
            if time.monotonic() > end:
                with self.lock:
                    self.answers["STUCK"] += 1
                return
            try:
                with self.calls.call("post", order, digest=hashlib.sha256(body).hexdigest()[:32]) as said:
                    answer = self.front.send(Request(self.site.path(merchant), body=body, timeout=15))
                    word = answer.json.get("outcome", answer.json.get("reason")) if answer.status in (200, 503) else str(answer.status)
                    status = answer.status
                    named = answer.json.get("order") or {"ref": None, "state": None}
                    said(status == 200, outcome=word, order=named["ref"], state=named["state"])
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
            order = story.key + new_order()
            bodies, numbers = bodies_of(story, order)
            rng.shuffle(bodies)
            for body in bodies:
                self.post(body, story.merchant, order)
            for body in bodies:
                if rng.random() < REPEATED:
                    self.post(body, story.merchant, order)
            with self.lock:
                self.stories.append((order, story, bodies, numbers))

    def run_person(self, rng):
        """A person announces an order and closes it, while a failure and a success of it arrive."""
        while self.going:
            order = "P-" + new_order()
            bodies = [encode(transfer(status, order)) for status in ("failed", "success")]
            meanwhile = [threading.Thread(target=self.post, args=(body, "shop", order)) for body in bodies]
            acts = [("register", "select (foloosi.register_order('shop', %s, 100, 'AED')).state::text"),
                    ("resolve", "select (foloosi.resolve_order('shop', %s, 'cancelled', 'closed')).state::text")]
            for t in meanwhile:
                t.start()
            for what, sql in acts:
                time.sleep(rng.random() * 0.05)
                with contextlib.suppress(psycopg.Error), self.calls.call(what, order) as said:
                    try:
                        state, = self.site.postgres.query(sql, [order], user="foloosi_operator")[0]
                        said(True, state=state)
                    except (psycopg.errors.NoDataFound, psycopg.errors.ObjectNotInPrerequisiteState):
                        said(False)  # there is no such order yet; or it is registered otherwise
            for t in meanwhile:
                t.join()

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


# What must hold of the order rules, whatever came.
WRONG = """
    select (select count(*) from foloosi.paybacks p join foloosi.transactions t on t.id = p.transaction_id
            where p.state = 'due' and (p.amount > t.money_left or t.money_left = 0))
         + (select count(*) from foloosi.orders o where o.state in ('cancelled', 'refunded') and o.decided_by is null
            and exists (select from foloosi.transactions_of(o.merchant, o.order_ref) t where t.money_left > 0))
         + (select count(*) from foloosi.orders o join foloosi.transactions t on t.id = o.transaction_id
            where o.state = 'paid' and (t.state <> 'captured' or t.money_left = 0 or t.amount <> o.amount or t.currency <> o.currency))"""


def compare(site, senders):
    """(acknowledged, lost, doubled, wrong state)"""
    deliveries = dict(site.query("select encode(digest, 'hex'), count(*) from foloosi.deliveries group by 1"))
    transactions = {no: (times, captured, refunded) for no, times, captured, refunded in site.query(
        "select transaction_no, count(*), sum(amount::numeric) filter (where state = 'captured'), sum(refunded)"
        " from foloosi.transactions group by 1")}
    states = dict(site.query("select order_ref, state::text from foloosi.orders"))
    paybacks = dict(site.query("select order_ref, count(*) from foloosi.paybacks group by 1"))
    events = collections.defaultdict(dict)
    for order, kind, n in site.query("select order_ref, type::text, count(*) from foloosi.events group by 1, 2"):
        events[order][kind] = n
    acked = 0
    # the bytes as well as the row: a person must be able to read what came
    lost = site.query("select count(*) from foloosi.deliveries d left join foloosi.bodies b on b.delivery_id = d.id"
                      " where b.body is null or substr(sha256(b.body), 1, 16) <> d.digest")[0][0]
    doubled = sum(n - 1 for n in (*deliveries.values(), *(times for times, _, _ in transactions.values())))
    wrong = site.query(WRONG)[0][0]
    if wrong:
        print(f"wrong: {wrong} orders or paybacks do not fit the money that is left", file=sys.stderr)
    for order, story, bodies, numbers in senders.stories:
        acked += len(bodies)
        gone = sum(hashlib.sha256(b).hexdigest()[:32] not in deliveries for b in bodies)
        lost += gone
        if gone:
            continue
        seen = events[order]
        doubled += sum(max(0, n - (story.successes if kind == "order.success" else 1)) for kind, n in seen.items())
        money = {p: transactions.get(no) for p, no in numbers.items()}
        if (states.get(order) not in story.states
                or money != {p: (1, 100 if story.captured(p) else None, story.refunded.get(p)) for p in numbers}
                or story.paybacks is not None and paybacks.get(order, 0) != story.paybacks
                or story.events is not None and seen != story.events
                or states.get(order) == "paid" and not seen.get("order.success")
                # each success of a subscription is a renewal, or to be checked
                or story.successes > 1 and states.get(order) == "paid" and not story.refunded
                and seen["order.success"] + paybacks.get(order, 0) != story.successes):
            wrong += 1
            if wrong <= 5:
                print(f"wrong: {order} {story.says}: {states.get(order)}, {money}, {paybacks.get(order, 0)} paybacks, {seen}", file=sys.stderr)
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
        site.query("select foloosi.set_merchant('hushed', renewal_gap => '0')")
        front = site.front("nginx")
        faults = Faults(site, site.services[-1], spool if small else None, rng)
        calls = Calls()
        senders = Senders(site, front, seed, calls)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                time.sleep(0.2 + rng.random())
                faults.one()
        finally:
            senders.finish()
        stack.wait_for("the drain", lambda: not list(spool.glob("*.delivery")), timeout=120)
        result = compare(site, senders)
        calls.write(home / "calls.jsonl")
        possible = subprocess.run([sys.executable, TESTS / "prove" / "history.py", home / "calls.jsonl", site.postgres.conninfo("postgres")]).returncode == 0
        aside = len(list(spool.glob("aside/*")))
        print("acked %d, lost %d, doubled %d, wrong state %d" % result)
        print("faults: " + ", ".join(f"{kind} {n}" for kind, n in sorted(faults.made.items())) + f"; {sum(faults.made.values())} in all")
        print("answers: " + ", ".join(f"{word} {n}" for word, n in senders.answers.most_common()))
        if not small:
            print("the spool's disk was not filled: that takes root, who may mount a small one")
        if aside:
            print(f"set aside: {aside}")
        print(f"again: make prove TIME={seconds} SEED={seed}", flush=True)
        return result[1] > 0, result[0] > 0 and not any(result[1:]) and not aside and not senders.answers["STUCK"] and possible
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
