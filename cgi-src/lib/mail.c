/* SPDX-License-Identifier: MIT */
/*
 * mail.c - the text of a mail to a customer.
 *
 * The hard part is that most of it comes from strangers: the customer chooses the address, and
 * perhaps the optional fields. A line break in one of them would be a header of the customer's own, a
 * comma in the address another recipient. So an address may hold only bytes that have no meaning for
 * SMTP or headers; control characters never leave a value; and what is not plain is encoded: subject
 * and name as encoded-words, the body as quoted-printable.
 */
#include <string.h>

#include "base64.h"
#include "mail.h"
#include "mem.h"
#include "text.h"

#define LOCAL_MAX 64    /* RFC 5321, 4.5.3.1 */
#define ADDRESS_MAX 254 /* a path of 256 with its brackets */
#define LABEL_MAX 63
#define QP_LINE 75    /* of 76, RFC 2045: room for the "=" that breaks it */
#define WORD_BYTES 39 /* in an encoded-word: with "Subject: " 73 of the 76 of a line */
#define PLAIN_MAX 60  /* longest text that stands in a header as it is */
#define ALPHA "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"
#define PRINTABLE ALPHA DIGITS " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

const char *const mail_field_names[MAIL_FIELD__MAX] = {
    [MAIL_ORDER_REF] = "order_ref",
    [MAIL_AMOUNT] = "amount",
    [MAIL_CURRENCY] = "currency",
    [MAIL_TRANSACTION_NO] = "transaction_no",
    [MAIL_PAYMENT_REFERENCE] = "payment_reference",
    [MAIL_TRANSACTION_MESSAGE] = "transaction_message",
    [MAIL_OPTIONAL1] = "optional1",
    [MAIL_OPTIONAL2] = "optional2",
    [MAIL_OPTIONAL3] = "optional3",
    [MAIL_MERCHANT] = "merchant",
    [MAIL_REFUNDED] = "refunded",
};

/* ---- templates ---- */

/* The field that stands in braces at p, and where it ends; MAIL_FIELD__MAX: none does. */
static enum mail_field
field_at(const char *p, const char **end)
{
	for (int f = 0; f < MAIL_FIELD__MAX; f++) {
		size_t n = strlen(mail_field_names[f]);

		if (strncmp(p + 1, mail_field_names[f], n) == 0 && p[1 + n] == '}') {
			*end = p + n + 2;
			return (enum mail_field)f;
		}
	}
	return MAIL_FIELD__MAX;
}

/* NULL, or what is wrong with a line. */
static const char *
line_fault(const char *line, size_t len)
{
	const char *end = line + len;

	for (const char *p = line; p < end;) {
		unsigned char c = (unsigned char)*p;
		size_t n;

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return "holds a control character; save the file as plain UTF-8 text";
		if ((n = utf8_sequence(p, end)) == 0)
			return "is not UTF-8; save the file as UTF-8";
		if (c == '{' && p[1] == '{')
			n = 2;
		else if (c == '{' && field_at(p, &p) != MAIL_FIELD__MAX)
			n = 0;
		else if (c == '{')
			return "has { before what is no placeholder; see foloosi-webhook.conf(5) "
			       "for their names, and write {{ for a brace";
		p += n;
	}
	return NULL;
}

const char *
mail_template_parse(struct mail_template *t, const char *text, unsigned *line)
{
	static const char head[] = "Subject:";
	struct text body = {0};
	const char *why = NULL;

	*t = (struct mail_template){0};
	*line = 0;
	while (why == NULL && *text != '\0') {
		size_t all = strcspn(text, "\n"), len = all;

		++*line;
		if (len > 0 && text[len - 1] == '\r')
			len--;
		why = line_fault(text, len);
		if (why == NULL && *line == 1) {
			size_t skip = sizeof head - 1;

			if (len >= skip && strncmp(text, head, skip) == 0)
				skip += strspn(text + skip, " \t");
			if (skip < sizeof head - 1 || strncmp(text, head, sizeof head - 1) != 0 ||
			    skip >= len)
				why = "is not the subject; begin with Subject: and its text";
			else
				t->subject = xasprintf("%.*s", (int)(len - skip), text + skip);
		} else if (why == NULL && *line == 2 && len > 0) {
			why = "is not empty; leave a line free between subject and text";
		} else if (why == NULL && *line > 2) {
			text_add_bytes(&body, text, len);
			text_add(&body, "\n");
		}
		text += all + (text[all] == '\n');
	}
	if (why == NULL && *line < 3) {
		++*line;
		why = "is missing; write Subject: and its text, an empty line, and the mail";
	}
	t->body = body.bytes;
	if (why != NULL)
		mail_template_free(t);
	return why;
}

void
mail_template_free(struct mail_template *t)
{
	free(t->subject);
	free(t->body);
	*t = (struct mail_template){0};
}

char *
mail_fill(const char *template, const char *const values[MAIL_FIELD__MAX])
{
	struct text t = {0};

	text_add(&t, "");
	while (*template != '\0') {
		enum mail_field f = MAIL_FIELD__MAX;
		const char *end = template + 1;
		size_t from = t.len;

		if (*template == '{' && template[1] == '{')
			end = template + 2;
		else if (*template == '{')
			f = field_at(template, &end);
		if (f == MAIL_FIELD__MAX) {
			text_add_bytes(&t, template, 1);
		} else if (values[f] != NULL) {
			text_add(&t, values[f]);
			for (char *p = t.bytes + from; *p != '\0'; p++)
				if ((unsigned char)*p < ' ' || *p == 0x7f)
					*p = ' ';
		}
		template = end;
	}
	return t.bytes;
}

/* ---- addresses ---- */

/* Words of these bytes, each at most so long, with single dots between them. */
static bool
is_dotted(const char *text, size_t len, const char *bytes, size_t most, bool *has_dot)
{
	*has_dot = false;
	for (;;) {
		size_t n = strspn(text, bytes);

		if (n > len)
			n = len;
		if (n == 0 || n > most)
			return false;
		if (bytes[0] == '-' && (*text == '-' || text[n - 1] == '-')) /* a host's */
			return false;
		if (n == len)
			return true;
		if (text[n] != '.')
			return false;
		*has_dot = true;
		text += n + 1;
		len -= n + 1;
	}
}

bool
mail_address_ok(const char *address)
{
	const char *at = strrchr(address, '@');
	size_t local;
	bool has_dot;

	if (at == NULL || strlen(address) > ADDRESS_MAX)
		return false;
	local = (size_t)(at - address);
	return local <= LOCAL_MAX &&
	       is_dotted(address, local, ALPHA DIGITS "!#$%&'*+-/=?^_`{|}~", LOCAL_MAX, &has_dot) &&
	       is_dotted(at + 1, strlen(at + 1), "-" ALPHA DIGITS, LABEL_MAX, &has_dot) && has_dot;
}

/* ---- the message ---- */

/* A text as a header may hold it: as it is, if it is short and of nothing but plain bytes, or as encoded-words. */
static void
add_header_text(struct text *t, const char *words, const char *plain)
{
	size_t left = strlen(words);

	if (left <= PLAIN_MAX && strspn(words, plain) == left && strstr(words, "=?") == NULL) {
		text_add(t, words);
		return;
	}
	while (left > 0) {
		char base64[BASE64_SIZE(WORD_BYTES)];
		size_t n = left < WORD_BYTES ? left : WORD_BYTES;

		while (n < left && n > 1 && utf8_continues(words[n]))
			n--; /* not amid a character */
		text_add(t, "=?UTF-8?B?");
		base64_encode(words, n, base64);
		text_add(t, base64);
		text_add(t, n < left ? "?=\r\n " : "?=");
		words += n;
		left -= n;
	}
}

/* Quoted-printable: a byte of a line that ends with what follows it. */
static void
add_quoted_printable(struct text *t, const char *body)
{
	size_t column = 0;

	for (; *body != '\0'; body++) {
		unsigned char c = (unsigned char)*body;
		bool plain = (c > ' ' && c < 0x7f && c != '=') ||
			     ((c == ' ' || c == '\t') && body[1] != '\n' && body[1] != '\0');
		char text[4];

		if (c == '\n') {
			text_add(t, "\r\n");
			column = 0;
			continue;
		}
		snprintf(text, sizeof text, plain ? "%c" : "=%02X", c);
		if (column + strlen(text) > QP_LINE) {
			text_add(t, "=\r\n");
			column = 0;
		}
		text_add(t, text);
		column += strlen(text);
	}
}

char *
mail_compose(const struct mail *m)
{
	struct text t = {0};
	struct tm utc;
	char date[64];

	/* No locale is ever set, so the names of days and months are English. */
	strftime(
	    date, sizeof date, "Date: %a, %d %b %Y %H:%M:%S +0000\r\n", gmtime_r(&m->date, &utc));
	text_add(&t, date);
	text_add(&t, "From: ");
	if (m->name != NULL) {
		add_header_text(&t, m->name, ALPHA DIGITS " "); /* else it would need quotes */
		text_add(&t, "\r\n ");
	}
	text_add(&t, "<");
	text_add(&t, m->from);
	text_add(&t, ">\r\nTo: <");
	text_add(&t, m->to);
	text_add(&t, ">\r\nMessage-ID: <");
	text_add(&t, m->id);
	text_add(&t, ">\r\nSubject: ");
	add_header_text(&t, m->subject, PRINTABLE);
	text_add(&t, "\r\nMIME-Version: 1.0\r\n"
		     "Content-Type: text/plain; charset=utf-8\r\n"
		     "Content-Transfer-Encoding: quoted-printable\r\n"
		     "Auto-Submitted: auto-generated\r\n" /* RFC 3834: no holiday answers */
		     "\r\n");
	add_quoted_printable(&t, m->body);
	return t.bytes;
}
