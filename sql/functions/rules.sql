-- SPDX-License-Identifier: MIT
-- The order rules as data: one row each. decide() finds the number of the first that matches and
-- takes its effects from effects(), so numbers have no gaps; explain, the README's table and foloosi-sql(7) are made of the same rows.
--
--   place        order in which the rules are tried; the first that matches decides
--   number       deliveries.rule
--   sentence     "a delivery that …"
--   does         what happens, for the reader
--   outcome      of the delivery, and its reason, where nothing in the row's effects says otherwise
--   transaction  keep: insert it, or update it with what is new; insert: only if it is unknown; learn: only a
--                number or reference that it lacks; null: nothing
--   orders       cancel, pay, review, renew: what the order is to become; null: it is not moved here
--   payback      the reason for a payback
--   event        emitted whatever becomes of the order
--   attention    the delivery waits for a person by itself

create or replace view foloosi.rules as
    select place::int, number::smallint, sentence::text, does::text, outcome::text, reason::text, transaction::text, orders::text,
           payback::text, event::text, attention::boolean
    from (values
    (1, 1, 'repeats the bytes of one that was recorded, duplicate or review', 'the repeat is counted', 'duplicate', null, null, null, null, null, false),
    (2, 2, 'has another status than success, failed or refund', 'kept, never pays', 'ignored', 'status', null, null, null, null, false),
    (3, 3, 'has a number that begins with TEST, and the merchant is live', 'a transaction of its own, never captured, without order', 'review', 'test_transaction', 'insert', null, null, null, true),
    (4, 20, 'is a refund, plainly of all', 'the money went back', 'recorded', 'refunded', 'learn', null, null, null, false),
    (5, 21, 'is a refund of less, in the currency of the payment', 'that much went back', 'recorded', 'refunded_in_part', 'learn', null, null, null, false),
    (6, 22, 'is a refund of more, or in another currency', 'kept; paybacks become check', 'review', 'refund_differs', 'learn', null, null, null, true),
    (7, 23, 'is a refund of what is unknown or has captured nothing', 'kept, also for later; no order is created or moved', 'review', 'refund_unknown', 'learn', null, null, null, true),
    (8, 4, 'names another order than its known transaction has', 'neither order moves; money that becomes known is kept without order', 'review', 'other_order', 'learn', null, null, null, true),
    (9, 24, 'speaks of a wholly refunded transaction', 'what was missing is learned; no order is created or moved', 'recorded', 'refunded_before', 'keep', null, null, null, true),
    (10, 5, 'says of a known transaction what is already known, in other bytes', 'nothing', 'duplicate', null, 'learn', null, null, null, false),
    (11, 19, 'has the payment reference of another number, and they are not two attempts', 'a new transaction is kept without order', 'review', 'reference_conflict', 'insert', null, null, null, true),
    (12, 6, 'says success of a known success, with another amount or currency', 'nothing moves; paybacks become check', 'review', 'amount_contradiction', 'learn', null, null, null, true),
    (13, 7, 'says failed of a known success', 'nothing moves; a payback to check', 'review', 'status_contradiction', 'learn', null, 'status_contradiction', null, false),
    (14, 8, 'is a failure without an order key', 'transaction kept', 'recorded', null, 'keep', null, null, null, false),
    (15, 9, 'is a success without an order key', 'transaction kept', 'review', 'no_order_key', 'keep', null, null, 'order.review', true),
    (16, 10, 'is a failure, and its order is unknown or pending', 'cancelled, at once or later', 'recorded', null, 'keep', 'cancel', null, null, false),
    (17, 11, 'is a failure, and its order is in another state', 'transaction kept', 'recorded', null, 'keep', null, null, null, false),
    (18, 12, 'is a success, and its order is unknown, or pending without having been registered', 'paid, or review by unknown_orders', 'recorded', null, 'keep', 'pay', null, null, false),
    (19, 13, 'is a success, its order pending, amount and currency as expected', 'paid', 'recorded', null, 'keep', 'pay', null, null, false),
    (20, 14, 'is a success, its order pending, amount or currency differs', 'review', 'review', null, 'keep', 'pay', null, null, false),
    (21, 15, 'is a success, its order cancelled by a failure or by time', 'as 12 to 14, marked late, or review by late_success', 'recorded', 'late', 'keep', 'pay', null, null, false),
    (22, 16, 'is a success, its order cancelled by a person', 'a payback', 'review', 'order_closed', 'keep', null, 'order_closed', null, false),
    (23, 26, 'is a success, its order paid and recurring, and this is no repeat within renewal_gap', 'stays paid; a further period', 'recorded', 'renewal', 'keep', 'renew', null, null, false),
    (24, 17, 'is a success, its order paid', 'a payback', 'recorded', 'double_payment', 'keep', null, 'double_payment', null, false),
    (25, 18, 'is a success, its order in review or verifying', 'transaction kept until the order is decided', 'review', null, 'keep', null, null, null, false),
    (26, 25, 'is a success, its order refunded', 'review', 'review', 'paid_after_refund', 'keep', 'review', null, null, false)
    ) as r (place, number, sentence, does, outcome, reason, transaction, orders, payback, event, attention);
comment on view foloosi.rules is 'The order rules, in the order in which they are tried: a delivery is decided by the first that matches.';
comment on column foloosi.rules.place is 'When it is tried, from 1.';
comment on column foloosi.rules.number is 'Its number, as in deliveries.rule.';
comment on column foloosi.rules.sentence is 'A delivery that …';
comment on column foloosi.rules.does is 'What happens then.';
comment on column foloosi.rules.outcome is 'What becomes of the delivery; of 12, 13 and 15 review where the order is.';
comment on column foloosi.rules.reason is 'Why, in one word; null: nothing to add, or the order''s.';
comment on column foloosi.rules.transaction is 'keep: inserted or updated; insert: only if unknown; learn: only a missing number or reference; null: not written.';
comment on column foloosi.rules.orders is 'cancel, pay, review or renew; null: the order is not moved by this row.';
comment on column foloosi.rules.payback is 'The reason for a payback; null: none.';
comment on column foloosi.rules.event is 'An event that is emitted whatever becomes of the order; null: none.';
comment on column foloosi.rules.attention is 'The delivery waits for a person by itself.';

-- decide() reads the effects of a row by its number, one array for each effect. "immutable" makes them constants of its plan;
-- they change only with this file, and then decide() is made anew, too.
create or replace function foloosi.effects() returns foloosi.effects
language sql immutable parallel safe
as $$
    select array_agg(outcome order by number), array_agg(reason order by number), array_agg(transaction order by number),
           array_agg(orders order by number), array_agg(payback order by number), array_agg(event order by number),
           array_agg(attention order by number)
    from foloosi.rules
$$;
comment on function foloosi.effects() is 'The effects in foloosi.rules, each an array whose subscript is the rule''s number. Calls: rules (read).';
