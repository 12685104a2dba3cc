-- SPDX-License-Identifier: MIT
-- Every change of an order with its cause. A view and not a table: the deliveries and the
-- decisions already say what they changed, and a third copy would cost each payment a row.
create or replace view foloosi.order_history as
    select d.merchant, d.order_ref, d.created_at, d.order_state_before as state_before, d.order_state as state,
           'delivery' as cause, d.id as cause_id, d.transaction_id, d.rule, d.reason, null::text as decided_by, null::text as note,
           coalesce(d.last_seen_at, d.created_at) as seen_at, d.id
    from foloosi.deliveries d where d.order_moved
    union all
    select c.merchant, c.order_ref, c.created_at, c.order_state_before, c.order_state,
           c.action, c.subject_id, null, null, null, c.decided_by, c.note, c.created_at, c.id
    from foloosi.decisions c where c.order_ref is not null;
comment on view foloosi.order_history is 'Every change of an order with its cause, and every act that concerns it: order by id.';
comment on column foloosi.order_history.merchant is 'Whose order.';
comment on column foloosi.order_history.order_ref is 'Which order.';
comment on column foloosi.order_history.created_at is 'When.';
comment on column foloosi.order_history.state_before is 'State before; null: it was created, or did not move.';
comment on column foloosi.order_history.state is 'State after.';
comment on column foloosi.order_history.cause is 'delivery; the act of a person: register, resolve, assign, unassign, settle, withdraw, reopen, refund, dismiss; verify: the provider''s word; cancel: time; migrate: an upgrade.';
comment on column foloosi.order_history.cause_id is 'Number of the delivery, or of what the act was about.';
comment on column foloosi.order_history.transaction_id is 'The transaction of the delivery.';
comment on column foloosi.order_history.rule is 'The row of the order rules that decided.';
comment on column foloosi.order_history.reason is 'Why, in one word.';
comment on column foloosi.order_history.decided_by is 'Database role of the person, or of the program; null: a delivery.';
comment on column foloosi.order_history.note is 'What the person wrote, or the provider said.';
comment on column foloosi.order_history.seen_at is 'When the cause was last seen: a delivery may have been repeated.';
comment on column foloosi.order_history.id is 'Ascending in time.';
