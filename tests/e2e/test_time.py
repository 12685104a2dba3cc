# SPDX-License-Identifier: MIT
"""What time does: orders that failed, or that nobody pays, are cancelled; what was paid is not, whatever was lost or late."""
import datetime
import itertools
import json
import shutil
import subprocess
import time
import urllib.parse

import pytest

from support import stack
from support.late import Clock
from support.provider import KEY, Provider
from support.site import BareFront, Request, SpoolSite, encode, scratch, transfer
from support.worker_site import WorkerSite, until

numbers = itertools.count(1)
LOOK = 4  # seconds, in which a worker looks at least once


@pytest.fixture(scope="module")
def site():
    site = WorkerSite()
    site.clock = Clock(site.pg)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture(autouse=True)
def quiet(site):
    site.clock.settle()


class Shop:
    """A merchant with a policy, and a worker."""

    def __init__(self, site, provider=None, worker=None, **policy):
        self.site, self.pg, self.clock, self.provider = site, site.pg, site.clock, provider
        self.name = site.merchant(**policy)
        settings = {"provider_url": provider.url, "provider_secret": KEY, "provider_per_minute": 6000} if provider else {}
        self.worker = site.worker({self.name: settings}, reconcile_every="0s" if provider is None else "500ms", **(worker or {}))

    def order_ref(self):
        return f"T-{next(numbers)}"

    def register(self, amount=100, **more):
        ref = self.order_ref()
        arguments = "".join(f", {k} => {v}" for k, v in more.items())
        self.pg.query(f"select foloosi.register_order(%s, %s, %s, 'AED'{arguments})", [self.name, ref, amount])
        return ref

    def deliver(self, status, ref=None, number="", amount=100):
        """number None: without one. Returns order and number."""
        ref, number = ref or self.order_ref(), f"NT-{next(numbers)}" if number == "" else number
        self.pg.query("select * from foloosi.record_delivery(%s, %s, %s, %s, amount => %s, currency => 'AED', payment_reference => %s)",
                      [self.name, status, ref, number, amount, f"r-{next(numbers)}"])
        return ref, number

    def state(self, ref):
        rows = self.pg.query("select state::text from foloosi.orders where merchant = %s and order_ref = %s", [self.name, ref])
        return rows[0][0] if rows else None

    def events(self, ref):
        return self.pg.query("select type::text, reason from foloosi.events where merchant = %s and order_ref = %s order by id", [self.name, ref])

    def looked(self):
        """Wait until the worker has looked again."""
        before = self.pg.query("select ran_at from foloosi.cancellation")
        until("a look", lambda: self.pg.query("select ran_at from foloosi.cancellation") != before)


@pytest.fixture
def shop(site):
    shop = Shop(site, cancel_after="30 minutes", expire_after="1 hour")
    yield shop
    assert shop.worker.stop() == 0


# -- in time ---------------------------------------------------------------------------------------


def test_a_declined_card_and_a_good_one_two_minutes_later(shop):
    ref, _ = shop.deliver("failed")
    assert shop.state(ref) == "pending" and shop.events(ref) == []
    shop.clock.forward(2)
    shop.looked()
    shop.deliver("success", ref)
    assert shop.state(ref) == "paid"
    shop.clock.forward(60)
    shop.looked()
    assert shop.state(ref) == "paid" and shop.events(ref) == [("order.success", None)]


def test_a_failed_order_is_cancelled_in_time(shop):
    ref, _ = shop.deliver("failed")
    shop.clock.forward(20)
    shop.deliver("failed", ref)  # a further failure takes the later time
    shop.clock.forward(20)
    shop.looked()
    assert shop.state(ref) == "pending"
    shop.clock.forward(11)
    until("the cancellation", lambda: shop.state(ref) == "cancelled")
    assert shop.events(ref) == [("order.cancel", "failed")]
    (cause, who), = shop.pg.query("select cause, decided_by from foloosi.order_history where merchant = %s and order_ref = %s and state = 'cancelled'",
                                  [shop.name, ref])
    assert (cause, who) == ("cancel", "foloosi_worker")
    shop.deliver("success", ref)  # and then it is late
    assert shop.state(ref) == "paid" and shop.events(ref)[1:] == [("order.success", "late")]


def test_an_unpaid_registered_order_is_cancelled_in_time(shop):
    ref, own, paid = shop.register(), shop.register(cancel_at="foloosi.clock() + interval '10 minutes'"), shop.register()
    shop.deliver("success", paid)
    shop.clock.forward(11)
    until("the order with a time of its own", lambda: shop.state(own) == "cancelled")
    assert shop.events(own) == [("order.cancel", "expired")] and shop.state(ref) == "pending"
    shop.clock.forward(50)
    until("the other", lambda: shop.state(ref) == "cancelled")
    assert shop.events(ref) == [("order.cancel", "expired")]
    assert shop.state(paid) == "paid" and shop.events(paid) == [("order.success", None)]


def test_after_a_pause_nothing_is_cancelled_for_ten_minutes(shop):
    ref, _ = shop.deliver("failed")
    shop.clock.set(shop.clock.offset + 3600)  # nobody looked for an hour
    shop.looked()
    shop.clock.forward(8)
    shop.looked()
    assert shop.state(ref) == "pending"
    shop.clock.forward(4)
    until("the cancellation", lambda: shop.state(ref) == "cancelled")


def test_a_delivery_that_could_not_be_recorded_holds_its_order(shop):
    ref, _ = shop.deliver("failed")
    other, _ = shop.deliver("failed")
    shop.pg.query("create schema hook; grant usage on schema hook to public")
    shop.pg.query("create function hook.no() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
    shop.pg.query("create trigger no before update on foloosi.orders for each row when (new.state = 'paid') execute function hook.no()")
    try:
        shop.deliver("success", ref)
        assert shop.pg.query("select reason from foloosi.deliveries where merchant = %s and attention", [shop.name]) == [("hook_failed",)]
    finally:
        shop.pg.query("drop schema hook cascade")
    shop.clock.forward(31)
    until("the other", lambda: shop.state(other) == "cancelled")
    assert shop.state(ref) == "pending"
    shop.pg.query("select foloosi.replay_delivery(id) from foloosi.deliveries where merchant = %s and attention", [shop.name])
    assert shop.state(ref) == "paid" and shop.events(ref) == [("order.success", None)]


def test_a_trigger_that_refuses_stops_no_other(shop):
    bad, good = shop.deliver("failed")[0], shop.deliver("failed")[0]
    shop.pg.query("create schema hook; grant usage on schema hook to public")
    shop.pg.query(f"create function hook.no() returns trigger language plpgsql as $$ begin"
                  f" if new.order_ref = '{bad}' and new.state = 'cancelled' then raise 'no'; end if; return new; end $$")
    shop.pg.query("create trigger no before update on foloosi.orders for each row execute function hook.no()")
    try:
        shop.clock.forward(31)
        until("the other", lambda: shop.state(good) == "cancelled")
        assert shop.state(bad) == "pending" and shop.events(bad) == []
        shop.clock.forward(65)
        assert ("order", bad, "not_cancelled") in [row[:3] for row in shop.site.attention(shop.name)]
    finally:
        shop.pg.query("drop schema hook cascade")
    until("it, too", lambda: shop.state(bad) == "cancelled")
    assert shop.site.attention(shop.name) == []


# -- an outage -------------------------------------------------------------------------------------


def test_an_outage_of_an_hour_in_which_orders_expire():
    """The spool holds what pays them; it drains after the outage, and no paid order is cancelled."""
    site = SpoolSite(scratch()).start()
    worker = None
    try:
        pg, front, merchant = site.postgres, BareFront(site.handler.socket), "hushed"
        clock = Clock(pg)
        clock.settle()
        pg.query(f"select foloosi.set_merchant('{merchant}', expire_after => '30 minutes', cancel_after => '10 minutes')")
        for ref in ("OUT-paid", "OUT-unpaid", "OUT-late"):
            pg.query(f"select foloosi.register_order('{merchant}', %s, 100, 'AED')", [ref])

        def state(ref):
            return pg.query("select state::text from foloosi.orders where order_ref = %s", [ref])[0][0]

        def send(ref, status="success"):
            body = transfer(status, amount="100", currency="AED", optional1=ref)
            return front.send(Request(site.path(merchant), body=encode(body))).outcome

        assert send("OUT-late", "failed") == "recorded"
        with site.database_away():
            assert [send("OUT-paid"), send("OUT-late")] == ["spooled"] * 2
            assert site.handler.stop() == 0  # the handler, too, comes back later
        clock.set(3600)
        worker = stack.Worker(site.home / "worker", site.logs, pg.conninfo("foloosi_worker"), {merchant: {}}, poll="20ms")
        worker.config.settings["spool_dir"] = site.spool
        worker.start()
        until("a look", lambda: pg.query("select held_until > foloosi.clock() from foloosi.cancellation") == [(True,)])
        for _ in range(3):  # as long as there are files
            clock.forward(9)
            time.sleep(LOOK)
            assert [state(r) for r in ("OUT-paid", "OUT-unpaid", "OUT-late")] == ["pending"] * 3
        due = subprocess.run([stack.built("foloosictl"), "cancel-due", "--config", site.handler.config.path, "--database", pg.conninfo("foloosi_worker")],
                             capture_output=True, text=True)
        assert due.stdout.startswith("0 orders cancelled; none is before"), due.stderr
        site.handler.start()
        site.drained()
        until("the spooled ones", lambda: (state("OUT-paid"), state("OUT-late")) == ("paid", "paid"))
        clock.forward(9)
        time.sleep(LOOK)
        assert state("OUT-unpaid") == "pending"  # deliveries came from a spool in the last ten minutes
        clock.forward(12)
        until("what nobody paid", lambda: state("OUT-unpaid") == "cancelled")
        assert pg.query("select order_ref, type::text, reason from foloosi.events where order_ref like 'OUT-%' order by order_ref, id") == [
            ("OUT-late", "order.success", None), ("OUT-paid", "order.success", None), ("OUT-unpaid", "order.cancel", "expired")]
        assert worker.stop() == 0
    finally:
        if worker is not None and worker.alive():
            worker.stop()
        site.close()


# -- where the provider can be asked -----------------------------------------------------------------


@pytest.fixture
def provider():
    provider = Provider()
    yield provider
    provider.close()


def test_a_webhook_that_never_came_is_found_in_minutes(site, provider):
    shop = Shop(site, provider, cancel_after="30 minutes")
    ref, _ = shop.deliver("failed")
    provider.new(order=ref)  # the good card, whose webhook is lost
    until("the payment", lambda: shop.state(ref) == "paid")
    assert shop.events(ref) == [("order.success", None)]
    assert shop.worker.stop() == 0


def test_nothing_is_cancelled_before_the_list_was_read(site, provider):
    """The provider is out of order when the order's time comes: it waits, and is paid when the list can be read."""
    shop = Shop(site, provider, worker={"reconcile_patience": "100ms"}, cancel_after="30 minutes")
    provider.fault = 500
    ref, _ = shop.deliver("failed")
    unpaid, _ = shop.deliver("failed")
    provider.new(order=ref)
    shop.clock.forward(31)
    time.sleep(LOOK)
    assert (shop.state(ref), shop.state(unpaid)) == ("pending", "pending")
    shop.clock.forward(61)
    assert {row[:3] for row in site.attention(shop.name)} == {("order", ref, "not_cancelled"), ("order", unpaid, "not_cancelled")}
    provider.fault = None
    until("both", lambda: (shop.state(ref), shop.state(unpaid)) == ("paid", "cancelled"))
    assert shop.events(ref) == [("order.success", None)] and shop.events(unpaid) == [("order.cancel", "failed")]
    assert shop.worker.stop() == 0


def test_nothing_is_cancelled_while_the_list_is_unclear(site, provider):
    shop = Shop(site, provider, cancel_after="30 minutes")
    number = provider.new(order="someone's", lie={"status": "failed"})  # the list says success, the detail failed
    ref, _ = shop.deliver("failed")
    shop.clock.forward(31)
    until("a reading", lambda: shop.pg.query("select 1 from foloosi.reconciliations where merchant = %s and unclear > 0 and created_at >"
                                             " (select cancel_at from foloosi.orders where order_ref = %s)", [shop.name, ref]))
    time.sleep(LOOK)
    assert shop.state(ref) == "pending"
    del provider.transactions[number]["lie"]
    until("the cancellation", lambda: shop.state(ref) == "cancelled")
    assert shop.worker.stop() == 0


def test_the_list_is_read_from_where_it_was_left(site, provider):
    """A worker that was away for days reads all of them before anything is cancelled."""
    shop = Shop(site, provider, expire_after="1 hour")
    until("a reading", lambda: shop.pg.query("select 1 from foloosi.reconciliations where merchant = %s and covers_from is not null", [shop.name]))
    assert shop.worker.stop() == 0
    ref, unpaid = shop.register(), shop.register()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    provider.new(order=ref, created=(today - datetime.timedelta(days=5)).isoformat())
    for table in ("orders", "reconciliations"):
        shop.pg.query(f"alter table foloosi.{table} disable trigger user")
        shop.pg.query(f"update foloosi.{table} set created_at = created_at - interval '6 days' where merchant = %s", [shop.name])
        shop.pg.query(f"alter table foloosi.{table} enable trigger user")
    shop.pg.query("update foloosi.orders set cancel_at = cancel_at - interval '6 days' where merchant = %s", [shop.name])
    asked = len(provider.requests)
    shop.worker.start()
    until("the payment", lambda: shop.state(ref) == "paid")
    until("the other", lambda: shop.state(unpaid) == "cancelled")
    first = json.loads(urllib.parse.parse_qs(urllib.parse.urlsplit(provider.requests[asked].path).query)["q"][0])["fromDate"]
    assert datetime.datetime.strptime(first, "%m/%d/%Y").date() == today - datetime.timedelta(days=7)
    assert shop.worker.stop() == 0


# -- without a worker --------------------------------------------------------------------------------


def test_foloosictl_cancel_due(site, provider, tmp_path):
    own, asking = site.merchant(cancel_after="30 minutes"), site.merchant(cancel_after="30 minutes")
    spool = tmp_path / "spool"
    spool.mkdir()
    config = stack.Config(tmp_path / "c.conf", "", None, {own: {"token": stack.token()},
                                                          asking: {"token": stack.token(), "provider_url": provider.url, "provider_secret": KEY}},
                          spool_dir=spool).write()

    def ctl(*arguments, role="foloosi_worker"):
        return subprocess.run([stack.built("foloosictl"), "cancel-due", "--config", config.path, "--database", site.pg.conninfo(role), *arguments],
                              capture_output=True, text=True)

    def state(merchant):
        return site.pg.query("select state::text from foloosi.orders where merchant = %s", [merchant])[0][0]

    for merchant in (own, asking):
        site.deliver(merchant, status="failed")
    site.clock.forward(31)
    file = spool / f"{'1' * 16}-{'0' * 16}-5.delivery"
    file.write_text("x")
    run = ctl()
    held = "0 orders cancelled; none is before 2"
    assert (run.returncode, run.stderr) == (0, "") and run.stdout.startswith(held)
    file.unlink()
    assert ctl().stdout.startswith(held) and state(own) == "pending"  # for ten minutes
    site.clock.forward(11)
    run = ctl("--json")
    assert json.loads(run.stdout) == {"cancelled": 1, "held_until": None}
    assert (state(own), state(asking)) == ("cancelled", "pending")  # the list of the other's provider was not read
    assert ctl("nonsense").returncode == 2
    run = ctl(role="foloosi_handler")
    assert run.returncode == 1 and "permission denied" in run.stderr
    shutil.rmtree(spool)
    assert ctl().stdout == "0 orders cancelled\n"
    spool.write_text("no directory")
    run = ctl()
    assert run.returncode == 0 and run.stdout.startswith(held) and "the spool cannot be read, so nothing is cancelled" in run.stderr
