-- Sets of 64, one set a transaction.
\set s random(0, 9000000000000)
select count(*)
from (select array_agg(n) as ordinals, array_agg('bench'::text) as merchants, array_agg(ref) as refs, array_agg(sha256(body)) as digests,
             array_agg(body) as bodies, array_agg(null::text) as nulls, array_agg('success'::text) as statuses, array_agg(no) as nos,
             array_agg(reference) as payment_references, array_agg(100::numeric) as amounts, array_agg('AED'::text) as currencies,
             array_agg('approved'::text) as messages, array_agg('Online Class'::text) as optional2s,
             array_agg('Foloosi developer'::text) as optional3s, array_agg('buyer@example.org'::text) as emails,
             array_agg('555534533'::text) as mobiles, array_agg('1111'::text) as cards
      from (select n, 'FLNIAREC' || n13 as no, uuid as reference, 'FLSSUB_' || h16 as ref, @BODY@ as body
            from (select n, a || substr(b, 4) as n13, a || '-4496-4b4d-' || right(b, 4) || '-' || left(b, 4) || a as uuid, a || b as h16
                  from (select n, left(h, 8) as a, right(h, 8) as b
                        from (select n, lpad(to_hex(hashint8extended(:s::bigint * 64 + n, 0)), 16, '0') as h
                              from generate_series(1, 64) n offset 0) h offset 0) x offset 0) i offset 0) e) s,
    lateral foloosi.record_deliveries(ordinals, merchants, refs, digests, bodies, nulls, nulls, statuses, nos, payment_references, amounts,
        currencies, messages, refs, optional2s, optional3s, emails, mobiles, cards) r;
