/* SPDX-License-Identifier: MIT */
/*
 * transfer.h - the decoded data.transfer object of the provider's page.
 *
 * Untrusted JSON becomes this plain struct in one function, and only the struct
 * travels further.
 */
#ifndef TRANSFER_H
#define TRANSFER_H

#include <stdbool.h>
#include <stddef.h>

#include "rfc8259.h"
#include "text.h"

/*
 * Upper bounds in characters (Unicode code points), equal to the columns'
 * widths in sql/migrations; a test compares them. Too long is a fault of a field that decides; all
 * others are cut.
 */
#define LIMIT_MERCHANT 64 /* a-z A-Z 0-9 . _ - */
#define LIMIT_STATUS 64
#define LIMIT_TRANSACTION_NO 128
#define LIMIT_REFERENCE 128
#define LIMIT_MESSAGE 1024
#define LIMIT_OPTIONAL 255 /* also order_ref, which comes from one of them */
#define LIMIT_EMAIL 320    /* RFC 5321: 64 + 1 + 255 */
#define LIMIT_MOBILE 64
#define LIMIT_CARD_DIGITS 32

/*
 * The fields, in the order of record_deliveries()' arrays. transfer.c's table
 * has a row for each: JSON pointer, kind, limit. Those up to TRANSFER_CURRENCY decide, and so does the
 * order's key, whichever field has it: what is wrong with them is a fault. Nothing can be wrong with
 * the others: an array, an object or a boolean counts as null.
 */
enum transfer_field {
	TRANSFER_STATUS,    /* data.transfer.transaction_status, in lower case (ASCII) */
	TRANSFER_NO,        /* transaction_no */
	TRANSFER_REFERENCE, /* payment_reference */
	TRANSFER_AMOUNT,    /* transaction_amount, an exact decimal by money.c's grammar */
	TRANSFER_CURRENCY,  /* transaction_currency, three upper case ASCII letters */
	TRANSFER_MESSAGE,   /* transaction_message */
	TRANSFER_OPTIONAL1, /* api.optional1 … */
	TRANSFER_OPTIONAL2,
	TRANSFER_OPTIONAL3,
	TRANSFER_EMAIL,  /* api.customer_email */
	TRANSFER_MOBILE, /* api.customer_mobile */
	TRANSFER_CARD,   /* api.card_last_four */
	TRANSFER__MAX
};

/*
 * field[i] is NULL if the member was null, absent or an empty string: all three
 * mean that there is none. Otherwise it is valid UTF-8 without NUL, points into text, and
 * lives until the next transfer_decode() or transfer_free() on this struct. What decides, less the
 * amount, and the e-mail address are without the white space around them.
 */
struct transfer {
	const char *field[TRANSFER__MAX];
	const char *
	    order_key; /* by transfer_clean_key(); NULL: none. An optional field itself stays as it was sent */
	struct text text; /* the bytes of all fields; its block is used again */
};

/* One fault. Both strings are static: nothing to free, nothing of the body in them. */
struct fault {
	const char *pointer; /* RFC 6901 JSON pointer of the field, "" for the whole document */
	const char *detail;  /* what is wrong with it */
};

#define FAULTS_MAX (TRANSFER__MAX + 4) /* one a field, and data, transfer, api, spare */

struct faults {
	struct fault list[FAULTS_MAX];
	size_t count;
};

enum decoded {
	DECODED_OK,          /* *t is complete */
	DECODED_NOT_JSON,    /* *e has place and reason; *t has no fields */
	DECODED_NOT_TRANSFER /* *f has every fault; *t has no fields */
};

/*
 * Turn the bytes of a request body into a transfer.
 *   body, len  the raw bytes; need not end in NUL
 *   order_key  the field that has the order's key; TRANSFER__MAX: that is not known, and none refuses
 *   t          zeroed before its first use, then reused; see struct transfer
 *   e, f       filled as the return value says
 * Aborts when memory runs out. Safe from several threads on different structs.
 */
enum decoded transfer_decode(const char *body, size_t len, enum transfer_field order_key,
    struct transfer *t, struct json_error *e, struct faults *f);

/*
 * An order's key, of which utf8_trim() has taken the end, without the white space in front of it. NULL:
 * there is none, it is empty, or one of the words that broken shops send for none. SQL has the same
 * rules; tests/corpus/order-keys.json tests both.
 */
const char *transfer_clean_key(const char *key);

/*
 * Add to a text why a body is no transfer, one fault a line, as foloosi.deliveries.detail keeps it.
 *   d     what transfer_decode() has returned; not DECODED_OK
 *   e, f  what it has filled
 */
void transfer_add_faults(
    struct text *, enum decoded d, const struct json_error *e, const struct faults *f);

/* Free what *t owns and zero it. Safe on a zeroed struct. */
void transfer_free(struct transfer *t);

#endif
