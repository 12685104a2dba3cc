#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Was each answer possible? Decided from what the clients saw and from the tables at the end, by no rule of what pays an order.

    history.py LOG CONNINFO

LOG has one JSON object a line for each call of a client: of a POST (what: post) or of a person (what: register, resolve, refund).

    start, end   when it began and ended, in seconds since 1970; end null: it never did
    order        the order's key; of a POST that was answered, as the answer has it
    digest       post: of the body, the first 16 bytes in hexadecimal
    known        the answer is known; a connection that broke leaves it open whether the call had an effect
    ok           it was answered 200, or the act was done
    outcome      post: what the answer says
    state        of the order, as the answer says; null: there was none

The rules:
  1. What was answered recorded, duplicate, review or spooled is in the tables; what is in the tables, somebody sent.
  2. One call at most was answered as the first of its bytes, and that is what the table says of them. Another is a
     duplicate, and only if the first can have come before.
  3. A person's act that was done is in the history once; one that was refused is not.
  4. The state in an answer is one that the order had between start and end of the call: at a place in its history not
     before one that a call saw which ended earlier, nor after one that was not begun.
"""
import collections
import json
import sys

import psycopg

FIRST = ("recorded", "review", "ignored", "rejected")


def of_states(changes):
    """The states of an order one after the other, each with the time at which its cause began; first that it is not there."""
    states = [(None, float("-inf"))]
    for state, at in changes:
        if state is not None and state != states[-1][0]:
            states.append((state, at))
    return states


def judge_deliveries(calls, deliveries):
    """Rules 1 and 2. deliveries: {digest: (outcome, repeats)}"""
    by_digest = collections.defaultdict(list)
    for c in calls:
        if c["what"] == "post":
            by_digest[c["digest"]].append(c)
    for digest in deliveries.keys() - by_digest.keys():
        yield f"delivery {digest} is in the tables, and nobody sent it"
    for digest, sent in by_digest.items():
        acknowledged = [c for c in sent if c["ok"]]
        if digest not in deliveries:
            if acknowledged:
                yield f"delivery {digest} was answered {acknowledged[0]['outcome']}, and is not in the tables"
            continue
        outcome, repeats = deliveries[digest]
        first = [c for c in acknowledged if c["outcome"] in FIRST]
        again = [c for c in acknowledged if c["outcome"] == "duplicate"]
        if len(first) > 1:
            yield f"delivery {digest} was answered {len(first)} times as the first of its bytes"
        # bytes of their own that say what is known already are a duplicate, too
        if first and first[0]["outcome"] != outcome:
            yield f"delivery {digest} was answered {first[0]['outcome']}, and is {outcome} in the tables"
        if len(again) > repeats + (outcome == "duplicate"):
            yield f"delivery {digest} was answered {len(again)} times as a duplicate, and {repeats} repeats were counted"
        for c in again:
            if outcome != "duplicate" and not any(other is not c and (other["end"] is None or other["start"] <= c["end"]) for other in sent):
                yield f"delivery {digest} was answered as a duplicate before anybody else sent it"


def judge_acts(calls, decisions):
    """Rule 3. decisions: {(what, order): how many}"""
    done, perhaps = collections.Counter(), collections.Counter()
    for c in calls:
        if c["what"] != "post":
            done[c["what"], c["order"]] += c["ok"]
            perhaps[c["what"], c["order"]] += not c["known"]
    for key in done.keys() | decisions.keys():
        if not done[key] <= decisions.get(key, 0) <= done[key] + perhaps[key]:
            yield f"{key[0]} of {key[1]}: {done[key]} were done, {perhaps[key]} are unknown, and {decisions.get(key, 0)} are in the history"


def judge_states(order, calls, changes):
    """Rule 4, for one order."""
    states = of_states(changes)
    seen = []  # (end, place) of calls that ended
    for c in sorted(calls, key=lambda c: c["start"]):
        if not c["ok"] or c.get("outcome") == "spooled":
            continue
        least = max((place for end, place in seen if end < c["start"]), default=0)
        place = next((n for n in range(least, len(states)) if states[n][0] == c["state"] and states[n][1] <= c["end"]), None)
        if place is None:
            yield (f"order {order}: {c['state']} was answered to a call of {c['start']:.3f} to {c['end']:.3f}, and its states were "
                   + ", ".join(f"{state} {at:.3f}" for state, at in states[1:]) + f"; a call that had ended saw number {least}")
        else:
            seen.append((c["end"], place))


def judge(calls, deliveries, decisions, changes):
    """All that is wrong, a sentence each. changes: {order: [(state, when its cause began)]}"""
    yield from judge_deliveries(calls, deliveries)
    yield from judge_acts(calls, decisions)
    by_order = collections.defaultdict(list)
    for c in calls:
        by_order[c["order"]].append(c)
    for order, of_it in by_order.items():
        if order is None:  # it named none
            continue
        yield from judge_states(order, of_it, changes.get(order, []))


def tables(connection):
    deliveries = {d: tuple(row) for d, *row in connection.execute("select encode(digest, 'hex'), outcome, repeats from foloosi.deliveries")}
    decisions = {(what, order): n for what, order, n in connection.execute(
        "select action, order_ref, count(*) from foloosi.decisions where action in ('register', 'resolve', 'refund') group by 1, 2")}
    changes = collections.defaultdict(list)
    for order, state, at in connection.execute(
            "select order_ref, state, extract(epoch from created_at)::float8 from foloosi.order_history order by id"):
        changes[order].append((state, at))
    return deliveries, decisions, changes


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        calls = [json.loads(line) for line in f]
    with psycopg.connect(sys.argv[2]) as connection:
        wrong = list(judge(calls, *tables(connection)))
    print("\n".join(f"impossible: {sentence}" for sentence in wrong[:10]), end="\n" if wrong else "")
    acts = sum(c["what"] != "post" for c in calls)
    print(f"history: {len(calls)} calls, {acts} of them by persons, {sum(not c['known'] for c in calls)} without an answer, {len(wrong)} impossible")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
