# SPDX-License-Identifier: MIT
"""
The order rules, read anew from the contract (design, "Order rules: money is a set of facts") and from nothing
else: it shares neither code nor plan with the SQL. One shop is one merchant. What is known of a transaction is
kept as facts; each question about them has one function that answers it anew from all facts.

Slow and plain on purpose: where it disagrees with PostgreSQL, the contract's text says who is right.
"""

import copy

DAY = 86400
STATUSES = ("success", "failed", "refund")
NAMES = ("transaction_no", "payment_reference")


class Refused(Exception):
    """An act that the rules do not allow now."""


class Shop:
    def __init__(self, known=True, **policy):
        self.known = known
        self.policy = {
            "mode": "live", "unknown_orders": "accept", "late_success": "pay", "verify": "off", "second_payment": "due",
            "cancel_after": 0, "expire_after": None, "recurring": ["FLSSUB_"], "renewal_gap": DAY, **policy}
        self.clock = 0
        self.serial = 0
        self.broken = False  # a trigger of the merchant refuses every event
        self.spoken = None  # the transaction of which the delivery at hand speaks
        self.touched = {}  # of each order: when a delivery or an act last concerned it
        self.orders, self.deliveries = {}, {}
        self.transactions, self.paybacks, self.events = [], [], []

    # ------------------------------------------------------------ questions about one transaction

    def refunded(self, t):
        """How much of what was captured is known to have gone back; None: no refund is known, or nothing was captured."""
        if t["state"] != "captured":
            return None
        said = self.said(t)
        if said:
            return said["amount"]
        counted = [r for r in t["refunds"] if r["believed"]]
        if not counted:
            return None
        if any(whole(t, r) for r in counted):
            return t["amount"]
        return max((r["amount"] for r in counted if part(t, r)), default=0)

    def said(self, t):
        """What a person said last of its refunds, and did not take back."""
        return next((r for r in reversed(t["refunds"]) if r["person"]), None)

    def left(self, t):
        if t["state"] != "captured":
            return None
        return max(t["amount"] - (self.refunded(t) or 0), 0)

    def grown(self, t, before):
        """More is refunded than before, or nothing was left of nothing."""
        after = self.refunded(t)
        return after is not None and (after > (before or 0) or before is None and self.gone(t))

    def gone(self, t):
        """Wholly refunded."""
        return t["state"] == "captured" and self.refunded(t) is not None and self.left(t) == 0

    def may_pay(self, t):
        """Captured, and money left; zero counts until it is refunded."""
        return t["state"] == "captured" and not self.gone(t)

    def refund_in_doubt(self, t):
        """A refund was said that is not plainly the whole; or one that found no capture names its order or reference."""
        said = self.said(t)
        after = t["refunds"][t["refunds"].index(said) + 1:] if said else t["refunds"]
        if any(not r["believed"] or not whole(t, r) or said and t["amount"] > said["amount"] for r in after):
            return True
        return any(other is not t and other["state"] != "captured" and any(
            r["order_named"] and r["order_named"] == t["order_ref"]
            or r["payment_reference"] and r["payment_reference"] == t["payment_reference"]
            for r in other["refunds"]) for other in self.transactions)

    def twin(self, t):
        """Two captures of one order of which one lacks the number and the other the reference may be one payment."""
        return t["order_ref"] is not None and any(
            other is not t and other["order_ref"] == t["order_ref"] and other["state"] == "captured"
            and (not t["transaction_no"] and not other["payment_reference"]
                 or not t["payment_reference"] and not other["transaction_no"])
            for other in self.transactions)

    def doubtful(self, t):
        return t["contradicted"] or t["state"] == "verifying" or self.refund_in_doubt(t) or self.twin(t)

    # ------------------------------------------------------------ questions about one order

    def captured(self, ref):
        """Its captured transactions, the one named first in front."""
        return sorted((t for t in self.transactions if ref and t["order_ref"] == ref and t["state"] == "captured"),
                      key=lambda t: t["named"])

    def money_of(self, ref):
        """Refunded and left of an order, over its captured transactions in its currency; None: no refund, nothing captured."""
        money = [t for t in self.captured(ref) if t["currency"] == self.orders[ref]["currency"]]
        known = any(self.refunded(t) is not None for t in self.captured(ref))
        return (sum(self.refunded(t) or 0 for t in money) if known else None,
                sum(self.left(t) for t in money) if self.captured(ref) else None)

    def recurring(self, ref):
        return ref is not None and any(ref.startswith(prefix) for prefix in self.policy["recurring"])

    def expected(self, order, t):
        return (t["amount"], t["currency"]) == (order["amount"], order["currency"])

    def payer(self, ref, now=None):
        """Of its captured transactions with money left: one equal to the expected sum, the one that pays now, the first."""
        order = self.orders[ref]
        able = [t for t in self.captured(ref) if self.may_pay(t)]
        return min(able, key=lambda t: (not self.expected(order, t), t is not now, t["named"]), default=None)

    def pays(self, t):
        order = self.orders.get(t["order_ref"])
        return order is not None and order["state"] == "paid" and (order["transaction"] == t["number"] or t["renewal"])

    # ------------------------------------------------------------ the order is brought in line

    def bring_in_line(self, ref, grew=(), contradicted=None, too_late=None, now=None):
        """After each fact and act. grew: transactions of which more is refunded than before; too_late: came to a closed order;
        now: the provider spoke of it."""
        order = self.orders.get(ref)
        money = self.captured(ref)
        able = [t for t in money if self.may_pay(t)]
        if order is None and able and self.left(able[0]):  # wholly refunded, it created none, and is here after all
            self.set(able[0], "review", "refund_undone")
            self.event("order.review", ref, "refund_undone", able[0])
            order = self.orders[ref]
        if order is None:
            return
        payer = None if order["transaction"] is None else self.transactions[order["transaction"]]
        state = order["state"]
        event, reason, about = None, None, next((t for t in grew), payer)
        if state == "verifying":
            other = self.payer(ref, now)
            if other:
                if not order["registered"]:
                    order.update(amount=other["amount"], currency=other["currency"])
                wrong = difference(order, other) or ("refund_known" if self.refund_in_doubt(other) else None)
                order.update(state="review" if wrong else "paid", transaction=other["number"],
                             reason=wrong or ("late" if order["late"] else None))
                event, reason, about = "order.review" if wrong else "order.success", order["reason"], other
            elif payer in money:
                order.update(state="refunded", reason=None)
                event, about = "order.refund", now or payer
        elif state == "refunded" and able:
            order.update(state="review", reason="refund_undone")
            event, reason, about = "order.review", "refund_undone", payer
        elif able and (state == "pending" or state == "cancelled" and not order["decided"]):
            self.set(self.payer(ref), "review", "refund_undone", order["late"])
            event, reason, about = "order.review", "refund_undone", self.payer(ref)
        elif money and not able and (state == "review" or state == "paid" and payer in money):
            order.update(state="refunded", reason=None)
            event = "order.refund"
        elif state == "paid" and payer and not self.may_pay(payer):  # gone, or believed by a person and not captured
            other = self.payer(ref, payer)
            if other and self.expected(order, other):
                order["transaction"] = other["number"]
                event = "order.refund" if any(t["renewal"] or t is payer and self.recurring(ref) for t in grew) else None
                reason = "refunded_in_part"
            elif self.gone(payer):
                order.update(state="review", reason="payment_refunded")
                event, reason, about = "order.review", "payment_refunded", payer
        elif state == "paid" and payer and any(t is payer or t["renewal"] for t in grew):
            event, reason = "order.refund", "refunded_in_part"
        if event:
            self.event(event, ref, reason, about)
        self.look_at_paybacks(ref, contradicted, too_late)

    def certain(self, t, reason):
        """May money of this transaction be sent back without a person looking first?"""
        order = self.orders.get(t["order_ref"])
        if self.doubtful(t) or any(self.doubtful(other) for other in self.captured(t["order_ref"])):
            return False
        if order is not None and order["state"] in ("review", "verifying"):
            return False
        if order is not None and order["state"] == "paid" and order["transaction"] is not None \
                and self.transactions[order["transaction"]]["state"] != "captured":
            return False  # what a person believed may have been this one
        if reason == "double_payment" and (self.policy["second_payment"] == "check" or self.recurring(t["order_ref"])):
            return False
        return True

    def open_payback(self, t):
        return next((p for p in self.paybacks if p["transaction"] == t["number"] and p["state"] != "settled"), None)

    def look_at_paybacks(self, ref, contradicted=None, too_late=None):
        """Each captured transaction of an order gets the payback that it must have, or loses it."""
        order = self.orders.get(ref)
        if order is None:
            return
        for t in sorted(self.captured(ref), key=lambda t: t["number"]):
            p = self.open_payback(t)
            if p:
                p["amount"] = self.left(t) or p["amount"]
                if not self.left(t):
                    p["state"] = "settled"
                elif self.pays(t) and p["reason"] in ("order_closed", "captured_though_failed"):
                    p.update(state="settled", reason="withdrawn")
                elif p["state"] == "due" and (self.pays(t) or t is contradicted or not self.certain(t, p["reason"])):
                    p["state"] = "check"
                    self.event("payback.check", ref, "status_contradiction" if t is contradicted else p["reason"], t, p)
            elif not self.left(t) or self.answered(t):
                continue
            elif t is contradicted:
                if not self.had_payback(t):
                    self.owe(t, "status_contradiction")
            elif order["state"] == "paid" and not self.pays(t):
                self.owe(t, "double_payment")
            elif order["state"] == "cancelled" and order["decided"] and (not self.recurring(ref) or t is too_late or any(
                    p["transaction"] == t["number"] and p["reason"] == "order_closed" for p in self.paybacks)):  # it came after the end
                self.owe(t, "order_closed")

    def had_payback(self, t):
        return any(p["transaction"] == t["number"] and p["reason"] != "withdrawn" for p in self.paybacks)

    def answered(self, t):
        """A person said that nothing of it has to go back, and did not decide its order since."""
        return any(p["answers"] for p in self.withdrawn(t))

    def withdrawn(self, t):
        return [p for p in self.paybacks if p["transaction"] == t["number"] and p["reason"] == "withdrawn" and p["by_person"]]

    def owe(self, t, reason):
        """Open a payback; at most one at a time, none where nothing is left."""
        state = ("due" if self.certain(t, reason) and not self.had_payback(t) and not self.withdrawn(t)
                 and reason != "status_contradiction" else "check")
        p = {"number": len(self.paybacks), "transaction": t["number"], "order_ref": t["order_ref"], "state": state,
             "reason": reason, "amount": self.left(t), "by_person": False, "answers": False}
        self.paybacks.append(p)
        self.event("payback." + state, t["order_ref"], reason, t, p)

    def doubt_spread(self, refund):
        """A refund of something unknown makes what it names doubtful."""
        for ref in sorted({t["order_ref"] for t in self.transactions if t["order_ref"] and (
                t["order_ref"] == refund["order_named"]
                or refund["payment_reference"] and t["payment_reference"] == refund["payment_reference"])}):
            self.look_at_paybacks(ref)

    def event(self, type_, order_ref, reason, t, payback=None):
        self.events.append({"type": type_, "order_ref": order_ref, "reason": reason,
                            "transaction": t["number"] if t else None, "payback": payback["number"] if payback else None})

    # ------------------------------------------------------------ a delivery

    def deliver(self, d, replay=False):
        d = {**d, **{k: d[k] or None for k in ("status", "order_ref", *NAMES, "currency")}}
        kept = self.deliveries.get(d["digest"])
        if kept and kept["outcome"] in ("recorded", "duplicate", "review") and not replay:  # row 1
            kept["repeats"] += 1
            self.touch(kept["order_ref"])
            return self.answer("duplicate", None, kept["order_ref"] or self.concerns(d), 1)
        before = self.memory()
        if (d["fault"] or not d["status"]
                or d["status"] == "success" and (d["amount"] is None or d["currency"] is None)):
            v = self.answer("rejected", None, None, 0)
        elif d["status"] not in STATUSES:
            v = self.answer("ignored", "status", self.concerns(d), 2)
        else:
            self.spoken, known = None, len(self.transactions)
            v = self.answer(*self.apply(d))
            v["transaction"] = self.spoken["number"]
        v["attention"] = self.waits(v)
        if self.broken and len(self.events) > len(before["events"]):
            self.__dict__.update(before)
            kept = self.deliveries.get(d["digest"])
            v = self.answer("review", "hook_failed", d["order_ref"] or self.concerns(d), None)  # a refund's key, too: it is fed again with it
            v.update(attention=True, order_row=kept["order_ref"] if kept else v["order_ref"])
        if kept:
            kept.update(outcome=v["outcome"], reason=v["reason"], order_ref=v.pop("order_row", v["order_ref"]), rule=v["rule"],
                        repeats=kept["repeats"] + (not replay), transaction=v["transaction"],
                        # what a person dismissed stays so, if it is rejected again
                        attention=v["attention"] if v["rule"] != 0 else kept["attention"] or kept["outcome"] == "ignored")
        else:
            v.pop("order_row", None)
            self.deliveries[d["digest"]] = {**v, "repeats": 0, "said": d}
        self.touch(self.deliveries[d["digest"]]["order_ref"])
        return v

    def memory(self):
        return copy.deepcopy({k: v for k, v in self.__dict__.items() if k != "policy"}) if self.broken else {"events": self.events}

    def waits(self, v):
        """Does the delivery wait for a person by itself?"""
        if v["rule"] == 7:
            return not any(p["transaction"] == v["transaction"] and p["state"] == "check" for p in self.paybacks)
        return v["rule"] in (0, 3, 4, 6, 9, 19, 22, 23, 24) or v["rule"] == 26 and v["reason"] == "refund_known"

    def touch(self, order_ref):
        self.serial += 1
        self.touched[order_ref] = self.serial

    def act(self, name, **arguments):
        """What a person, the worker or time does; nothing of it if a trigger refuses its event."""
        before = self.memory()
        getattr(self, name)(**arguments)
        if self.broken and len(self.events) > len(before["events"]):
            self.__dict__.update(before)
            raise Refused("a trigger failed")

    def replay(self, digest):
        """A delivery that a trigger refused, once more from its bytes."""
        kept = self.deliveries[digest]
        if kept["reason"] != "hook_failed":
            raise Refused("it was not refused")
        self.deliver({**kept["said"], "order_ref": kept["order_ref"]}, replay=True)

    def dismiss(self, digest):
        kept = self.deliveries[digest]
        if not kept["attention"]:
            raise Refused("it does not wait")
        kept["attention"] = False
        self.touch(kept["order_ref"])

    def hook(self, broken):
        self.broken = broken

    def answer(self, outcome, reason, order_ref, rule=None):
        order = self.orders.get(order_ref)
        return {"outcome": outcome, "reason": reason, "order_ref": order_ref,
                "order_state": order["state"] if order else None, "rule": rule, "transaction": None}

    def is_test(self, d):
        return self.policy["mode"] == "live" and (d["transaction_no"] or "").startswith("TEST")

    def concerns(self, d):
        t = None if self.is_test(d) else self.find(d)
        if d["status"] == "refund":
            return t["order_ref"] if t else None
        return d["order_ref"] or (t["order_ref"] if t else None)

    # ------------------------------------------------------------ which transaction

    def with_number(self, no):
        return next((t for t in self.transactions if no and t["transaction_no"] == no), None)

    def with_reference(self, ref):
        """Those that share a reference: the captured one in front, else the first."""
        return sorted((t for t in self.transactions if ref and t["payment_reference"] == ref and t["state"] != "test"),
                      key=lambda t: t["state"] != "captured")

    def find(self, d):
        t = self.with_number(d["transaction_no"])
        if t:
            return t
        for owner in self.with_reference(d["payment_reference"]):
            if not d["transaction_no"] or not owner["transaction_no"]:
                return owner
        return None

    def linked(self, d, t):
        """It has the number of one and the reference of another that has no number."""
        return t is not None and d["transaction_no"] is not None and any(
            o is not t and not o["transaction_no"] for o in self.with_reference(d["payment_reference"]))

    def conflict(self, d, t):
        """It has the reference of another number, and they are not two attempts."""
        if not d["transaction_no"]:
            return None
        if self.linked(d, t):
            return "one_or_two"
        order_ref = (t["order_ref"] if t else None) or (None if t and t["withheld"] else d["order_ref"])
        sharing = self.with_reference(d["payment_reference"])
        rival = any(o is not t and self.counts(o) and (o is sharing[0] or order_ref and o["order_ref"] == order_ref) for o in sharing)
        if t and t["payment_reference"] == d["payment_reference"]:  # judged when it came; only a second capture is new
            return "reference_conflict" if rival and d["status"] == "success" and t["status"] != "success" else None
        success = d["status"] == "success" or t is not None and self.counts(t)
        for o in sharing[:1]:  # of several, the one that the reference speaks of
            if o is t or not o["transaction_no"] or o["transaction_no"] == d["transaction_no"]:
                continue
            if success and rival or order_ref is None or o["order_ref"] != order_ref:
                return "reference_conflict"
        return None

    def counts(self, t):
        """It captured, or may have: the provider has not said."""
        return t["state"] in ("captured", "verifying")

    def create(self, d):
        t = {"number": len(self.transactions), "transaction_no": d["transaction_no"],
             "payment_reference": d["payment_reference"], "order_ref": None, "named": None, "state": "unknown",
             "status": "refund", "amount": None, "currency": None, "refunds": [], "contradicted": False,
             "withheld": False, "renewal": False, "created_at": self.clock, "captured_at": 0, "assigned": None}
        self.transactions.append(t)
        self.spoken = t
        return t

    def learn(self, t, d):
        """It gets the name that it lacked, unless that is another's."""
        if self.linked(d, t):
            return
        if not t["transaction_no"] and not self.with_number(d["transaction_no"]):
            t["transaction_no"] = d["transaction_no"]
        if not t["payment_reference"] and d["payment_reference"]:
            t["payment_reference"] = d["payment_reference"]

    def name(self, t, order_ref):
        self.serial += 1
        t.update(order_ref=order_ref, named=self.serial)
        for d in self.deliveries.values():  # the one that named none waits no longer
            if d["transaction"] == t["number"] and d["reason"] == "no_order_key":
                d["attention"] = False

    # ------------------------------------------------------------ rows 3 to 26

    def apply(self, d):
        """Returns outcome, reason, the order that the answer names, and the row."""
        named = d["order_ref"]
        if self.is_test(d):  # row 3
            self.spoken = self.with_number(d["transaction_no"])
            if not self.spoken:
                t = self.create({**d, "payment_reference": None})
                t.update(state="test", status=d["status"], withheld=True)
                if d["status"] != "refund":
                    t.update(amount=d["amount"], currency=d["currency"])
            return "review", "test_transaction", None if d["status"] == "refund" else named, 3
        t = self.spoken = self.find(d)
        if d["status"] == "refund":
            return self.apply_refund(t, d)
        if self.linked(d, t):  # row 19
            return self.withhold(t, d, "one_or_two")
        if t and t["order_ref"] and named and named != t["order_ref"]:  # row 4
            if not self.conflict(d, t):
                self.learn(t, d)
            if d["status"] == "success" and t["state"] == "failed":
                t.update(order_ref=None, named=None, withheld=True)
                self.capture(t, d)
                self.event("order.review", None, "other_order", t)
            return "review", "other_order", named, 4
        conflict = self.conflict(d, t)
        before = t["order_ref"] if t else None
        order_ref = before or (None if t and t["withheld"] else named)
        whole_before = t is not None and self.gone(t)
        same = t is not None and t["state"] != "unknown" and (t["status"], t["amount"], t["currency"]) == (
            d["status"], d["amount"], d["currency"])
        counts = (t is not None and t["state"] in ("failed", "unknown") and d["status"] == "success"
                  and self.policy["verify"] == "off"
                  and self.gone({**t, "state": "captured", "amount": d["amount"], "currency": d["currency"]}))
        if whole_before and not (d["status"] == "success" and not same) or counts:  # row 24
            fresh = not whole_before
            if fresh:
                self.capture(t, d)
            if not conflict:
                self.learn(t, d)
            if order_ref and not before:
                self.name(t, order_ref)
            self.bring_in_line(order_ref, [t] if fresh else [])
            return "review" if fresh else "recorded", "refunded_before", named or order_ref, 24
        if same:  # row 5
            if not conflict:
                self.learn(t, d)
            if not before and named and not t["withheld"] and not conflict:
                self.name(t, named)
                return self.move(t, d)
            if before:
                self.look_at_paybacks(before)
            return "duplicate", None, named or before, 5
        if conflict:  # row 19
            return self.withhold(t, d, conflict)
        if t and t["status"] == "success":  # rows 6 and 7
            self.learn(t, d)
            t["contradicted"] = True
            if d["status"] == "success":
                self.look_at_paybacks(before)
                return "review", "amount_contradiction", named or before, 6
            self.bring_in_line(before, contradicted=t)
            return "review", "status_contradiction", named or before, 7
        t = t or self.create(d)
        self.learn(t, d)
        self.become(t, d)
        if order_ref and not before:
            self.name(t, order_ref)
        return self.move(t, d, named)

    def withhold(self, t, d, conflict):
        """Row 19: what is new is kept without order; a success of a known failed one is captured and loses its order."""
        before = t["order_ref"] if t else None
        if conflict == "one_or_two":  # all that it may speak of is to check
            of_reference = self.with_reference(d["payment_reference"])[0]
            t["contradicted"] = of_reference["contradicted"] = True
        if t is None:
            t = self.create(d)
            self.become(t, d)
            t["withheld"] = True
        elif t["status"] != "success" and d["status"] == "success":
            t.update(order_ref=None, named=None, withheld=True)
            self.become(t, d)
        if conflict == "one_or_two":
            for ref in sorted({o["order_ref"] for o in (t, of_reference) if o["order_ref"]}):
                self.bring_in_line(ref)
        return "review", conflict, d["order_ref"] or before, 19

    def become(self, t, d):
        if d["status"] == "success":
            self.capture(t, d)
        else:
            t.update(status="failed", state="failed", **{k: d[k] for k in ("amount", "currency") if d[k] is not None})

    def capture(self, t, d):
        t.update(status="success", state="captured" if self.policy["verify"] == "off" else "verifying",
                 amount=d["amount"], currency=d["currency"], captured_at=self.clock)

    def apply_refund(self, t, d):
        t = t or self.create(d)
        if not self.conflict({**d, "order_ref": None}, t):
            self.learn(t, d)
        before = self.refunded(t)
        r = {"amount": d["amount"], "currency": d["currency"], "order_named": d["order_ref"],
             "payment_reference": d["payment_reference"], "believed": self.policy["verify"] == "off", "person": False,
             "by": "delivery"}
        said = self.said(t)
        t["refunds"].append(r)
        if t["state"] != "captured":
            self.doubt_spread(r)
            return "review", "refund_unknown", t["order_ref"], 23
        self.bring_in_line(t["order_ref"], [t] if self.grown(t, before) else [])
        if said and (t["amount"] if r["amount"] is None else r["amount"]) > said["amount"]:
            return "review", "refund_differs", t["order_ref"], 22
        if whole(t, r):
            return "recorded", "refunded", t["order_ref"], 20
        if part(t, r):
            return "recorded", "refunded_in_part", t["order_ref"], 21
        return "review", "refund_differs", t["order_ref"], 22

    def move(self, t, d, named=None):
        """Rows 8 to 18, 25, 26: what a transaction, new or just named, does to its order."""
        ref = t["order_ref"]
        order = self.orders.get(ref)
        state = order["state"] if order else None
        if t["status"] == "failed":
            if ref is None:
                return "recorded", None, named, 8
            if state in (None, "pending"):  # row 10
                waits = self.policy["cancel_after"] or self.policy["verify"] == "callback"
                self.set(t, "pending" if waits else "cancelled", None, said=d)
                order = self.orders[ref]
                if waits:
                    at = self.clock + self.policy["cancel_after"]
                    order["cancel_at"] = max(order["cancel_at"] or at, at)
                else:
                    self.event("order.cancel", ref, None, t)
                return "recorded", None, ref, 10
            if state == "paid" and self.recurring(ref):
                self.event("order.review", ref, "renewal_failed", t)
                return "recorded", "renewal_failed", ref, 11
            return "recorded", None, ref, 11
        if ref is None:
            self.event("order.review", None, "no_order_key", t)
            return "review", "no_order_key", named, 9
        # nothing moves before the provider's word, nor by what the provider denied
        asked = {"verifying": "verifying", "denied": "not_captured"}.get(t["state"])
        if state == "cancelled" and order["decided"]:
            if asked:
                return "review", asked, ref, 16
            self.bring_in_line(ref, too_late=t)
            return "review", "order_closed", ref, 16
        if state == "paid":
            if self.recurring(ref) and order["transaction"] != t["number"] and not any(
                    self.within_gap(o, t) for o in self.captured(ref) if o is not t):
                t["renewal"] = True
                doubt = self.refund_in_doubt(t) or bool(self.refunded(t))
                if asked:
                    return "review" if doubt else "recorded", "refund_known" if doubt else asked, ref, 26
                if doubt:
                    self.event("order.review", ref, "refund_known", t)
                    self.bring_in_line(ref)
                    return "review", "refund_known", ref, 26
                self.event("order.success", ref, "renewal", t)
                self.bring_in_line(ref)
                return "recorded", "renewal", ref, 26
            if asked:
                return "recorded", asked, ref, 17
            self.bring_in_line(ref)
            return "recorded", "double_payment", ref, 17
        if state in ("review", "verifying"):
            self.bring_in_line(ref, now=t)
            return "review", "order_in_" + state if state == "review" else "order_verifying", ref, 18
        if state == "refunded":
            if asked:
                return "review", asked, ref, 25
            self.set(t, "review", "paid_after_refund")
            self.event("order.review", ref, "paid_after_refund", t)
            self.bring_in_line(ref)
            return "review", "paid_after_refund", ref, 25
        late = state == "cancelled"
        registered = order is not None and order["registered"]
        rule = 15 if late else 12 if not registered else 14 if difference(order, t) else 13
        if t["state"] == "denied":
            doubt = "not_captured"
        elif late and self.policy["late_success"] == "review":
            doubt = "late_success"
        elif registered:
            doubt = difference(order, t)
        else:
            doubt = "unknown_order" if self.policy["unknown_orders"] == "review" else None
        if not doubt and (self.refund_in_doubt(t) or self.refunded(t)):  # a part of it went back, or may have
            doubt = "refund_known"
        if not doubt and asked:
            self.set(t, "verifying", "verifying", late)
            return "recorded", "verifying", ref, rule
        self.set(t, "review" if doubt else "paid", doubt or ("late" if late else None), late)
        self.event("order.review" if doubt else "order.success", ref, doubt or ("late" if late else None), t)
        self.bring_in_line(ref)
        return "review" if doubt else "recorded", doubt or ("late" if late else None), ref, rule

    def within_gap(self, one, other):
        """Perhaps one payment said twice: of each, the first word and the capture count, however late it got its order."""
        return any(abs(a - b) < self.policy["renewal_gap"]
                   for a in (one["created_at"], one["captured_at"]) for b in (other["created_at"], other["captured_at"]))

    def set(self, t, state, reason, late=False, said=None):
        order = self.orders.setdefault(t["order_ref"], {
            "registered": False, "decided": False, "amount": None, "currency": None, "cancel_at": None, "state": None,
            "transaction": None, "late": False})
        if not order["registered"] and order["state"] in (None, "pending", "cancelled"):
            order.update({k: (said or t)[k] for k in ("amount", "currency") if (said or t)[k] is not None})
        order.update(state=state, reason=reason, late=late, transaction=t["number"], cancel_at=order["cancel_at"])
        if state != "pending":
            order["cancel_at"] = None

    # ------------------------------------------------------------ time

    def wait(self, clock):
        """It is so late, and what is due is cancelled."""
        self.clock = max(self.clock, clock)
        self.cancel_due()

    def cancel_due(self):
        due = [ref for ref, o in self.orders.items()
               if o["state"] == "pending" and o["cancel_at"] is not None and o["cancel_at"] <= self.clock]
        for ref in sorted(due, key=lambda ref: self.orders[ref]["cancel_at"]):
            order = self.orders[ref]
            if (self.policy["verify"] == "callback"  # only after the provider's list was read, which no story does
                    or self.broken or any((d["reason"] == "hook_failed" or d["rule"] in (4, 19)) and d["attention"] and d["order_ref"] == ref
                                      for d in self.deliveries.values())):
                continue
            self.touch(ref)
            t = None if order["transaction"] is None else self.transactions[order["transaction"]]
            order.update(state="cancelled", reason=None if t else "expired", cancel_at=None)
            self.event("order.cancel", ref, "failed" if t else "expired", t)

    # ------------------------------------------------------------ the provider's word

    def verify(self, number, status, amount, currency, order_ref, refunded=None):
        """What the worker was told of a transaction; status None: it cannot be asked."""
        t = self.transactions[number]
        order = self.orders.get(t["order_ref"])
        captured = status in ("success", "refund")
        if t["state"] == "failed" and status is not None and not captured and status not in ("failed", "error", "expired"):
            return
        doubt = self.contradicts(t, status, amount, currency, order_ref)
        if doubt and t["state"] == "verifying":
            t["state"] = "denied"
            if not self.hand_over(t) and order and order["state"] == "verifying" and order["transaction"] == number:
                order.update(state="review", reason=doubt)
                self.event("order.review", t["order_ref"], doubt, t)
            self.bring_in_line(t["order_ref"])
        elif doubt:  # captured, but for whom? As row 4: without an order
            waited = order is not None and order["state"] == "pending"
            self.event("order.review", t["order_ref"] if waited else None, doubt, t)
            if waited:
                order.update(state="review", reason=doubt, cancel_at=None)
            named = t["order_ref"]
            t.update(order_ref=None, named=None, withheld=True, state="captured", status="success", amount=amount, currency=currency,
                     captured_at=self.clock)
            self.provider_says(t, status, refunded, currency)
            self.wait_for_order(t, doubt)
            self.touch(named)
            return
        elif t["state"] in ("verifying", "failed") and captured:
            failed = t["state"] == "failed"
            if failed:
                t.update(amount=amount, currency=currency)
            t.update(state="captured", status="success", captured_at=self.clock)
            self.provider_says(t, status, refunded, currency)
            if self.gone(t):
                self.hand_over(t)
            if t["order_ref"] and (self.gone(t)):
                self.bring_in_line(t["order_ref"], now=t)
            elif t["order_ref"]:
                self.move(t, t)
            elif failed and self.left(t):  # as row 9
                self.event("order.review", None, "no_order_key", t)
                self.wait_for_order(t, "no_order_key")
        elif t["state"] in ("captured", "unknown") and (status == "refund" or captured and (
                refunded or any(not r["believed"] and r["by"] == "delivery" for r in t["refunds"]))):
            before = self.refunded(t)
            self.provider_says(t, status, refunded, currency)
            self.bring_in_line(t["order_ref"], [t] if self.grown(t, before) else [], now=t)
            if any(not r["believed"] and r["by"] == "delivery" for r in t["refunds"]):
                return  # asked for again
        else:
            return
        self.touch(t["order_ref"])

    def wait_for_order(self, t, reason):
        """The delivery that brought it waits for a person to give it one."""
        first = next((d for d in self.deliveries.values() if d["transaction"] == t["number"]), None)
        if first:
            first.update(attention=True, reason=first["reason"] or reason)

    def contradicts(self, t, status, amount, currency, order_ref):
        """In what the provider's word differs from a webhook's; None: in nothing."""
        captured = status in ("success", "refund")
        if t["state"] == "verifying" and not captured:
            return "unverifiable" if status is None else "not_captured"
        if t["state"] not in ("verifying", "failed") or not captured:
            return None
        if t["order_ref"] and order_ref not in (None, t["order_ref"]):
            return "order_differs"
        return difference(t, {"amount": amount, "currency": currency}) if t["state"] == "verifying" else None

    def hand_over(self, t):
        """It cannot pay the order that waits for it: the next success that waits takes its place."""
        order = self.orders.get(t["order_ref"])
        waiting = next((o for o in self.transactions if t["order_ref"] and o["order_ref"] == t["order_ref"] and o["state"] == "verifying"), None)
        if waiting and order["state"] == "verifying" and order["transaction"] == t["number"]:
            order["transaction"] = waiting["number"]
            if not order["registered"]:
                order.update(amount=waiting["amount"], currency=waiting["currency"])
        return waiting is not None

    def provider_says(self, t, status, refunded, currency):
        """What the provider's word says of refunds: more than it says is not believed, and its own amount does not say how much."""
        if status == "refund":
            for r in t["refunds"]:
                amount = t["amount"] if r["amount"] is None else r["amount"]
                if r["by"] == "delivery" and (refunded is None or amount is not None and amount <= refunded and r["currency"] in (None, currency)):
                    r["believed"] = True
        new = {"amount": refunded, "currency": currency, "order_named": None, "payment_reference": None, "believed": True, "person": False,
               "by": "provider"}
        if refunded or refunded == 0 and status == "refund":
            if not any(r["believed"] and (t["amount"] if r["amount"] is None else r["amount"]) == refunded
                       and r["currency"] in (None, currency) for r in t["refunds"]):
                t["refunds"].append(new)
        elif status == "refund" and not t["refunds"]:
            t["refunds"].append({**new, "amount": t["amount"], "currency": t["currency"], "believed": False})

    # ------------------------------------------------------------ what persons do

    def register_order(self, order_ref, amount, currency, cancel_at=None):
        if not self.known:
            raise Refused("unknown merchant")
        order = self.orders.get(order_ref)
        expected = {"amount": amount, "currency": currency}
        if cancel_at is None and self.policy["expire_after"] is not None:
            cancel_at = self.clock + self.policy["expire_after"]
        if order is None:
            self.orders[order_ref] = {"state": "pending", "reason": None, "late": False, "transaction": None, "registered": True,
                                      "decided": False, "cancel_at": cancel_at, **expected}
            self.touch(order_ref)
            return
        if order["registered"] and not difference(order, expected):
            return
        if order["state"] == "pending" and not any(t["order_ref"] == order_ref and t["state"] in ("captured", "verifying")
                                                   for t in self.transactions):
            self.touch(order_ref)
            order.update(expected, registered=True, cancel_at=max((a for a in (order["cancel_at"], cancel_at) if a is not None), default=None))
            return
        if order["registered"]:
            raise Refused("the expected amount is fixed")
        self.touch(order_ref)
        order.update(expected, registered=True)
        if order["state"] not in ("paid", "review", "verifying") or order["transaction"] is None:
            return
        t = self.transactions[order["transaction"]]
        if order["state"] == "review":
            t = self.payer(order_ref, t) or t
        if t["state"] not in ("captured", "verifying"):  # it pays nothing
            self.bring_in_line(order_ref)
            return
        doubt = difference(expected, t)
        order["transaction"] = t["number"]
        if doubt:
            self.decided(order_ref)
            order.update(state="review", reason=doubt)
            self.event("order.review", order_ref, doubt, t)
        elif order["state"] == "review" and order["reason"] == "unknown_order" and self.may_pay(t):
            self.decided(order_ref)
            order.update(state="paid", reason="late" if order["late"] else None)
            self.event("order.success", order_ref, None, t)
            if self.refunded(t):  # a part of what pays it now
                self.event("order.refund", order_ref, "refunded_in_part", t)
        elif order["state"] == "review" and order["reason"] == "unknown_order" and t["state"] == "verifying":
            self.decided(order_ref)
            order.update(state="verifying", reason="verifying")
        self.bring_in_line(order_ref)

    def resolve_order(self, order_ref, state, without_transaction=False):
        order = self.orders.get(order_ref)
        if order is None:
            raise Refused("no such order")
        if state not in ("paid", "cancelled"):
            raise Refused("a person decides paid or cancelled")
        before = order["state"]
        now = None if order["transaction"] is None else self.transactions[order["transaction"]]
        stands_by_it = state == "paid" and without_transaction and now and now["state"] == "denied"
        if before == state and (state == "paid" or order["decided"]) and not stands_by_it:
            return
        payer = None if without_transaction else self.payer(order_ref, now)
        if not payer and now and now["state"] == "verifying" and not without_transaction:
            payer = now  # a person may believe it before the provider was asked
        if state == "paid" and not payer and not without_transaction:
            raise Refused("no transaction pays it")
        self.touch(order_ref)
        self.decided(order_ref)
        order.update(state=state, reason=None, cancel_at=None)
        if state == "paid":
            order["transaction"] = payer["number"] if payer else None
            if before != "paid":
                self.event("order.success", order_ref, "resolved", payer)
        elif before != "cancelled":
            self.event("order.cancel", order_ref, "resolved", now)
        self.bring_in_line(order_ref)

    def decided(self, order_ref):
        """A person decided the order: what was said before of its paybacks is asked anew."""
        self.orders[order_ref]["decided"] = True
        for p in self.paybacks:
            if p["order_ref"] == order_ref:
                p["answers"] = False

    def assign_transaction(self, number, order_ref, create_order=False):
        t = self.transactions[number]
        if t["order_ref"] or t["state"] == "test" or t["state"] == "unknown":
            raise Refused("it has an order, or cannot have one")
        if order_ref not in self.orders and not create_order:
            raise Refused("no such order")
        before = self.orders[order_ref]["state"] if order_ref in self.orders else None
        self.name(t, order_ref)
        t["withheld"] = False
        if self.gone(t):
            self.bring_in_line(order_ref)
        else:
            self.move(t, t)
        for d in self.deliveries.values():
            if d["transaction"] == number and (d["rule"] in (4, 9, 19) or d["reason"] in ("no_order_key", "order_differs")):
                d["attention"] = False
        self.touch(order_ref)
        t["assigned"] = {"at": self.serial, "before": before}

    def unassign_transaction(self, number):
        """It is taken back: the order has it no more, and it waits for a person again."""
        t = self.transactions[number]
        ref, was = t["order_ref"], t["assigned"]
        if ref is None or was is None or self.touched[ref] > was["at"]:
            raise Refused("no person assigned it, or the order has moved on")
        order = self.orders.get(ref)
        p = self.open_payback(t)
        if p:
            p.update(state="settled", reason="withdrawn")
        period = t["renewal"]
        t.update(order_ref=None, named=None, withheld=True, assigned=None, renewal=False)
        if order and order["transaction"] == number and order["state"] != "cancelled":
            left = any(self.may_pay(o) for o in self.captured(ref))
            back = was["before"] if was["before"] in ("cancelled", "refunded") and not left else None
            if back == "cancelled":  # by a failure, and not by a person
                order.update(decided=False, late=False)
            else:
                self.decided(ref)
            order.update(state=back or "review", reason=None if back else "unassigned",
                         transaction=min((o["number"] for o in self.transactions if o["order_ref"] == ref), default=None))
            if back != "refunded":  # it is so again, and the shop was told
                self.event("order.cancel" if back else "order.review", ref, "unassigned", t)
        elif order and order["transaction"] == number:  # its failure cancelled it, and the shop was told
            order["transaction"] = min((o["number"] for o in self.transactions if o["order_ref"] == ref), default=None)
        elif period:  # the shop was told of it
            self.event("order.review", ref, "unassigned", t)
        self.bring_in_line(ref)
        for d in self.deliveries.values():
            if d["transaction"] == number and (d["rule"] in (4, 9, 19) or d["reason"] in ("no_order_key", "order_differs")):
                d["attention"] = True
        self.touch(ref)

    def settle_payback(self, number):
        p = self.paybacks[number]
        if p["state"] == "settled":
            raise Refused("done before")
        t = self.transactions[p["transaction"]]
        before = self.refunded(t)
        p.update(state="settled", by_person=True)
        self.touch(p["order_ref"])
        if t["state"] == "captured":
            self.person_says(t, t["amount"])
            self.bring_in_line(t["order_ref"], [t] if self.refunded(t) > (before or 0) else [])

    def withdraw_payback(self, number):
        p = self.paybacks[number]
        if p["state"] == "settled":
            raise Refused("done before")
        p.update(state="settled", reason="withdrawn", by_person=True, answers=True)
        self.touch(p["order_ref"])

    def reopen_payback(self, number):
        p = self.paybacks[number]
        t = self.transactions[p["transaction"]]
        if p["state"] != "settled" or not p["by_person"] or self.open_payback(t):
            raise Refused("not a person's act")
        said = self.said(t) if p["reason"] != "withdrawn" else None
        place = t["refunds"].index(said) if said else None
        if said:
            t["refunds"].pop(place)
        if not self.left(t):
            if said:
                t["refunds"].insert(place, said)
            raise Refused("nothing is left")
        if p["reason"] == "withdrawn":
            p["reason"] = "double_payment"
        p.update(state="check", by_person=False, amount=self.left(t))
        self.touch(p["order_ref"])
        self.event("payback.check", p["order_ref"], p["reason"], t, p)
        self.bring_in_line(t["order_ref"])

    def record_refund(self, number, amount):
        t = self.transactions[number]
        if t["state"] != "captured" or amount > t["amount"]:
            raise Refused("it has captured less")
        before = self.refunded(t)
        self.person_says(t, amount)
        self.touch(t["order_ref"])
        self.bring_in_line(t["order_ref"], [t] if amount > (before or 0) else [])

    def person_says(self, t, amount):
        t["refunds"].append({"amount": amount, "currency": t["currency"], "order_named": None, "payment_reference": None,
                             "believed": True, "person": True, "by": "person"})
        for d in self.deliveries.values():  # those that asked how much went back wait no longer
            if d["transaction"] == t["number"] and d["reason"] in ("refund_differs", "refund_unknown"):
                d["attention"] = False


# ---------------------------------------------------------------- small words


def whole(t, r):
    """Plainly all: no amount, or the captured sum in its currency."""
    return r["amount"] is None or (r["amount"], r["currency"]) == (t["amount"], t["currency"])


def part(t, r):
    return r["amount"] is not None and r["currency"] == t["currency"] and r["amount"] < t["amount"]


def difference(expected, t):
    if expected["currency"] != t["currency"]:
        return "currency_differs"
    if expected["amount"] != t["amount"]:
        return "amount_differs"
    return None
