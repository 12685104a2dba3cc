-- SPDX-License-Identifier: MIT
-- Locks of orders and transactions, taken before anything is read.
--
-- A delivery needs its order, its transaction (by number and by reference, as either
-- may name it) or, with neither, its digest. A new order has no row that could be
-- locked, so the key itself is locked, with an advisory lock of this transaction;
-- rows that exist are locked as well, so that a session that holds one by hand
-- (SELECT ... FOR UPDATE) is respected. Both are tried, never waited for: what is
-- not free at once comes back busy. So no batch waits for a lock, none can
-- deadlock, and one stuck order stops no other.
--
-- Advisory locks live in the shared lock table: an element takes at most four, and
-- batches are capped at 256 elements.

create or replace function foloosi.lock_key(kind text, merchant text, key text) returns bigint
language sql immutable parallel safe
as $$ select hashtextextended(key collate "C", hashtextextended(merchant collate "C", hashtextextended(kind collate "C", 0))) $$;
comment on function foloosi.lock_key(text, text, text) is
'The advisory lock of a key. Parameters: kind (order, number, reference, digest, transaction), merchant, key. Null if any is null. Keys with equal hashes exclude each other needlessly, nothing worse.';

create or replace function foloosi.need_read_committed() returns void
language plpgsql set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'transaction isolation is %, and must be read committed: what is decided after a lock must see what the lock waited for',
            current_setting('transaction_isolation') using errcode = 'feature_not_supported',
            hint = 'Look at default_transaction_isolation of the role and the database.';
    end if;
end $$;
comment on function foloosi.need_read_committed() is 'Raise feature_not_supported in any other isolation: an older snapshot would decide on rows as they were before the lock.';

create or replace function foloosi.lock_order(p_merchant text, p_order_ref text) returns void
language plpgsql set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    perform foloosi.need_read_committed();
    perform pg_advisory_xact_lock(foloosi.lock_key('order', p_merchant, p_order_ref));
    perform 1 from foloosi.orders o where o.order_ref = p_order_ref and o.merchant = p_merchant for no key update;
end $$;
comment on function foloosi.lock_order(text, text) is
'Wait for the locks that a delivery of this order takes; for the functions that persons call. Calls: need_read_committed, lock_key. Tables: orders (locked).';

create or replace function foloosi.reference_owner(p_merchant text, p_reference text)
returns table (id bigint, transaction_no varchar, order_ref varchar, captured boolean)
language sql stable
as $$
    select t.id, t.transaction_no, t.order_ref, t.state in ('captured', 'verifying')
    from (select foloosi.reference_key(p_reference, p_merchant, true, 0) as first) h
    cross join lateral (
        select x.id, x.transaction_no, x.order_ref, x.state
        from foloosi.transactions x
        where foloosi.reference_key(x.payment_reference, x.merchant, x.state = 'captured', x.id) >= h.first
          and foloosi.reference_key(x.payment_reference, x.merchant, x.state = 'captured', x.id) <= (h.first | 137438953471)
          and x.payment_reference = p_reference and x.merchant = p_merchant
        order by foloosi.reference_key(x.payment_reference, x.merchant, x.state = 'captured', x.id) limit 1) t
$$;
comment on function foloosi.reference_owner(text, text) is
'The transaction that a payment reference speaks of: the captured one, else the first that came with it. Parameters: merchant, reference. Returns one row or none; captured: or being verified. One step into the index, however many transactions share a placeholder such as "0": asked as "the next from this hash on, and no further", because a plan for "the first of these" may walk the primary key. Others with an equal hash are passed over. Tables: transactions (read).';

create or replace function foloosi.try_locks(
    inout batch foloosi.element[], out relatives boolean, out known int[], out busy boolean)
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    denied       bigint[]; -- keys that another session holds
    transactions boolean;  -- some are known
    orders       boolean;
    deliveries   boolean;
    touched      int[] := '{}'; -- elements whose transactions belong to orders, …
    touched_refs text[] := '{}'; -- … and these orders
    awaited      boolean;  -- some order or reference that is not there is named by what is
    named        int[];    -- elements that have it
    r            record;
begin
    -- 1. the keys that the deliveries name
    select array_agg(d.k) filter (where not d.got), sum(d.times) > count(*)
      into denied, relatives
    from (select k.k, k.times, pg_try_advisory_xact_lock(k.k) as got
          from (select e.k, count(*) as times from (select unnest(keys) as k from unnest(batch)) e group by e.k offset 0) k) d;
    busy := denied is not null;
    if busy then
        for r in select e.i from unnest(batch) e where e.keys && denied loop
            batch[r.i].outcome := 'busy';
        end loop;
    end if;

    -- 2. what the tables know by these keys. Usually nothing, and while we hold the keys it stays so:
    --    decide() need not look again.
    select coalesce(array_agg(k.i) filter (where k.transaction or k.order_row or k.delivery), '{}'),
           bool_or(k.transaction), bool_or(k.order_row), bool_or(k.delivery),
           exists (select from foloosi.other_transactions x where x.awaits_order) or exists (select from foloosi.refunds x where x.awaits_reference)
      into known, transactions, orders, deliveries, awaited
    from (select e.i, a.id is not null or b.id is not null as transaction, o.id is not null or e.status = 'refund' as order_row, d.id is not null as delivery
          from unnest(batch) e
          left join foloosi.transactions a on a.transaction_no = e.transaction_no and a.merchant = e.merchant
          left join lateral foloosi.reference_owner(e.merchant, e.payment_reference) b on true
          left join foloosi.orders o on o.order_ref = e.order_ref and o.merchant = e.merchant
          left join foloosi.deliveries d on d.digest = e.digest and d.merchant = e.merchant
          offset 0) k;
    -- of an order, or a reference, that is not there a refund, or a wholly refunded transaction, may be known
    if awaited then
        named := array(select e.i from unnest(batch) e
                       where exists (select from foloosi.other_transactions x
                                     where x.awaits_order and x.order_ref = e.order_ref and x.merchant = e.merchant)
                       union -- "or" would read all that is awaited
                       select e.i from unnest(batch) e
                       where exists (select from foloosi.refunds x
                                     where x.awaits_reference and x.payment_reference = e.payment_reference and x.merchant = e.merchant));
        known := known || named;
        orders := orders or named <> '{}';
    end if;

    -- 3. transactions that are known: their rows, and the orders that they belong to
    if transactions then
        relatives := true;
        for r in
            with match as materialized (
                select e.i, t.id, true as by_number from unnest(batch) e
                join foloosi.transactions t on t.transaction_no = e.transaction_no and t.merchant = e.merchant
                where e.i = any (known)
                union all
                select e.i, t.id, false from unnest(batch) e
                cross join lateral foloosi.reference_owner(e.merchant, e.payment_reference) t
                where e.i = any (known)
            ), held as materialized (
                select t.id, t.order_ref, t.merchant, t.state, t.payment_reference from foloosi.transactions t where t.id in (select m.id from match m)
                order by t.id for no key update skip locked
            ), concerned as materialized (
                -- the order as the locked row has it: the snapshot's may be older
                select h.id, h.order_ref::text from held h where h.order_ref is not null
                union
                -- refunds of what has captured nothing are a doubt for the orders that they name, until it does
                select h.id, x.order_named from held h join foloosi.refunds x on x.transaction_id = h.id
                where h.state <> 'captured' and x.order_named is not null
                union
                select h.id, b.order_ref from held h join foloosi.refunds x on x.transaction_id = h.id
                cross join lateral foloosi.reference_owner(h.merchant, x.payment_reference) b
                where h.state <> 'captured' and x.payment_reference is not null and b.order_ref is not null
            )
            select m.i, array_agg(distinct foloosi.lock_key('transaction', '', m.id::text))
                       -- a capture changes whom its reference speaks of, also if this delivery does not name it
                       || array_agg(distinct foloosi.lock_key('reference', h.merchant, h.payment_reference)) filter (where h.payment_reference is not null) as keys,
                   bool_and(h.id is not null) as free,
                   -- as decide() chooses: the number's transaction, else the one that the reference speaks of
                   (array_agg(h.order_ref order by m.by_number desc, m.id))[1] as order_ref,
                   (select array_agg(distinct c.order_ref) from concerned c where c.id = any (array_agg(m.id))) as order_refs
            from match m left join held h on h.id = m.id group by m.i order by m.i
        loop
            batch[r.i].keys := batch[r.i].keys || r.keys;
            if not r.free then
                batch[r.i].outcome := 'busy';
                busy := true;
                continue;
            end if;
            if batch[r.i].order_ref is null then
                batch[r.i].own_order_ref := r.order_ref;
            end if;
            for o in 1 .. coalesce(array_length(r.order_refs, 1), 0) loop
                continue when r.order_refs[o] = batch[r.i].order_ref;
                orders := true;
                touched := touched || r.i;
                touched_refs := touched_refs || r.order_refs[o];
                batch[r.i].keys := batch[r.i].keys || foloosi.lock_key('order', batch[r.i].merchant, r.order_refs[o]);
                if not pg_try_advisory_xact_lock(foloosi.lock_key('order', batch[r.i].merchant, r.order_refs[o])) then
                    batch[r.i].outcome := 'busy';
                    busy := true;
                end if;
            end loop;
        end loop;
    end if;

    -- 4. the rows of orders that exist
    if orders then
        for r in
            with match as materialized (
                select k.i, o.id, o.order_ref, o.merchant
                from (select e.i, e.merchant, coalesce(e.order_ref, e.order_key) as order_ref from unnest(batch) e where e.i = any (known)
                      union all
                      select a.i, batch[a.i].merchant, a.order_ref from unnest(touched, touched_refs) as a (i, order_ref)) k
                join foloosi.orders o on o.order_ref = k.order_ref and o.merchant = k.merchant
            ), held as materialized (
                select o.id from foloosi.orders o
                where (o.order_ref, o.merchant) in (select m.order_ref, m.merchant from match m)
                for no key update skip locked
            )
            select m.i from match m where m.id not in (select h.id from held h)
        loop
            batch[r.i].outcome := 'busy';
            busy := true;
        end loop;
    end if;

    -- 5. the ledger's rows of bytes that came before: a repeat is counted there, and speaks of the order that it
    --    spoke of, whatever the order key is by now
    if deliveries then
        for r in
            with match as materialized (
                select e.i, coalesce(e.order_ref, e.own_order_ref) as order_ref, d.id, d.digest, d.merchant from unnest(batch) e
                join foloosi.deliveries d on d.digest = e.digest and d.merchant = e.merchant
                where e.i = any (known) and e.outcome is null -- a row of what is busy is not ours to hold: another may write it
            ), held as materialized (
                select d.id, d.order_ref, d.outcome from foloosi.deliveries d
                where (d.digest, d.merchant) in (select m.digest, m.merchant from match m)
                order by d.id for no key update skip locked
            )
            select m.i, h.id is null as busy, h.order_ref
            from match m left join held h on h.id = m.id
            where h.id is null or h.outcome in ('recorded', 'duplicate', 'review')
                                  and h.order_ref is not null and h.order_ref is distinct from m.order_ref
        loop
            if r.busy then
                batch[r.i].outcome := 'busy';
                busy := true;
            else
                batch[r.i].keys := batch[r.i].keys || foloosi.lock_key('order', batch[r.i].merchant, r.order_ref);
                relatives := true;
            end if;
        end loop;
    end if;
end $$;
comment on function foloosi.try_locks(foloosi.element[]) is
'Try the locks of a batch. Parameters: batch, element i at subscript i. Returns the batch with outcome busy where a lock was not free, keys and own_order_ref completed; relatives: two elements may concern each other; known: positions of those of which the tables know anything; busy: there is one. Calls: lock_key, reference_owner. Tables: transactions, orders, deliveries (locked), refunds (read).';

create or replace function foloosi.cut(batch foloosi.element[]) returns int[]
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    previous int[];   -- position of the nearest earlier related element; null: none
    single   boolean[]; -- names no order, and an earlier related element may give it one: a segment of its own
    linked   int[];     -- first element that may speak of the same transaction
    wider    int[];
    starts   int[] := '{1}';
    start    int := 1;
    given    record;
begin
    -- One element may say that a number and a reference are one transaction. So all elements
    -- that share a number, a reference or a digest are linked, transitively: repeat until nothing changes.
    select array_agg(n order by n) into linked from generate_subscripts(batch, 1) n;
    loop
        select array_agg(s.first order by s.n) into wider
        from (select p.n, min(p.first) as first
              from (select e.n, min(linked[e.n]) over (partition by k) as first
                    from (select row_number() over (order by i) as n, keys,
                                 foloosi.lock_key('order', merchant, coalesce(order_ref, own_order_ref)) as order_key
                          from unnest(batch)) e, unnest(e.keys) k
                    where k is distinct from e.order_key) p
              group by p.n) s;
        exit when wider = linked;
        linked := wider;
    end loop;

    -- What is linked concerns all that any of it concerns: one names the transaction's order, another its number, a third says that
    -- it was refunded.
    for given in
        select linked[e.n::int] as first, array_agg(distinct k) as keys
        from (select row_number() over (order by i) as n, keys from unnest(batch)) e, unnest(e.keys) k
        group by 1 having count(distinct e.n) > 1
    loop
        for n in 1 .. array_length(batch, 1) loop
            if linked[n] = given.first then
                batch[n].keys := given.keys;
            end if;
        end loop;
    end loop;

    select array_agg(s.previous order by s.n), array_agg(s.single order by s.n) into previous, single
    from (
        select p.n, max(p.previous) as previous,
               bool_or(p.previous is not null and p.keyless) as single
        from (select e.n, e.keyless, lag(e.n) over (partition by e.k order by e.n) as previous
              from (select distinct b.n, b.keyless, k -- twice, it would be related to itself
                    from (select row_number() over (order by i) as n, keys, order_ref is null as keyless from unnest(batch)) b,
                         unnest(b.keys || linked[b.n]::bigint) k) e) p
        group by p.n) s;
    for n in 2 .. coalesce(array_length(batch, 1), 1) loop
        if previous[n] >= start or single[n] or single[n - 1] then
            start := n;
            starts := starts || n;
        end if;
    end loop;
    return starts;
end $$;
comment on function foloosi.cut(foloosi.element[]) is
'Cut a batch into segments within which no element concerns another, so that a segment can be decided as a set. Returns the position at which each segment starts. The usual batch is one segment; the worst is one element each.';
