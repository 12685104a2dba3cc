// objects: lib/auth.c
/* SPDX-License-Identifier: MIT */
/* Who is let in: published vectors of RFC 7617, Standard Webhooks and SHA-256, and what attackers make of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"

/* The example of the Standard Webhooks documentation and reference libraries. */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define TIMESTAMP "1614265330"
#define NOW ((time_t)1614265330)
#define BODY "{\"test\": 2432232314}"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

#define OTHER_SECRET "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" /* 24 zero bytes */
#define OTHER_SIGNATURE "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

static const struct auth_headers GOOD = {
    .webhook_id = ID, .webhook_timestamp = TIMESTAMP, .webhook_signature = SIGNATURE};

/* The whole check, with the body in pieces of at most step bytes. */
static bool
let_in(const struct credentials *c, const struct auth_headers *h, const char *body, time_t now,
    size_t step)
{
	struct auth_check check;
	size_t len = strlen(body);

	if (!auth_begin(&check, c, h, now))
		return false;
	for (size_t at = 0; at < len; at += step)
		auth_update(&check, body + at, len - at < step ? len - at : step);
	return auth_end(&check);
}

static struct credentials
signing(const char *first, const char *second)
{
	struct credentials c = {0};

	assert_true(credentials_add_signature(&c, first));
	if (second != NULL)
		assert_true(credentials_add_signature(&c, second));
	return c;
}

static void
sha256_of_fips_180(void **state)
{
	static const unsigned char abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41,
	    0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a,
	    0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
	static const unsigned char nothing[] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14,
	    0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
	    0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
	unsigned char out[AUTH_DIGEST_SIZE];

	(void)state;
	digest_sha256("abc", 3, out);
	assert_memory_equal(out, abc, sizeof out);
	digest_sha256("", 0, out);
	assert_memory_equal(out, nothing, sizeof out);
}

static void
tokens(void **state)
{
	static const char *const bad[] = {"", "fifteen_letters", "sixteen letters!",
	    "0123456789abcde/", "0123456789abcde%", "0123456789abcde.", "0123456789abcde\n",
	    "0123456789abcd\xc3\xa9"};
	struct credentials c = {0};
	char longest[TOKEN_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(credentials_add_token(&c, bad[i]));
	memset(longest, 'a', sizeof longest);
	longest[TOKEN_MAX + 1] = '\0';
	assert_false(credentials_add_token(&c, longest));
	assert_int_equal(c.token_count, 0);
	assert_false(auth_token(&c, "", 0));

	longest[TOKEN_MAX] = '\0';
	assert_true(credentials_add_token(&c, longest));
	assert_true(credentials_add_token(&c, "0123456789-_AbZz"));
	assert_true(auth_token(&c, longest, TOKEN_MAX));
	assert_true(auth_token(&c, "0123456789-_AbZz/rest", 16)); /* len, not NUL, ends it */
	assert_false(auth_token(&c, "0123456789-_AbZz", 15));
	assert_false(auth_token(&c, "0123456789-_AbZz", 17));
	assert_false(auth_token(&c, "0123456789-_abZz", 16));
	assert_false(auth_token(&c, "", 0));
	assert_false(auth_token(NULL, "0123456789-_AbZz", 16));
	credentials_wipe(&c);
	assert_false(auth_token(&c, "0123456789-_AbZz", 16));
}

static void
an_unused_slot_is_no_token(void **state)
{
	struct credentials c = {0};

	(void)state;
	assert_true(credentials_add_token(&c, "0123456789abcdef"));
	digest_sha256("fedcba9876543210", 16, c.token[1]); /* left over, not counted */
	assert_false(auth_token(&c, "fedcba9876543210", 16));
	assert_true(auth_token(&c, "0123456789abcdef", 16));
	c.token[0][AUTH_DIGEST_SIZE - 1] ^= 1; /* all of the digest counts */
	assert_false(auth_token(&c, "0123456789abcdef", 16));
}

static void
eight_of_each_kind(void **state)
{
	struct credentials c = {0};
	char text[64];

	(void)state;
	for (int i = 0; i < SECRETS_MAX; i++) {
		snprintf(text, sizeof text, "0123456789abcdef%d", i);
		assert_true(credentials_add_token(&c, text));
		assert_true(credentials_add_basic(&c, "user", text));
		assert_true(credentials_add_signature(&c, OTHER_SECRET));
	}
	assert_false(credentials_add_token(&c, "0123456789abcdefX"));
	assert_false(credentials_add_basic(&c, "user", "X"));
	assert_false(credentials_add_signature(&c, OTHER_SECRET));
	for (int i = 0; i < SECRETS_MAX; i++) {
		snprintf(text, sizeof text, "0123456789abcdef%d", i);
		assert_true(auth_token(&c, text, strlen(text)));
	}
	credentials_wipe(&c);
	for (size_t i = 0; i < sizeof c; i++)
		assert_int_equal(((const unsigned char *)&c)[i], 0);
}

static void
basic_secrets(void **state)
{
	struct credentials c = {0};
	char longest[BASIC_MAX];

	(void)state;
	assert_false(credentials_add_basic(&c, "", "password"));
	assert_false(credentials_add_basic(&c, "user", ""));
	assert_false(credentials_add_basic(&c, "us:er", "password"));
	assert_false(credentials_add_basic(&c, "user\t", "password"));
	assert_false(credentials_add_basic(&c, "user", "pass\x7fword"));
	memset(longest, 'x', sizeof longest);
	longest[BASIC_MAX - 1] = '\0';
	assert_false(credentials_add_basic(&c, "u", longest));
	longest[BASIC_MAX - 2] = '\0';
	assert_true(credentials_add_basic(&c, "u", longest));
	assert_int_equal(c.basic_count, 1);
}

static bool
basic(const struct credentials *c, const char *authorization)
{
	const struct auth_headers h = {.authorization = authorization};

	return let_in(c, &h, BODY, NOW, 100);
}

static void
basic_of_rfc_7617(void **state)
{
	static const char *const good[] = {
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", /* RFC 7617 section 2: Aladdin:open sesame */
	    "Basic dGVzdDoxMjPCow==",             /* section 2.1: test:123 and a pound sign */
	    "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	    "BASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	    "Basic    QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	};
	static const char *const bad[] = {
	    NULL,
	    "",
	    "Basic",
	    "Basic ",
	    "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	    "Basic\tQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	    " Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	    "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",    /* no padding */
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=",   /* half of it */
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ===", /* too much */
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==",  /* unused bits set: a second spelling */
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== ",
	    "Basic QWxhZGRpbjpvcGVu IHNlc2FtZQ==",
	    "Basic QWxhZGRpbjpvcGVuIHNlc2Ft\nZQ==",
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==,",
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==, Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
	    "Basic QWxhZGRpbjpPcGVuIHNlc2FtZQ==", /* Aladdin:Open sesame */
	    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQA=", /* Aladdin:open sesame and a NUL */
	    "Basic QWxhZGRpbg==",                 /* Aladdin, no colon */
	    "Basic ====",
	    "Basic =AAA",
	    "Basic A===",
	    "Basic AA=A",
	    "Basic \xff\xff\xff\xff",
	    "Aladdin:open sesame",
	};
	struct credentials c = {0};
	char *large;

	(void)state;
	assert_true(basic(&c, NULL)); /* not asked for */
	assert_true(credentials_add_basic(&c, "Aladdin", "open sesame"));
	assert_true(credentials_add_basic(&c, "test", "123\xc2\xa3"));
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(basic(&c, good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (basic(&c, bad[i]))
			fail_msg("let in: %s", bad[i] == NULL ? "nothing" : bad[i]);

	large = malloc(100001);
	assert_non_null(large);
	memset(large, 'A', 100000);
	memcpy(large, "Basic ", 6);
	large[100000] = '\0';
	for (size_t len = 99990; len <= 100000; len++) {
		large[len] = '\0';
		assert_false(basic(&c, large));
		large[len] = 'A';
	}
	free(large);
}

static void
longest_basic_fits_exactly(void **state)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct credentials c = {0};
	char password[BASIC_MAX], pair[BASIC_MAX + 3] = "u:", header[BASIC_MAX * 2] = "Basic ";
	size_t at = 6;

	(void)state;
	memset(password, 'x', sizeof password);
	password[BASIC_MAX - 2] = '\0';
	assert_true(credentials_add_basic(&c, "u", password));
	memcpy(pair + 2, password, sizeof password - 1);
	assert_int_equal(strlen(pair), 1024); /* 1024 = 3 * 341 + 1: two '=' */
	for (size_t i = 0; i < 1024; i += 3) {
		unsigned long bits = (unsigned long)(unsigned char)pair[i] << 16 |
				     (unsigned long)(unsigned char)pair[i + 1] << 8 |
				     (unsigned char)pair[i + 2];

		for (int k = 18; k >= 0; k -= 6)
			header[at++] = digits[bits >> k & 63];
	}
	header[at - 1] = header[at - 2] = '=';
	assert_true(basic(&c, header));
	memcpy(header + at - 4, "eHh4", 4); /* two bytes more */
	assert_false(basic(&c, header));
}

static void
published_signature(void **state)
{
	struct credentials c = signing(SECRET, NULL), bare = signing(&SECRET[6], NULL);

	(void)state;
	for (size_t step = 1; step < 25; step++)
		assert_true(let_in(&c, &GOOD, BODY, NOW, step));
	assert_true(let_in(&bare, &GOOD, BODY, NOW, 100));
	credentials_wipe(&c);
	credentials_wipe(&bare);
}

static void
signature_secrets(void **state)
{
	static const char *const bad[] = {
	    "", "whsec_", "whsec_whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	    "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
	    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS-", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
	    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", /* 23 bytes */
	};
	char key[100];
	struct credentials c = {0};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (credentials_add_signature(&c, bad[i]))
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(c.signature_count, 0);
	memset(key, 'A', sizeof key);
	key[87] = '=';
	key[88] = '\0';
	assert_false(credentials_add_signature(&c, key)); /* 65 bytes */
	key[86] = '=';
	assert_true(credentials_add_signature(&c, key)); /* 64 */
	assert_int_equal(c.signature[0].len, 64);
	credentials_wipe(&c);
}

/* One character after the other is changed in each part of a good request. */
static void
every_tampered_part_is_refused(void **state)
{
	struct credentials c = signing(SECRET, NULL);
	char id[] = ID, timestamp[] = TIMESTAMP, signature[] = SIGNATURE, body[] = BODY;
	char *const parts[] = {id, timestamp, signature, body};
	const struct auth_headers h = {
	    .webhook_id = id, .webhook_timestamp = timestamp, .webhook_signature = signature};

	(void)state;
	assert_true(let_in(&c, &h, body, NOW, 100));
	for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
		for (char *s = parts[p]; *s != '\0'; s++)
			for (int bit = 1; bit < 256; bit <<= 1) {
				char was = *s;

				*s = (char)(was ^ bit);
				assert_false(let_in(&c, &h, body, NOW, 100));
				*s = was;
			}
	assert_false(let_in(&c, &h, BODY " ", NOW, 100));
	assert_false(let_in(&c, &h, "", NOW, 100));
	assert_true(let_in(&c, &h, body, NOW, 100));
	credentials_wipe(&c);
}

static void
clock_tolerance_is_300_s_both_ways(void **state)
{
	struct credentials c = signing(SECRET, NULL);

	(void)state;
	assert_true(let_in(&c, &GOOD, BODY, NOW + 300, 100));
	assert_true(let_in(&c, &GOOD, BODY, NOW - 300, 100));
	assert_false(let_in(&c, &GOOD, BODY, NOW + 301, 100));
	assert_false(let_in(&c, &GOOD, BODY, NOW - 301, 100));
	assert_false(let_in(&c, &GOOD, BODY, 0, 100));
	credentials_wipe(&c);
}

static void
rotation_and_lists(void **state)
{
	static const char *const good[] = {
	    SIGNATURE,
	    OTHER_SIGNATURE " " SIGNATURE,
	    SIGNATURE " " OTHER_SIGNATURE,
	    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/"
	    "enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== " SIGNATURE,
	    "v2,x " SIGNATURE,
	    "v11,x " SIGNATURE " V1,x",
	};
	struct credentials old_first = signing(OTHER_SECRET, SECRET);
	struct credentials new_first = signing(SECRET, OTHER_SECRET);
	struct credentials neither = signing(OTHER_SECRET, OTHER_SECRET);
	struct auth_headers h = GOOD;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		h.webhook_signature = good[i];
		assert_true(let_in(&old_first, &h, BODY, NOW, 100));
		assert_true(let_in(&new_first, &h, BODY, NOW, 100));
		assert_false(let_in(&neither, &h, BODY, NOW, 100));
	}
	credentials_wipe(&old_first);
	credentials_wipe(&new_first);
	credentials_wipe(&neither);
}

static void
hostile_signature_headers(void **state)
{
#define VALUE "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"
	static const char *const bad[] = {
	    NULL,
	    "",
	    " ",
	    ",",
	    "v1",
	    "v1,",
	    ",x",
	    "v1 " VALUE "=",
	    VALUE "=",
	    "v1,,",
	    "v1," VALUE, /* no padding */
	    "v1," VALUE "==",
	    "v1," VALUE "=x",
	    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=", /* unused bits set */
	    "v1,g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE=", /* the other alphabet */
	    "v1, " VALUE "=",
	    "v1," VALUE "= ",
	    " v1," VALUE "=",
	    SIGNATURE "  " SIGNATURE,
	    SIGNATURE "\t" SIGNATURE,
	    SIGNATURE ", " SIGNATURE, /* two headers joined by a proxy */
	    SIGNATURE "," SIGNATURE,
	    SIGNATURE " v1",
	    SIGNATURE " v1,",
	    SIGNATURE " v1,AAAA",
	    "V1," VALUE "=",
	    "v2," VALUE "=",
	    "v1a," VALUE "=",
	    "v01," VALUE "=",
	    "v," VALUE "=",
	    "1," VALUE "=",
	    "v2,x, " SIGNATURE,
	    "v2,x,y " SIGNATURE,
	};
	struct credentials c = signing(SECRET, NULL);
	struct auth_headers h = GOOD;
	char *many = malloc(33 * sizeof SIGNATURE);
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		h.webhook_signature = bad[i];
		if (let_in(&c, &h, BODY, NOW, 100))
			fail_msg("let in: %s", bad[i] == NULL ? "nothing" : bad[i]);
	}
	for (int i = 0; i < 33; i++) {
		const char *entry = i == 0 ? SIGNATURE : OTHER_SIGNATURE;

		memcpy(many + len, entry, sizeof SIGNATURE);
		len += sizeof SIGNATURE;
		many[len - 1] = ' ';
	}
	h.webhook_signature = many;
	many[len - 1] = '\0';
	assert_false(let_in(&c, &h, BODY, NOW, 100)); /* 33 */
	many[len - sizeof SIGNATURE - 1] = '\0';
	assert_true(let_in(&c, &h, BODY, NOW, 100)); /* 32 */
	free(many);
	credentials_wipe(&c);
}

static void
hostile_ids_and_timestamps(void **state)
{
	static const char *const ids[] = {NULL, "", " ", "a b", ID " ", " " ID, ID ", " ID,
	    ID "," ID, "a.b", ".", "a\nb", "a\tb", "a\x7f", "\xc3\xa9"};
	static const char *const timestamps[] = {NULL, "", " ", "+1614265330", "-1614265330",
	    " 1614265330", "1614265330 ", "1614265330.", "1614265330.0", "1614265330\n",
	    "0x60379172", "1.614265330e9", "1614265330, 1614265330", "1614265330,1614265330",
	    "1614265330000", "0001614265330", "99999999999999999999999999", "18446744075323816946",
	    "5909232626"};
	struct credentials c = signing(SECRET, NULL);
	struct auth_check check;
	char longest[257];

	(void)state;
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		struct auth_headers h = GOOD;

		h.webhook_id = ids[i];
		assert_false(auth_begin(&check, &c, &h, NOW));
	}
	for (size_t i = 0; i < sizeof timestamps / sizeof *timestamps; i++) {
		struct auth_headers h = GOOD;

		h.webhook_timestamp = timestamps[i];
		assert_false(auth_begin(&check, &c, &h, NOW));
	}
	memset(longest, 'x', sizeof longest);
	for (size_t len = 255; len <= 256; len++) {
		struct auth_headers h = GOOD;

		longest[len] = '\0';
		h.webhook_id = longest;
		assert_int_equal(auth_begin(&check, &c, &h, NOW), len == 255);
		if (len == 255)
			assert_false(auth_end(&check));
		longest[len] = 'x';
	}
	credentials_wipe(&c);
}

/*
 * Both requests have the signed text msg.1614265330.1614265331.{} and so the same valid
 * signature. Only one reading may be let in.
 */
static void
full_stop_does_not_wander(void **state)
{
	struct credentials c = signing(SECRET, NULL);
	struct auth_headers h = {.webhook_id = "msg",
	    .webhook_timestamp = "1614265330",
	    .webhook_signature = "v1,kHt6MbZDWQx8c1p7Qf1WLajvqSGQnQVkma/e3Ra5ILc="};

	(void)state;
	assert_true(let_in(&c, &h, "1614265331.{}", NOW, 100));
	h.webhook_id = "msg.1614265330";
	h.webhook_timestamp = "1614265331";
	assert_false(let_in(&c, &h, "{}", NOW, 100));
	credentials_wipe(&c);
}

static void
doubled_headers_are_refused_by_anyone(void **state)
{
	struct credentials open = {0}, c = signing(SECRET, NULL);
	struct auth_headers h = GOOD;

	(void)state;
	h.doubled = true;
	assert_false(let_in(&open, &h, BODY, NOW, 100));
	assert_false(let_in(&c, &h, BODY, NOW, 100));
	h.doubled = false;
	assert_true(let_in(&open, &h, BODY, NOW, 100));
	credentials_wipe(&c);
}

static void
both_configured_both_needed(void **state)
{
	struct credentials c = signing(SECRET, NULL);
	struct auth_headers h = GOOD;

	(void)state;
	assert_true(credentials_add_basic(&c, "Aladdin", "open sesame"));
	assert_false(let_in(&c, &h, BODY, NOW, 100));
	h.authorization = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
	assert_true(let_in(&c, &h, BODY, NOW, 100));
	assert_false(let_in(&c, &h, BODY "x", NOW, 100));
	h.webhook_signature = NULL;
	assert_false(let_in(&c, &h, BODY, NOW, 100));
	h = GOOD;
	h.authorization = "Basic QWxhZGRpbjpPcGVuIHNlc2FtZQ==";
	assert_false(let_in(&c, &h, BODY, NOW, 100));
	credentials_wipe(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sha256_of_fips_180),
	    cmocka_unit_test(tokens),
	    cmocka_unit_test(an_unused_slot_is_no_token),
	    cmocka_unit_test(eight_of_each_kind),
	    cmocka_unit_test(basic_secrets),
	    cmocka_unit_test(basic_of_rfc_7617),
	    cmocka_unit_test(longest_basic_fits_exactly),
	    cmocka_unit_test(published_signature),
	    cmocka_unit_test(signature_secrets),
	    cmocka_unit_test(every_tampered_part_is_refused),
	    cmocka_unit_test(clock_tolerance_is_300_s_both_ways),
	    cmocka_unit_test(rotation_and_lists),
	    cmocka_unit_test(hostile_signature_headers),
	    cmocka_unit_test(hostile_ids_and_timestamps),
	    cmocka_unit_test(full_stop_does_not_wander),
	    cmocka_unit_test(doubled_headers_are_refused_by_anyone),
	    cmocka_unit_test(both_configured_both_needed),
	};

	return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
