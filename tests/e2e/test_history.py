# SPDX-License-Identifier: MIT
"""history.py, the judge of `make prove`, finds what cannot have been."""

import pytest

from prove.history import judge

FIRST, SECOND = "aa" * 16, "bb" * 16


def post(start, end, outcome="recorded", state="paid", digest=FIRST, ok=True, known=True, order="A"):
    return {"what": "post", "order": order, "digest": digest, "start": start, "end": end if known else None, "known": known, "ok": ok and known,
            **({"outcome": outcome, "state": state} if known else {})}


def act(what, start, end, ok=True, known=True, state="cancelled"):
    return {"what": what, "order": "A", "start": start, "end": end if known else None, "known": known, "ok": ok, "state": state}


PAID, CLOSED = ("paid", 1.5), ("cancelled", 3.5)


def said(calls, deliveries=None, decisions=None, changes=(PAID,)):
    return list(judge(calls, {FIRST: ("recorded", 0)} if deliveries is None else deliveries, decisions or {}, {"A": list(changes)}))


POSSIBLE = {
    "one": dict(calls=[post(1, 2)]),
    "a repeat": dict(calls=[post(1, 2), post(3, 4, "duplicate")], deliveries={FIRST: ("recorded", 1)}),
    "a repeat of one without an answer": dict(calls=[post(1, 2, known=False), post(3, 4, "duplicate")], deliveries={FIRST: ("recorded", 1)}),
    "both at once, the second was first": dict(calls=[post(1, 5, "duplicate"), post(2, 3)], deliveries={FIRST: ("recorded", 1)}),
    "refused and never recorded": dict(calls=[post(1, 2, ok=False)], deliveries={}, changes=()),
    "no answer, and recorded": dict(calls=[post(1, 2, known=False)]),
    "spooled": dict(calls=[post(1, 1.2, "spooled", None)]),
    "other bytes of the same": dict(calls=[post(1, 2), post(3, 4, "duplicate", digest=SECOND)],
                                    deliveries={FIRST: ("recorded", 0), SECOND: ("duplicate", 0)}),
    "closed by a person": dict(calls=[post(1, 2), act("resolve", 3, 4), post(5, 6, "duplicate", "cancelled")],
                               deliveries={FIRST: ("recorded", 1)}, decisions={("resolve", "A"): 1}, changes=(PAID, CLOSED)),
    "an act without an answer": dict(calls=[post(1, 2), act("resolve", 3, 4, known=False, ok=False)], decisions={("resolve", "A"): 1},
                                     changes=(PAID, CLOSED)),
    "read while it changes": dict(calls=[post(1, 2), act("resolve", 3, 6), post(3, 5, "duplicate", "paid")],
                                  deliveries={FIRST: ("recorded", 1)}, decisions={("resolve", "A"): 1}, changes=(PAID, CLOSED)),
}

IMPOSSIBLE = {
    "acknowledged and lost": dict(calls=[post(1, 2)], deliveries={}),
    "spooled and lost": dict(calls=[post(1, 2, "spooled", None)], deliveries={}, changes=()),
    "nobody sent it": dict(calls=[post(1, 2)], deliveries={FIRST: ("recorded", 0), SECOND: ("recorded", 0)}),
    "twice the first": dict(calls=[post(1, 2), post(3, 4)]),
    "another outcome": dict(calls=[post(1, 2, "review")]),
    "a duplicate of nothing": dict(calls=[post(1, 2, "duplicate")], deliveries={FIRST: ("recorded", 1)}),
    "a duplicate of what came later": dict(calls=[post(1, 2, "duplicate"), post(3, 4)], deliveries={FIRST: ("recorded", 1)}),
    "a repeat that was not counted": dict(calls=[post(1, 2), post(3, 4, "duplicate")]),
    "an act that is not in the history": dict(calls=[post(1, 2), act("resolve", 3, 4)], changes=(PAID, CLOSED)),
    "a refused act that is": dict(calls=[post(1, 2), act("resolve", 3, 4, ok=False)], decisions={("resolve", "A"): 1}),
    "an act twice": dict(calls=[post(1, 2), act("resolve", 3, 4)], decisions={("resolve", "A"): 2}, changes=(PAID, CLOSED)),
    "a state that it never had": dict(calls=[post(1, 2, state="review")]),
    "a state that it had no more": dict(calls=[post(1, 2), act("resolve", 3, 4), post(5, 6, "duplicate", "paid")],
                                        deliveries={FIRST: ("recorded", 1)}, decisions={("resolve", "A"): 1}, changes=(PAID, CLOSED)),
    "a state that it did not have yet": dict(calls=[post(1, 1.2)]),
}


@pytest.mark.parametrize("story", POSSIBLE)
def test_what_may_have_been(story):
    assert said(**POSSIBLE[story]) == []


@pytest.mark.parametrize("story", IMPOSSIBLE)
def test_what_cannot_have_been(story):
    assert len(said(**IMPOSSIBLE[story])) == 1
