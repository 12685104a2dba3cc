/* SPDX-License-Identifier: MIT */
/*
 * query.c - the subcommands that are a query, or a call of one function.
 *
 * A table of SQL and one way through: options become values, values become conditions and
 * parameters, rows become a table or JSON. A new list is a new row.
 *
 * The hard part: the tables may have tens of millions of rows, every index slows payments down, and a person
 * asks for the latest rows. So no table is ever sorted whole:
 *   * a list goes down by id, newest first, a screen at a time (--before ID goes on from there);
 *   * where a B-tree has the id, that is a walk along it; where only a block range index has it
 *     (orders, deliveries), the list is asked for in windows of ids from the newest
 *     down, each twice as wide as the one before, until enough is found;
 *   * --since is first turned into an id, by a binary search along the transactions' numbers (events
 *     count for themselves): ids ascend with time, but for the seconds that a transaction may take.
 */

#include <ctype.h>
#include <err.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "ctl.h"
#include "log.h"
#include "mem.h"

#define LIMIT_DEFAULT "50"
#define LIMIT_MAX 100000
#define WINDOW 4096 /* ids of the first window: some thousand deliveries, 2 MB */

/* In UTC, as logs and the spool have it. */
#define AT(column) "to_char(" column " at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
#define AGE(column) "date_trunc('second', now() - " column ")::text"

/* What the command line gives. */
enum value {
	V_MERCHANT,
	V_STATE,
	V_ORDER,
	V_NUMBER,
	V_SINCE,
	V_BEFORE,
	V_FLOOR, /* an id: nothing lower is from after V_SINCE, or in the window */
	V_LIMIT,
	V_ID, /* arguments */
	V_DECISION,
	V_AMOUNT,
	V_NOTE,
	V_NEW,
	V_WITHOUT_TRANSACTION,
	V_MODE,
	V_UNKNOWN_ORDERS,
	V_LATE_SUCCESS,
	V_VERIFY,
	V_REMIND_AFTER,
	V_SECOND_PAYMENT,
	V_CANCEL_AFTER,
	V_EXPIRE_AFTER,
	V_RECURRING,
	V_RENEWAL_GAP,
	V_TIME_ZONE,
	VALUE__MAX
};
#define PARAMETERS_MAX 12 /* of an act */

/* One list. */
struct part {
	const char *title; /* above it, if there are several; and its name in JSON */
	const char *sql;   /* ends in WHERE and a condition */
	const char *tail;  /* what follows the conditions */
	/* A condition for each value that may be given; $ stands for it. */
	const char *where[VALUE__MAX];
	const char *default_state; /* the condition in place of --state, if that is not given */
	bool windowed;             /* ask for windows of ids; V_BEFORE and V_FLOOR bound them */
	bool records;              /* name and value on each line */
	const char *empty;
};

/* Something that is done. */
struct act {
	const char *word; /* NULL: the subcommand itself */
	const char *sql;
	enum value values[PARAMETERS_MAX]; /* its parameters */
	size_t count;
	enum value arguments[3]; /* what follows the word on the command line */
	size_t argument_count;
};

struct view {
	const struct part *parts;
	size_t count;
	const char *since; /* the default of --since */
	bool of_order;     /* takes an order as its argument */
	const struct act *acts;
	size_t act_count;
};

/* ---- lists ---- */

/* SQL with one clause a line, which clang-format would break apart. */
/* clang-format off */

/* The transactions of an order: the one that it names, and the others; see migrations/0005_other_transactions.sql. */
#define OF_ORDER(id, order_ref)                                                                    \
	order_ref " = $ and " id " in ("                                                           \
	    "select k.transaction_id from foloosi.orders k where k.order_ref = $"                  \
	    " union all"                                                                           \
	    " select k.transaction_id from foloosi.other_transactions k where k.order_ref = $)"

#define NEWEST_FIRST(id) " order by " id " desc limit $"

/* Money of an order or a transaction, each before its currency. */
#define MONEY(x)                                                                                   \
	" " x ".amount::text as amount, " x ".refunded::text as refunded,"                         \
	" " x ".money_left::text as money_left, " x ".currency"

static const struct part orders_part = {
    .title = "orders",
    .sql =
	"select o.id, " AT("coalesce(o.updated_at, o.created_at)") " as changed_at,"
	" o.merchant, o.order_ref, o.state," MONEY("o") ", o.reason,"
	" case when o.late then 'late' end as late,"
	" " AT("case when o.state = 'pending' then o.cancel_at end") " as cancel_at,"
	" o.decided_by, o.transaction_id"
	" from foloosi.orders o"
	" where true",
    .tail = NEWEST_FIRST("o.id"),
    .where = {
	[V_MERCHANT] = "o.merchant = $",
	[V_STATE] = "o.state = $",
	[V_SINCE] = "o.created_at >= $",
	[V_BEFORE] = "o.id < $",
	[V_FLOOR] = "o.id >= $",
    },
    .windowed = true,
    .empty = "There is no such order.",
};

static const struct part transactions_part = {
    .title = "transactions",
    .sql =
	"select t.id, " AT("t.created_at") " as created_at,"
	" t.merchant, t.order_ref, t.state," MONEY("t") ","
	" t.transaction_no, t.payment_reference, t.transaction_message"
	" from foloosi.transactions t"
	" where true",
    .tail = NEWEST_FIRST("t.id"),
    .where = {
	[V_MERCHANT] = "t.merchant = $",
	[V_STATE] = "t.state = $",
	[V_ORDER] = OF_ORDER("t.id", "t.order_ref"),
	[V_NUMBER] = "t.transaction_no = $",
	[V_SINCE] = "t.created_at >= $",
	[V_BEFORE] = "t.id < $",
	[V_FLOOR] = "t.id >= $",
    },
    .empty = "There is no such transaction.",
};

static const struct part deliveries_part = {
    .title = "deliveries",
    .sql =
	"select d.id, " AT("d.created_at") " as created_at,"
	" d.merchant, d.outcome, d.rule, d.reason, d.order_ref, d.transaction_id,"
	" nullif(d.repeats, 0) as repeats,"
	" d.source, d.detail"
	" from foloosi.deliveries d"
	" where true",
    .tail = NEWEST_FIRST("d.id"),
    .where = {
	[V_MERCHANT] = "d.merchant = $",
	[V_STATE] = "d.outcome = $",
	[V_ORDER] = "d.order_ref = $",
	[V_SINCE] = "d.created_at >= $",
	[V_BEFORE] = "d.id < $",
	[V_FLOOR] = "d.id >= $",
    },
    .windowed = true,
    .empty = "There is no such delivery.",
};

/*
 * A remedy is made of ids and words of ours: no text from outside is part of a command that a person pastes.
 * A remedy with a choice does nothing when it is pasted whole: it has no "|", and no subcommand takes ", or".
 */
#define PLAIN_NAME(call) "coalesce(substring(a.remedy from '" call "[(]''([A-Za-z0-9._:/-]+)'''), 'CONSUMER')"
#define REFUND "'foloosictl refund ' || substring(a.remedy from 'record_refund[(]([0-9]+)') || ' AMOUNT --note WHY'"

static const struct part attention_part = {
    .title = "attention",
    .sql =
	"select a.kind, a.id, " AT("a.created_at") " as since,"
	" a.merchant, a.order_ref, a.reason, a.detail,"
	" case a.kind"
	"  when 'order' then format('foloosictl resolve --id %s paid, or cancelled', a.id)"
	"  when 'payback' then format('foloosictl paybacks settle %s, or withdraw', a.id)"
	"  when 'refund' then " REFUND
	"  when 'transaction' then null" /* only the worker can close it */
	"  when 'event' then format('foloosictl events retry %s %s, or discard', " PLAIN_NAME("events") ", a.id)"
	"  when 'consumer' then 'foloosictl events enable ' || " PLAIN_NAME("consumer") " || ', or drop'"
	"  when 'delivery' then concat("
	"   'foloosictl assign ' || substring(a.remedy from 'assign_transaction[(]([0-9]+)') || ' ORDER, or ',"
	"   " REFUND " || ', or ',"
	"   case when a.remedy ~ 'replay_delivery' or a.reason = 'rejected' then format('foloosictl replay %s, or ', a.id) end,"
	"   'foloosictl attention dismiss ', a.id)"
	"  else a.remedy end as remedy"
	" from foloosi.attention a"
	" where true",
    .tail = " order by a.created_at, a.kind, a.id limit $",
    .where = {[V_MERCHANT] = "a.merchant = $", [V_STATE] = "a.kind = $"},
    .empty = "Nothing waits for a person.",
};

static const struct part paybacks_part = {
    .title = "paybacks",
    .sql =
	"select p.id, " AT("p.created_at") " as created_at,"
	" p.merchant, p.order_ref, p.state, p.reason, p.amount::text as amount, p.currency,"
	" p.transaction_id, t.transaction_no, p.settled_by, p.note"
	" from foloosi.paybacks p"
	" left join foloosi.transactions t on t.id = p.transaction_id"
	" where true",
    .tail = NEWEST_FIRST("p.id"),
    .where = {
	[V_MERCHANT] = "p.merchant = $",
	[V_STATE] = "(p.state = $ or $ = 'all')",
	[V_SINCE] = "p.created_at >= $",
	[V_BEFORE] = "p.id < $",
	[V_FLOOR] = "p.id >= $",
    },
    .default_state = "p.state in ('due', 'check')",
    .empty = "No payback is open.",
};

#define POLICY(m)                                                                                  \
	m ".merchant, " m ".mode, " m ".unknown_orders, " m ".late_success, " m ".verify, "        \
	m ".second_payment, " m ".cancel_after::text as cancel_after,"                             \
	" coalesce(" m ".expire_after::text, 'never') as expire_after,"                            \
	" array_to_string(" m ".recurring, ',') as recurring,"                                     \
	" " m ".renewal_gap::text as renewal_gap, " m ".time_zone,"                                \
	" " m ".remind_after::text as remind_after"

static const struct part merchant_part = {
    .title = "merchants",
    .sql =
	"select " POLICY("m") ", m.rejected_per_hour,"
	" " AT("m.updated_at") " as updated_at"
	" from foloosi.merchants m"
	" where true",
    .tail = " order by m.merchant limit $",
    .where = {[V_MERCHANT] = "m.merchant = $"},
    .empty = "There is no merchant yet: foloosictl merchant add NAME.",
};

/*
 * All that happened to an order. Everything that one transaction of the database wrote has the same time;
 * n puts causes before consequences.
 */
static const struct part order_parts[] = {
    {
	.title = "order",
	.sql =
	    "select o.merchant, o.order_ref, o.state," MONEY("o") ", o.reason,"
	    " case when o.late then 'paid after a failure had cancelled it' end as late,"
	    " o.id, o.transaction_id,"
	    " " AT("o.created_at") " as created_at,"
	    " " AT("o.registered_at") " as registered_at,"
	    " " AT("case when o.state = 'pending' then o.cancel_at end") " as cancel_at,"
	    " o.decided_by,"
	    " " AT("o.decided_at") " as decided_at"
	    " from foloosi.orders o"
	    " where true",
	.tail = " limit $",
	.where = {[V_MERCHANT] = "o.merchant = $", [V_ORDER] = "o.order_ref = $"},
	.records = true,
    },
    {
	.title = "transactions",
	.sql =
	    "select t.id, t.state," MONEY("t") ","
	    " t.transaction_no, t.payment_reference, t.transaction_message"
	    " from foloosi.transactions t"
	    " where true",
	.tail = " order by t.id limit $",
	.where = {[V_MERCHANT] = "t.merchant = $", [V_ORDER] = OF_ORDER("t.id", "t.order_ref")},
    },
    {
	.title = "refunds",
	.sql =
	    "select r.id, " AT("r.created_at") " as created_at, r.transaction_id, coalesce(r.amount::text, 'all') as amount, r.currency,"
	    " r.source, case when r.undone_at is not null then 'undone' when not r.believed then 'in doubt' end as doubt,"
	    " r.said_by, r.note"
	    " from foloosi.refunds r"
	    " where true",
	.tail = " order by r.id limit $",
	.where = {
	    [V_MERCHANT] = "r.merchant = $",
	    [V_ORDER] = /* of its transactions, or of none, but naming it */
		"r.id in (select x.id from foloosi.refunds x where x.order_named = $"
		" union all"
		" select x.id from foloosi.transactions t join foloosi.refunds x on x.transaction_id = t.id"
		" where " OF_ORDER("t.id", "t.order_ref") ")",
	},
    },
    {
	.title = "paybacks",
	.sql =
	    "select p.id, p.state, p.reason, p.amount::text as amount, p.currency,"
	    " p.transaction_id, p.settled_by, p.note"
	    " from foloosi.paybacks p"
	    " where true",
	.tail = " order by p.id limit $",
	.where = {[V_MERCHANT] = "p.merchant = $", [V_ORDER] = OF_ORDER("p.transaction_id", "p.order_ref")},
    },
    {
	.title = "timeline",
	.sql =
	    "select " AT("x.at") " as at, x.what, x.id, x.said, x.change, x.detail, x.person"
	    " from ("
	    "  select d.merchant, d.order_ref, d.created_at as at, 1 as n, d.id, 'delivery' as what, d.outcome::text as said,"
	    "   case when d.order_moved then concat_ws(' to ', d.order_state_before, d.order_state) end as change,"
	    "   concat_ws(', ', 'rule ' || d.rule, d.reason, d.detail, 'by ' || d.source,"
	    "    case when d.repeats > 0"
	    "     then format('came %s times more, last %s', d.repeats, " AT("d.last_seen_at") ") end) as detail,"
	    "   null::text as person"
	    "  from foloosi.deliveries d"
	    "  union all"
	    "  select t.merchant, t.order_ref, t.created_at, 2, t.id, 'transaction', t.state::text,"
	    "   null,"
	    "   concat_ws(' ', nullif(foloosi.money_text(t.amount, t.currency), ''), t.transaction_message),"
	    "   null"
	    "  from ("
	    "   select k.order_ref, k.merchant, k.transaction_id from foloosi.orders k"
	    "   union"
	    "   select k.order_ref, k.merchant, k.transaction_id from foloosi.other_transactions k) k"
	    "  join foloosi.transactions t"
	    "   on t.id = k.transaction_id and t.order_ref = k.order_ref and t.merchant = k.merchant"
	    "  union all"
	    "  select c.merchant, c.order_ref, c.created_at, 3, c.subject_id, c.action, null,"
	    "   case when c.order_moved then concat_ws(' to ', c.order_state_before, c.order_state) end,"
	    "   c.note,"
	    "   c.decided_by"
	    "  from foloosi.decisions c"
	    "  union all"
	    "  select e.merchant, e.order_ref, e.created_at, 4, e.id, 'event', e.type::text,"
	    "   null,"
	    "   nullif(concat_ws(', ', e.reason, ("
	    "    select string_agg(format('%s: %s', k.consumer, concat_ws(' ', i.state, i.reason)), ', ')"
	    "    from foloosi.dispatches i"
	    "    join foloosi.consumers k on k.id = i.consumer_id"
	    "    where i.event_id = e.id)), ''),"
	    "   null"
	    "  from foloosi.events e) x"
	    " where true",
	.tail = " order by x.at, x.n, x.id limit $",
	.where = {[V_MERCHANT] = "x.merchant = $", [V_ORDER] = "x.order_ref = $"},
    },
};

#define COUNTS                                                                                     \
	" count(*) filter (where d.outcome = 'recorded') as recorded,"                             \
	" count(*) filter (where d.outcome = 'duplicate') as duplicate,"                           \
	" count(*) filter (where d.outcome = 'ignored') as ignored,"                               \
	" count(*) filter (where d.outcome = 'review') as review,"                                 \
	" count(*) filter (where d.outcome = 'rejected') as rejected,"                             \
	" sum(d.repeats) as repeats"

enum { STATS_ATTENTION = 4, STATS_CONSUMERS }; /* those that others show, too */

static const struct part stats_parts[] = {
    {
	.title = "merchants",
	.sql =
	    "select d.merchant, count(*) as deliveries,"
	    COUNTS ","
	    " " AT("max(d.created_at)") " as last"
	    " from foloosi.deliveries d"
	    " where true",
	.tail = " group by d.merchant order by d.merchant limit $",
	.where = {
	    [V_MERCHANT] = "d.merchant = $",
	    [V_SINCE] = "d.created_at >= $",
	    [V_FLOOR] = "d.id >= $",
	},
	.empty = "Nothing was delivered.",
    },
    {
	.title = "hours",
	.sql =
	    "select " AT("date_trunc('hour', d.created_at, 'UTC')") " as hour, count(*) as deliveries,"
	    COUNTS
	    " from foloosi.deliveries d"
	    " where true",
	.tail = " group by 1 order by 1 desc limit $",
	.where = {
	    [V_MERCHANT] = "d.merchant = $",
	    [V_SINCE] = "d.created_at >= $",
	    [V_FLOOR] = "d.id >= $",
	},
	.empty = "Nothing was delivered.",
    },
    {
	.title = "orders",
	.sql =
	    "select o.merchant, o.state, o.currency, count(*) as orders, sum(o.amount)::text as amount,"
	    " sum(o.refunded)::text as refunded, sum(o.money_left)::text as money_left"
	    " from foloosi.orders o"
	    " where true",
	.tail = " group by 1, 2, 3 order by 1, 2, 3 limit $",
	.where = {
	    [V_MERCHANT] = "o.merchant = $",
	    [V_SINCE] = "o.created_at >= $",
	    [V_FLOOR] = "o.id >= $",
	},
	.empty = "No order became known.",
    },
    {
	.title = "rejections",
	.sql =
	    "select r.merchant, sum(r.kept) as kept, sum(r.dropped) as dropped"
	    " from foloosi.rejections r"
	    " where true",
	.tail = " group by r.merchant order by r.merchant limit $",
	.where = {
	    [V_MERCHANT] = "r.merchant = $",
	    [V_SINCE] = "r.hour >= date_trunc('hour', $::timestamptz)",
	},
	.empty = "Nothing was rejected.",
    },
    [STATS_ATTENTION] = {
	.title = "attention",
	.sql =
	    "select a.kind, count(*) as waiting,"
	    " " AT("min(a.created_at)") " as oldest,"
	    " " AGE("min(a.created_at)") " as age"
	    " from foloosi.attention a"
	    " where true",
	.tail = " group by a.kind order by min(a.created_at) limit $",
	.where = {[V_MERCHANT] = "a.merchant = $"},
	.empty = "Nothing waits for a person.",
    },
    [STATS_CONSUMERS] = {
	.title = "consumers",
	.sql =
	    "select c.consumer, coalesce(c.endpoint, 'pulls') as endpoint,"
	    " case"
	    "  when c.disabled_at is not null then 'disabled'"
	    "  when c.paused_until > now() then 'paused'"
	    "  else 'active' end as state,"
	    " (select count(*) from foloosi.events e where e.id > c.position) as unseen,"
	    " count(i.event_id) filter (where i.state <> 'dead') as waiting,"
	    " count(i.event_id) filter (where i.state = 'dead') as dead,"
	    " " AGE("min(i.created_at)") " as age,"
	    " c.reason"
	    " from foloosi.consumers c"
	    " left join foloosi.dispatches i on i.consumer_id = c.id"
	    " where true",
	.tail = " group by c.id order by c.consumer limit $",
	.where = {[V_MERCHANT] = "c.merchant = $"},
	.empty = "No consumer gets events.",
    },
};

/* What only "foloosictl top" shows, beside the last two of these. */
static const struct part rates_part = {
    .title = "deliveries",
    .sql =
	"select d.merchant,"
	" count(*) filter (where d.created_at > now() - interval '10 s') as \"10 s\","
	" count(*) filter (where d.created_at > now() - interval '1 min') as \"1 min\","
	" count(*) as \"1 h\","
	COUNTS
	" from foloosi.deliveries d"
	" where true",
    .tail = " group by d.merchant order by 4 desc limit $",
    .where = {[V_SINCE] = "d.created_at >= $", [V_FLOOR] = "d.id >= $"},
};

static const struct part latest_part = {
    .title = "the latest",
    .sql =
	"select d.id, to_char(d.created_at at time zone 'UTC', 'HH24:MI:SS') as at,"
	" d.merchant, d.outcome, d.rule, d.reason, d.order_ref, d.order_state as state"
	" from foloosi.deliveries d"
	" where true",
    .tail = NEWEST_FIRST("d.id"),
    .where = {[V_BEFORE] = "d.id < $", [V_FLOOR] = "d.id >= $"},
    .windowed = true,
};

/* ---- acts ---- */

#define ORDER_ROW(call) "select o.id, o.merchant, o.order_ref, o.state," MONEY("o") ", o.decided_by, o.transaction_id from " call " o"

static const struct act resolve_acts[] = {
    {
	NULL,
	ORDER_ROW("foloosi.resolve_order($1, $2, $3, $4, $5::text is not null)"),
	{V_MERCHANT, V_ORDER, V_DECISION, V_NOTE, V_WITHOUT_TRANSACTION}, 5,
	{V_ORDER, V_DECISION}, 2,
    },
};

static const struct act assign_acts[] = {
    {
	NULL,
	/* a payment that is wholly refunded makes no order */
	"select o.id, o.merchant, coalesce(o.order_ref, $2) as order_ref, coalesce(o.state::text, 'not created: the payment was refunded') as state,"
	MONEY("o") ", o.transaction_id from foloosi.assign_transaction($1, $2, $3::text is not null, $4) o",
	{V_ID, V_ORDER, V_NEW, V_NOTE}, 4,
	{V_ID, V_ORDER}, 2,
    },
};

static const struct act unassign_acts[] = {
    {NULL, ORDER_ROW("foloosi.unassign_transaction($1, $2)"), {V_ID, V_NOTE}, 2, {V_ID}, 1},
};

static const struct act refund_acts[] = {
    {
	NULL,
	"select t.id, t.merchant, t.order_ref, t.state," MONEY("t") " from foloosi.record_refund($1, $2, $3) t",
	{V_ID, V_AMOUNT, V_NOTE}, 3,
	{V_ID, V_AMOUNT}, 2,
    },
};

static const struct act attention_acts[] = {
    {
	"dismiss",
	"select $1::bigint as id, 'dismissed' || foloosi.dismiss_attention($1::bigint, $2)::text as state",
	{V_ID, V_NOTE}, 2,
	{V_ID}, 1,
    },
};

#define PAYBACK_ACT(word)                                                                          \
	{                                                                                          \
		word,                                                                              \
		"select p.id, p.merchant, p.order_ref, p.state, p.reason, p.amount::text as amount, p.currency," \
		" p.settled_by, p.note from foloosi." word "_payback($1, $2) p",                   \
		{V_ID, V_NOTE}, 2,                                                                 \
		{V_ID}, 1,                                                                         \
	}

static const struct act paybacks_acts[] = {
    PAYBACK_ACT("settle"),
    PAYBACK_ACT("withdraw"),
    PAYBACK_ACT("reopen"),
};

/* What is not given is as m has it: the merchant's row, or one that set_merchant() made of its defaults. */
#define MERCHANT_ACT(word, m)                                                                      \
	{                                                                                          \
		word,                                                                              \
		"select " POLICY("s") " from " m ", foloosi.set_merchant(m.merchant,"              \
		" coalesce($2, m.mode), coalesce($3, m.unknown_orders), coalesce($4, m.late_success)," \
		" coalesce($5, m.verify), coalesce($6::interval, m.remind_after), coalesce($7, m.second_payment)," \
		" coalesce($8::interval, m.cancel_after),"                                         \
		" case when $9::text is null then m.expire_after else nullif($9, 'never')::interval end," \
		" coalesce((select array_agg(ltrim(p)) from unnest(string_to_array($10, ',')) p),"  \
		"  case when $10 = '' then '{}' else m.recurring end),"                            \
		" coalesce($11::interval, m.renewal_gap), coalesce($12, m.time_zone)) s",          \
		{V_MERCHANT, V_MODE, V_UNKNOWN_ORDERS, V_LATE_SUCCESS, V_VERIFY, V_REMIND_AFTER,   \
		 V_SECOND_PAYMENT, V_CANCEL_AFTER, V_EXPIRE_AFTER, V_RECURRING, V_RENEWAL_GAP, V_TIME_ZONE}, 12, \
		{V_MERCHANT}, 1,                                                                   \
	}

static const struct act merchant_acts[] = {
    MERCHANT_ACT("add", "(select $1::text as name where not exists (select from foloosi.merchants k where k.merchant = $1)) n,"
			" foloosi.set_merchant(n.name) m"),
    MERCHANT_ACT("set", "(select * from foloosi.merchants k where k.merchant = $1) m"),
};

/* ---- ids ---- */

/*
 * The first id from after a time. The invariant: no transaction below lo is from after it, and from hi on all are.
 */
static const char floor_sql[] =
    "with recursive s (lo, hi) as ("
    " select 0::bigint, coalesce(max(t.id) + 1, 0) from foloosi.transactions t"
    " union all"
    " select"
    "  case when m.created_at < $1::timestamptz then m.id + 1 else s.lo end,"
    "  case when m.created_at < $1::timestamptz then s.hi else s.lo + (s.hi - s.lo) / 2 end"
    " from s"
    " left join lateral ("
    "  select t.id, t.created_at"
    "  from foloosi.transactions t"
    "  where t.id >= s.lo + (s.hi - s.lo) / 2"
    "  order by t.id"
    "  limit 1) m on true"
    " where s.lo < s.hi)"
    " select max(lo) from s";

static const char newest_sql[] =
    "select greatest("
    " (select max(id) from foloosi.transactions),"
    " (select max(id) from foloosi.decisions))";

/* clang-format on */

/* ---- a list ---- */

/* Append a condition, with $ replaced by the parameter's number. */
static void
add_condition(FILE *sql, const char *condition, size_t number)
{
	for (; *condition != '\0'; condition++)
		if (*condition == '$')
			fprintf(sql, "$%zu", number);
		else
			putc(*condition, sql);
}

/* In a list of rows, what is left of money is shown where it is not all of it. */
static void
hide_untouched_money(struct table *t, size_t first)
{
	size_t amount = t->columns, left = t->columns;

	for (size_t c = 0; c < t->columns; c++) {
		amount = strcmp(t->names[c], "amount") == 0 ? c : amount;
		left = strcmp(t->names[c], "money_left") == 0 ? c : left;
	}
	for (size_t r = first; amount < t->columns && left < t->columns && r < t->rows; r++) {
		char **cells = t->cells + r * t->columns;

		if (cells[amount] != NULL && cells[left] != NULL &&
		    strcmp(cells[amount], cells[left]) == 0) {
			free(cells[left]);
			cells[left] = NULL;
		}
	}
}

/* One query of a list: its SQL with the conditions for all values that are given. */
static bool
query_part(
    struct pg *s, const struct part *p, const char *const *values, bool json, struct table *t)
{
	const char *given[VALUE__MAX + 1];
	size_t n = 0, len, rows = t->rows;
	char *text;
	FILE *sql = open_memstream(&text, &len);
	bool ok;

	if (sql == NULL)
		abort();
	fputs(p->sql, sql);
	for (size_t v = 0; v < VALUE__MAX; v++) {
		if (v == V_STATE && values[v] == NULL && p->default_state != NULL)
			fprintf(sql, " and %s", p->default_state);
		if (values[v] == NULL || p->where[v] == NULL)
			continue;
		given[n++] = values[v];
		fputs(" and ", sql);
		add_condition(sql, p->where[v], n);
	}
	given[n++] = values[V_LIMIT];
	add_condition(sql, p->tail, n);
	if (fclose(sql) != 0)
		abort();
	ok = ctl_query(s, text, n, given, json, t);
	if (ok && !json && p->where[V_BEFORE] != NULL)
		hide_untouched_money(t, rows);
	free(text);
	return ok;
}

/* One number, or fallback for none. False: pg_error() says why. */
static bool
query_number(struct pg *s, const char *sql, const char *value, int64_t fallback, int64_t *number)
{
	struct pg_rows rows;

	if (pg_query(s, sql, value != NULL, &value, &rows) != PG_OK)
		return false;
	*number = fallback;
	if (rows.count == 1 && pg_value(&rows, 0, 0) != NULL)
		*number = strtoll(pg_value(&rows, 0, 0), NULL, 10);
	pg_rows_free(&rows);
	return true;
}

/* From the newest down, in windows that double, until there is enough or the floor is reached. */
static bool
query_windows(
    struct pg *s, const struct part *p, const char *const *given, bool json, struct table *t)
{
	const char *values[VALUE__MAX];
	char before[24], from[24], limit[24];
	int64_t floor = given[V_FLOOR] != NULL ? strtoll(given[V_FLOOR], NULL, 10) : 0, low,
		width = WINDOW;
	size_t enough = strtoul(given[V_LIMIT], NULL, 10);

	memcpy(values, given, sizeof values);
	if (given[V_BEFORE] != NULL)
		low = strtoll(given[V_BEFORE], NULL, 10);
	else if (!query_number(s, newest_sql, NULL, 0, &low))
		return false;
	for (;;) {
		low = low - width > floor ? low - width : floor;
		width *= 2;
		snprintf(from, sizeof from, "%" PRId64, low);
		snprintf(limit, sizeof limit, "%zu", enough - t->rows);
		values[V_FLOOR] = from;
		values[V_LIMIT] = limit;
		if (!query_part(s, p, values, json, t))
			return false;
		if (t->rows >= enough || low <= floor)
			return true;
		snprintf(before, sizeof before, "%s", from);
		values[V_BEFORE] = before;
	}
}

static bool
query_list(
    struct pg *s, const struct part *p, const char *const *values, bool json, struct table *t)
{
	return p->windowed && values[V_ORDER] == NULL ? query_windows(s, p, values, json, t)
						      : query_part(s, p, values, json, t);
}

/* Where the next screen begins, if this one is full. To standard error: it is no row. */
static void
print_next_page(const struct subcommand *self, const struct part *p, const char *const *values,
    const struct table *t)
{
	if (p->where[V_BEFORE] == NULL || t->rows == 0 ||
	    t->rows < strtoul(values[V_LIMIT], NULL, 10) || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "There may be more: foloosictl %s --before %s\n", self->name,
	    t->cells[(t->rows - 1) * t->columns]);
}

static int
print_list(const struct subcommand *self, struct pg *s, const struct view *v,
    const char *const *values, bool json)
{
	for (size_t i = 0; i < v->count; i++) {
		const struct part *p = &v->parts[i];
		struct table t = {0};

		if (!query_list(s, p, values, json, &t)) {
			warnx("%s", pg_error(s));
			table_free(&t);
			return CTL_FAILED;
		}
		if (json && v->count > 1)
			printf("%s\"%s\": ", i == 0 ? "{" : ",\n", p->title);
		else if (v->count > 1 && !p->records && (t.rows > 0 || p->empty != NULL))
			printf("\n%s\n", p->title);
		ctl_print_answer(&t, json, p->records, p->empty);
		if (json)
			fputs(v->count == 1 ? "\n" : i + 1 == v->count ? "}\n" : "", stdout);
		else
			print_next_page(self, p, values, &t);
		table_free(&t);
	}
	return CTL_OK;
}

/* ---- the command line ---- */

static const struct {
	const char *option;
	enum value value;
} options[] = {
    {"merchant", V_MERCHANT},
    {"state", V_STATE},
    {"outcome", V_STATE},
    {"kind", V_STATE},
    {"order", V_ORDER},
    {"number", V_NUMBER},
    {"since", V_SINCE},
    {"before", V_BEFORE},
    {"limit", V_LIMIT},
    {"id", V_ID},
    {"note", V_NOTE},
    {"new", V_NEW},
    {"without-transaction", V_WITHOUT_TRANSACTION},
    {"mode", V_MODE},
    {"unknown-orders", V_UNKNOWN_ORDERS},
    {"late-success", V_LATE_SUCCESS},
    {"verify", V_VERIFY},
    {"remind-after", V_REMIND_AFTER},
    {"second-payment", V_SECOND_PAYMENT},
    {"cancel-after", V_CANCEL_AFTER},
    {"expire-after", V_EXPIRE_AFTER},
    {"recurring", V_RECURRING},
    {"renewal-gap", V_RENEWAL_GAP},
    {"time-zone", V_TIME_ZONE},
};
#define OPTIONS (sizeof options / sizeof *options)

/* "90s", "15m", "24h", "7d" ago, or a time as PostgreSQL reads it, as it stands. Owned. */
static char *
since_time(const char *text)
{
	static const char units[] = "smhd";
	static const int64_t seconds[] = {1, 60, 3600, 86400};
	size_t digits = strspn(text, "0123456789");
	const char *unit = strlen(text) > digits ? strchr(units, text[digits]) : NULL;
	char then[32];
	struct tm tm;
	time_t t;

	if (digits == 0 || digits > 6 || unit == NULL || strlen(text) != digits + 1)
		return xstrdup(text);
	t = clock_wall_s() - (time_t)(strtoll(text, NULL, 10) * seconds[unit - units]);
	if (gmtime_r(&t, &tm) == NULL || strftime(then, sizeof then, "%FT%TZ", &tm) == 0)
		abort();
	return xstrdup(then);
}

/* Does the list, or the act, have a use for every value that is given? A message if not. */
static bool
options_fit(const struct view *v, const struct act *a, const char *const *values)
{
	for (size_t i = 0; i < VALUE__MAX; i++) {
		bool used = values[i] == NULL || i == V_LIMIT || i == V_FLOOR;

		for (size_t p = 0; a == NULL && p < v->count; p++)
			used |= v->parts[p].where[i] != NULL;
		for (size_t p = 0; a != NULL && p < a->count; p++)
			used |= a->values[p] == i;
		used |= i == V_ID && v->of_order;
		for (size_t o = 0; !used && o < OPTIONS; o++)
			if (options[o].value == (enum value)i) {
				warnx("--%s has no meaning here", options[o].option);
				return false;
			}
	}
	if (values[V_DECISION] != NULL && !ctl_has_word("paid cancelled", values[V_DECISION])) {
		warnx(
		    "an order is decided to be paid or cancelled, not \"%s\"", values[V_DECISION]);
		return false;
	}
	for (size_t i = 0; i < VALUE__MAX; i++)
		if ((i == V_ID || i == V_BEFORE || i == V_LIMIT) && values[i] != NULL &&
		    !ctl_is_number(values[i])) {
			warnx("\"%s\" is no number", values[i]);
			return false;
		}
	if (strtol(values[V_LIMIT], NULL, 10) < 1 ||
	    strtol(values[V_LIMIT], NULL, 10) > LIMIT_MAX) {
		warnx("--limit is from 1 to %d", LIMIT_MAX);
		return false;
	}
	return true;
}

/*
 * Which merchant's order is meant, or which order has the id? Fills V_MERCHANT and V_ORDER with texts of
 * *rows, which the caller ends. False after a message.
 */
static bool
find_order(struct pg *s, const char **values, struct pg_rows *rows)
{
	static const char by_id[] =
	    "select o.merchant, o.order_ref from foloosi.orders o where o.id = $1";
	static const char by_name[] = /* as it stands, else as a delivery's is read */
	    "with o as (select k.merchant, k.order_ref, k.order_ref = $1::text as exact"
	    " from foloosi.orders k where k.order_ref in ($1::text, foloosi.clean_key($1::text))"
	    " and ($2::text is null or k.merchant = $2::text))"
	    " select o.merchant, o.order_ref from o where o.exact"
	    " or not exists (select from o x where x.exact and x.merchant = o.merchant)"
	    " order by o.merchant";
	const char *asked[] = {
	    values[V_ID] != NULL ? values[V_ID] : values[V_ORDER], values[V_MERCHANT]};
	struct table_style style = table_style(stderr);

	if (pg_query(s, values[V_ID] != NULL ? by_id : by_name, values[V_ID] != NULL ? 1 : 2, asked,
		rows) != PG_OK) {
		warnx("%s", pg_error(s));
		return false;
	}
	if (rows->count == 1) {
		values[V_MERCHANT] = pg_value(rows, 0, 0);
		values[V_ORDER] = pg_value(rows, 0, 1);
		return true;
	}
	if (rows->count == 0) {
		fputs("foloosictl: there is no order ", stderr);
		table_text(stderr, &style, asked[0]);
	} else {
		fputs("foloosictl: several merchants have an order ", stderr);
		table_text(stderr, &style, asked[0]);
		fputs(": say --merchant", stderr);
		for (size_t i = 0; i < rows->count; i++)
			fprintf(stderr, "%s %s", i > 0 ? " or" : "", pg_value(rows, i, 0));
	}
	putc('\n', stderr);
	pg_rows_free(rows);
	return false;
}

static int
run_act(const struct subcommand *self, struct pg *s, const struct act *a, const char **values,
    bool json)
{
	const char *parameters[PARAMETERS_MAX] = {NULL};
	struct pg_rows order = {0};
	long count;

	if (((const struct view *)self->arg)->of_order && !find_order(s, values, &order))
		return CTL_FAILED;
	for (size_t i = 0; i < a->count; i++)
		parameters[i] = values[a->values[i]];
	count = ctl_print_query(s, a->sql, a->count, parameters, json, true, NULL);
	pg_rows_free(&order);
	if (count == 0) /* only a merchant's */
		warnx("nothing was changed: \"%s\" is %s", values[V_MERCHANT],
		    strcmp(a->word, "add") == 0
			? "known already; foloosictl merchant set changes its policy"
			: "unknown; foloosictl merchant add makes it known");
	return count == 1 ? CTL_OK : CTL_FAILED;
}

/* What follows the options: an act's word and arguments, an order, or nothing. False: they make no sense. */
static bool
read_arguments(
    const struct view *v, int count, char **words, const struct act **a, const char **values)
{
	for (size_t i = 0; *a == NULL && i < v->act_count; i++)
		if (v->acts[i].word == NULL ||
		    (count > 0 && strcmp(v->acts[i].word, words[0]) == 0))
			*a = &v->acts[i];
	if (*a == NULL) {
		if (count == 1 && v->of_order)
			values[V_ORDER] = words[0];
		return count == (v->of_order && values[V_ID] == NULL ? 1 : 0) ||
		       (count == 1 && v->act_count > 0 && strcmp(words[0], "list") == 0);
	}
	if ((*a)->word != NULL) {
		count--;
		words++;
	}
	for (size_t i = 0; i < (*a)->argument_count; i++) {
		if ((*a)->arguments[i] == V_ORDER && v->of_order && values[V_ID] != NULL)
			continue; /* --id says which order */
		if (count-- == 0)
			return false;
		values[(*a)->arguments[i]] = *words++;
	}
	return count == 0;
}

static int
run_query(const struct ctl_call *call)
{
	const struct subcommand *self = call->self;
	const struct view *v = self->arg;
	const char *values[VALUE__MAX] = {[V_LIMIT] = LIMIT_DEFAULT, [V_SINCE] = v->since};
	const struct act *a = NULL;
	struct pg_rows order = {0};
	char *after = NULL, floor[24];
	bool json = ctl_value(call, "json") != NULL;
	struct pg *s;
	int64_t id;
	int code = CTL_FAILED;

	for (size_t i = 0; i < call->given_count; i++)
		for (size_t o = 0; o < OPTIONS; o++)
			if (strcmp(options[o].option, call->given[i].option->name) == 0)
				values[options[o].value] = call->given[i].value;
	if (!read_arguments(v, call->argc, call->argv, &a, values))
		return ctl_usage(self);
	if (!options_fit(v, a, values))
		return CTL_USAGE;
	if ((s = ctl_connect(call)) == NULL)
		return CTL_FAILED;

	if (a != NULL) {
		code = run_act(self, s, a, values, json);
		goto out;
	}
	if (values[V_SINCE] != NULL) {
		values[V_SINCE] = after = since_time(values[V_SINCE]);
		if (!query_number(s, floor_sql, after, 0, &id)) {
			warnx("--since: %s", pg_error(s));
			goto out;
		}
		snprintf(floor, sizeof floor, "%" PRId64, id);
		values[V_FLOOR] = floor;
	}
	if (v->of_order && !find_order(s, values, &order))
		goto out;
	code = print_list(self, s, v, values, json);
	pg_rows_free(&order);
out:
	free(after);
	pg_free(s);
	return code;
}

/* ---- for foloosictl events, and top ---- */

int
ctl_list_consumers(struct pg *s, bool json)
{
	static const struct view view = {.parts = &stats_parts[STATS_CONSUMERS], .count = 1};
	const char *values[VALUE__MAX] = {0};
	char limit[12];

	snprintf(limit, sizeof limit, "%d", LIMIT_MAX);
	values[V_LIMIT] = limit;
	return print_list(&events_subcommand, s, &view, values, json);
}

const char *
ctl_glance(enum ctl_glance which, struct pg *s, int limit, struct table *t)
{
	static const struct part *const parts[GLANCE__MAX] = {
	    [GLANCE_RATES] = &rates_part,
	    [GLANCE_ATTENTION] = &stats_parts[STATS_ATTENTION],
	    [GLANCE_CONSUMERS] = &stats_parts[STATS_CONSUMERS],
	    [GLANCE_DELIVERIES] = &latest_part,
	};
	const char *values[VALUE__MAX] = {0};
	char rows[12], floor[24], *hour = NULL;
	bool ok = true;
	int64_t id;

	snprintf(rows, sizeof rows, "%d", limit);
	values[V_LIMIT] = rows;
	if (which == GLANCE_RATES) {
		values[V_SINCE] = hour = since_time("1h");
		ok = query_number(s, floor_sql, hour, 0, &id);
		snprintf(floor, sizeof floor, "%" PRId64, ok ? id : 0);
		values[V_FLOOR] = floor;
	}
	ok = ok && query_list(s, parts[which], values, false, t);
	free(hour);
	return ok ? parts[which]->title : NULL;
}

/* ---- the subcommands ---- */

#define MERCHANT {"merchant", 0, "NAME", "only this merchant's", NULL}
#define STATE(words) {"state", 0, "STATE", NULL, words}
#define SINCE                                                                                      \
	{"since", 0, "TIME", "from then on: 90s, 15m, 24h, 7d ago, or a time (2026-11-24T03:00Z)", \
	    NULL}
#define LIMIT {"limit", 0, "N", "at most so many (default: " LIMIT_DEFAULT ")", NULL}
#define LIMIT_OF_EACH {"limit", 0, "N", "at most so many lines of each kind", NULL}
#define BEFORE {"before", 0, "ID", "those below this id: the next screen", NULL}
#define COUNT(array) (sizeof(array) / sizeof *(array))

const struct subcommand orders_subcommand = {
    .name = "orders",
    .arguments = "",
    .summary = "list orders, the newest first",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, MERCHANT,
	STATE("pending verifying paid refunded cancelled review"), SINCE, LIMIT, BEFORE),
    .run = run_query,
    .arg = &(const struct view){.parts = &orders_part, .count = 1},
};

const struct subcommand order_subcommand = {
    .name = "order",
    .arguments = "[ORDER]",
    .summary = "show all that happened to one order",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, MERCHANT,
	{"id", 0, "ID", "the order with this id", NULL}, LIMIT_OF_EACH),
    .run = run_query,
    .arg =
	&(const struct view){.parts = order_parts, .count = COUNT(order_parts), .of_order = true},
};

const struct subcommand transactions_subcommand = {
    .name = "transactions",
    .arguments = "",
    .summary = "list transactions, the newest first",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, MERCHANT,
	STATE("captured failed verifying denied unknown test"),
	{"order", 0, "ORDER", "of this order", NULL},
	{"number", 0, "NO", "the one with this transaction_no", NULL}, SINCE, LIMIT, BEFORE),
    .run = run_query,
    .arg = &(const struct view){.parts = &transactions_part, .count = 1},
};

const struct subcommand deliveries_subcommand = {
    .name = "deliveries",
    .arguments = "",
    .summary = "list deliveries, the newest first",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, MERCHANT,
	{"outcome", 0, "OUTCOME", NULL, "recorded duplicate ignored review rejected"},
	{"order", 0, "ORDER", "that name this order", NULL}, SINCE, LIMIT, BEFORE),
    .run = run_query,
    .arg = &(const struct view){.parts = &deliveries_part, .count = 1},
};

const struct subcommand attention_subcommand = {
    .name = "attention",
    .arguments = "[list | dismiss ID]",
    .summary = "list the open cases and what closes each; take a delivery off the list",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, MERCHANT,
	{"kind", 0, "KIND", NULL, "order payback delivery refund transaction event consumer"},
	LIMIT, CTL_NOTE),
    .run = run_query,
    .arg = &(const struct view){.parts = &attention_part,
	.count = 1,
	.acts = attention_acts,
	.act_count = COUNT(attention_acts)},
};

const struct subcommand paybacks_subcommand = {
    .name = "paybacks",
    .arguments = "[list | settle ID | withdraw ID | reopen ID]",
    .summary = "list money that must go back; note that it did, or need not; undo that",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, MERCHANT,
	{"state", 0, "STATE", "(default: due and check, the open ones)", "due check settled all"},
	SINCE, LIMIT, BEFORE, CTL_NOTE),
    .run = run_query,
    .arg = &(const struct view){.parts = &paybacks_part,
	.count = 1,
	.acts = paybacks_acts,
	.act_count = COUNT(paybacks_acts)},
};

const struct subcommand stats_subcommand = {
    .name = "stats",
    .arguments = "",
    .summary = "count deliveries, orders, open cases and what is behind",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, MERCHANT,
	{"since", 0, "TIME",
	    "from then on: 90s, 15m, 24h, 7d ago, or a time (2026-11-24T03:00Z; default: 24h)",
	    NULL},
	LIMIT_OF_EACH),
    .run = run_query,
    .arg = &(const struct view){.parts = stats_parts, .count = COUNT(stats_parts), .since = "24h"},
};

const struct subcommand resolve_subcommand = {
    .name = "resolve",
    .arguments = "[ORDER] paid|cancelled",
    .summary = "decide an order: paid or cancelled",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON,
	{"merchant", 0, "NAME", "whose, if several have an order of this name", NULL},
	{"id", 0, "ID", "the order with this id, as attention lists it", NULL},
	{"without-transaction", 0, NULL, "it was paid in another way: no transaction pays it",
	    NULL},
	CTL_NOTE),
    .run = run_query,
    .arg =
	&(const struct view){
	    .acts = resolve_acts, .act_count = COUNT(resolve_acts), .of_order = true},
};

const struct subcommand assign_subcommand = {
    .name = "assign",
    .arguments = "TRANSACTION-ID ORDER",
    .summary = "give a transaction without an order its order",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON,
	{"new", 0, NULL, "the order may be one that is not known yet", NULL}, CTL_NOTE),
    .run = run_query,
    .arg = &(const struct view){.acts = assign_acts, .act_count = COUNT(assign_acts)},
};

const struct subcommand unassign_subcommand = {
    .name = "unassign",
    .arguments = "TRANSACTION-ID",
    .summary = "take back assign, if nothing came to the order since",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, CTL_NOTE),
    .run = run_query,
    .arg = &(const struct view){.acts = unassign_acts, .act_count = COUNT(unassign_acts)},
};

const struct subcommand refund_subcommand = {
    .name = "refund",
    .arguments = "TRANSACTION-ID AMOUNT",
    .summary = "note how much of a transaction's money went back, whatever the provider said",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, CTL_NOTE),
    .help = "  AMOUNT                     all of it so far, in its currency; 0: nothing did\n",
    .run = run_query,
    .arg = &(const struct view){.acts = refund_acts, .act_count = COUNT(refund_acts)},
};

const struct subcommand merchant_subcommand = {
    .name = "merchant",
    .arguments = "[list | add NAME | set NAME]",
    .summary = "list merchants and their policy; make one known; change its policy",
    .options = CTL_OPTIONS(CTL_DATABASE, CTL_JSON, {"mode", 0, "MODE", NULL, "live test"},
	{"unknown-orders", 0, "WHAT", NULL, "accept review"},
	{"late-success", 0, "WHAT", NULL, "pay review"}, {"verify", 0, "HOW", NULL, "off callback"},
	{"second-payment", 0, "WHAT", NULL, "due check"},
	{"cancel-after", 0, "TIME",
	    "how long a failure waits before it cancels its order; 0: at once", NULL},
	{"expire-after", 0, "TIME",
	    "after which a registered order that is not paid is cancelled; never", NULL},
	{"recurring", 0, "PREFIXES", "of order keys of subscriptions, with commas between", NULL},
	{"renewal-gap", 0, "TIME", "payments of a subscription within it are a repeat", NULL},
	{"time-zone", 0, "NAME", "as Asia/Dubai", NULL},
	{"remind-after", 0, "TIME", "as '3 days': then a payback's event comes again; 0: never",
	    NULL},
	LIMIT),
    .help = "  add NAME                   what is not given: the first of each; 0, never,\n"
	    "                             FLSSUB_, 1 day, UTC, 3 days\n"
	    "  set NAME                   what is not given stays as it is\n",
    .run = run_query,
    .arg = &(const struct view){.parts = &merchant_part,
	.count = 1,
	.acts = merchant_acts,
	.act_count = COUNT(merchant_acts)},
};
