# SPDX-License-Identifier: MIT
"""Verification by call-back: foloosi-worker asks a stand-in for the provider (tests/support/provider.py)."""
import datetime
import itertools
import json
import time

import pytest

from support import stack
from support.late import Clock
from support.provider import KEY, Provider, send
from support.worker_site import WorkerSite, until

numbers = itertools.count(1)
V2 = {"provider_path": "/v2/api/transaction-detail/{transaction_no}", "provider_amount": "data.request_amount",
      "provider_currency": "data.request_currency", "provider_order": ""}


@pytest.fixture(scope="module")
def site():
    site = WorkerSite()
    site.clock = Clock(site.pg)
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
    """A merchant whose payments are verified, and the worker that does it."""

    def __init__(self, site, provider, policy=None, worker=None, **settings):
        self.site, self.provider = site, provider
        self.name = site.merchant(verify="callback", **(policy or {}))
        self.worker = site.worker({self.name: {"provider_url": provider.url, "provider_secret": KEY, "provider_per_minute": 6000,
                                               "provider_refunded": "data.refunded_amount", **settings}}, **{"reconcile_every": "0s", **(worker or {})})

    def pay(self, known=None, status="success", amount=100, order=None, number=None):
        """A webhook; known: what the provider says of it. Returns order and number."""
        n = next(numbers)
        order, number = order or f"V-{n}", f"FLS{n}" if number is None else number
        if known is not None:
            self.provider.transactions[number] = {"order": order, "created": datetime.date.today().isoformat(), **known}
        self.site.record("select outcome from foloosi.record_delivery(%s, %s, %s, %s, amount => %s, currency => 'AED', payment_reference => %s)",
                            [self.name, status, order, number or None, amount, f"ref-{n}"])
        return order, number

    def deliver(self, body):
        """Another webhook, as the provider makes it."""
        t = json.loads(body)["data"]["transfer"]
        self.site.record("select outcome from foloosi.record_delivery(%s, %s, %s, %s, amount => %s, currency => %s)",
                            [self.name, t["transaction_status"], t["api"]["optional1"], t["transaction_no"], t["transaction_amount"], t["transaction_currency"]])

    def refunded(self, number):
        return self.site.pg.query("select refunded, money_left from foloosi.transactions where merchant = %s and transaction_no = %s", [self.name, number])[0]

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
    request = shop.provider.asked("detail")[-1]
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
    ({"order": "somebody-else"}, "order_differs", "order somebody-else"), ({"order": None}, "order_differs", "no order"),
    ({"order": "undefined"}, "order_differs", "no order"), ({"status": "failed"}, "not_captured", "says failed"),
    ({"status": "processing"}, "not_captured", "says processing"), ({"status": "Expired"}, "not_captured", "says expired")])
def test_what_differs_goes_to_review_with_the_difference(shop, known, reason, said):
    order, number = shop.pay(known)
    until("the order", lambda: shop.order(order)[:2] == ("review", reason))
    assert shop.events(order) == [("order.review", reason)]
    outcome, detail, _, _ = shop.verification(number)
    assert outcome == "differs" and said in detail and "the webhook said success, 100.00 AED" in detail
    (kind, _, why, shown, _), = shop.site.attention(shop.name)
    assert (kind, why) == ("order", reason) and said in shown
    # what was denied does not pay by itself
    shop.site.pg.query("select foloosi.resolve_order(%s, %s, 'cancelled', 'I looked')", [shop.name, order], user="foloosi_operator")
    assert shop.order(order)[0] == "cancelled" and shop.events(order)[1:] == [("order.cancel", "resolved")]


def test_an_answer_without_the_order_s_member(shop):
    shop.provider.fault = lambda h, _: send(h, '{"data":{"status":"success","api_transaction":{"payable_amount_in_sender_currency":"100","sender_currency":"AED"}}}')
    order, _ = shop.pay({})
    until("the order", lambda: shop.order(order)[:2] == ("review", "order_differs"))


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
    "a refund without amount": (lambda h, _: send(h, '{"data":{"status":"refund","refunded_amount":5}}'),
                                "the answer has no amount or currency where provider_amount and provider_currency say"),
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


@pytest.fixture
def reading(site, provider):
    """A shop whose worker reads the list all the time, and nothing holds a cancellation."""
    site.clock.settle()
    shop = Shop(site, provider, worker={"reconcile_every": "500ms"})
    yield shop
    assert shop.worker.stop() == 0


def test_what_has_no_number_is_answered_by_the_list(site, provider):
    """Not before all days since were read; then the payments that the list has are there by their numbers."""
    shop = Shop(site, provider)
    fake, _ = shop.pay(number="")
    true, _ = shop.pay(number="")
    provider.new(order=true)
    time.sleep(2.5)
    assert (shop.order(fake)[0], shop.order(true)[0]) == ("verifying", "verifying") and provider.requests == []
    assert shop.worker.stop() == 0
    shop.worker.config.worker["reconcile_every"] = "500ms"
    shop.worker.start()
    until("the one", lambda: shop.order(fake)[:2] == ("review", "unverifiable"))
    until("the other", lambda: shop.order(true)[0] == "paid")
    assert shop.events(true) == [("order.success", None)]
    states = shop.site.pg.query("select transaction_no is null, state::text from foloosi.transactions where merchant = %s and order_ref = %s order by 1",
                                [shop.name, true])
    until("the end", lambda: shop.site.pg.query("select state::text from foloosi.transactions where merchant = %s and transaction_no is null", [shop.name])
          == [("denied",), ("denied",)])
    assert states[0] == (False, "captured") and shop.site.attention(shop.name)[0][1] == fake
    assert shop.worker.stop() == 0


def test_a_number_that_is_a_path_asks_for_nothing_else(shop):
    order, number = shop.pay({}, number="../../x?y=1&z#/%2e%2e")
    until("the order", lambda: shop.order(order)[0] == "paid")
    assert shop.provider.requests[-1].path == "/v1/api/transaction-detail/%2E%2E%2F%2E%2E%2Fx%3Fy%3D1%26z%23%2F%252e%252e"


# -- failures ------------------------------------------------------------------------------------


def test_a_failure_that_was_captured_pays(shop):
    order, number = shop.pay({"status": "success"}, status="failed")
    until("the order", lambda: shop.order(order) == ("paid", None, False))
    assert shop.events(order) == [("order.success", None)] and shop.verification(number)[0] == "captured"


def test_a_failure_that_was_captured_for_another_order(shop):
    order, number = shop.pay({"status": "success", "order": "somebody-else"}, status="failed")
    until("the order", lambda: shop.order(order)[:2] == ("review", "order_differs"))
    assert shop.events(order) == [("order.review", "order_differs")]


def test_a_failure_that_is_one_cancels(reading):
    order, number = reading.pay({"status": "failed"}, status="failed")
    until("the order", lambda: reading.order(order)[0] == "cancelled")
    assert reading.verification(number)[0] == "failed" and reading.events(order) == [("order.cancel", "failed")]
    # and the late success of the same transaction is asked about anew
    reading.provider.transactions[number]["status"] = "success"
    reading.pay(order=order, number=number)
    until("the order", lambda: reading.order(order) == ("paid", "late", True))


def test_every_failure_of_an_order_is_asked_about(reading):
    """The second try failed, the first one was captured, and its success never came."""
    order, first = reading.pay({"status": "pending"}, status="failed")
    reading.pay({"status": "failed"}, status="failed", order=order)
    until("the first answer", lambda: reading.verification(first)[2] == "the provider says pending")
    time.sleep(4)
    assert reading.order(order)[0] == "pending"
    reading.provider.transactions[first]["status"] = "success"
    until("the order", lambda: reading.hurry() or reading.order(order)[0] == "paid")
    assert reading.events(order) == [("order.success", None)]


@pytest.mark.parametrize("status", ["processing", "authorized", "pending"])
def test_no_failure_is_concluded_from_another_word(reading, status):
    order, number = reading.pay({"status": status}, status="failed")
    until("the first answer", lambda: reading.verification(number)[2] is not None)
    time.sleep(4)
    assert reading.order(order)[0] == "pending" and reading.events(order) == []


# -- refunds -------------------------------------------------------------------------------------


def paid(shop, **known):
    order, number = shop.pay(known)
    until("the order", lambda: shop.order(order)[0] == "paid")
    return order, number


def test_a_refund_counts_when_the_provider_confirms_it(shop):
    order, number = paid(shop)
    shop.provider.slow = 1
    shop.deliver(shop.provider.refund(number))
    assert shop.order(order)[0] == "paid" and shop.refunded(number) == (None, 100)
    until("the order", lambda: shop.order(order)[0] == "refunded")
    assert shop.events(order) == [("order.success", None), ("order.refund", None)] and shop.refunded(number) == (100, 0)


def test_a_part_of_it(shop):
    order, number = paid(shop)
    shop.deliver(shop.provider.refund(number, 30))
    until("a part", lambda: shop.refunded(number) == (30, 70))
    assert shop.order(order)[0] == "paid" and shop.events(order)[1:] == [("order.refund", "refunded_in_part")]
    shop.deliver(shop.provider.refund(number, 70))
    until("the rest", lambda: shop.order(order)[0] == "refunded")
    assert shop.refunded(number) == (100, 0) and shop.events(order)[2:] == [("order.refund", None)]


def test_a_forged_refund_is_a_doubt(shop):
    """The provider says success, as before: nothing went back. After a day a person is told."""
    order, number = paid(shop)
    _, second = shop.pay({}, order=order)
    until("the payback", lambda: shop.events(order)[1:] == [("payback.due", "double_payment")])
    forged = {**shop.provider.transactions[number], "status": "refund"}
    shop.deliver(json.dumps({"data": {"transfer": {"transaction_status": "refund", "transaction_no": number, "transaction_amount": "100",
                                                   "transaction_currency": "AED", "api": {"optional1": forged["order"]}}}}))
    until("the answer", lambda: shop.verification(number)[2] == "nothing follows from what the provider says")
    assert shop.order(order)[0] == "paid" and shop.refunded(number) == (None, 100)
    assert shop.events(order)[2:] == [("payback.check", "double_payment")]  # until it is clear whose money went back
    shop.site.pg.query("update foloosi.refunds set created_at = now() - interval '2 days' where merchant = %s", [shop.name])
    until("the person", lambda: shop.hurry() or ("refund", order, "refund_doubted") in [row[:3] for row in shop.site.attention(shop.name)])
    shop.site.pg.query("select foloosi.record_refund(id, 0, 'nothing went back') from foloosi.transactions where merchant = %s and transaction_no = %s",
                        [shop.name, number])
    assert [row[0] for row in shop.site.attention(shop.name)] == ["payback"] and shop.order(order)[0] == "paid"


def test_more_than_the_provider_says_is_not_believed(shop):
    order, number = paid(shop)
    body = shop.provider.refund(number)
    shop.provider.transactions[number]["refunded"] = 10
    shop.deliver(body)
    until("the answer", lambda: shop.refunded(number) == (10, 90))
    assert shop.order(order)[0] == "paid" and shop.events(order)[1:] == [("order.refund", "refunded_in_part")]


def test_refund_as_an_answer_confirms_both(shop):
    shop.provider.slow = 1
    order, number = shop.pay({})
    shop.deliver(shop.provider.refund(number))  # before the answer about the success
    until("the order", lambda: shop.order(order)[0] == "refunded")
    assert shop.events(order) == [("order.refund", None)] and shop.refunded(number) == (100, 0)  # nobody is told that it is paid
    assert shop.verification(number)[0] == "confirmed"


@pytest.mark.parametrize("refunded, state, reason, left", [(100, "refunded", None, 0), (40, "review", "refund_known", 60), (None, "review", "refund_known", 100)])
def test_refund_as_an_answer_about_a_success(shop, refunded, state, reason, left):
    """Its webhook was lost. Without a member for the amount it may be all or a part."""
    order, number = shop.pay({"status": "refund", **({} if refunded is None else {"refunded": refunded})})
    until("the order", lambda: shop.order(order)[:2] == (state, reason))
    assert shop.refunded(number) == (refunded, left)
    assert shop.events(order) == [("order.refund" if state == "refunded" else "order.review", reason)]
    waits = {row[0] for row in shop.site.attention(shop.name)}
    assert waits == {"refunded": set(), "review": {"order"} if refunded else {"order", "refund"}}[state]


def test_a_gone_payment_hands_over_to_the_next(shop):
    shop.provider.fault = 500
    order, first = shop.pay({"status": "refund", "refunded": 100})
    until("the first try", lambda: shop.verification(first)[2] is not None)
    _, second = shop.pay({}, order=order)
    shop.provider.silent.add(second)
    shop.provider.fault = None
    until("the first answer", lambda: shop.hurry() or shop.verification(first)[0] == "confirmed")
    assert shop.order(order)[0] == "verifying" and shop.refunded(first) == (100, 0)
    shop.provider.silent.clear()
    until("the order", lambda: shop.hurry() or shop.order(order)[0] == "paid")
    assert shop.events(order) == [("order.success", None)]


def test_who_is_denied_hands_over_to_the_next(shop):
    shop.provider.fault = 500
    order, first = shop.pay({"status": "failed"})
    until("the first try", lambda: shop.verification(first)[2] is not None)
    shop.pay({}, order=order)
    shop.provider.fault = None
    until("the order", lambda: shop.hurry() or shop.order(order)[0] == "paid")
    until("the other answer", lambda: shop.hurry() or shop.verification(first)[0] == "differs")
    assert shop.events(order) == [("order.success", None)]


# -- and -----------------------------------------------------------------------------------------


def test_what_waited_behind_becomes_a_payback(shop):
    shop.provider.fault = 500
    order, first = shop.pay({})
    until("the first try", lambda: shop.verification(first)[2] is not None)
    _, second = shop.pay({}, order=order)  # row 18
    shop.provider.fault = None
    until("both", lambda: shop.hurry() or {shop.verification(n)[0] for n in (first, second)} == {"confirmed"})
    assert shop.order(order)[0] == "paid"
    assert shop.events(order) == [("order.success", None), ("payback.due", "double_payment")]


def test_a_registered_order_is_compared_too(shop):
    shop.provider.fault = 500
    order, number = shop.pay({})
    until("the first try", lambda: shop.verification(number)[2] is not None)
    shop.site.pg.query("select foloosi.register_order(%s, %s, 250, 'AED')", [shop.name, order])
    shop.provider.fault = None
    assert shop.order(order)[:2] == ("review", "amount_differs")
    until("the answer", lambda: shop.hurry() or shop.verification(number)[0] == "confirmed")
    assert shop.order(order)[:2] == ("review", "amount_differs") and shop.events(order) == [("order.review", "amount_differs")]


def test_a_person_was_faster(shop):
    shop.provider.fault = 500
    order, number = shop.pay({})
    until("the first try", lambda: shop.verification(number)[2] is not None)
    shop.site.pg.query("select foloosi.resolve_order(%s, %s, 'cancelled', 'no')", [shop.name, order], user="foloosi_operator")
    events = shop.events(order)
    shop.provider.fault = None
    until("the answer", lambda: shop.hurry() or shop.verification(number)[0] == "confirmed")
    # the money came for a closed order
    assert shop.order(order)[0] == "cancelled" and shop.events(order) == [*events, ("payback.due", "order_closed")]


def test_a_merchant_s_trigger_that_fails_puts_it_off(shop):
    site = shop.site
    site.pg.query("create schema shop")
    site.pg.query("create function shop.closed() returns trigger language plpgsql as $$ begin if new.state = 'paid' then raise 'closed'; end if; return new; end $$")
    site.pg.query("grant usage on schema shop to foloosi_owner")
    site.pg.query("create trigger closed before update on foloosi.orders for each row execute function shop.closed()")
    try:
        order, number = shop.pay({})
        until("the first try", lambda: shop.verification(number)[2] == "the database did not take the answer")
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
    assert provider.asked("detail") == []
    assert site.pg.query("select state::text from foloosi.orders where order_ref = %s", [order]) == [("paid",)]
    assert worker.stop() == 0
