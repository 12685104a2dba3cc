-- SPDX-License-Identifier: MIT
-- erase_customer(): a data-protection request. One customer's personal fields, and the raw bytes that
-- hold them, go; amounts, orders and the ledger of digests stay.
--
-- The hard part is to find all of the customer's data and nothing of another customer's. A value
-- is looked for as a word: "ann@x.org" is not found in "joann@x.org" nor in "ann@x.org.uk".
-- It is looked for everywhere that text from outside is kept, rejected bytes included, and in any case of
-- letters; where JSON may have hidden it behind an escape, in what the escape means.
--
-- There is no index for that: it reads the tables once, some minutes for tens of millions of rows,
-- with no lock that another session waits for; the rows that were found are changed after that, at once.

create or replace function foloosi.customer_pattern(customers text[]) returns text
language plpgsql immutable
set search_path = pg_catalog, foloosi, pg_temp
as $$
begin
    if (select count(*) = 0 or bool_or(coalesce(length(c) > 320 or c ~ '[[:cntrl:]]'
            or not (c ~ '^[^@\s]+@[^@\s]+$' or c ~ '^[+]?[-0-9(). /]+$' and length(regexp_replace(c, '\D', '', 'g')) >= 6), true))
        from unnest(customers) c) then
        raise exception 'not an e-mail address, nor a phone number of at least 6 digits' using errcode = 'invalid_parameter_value',
            hint = 'Give each as the payload spells it: ann@example.com, +971501234567.';
    end if;
    return (select '(^|[^\w.%+-])(?:' || string_agg(regexp_replace(c, '([^[:alnum:]])', '\\\1', 'g'), '|') || ')(?=$|[^\w.-]|[.]$|[.]\W)'
            from unnest(customers) c);
end $$;
comment on function foloosi.customer_pattern(text[]) is
'A regular expression (for ~*) that finds any of the given e-mail addresses or phone numbers as a word of its own. Parameters: customers. Errors: there is none, or one is neither.';

create or replace function foloosi.body_text(body bytea) returns text
language plpgsql immutable
set search_path = pg_catalog, foloosi, pg_temp
as $$
declare
    plain text := encode(body, 'escape'); -- never fails
begin
    plain := convert_from(body, 'UTF8');
    if strpos(plain, '\') > 0 then
        plain := concat_ws(' ', plain, plain::jsonb::text);
    end if;
    return plain;
exception when data_exception then -- no UTF-8, no JSON
    return plain;
end $$;
comment on function foloosi.body_text(bytea) is
'The bytes of a delivery as text to search in; with what its escapes mean, if it is JSON and has some. Parameters: body. Never fails for what the bytes are.';

create or replace function foloosi.erase_customer(customers text[], note text default null, dry_run boolean default false)
returns foloosi.erasures
language plpgsql security definer
set search_path = pg_catalog, foloosi, pg_temp
as $$
#variable_conflict use_column
declare
    pattern text := foloosi.customer_pattern(customers);
    erased  constant text := '\1[erased]';
    payments  bigint[];
    messages  bigint[]; -- transactions whose message names the customer
    bodies    bigint[];
    details   record;
    notes     bigint[];
    refunds   bigint[];
    paybacks  bigint[];
    done      foloosi.erasures;
begin
    if erase_customer.note ~* pattern then
        raise exception 'the note names the customer' using errcode = 'invalid_parameter_value';
    end if;

    payments := array(
        select t.id from foloosi.transactions t
        where t.customer_email ~* pattern or t.customer_mobile ~* pattern or t.optional1 ~* pattern or t.optional2 ~* pattern
           or t.optional3 ~* pattern);
    messages := array(select t.id from foloosi.transactions t where t.transaction_message ~* pattern);
    bodies := array(
        select b.delivery_id from foloosi.bodies b
        where foloosi.body_text(b.body) ~* pattern
           or b.delivery_id in (select d.id from foloosi.deliveries d where d.transaction_id = any (payments))
        group by b.delivery_id);
    select array_agg(d.digest) as digests, array_agg(d.id) as ids into details from foloosi.deliveries d where d.detail ~* pattern;
    notes := array(select c.id from foloosi.decisions c where c.note ~* pattern);
    paybacks := array(select p.id from foloosi.paybacks p where p.note ~* pattern);
    refunds := array(select r.id from foloosi.refunds r where r.note ~* pattern);

    done.erased_by := session_user;
    done.note := erase_customer.note;
    done.transactions := cardinality(payments);
    done.bodies := cardinality(bodies);
    done.texts := cardinality(messages) + coalesce(cardinality(details.ids), 0) + cardinality(notes) + cardinality(paybacks) + cardinality(refunds);
    done.created_at := now();
    if dry_run or done.transactions + done.bodies + done.texts = 0 then
        return done;
    end if;

    update foloosi.transactions t
    set customer_email = null, customer_mobile = null, card_last_four = null,
        optional1 = foloosi.unless_personal(case when t.optional1 !~* pattern then t.optional1 end, t.order_ref),
        optional2 = foloosi.unless_personal(case when t.optional2 !~* pattern then t.optional2 end, t.order_ref),
        optional3 = foloosi.unless_personal(case when t.optional3 !~* pattern then t.optional3 end, t.order_ref), masked_at = coalesce(t.masked_at, now())
    where t.id = any (payments);
    update foloosi.transactions t set transaction_message = left(regexp_replace(t.transaction_message, pattern, erased, 'gi'), 1024) where t.id = any (messages);
    delete from foloosi.bodies b where b.delivery_id = any (bodies);
    update foloosi.deliveries d set detail = regexp_replace(d.detail, pattern, erased, 'gi')
    where d.digest = any (details.digests) and d.id = any (details.ids);
    update foloosi.decisions c set note = regexp_replace(c.note, pattern, erased, 'gi') where c.id = any (notes);
    update foloosi.paybacks p set note = regexp_replace(p.note, pattern, erased, 'gi') where p.id = any (paybacks);
    update foloosi.refunds r set note = regexp_replace(r.note, pattern, erased, 'gi') where r.id = any (refunds);
    done.id := nextval('foloosi.id_seq');
    insert into foloosi.erasures select done.*;
    return done;
end $$;
comment on function foloosi.erase_customer(text[], text, boolean) is
'Take a customer''s personal data out: mask the transactions that name the customer, delete the raw bytes that do, blank the name in notes, details and messages; keep the books and the digests. Parameters: customers: e-mail addresses and phone numbers as the payload spells them, in any case; note for the audit row, which must not name the customer; dry_run: only count. Returns the row of foloosi.erasures; its id is null if nothing was written, because it was a dry run or nothing was found. An order''s own number stays. Errors: what is neither address nor number; the note. Calls: customer_pattern, body_text, unless_personal. Tables: transactions, bodies, deliveries, decisions, paybacks, refunds, erasures (written).';
