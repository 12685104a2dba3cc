-- SPDX-License-Identifier: MIT
-- One event a transaction, by the handler's own function. :body is made of payload.json by bench.py.
\set a random(0, 4294967295)
\set b random(0, 4294967295)
select r.outcome
from (select lpad(to_hex(:a::bigint), 8, '0') as a, lpad(to_hex(:b::bigint), 8, '0') as b offset 0) x,
    lateral (select a || substr(b, 4) as n13, a || '-4496-4b4d-' || right(b, 4) || '-' || left(b, 4) || a as uuid, a || b as h16 offset 0) i,
    lateral (select 'FLNIAREC' || n13 as no, uuid as reference, 'FLSSUB_' || h16 as ref, @BODY@ as body offset 0) e,
    lateral foloosi.record_deliveries(array[1], array['bench'], array[ref], array[sha256(body)], array[body], array[null::text],
        array[null::text], array['success'], array[no], array[reference], array[100::numeric], array['AED'], array['approved'],
        array[ref], array['Online Class'], array['Foloosi developer'], array['buyer@example.org'], array['555534533'], array['1111']) r;
