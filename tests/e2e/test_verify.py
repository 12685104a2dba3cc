# SPDX-License-Identifier: MIT
"""Verification by call-back: foloosi-worker asks a stand-in for the provider (tests/support/provider.py)."""
import itertools
import time

import pytest

from support import stack
from support.provider import KEY, Provider, send
from support.worker_site import WorkerSite, until

numbers = itertools.count(1)
V2 = {"provider_path": "/v2/api/transaction-detail/{transaction_no}", "provider_amount": "data.request_amount",
      "provider_currency": "data.request_currency", "provider_order": ""}


@pytest.fixture(scope="module")
def site():
    site = WorkerSite()
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def provider():
    provider = Provider()
    yield provider
    provider.close()


class Shop:
    """A merchant whose successes are verified, and the worker that does it."""

    def __init__(self, site, provider, policy=None, **settings):
        self.site, self.provider = site, provider
        self.name = site.merchant(verify="callback", **(policy or {}))
        self.worker = site.worker({self.name: {"provider_url": provider.url, "provider_secret": KEY, "provider_per_minute": 6000, **settings}})
        # failures are asked about from the worker's first look on
        until("the first look", lambda: site.pg.query("select 1 from foloosi.consumers where consumer = 'verify:' || %s", [self.name]))

    def pay(self, known=None, status="success", amount=100, order=None, number=None):
        """A webhook; known: what the provider says of it. Returns order and number."""
        n = next(numbers)
        order, number = order or f"V-{n}", f"FLS{n}" if number is None else number
        if known is not None:
            self.provider.transactions[number] = {"order": order, **known}
        self.site.pg.query("select * from foloosi.record_delivery(%s, %s, %s, %s, amount => %s, currency => 'AED', payment_reference => %s)",
                            [self.name, status, order, number or None, amount, f"ref-{n}"])
        return order, number

    def order(self, ref):
        rows = self.site.pg.query("select state::text, reason, late from foloosi.orders where merchant = %s and order_ref = %s", [self.name, ref])
        return rows[0] if rows else None

    def events(self, ref):
        return self.site.pg.query("select type::text, reason from foloosi.events where merchant = %s and order_ref = %s order by id", [self.name, ref])

    def verification(self, number):
        rows = self.site.pg.query(
            "select v.outcome, v.detail, v.reason, v.attempts from foloosi.verifications v join foloosi.transactions t on t.id = v.transaction_id"
            " where t.merchant = %s and t.transaction_no = %s", [self.name, number])
        return rows[0] if rows else (None, None, None, 0)

    def hurry(self):
        """Not what is being asked right now: its lease is longer."""
        self.site.pg.query("update foloosi.verifications set due_at = now() where merchant = %s and verified_at is null and reason is not null"
                            " and due_at < now() + interval '1 minute'", [self.name])


@pytest.fixture
def shop(site, provider):
    shop = Shop(site, provider)
    yield shop
    assert shop.worker.stop() == 0
    assert KEY not in shop.worker.log.read_text()


def test_a_confirmed_success_pays(shop):
    order, number = shop.pay({})
    until("the order", lambda: shop.order(order) == ("paid", None, False))
    assert shop.events(order) == [("order.success", None)]
    assert shop.verification(number)[0] == "confirmed"
    request = shop.provider.requests[-1]
    assert (request.method, request.path) == ("GET", f"/v1/api/transaction-detail/{number}")
    (cause, before, state, who, note), = shop.site.pg.query(
        "select cause, state_before, state, decided_by, note from foloosi.order_history where merchant = %s and order_ref = %s and cause = 'verify'",
        [shop.name, order])
    assert (cause, before, state, who) == ("verify", "verifying", "paid", "foloosi_worker") and "100.00 AED" in note


def test_exact_decimals(shop):
    order, _ = shop.pay({"amount": "367.3000"}, amount="367.3")
    until("the order", lambda: shop.order(order)[0] == "paid")
    order, _ = shop.pay({"amount": 0.1}, amount="0.1")
    until("the order", lambda: shop.order(order)[0] == "paid")


@pytest.mark.parametrize("known, reason, said", [
    ({"amount": 99.99}, "amount_differs", "99.99 AED"), ({"currency": "USD"}, "currency_differs", "100.00 USD"),
    ({"order": "somebody-else"}, "order_differs", "order somebody-else"), ({"status": "failed"}, "not_captured", "says failed"),
    ({"status": "refund"}, "not_captured", "says refund"), ({"status": "Expired"}, "not_captured", "says expired")])
def test_what_differs_goes_to_review_with_the_difference(shop, known, reason, said):
    order, number = shop.pay(known)
    until("the order", lambda: shop.order(order)[:2] == ("review", reason))
    assert shop.events(order) == [("order.review", reason)]
    outcome, detail, _, _ = shop.verification(number)
    assert outcome == "differs" and said in detail and "the webhook said success, 100.00 AED" in detail
    (kind, _, why, shown, _), = shop.site.attention(shop.name)
    assert (kind, why) == ("order", reason) and said in shown
    shop.site.pg.query("select foloosi.resolve_order(%s, %s, 'paid', 'I looked')", [shop.name, order], user="foloosi_operator")
    assert shop.order(order)[0] == "paid"


def hang(handler, _):
    time.sleep(1)
    handler.close_connection = True


FAULTS = {
    "500": (500, "HTTP 500"), "401": (401, "HTTP 401"), "404": (404, "HTTP 404"), "302": ((302, {"Location": "/x"}), "HTTP 302"),
    "broken": (hang, None), "no JSON": (lambda h, _: send(h, "<html>"), "the answer is not JSON"),
    "no status": (lambda h, _: send(h, '{"data":{}}'), "the answer has no status where provider_status says"),
    "no amount": (lambda h, _: send(h, '{"data":{"status":"success"}}'), "the answer has no amount or currency where provider_amount and provider_currency say"),
    "amount of letters": (lambda h, _: send(h, '{"data":{"status":"success","api_transaction":{"payable_amount_in_sender_currency":"1e2","sender_currency":"AED"}}}'),
                          "the answer has no amount or currency where provider_amount and provider_currency say"),
    "no member of the order": (lambda h, _: send(h, '{"data":{"status":"success","api_transaction":{"payable_amount_in_sender_currency":"100",'
                                                    '"sender_currency":"AED","optional2":"x"}}}'),
                               "the answer has no order where provider_order says"),
    "pending": (lambda h, _: send(h, '{"data":{"status":"pending"}}'), "the provider says pending"),
    "empty": (lambda h, _: send(h, ""), "the answer is empty or too long"),
    "huge": (lambda h, _: send(h, '"' + "x" * 100_000 + '"'), "the answer is empty or too long"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_says_nothing_changes_nothing_and_is_asked_again(shop, fault):
    shop.provider.fault, reason = FAULTS[fault]
    order, number = shop.pay({})
    until("the first try", lambda: shop.verification(number)[2] is not None)
    assert reason is None or shop.verification(number)[2] == reason
    assert shop.order(order)[0] == "verifying" and shop.events(order) == []
    asked = len(shop.provider.requests)
    time.sleep(0.3)
    assert len(shop.provider.requests) == asked  # it is put off
    shop.provider.fault = None
    until("the next try", lambda: shop.hurry() or shop.order(order)[0] == "paid")
    assert shop.verification(number)[0] == "confirmed"


def test_nobody_answers_and_it_is_overdue(site):
    shop = Shop(site, type("Nobody", (), {"url": f"http://127.0.0.1:{stack.free_port()}", "transactions": {}})())
    order, number = shop.pay({})
    until("the first try", lambda: shop.verification(number)[2] is not None)
    assert shop.order(order)[0] == "verifying" and site.attention(shop.name) == []
    site.pg.query("update foloosi.orders set updated_at = now() - interval '2 hours' where merchant = %s", [shop.name])
    (kind, ref, _, detail, _), = site.attention(shop.name)
    assert (kind, ref) == ("order", order) and "nobody listens" in detail
    assert shop.worker.stop() == 0


def test_v2(site, provider):
    shop = Shop(site, provider, **V2)
    order, number = shop.pay({})
    until("the order", lambda: shop.order(order)[0] == "paid")
    assert provider.requests[-1].path == f"/v2/api/transaction-detail/{number}"
    order, _ = shop.pay({"amount": 1})
    until("the order", lambda: shop.order(order)[1] == "amount_differs")
    assert shop.worker.stop() == 0


def test_the_order_s_prefix(site, provider):
    shop = Shop(site, provider, order_prefix="SHOP-")
    order, _ = shop.pay({"order": "SHOP-77"}, order="77")
    until("the order", lambda: shop.order(order)[0] == "paid")
    assert shop.worker.stop() == 0


def test_a_transaction_without_a_number_cannot_be_verified(shop):
    order, _ = shop.pay(number="")
    until("the order", lambda: shop.order(order)[:2] == ("review", "unverifiable"))
    assert shop.provider.requests == []


def test_a_number_that_is_a_path_asks_for_nothing_else(shop):
    order, number = shop.pay({}, number="../../x?y=1&z#/%2e%2e")
    until("the order", lambda: shop.order(order)[0] == "paid")
    assert shop.provider.requests[-1].path == "/v1/api/transaction-detail/%2E%2E%2F%2E%2E%2Fx%3Fy%3D1%26z%23%2F%252e%252e"


def test_a_failure_that_was_captured_opens_a_payback(shop):
    order, number = shop.pay({"status": "success"}, status="failed")
    until("the payback", lambda: shop.events(order)[1:] == [("payback.check", "captured_though_failed")])
    assert shop.order(order)[0] == "cancelled"
    (kind, ref, reason, detail, _), = shop.site.attention(shop.name)
    assert (kind, ref, reason) == ("payback", order, "captured_though_failed") and "100" in detail
    assert shop.verification(number)[0] == "captured"


def test_a_failure_that_is_one_changes_nothing(shop):
    order, number = shop.pay({"status": "failed"}, status="failed")
    until("the answer", lambda: shop.verification(number)[0] == "confirmed")
    assert shop.order(order)[0] == "cancelled" and shop.events(order) == [("order.cancel", None)]
    # and the late success of the same transaction is asked about anew
    shop.provider.transactions[number]["status"] = "success"
    shop.pay(order=order, number=number)
    until("the order", lambda: shop.order(order) == ("paid", "late", True))


def test_what_waited_behind_becomes_a_payback(shop):
    shop.provider.fault = 500
    order, first = shop.pay({})
    until("the first try", lambda: shop.verification(first)[2] is not None)
    _, second = shop.pay({}, order=order)  # row 18
    shop.provider.fault = None
    until("the order", lambda: shop.hurry() or shop.order(order)[0] == "paid")
    assert shop.events(order) == [("order.success", None), ("payback.due", "double_payment")]


def test_a_registered_order_is_compared_too(shop):
    shop.provider.fault = 500
    order, number = shop.pay({})
    until("the first try", lambda: shop.verification(number)[2] is not None)
    shop.site.pg.query("select foloosi.register_order(%s, %s, 250, 'AED')", [shop.name, order])
    shop.provider.fault = None
    until("the order", lambda: shop.hurry() or shop.order(order)[:2] == ("review", "amount_differs"))
    assert "expected were 250 AED" in shop.verification(number)[1]


def test_a_person_was_faster(shop):
    shop.provider.fault = 500
    order, number = shop.pay({})
    until("the first try", lambda: shop.verification(number)[2] is not None)
    shop.site.pg.query("select foloosi.resolve_order(%s, %s, 'cancelled', 'no')", [shop.name, order], user="foloosi_operator")
    events = shop.events(order)
    shop.provider.fault = None
    until("the answer", lambda: shop.hurry() or shop.verification(number)[0] == "moot")
    assert shop.order(order)[0] == "cancelled" and shop.events(order) == events


def test_a_merchant_s_trigger_that_fails_puts_it_off(shop):
    site = shop.site
    site.pg.query("create schema shop")
    site.pg.query("create function shop.closed() returns trigger language plpgsql as $$ begin if new.state = 'paid' then raise 'closed'; end if; return new; end $$")
    site.pg.query("grant usage on schema shop to foloosi_owner")
    site.pg.query("create trigger closed before update on foloosi.orders for each row execute function shop.closed()")
    try:
        order, number = shop.pay({})
        until("the first try", lambda: shop.verification(number)[2] == "the database refused to apply the answer")
        assert shop.order(order)[0] == "verifying" and shop.events(order) == []
    finally:
        site.pg.query("drop trigger closed on foloosi.orders")
    until("the order", lambda: shop.hurry() or shop.order(order)[0] == "paid")


def test_killed_while_asking(site, provider):
    """A worker is killed between question and answer: another one asks again, and the order is paid once."""
    shop = Shop(site, provider)
    provider.fault = lambda handler, _: time.sleep(5)
    orders = [shop.pay({}) for _ in range(5)]
    until("a question", lambda: provider.requests)
    shop.worker.process.kill()
    shop.worker.process.wait()
    provider.fault = None
    site.pg.query("update foloosi.verifications set due_at = now() where merchant = %s", [shop.name])  # its lease
    shop.worker.start()
    for order, number in orders:
        until("the order", lambda: shop.order(order)[0] == "paid")
        assert shop.events(order) == [("order.success", None)]
    assert shop.worker.stop() == 0


def test_questions_are_rate_limited(site, provider):
    shop = Shop(site, provider, provider_per_minute=1)
    orders = [shop.pay({})[0] for _ in range(3)]
    until("the first", lambda: [shop.order(o)[0] for o in orders].count("paid") == 1)
    time.sleep(1.5)  # the others wait for the minute to pass
    assert len(provider.requests) == 1
    assert shop.worker.stop() == 0


def test_without_verification_nobody_is_asked(site, provider):
    name = site.merchant()
    worker = site.worker({name: {"provider_url": provider.url, "provider_secret": KEY}})
    order = site.deliver(name)
    site.deliver(name, status="failed")
    time.sleep(1.5)
    assert provider.requests == []
    assert site.pg.query("select state::text from foloosi.orders where order_ref = %s", [order]) == [("paid",)]
    assert worker.stop() == 0
