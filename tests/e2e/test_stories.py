# SPDX-License-Identifier: MIT
"""What a merchant lives through with its money: webhooks through nginx, acts of persons by SQL, and what must come out by the
order rules (README, "Order rules")."""
import contextlib
import itertools
import re

import psycopg
import pytest

from support import stack
from support.site import RUN, Request, SpoolSite, encode, new_order, scratch, transfer

tales = itertools.count(1)


@pytest.fixture(scope="module")
def site():
    site = SpoolSite(scratch())
    try:
        site.start()
        site.front("nginx")
        yield site
    finally:
        site.close()


@pytest.fixture
def tale(site):
    site.postgres.query("select foloosi.set_merchant('hushed')")
    return Tale(site)


class Tale:
    """An order of merchant "hushed", and payments with short names: N1, N2."""

    def __init__(self, site):
        self.site, self.front, self.merchant = site, site.front("nginx"), "hushed"
        self.prefix = f"{RUN}T{next(tales)}"
        self.ref = new_order()

    def policy(self, **policy):
        arguments = "".join(f", {k} => '{v}'" for k, v in policy.items())
        self.site.query(f"select foloosi.set_merchant('{self.merchant}'{arguments})")

    # what arrives

    def body(self, status, number, reference=None, amount="100", currency="AED", order="", copy=0):
        """order: None names none."""
        body = transfer(status, number=number and self.prefix + number, amount=amount, currency=currency, optional1=self.ref if order == "" else order)
        body["data"]["transfer"]["payment_reference"] = self.prefix + (reference or f"of{number}")
        return encode(body) + b" " * copy

    def send(self, *args, **fields):
        """(outcome, reason, state of its order)"""
        answer = self.front.send(Request(self.site.path(self.merchant), body=self.body(*args, **fields)))
        assert answer.status == 200, answer
        order = answer.json["order"]
        return answer.outcome, answer.json.get("reason"), order and order["state"]

    def success(self, *args, **fields):
        return self.send("success", *args, **fields)

    def failed(self, *args, **fields):
        return self.send("failed", *args, **fields)

    def refund(self, *args, **fields):
        return self.send("refund", *args, **fields)

    # what persons do

    def act(self, sql, *arguments):
        return self.site.postgres.query(f"select {sql}", arguments, user="foloosi_operator")[0][0]

    def id(self, number):
        (id_,), = self.site.query("select id from foloosi.transactions where transaction_no = %s", [self.prefix + number])
        return id_

    def register(self, amount):
        self.act("foloosi.register_order(%s, %s, %s, 'AED')", self.merchant, self.ref, amount)

    def resolve(self, state, note=None, without_transaction=False):
        self.act("foloosi.resolve_order(%s, %s, %s, %s, %s)", self.merchant, self.ref, state, note, without_transaction)

    def assign(self, number, create_order=False):
        self.act("foloosi.assign_transaction(%s, %s, %s)", self.id(number), self.ref, create_order)

    def payback(self, number):
        (id_,), = self.site.query("select p.id from foloosi.paybacks p join foloosi.transactions t on t.id = p.transaction_id"
                                  " where p.state <> 'settled' and t.transaction_no = %s", [self.prefix + number])
        return id_

    # what is there

    def short(self, text):
        return text and re.sub(re.escape(self.prefix), "", text)

    def rows(self, sql):
        return [tuple(self.short(v) if isinstance(v, str) else v for v in row)
                for row in self.site.query(sql, {"order": self.ref, "numbers": self.prefix + "%", "merchant": self.merchant})]

    @property
    def order(self):
        """(state, reason, its payment, refunded, left), or None."""
        rows = self.rows("""select o.state::text, o.reason, t.transaction_no, o.refunded, o.money_left
                            from foloosi.orders o left join foloosi.transactions t on t.id = o.transaction_id
                            where o.order_ref = %(order)s and o.merchant = %(merchant)s""")
        return rows[0] if rows else None

    @property
    def payments(self):
        """{name: (state, refunded, left)}; what lacks a number is named by its reference."""
        return {name: tuple(row) for name, *row in self.rows(
            """select coalesce(transaction_no, payment_reference), state::text, refunded, money_left from foloosi.transactions
               where coalesce(transaction_no, payment_reference) like %(numbers)s""")}

    @property
    def paybacks(self):
        """{name: (state, reason, amount)} of the last one of each."""
        return {name: tuple(row) for name, *row in self.rows(
            """select t.transaction_no, p.state::text, p.reason, p.amount from foloosi.paybacks p
               join foloosi.transactions t on t.id = p.transaction_id where t.transaction_no like %(numbers)s order by p.id""")}

    @property
    def events(self):
        """[type and reason and payment]"""
        return [" ".join(filter(None, row)) for row in self.rows(
            """select e.type::text, e.reason, t.transaction_no from foloosi.events e left join foloosi.transactions t on t.id = e.transaction_id
               where e.order_ref = %(order)s or t.transaction_no like %(numbers)s order by e.id""")]

    @property
    def attention(self):
        """{reason}s of what waits for a person."""
        return {reason for reason, in self.rows(
            """select a.reason from foloosi.attention a where a.order_ref = %(order)s
               or a.id in (select d.id from foloosi.deliveries d join foloosi.transactions t on t.id = d.transaction_id
                           where t.transaction_no like %(numbers)s)""")}


# -- refunds -------------------------------------------------------------------------------------

A, B, GONE = ("success", "A"), ("success", "B"), ("refund", "B")
SIX = {
    (A, B, GONE): ("paid", "A", {"B": ("settled", "double_payment", 100)}),
    (A, GONE, B): ("paid", "A", {}),
    (B, GONE, A): ("review", "A", {}),  # paid_after_refund
    # A takes over; it was to be sent back, and perhaps it was: a person looks
    (B, A, GONE): ("paid", "A", {"A": ("check", "double_payment", 100)}),
    (GONE, A, B): ("review", "A", {}),  # refund_known: A may be what went back
    (GONE, B, A): ("paid", "A", {}),
}


@pytest.mark.parametrize("arrival", SIX, ids=lambda arrival: " ".join(f"{status} {name}" for status, name in arrival))
def test_two_payments_and_a_refund(tale, arrival):
    """The money is the same in every order of arrival, and nothing is due that went back."""
    state, payer, paybacks = SIX[arrival]
    for status, name in arrival:
        tale.send(status, name)
    assert tale.payments == {"A": ("captured", None, 100), "B": ("captured", 100, 0)}
    assert tale.order == (state, {"review": "paid_after_refund" if arrival[0] == B else "refund_known"}.get(state), payer, 100, 100)
    assert tale.paybacks == paybacks


def test_a_refunded_order_is_closed(tale):
    tale.success("N1")
    assert tale.refund("N1") == ("recorded", "refunded", "refunded")
    tale.resolve("cancelled", "the customer left")
    assert tale.order == ("cancelled", None, "N1", 100, 0)
    assert tale.events == ["order.success N1", "order.refund N1", "order.cancel resolved N1"] and tale.paybacks == {}


def test_a_refund_before_its_success(tale):
    assert tale.refund("N1") == ("review", "refund_unknown", None)
    assert tale.success("N1") == ("review", "refunded_before", None)
    assert (tale.order, tale.payments, tale.events) == (None, {"N1": ("captured", 100, 0)}, [])
    assert "refunded_before" in tale.attention


@pytest.mark.parametrize("amount, currency, word, left", [("10", "AED", "refunded_in_part", 90), ("100", "KWD", "refund_differs", 100), ("120", "AED", "refund_differs", 100)])
def test_a_refund_that_is_not_plainly_all(tale, amount, currency, word, left):
    """It settles no payback; a person looks at what is left of it."""
    tale.success("N1")
    tale.success("N2")
    assert tale.paybacks == {"N2": ("due", "double_payment", 100)}
    assert tale.refund("N2", amount=amount, currency=currency)[1] == word
    assert tale.paybacks == {"N2": ("check", "double_payment", left)} and tale.order[0] == "paid"
    assert tale.payments["N2"] == ("captured", 100 - left, left)
    assert tale.refund("N2", amount="90", order=None)[1] == "refunded_in_part"
    assert tale.payments["N2"] == ("captured", 90, 10) and tale.paybacks == {"N2": ("check", "double_payment", 10)}
    assert tale.refund("N2", copy=1)[1] == "refunded"
    assert tale.paybacks == {"N2": ("settled", "double_payment", 10)} and tale.payments["N2"] == ("captured", 100, 0)


def test_a_refund_without_order_key(tale):
    tale.success("N1")
    assert tale.refund("N1", order=None) == ("recorded", "refunded", "refunded")
    assert tale.order == ("refunded", None, "N1", 100, 0)


def test_a_refund_of_a_payment_without_order(tale):
    assert tale.success("N1", order=None) == ("review", "no_order_key", None)
    assert tale.refund("N1") == ("recorded", "refunded", None)
    assert (tale.order, tale.payments) == (None, {"N1": ("captured", 100, 0)})
    assert tale.events == ["order.review no_order_key N1"]


def test_a_refund_of_a_failure(tale):
    tale.failed("N1")
    assert tale.refund("N1")[:2] == ("review", "refund_unknown")
    assert tale.order == ("cancelled", None, "N1", None, None)
    assert tale.success("N1") == ("review", "refunded_before", "cancelled")
    assert tale.order == ("cancelled", None, "N1", 100, 0) and tale.events == ["order.cancel N1"]


def test_two_equal_parts(tale):
    """Perhaps one refund said twice, perhaps two: never added up."""
    tale.success("N1")
    for copy in (0, 1):
        assert tale.refund("N1", amount="50", copy=copy)[:2] == ("recorded", "refunded_in_part")
    assert tale.order == ("paid", None, "N1", 50, 50)
    assert tale.events == ["order.success N1", "order.refund refunded_in_part N1"]


def test_one_reference_two_numbers(tale):
    """A payment intent with a second try."""
    assert tale.failed("N1", "R")[2] == "cancelled"
    assert tale.success("N2", "R") == ("recorded", "late", "paid")
    assert tale.order == ("paid", "late", "N2", None, 100)


# -- renewals ------------------------------------------------------------------------------------


@pytest.fixture
def subscription(tale):
    """A first month that was paid, a month ago."""
    tale.ref = "FLSSUB_" + tale.ref
    assert tale.success("N1") == ("recorded", None, "paid")
    tale.site.query("update foloosi.transactions set created_at = created_at - interval '30 days' where transaction_no = %s", [tale.prefix + "N1"])
    return tale


def test_a_month_of_a_subscription(subscription):
    tale = subscription
    assert tale.success("N2") == ("recorded", "renewal", "paid")
    assert tale.order == ("paid", None, "N1", None, 200) and tale.paybacks == {}
    assert tale.events == ["order.success N1", "order.success renewal N2"]


def test_a_double_click_on_a_renewal(subscription):
    tale = subscription
    tale.success("N2")
    assert tale.success("N3")[:2] == ("recorded", "double_payment")
    assert tale.paybacks == {"N3": ("check", "double_payment", 100)}
    assert tale.events[2:] == ["payback.check double_payment N3"]


def test_a_month_of_a_subscription_is_refunded(subscription):
    tale = subscription
    tale.success("N2")
    assert tale.refund("N2") == ("recorded", "refunded", "paid")
    assert tale.order == ("paid", None, "N1", 100, 100) and tale.paybacks == {}
    assert tale.events[2:] == ["order.refund refunded_in_part N2"]
    assert tale.success("N3")[1] == "double_payment"  # a month that went back is no less a month: within the gap a person looks
    assert tale.paybacks == {"N3": ("check", "double_payment", 100)}


def test_a_month_that_is_not_paid(subscription):
    tale = subscription
    assert tale.failed("N2") == ("recorded", "renewal_failed", "paid")
    assert tale.events[1:] == ["order.review renewal_failed N2"] and tale.order[0] == "paid"


# -- stories -------------------------------------------------------------------------------------


def test_reconciliation_is_faster_than_the_webhook(tale):
    """It fed the payment without an order key; the webhook has one."""
    tale.site.query("""select r.* from foloosi.record_deliveries(array[1], array[%s], array[null::text], array[sha256('fed' || %s)], array['fed'::bytea],
        array[null::text], array['reconcile'], array['success'], array[%s], array[null::text], array[100], array['AED'], array[null::text],
        array[null::text], array[null::text], array[null::text], array[null::text], array[null::text], array[null::text]) r""",
                    [tale.merchant, tale.prefix.encode(), tale.prefix + "N1"])
    assert tale.events == ["order.review no_order_key N1"] and tale.attention == {"no_order_key"}
    assert tale.success("N1") == ("recorded", None, "paid")
    assert tale.order == ("paid", None, "N1", None, 100) and tale.payments == {"N1": ("captured", None, 100)}
    assert tale.events[1:] == ["order.success N1"]
    assert tale.attention == set()  # it has its order


def test_the_doubled_payment_is_refunded_as_30_and_70(tale):
    tale.success("N1")
    tale.success("N2")
    tale.refund("N2", amount="30")
    tale.refund("N2", amount="70")
    assert tale.payments["N2"] == ("captured", 70, 30) and tale.paybacks == {"N2": ("check", "double_payment", 30)}
    tale.act("foloosi.settle_payback(%s, 'both: 100')", tale.payback("N2"))
    assert tale.payments["N2"] == ("captured", 100, 0) and tale.order == ("paid", None, "N1", 100, 100)


def test_the_doubled_payment_is_refunded_under_a_number_of_its_own(tale):
    """With the same reference: it is not known to be this one, so a person looks."""
    tale.success("N1")
    tale.success("N2", "R")
    assert tale.refund("N9", "R")[:2] == ("review", "refund_unknown")
    assert tale.paybacks == {"N2": ("check", "double_payment", 100)} and tale.payments["N2"] == ("captured", None, 100)
    assert tale.events[-1] == "payback.check double_payment N2" and "refund_unknown" in tale.attention
    tale.act("foloosi.settle_payback(%s, 'it was this one')", tale.payback("N2"))
    assert tale.payments["N2"] == ("captured", 100, 0)


def test_sent_back_in_the_panel_settled_and_charged_back(tale):
    tale.success("N1")
    tale.success("N2")
    tale.act("foloosi.settle_payback(%s, 'sent back in the panel')", tale.payback("N2"))
    before = tale.events
    assert tale.refund("N2") == ("recorded", "refunded", "paid")
    assert tale.order == ("paid", None, "N1", 100, 100) and tale.paybacks == {"N2": ("settled", "double_payment", 100)}
    assert tale.events == before  # all of it went back once, however often that is said


def test_failed_for_one_order_and_captured_for_another(tale):
    other = new_order()
    tale.failed("N1", order=other)
    assert tale.success("N1")[:2] == ("review", "other_order")
    assert tale.order is None and tale.payments == {"N1": ("captured", None, 100)}
    assert tale.site.order(other, tale.merchant)[0] == "cancelled"
    assert tale.events[-1] == "order.review other_order N1" and "other_order" in tale.attention
    tale.assign("N1", create_order=True)
    assert tale.order == ("paid", None, "N1", None, 100) and tale.attention == set()


def test_unknown_refunded_and_then_registered(tale):
    tale.policy(unknown_orders="review")
    assert tale.success("N1") == ("review", "unknown_order", "review")
    assert tale.refund("N1") == ("recorded", "refunded", "refunded")
    tale.register(100)
    assert tale.order == ("refunded", None, "N1", 100, 0)
    assert tale.events == ["order.review unknown_order N1", "order.refund N1"]
    assert tale.success("N2") == ("review", "paid_after_refund", "review")  # the expected sum, once more: a person decides
    tale.resolve("paid")
    assert tale.order == ("paid", None, "N2", 100, 100) and tale.paybacks == {}


def test_keyless_refunded_and_then_assigned(tale):
    tale.success("N1", order=None)
    tale.refund("N1", order=None)
    tale.assign("N1", create_order=True)
    assert tale.order is None  # what went back pays nothing
    assert tale.success("N2") == ("recorded", None, "paid")
    assert tale.order == ("paid", None, "N2", 100, 100) and tale.paybacks == {}


def test_one_dirham_by_mistake_then_what_was_expected(tale):
    tale.register(100)
    assert tale.success("N1", amount="1") == ("review", "amount_differs", "review")
    assert tale.success("N2") == ("review", "order_in_review", "review")
    tale.resolve("paid")  # by the one that equals: no note is asked for
    assert tale.order == ("paid", None, "N2", None, 101)
    assert tale.paybacks == {"N1": ("due", "double_payment", 1)}


def test_the_right_payment_is_refunded_and_a_wrong_one_stays(tale):
    tale.register(100)
    tale.success("N1")
    tale.success("N2", amount="60")
    assert tale.refund("N1") == ("recorded", "refunded", "review")
    assert tale.order == ("review", "payment_refunded", "N1", 100, 60)
    assert tale.paybacks == {"N2": ("check", "double_payment", 60)}
    assert tale.events == ["order.success N1", "payback.due double_payment N2", "order.review payment_refunded N1", "payback.check double_payment N2"]
    with pytest.raises(psycopg.Error, match="a note is required"):
        tale.resolve("paid")
    tale.resolve("paid", "the rest in cash")
    assert tale.order[:3] == ("paid", None, "N2")


def test_paid_in_cash_after_a_wrong_card_payment(tale):
    tale.register(100)
    tale.success("N1", amount="1")
    tale.resolve("paid", "in cash", without_transaction=True)
    assert tale.order == ("paid", None, None, None, 1) and tale.paybacks == {"N1": ("due", "double_payment", 1)}
    events = tale.events
    assert tale.refund("N1", amount="1") == ("recorded", "refunded", "paid")
    assert tale.order == ("paid", None, None, 1, 0) and tale.paybacks == {"N1": ("settled", "double_payment", 1)}
    assert tale.events == events


def test_deposit_and_rest(tale):
    tale.policy(second_payment="check")
    tale.success("N1", amount="30")
    assert tale.success("N2", amount="70") == ("recorded", "double_payment", "paid")
    assert tale.paybacks == {"N2": ("check", "double_payment", 70)} and tale.order == ("paid", None, "N1", None, 100)
    tale.act("foloosi.withdraw_payback(%s, 'deposit and rest')", tale.payback("N2"))
    events = tale.events
    tale.success("N2", amount="70", copy=1)
    assert tale.paybacks == {"N2": ("settled", "withdrawn", 70)} and tale.events == events
    assert tale.refund("N2", amount="70") == ("recorded", "refunded", "paid")
    assert tale.order == ("paid", None, "N1", 70, 30) and tale.paybacks == {"N2": ("settled", "withdrawn", 70)}


def test_a_chargeback_that_is_won_back(tale):
    tale.success("N1")
    tale.refund("N1")
    tale.act("foloosi.record_refund(%s, 0, 'the bank gave it back')", tale.id("N1"))
    assert tale.order == ("review", "refund_undone", "N1", 0, 100) and tale.payments == {"N1": ("captured", 0, 100)}
    assert tale.events[-1] == "order.review refund_undone N1"
    tale.resolve("paid", "it is ours again")
    assert tale.order == ("paid", None, "N1", 0, 100) and tale.paybacks == {}


@contextlib.contextmanager
def clock(site):
    """foloosi.clock() as its owner may replace it: so many minutes later."""
    definition, = site.query("select pg_get_functiondef('foloosi.clock()'::regprocedure)")[0]

    def later(minutes):
        site.query(f"create or replace function foloosi.clock() returns timestamptz language sql stable parallel safe as"
                   f" $$select pg_catalog.now() + interval '{minutes} minutes'$$")
    try:
        yield later
    finally:
        site.query(definition)


def test_an_outage_of_an_hour_in_which_orders_expire(tale):
    """What was paid meanwhile waits in the spool, and is not cancelled; what nobody paid is, later."""
    unpaid = Tale(tale.site)
    for t in (tale, unpaid):
        t.act("foloosi.register_order(%s, %s, 100, 'AED', now() + interval '10 minutes')", t.merchant, t.ref)
    with clock(tale.site) as later:
        def cancel_due(spool_waits=False):
            return tale.site.postgres.query("select foloosi.cancel_due(100, %s)", [spool_waits], user="foloosi_worker")[0][0]

        cancel_due()
        with tale.site.database_away():
            answer = tale.front.send(Request(tale.site.path(tale.merchant), body=tale.body("success", "N1")))
            assert (answer.status, answer.outcome) == (200, "spooled")
        later(60)
        assert cancel_due(spool_waits=tale.site.some()) == 0  # it did not run for an hour
        tale.site.drained()
        assert tale.order == ("paid", None, "N1", None, 100)
        cancelled = [minute for minute in range(61, 82) if (later(minute), cancel_due())[1]]
        assert cancelled == [79]  # the call of minute 69 still saw what came from the spool, and waits ten minutes
    assert unpaid.order == ("cancelled", "expired", None, None, None) and unpaid.events == ["order.cancel expired"]
    assert tale.events == ["order.success N1"]
