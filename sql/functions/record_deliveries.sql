-- SPDX-License-Identifier: MIT
-- record_deliveries(): the one function that the handler knows.
--
--   arrays -> elements -> try_locks -> cut into segments -> for each: decide, write -> bodies
--
-- The arrays become one array of composites, because each step adds to what is known of
-- a delivery. A batch gives exactly the rows that its deliveries give one at a time: a
-- segment ends before an element that concerns an earlier one, and within a segment
-- the order does not matter.
--
-- A merchant's own trigger may fail, and so may data that our checks refuse. Then the
-- block is rolled back and each element is tried by itself; the one that fails
-- again is kept for a person, with its bytes, and its order does not move. Deferred
-- triggers are fired inside the block for the same reason. What is not the data's fault
-- (locks, resources, a stop) is passed on: the caller tries again.
--
-- A session keeps its plans, which are often made while the tables are small. So only nested loops over
-- b-tree indexes are allowed, and pages cost nothing: else the planner would read a small table from end to end, and go
-- on doing so when it has grown. jit is off because forbidden plans have huge costs, which would start the
-- compiler. These settings hold for all that this function calls, unless another caller had it planned before;
-- verify_transaction(), cancel_due(), apply_transaction() and align_transaction() have them, too.
-- tests/sql/28_reads.sql counts what is read.

create or replace function foloosi.record_deliveries(
    ordinals int[], merchants text[], order_refs text[], digests bytea[], bodies bytea[], faults text[], sources text[],
    transaction_statuses text[], transaction_nos text[], payment_references text[], amounts numeric[], currencies text[],
    transaction_messages text[], optional1s text[], optional2s text[], optional3s text[], customer_emails text[],
    customer_mobiles text[], card_last_fours text[], unprefixed text[] default null)
returns table (ordinal int, outcome text, order_ref text, order_state text, reason text, delivery_id bigint, merchant_known boolean)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_material = off set jit = off
set random_page_cost = 0 set seq_page_cost = 0
as $$
#variable_conflict use_column
declare
    n         int := coalesce(cardinality(ordinals), 0);
    batch     foloosi.element[];
    free      foloosi.element[]; -- what is neither busy nor rejected
    rejected  foloosi.element[];
    done      foloosi.element[];
    faulty    boolean;
    locked    record; -- what try_locks() says
    mixed     boolean := false; -- some bytes are both, rejected and recorded
    first     int := 1;
begin
    -- Here and below, what one expression can say costs no statement: a batch of one has some twenty of them.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform foloosi.need_read_committed();
    end if;
    if n > 256 then
        raise exception 'record_deliveries: % deliveries, at most 256', n using errcode = 'program_limit_exceeded';
    end if;
    -- They are read by subscripts from 1. "is not true": what a null array or an empty one says of itself is null.
    if n = 0 and 0 < any (array[cardinality(merchants), cardinality(digests), cardinality(bodies), cardinality(transaction_statuses)])
       or n > 0 and ('[1:' || n || ']' = all (array[array_dims(ordinals), array_dims(merchants), array_dims(order_refs), array_dims(digests),
            array_dims(bodies), array_dims(faults), array_dims(sources), array_dims(transaction_statuses), array_dims(transaction_nos),
            array_dims(payment_references), array_dims(amounts), array_dims(currencies), array_dims(transaction_messages),
            array_dims(optional1s), array_dims(optional2s), array_dims(optional3s), array_dims(customer_emails),
            array_dims(customer_mobiles), array_dims(card_last_fours)])) is not true then
        raise exception 'record_deliveries: the arrays are not of one length, or an array has not one dimension that begins at 1'
            using errcode = 'array_subscript_error';
    end if;
    if n = 0 then
        -- A session's first call compiles and plans, which takes longer than the work. This does it
        -- before any lock is held: the handler asks for it when it connects.
        perform foloosi.try_locks('{}'), foloosi.write((foloosi.decide('{}')).decided), foloosi.align_orders('{}');
        return;
    end if;

    -- by subscripts: to unnest eighteen arrays is eighteen scans
    select array_agg(row(
            a.i, ordinals[a.i], a.merchant,
            null, null, null, null, null, null, null,
            case when a.status is distinct from 'refund' then a.order_ref end, substr(a.digest, 1, 16), a.transaction_no, a.payment_reference,
            array_remove(array[
                foloosi.lock_key('order', a.merchant, a.order_ref),
                foloosi.lock_key('number', a.merchant, a.transaction_no),
                foloosi.lock_key('reference', a.merchant, a.payment_reference),
                case when a.transaction_no is null and a.payment_reference is null
                     then foloosi.lock_key('digest', a.merchant, encode(a.digest, 'hex')) end], null),
            f.fault, a.status, sources[a.i], a.currency, a.amount,
            null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
            nullif(transaction_messages[a.i], ''), nullif(optional1s[a.i], ''), nullif(optional2s[a.i], ''), nullif(optional3s[a.i], ''),
            nullif(customer_emails[a.i], ''), nullif(customer_mobiles[a.i], ''), nullif(card_last_fours[a.i], ''),
            case when a.status = 'refund' then a.order_ref end, null, null, null, null, null, null, null)::foloosi.element), bool_or(f.fault is not null)
      into batch, faulty
    from generate_series(1, n) s (i),
         lateral (select s.i, merchants[s.i] as merchant,
                         -- a key without the configured prefix is one only if it names a subscription
                         coalesce(nullif(order_refs[s.i], ''), case when unprefixed[s.i] <> '' then foloosi.recurring_key(merchants[s.i], unprefixed[s.i]) end) as order_ref, digests[s.i] as digest,
                         transaction_statuses[s.i] as status, nullif(transaction_nos[s.i], '') as transaction_no,
                         nullif(payment_references[s.i], '') as payment_reference, amounts[s.i] as amount,
                         nullif(currencies[s.i], '') as currency offset 0) a,
         -- what no transfer may lack: the handler has seen to it, a person at psql may forget it
         lateral (select coalesce(faults[a.i], case
                when coalesce(a.status, '') = '' then 'transaction_status is missing'
                when a.status = 'success' and a.amount is null then 'transaction_amount of a success is missing'
                when a.status = 'success' and a.currency is null then 'transaction_currency of a success is missing' end) as fault) f;

    if 'spool' = any (sources) then
        update foloosi.cancellation c set spooled_at = foloosi.clock()
        where c.spooled_at is null or c.spooled_at < foloosi.clock() - interval '1 minute';
    end if;
    locked := foloosi.try_locks(batch);
    batch := locked.batch;
    if faulty or locked.busy then
        select array_agg(e) filter (where e.fault is null and e.outcome is null),
               array_agg(e) filter (where e.fault is not null and e.outcome is null),
               array_agg(e) filter (where e.outcome is not null)
          into free, rejected, done
        from unnest(batch) e;
    else
        free := batch;
    end if;

    if free is not null and rejected is not null then -- the query apart: to prepare it is what it costs
        mixed := exists (
            select from unnest(rejected) e
            where exists (select from unnest(free) f where f.digest = e.digest and f.merchant = e.merchant)
               or exists (select from foloosi.deliveries d where d.digest = e.digest and d.merchant = e.merchant));
    end if;
    if mixed then
        -- bytes that are rejected were or are recorded, too: then the queue's order matters between the two kinds
        for k in 1 .. n loop
            continue when k < n and (batch[k].fault is null) = (batch[k + 1].fault is null);
            select array_agg(e) into free from unnest(batch[first : k]) e where e.outcome is null;
            if free is not null then
                done := done || case when batch[k].fault is null then foloosi.decide_and_write(free, true) else foloosi.write_rejected(free) end;
            end if;
            first := k + 1;
        end loop;
    else
        if free is not null then
            done := done || foloosi.decide_and_write(free, locked.relatives, locked.known);
        end if;
        if rejected is not null then
            done := done || foloosi.write_rejected(rejected);
        end if;
    end if;

    insert into foloosi.bodies (delivery_id, body)
    select e.delivery_id, bodies[e.i] from unnest(done) e where e.delivery_new;

    return query select e.ordinal, e.outcome, coalesce(e.order_named, e.order_ref), e.order_state, e.reason, e.delivery_id,
                        e.merchant_known
                 from unnest(done) e;
end $$;
comment on function foloosi.record_deliveries(int[], text[], text[], bytea[], bytea[], text[], text[], text[], text[], text[], numeric[],
    text[], text[], text[], text[], text[], text[], text[], text[], text[]) is
'Record deliveries. Parameters: parallel arrays of at most 256 elements (none: only prepares the session); ordinals are the caller''s own numbers, digests SHA-256 of the bodies, faults not null for what the handler rejected, sources null for a webhook, the other fields null where the transfer has none; unprefixed: order keys that lack the configured prefix, or null. Returns for each ordinal the outcome (recorded, duplicate, ignored, review, rejected, or busy: another session holds its order or transaction, nothing was recorded), the order and its state, the reason, the delivery''s id (null: nothing was kept), and whether the merchant has a row. Calls: need_read_committed, try_locks, decide_and_write, write_rejected. Tables: bodies (written).';

create or replace function foloosi.trim_white(p_text text) returns text
language sql immutable parallel safe
as $$
    -- Unicode White_Space, U+FEFF, and U+200B to U+200D
    select btrim(p_text, E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u3000\ufeff')
$$;
comment on function foloosi.trim_white(text) is 'A text without the white space around it, as the decoder takes it off.';

create or replace function foloosi.scalar_text(p_value jsonb, p_limit int default null) returns text
language sql immutable parallel safe
as $$
    select case when jsonb_typeof(p_value) in ('string', 'number') then left(p_value #>> '{}', coalesce(p_limit, 1000000)) end
$$;
comment on function foloosi.scalar_text(jsonb, int) is
'A string or number of JSON as text, cut to the limit in characters (null: it is not); null for all else, as the decoder reads what decides nothing.';

create or replace function foloosi.clean_key(p_key text) returns text
language sql immutable parallel safe
as $$
    -- without white space; then what broken shops send
    select nullif(nullif(nullif(nullif(nullif(k, ''), 'undefined'), 'null'), 'NaN'), '[object Object]')
    from (select foloosi.trim_white(p_key) as k) c
$$;
comment on function foloosi.clean_key(text) is
'An order key as the decoder cleans it: without white space around it; null if nothing is left, or undefined, null, NaN or [object Object]. Calls: trim_white.';

-- In plpgsql for the same reason as is_recurring().
create or replace function foloosi.recurring_key(p_merchant text, p_key text) returns text
language plpgsql stable
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    return case when foloosi.is_recurring(p_key, coalesce((select m.recurring from foloosi.merchants m where m.merchant = p_merchant), '{FLSSUB_}'))
                then p_key end;
end $$;
comment on function foloosi.recurring_key(text, text) is 'The key if it names a subscription of this merchant, else null. Calls: is_recurring. Tables: merchants (read).';

create or replace function foloosi.decide_and_write(free foloosi.element[], relatives boolean, known int[] default null)
returns foloosi.element[]
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    n        int := array_length(free, 1);
    starts   int[] := '{1}';
    decided  record; -- what decide() says
    done     foloosi.element[];
    state    text;
    message  text;
    context  text;
    refuser  text; -- schema of the object that raised the error
    hooked   boolean; -- it happened in a function that is not ours
begin
    if relatives and n > 1 then
        starts := foloosi.cut(free);
    end if;
    begin
        if array_length(starts, 1) = 1 then
            decided := foloosi.decide(free, known);
            done := foloosi.write(decided.decided, decided.plain);
        else
            for s in 1 .. array_length(starts, 1) loop
                decided := foloosi.decide(free[starts[s] : coalesce(starts[s + 1] - 1, n)]);
                done := done || foloosi.write(decided.decided, decided.plain);
            end loop;
        end if;
        set constraints all immediate;
        return done;
    exception when others or assert_failure or query_canceled then -- "others" leaves out a trigger's assert, and a time-out in it
        get stacked diagnostics state = returned_sqlstate, message = message_text, context = pg_exception_context, refuser = schema_name;
        context := split_part(context, 'decide_and_write(', 1); -- what this function called, not its callers
        -- our own functions are found by the search path, so a qualified name in the context is not ours
        hooked := context ~ 'function (?!foloosi[.])[^ (]+[.][^ (]+[(]' or context ~ '(^|\n)(SQL function|PL/(?!pgSQL))';
        -- What befell the server (connection, wrong kind of transaction, conflict, resources, lock, stop, system): the
        -- caller tries again. Said by a trigger, the trigger failed.
        if state = '57014' and (not hooked or n > 1) or not hooked and state ~ '^(08|25|40|53|55|57|58|XX)' then
            raise;
        end if;
        done := null;
    end;

    if n > 1 then
        for k in 1 .. n loop
            done := done || foloosi.decide_and_write(free[k : k], false);
        end loop;
        return done;
    end if;
    return array[foloosi.write_refused(free[1],
        case when hooked or refuser not in ('', 'foloosi') or state ~ '^(P0|09)' then 'hook_failed' else 'refused' end,
        state || ' ' || message)];
end $$;
comment on function foloosi.decide_and_write(foloosi.element[], boolean, int[]) is
'Decide and write elements whose locks are taken; an error of their data or of a merchant''s trigger stays with its element. Parameters: free, in queue order; relatives: they may concern each other; known: as decide(), before anything is written. Returns them decided. Calls: cut, decide, write, write_refused.';

create or replace function foloosi.write_refused(element foloosi.element, p_reason text, p_detail text) returns foloosi.element
language plpgsql
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    known bigint;
begin
    element.outcome := 'review';
    element.reason := p_reason;
    element.detail := left(p_detail, 1000);
    -- a refund's key, too: it is fed again with what is kept here
    element.order_named := left(coalesce(element.order_ref, element.order_key, element.own_order_ref), 255);
    select o.state into element.order_state from foloosi.orders o
    where o.order_ref = element.order_named and o.merchant = element.merchant;
    element.merchant_known := exists (select from foloosi.merchants m where m.merchant = element.merchant);

    select d.id into known from foloosi.deliveries d where d.digest = element.digest and d.merchant = element.merchant;
    element.delivery_new := known is null;
    element.delivery_id := coalesce(known, nextval('foloosi.id_seq'));
    if element.delivery_new then
        insert into foloosi.deliveries (id, merchant, digest, outcome, reason, detail, attention, order_ref, order_state, source)
        values (element.delivery_id, element.merchant, element.digest, 'review', element.reason, element.detail, true,
                element.order_named, element.order_state, element.source);
    else
        update foloosi.deliveries d
        set repeats = least(d.repeats::bigint + case when element.source like 'replay%' then 0 else 1 end, 2147483647), last_seen_at = now(), outcome = 'review', rule = null, reason = element.reason,
            detail = element.detail, attention = true, order_state = element.order_state
        where d.digest = element.digest and d.merchant = element.merchant;
    end if;
    return element;
end $$;
comment on function foloosi.write_refused(foloosi.element, text, text) is
'Keep a delivery that the database, or a merchant''s trigger, refused: outcome review, order unmoved. Parameters: element; p_reason hook_failed or refused; p_detail SQLSTATE and message. Returns the element. Tables: deliveries (written).';

create or replace function foloosi.record_delivery(
    merchant text, transaction_status text, order_ref text default null, transaction_no text default null,
    payment_reference text default null, amount numeric default null, currency text default null,
    transaction_message text default null, optional1 text default null, optional2 text default null,
    optional3 text default null, customer_email text default null, customer_mobile text default null,
    card_last_four text default null, body bytea default null)
returns table (ordinal int, outcome text, order_ref text, order_state text, reason text, delivery_id bigint, merchant_known boolean)
language sql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
    with b as (
        select coalesce($15, convert_to(jsonb_build_object('data', jsonb_build_object('transfer', jsonb_build_object(
            'transaction_status', $2, 'transaction_no', $4, 'payment_reference', $5, 'transaction_amount', $6::text,
            'transaction_currency', $7, 'transaction_message', $8, 'api', jsonb_build_object(
                'optional1', coalesce($9, $3), 'optional2', $10, 'optional3', $11, 'customer_email', $12,
                'customer_mobile', $13, 'card_last_four', $14))))::text, 'UTF8')) as bytes)
    select r.* from b, foloosi.record_deliveries(
        array[1], array[$1], array[foloosi.clean_key($3)], array[sha256(b.bytes)], array[b.bytes], array[null::text], array['psql ' || session_user],
        array[lower($2)], array[$4], array[$5], array[$6], array[upper($7)], array[$8], array[coalesce($9, $3)], array[$10], array[$11],
        array[$12], array[$13], array[$14]) r
$$;
comment on function foloosi.record_delivery(text, text, text, text, text, numeric, text, text, text, text, text, text, text, text, bytea) is
'record_deliveries() for one delivery, for psql: select * from foloosi.record_delivery(''demo'', ''success'', ''ORDER-1'', ''NO-1'', amount => 100, currency => ''AED''). Parameters: as there; body null: a JSON document is made of the others. Returns the same row.';

create or replace function foloosi.replay_delivery(id bigint)
returns table (ordinal int, outcome text, order_ref text, order_state text, reason text, delivery_id bigint, merchant_known boolean)
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    d    foloosi.deliveries;
    body bytea;
    t    jsonb;
begin
    select x.* into d from foloosi.deliveries x where x.id = replay_delivery.id;
    if d.id is null then
        raise exception 'there is no delivery %', replay_delivery.id using errcode = 'no_data_found';
    end if;
    if d.outcome <> 'review' or d.reason not in ('hook_failed', 'refused') then
        raise exception 'delivery % was not refused by the database or a trigger: it is %', d.id, d.outcome
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    select b.body into body from foloosi.bodies b where b.delivery_id = d.id order by b.created_at limit 1;
    if body is null then
        raise exception 'the bytes of delivery % are gone: retention dropped them, or an erasure', d.id using errcode = 'no_data_found',
            hint = 'What it said is in foloosi.deliveries and foloosi.transactions; record_delivery() records it by hand.';
    end if;
    -- as the decoder reads it, but that a trigger has refused what that accepted: so here nothing is refused
    t := ltrim(convert_from(body, 'UTF8'), U&'\FEFF')::jsonb #> '{data,transfer}';
    return query select r.* from foloosi.record_deliveries(
        array[1], array[d.merchant::text], array[d.order_ref::text], array[sha256(body)], array[body], array[null::text],
        array['replay ' || session_user], array[lower(foloosi.trim_white(foloosi.scalar_text(t -> 'transaction_status')))],
        array[foloosi.trim_white(foloosi.scalar_text(t -> 'transaction_no'))],
        array[foloosi.trim_white(foloosi.scalar_text(t -> 'payment_reference'))],
        array[nullif(t ->> 'transaction_amount', '')::numeric],
        array[upper(foloosi.trim_white(foloosi.scalar_text(t -> 'transaction_currency')))],
        array[foloosi.scalar_text(t -> 'transaction_message', 1024)], array[foloosi.scalar_text(t #> '{api,optional1}', 255)],
        array[foloosi.scalar_text(t #> '{api,optional2}', 255)], array[foloosi.scalar_text(t #> '{api,optional3}', 255)],
        array[left(foloosi.trim_white(foloosi.scalar_text(t #> '{api,customer_email}')), 320)],
        array[foloosi.scalar_text(t #> '{api,customer_mobile}', 64)],
        array[foloosi.scalar_text(t #> '{api,card_last_four}', 32)]) r;
end $$;
comment on function foloosi.replay_delivery(bigint) is
'Try a delivery again that a merchant''s trigger or the database refused (reason hook_failed or refused), from its stored bytes, once the cause is mended. Parameters: delivery''s id. Returns the row of record_deliveries(). Errors: no such delivery; it was not refused; its bytes are gone. Calls: record_deliveries, trim_white, scalar_text. Tables: deliveries, bodies (read).';
