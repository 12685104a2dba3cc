# SPDX-License-Identifier: MIT
"""
The order rules, once more, as plainly as they can be said.

This is the contract as a program: one delivery at a time, plain dicts and lists,
no database and no cleverness. It is deliberately slow, and it shares nothing with
sql/, so that an error has to be made twice to stay hidden. test_model.py drives
PostgreSQL and this model through the same story and compares every row.

A Shop is everything that one merchant has. Transactions and paybacks are numbered in the
order of their creation, as ids are; other things refer to them by number. Row numbers in
comments are those of the table of order rules.
"""

LIVE = {"mode": "live", "unknown_orders": "accept", "late_success": "pay", "verify": "off"}


class Refused(Exception):
    """A person asked for what the rules forbid; nothing has changed."""


class Shop:
    def __init__(self, known=True, **policy):
        self.known = known  # has a row in merchants; without one the defaults hold
        self.policy = {**LIVE, **policy}
        self.orders = {}  # order_ref -> order
        self.transactions = []
        self.paybacks = []
        self.deliveries = {}  # digest -> delivery
        self.events = []

    # ------------------------------------------------------------ deliveries

    def deliver(self, delivery):
        """One delivery: a dict with digest, fault and the fields of its transfer. Returns its outcome."""
        d = {name: None if value == "" else value for name, value in delivery.items()}
        seen = self.deliveries.get(d["digest"])
        if seen and seen["outcome"] in ("recorded", "duplicate", "review"):  # row 1
            seen["repeats"] += 1
            return self.verdict("duplicate", None, seen["order_ref"] or self.order_of(d))

        outcome, reason, order_ref = self.judge(d)
        self.deliveries[d["digest"]] = {
            "outcome": outcome, "reason": reason, "order_ref": order_ref,
            "repeats": seen["repeats"] + 1 if seen else 0,
        }
        return self.verdict(outcome, reason, order_ref)

    def verdict(self, outcome, reason, order_ref):
        order = self.orders.get(order_ref)
        return {
            "outcome": outcome, "reason": reason, "order_ref": order_ref,
            "order_state": order["state"] if order else None,
        }

    def judge(self, d):
        """Rows 2 to 19. Returns outcome, reason and the order that the delivery is about."""
        incomplete = not d["status"] or d["status"] == "success" and None in (d["amount"], d["currency"])
        if d["fault"] or incomplete:  # the handler has seen to this; a person with psql may forget it
            return "rejected", None, d["order_ref"]

        t = self.find(d)
        order_ref = self.order_of(d)
        success = d["status"] == "success"

        if d["status"] not in ("success", "failed"):  # row 2
            if d["status"] == "refund" and t:
                for p in self.paybacks_of(t):
                    if p["state"] != "settled":
                        p["state"] = "settled"
                        return "recorded", "refunded", order_ref
            return "ignored", "status", order_ref

        if self.policy["mode"] == "live" and (d["transaction_no"] or "").startswith("TEST"):  # row 3
            if t:
                self.learn(t, d)
            self.keep(t, d)
            return "review", "test_transaction", order_ref

        if t and t["order_ref"] and t["order_ref"] != order_ref:  # row 4
            self.learn(t, d)
            return "review", "other_order", order_ref

        if t and says_the_same(t, d):  # row 5
            self.learn(t, d)
            return "duplicate", None, order_ref

        if self.reference_of_another(d, t):  # row 19: one reference under two numbers
            if not t:
                self.create(d, None)
            return "review", "reference_conflict", order_ref

        if t and t["status"] == "success":
            differs = (t["amount"], t["currency"]) != (d["amount"], d["currency"])
            if success and differs:  # row 6
                self.learn(t, d)
                return "review", "amount_contradiction", order_ref
            if not success:  # row 7
                self.learn(t, d)
                self.put_on_hold(t)
                return "review", "status_contradiction", order_ref

        if t:
            self.learn(t, d)
            t["order_ref"] = order_ref
            says(t, d)
        else:
            t = self.create(d, order_ref)
        outcome, reason = self.apply(t, d)
        return outcome, reason, order_ref

    def keep(self, t, d):
        """Keep what a delivery says until a person decides. What succeeded is never rewritten."""
        if not t:
            self.create(d, None)
        elif t["status"] == "failed":
            says(t, d)

    # ------------------------------------------------------------ which transaction

    def with_number(self, d):
        return next((t for t in self.transactions
                     if d["transaction_no"] and t["transaction_no"] == d["transaction_no"]), None)

    def owner(self, d):
        """The first transaction that had this payment_reference."""
        return next((t for t in self.transactions
                     if d["payment_reference"] and t["payment_reference"] == d["payment_reference"]), None)

    def find(self, d):
        """The known transaction of which the delivery speaks."""
        t, owner = self.with_number(d), self.owner(d)
        if t:
            return t
        if owner and (not d["transaction_no"] or not owner["transaction_no"]):
            return owner
        return None

    def order_of(self, d):
        """The order that it names; a known transaction's own order wins over a missing key."""
        t = self.find(d)
        return d["order_ref"] or (t["order_ref"] if t else None)

    def reference_of_another(self, d, t):
        owner = self.owner(d)
        return (owner and owner is not t and d["transaction_no"] and owner["transaction_no"]
                and owner["transaction_no"] != d["transaction_no"])

    def create(self, d, order_ref):
        t = {
            "transaction_no": d["transaction_no"], "payment_reference": d["payment_reference"],
            "order_ref": order_ref, "amount": None, "currency": None, "number": len(self.transactions),
        }
        says(t, d)
        self.transactions.append(t)
        return t

    def learn(self, t, d):
        """A known transaction gets the name that it lacked, unless that belongs to another."""
        t["transaction_no"] = t["transaction_no"] or d["transaction_no"]
        if not self.reference_of_another(d, t):
            t["payment_reference"] = t["payment_reference"] or d["payment_reference"]

    # ------------------------------------------------------------ rows 8 to 18

    def apply(self, t, said):
        """What a transaction, new or just changed, does to its order. Returns outcome and reason."""
        order = self.orders.get(t["order_ref"])
        state = order["state"] if order else None

        if t["status"] == "failed":
            if t["order_ref"] is None:  # row 8
                return "recorded", None
            if state in (None, "pending"):  # row 10
                self.move(t, said, "cancelled")
                self.event("order.cancel", t["order_ref"], None, t)
            return "recorded", None  # row 11

        if t["order_ref"] is None:  # row 9
            self.event("order.review", None, "no_order_key", t)
            return "review", "no_order_key"
        if state == "cancelled" and order["decided"]:  # row 16
            self.owe(t, "order_closed")
            return "review", "order_closed"
        if state == "paid":  # row 17
            self.owe(t, "double_payment")
            return "recorded", "double_payment"
        if state in ("review", "verifying"):  # row 18
            return "review", {"review": "order_in_review", "verifying": "order_verifying"}[state]

        # rows 12 to 15: unknown, pending, or cancelled by a failure
        late = state == "cancelled"
        if late and self.policy["late_success"] == "review":
            doubt = "late_success"
        elif order and order["registered"]:
            doubt = difference(order, said)
        else:
            doubt = "unknown_order" if self.policy["unknown_orders"] == "review" else None
        if doubt:
            self.move(t, said, "review", doubt, late)
            self.event("order.review", t["order_ref"], doubt, t)
            return "review", doubt
        if self.policy["verify"] == "callback":
            t["state"] = "verifying"
            self.move(t, said, "verifying", "verifying", late)
            return "recorded", "verifying"
        reason = "late" if late else None
        self.move(t, said, "paid", reason, late)
        for p in self.paybacks_of(t):  # what was captured though the provider said failed pays the order after all
            if (p["state"], p["reason"]) == ("check", "captured_though_failed"):
                p.update(state="settled", reason="withdrawn")
        self.event("order.success", t["order_ref"], reason, t)
        return "recorded", reason

    def move(self, t, said, state, reason=None, late=False):
        """The order of a transaction changes its state because of it; it is created if need be."""
        order = self.orders.setdefault(t["order_ref"], {"registered": False, "decided": False})
        order.update(state=state, reason=reason, late=late, transaction=t["number"])
        if not order["registered"]:
            order.update(amount=said["amount"], currency=said["currency"])

    def event(self, type_, order_ref, reason, t, payback=None):
        self.events.append({
            "type": type_, "order_ref": order_ref, "reason": reason,
            "transaction": t["number"] if t else None, "payback": payback["number"] if payback else None,
        })

    # ------------------------------------------------------------ paybacks

    def paybacks_of(self, t):
        return [p for p in self.paybacks if p["transaction"] == t["number"]]

    def owe(self, t, reason, state="due"):
        """Open a payback: one at a time, and none for money that went back. Only to be looked at where
        an earlier case leaves open whether the money is still here."""
        earlier = [p for p in self.paybacks_of(t) if p["reason"] != "withdrawn"]
        if any(p["state"] != "settled" or went_back(p) for p in earlier):
            return
        if earlier:
            state = "check"
        payback = {
            "transaction": t["number"], "order_ref": t["order_ref"], "state": state, "reason": reason,
            "number": len(self.paybacks),
        }
        self.paybacks.append(payback)
        self.event("payback." + state, t["order_ref"], reason, t, payback)

    def put_on_hold(self, t):
        """Row 7: the provider contradicts itself, so look before money goes back."""
        for p in self.paybacks_of(t):
            if p["state"] == "due":
                p["state"] = "check"
                self.event("payback.check", p["order_ref"], "status_contradiction", t, p)
        if not any(p["reason"] != "withdrawn" for p in self.paybacks_of(t)):
            self.owe(t, "status_contradiction", "check")

    # ------------------------------------------------------------ the provider's word

    def verify(self, number, status, amount, currency, order_ref):
        """verify = callback: what the provider answered about a transaction. status None: it cannot be asked."""
        t = self.transactions[number]
        order = self.orders.get(t["order_ref"])
        if t["state"] == "verifying" and order["state"] == "verifying" and order["transaction"] == number:
            expected = order if order["registered"] else t
            if status is None:
                doubt = "unverifiable"
            elif status != "success":
                doubt = "not_captured"
            elif order_ref not in (None, t["order_ref"]):
                doubt = "order_differs"
            elif currency != t["currency"] or currency != expected["currency"]:
                doubt = "currency_differs"
            elif amount != t["amount"] or amount != expected["amount"]:
                doubt = "amount_differs"
            else:
                doubt = None
            if doubt:
                order.update(state="review", reason=doubt)
                self.event("order.review", t["order_ref"], doubt, t)
                return
            t["state"] = "captured"
            for p in self.paybacks_of(t):
                if (p["state"], p["reason"]) == ("check", "captured_though_failed"):
                    p.update(state="settled", reason="withdrawn", by_person=True)
            order.update(state="paid", reason="late" if order["late"] else None)
            self.event("order.success", t["order_ref"], order["reason"], t)
            self.owe_all(t["order_ref"], "double_payment", but=t)
        elif t["state"] == "failed" and status == "success" and not self.paybacks_of(t):
            self.owe(t, "captured_though_failed", "check")

    # ------------------------------------------------------------ what persons do

    def register_order(self, order_ref, amount, currency):
        if not self.known:
            raise Refused("unknown merchant")
        order = self.orders.get(order_ref)
        expected = {"amount": amount, "currency": currency}
        if not order:
            self.orders[order_ref] = {
                "state": "pending", "reason": None, "late": False, "transaction": None,
                "registered": True, "decided": False, **expected,
            }
            return
        if order["registered"]:
            if difference(order, expected):
                if order["state"] != "pending" or any(t["order_ref"] == order_ref for t in self.transactions):
                    raise Refused("the expected amount is fixed")
                order.update(expected)
            return

        order.update(expected, registered=True)
        if order["state"] not in ("paid", "review") or order["transaction"] is None:
            return
        t = self.transactions[order["transaction"]]
        doubt = difference(expected, t)
        if doubt:
            order.update(state="review", reason=doubt, decided=True)
            self.event("order.review", order_ref, doubt, t)
        elif order["state"] == "review" and order["reason"] == "unknown_order":
            order.update(state="paid", reason=None, decided=True)
            self.event("order.success", order_ref, None, t)
            self.owe_all(order_ref, "double_payment", but=t)

    def resolve_order(self, order_ref, state):
        order = self.orders.get(order_ref)
        if not order:
            raise Refused("no such order")
        if state not in ("paid", "cancelled"):
            raise Refused("a person decides paid or cancelled")
        before = order["state"]
        if before == state and (state == "paid" or order["decided"]):
            return
        order.update(state=state, reason=None, decided=True)
        if state == "paid":
            paying = self.paying(order_ref, order)
            order["transaction"] = paying["number"] if paying else None
            if paying:
                paying["state"] = "captured"
                for p in self.paybacks_of(paying):
                    if p["state"] == "due" or (p["state"], p["reason"]) == ("check", "captured_though_failed"):
                        p.update(state="settled", reason="withdrawn", by_person=True)
            self.event("order.success", order_ref, "resolved", paying)
            self.owe_all(order_ref, "double_payment", but=paying)
        else:
            if before != "cancelled":
                t = None if order["transaction"] is None else self.transactions[order["transaction"]]
                self.event("order.cancel", order_ref, "resolved", t)
            self.owe_all(order_ref, "order_closed")

    def paying(self, order_ref, order):
        """Which transaction pays an order that a person declares paid."""
        if order["transaction"] is not None:
            t = self.transactions[order["transaction"]]
            if t["state"] != "failed" and self.may_pay(t):
                return t
        for t in self.transactions:
            if t["order_ref"] == order_ref and t["state"] == "captured" and self.may_pay(t):
                return t
        return None

    def may_pay(self, t):
        """Its money is here, unless that is not known. Only a payback because the order was closed, or because a failed
        transaction was captured, can be withdrawn."""
        return all(not went_back(p) if p["state"] == "settled" else
                   (p["state"], p["reason"]) in (("due", "order_closed"), ("check", "captured_though_failed"))
                   for p in self.paybacks_of(t))

    def owe_all(self, order_ref, reason, but=None):
        for t in self.transactions:
            if t["order_ref"] == order_ref and t["state"] != "failed" and t is not but:
                self.owe(t, reason, "due" if t["state"] == "captured" else "check")

    def assign_transaction(self, number, order_ref):
        t = self.transactions[number]
        if t["order_ref"]:
            raise Refused("it has an order")
        t["order_ref"] = order_ref
        for p in self.paybacks_of(t):
            if p["state"] != "settled":
                p["order_ref"] = order_ref
        self.apply(t, t)

    def settle_payback(self, number):
        if self.paybacks[number]["state"] == "settled":
            raise Refused("it was settled before")
        self.paybacks[number].update(state="settled", by_person=True)


# ---------------------------------------------------------------- small words


def says(t, d):
    """A transaction becomes what a delivery says of it; what the delivery leaves out stays."""
    t["status"] = d["status"]
    t["state"] = "captured" if d["status"] == "success" else "failed"
    for name in ("amount", "currency"):
        if d[name] is not None:
            t[name] = d[name]


def says_the_same(t, d):
    return (t["status"], t["amount"], t["currency"]) == (d["status"], d["amount"], d["currency"])


def went_back(payback):
    """A person who settles a contradiction may have found that the money is rightly here."""
    return (payback["state"] == "settled" and payback["reason"] != "withdrawn"
            and not (payback["reason"] == "status_contradiction" and payback.get("by_person")))


def difference(expected, t):
    if expected["currency"] != t["currency"]:
        return "currency_differs"
    if expected["amount"] != t["amount"]:
        return "amount_differs"
    return None
