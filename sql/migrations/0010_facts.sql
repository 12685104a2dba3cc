-- 0010: what is known of a delivery has a type of its own.
--
-- Of most deliveries nothing is known. decide() looks up only the others and hands on what it finds
-- in this type; the rules themselves read no table of the hot path.

create type foloosi.facts as (
    -- its bytes
    d_id         bigint,
    d_outcome    text,
    replayed     boolean, -- it comes again because a person wants a failed hook tried again
    -- its transaction
    t_id         bigint,
    t_order_ref  text,
    t_status     text,
    t_amount     numeric,
    t_currency   text,
    conflict     boolean, -- its payment reference belongs to another transaction number
    learns       boolean, -- it has a number or reference that the transaction lacks
    -- its order
    order_known  text,    -- the order that it concerns, if the tables know better than it says
    o_state      text,
    o_amount     numeric,
    o_currency   text,
    o_registered boolean,
    o_closed     boolean,
    -- the payback of its transaction
    p_id         bigint,  -- the open case
    p_state      text,
    p_reason     text,
    p_known      boolean, -- there is or was one that was not withdrawn
    p_returned   boolean  -- the money went back
);
comment on type foloosi.facts is 'What the tables know of one delivery before decide() applies the rules; all null: nothing.';
