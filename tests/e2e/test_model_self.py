# SPDX-License-Identifier: MIT
"""
The reference model against hand-written cases, one for each row of the order rules and
for each sentence under them. No database: this says what we believe, in examples, so
that a mistake in the model is not taken for one in the SQL.
"""

from itertools import count

import pytest

from support.model import Refused, Shop

serial = count()


def transfer(status, order="A", no=None, ref=None, amount=100, currency="AED", digest=None, fault=None):
    return {
        "digest": digest or f"body {next(serial)}", "fault": fault, "status": status, "order_ref": order,
        "transaction_no": no, "payment_reference": ref, "amount": amount, "currency": currency,
    }


def send(shop, *args, **kwargs):
    """The outcome of one delivery as a tuple: outcome, reason, order, its state."""
    v = shop.deliver(transfer(*args, **kwargs))
    return v["outcome"], v["reason"], v["order_ref"], v["order_state"]


def events(shop):
    return [(e["type"], e["order_ref"], e["reason"]) for e in shop.events]


def paybacks(shop):
    return [(p["transaction"], p["state"], p["reason"]) for p in shop.paybacks]


def state(shop, order="A"):
    return shop.orders[order]["state"]


def test_row_1_a_repeat_is_counted_and_nothing_else():
    shop = Shop()
    assert send(shop, "success", no="N1", digest="x") == ("recorded", None, "A", "paid")
    assert send(shop, "success", no="N1", digest="x") == ("duplicate", None, "A", "paid")
    assert shop.deliveries["x"]["outcome"] == "recorded" and shop.deliveries["x"]["repeats"] == 1
    assert events(shop) == [("order.success", "A", None)]
    shop.resolve_order("A", "cancelled")
    assert send(shop, "success", no="N1", digest="x") == ("duplicate", None, "A", "cancelled")


def test_row_1_repeats_of_ignored_and_rejected_are_tried_afresh():
    shop = Shop()
    assert send(shop, "pending", no="N2", digest="x") == ("ignored", "status", "A", None)
    assert send(shop, "pending", no="N2", digest="x") == ("ignored", "status", "A", None)
    assert shop.deliveries["x"]["repeats"] == 1

    assert send(shop, None, order=None, digest="y", fault="/data: missing") == ("rejected", None, None, None)
    assert send(shop, "success", order="B", no="N3", digest="y") == ("recorded", None, "B", "paid")
    assert shop.deliveries["y"]["outcome"] == "recorded" and shop.deliveries["y"]["repeats"] == 1


def test_what_no_transfer_may_lack():
    shop = Shop()
    assert send(shop, "success", amount=None)[0] == "rejected"
    assert send(shop, "success", currency="")[0] == "rejected"
    assert send(shop, "")[0] == "rejected" and send(shop, None)[0] == "rejected"
    assert shop.orders == {} and shop.transactions == [] and shop.events == []
    assert send(shop, "failed", amount=None, currency=None)[0] == "recorded"


def test_row_2_another_status_never_pays():
    shop = Shop()
    shop.register_order("A", 100, "AED")
    assert send(shop, "pending", no="N1") == ("ignored", "status", "A", "pending")
    assert shop.transactions == [] and events(shop) == []


def test_row_20_a_refund_of_all():
    shop = Shop()
    send(shop, "success", no="N1")
    assert send(shop, "refund", no="N1", order="B") == ("recorded", "refunded", "A", "refunded")
    assert events(shop) == [("order.success", "A", None), ("order.refund", "A", None)]
    assert "B" not in shop.orders
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    assert paybacks(shop) == [(1, "due", "double_payment")]
    assert send(shop, "refund", no="N1", amount=None) == ("recorded", "refunded", "A", "paid")
    assert shop.orders["A"]["transaction"] == 1 and paybacks(shop) == [(1, "check", "double_payment")]
    assert send(shop, "refund", no="N2") == ("recorded", "refunded", "A", "refunded")
    assert paybacks(shop) == [(1, "settled", "double_payment")]


def test_row_21_a_refund_of_a_part_is_never_added_up():
    shop = Shop()
    send(shop, "success", no="N1")
    for copy in "xy":
        assert send(shop, "refund", no="N1", amount=30, digest=copy) == ("recorded", "refunded_in_part", "A", "paid")
    assert (shop.refunded(shop.transactions[0]), shop.left(shop.transactions[0])) == (30, 70)
    assert events(shop)[1:] == [("order.refund", "A", "refunded_in_part")]
    send(shop, "success", no="N2")
    assert paybacks(shop) == [(1, "check", "double_payment")]


def test_row_22_a_refund_of_more_or_of_another_currency_is_a_doubt():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    assert send(shop, "refund", no="N2", currency="KWD") == ("review", "refund_differs", "A", "paid")
    assert paybacks(shop) == [(1, "check", "double_payment")] and shop.refunded(shop.transactions[1]) == 0
    assert send(shop, "refund", no="N1", amount=101) == ("review", "refund_differs", "A", "paid")


def test_row_23_a_refund_before_its_success():
    shop = Shop()
    assert send(shop, "refund", no="N1") == ("review", "refund_unknown", None, None)
    assert shop.orders == {} and events(shop) == []
    assert send(shop, "success", no="N1") == ("review", "refunded_before", "A", None)
    assert shop.orders == {} and shop.transactions[0]["order_ref"] == "A"
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    send(shop, "refund", no="N8")
    assert paybacks(shop) == [(1, "check", "double_payment")]


def test_row_24_speaks_of_what_went_back():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "refund", no="N1")
    assert send(shop, "failed", no="N1") == ("recorded", "refunded_before", "A", "refunded")
    assert send(shop, "success", no="N1", amount=7)[1] == "amount_contradiction"


def test_row_25_paid_after_refund():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "refund", no="N1")
    assert send(shop, "success", no="N2") == ("review", "paid_after_refund", "A", "review")
    assert events(shop)[-1] == ("order.review", "A", "paid_after_refund")


def test_row_26_a_renewal():
    shop = Shop()
    send(shop, "success", order="FLSSUB_1", no="N1")
    assert send(shop, "success", order="FLSSUB_1", no="N2") == ("recorded", "double_payment", "FLSSUB_1", "paid")
    assert paybacks(shop) == [(1, "check", "double_payment")]
    shop.wait(86400)
    assert send(shop, "success", order="FLSSUB_1", no="N3") == ("recorded", "renewal", "FLSSUB_1", "paid")
    assert events(shop)[-1] == ("order.success", "FLSSUB_1", "renewal") and len(shop.paybacks) == 1
    send(shop, "failed", order="FLSSUB_1", no="N4")
    assert events(shop)[-1] == ("order.review", "FLSSUB_1", "renewal_failed")


def test_the_payer_refunded_while_another_stays():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2", amount=60)
    send(shop, "refund", no="N1")
    assert state(shop) == "review" and events(shop)[-2:] == [
        ("order.review", "A", "payment_refunded"), ("payback.check", "A", "double_payment")]


def test_a_refund_that_a_person_takes_back():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "refund", no="N1")
    shop.record_refund(0, 0)
    assert state(shop) == "review" and events(shop)[-1] == ("order.review", "A", "refund_undone")
    with pytest.raises(Refused):
        shop.record_refund(0, 101)


def test_a_refund_known_before_the_payment():
    shop = Shop()
    send(shop, "refund", no="N1", amount=30)
    assert send(shop, "success", no="N1") == ("review", "refund_known", "A", "review")


def test_time():
    shop = Shop(cancel_after=300, expire_after=3600)
    assert send(shop, "failed", no="N1") == ("recorded", None, "A", "pending")
    shop.register_order("B", 100, "AED")
    shop.wait(299)
    assert send(shop, "success", no="N2") == ("recorded", None, "A", "paid") and not shop.orders["A"]["late"]
    send(shop, "failed", order="C", no="N3")
    shop.wait(599)
    assert state(shop, "B") == "pending" and events(shop)[-1] == ("order.cancel", "C", "failed")
    shop.wait(3600)
    assert events(shop)[-1] == ("order.cancel", "B", "expired")
    assert send(shop, "success", order="B", no="N4") == ("recorded", "late", "B", "paid")


def test_withdraw_and_reopen():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    shop.withdraw_payback(0)
    send(shop, "success", no="N3")
    assert paybacks(shop) == [(1, "settled", "withdrawn"), (2, "due", "double_payment")]
    shop.reopen_payback(0)
    assert paybacks(shop)[0] == (1, "check", "double_payment")
    shop.settle_payback(1)
    assert shop.left(shop.transactions[2]) == 0
    shop.reopen_payback(1)
    assert shop.left(shop.transactions[2]) == 100 and paybacks(shop)[1] == (2, "check", "double_payment")


def test_two_attempts_under_one_reference():
    for first, second in (("N1", "N2"), ("N2", "N1")):
        shop = Shop()
        send(shop, "failed" if first == "N1" else "success", no=first, ref="R")
        send(shop, "failed" if second == "N1" else "success", no=second, ref="R")
        assert state(shop) == "paid" and [t["order_ref"] for t in shop.transactions] == ["A", "A"]


def test_one_or_two():
    shop = Shop()
    send(shop, "success", ref="R1")
    send(shop, "success", no="N1")
    assert paybacks(shop) == [(1, "check", "double_payment")]  # twins
    assert send(shop, "success", no="N1", ref="R1") == ("review", "one_or_two", "A", "paid")
    assert shop.transactions[1]["payment_reference"] is None


def test_row_3_test_numbers_move_nothing_at_a_live_merchant():
    shop = Shop()
    assert send(shop, "success", no="TEST1") == ("review", "test_transaction", "A", None)
    assert send(shop, "failed", no="TEST1") == ("review", "test_transaction", "A", None)
    assert [t["order_ref"] for t in shop.transactions] == [None] and shop.orders == {}
    assert send(Shop(mode="test"), "success", no="TEST1") == ("recorded", None, "A", "paid")


def test_row_4_another_order_is_neither_created_nor_moved():
    shop = Shop()
    send(shop, "success", no="N1")
    assert send(shop, "success", order="B", no="N1") == ("review", "other_order", "B", None)
    shop.register_order("B", 100, "AED")
    assert send(shop, "failed", order="B", no="N1") == ("review", "other_order", "B", "pending")
    assert len(shop.events) == 1


def test_row_5_other_bytes_same_story():
    shop = Shop()
    send(shop, "success", no="N1")
    assert send(shop, "success", no="N1") == ("duplicate", None, "A", "paid")
    assert send(shop, "success", order=None, no="N1") == ("duplicate", None, "A", "paid")
    assert len(shop.deliveries) == 3 and len(shop.events) == 1


def test_row_6_a_known_success_changes_its_amount_or_currency():
    shop = Shop()
    send(shop, "success", no="N1")
    assert send(shop, "success", no="N1", amount=101) == ("review", "amount_contradiction", "A", "paid")
    assert send(shop, "success", no="N1", currency="USD") == ("review", "amount_contradiction", "A", "paid")
    assert shop.transactions[0]["amount"] == 100 and len(shop.events) == 1


def test_row_7_a_known_success_is_called_failed():
    shop = Shop()
    send(shop, "success", no="N1")
    assert send(shop, "failed", no="N1") == ("review", "status_contradiction", "A", "paid")
    assert send(shop, "failed", no="N1", amount=None) == ("review", "status_contradiction", "A", "paid")
    assert paybacks(shop) == [(0, "check", "status_contradiction")]
    assert events(shop)[1:] == [("payback.check", "A", "status_contradiction")]


def test_row_7_an_open_payback_goes_on_hold():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    send(shop, "failed", no="N2")
    assert paybacks(shop) == [(1, "check", "double_payment")]
    assert [e["type"] for e in shop.events] == ["order.success", "payback.due", "payback.check"]
    shop.settle_payback(0)
    send(shop, "failed", no="N2", amount=1)
    assert paybacks(shop) == [(1, "settled", "double_payment")]


def test_row_8_a_failure_without_a_key():
    shop = Shop()
    assert send(shop, "failed", order=None) == ("recorded", None, None, None)
    assert send(shop, "failed", order=None) == ("recorded", None, None, None)
    assert len(shop.transactions) == 2 and events(shop) == [] and shop.orders == {}


def test_row_9_a_success_without_a_key():
    shop = Shop()
    assert send(shop, "success", order=None, no="N1") == ("review", "no_order_key", None, None)
    assert events(shop) == [("order.review", None, "no_order_key")]
    assert send(shop, "success", order=None, no="N1") == ("duplicate", None, None, None)


def test_a_keyless_transaction_gets_its_key_later():
    shop = Shop()
    send(shop, "failed", order=None, no="N1")
    assert send(shop, "success", order="A", no="N1") == ("recorded", None, "A", "paid")
    assert shop.transactions[0]["order_ref"] == "A"


def test_row_5_gives_the_order_that_was_missing():
    shop = Shop()
    send(shop, "success", order=None, no="N1")
    assert send(shop, "success", order="A", no="N1") == ("recorded", None, "A", "paid")
    assert shop.transactions[0]["order_ref"] == "A"
    assert send(shop, "success", order="B", no="TEST1")[1] == "test_transaction"
    assert list(shop.orders) == ["A"]


def test_row_10_a_failure_cancels():
    shop = Shop()
    shop.register_order("B", 100, "AED")
    assert send(shop, "failed", no="N1") == ("recorded", None, "A", "cancelled")
    assert send(shop, "failed", order="B", no="N2") == ("recorded", None, "B", "cancelled")
    assert events(shop) == [("order.cancel", "A", None), ("order.cancel", "B", None)]


def test_row_11_a_failure_moves_nothing_else():
    shop = Shop()
    send(shop, "success", no="N1")
    assert send(shop, "failed", no="N2") == ("recorded", None, "A", "paid")
    send(shop, "failed", order="B", no="N3")
    assert send(shop, "failed", order="B", no="N4") == ("recorded", None, "B", "cancelled")
    assert [e["type"] for e in shop.events] == ["order.success", "order.cancel"]


def test_row_12_a_success_for_an_unknown_order():
    shop = Shop()
    assert send(shop, "success") == ("recorded", None, "A", "paid")
    shop = Shop(unknown_orders="review")
    assert send(shop, "success") == ("review", "unknown_order", "A", "review")
    assert events(shop) == [("order.review", "A", "unknown_order")]


@pytest.mark.parametrize("amount, currency, outcome, reason, after", [
    (100, "AED", "recorded", None, "paid"),                    # row 13
    (101, "AED", "review", "amount_differs", "review"),        # row 14
    (100, "USD", "review", "currency_differs", "review"),
    (101, "USD", "review", "currency_differs", "review"),
])
def test_rows_13_14_a_success_for_a_pending_order(amount, currency, outcome, reason, after):
    shop = Shop(unknown_orders="review")
    shop.register_order("A", 100, "AED")
    assert send(shop, "success", amount=amount, currency=currency) == (outcome, reason, "A", after)
    assert events(shop) == [("order.success" if after == "paid" else "order.review", "A", reason)]
    assert shop.orders["A"]["amount"] == 100 and shop.orders["A"]["currency"] == "AED"


def test_row_15_a_late_success():
    shop = Shop()
    send(shop, "failed", no="N1", amount=7)
    assert send(shop, "success", no="N1") == ("recorded", "late", "A", "paid")
    assert shop.orders["A"]["late"] and shop.orders["A"]["amount"] == 100
    shop = Shop(unknown_orders="review")
    send(shop, "failed")
    assert send(shop, "success") == ("review", "unknown_order", "A", "review")
    shop = Shop(unknown_orders="review")
    shop.register_order("A", 100, "AED")
    send(shop, "failed")
    assert send(shop, "success", amount=1) == ("review", "amount_differs", "A", "review")
    shop = Shop(late_success="review")
    send(shop, "failed")
    assert send(shop, "success") == ("review", "late_success", "A", "review")


def test_row_16_a_person_closed_the_order():
    shop = Shop()
    shop.register_order("A", 100, "AED")
    shop.resolve_order("A", "cancelled")
    assert send(shop, "success", no="N1") == ("review", "order_closed", "A", "cancelled")
    assert paybacks(shop) == [(0, "due", "order_closed")]
    assert events(shop)[-1] == ("payback.due", "A", "order_closed")


def test_row_17_paid_twice():
    shop = Shop()
    send(shop, "success", no="N1")
    assert send(shop, "success", no="N2", amount=1) == ("recorded", "double_payment", "A", "paid")
    assert shop.orders["A"]["transaction"] == 0
    assert paybacks(shop) == [(1, "due", "double_payment")]


def test_row_18_waiting_for_somebody():
    shop = Shop(unknown_orders="review")
    send(shop, "success", no="N1")
    assert send(shop, "success", no="N2") == ("review", "order_in_review", "A", "review")
    shop = Shop(verify="callback")
    assert send(shop, "success", no="N1") == ("recorded", "verifying", "A", "verifying")
    assert send(shop, "success", no="N2") == ("review", "order_verifying", "A", "verifying")
    assert events(shop) == [] and [t["state"] for t in shop.transactions] == ["verifying", "verifying"]


def test_one_reference_under_two_numbers():
    shop = Shop()
    send(shop, "success", no="N1", ref="R1")
    assert send(shop, "success", no="N2", ref="R1") == ("review", "reference_conflict", "A", "paid")
    assert shop.transactions[1]["order_ref"] is None and paybacks(shop) == []
    assert send(shop, "success", order=None, ref="R1") == ("duplicate", None, "A", "paid")


def test_what_succeeded_is_never_rewritten():
    shop = Shop()
    send(shop, "success", no="N1", ref="R1")
    send(shop, "success", order="B", no="N2")
    assert send(shop, "failed", order="B", no="N2", ref="R1", amount=5)[1] == "reference_conflict"
    assert shop.transactions[1]["status"] == "success" and shop.transactions[1]["amount"] == 100
    send(shop, "success", no="TEST1")
    assert send(shop, "failed", no="TEST1", amount=5)[1] == "test_transaction"
    assert shop.transactions[2]["status"] == "success" and shop.transactions[2]["amount"] == 100


def test_a_reference_brings_number_and_transaction_together():
    shop = Shop()
    send(shop, "failed", ref="R1")
    assert send(shop, "success", no="N1", ref="R1") == ("recorded", "late", "A", "paid")
    assert send(shop, "success", no="N1") == ("duplicate", None, "A", "paid")
    assert len(shop.transactions) == 1


def test_merchants_and_empty_strings():
    shop = Shop()
    assert send(shop, "success", order="", no="", ref="") == ("review", "no_order_key", None, None)
    assert send(shop, "success", order="", no="", ref="") == ("review", "no_order_key", None, None)
    assert len(shop.transactions) == 2


def test_register_before():
    shop = Shop()
    shop.register_order("A", 100, "AED")
    shop.register_order("A", 100, "AED")
    shop.register_order("A", 101, "AED")
    assert shop.orders["A"]["amount"] == 101 and state(shop) == "pending"
    send(shop, "failed", no="N1")
    shop.register_order("A", 101, "AED")
    with pytest.raises(Refused):
        shop.register_order("A", 100, "AED")
    with pytest.raises(Refused):
        Shop(known=False).register_order("A", 100, "AED")


def test_register_after_the_webhook():
    shop = Shop()
    send(shop, "success")
    shop.register_order("A", 100, "AED")
    assert state(shop) == "paid" and len(shop.events) == 1
    send(shop, "success", order="B")
    shop.register_order("B", 100, "USD")
    assert state(shop, "B") == "review" and events(shop)[-1] == ("order.review", "B", "currency_differs")
    send(shop, "failed", order="C")
    shop.register_order("C", 5, "USD")
    assert state(shop, "C") == "cancelled" and shop.orders["C"]["amount"] == 5


def test_register_makes_an_unknown_order_known():
    shop = Shop(unknown_orders="review")
    send(shop, "success")
    shop.register_order("A", 100, "AED")
    assert state(shop) == "paid" and events(shop)[-1] == ("order.success", "A", None)
    send(shop, "success", order="B")
    shop.register_order("B", 7, "AED")
    assert state(shop, "B") == "review" and events(shop)[-1] == ("order.review", "B", "amount_differs")


def test_resolve_to_paid():
    shop = Shop(unknown_orders="review")
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    shop.resolve_order("A", "paid")
    shop.resolve_order("A", "paid")
    assert state(shop) == "paid" and shop.orders["A"]["transaction"] == 0
    assert events(shop)[1:] == [("order.success", "A", "resolved"), ("payback.due", "A", "double_payment")]
    assert paybacks(shop) == [(1, "due", "double_payment")]
    for wrong in ("review", "pending", "verifying", "refunded", ""):
        with pytest.raises(Refused):
            shop.resolve_order("A", wrong)
    with pytest.raises(Refused):
        shop.resolve_order("Z", "paid")


def test_resolve_to_cancelled_and_back():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    shop.resolve_order("A", "cancelled")
    shop.resolve_order("A", "cancelled")
    assert events(shop)[2:] == [("order.cancel", "A", "resolved"), ("payback.due", "A", "order_closed")]
    assert paybacks(shop) == [(1, "due", "double_payment"), (0, "due", "order_closed")]
    shop.resolve_order("A", "paid")
    assert shop.orders["A"]["transaction"] == 0
    assert paybacks(shop) == [(1, "due", "double_payment"), (0, "settled", "withdrawn")]
    shop.resolve_order("A", "cancelled")
    assert paybacks(shop)[2:] == [(0, "due", "order_closed")]


def test_closing_what_a_failure_cancelled_is_silent_and_final():
    shop = Shop()
    send(shop, "failed", no="N1")
    shop.resolve_order("A", "cancelled")
    assert events(shop) == [("order.cancel", "A", None)]
    assert send(shop, "success", no="N1") == ("review", "order_closed", "A", "cancelled")


def test_assign():
    shop = Shop()
    send(shop, "success", order=None, no="N1")
    shop.assign_transaction(0, "A", create_order=True)
    assert state(shop) == "paid" and events(shop)[-1] == ("order.success", "A", None)
    with pytest.raises(Refused):
        shop.assign_transaction(0, "B")
    send(shop, "success", order=None, no="N2")
    shop.assign_transaction(1, "A")
    assert paybacks(shop) == [(1, "due", "double_payment")]
    send(shop, "failed", order=None, no="N3")
    with pytest.raises(Refused):
        shop.assign_transaction(2, "B")
    shop.assign_transaction(2, "B", create_order=True)
    assert state(shop, "B") == "cancelled"


def test_settle():
    shop = Shop()
    send(shop, "success", no="N1")
    send(shop, "success", no="N2")
    shop.settle_payback(0)
    with pytest.raises(Refused):
        shop.settle_payback(0)
    assert paybacks(shop) == [(1, "settled", "double_payment")]
    shop.resolve_order("A", "cancelled")
    assert paybacks(shop) == [(1, "settled", "double_payment"), (0, "due", "order_closed")]
