// objects: lib/mail.c lib/auth.c lib/rfc8259.c
/* SPDX-License-Identifier: MIT */
// mail.c: templates, addresses and messages, the hostile ones above all.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mail.h"
#include "mem.h"

#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16

static void
addresses(void **state)
{
	static const char *const good[] = {"a@b.c", "customer@example.com",
	    "First.Last+tag@sub.shop-1.example", "!#$%&'*+-/=?^_`{|}~@x.y", "1@2.3",
	    X64 "@example.com"};
	static const char *const bad[] = {"", "@", "a", "a@", "@b.c", "a@b", "a@b.", "a@.b",
	    "a@b..c", ".a@b.c", "a.@b.c", "a..b@c.d", "a b@c.d", " a@b.c", "a@b.c ", "a@b.c\n",
	    "a@b.c\r\nBcc: x@y.z", "a\nb@c.d", "a\tb@c.d", "a,b@c.d", "a@b.c,d@e.f", "a@b.c;d@e.f",
	    "a@b.c d@e.f", "<a@b.c>", "a<b@c.d", "a>b@c.d", "Name <a@b.c>", "a@b.c>", "a@b@c.d",
	    "\"a\"@b.c", "\"a b\"@c.d", "a(c)@b.d", "a@[127.0.0.1]", "a@b.c:25", "a:b@c.d",
	    "a\\b@c.d", "a[b@c.d", "a@-b.c", "a@b-.c", "a@b_c.d", "a@b.c\x7f", "\x01@b.c",
	    "m\xc3\xbcller@b.c", "a@m\xc3\xbcller.de",
	    "a\xe2\x80\xa8"
	    "b@c.d",
	    X64 "x@example.com", "a@" X64 ".example",
	    "a@" X16 X16 X16 "." X16 X16 X16 "." X16 X16 X16 "." X16 X16 X16 "." X64};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (!mail_address_ok(good[i]))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (mail_address_ok(bad[i]))
			fail_msg("accepted: %s", bad[i]);
}

static void
bad_templates(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
		const char *why;
	} cases[] = {
	    {"", 1, "is missing"},
	    {"Subject: x\n", 2, "is missing"},
	    {"Subject: x\n\n", 3, "is missing"},
	    {"Hello\n\nx\n", 1, "not the subject"},
	    {"Subject:\n\nx\n", 1, "not the subject"},
	    {"Subject:  \t\n\nx\n", 1, "not the subject"},
	    {"Sub", 1, "not the subject"},
	    {"Subject: x\nFrom: y\n\nx\n", 2, "not empty"},
	    {"Subject: x\n\na\nb {order}\n", 4, "no placeholder"},
	    {"Subject: {order_ref\n\na\n", 1, "no placeholder"},
	    {"Subject: x\n\n{\n", 3, "no placeholder"},
	    {"Subject: x\n\n{}\n", 3, "no placeholder"},
	    {"Subject: x\n\n{order_ref }\n", 3, "no placeholder"},
	    {"Subject: x\n\n{{{\n", 3, "no placeholder"},
	    {"Subject: x\n\n\x01\n", 3, "control character"},
	    {"Subject: x\ry\n\nz\n", 1, "control character"},
	    {"Subject: x\x7f\n\nz\n", 1, "control character"},
	    {"Subject: \xff\n\nz\n", 1, "not UTF-8"},
	    {"Subject: x\n\n\xc0\x80\n", 3, "not UTF-8"},
	    {"Subject: x\n\n\xe2\x82\n", 3, "not UTF-8"},
	    {"\xef\xbb\xbfSubject: x\n\nz\n", 1, "not the subject"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mail_template t;
		unsigned line;
		const char *why = mail_template_parse(&t, cases[i].text, &line);

		if (why == NULL || strstr(why, cases[i].why) == NULL || line != cases[i].line)
			fail_msg(
			    "case %zu: line %u %s", i, line, why == NULL ? "is accepted" : why);
		assert_null(t.subject);
		assert_null(t.body);
	}
}

static const char *const values[MAIL_FIELD__MAX] = {
    [MAIL_ORDER_REF] = "A-1\r\nBcc: evil@example.com",
    [MAIL_AMOUNT] = "100.50",
    [MAIL_CURRENCY] = "AED",
    [MAIL_OPTIONAL1] = "{currency}",
    [MAIL_OPTIONAL2] = "\x01\x7f\t",
};

static void
filling(void **state)
{
	struct mail_template t;
	unsigned line;
	char *text;

	(void)state;
	assert_null(mail_template_parse(&t,
	    "Subject: \tOrder {order_ref}\r\n\r\n{amount} "
	    "{currency}{optional3}\r\n\r\n{{{optional1}} "
	    "[{optional2}] {merchant}",
	    &line));
	text = mail_fill(t.subject, values);
	assert_string_equal(text, "Order A-1  Bcc: evil@example.com");
	free(text);
	text = mail_fill(t.body, values);
	assert_string_equal(text, "100.50 AED\n\n{{currency}} [   ] \n");
	free(text);
	mail_template_free(&t);
	mail_template_free(&t);
	text = mail_fill("", values);
	assert_string_equal(text, "");
	free(text);
}

static void
a_message(void **state)
{
	char *text = mail_compose(&(struct mail){.from = "shop@shop.example",
	    .to = "c@example.com",
	    .name = "Caf\xc3\xa9",
	    .id = "1.2.3@shop.example",
	    .date = 1764119889,
	    .subject = "Your order A-1 (paid), thanks!",
	    .body = "a = b\n.\n..\nFrom me\nblank \n\ttab\t\n\xe2\x82\xac\nend "});

	(void)state;
	assert_string_equal(text,
	    "Date: Wed, 26 Nov 2025 01:18:09 +0000\r\n"
	    "From: =?UTF-8?B?Q2Fmw6k=?=\r\n <shop@shop.example>\r\n"
	    "To: <c@example.com>\r\n"
	    "Message-ID: <1.2.3@shop.example>\r\n"
	    "Subject: Your order A-1 (paid), thanks!\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: text/plain; charset=utf-8\r\n"
	    "Content-Transfer-Encoding: quoted-printable\r\n"
	    "Auto-Submitted: auto-generated\r\n"
	    "\r\n"
	    "a =3D b\r\n.\r\n..\r\nFrom me\r\nblank=20\r\n\ttab=09\r\n=E2=82=AC\r\nend=20");
	free(text);
}

/* Whatever subject and body are: ASCII, lines of at most 76 characters ended by CRLF, and no header more. */
static void
messages_of_anything(void **state)
{
	static const char *const texts[] = {"", "x", " ", "=?UTF-8?B?eA==?=", "a\"b\\c",
	    X64 X64 X64 X64,
	    "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
	    "\xe2\x82\xac\xe2\x82\xac"
	    "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
	    "\xe2\x82\xac",
	    "x\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0"
	    "\x9f\x98\x80\xf0\x9f\x98\x80"
	    "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0"
	    "\x9f\x98\x80\xf0\x9f\x98\x80",
	    "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"
	    "\x80\x80\x80\x80\x80\x80\x80"
	    "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"
	    "\x80\x80\x80\x80\x80\x80\x80"};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		char *text = mail_compose(&(struct mail){.from = "a@b.c",
		    .to = "d@e.f",
		    .name = texts[i],
		    .id = "x@y.z",
		    .subject = texts[i],
		    .body = texts[i]});
		const char *p = text;
		unsigned headers = 0;
		bool body = false;

		while (*p != '\0') {
			size_t n = strcspn(p, "\r\n");

			if (!body && n == 0)
				body = true;
			else if (!body && *p != ' ')
				headers++;
			assert_true(n <= 76);
			for (size_t k = 0; k < n; k++)
				assert_true((p[k] >= ' ' && p[k] < 0x7f) || p[k] == '\t');
			p += n;
			assert_true(*p == '\0' || strncmp(p, "\r\n", 2) == 0);
			p += *p == '\0' ? 0 : 2;
		}
		assert_int_equal(headers, 9);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(addresses),
	    cmocka_unit_test(bad_templates),
	    cmocka_unit_test(filling),
	    cmocka_unit_test(a_message),
	    cmocka_unit_test(messages_of_anything),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
