# SPDX-License-Identifier: MIT
"""The connection to PostgreSQL breaks at every message of the statement and its commit: counted exactly once."""
import hashlib
import json
import time

import pytest

from support import pg_proxy, stack
from support.answers import SLACK
from support.load import volley
from support.site import BareFront, Request, SpoolSite, encode, new_order, scratch, transfer

DEADLINE = 1.0
CUTS = [("client", n) for n in range(len(pg_proxy.CLIENT) + 1)] + [("server", n) for n in range(len(pg_proxy.SERVER) + 1)]
ALL = CUTS[-1]  # everything has passed before it


class DoubtSite(SpoolSite):
    """Two handlers behind one proxy, with a spool and without."""

    def start(self):
        super().start()
        proxied = self.home / "proxy"
        proxied.mkdir()
        proxied.chmod(0o755)
        self.proxy = pg_proxy.PgProxy(proxied, self.postgres.socket_dir)
        database = self.postgres.conninfo("foloosi_handler").replace(str(self.postgres.socket_dir), str(proxied))
        assert self.handler.stop() == 0
        self.handler.config.settings.update(database=database, deadline=f"{int(DEADLINE * 1000)}ms")
        self.handler.start()
        self.plain = stack.Handler(self.home / "plain", self.logs, database, self.merchants, name="handler-plain",
                                   deadline=f"{int(DEADLINE * 1000)}ms")
        self.run(self.plain)
        self.doors = {"spool": BareFront(self.handler.socket), "plain": BareFront(self.plain.socket)}
        return self

    def settle(self, door):
        """Both see the database, and nothing waits."""
        stack.wait_for("the handler", lambda: self.send(door, encode(transfer())).outcome == "recorded")
        self.drained()

    def send(self, door, body):
        """As a provider: again while the answer is not 2xx."""
        end = time.monotonic() + 30
        while (answer := self.doors[door].send(Request(self.path(), body=body))).status != 200:
            assert answer.status == 503 and answer.header("Retry-After")
            assert time.monotonic() < end
            time.sleep(0.05)
        return answer

    def counts(self, order, body):
        """Deliveries, transactions, order changes and events of one order."""
        number = json.loads(body)["data"]["transfer"]["transaction_no"]
        digest = hashlib.sha256(body).digest()[:16]
        return self.query(
            "select (select count(*) from foloosi.deliveries where digest = %s),"
            " (select count(*) from foloosi.transactions where transaction_no = %s),"
            " (select count(*) from foloosi.order_history where order_ref = %s),"
            " (select count(*) from foloosi.events where order_ref = %s),"
            " (select state::text from foloosi.orders where order_ref = %s)",
            [digest, number, order, order, order])[0]


@pytest.fixture(scope="module")
def own():
    site = DoubtSite(scratch())
    try:
        yield site.start()
    finally:
        site.proxy.close()
        site.close()


def test_the_proxy_sees_every_message(own):
    """The boundaries below are those of the protocol, and the list of them is complete."""
    own.settle("plain")
    own.proxy.set()
    own.send("plain", encode(transfer()))
    [seen] = own.proxy.calls
    stack.wait_for("the last message", lambda: ("server", pg_proxy.SERVER[-1]) in seen)  # it may come apart
    assert [k for side, k in seen if side == "client"] == pg_proxy.CLIENT
    assert [k for side, k in seen if side == "server"] == pg_proxy.SERVER


@pytest.mark.parametrize("door", ["spool", "plain"])
@pytest.mark.parametrize("side, messages", CUTS)
@pytest.mark.parametrize("calls", [1, 3])
def test_cut(own, door, side, messages, calls):
    """calls: how many tries in a row are cut. One is asked again at once; with three the next one, or the drain, is cut as well."""
    own.settle(door)
    order = new_order()
    body = encode(transfer(order=order))
    own.proxy.set(side, messages, calls=calls)
    answer = own.send(door, body)
    if (side, messages) == ALL:
        assert answer.outcome == "recorded"
    elif calls == 3 and door == "spool":
        assert answer.outcome == "spooled"
    own.drained()
    assert own.proxy.broken == (1 if (side, messages) == ALL else calls)
    own.proxy.set()
    assert own.counts(order, body) == (1, 1, 1, 1, "paid")
    own.settle(door)
    assert own.send(door, body).outcome == "duplicate"
    assert own.counts(order, body) == (1, 1, 1, 1, "paid")


@pytest.mark.parametrize("door", ["spool", "plain"])
@pytest.mark.parametrize("side, messages", CUTS)
def test_swallowed(own, door, side, messages):
    """Nothing comes back, and the connection stays open: answered within the deadline all the same."""
    own.settle(door)
    order = new_order()
    body = encode(transfer(order=order))
    own.proxy.set(side, messages, swallow=True)
    first = own.doors[door].send(Request(own.path(), body=body))
    assert own.proxy.broken == 1
    assert first.seconds < DEADLINE + SLACK
    if (side, messages) == ALL:
        assert first.outcome == "recorded"
    else:
        assert (first.status, first.json.get("outcome")) == ((200, "spooled") if door == "spool" else (503, None))
    own.proxy.set()
    if door == "plain":
        own.send(door, body)
    own.drained()
    assert own.counts(order, body) == (1, 1, 1, 1, "paid")


@pytest.mark.parametrize("door", ["spool", pytest.param("plain", marks=pytest.mark.long)])
def test_a_batch_is_cut(own, door):
    """Many at once, one order each, and the connection breaks every other time."""
    own.settle(door)
    for side, messages in CUTS[4:]:
        bodies = [(order, encode(transfer(order=order))) for order in (new_order() for _ in range(20))]
        own.proxy.set(side, messages, calls=2)
        volley(own.doors[door], [Request(own.path(), body=b) for _, b in bodies])
        own.proxy.set()
        for order, body in bodies:
            own.send(door, body)
        own.drained()
        for order, body in bodies:
            assert own.counts(order, body) == (1, 1, 1, 1, "paid")
