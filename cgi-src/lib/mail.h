/* SPDX-License-Identifier: MIT */
/*
 * mail.h - the text of a mail to a customer: templates, addresses, RFC 5322. Bytes in, bytes
 * out; push.c and http_client.c send it.
 */
#ifndef MAIL_H
#define MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/* What a template may contain of an event, as {order_ref}; in the order of next_mails()'s columns. */
enum mail_field {
	MAIL_ORDER_REF,
	MAIL_AMOUNT,
	MAIL_CURRENCY,
	MAIL_TRANSACTION_NO,
	MAIL_PAYMENT_REFERENCE,
	MAIL_TRANSACTION_MESSAGE,
	MAIL_OPTIONAL1,
	MAIL_OPTIONAL2,
	MAIL_OPTIONAL3,
	MAIL_MERCHANT,
	MAIL_REFUNDED,
	MAIL_FIELD__MAX
};
extern const char *const mail_field_names[MAIL_FIELD__MAX];

struct mail_template {
	char *subject; /* both owned; checked, so that mail_fill() cannot fail */
	char *body;
};

/*
 * Read a template: "Subject: …", an empty line, the body; UTF-8, lines ended by LF or CRLF.
 * {name} stands for a field, {{ for a brace.
 *   text  NUL-terminated
 *   t     receives it if the answer is NULL; for mail_template_free()
 *   line  receives the number of the line, from 1, that is wrong
 * Returns NULL, or a clause of what is wrong with that line.
 */
const char *mail_template_parse(struct mail_template *t, const char *text, unsigned *line);
void mail_template_free(struct mail_template *); /* safe on a zeroed one */

/*
 * A template's subject or body with the values in it; NULL is empty. Control characters of values
 * become blanks. Owned by the caller.
 */
char *mail_fill(const char *template, const char *const values[MAIL_FIELD__MAX]);

/*
 * Is this an address that mail is sent to? A dot-atom, @ and a host's name with a dot (RFC 5321 without quoted
 * local parts, address literals and non-ASCII), so nothing in it means anything to SMTP or
 * a header.
 */
bool mail_address_ok(const char *);

struct mail {
	const char *from; /* addresses that are mail_address_ok() */
	const char *to;
	const char *name; /* the sender's, UTF-8; NULL: none */
	const char *id;   /* Message-ID without its brackets: of ASCII without blanks */
	time_t date;
	const char *subject; /* UTF-8, one line */
	const char *body;    /* UTF-8, lines ended by LF */
};

/* The whole message (RFC 5322, 2045, 2047), of ASCII in short lines with CRLF. Owned by the caller. */
char *mail_compose(const struct mail *);

#endif
