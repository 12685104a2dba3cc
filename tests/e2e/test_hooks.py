# SPDX-License-Identifier: MIT
"""A merchant's own trigger that never lets a payment pass: kept, hook_failed, the order unmoved, replayable; with and without a spool."""
import contextlib
import time

import pytest

from support.site import Request, Site, SpoolSite, encode, new_order, scratch, transfer

FAILING = {
    "suppresses the change": "return null",
    "says that it was cancelled": "raise exception 'enough' using errcode = '57014'",
    "takes too long": "perform pg_sleep(5); return new",
    "raises": "raise exception 'the shop says no'",
}


@pytest.fixture(scope="module", params=[Site, SpoolSite], ids=["no spool", "spool"])
def place(request):
    site = request.param(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@contextlib.contextmanager
def trigger(site, order, body):
    site.query(f"create function public.hook() returns trigger language plpgsql as $$begin {body}; end$$")
    site.query(f"create trigger hook before update on foloosi.orders for each row when (new.order_ref = '{order}') execute function public.hook()")
    try:
        yield
    finally:
        site.query("drop trigger hook on foloosi.orders")
        site.query("drop function public.hook()")


def send_until_kept(site, front, body):
    """As the provider does, which sends again after a 503. A spool takes it at once, and the drain goes on trying."""
    end = time.monotonic() + 60
    while (kept := site.kept(body)) is None:
        assert time.monotonic() < end
        answer = front.send(Request(site.path(), body=body))
        assert answer.status in (200, 503)
        if isinstance(site, SpoolSite):
            assert answer.status == 200
            site.drained(60)
    return kept


@pytest.mark.parametrize("what", FAILING)
def test_a_trigger_that_never_lets_a_payment_pass(place, what):
    site, order = place, new_order()
    front = site.front("nginx")
    site.query("select foloosi.register_order('shop', %s, 100, 'AED')", [order])
    body, other = encode(transfer(order=order)), encode(transfer())
    with trigger(site, order, FAILING[what]):
        assert send_until_kept(site, front, body)[0] == "review"
        assert site.query("select kind, reason from foloosi.attention where order_ref = %s", [order]) == [("delivery", "hook_failed")]
        assert site.order(order)[0] == "pending"
        assert site.query("select count(*) from foloosi.events where order_ref = %s", [order]) == [(0,)]
        assert site.query("select count(*) from foloosi.transactions where order_ref = %s", [order]) == [(0,)]
        # it stops no other
        assert send_until_kept(site, front, other)[0] == "recorded"
    assert site.query("select (foloosi.replay_delivery(d.id)).outcome from foloosi.deliveries d where d.order_ref = %s", [order]) == [("recorded",)]
    assert site.order(order)[0] == "paid"
    assert site.query("select count(*) from foloosi.attention where order_ref = %s", [order]) == [(0,)]


def test_many_payments_beside_a_slow_trigger(place):
    """All wait for it, and none is lost or counted twice."""
    site, order = place, new_order()
    front = site.front("nginx")
    site.query("select foloosi.register_order('shop', %s, 100, 'AED')", [order])
    bodies = [encode(transfer(order=order))] + [encode(transfer()) for _ in range(7)]
    with trigger(site, order, FAILING["takes too long"]):
        for body in bodies:
            send_until_kept(site, front, body)
    assert sorted(site.kept(body)[0] for body in bodies) == ["recorded"] * 7 + ["review"]


def test_replay_after_the_order_key_changed(place):
    """The order that the old key named is paid, and its lock is taken; nothing is named by the new one."""
    site, order, new = place, new_order(), new_order()
    front = site.front("nginx")
    body = encode(transfer(order=order, optional2=new))
    site.query("select foloosi.register_order('shop', %s, 100, 'AED')", [order])
    with trigger(site, order, FAILING["raises"]):
        assert send_until_kept(site, front, body)[0] == "review"
    (number,), = site.query("select id from foloosi.deliveries where order_ref = %s", [order])
    answer = site.query("select r.outcome, r.order_named, r.order_state from foloosi.replay_transfer(%s, 'success', %s, 'N-' || %s, null, 100, 'AED') r",
                        [number, new, new])
    names = site.query("select d.order_ref, t.order_ref, o.order_ref, e.order_ref from foloosi.deliveries d join foloosi.transactions t on t.id = d.transaction_id"
                       " join foloosi.orders o on o.transaction_id = t.id join foloosi.events e on e.transaction_id = t.id where d.id = %s", [number])
    assert len(names) == 1 and len(set(names[0])) == 1 and names[0][0] == answer[0][1]
    assert answer[0][0] == "recorded" and answer[0][2] == "paid"
    assert site.query("select count(*) from foloosi.orders where order_ref in (%s, %s) and state = 'paid'", [order, new]) == [(1,)]
