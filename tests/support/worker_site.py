# SPDX-License-Identifier: MIT
"""A PostgreSQL and workers on it, for the tests of what goes out."""
import base64
import itertools
import os
import pathlib
import shutil

from support import stack
from support.site import SANITIZERS, scratch

SECRETS = ["whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in range(1, 4)]
numbers = itertools.count(1)


class WorkerSite:
    def __init__(self):
        self.home = pathlib.Path(scratch())
        self.home.chmod(0o711)
        self.logs = self.home / "logs"
        self.pg = stack.Postgres(self.home / "pg", self.logs, {"fsync": "off"})
        self.pg.start(migrated=True)
        self.workers = []

    def worker(self, merchants, **settings):
        name = f"worker-{next(numbers)}"
        settings = {"poll": "20ms", **settings}
        worker = stack.Worker(self.home / name, self.logs, self.pg.conninfo("foloosi_worker"), merchants, name, **settings)
        self.workers.append(worker)
        return worker.start()

    def merchant(self, **policy):
        name = f"m{next(numbers)}"
        arguments = "".join(f", {k} => '{v}'" for k, v in policy.items())
        self.pg.query(f"select foloosi.set_merchant('{name}'{arguments})")
        return name

    def deliver(self, merchant, order=None, status="success", number=None, amount=100, c=None):
        order = order or f"O-{next(numbers)}"
        sql = "select outcome from foloosi.record_delivery(%s, %s, %s, %s, amount => %s, currency => 'AED')"
        arguments = [merchant, status, order, number or f"NO-{next(numbers)}", amount]
        c.execute(sql, arguments) if c else self.record(sql, arguments)
        return order

    def record(self, sql, arguments):
        """As the handler does: what is busy, because the worker has its lock, is tried again."""
        stack.wait_for("the lock", lambda: self.pg.query(sql, arguments)[0][0] != "busy")

    def left(self, merchant):
        """[(event, state, attempts, status, reason)] of what is on its way."""
        return self.pg.query(
            "select d.event_id, d.state::text, d.attempts, d.status, d.reason from foloosi.dispatches d"
            " join foloosi.consumers c on c.id = d.consumer_id where c.merchant = %s and c.endpoint is not null order by 1", [merchant])

    def consumer(self, merchant):
        rows = self.pg.query("select consumer, failures, paused_until is not null, disabled_at is not null, reason, endpoint"
                             " from foloosi.consumers where merchant = %s and endpoint is not null", [merchant])
        return rows[0] if len(rows) == 1 else rows

    def known(self, merchant, count=1):
        """Wait until the worker has made the merchant's endpoints consumers: what happens now is for them."""
        stack.wait_for("the consumer", lambda: self.pg.query(
            "select count(*) from foloosi.consumers where merchant = %s and endpoint is not null", [merchant])[0][0] == count)

    def hurry(self, merchant):
        """Make all that waits due, and close the circuit's pause."""
        self.pg.query("update foloosi.dispatches set due_at = now() where state = 'waiting' and consumer_id in"
                      " (select id from foloosi.consumers where merchant = %s)", [merchant])
        self.pg.query("update foloosi.consumers set paused_until = now() where paused_until is not null and merchant = %s", [merchant])

    def attention(self, merchant):
        return self.pg.query("select kind, order_ref, reason, detail, remedy from foloosi.attention where merchant = %s order by kind, id", [merchant])

    def close(self):
        complaints = []
        for worker in self.workers:
            if worker.alive() and worker.stop() != 0:
                complaints.append(f"{worker.name} did not end well")
        for log in self.logs.glob("worker*.log"):
            text = log.read_text(errors="replace")
            complaints += [f"{log.name}: …{text[max(0, text.find(w) - 300):][:4000]}" for w in SANITIZERS if w in text]
            complaints += [f"{log.name} shows the URL's secret" for _ in [0] if "s3cret" in text]
        self.pg.stop()
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.home, ignore_errors=True)
        assert not complaints, "\n".join(complaints)


def until(what, ready, timeout=20):
    stack.wait_for(what, ready, timeout)
