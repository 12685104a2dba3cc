// objects: handler/handler.c handler/answer.c handler/stats.c lib/outcome.c lib/spool.c lib/spool_io.c lib/config.c lib/config_file.c lib/settings.c lib/config_check.c lib/url.c lib/mail.c lib/auth.c lib/transfer.c lib/rfc8259.c lib/money.c lib/log.c fake_http.c fake_writer.c
/* SPDX-License-Identifier: MIT */
/*
 * The answers table line by line, its order, and what may never be in an answer or a
 * log. The real handler over a web server and a writer that are only noted down.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "between.h"
#include "clock.h"
#include "fake_http.h"
#include "fake_writer.h"
#include "handler.h"
#include "log.h"
#include "mem.h"
#include "spool.h"

#define TOKEN "tok3n-of-the-shop-0123456789"
#define SHOP "/webhooks/foloosi/shop/" TOKEN
#define LOCKED "/webhooks/foloosi/locked/" TOKEN
#define SIGNED "/webhooks/foloosi/signed/" TOKEN
#define BASIC "Basic Zm9sb29zaTpzZXNhbWU=" /* foloosi:sesame */
#define KEY "0123456789abcdef0123456789abcdef"
#define SECRET "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define LIMIT 2048

#define TRANSFER(status, order)                                                                    \
	"{\"data\":{\"transfer\":{\"transaction_status\":\"" status "\","                          \
	"\"api\":{\"optional1\":\"" order "\"}}}}"
#define GOOD TRANSFER("failed", "no.1042")

static struct merchant merchants[3]; /* sorted by name */
static struct config config = {
    .body_limit = LIMIT, .deadline_ms = 3000, .merchants = merchants, .merchant_count = 3};
static struct writer writer;
static struct handler *handler;
static struct http_request q;
static FILE *log_file;     /* the log lines of all tests */
static int standard_error; /* cmocka's failures go here */

static int
set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		merchants[i].order_key = TRANSFER_OPTIONAL1;
		assert_true(credentials_add_token(&merchants[i].credentials, TOKEN));
	}
	merchants[0].name = xstrdup("locked");
	assert_true(credentials_add_basic(&merchants[0].credentials, "foloosi", "sesame"));
	merchants[1].name = xstrdup("shop");
	merchants[2].name = xstrdup("signed");
	assert_true(credentials_add_signature(&merchants[2].credentials, SECRET));

	log_file = tmpfile();
	assert_non_null(log_file);
	standard_error = dup(STDERR_FILENO);
	handler = handler_new(&writer, NULL, NULL);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	handler_free(handler);
	fake_http_clear(&q);
	for (size_t i = 0; i < 3; i++) {
		free(merchants[i].name);
		credentials_wipe(&merchants[i].credentials);
	}
	fclose(log_file);
	close(standard_error);
	return 0;
}

/* A good POST of body to uri, and a writer that records it. Tests spoil it from there. */
static void
post(const char *uri, const char *body)
{
	fake_http_clear(&q);
	q = (struct http_request){.params = {{"REQUEST_URI", uri}, {"REQUEST_METHOD", "POST"},
				      {"CONTENT_TYPE", "application/json"}},
	    .body = body,
	    .body_len = strlen(body),
	    .arrival = clock_ms()};
	memset(&writer, 0, sizeof writer);
	writer.result = (struct delivery){.outcome = OUTCOME_RECORDED,
	    .order = "no.1042",
	    .order_state = "cancelled",
	    .delivery_id = 17,
	    .merchant_known = true};
}

static void
set(const char *name, const char *value)
{
	for (size_t i = 0; i < FAKE_PARAMS; i++)
		if (q.params[i].name == NULL || strcmp(q.params[i].name, name) == 0) {
			q.params[i].name = name;
			q.params[i].value = value;
			return;
		}
	fail_msg("no room for %s", name);
}

/* The same name once more. */
static void
add(const char *name, const char *value)
{
	size_t i = 0;

	while (q.params[i].name != NULL)
		i++;
	q.params[i].name = name;
	q.params[i].value = value;
}

static void
unset(const char *name)
{
	for (size_t i = 0; i < FAKE_PARAMS && q.params[i].name != NULL; i++)
		if (strcmp(q.params[i].name, name) == 0)
			q.params[i].name = "NOTHING";
}

static bool refuses; /* the writer does */

static int
serve(void)
{
	enum handler_served served;

	dup2(fileno(log_file), STDERR_FILENO);
	writer.refuses = refuses;
	if ((served = handler_serve(handler, &config, &q)) != HANDLER_ANSWERED) {
		assert_int_equal(served, refuses ? HANDLER_REFUSED : HANDLER_PENDING);
		assert_int_equal(q.answers, 0);
		handler_complete(handler);
	}
	dup2(standard_error, STDERR_FILENO);
	assert_int_equal(q.answers, 1);
	return q.status;
}

static void
assert_has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("no %s in %s", part, text);
}

static void
assert_lacks(const char *text, const char *part)
{
	if (strstr(text, part) != NULL)
		fail_msg("%s in %s", part, text);
}

/* The answer, with the request id made the same each time. */
static void
assert_answer(const char *expected)
{
	char *id = strstr(q.answer, "\"request\":\"");
	char *all;

	if (id != NULL) {
		id += strlen("\"request\":\"");
		assert_int_equal(strspn(id, "0123456789abcdef"), 16);
		memcpy(id, "################", 16);
	}
	all = xasprintf("%s", expected);
	assert_string_equal(q.answer, all);
	free(all);
}

static void
assert_problem(int status)
{
	char *start =
	    xasprintf("{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"",
		q.title, status);

	assert_int_equal(q.status, status);
	assert_string_equal(q.type, "application/problem+json");
	assert_int_equal(strncmp(q.answer, start, strlen(start)), 0);
	free(start);
}

/* ---- the table of answers ---------------------------------------------------- */

/* Everything is wrong with this request. Each time one thing is put right, the next answer comes. */
static void
each_check_in_its_order(void **state)
{
	static char huge[LIMIT + 1];

	(void)state;
	memset(huge, 'x', sizeof huge);
	post("/webhooks/foloosi/locked/wrong-token-of-some-length", "{");
	q.body = huge;
	q.body_len = sizeof huge;
	q.cut = true;
	set("REQUEST_METHOD", "PUT");
	set("CONTENT_TYPE", "text/html");

	assert_int_equal(serve(), 404);
	assert_int_equal(q.reads, 0);

	fake_http_clear(&q);
	set("REQUEST_URI", LOCKED);
	assert_int_equal(serve(), 405);
	assert_int_equal(q.reads, 0);

	fake_http_clear(&q);
	set("REQUEST_METHOD", "POST");
	assert_int_equal(serve(), 401);
	assert_int_equal(q.reads, 0);

	fake_http_clear(&q);
	set("HTTP_AUTHORIZATION", BASIC);
	assert_int_equal(serve(), 413);
	assert_int_equal(q.reads, 1);

	fake_http_clear(&q);
	q.body = "{";
	q.body_len = 1;
	assert_int_equal(serve(), 415);

	fake_http_clear(&q);
	set("CONTENT_TYPE", "application/json");
	assert_int_equal(serve(), 400);
	assert_has(q.answer, "ended before its announced length");
	assert_int_equal(writer.calls, 0); /* so far nothing was kept */

	fake_http_clear(&q);
	q.cut = false;
	assert_int_equal(serve(), 400);
	assert_has(q.answer, "not JSON");
	assert_int_equal(writer.calls, 1);

	fake_http_clear(&q);
	q.body = "{}";
	q.body_len = 2;
	assert_int_equal(serve(), 422);
	assert_int_equal(writer.calls, 2);

	fake_http_clear(&q);
	q.body = GOOD;
	q.body_len = sizeof GOOD - 1;
	assert_int_equal(serve(), 200);
	assert_int_equal(writer.calls, 3);
}

static void
not_found_is_alike_for_all(void **state)
{
	static char long_uri[20000] = "/webhooks/foloosi/shop/";
	static const char *const uris[] = {
	    NULL, /* no REQUEST_URI at all */
	    "",
	    "/",
	    "*",
	    "/webhooks/foloosi",
	    "/webhooks/foloosi/",
	    "/webhooks/foloosi//",
	    "/webhooks/foloosi/shop",
	    "/webhooks/foloosi/shop/",
	    "/webhooks/foloosi/nobody/" TOKEN, /* unknown merchant */
	    "/webhooks/foloosi/nobody/wrong",
	    "/webhooks/foloosi//" TOKEN,
	    "/webhooks/foloosi/Shop/" TOKEN, /* names are exact */
	    "/webhooks/foloosi/sho/" TOKEN,
	    "/webhooks/foloosi/shopp/" TOKEN,
	    "/webhooks/foloosi/shop/wrong-token-of-some-length", /* unknown token */
	    SHOP "x",                                            /* one character more, or less */
	    "/webhooks/foloosi/shop/tok3n-of-the-shop-012345678",
	    SHOP "/", /* nothing behind the token */
	    SHOP "/" TOKEN,
	    SHOP "#fragment",
	    SHOP ";v=1",
	    SHOP "%3F",
	    SHOP "%00",
	    SHOP " ",
	    "/webhooks/foloosi/shop/%74ok3n-of-the-shop-0123456789", /* no percent-decoding */
	    "/webhooks/foloosi/%73hop/" TOKEN,
	    "/webhooks/foloosi/shop%2F" TOKEN,
	    "/webhooks%2Ffoloosi/shop/" TOKEN,
	    "/webhooks/foloosi/x/../shop/" TOKEN, /* no dots resolved, no slashes merged */
	    "/./webhooks/foloosi/shop/" TOKEN,
	    "//webhooks/foloosi/shop/" TOKEN,
	    "/WEBHOOKS/foloosi/shop/" TOKEN,
	    "webhooks/foloosi/shop/" TOKEN,
	    "/x" SHOP,
	    "/?" SHOP, /* a path in the query is no path */
	    "/webhooks/foloosi/shop?/" TOKEN,
	    "http://host", /* a whole URI, without a path or with another */
	    "http://host/",
	    "http://host?" SHOP,
	    "ftp://host" SHOP,
	    "http:" SHOP,
	    "/webhooks/foloosi/shop/<script>alert(1)</script>",
	    "/webhooks/foloosi/shop/\r\nX-Injected: yes",
	    "/webhooks/foloosi/shop/\xff\xfe\"",
	    long_uri,
	};
	char *first = NULL;

	(void)state;
	memset(long_uri + strlen(long_uri), 'a', sizeof long_uri - strlen(long_uri) - 1);
	for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
		static const char *const methods[] = {"POST", "GET", "BREW"};
		char *all;

		for (size_t m = 0; m < 3; m++) {
			post("", GOOD);
			set("REQUEST_METHOD", methods[m]);
			if (uris[i] == NULL)
				unset("REQUEST_URI");
			else
				set("REQUEST_URI", uris[i]);
			if (serve() != 404)
				fail_msg("%s: %d", uris[i], q.status);
			assert_int_equal(q.reads, 0);
			assert_int_equal(writer.calls, 0);
			all = xasprintf("%s|%s|%s|%s", q.title, q.type, q.headers, q.answer);
			if (first == NULL)
				first = xstrdup(all);
			assert_string_equal(all, first);
			free(all);
		}
	}
	free(first);
	assert_problem(404);
}

static void
found_by_these_too(void **state)
{
	static const char *const uris[] = {
	    SHOP,
	    SHOP "?",
	    SHOP "?a=b&c=/d",
	    "http://host" SHOP, /* RFC 9112 section 3.2.2: a server accepts the absolute form */
	    "https://host:8443" SHOP "?x",
	    "HTTP://host" SHOP,
	};

	(void)state;
	for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
		post(uris[i], GOOD);
		if (serve() != 200)
			fail_msg("%s: %d", uris[i], q.status);
	}
}

static void
get_and_head_say_hello(void **state)
{
	(void)state;
	post(LOCKED, "not even JSON"); /* no credentials are asked for, no body is looked at */
	set("REQUEST_METHOD", "GET");
	assert_int_equal(serve(), 200);
	assert_string_equal(q.type, "application/json");
	assert_answer("{\"outcome\":\"hello\",\"request\":\"################\"}\n");
	assert_int_equal(q.reads, 0);
	assert_int_equal(writer.calls, 0);

	post(LOCKED, "");
	set("REQUEST_METHOD", "HEAD");
	assert_int_equal(serve(), 200);
	assert_string_equal(q.answer, "");
	assert_int_equal(writer.calls, 0);
}

static void
other_methods_are_405(void **state)
{
	static const char *const methods[] = {NULL, "", "PUT", "DELETE", "PATCH", "OPTIONS",
	    "TRACE", "CONNECT", "post", "Post", "POSTS", "GETS"};

	(void)state;
	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
		post(SHOP, GOOD);
		if (methods[i] == NULL)
			unset("REQUEST_METHOD");
		else
			set("REQUEST_METHOD", methods[i]);
		serve();
		assert_problem(405);
		assert_has(q.headers, "Allow: GET, HEAD, POST\r\n");
		assert_int_equal(writer.calls, 0);
	}
}

static void
basic_where_configured(void **state)
{
	(void)state;
	post(LOCKED, GOOD);
	set("HTTP_AUTHORIZATION", BASIC);
	assert_int_equal(serve(), 200);

	post(LOCKED, GOOD);
	serve();
	assert_problem(401);
	assert_has(q.headers, "WWW-Authenticate: Basic realm=\"");
	assert_int_equal(q.reads, 0);

	post(LOCKED, GOOD);
	set("HTTP_AUTHORIZATION", "Basic Zm9sb29zaTp3cm9uZw=="); /* foloosi:wrong */
	assert_int_equal(serve(), 401);
	assert_int_equal(writer.calls, 0);

	/* Where nothing is asked for, what comes is not looked at. */
	post(SHOP, GOOD);
	set("HTTP_AUTHORIZATION", "Basic Zm9sb29zaTp3cm9uZw==");
	assert_int_equal(serve(), 200);
}

static void
doubled_headers_are_401(void **state)
{
	static const char *const names[] = {"HTTP_AUTHORIZATION", "HTTP_WEBHOOK_ID",
	    "HTTP_WEBHOOK_TIMESTAMP", "HTTP_WEBHOOK_SIGNATURE"};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		post(LOCKED, GOOD);
		set("HTTP_AUTHORIZATION", BASIC);
		add(names[i], BASIC);
		assert_int_equal(serve(), i == 0 ? 401 : 200);
		fake_http_clear(&q);
		add(names[i], BASIC);
		assert_int_equal(serve(), 401);
		assert_has(q.headers, "WWW-Authenticate: Basic");
		assert_int_equal(writer.calls, i == 0 ? 0 : 1);
	}
}

/* webhook-signature of a body, by the book. */
static const char *
signature(const char *id, const char *timestamp, const char *body, size_t len)
{
	static char header[80] = "v1,";
	unsigned char mac[32];
	char *text = xasprintf("%s.%s.", id, timestamp);
	size_t head = strlen(text);

	text = xrealloc(text, head + len);
	memcpy(text + head, body, len);
	assert_non_null(
	    HMAC(EVP_sha256(), KEY, sizeof KEY - 1, (unsigned char *)text, head + len, mac, NULL));
	EVP_EncodeBlock((unsigned char *)header + 3, mac, sizeof mac);
	free(text);
	return header;
}

static void
signature_where_configured(void **state)
{
	static char huge[LIMIT + 1000];
	char now[32];

	(void)state;
	memset(huge, ' ', sizeof huge);
	snprintf(now, sizeof now, "%lld", (long long)time(NULL));
	for (size_t piece = 0; piece < 4; piece++) { /* in one, and byte by byte */
		post(SIGNED, GOOD);
		q.piece = piece;
		set("HTTP_WEBHOOK_ID", "msg_1");
		set("HTTP_WEBHOOK_TIMESTAMP", now);
		set("HTTP_WEBHOOK_SIGNATURE", signature("msg_1", now, q.body, q.body_len));
		assert_int_equal(serve(), 200);

		/* One byte of the body is another. The body is read, and only then refused. */
		fake_http_clear(&q);
		q.body = TRANSFER("failed", "no.1043");
		serve();
		assert_problem(401);
		assert_lacks(q.headers, "WWW-Authenticate"); /* Basic would not help */
		assert_int_equal(q.reads, 1);
		assert_int_equal(writer.calls, 1);

		/* 401 comes before 413, also for what is beyond the limit: the last byte is another. */
		fake_http_clear(&q);
		q.body = huge;
		q.body_len = sizeof huge;
		set("HTTP_WEBHOOK_SIGNATURE", signature("msg_1", now, huge, sizeof huge));
		assert_int_equal(serve(), 413);
		fake_http_clear(&q);
		huge[sizeof huge - 1] = 'x';
		assert_int_equal(serve(), 401);
		huge[sizeof huge - 1] = ' ';
		assert_int_equal(writer.calls, 1);
	}
	post(SIGNED, GOOD);
	assert_int_equal(serve(), 401);
	assert_int_equal(q.reads, 0); /* the headers alone were enough */
}

static void
content_types(void **state)
{
	static const struct {
		const char *type;
		int status;
	} types[] = {
	    {NULL, 200},
	    {"", 200},
	    {"application/json", 200},
	    {"Application/JSON", 200},
	    {"application/json; charset=utf-8", 200},
	    {"application/json;charset=utf-8", 200},
	    {"application/json ; charset=utf-8", 200},
	    {" application/json ", 200},
	    {"application/vnd.foloosi+json", 200},
	    {"application/problem+JSON;x=y", 200},
	    {"text/json", 200},
	    {"text/plain", 200},
	    {"text/plain; charset=us-ascii", 200},
	    {"application/x-www-form-urlencoded", 200}, /* for the body is an object of JSON */
	    {"multipart/form-data; boundary=x", 200},
	    {"application/json, application/json", 200},
	    {"application/json,Application/JSON ,\tapplication/json", 200},
	    {"application/json; charset=utf-8, application/json", 200},
	    {"application/json; x=\"a, text/html\"", 200},
	    {"application/json; x=\"a\\\", text/html\", application/json", 200},
	    {"text/plain, text/plain", 200},
	    {"application/json, text/plain", 415},
	    {"application/json; x=\"a\", text/html", 415},
	    {"application/json; charset=utf-8, text/html", 415},
	    {"application/x-www-form-urlencoded, text/html", 415},
	    {", application/json", 415},
	    {"text/html", 415},
	    {"application/xml", 415},
	    {"application/octet-stream", 415},
	    {"json", 415},
	    {"/json", 415},
	    {"application/", 415},
	    {"application/+json", 415},
	    {"application/jsonp", 415},
	    {"application/json-seq", 415},
	    {"application/x+jsonx", 415},
	    {"image/x+json", 415},
	    {"application/x/y+json", 415},
	    {"application/x,application/y+json", 415},
	    {"application/json, text/html", 415},
	    {"application/json text/html", 415},
	    {"application/json,", 415},
	    {";charset=utf-8", 415},
	    {"text/plainer", 415},
	    {"text/html; x=application/json", 415},
	};

	(void)state;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		post(SHOP, GOOD);
		if (types[i].type == NULL)
			unset("CONTENT_TYPE");
		else
			set("CONTENT_TYPE", types[i].type);
		if (serve() != types[i].status)
			fail_msg("%s: %d", types[i].type, q.status);
		assert_int_equal(writer.calls, types[i].status == 200);
	}
	assert_problem(415);
	assert_has(q.headers, "Accept: application/json\r\n");
}

/* A form's type may be wrong, a form is none of ours. */
static void
forms(void **state)
{
	static const char *const types[] = {
	    "application/x-www-form-urlencoded; charset=utf-8", "multipart/form-data"};
	static const char *const objects[] = {
	    GOOD, " \t\r\n" GOOD, "\xEF\xBB\xBF" GOOD, "\xEF\xBB\xBF\n" GOOD};
	static const char *const others[] = {"", " ", "transaction_status=failed", "[" GOOD "]",
	    "%7B", "payload=" GOOD, "--x\r\n" GOOD, "\f" GOOD, "\xEF\xBB" GOOD};

	(void)state;
	for (size_t t = 0; t < 2; t++) {
		for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
			post(SHOP, objects[i]);
			set("CONTENT_TYPE", types[t]);
			assert_int_equal(serve(), 200);
			assert_int_equal(writer.calls, 1);
		}
		for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
			post(SHOP, others[i]);
			set("CONTENT_TYPE", types[t]);
			assert_int_equal(serve(), 415);
			assert_int_equal(writer.calls, 0);
		}
	}
	post(SHOP, "{"); /* taken as JSON, so it is kept as rejected */
	set("CONTENT_TYPE", types[0]);
	assert_int_equal(serve(), 400);
	assert_int_equal(writer.calls, 1);
}

static void
content_encodings(void **state)
{
	static const char *const encodings[] = {"gzip", "br", "gzip, gzip", " ", "identity, gzip",
	    "identity,", "utf8", "utf-16", "identityx"};
	static const char *const none[] = {"", "identity", "Identity", "utf-8", "UTF-8",
	    " identity ", "identity, identity", "utf-8,identity"};

	(void)state;
	for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++) {
		post(SHOP, GOOD);
		set("HTTP_CONTENT_ENCODING", encodings[i]);
		assert_int_equal(serve(), 415);
		assert_has(q.headers, "Accept-Encoding: identity\r\n");
		assert_int_equal(writer.calls, 0);
	}
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		post(SHOP, GOOD);
		set("HTTP_CONTENT_ENCODING", none[i]); /* "": how nginx says that there is none */
		assert_int_equal(serve(), 200);
		assert_int_equal(writer.calls, 1);
	}
}

static void
the_limit_is_exact(void **state)
{
	static char body[LIMIT + 1];

	(void)state;
	memset(body, ' ', sizeof body);
	memcpy(body, GOOD, sizeof GOOD - 1);
	post(SHOP, "");
	q.body = body;
	q.body_len = LIMIT;
	assert_int_equal(serve(), 200);
	assert_int_equal(writer.body_len, LIMIT);
	fake_http_clear(&q);
	q.body_len = LIMIT + 1;
	serve();
	assert_problem(413);
	assert_has(q.answer, "larger than 2048 bytes");
	assert_int_equal(writer.calls, 1);
}

static void
cut_short_keeps_nothing(void **state)
{
	(void)state;
	post(SHOP, GOOD); /* complete as JSON, yet not all of what was announced */
	q.cut = true;
	serve();
	assert_problem(400);
	assert_int_equal(writer.calls, 0);
}

static void
not_json_says_where(void **state)
{
	static const unsigned char digest_of_abc[DIGEST_SIZE] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01,
	    0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3,
	    0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};

	(void)state;
	post(SHOP, "{\n  \"a\": <script>}");
	writer.result.outcome = OUTCOME_REJECTED;
	serve();
	assert_problem(400);
	assert_has(q.answer, "\"offset\":9,\"line\":2,\"column\":8,");
	assert_lacks(q.answer, "script"); /* nothing of the body comes back */
	assert_int_equal(writer.calls, 1);
	assert_int_equal(strncmp(writer.faults, "not JSON: line 2 column 8: ", 27), 0);
	assert_string_equal(writer.order_ref, "(none)");
	assert_string_equal(writer.merchant, "shop");
	assert_string_equal(writer.status, "(none)");
	assert_int_equal(writer.body_len, q.body_len);
	assert_memory_equal(writer.body, q.body, q.body_len);

	post(SHOP, "abc");
	writer.result.outcome = OUTCOME_REJECTED;
	writer.result.delivery_id =
	    0; /* over the quota: only counted, and the answer is the same */
	assert_int_equal(serve(), 400);
	assert_memory_equal(writer.digest, digest_of_abc, DIGEST_SIZE);

	post(SHOP, ""); /* an empty body */
	writer.result.outcome = OUTCOME_REJECTED;
	assert_int_equal(serve(), 400);
	assert_has(q.answer, "\"offset\":0,\"line\":1,\"column\":1,");
	assert_int_equal(writer.calls, 1);
}

static void
every_fault_of_a_transfer(void **state)
{
	(void)state;
	post(SHOP, "{\"data\":{\"transfer\":{\"transaction_amount\":\"ten\",\"api\":{\"optional1\":"
		   "[1]}}}}");
	writer.result.outcome = OUTCOME_REJECTED;
	serve();
	assert_problem(422);
	assert_has(q.answer,
	    "\"faults\":[{\"pointer\":\"/data/transfer/transaction_status\",\"detail\":\"");
	assert_has(q.answer, "},{\"pointer\":\"/data/transfer/transaction_amount\",\"detail\":\"");
	assert_has(q.answer, "},{\"pointer\":\"/data/transfer/api/optional1\",\"detail\":\"");
	assert_lacks(q.answer, "\"offset\"");
	assert_has(writer.faults, "/data/transfer/transaction_status: is required\n"
				  "/data/transfer/transaction_amount: ");
	assert_has(writer.faults, "\n/data/transfer/api/optional1: ");
	assert_string_equal(writer.order_ref, "(none)");

	post(SHOP, "[]"); /* the pointer of the whole document is empty */
	writer.result.outcome = OUTCOME_REJECTED;
	assert_int_equal(serve(), 422);
	assert_has(q.answer, "\"faults\":[{\"pointer\":\"\",");
}

static void
rejected_but_not_kept_says_so(void **state)
{
	static const char *const bodies[] = {"{", "{}"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		post(SHOP, bodies[i]);
		writer.result = (struct delivery){
		    .outcome = OUTCOME_UNAVAILABLE, .unavailable = REASON_DATABASE};
		serve();
		assert_problem(503);
		assert_has(q.headers, "Retry-After: ");
		assert_has(q.answer, "no valid transfer");
		assert_has(q.answer, "Nothing was kept");
		assert_has(q.answer, i == 0 ? "\"line\":1" : "\"faults\":[");
	}
}

static void
committed(void **state)
{
	static const struct {
		enum outcome outcome;
		const char *order, *order_state, *reason;
		int64_t id;
		const char *answer;
	} rows[] = {
	    {OUTCOME_RECORDED, "no.1042", "paid", "", 17,
		"{\"outcome\":\"recorded\",\"order\":{\"ref\":\"no.1042\",\"state\":\"paid\"},"
		"\"id\":17,\"request\":\"################\"}\n"},
	    {OUTCOME_DUPLICATE, "no.1042", "cancelled", "", 17,
		"{\"outcome\":\"duplicate\",\"order\":{\"ref\":\"no.1042\",\"state\":\"cancelled\"}"
		","
		"\"id\":17,\"request\":\"################\"}\n"},
	    {OUTCOME_IGNORED, "no.1042", "", "status", 18, /* named, but there is no such order */
		"{\"outcome\":\"ignored\",\"order\":{\"ref\":\"no.1042\",\"state\":null},"
		"\"reason\":\"status\",\"id\":18,\"request\":\"################\"}\n"},
	    {OUTCOME_REVIEW, "", "", "no_order_key", INT64_MAX,
		"{\"outcome\":\"review\",\"order\":null,\"reason\":\"no_order_key\","
		"\"id\":9223372036854775807,\"request\":\"################\"}\n"},
	    {OUTCOME_RECORDED, "\"\\/\b\n\x01\x7f</b> caf\xc3\xa9 \xf0\x9f\x8e\x88", "paid", "", 0,
		"{\"outcome\":\"recorded\",\"order\":{\"ref\":"
		"\"\\\"\\\\/\\u0008\\u000a\\u0001\x7f</b> caf\xc3\xa9 \xf0\x9f\x8e\x88\","
		"\"state\":\"paid\"},\"request\":\"################\"}\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct delivery *v = &writer.result;

		post(SHOP, GOOD);
		v->outcome = rows[i].outcome;
		v->delivery_id = rows[i].id;
		snprintf(v->order, sizeof v->order, "%s", rows[i].order);
		snprintf(v->order_state, sizeof v->order_state, "%s", rows[i].order_state);
		snprintf(v->reason, sizeof v->reason, "%s", rows[i].reason);
		assert_int_equal(serve(), 200);
		assert_string_equal(q.type, "application/json");
		assert_has(q.headers, "Cache-Control: no-store\r\n");
		assert_answer(rows[i].answer);
	}

	/* The longest order there can be, all of it in need of an escape. */
	post(SHOP, GOOD);
	memset(writer.result.order, 1, ORDER_REF_SIZE - 1);
	writer.result.order[ORDER_REF_SIZE - 1] = '\0';
	assert_int_equal(serve(), 200);
	assert_int_equal(strlen(q.answer),
	    strlen("{\"outcome\":\"recorded\",\"order\":{\"ref\":\"\",\"state\":"
		   "\"cancelled\"},\"id\":17,\"request\":\"################\"}\n") +
		6 * (ORDER_REF_SIZE - 1));
}

static void
not_committed(void **state)
{
	static const struct {
		enum reason reason;
		const char *name, *sentence;
	} rows[] = {
	    {REASON_DATABASE, "database", "database is away"},
	    {REASON_IN_DOUBT, "in_doubt", "not known whether"},
	    {REASON_BUSY, "busy", "locked"},
	    {REASON_REFUSED, "refused", "refused"},
	    {REASON_SCHEMA, "schema", "schema"},
	    {REASON_NONE, NULL, "could not be recorded"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int seconds = 0;

		post(SHOP, GOOD);
		writer.result = (struct delivery){
		    .outcome = OUTCOME_UNAVAILABLE, .unavailable = rows[i].reason};
		serve();
		assert_problem(503);
		assert_has(q.answer, rows[i].sentence);
		if (rows[i].name != NULL) {
			char *member = xasprintf(",\"reason\":\"%s\",", rows[i].name);

			assert_has(q.answer, member);
			free(member);
		} else {
			assert_lacks(q.answer, "\"reason\"");
		}
		/* An answer may only say that nothing was kept where that is known. */
		if (rows[i].reason == REASON_IN_DOUBT)
			assert_lacks(q.answer, "Nothing was kept");
		else
			assert_has(q.answer, "Nothing was kept");
		assert_non_null(strstr(q.headers, "Retry-After: "));
		assert_int_equal(
		    sscanf(strstr(q.headers, "Retry-After: "), "Retry-After: %d\r\n", &seconds), 1);
		assert_between(seconds, 1, 60);
	}
}

/* ---- with a spool ------------------------------------------------------------ */

static int
spooled_files(const char *directory)
{
	char *command = xasprintf("ls %s | wc -l", directory);
	FILE *p = popen(command, "r");
	int n = -1;

	assert_int_equal(fscanf(p, "%d", &n), 1);
	pclose(p);
	free(command);
	return n;
}

static void
spools(void)
{
	static const struct {
		enum reason reason;
		const char *body;
		bool spooled;
	} rows[] = {
	    {REASON_DATABASE, GOOD, true},
	    {REASON_IN_DOUBT, GOOD, true},
	    {REASON_BUSY, GOOD, true},
	    {REASON_REFUSED, GOOD, false}, /* would be refused for ever */
	    {REASON_SCHEMA, GOOD, false},  /* the contract: not acknowledged */
	    {REASON_NONE, GOOD, false},
	    {REASON_DATABASE, "{", false}, /* no payment, and under a quota */
	    {REASON_DATABASE, "{}", false},
	    {REASON_IN_DOUBT, "{}", false},
	};
	char directory[] = "/tmp/fw-handler.XXXXXX", *error;
	struct handler *without = handler;
	struct spool *spool;
	int kept = 0;

	assert_non_null(mkdtemp(directory));
	spool = spool_open(
	    &(struct spool_options){.directory = directory, .max_bytes = 1 << 20, .max_files = 4},
	    &error);
	handler = handler_new(&writer, spool, NULL);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		post(SHOP, rows[i].body);
		writer.result = (struct delivery){
		    .outcome = OUTCOME_UNAVAILABLE, .unavailable = rows[i].reason};
		serve();
		if (rows[i].spooled) {
			assert_int_equal(q.status, 200);
			assert_answer(
			    "{\"outcome\":\"spooled\",\"request\":\"################\"}\n");
			/* what the writer is left with leaves time for the disk */
			assert_int_equal(writer.deadline, q.arrival + 2500);
			kept++;
		} else {
			assert_problem(503);
		}
		assert_int_equal(spooled_files(directory), kept);
	}

	post(SHOP, GOOD);
	assert_int_equal(serve(), 200); /* recorded: nothing to spool */
	assert_has(q.answer, "recorded");
	config.deadline_ms = 1000;
	post(SHOP, GOOD);
	writer.result =
	    (struct delivery){.outcome = OUTCOME_UNAVAILABLE, .unavailable = REASON_DATABASE};
	assert_int_equal(serve(), 200);
	assert_int_equal(writer.deadline, q.arrival + 750);
	config.deadline_ms = 3000;

	/* It is full now. */
	post(SHOP, GOOD);
	writer.result =
	    (struct delivery){.outcome = OUTCOME_UNAVAILABLE, .unavailable = REASON_DATABASE};
	serve();
	assert_problem(503);
	assert_has(q.answer, "\"reason\":\"spool_full\"");
	assert_has(q.answer, "Nothing was kept");
	assert_non_null(strstr(q.headers, "Retry-After: "));
	post(SHOP, GOOD);
	writer.result =
	    (struct delivery){.outcome = OUTCOME_UNAVAILABLE, .unavailable = REASON_IN_DOUBT};
	serve();
	assert_problem(503);
	assert_has(q.answer, "\"reason\":\"in_doubt\"");
	assert_lacks(q.answer, "Nothing was kept");

	handler_free(handler);
	handler = without;
	spool_close(spool);
	error = xasprintf("rm -rf %s", directory);
	assert_int_equal(system(error), 0);
	free(error);
}

/* Whether it was submitted, or refused at once. */
static void
spooled(void **state)
{
	(void)state;
	spools();
	refuses = true;
	spools();
	refuses = false;
}

/* ---- what is submitted to the writer ------------------------------------------------- */

static void
submitted_to_the_writer(void **state)
{
	(void)state;
	for (size_t piece = 0; piece < 3; piece++) {
		post(SHOP, GOOD);
		q.piece = piece;
		assert_int_equal(serve(), 200);
		assert_int_equal(writer.calls, 1);
		assert_string_equal(writer.merchant, "shop");
		assert_string_equal(writer.order_ref, "no.1042");
		assert_string_equal(writer.faults, "(none)");
		assert_string_equal(writer.status, "failed");
		assert_int_equal(writer.body_len, sizeof GOOD - 1);
		assert_memory_equal(writer.body, GOOD, sizeof GOOD - 1);
		/* One deadline for reading and recording, from the arrival on. */
		assert_int_equal(writer.deadline, q.arrival + 3000);
		assert_int_equal(q.until, q.arrival + 3000);
	}
}

/* The answer comes with handler_complete(). */
static void
submitted_and_completed(void **state)
{
	static const char *const bodies[] = {GOOD, "no json"};
	struct handler *submitter = handler_new(&writer, NULL, &q);

	(void)state;
	dup2(fileno(log_file), STDERR_FILENO);
	for (size_t i = 0; i < 2; i++) {
		post(SHOP, bodies[i]);
		assert_int_equal(handler_serve(submitter, &config, &q), HANDLER_PENDING);
		assert_int_equal(q.answers, 0);
		assert_int_equal(writer.calls, 1);
		handler_complete(submitter);
		assert_int_equal(q.answers, 1);
		assert_int_equal(q.status, i == 0 ? 200 : 400);

		post(SHOP, bodies[i]); /* refused at once */
		writer.refuses = true;
		writer.result = (struct delivery){
		    .outcome = OUTCOME_UNAVAILABLE, .unavailable = REASON_DATABASE};
		assert_int_equal(handler_serve(submitter, &config, &q), HANDLER_REFUSED);
		assert_int_equal(q.answers, 0);
		handler_complete(submitter);
		assert_int_equal(q.answers, 1);
		assert_int_equal(q.status, 503);
	}
	post("/elsewhere", GOOD); /* nothing to submit */
	assert_int_equal(handler_serve(submitter, &config, &q), HANDLER_ANSWERED);
	assert_int_equal(q.status, 404);
	assert_int_equal(writer.calls, 0);
	dup2(standard_error, STDERR_FILENO);
	handler_free(submitter);
}

static void
order_prefixes(void **state)
{
	static const struct {
		const char *prefix, *body, *order_ref, *unprefixed; /* NULL: none */
	} rows[] = {
	    {"SHOP-", TRANSFER("failed", "SHOP-no.1042"), "no.1042", NULL},
	    {"SHOP-", TRANSFER("failed", "no.1042"), "(none)", "no.1042"},
	    {"SHOP-", TRANSFER("failed", "shop-no.1042"), "(none)", "shop-no.1042"},
	    {"SHOP-", TRANSFER("failed", " FLSSUB_1 "), "(none)", "FLSSUB_1"},
	    {"SHOP-", TRANSFER("failed", "SHOP"), "(none)", "SHOP"},
	    {"SHOP-", TRANSFER("failed", "SHOP-"), "(none)", NULL},
	    {"SHOP-", TRANSFER("failed", "SHOP-SHOP-1"), "SHOP-1", NULL}, /* once */
	    {"SHOP-", TRANSFER("failed", " SHOP-1 "), "1", NULL},
	    {"SHOP-", TRANSFER("failed", "SHOP- 1\\r\\n"), "1", NULL},
	    {"SHOP-", TRANSFER("failed", "SHOP-undefined"), "(none)", NULL},
	    {"SHOP-", TRANSFER("failed", "undefined"), "(none)", NULL},
	    {NULL, TRANSFER("failed", "\\u00a0[object Object] "), "(none)", NULL},
	    {"SHOP-", TRANSFER("failed", ""), "(none)", NULL},
	    {NULL, TRANSFER("failed", "SHOP-no.1042"), "SHOP-no.1042", NULL},
	    {NULL, TRANSFER("failed", ""), "(none)", NULL},
	    {NULL, "{\"data\":{\"transfer\":{\"transaction_status\":\"failed\"}}}", "(none)", NULL},
	    {"\xc3\xa9", TRANSFER("failed", "\xc3\xa9\xc3\xa8"), "\xc3\xa8", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char prefix[16] = "";

		post(SHOP, rows[i].body);
		if (rows[i].prefix != NULL)
			snprintf(prefix, sizeof prefix, "%s", rows[i].prefix);
		merchants[1].order_prefix = rows[i].prefix != NULL ? prefix : NULL;
		assert_int_equal(serve(), 200);
		merchants[1].order_prefix = NULL;
		assert_string_equal(writer.order_ref, rows[i].order_ref);
		assert_string_equal(
		    writer.unprefixed, rows[i].unprefixed != NULL ? rows[i].unprefixed : "(none)");
	}

	post(SHOP, "{\"data\":{\"transfer\":{\"transaction_status\":\"failed\",\"payment_"
		   "reference\":\"ref-1\"}}}");
	merchants[1].order_key = TRANSFER_REFERENCE;
	serve();
	merchants[1].order_key = TRANSFER_OPTIONAL1;
	assert_string_equal(writer.order_ref, "ref-1");
}

/* A handler serves one request after the other: nothing of one may show in the next. */
static void
nothing_is_left_of_the_one_before(void **state)
{
	(void)state;
	post(SHOP, GOOD);
	snprintf(writer.result.reason, REASON_SIZE, "late");
	serve();
	post(SHOP, "{}");
	writer.result = (struct delivery){.outcome = OUTCOME_REJECTED};
	serve();
	assert_string_equal(writer.order_ref, "(none)");
	post(SHOP, GOOD);
	writer.result = (struct delivery){.outcome = OUTCOME_RECORDED};
	serve();
	assert_answer(
	    "{\"outcome\":\"recorded\",\"order\":null,\"request\":\"################\"}\n");
	assert_string_equal(writer.faults, "(none)");
	post(SHOP, "{");
	writer.result =
	    (struct delivery){.outcome = OUTCOME_UNAVAILABLE, .unavailable = REASON_DATABASE};
	serve();
	post(SHOP, GOOD);
	writer.result =
	    (struct delivery){.outcome = OUTCOME_UNAVAILABLE, .unavailable = REASON_DATABASE};
	serve();
	assert_lacks(q.answer, "no valid transfer");
	assert_lacks(q.answer, "\"line\"");
}

/* ---- the log ----------------------------------------------------------------- */

/* What was logged since, as one text; owned by the caller. */
static char *
logged_since(long start)
{
	struct stat st;
	char *text;

	fstat(fileno(log_file), &st);
	text = xcalloc(1, (size_t)(st.st_size - start) + 1);
	assert_int_equal(
	    pread(fileno(log_file), text, (size_t)(st.st_size - start), start), st.st_size - start);
	return text;
}

static long
log_end(void)
{
	struct stat st;

	fstat(fileno(log_file), &st);
	return st.st_size;
}

static void
one_line_a_request(void **state)
{
	long start = log_end();
	char *text, *id;

	(void)state;
	post(SHOP, GOOD);
	serve();
	text = logged_since(start);
	assert_has(text, " level=info event=request id=");
	assert_has(text, " merchant=shop outcome=recorded status=200 ms=");
	assert_has(text, " delivery=17\n");
	assert_ptr_equal(strchr(text, '\n') + 1, text + strlen(text)); /* one line */
	id = strstr(text, "id=") + 3;
	id[16] = '\0';
	assert_has(q.answer, id); /* ties log and answer together */
	free(text);
}

static void
an_unknown_merchant_is_said_once(void **state)
{
	char *text, *once;

	(void)state;
	for (int i = 0; i < 3; i++) {
		post(SHOP, GOOD);
		writer.result.merchant_known = false;
		serve();
	}
	/* Not known because nothing is known: that is no reason to warn. */
	post(LOCKED, GOOD);
	set("HTTP_AUTHORIZATION", BASIC);
	writer.result = (struct delivery){.outcome = OUTCOME_UNAVAILABLE};
	serve();
	text = logged_since(0); /* by this or an earlier test */
	once = strstr(text, "event=merchant_unknown merchant=shop ");
	assert_non_null(once);
	assert_lacks(once + 1, "event=merchant_unknown merchant=shop ");
	assert_lacks(text, "event=merchant_unknown merchant=locked");
	free(text);
}

/* The last test: all that was logged by the others, which used every return. */
static void
no_log_line_holds_a_secret(void **state)
{
	static const char *const secrets[] = {TOKEN, "no.1042", "SHOP-", "sesame", "Zm9sb29za",
	    "wrong", "script", "Injected", "msg_1", "v1,", "ref-1", "transaction", "/webhooks",
	    "#fragment"};
	char *text = logged_since(0);

	(void)state;
	assert_has(text, "outcome=not_found");
	assert_has(text, "outcome=unauthorized");
	assert_has(text, "outcome=unavailable");
	for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
		assert_lacks(text, secrets[i]);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_check_in_its_order),
	    cmocka_unit_test(not_found_is_alike_for_all),
	    cmocka_unit_test(found_by_these_too),
	    cmocka_unit_test(get_and_head_say_hello),
	    cmocka_unit_test(other_methods_are_405),
	    cmocka_unit_test(basic_where_configured),
	    cmocka_unit_test(doubled_headers_are_401),
	    cmocka_unit_test(signature_where_configured),
	    cmocka_unit_test(content_types),
	    cmocka_unit_test(forms),
	    cmocka_unit_test(content_encodings),
	    cmocka_unit_test(the_limit_is_exact),
	    cmocka_unit_test(cut_short_keeps_nothing),
	    cmocka_unit_test(not_json_says_where),
	    cmocka_unit_test(every_fault_of_a_transfer),
	    cmocka_unit_test(rejected_but_not_kept_says_so),
	    cmocka_unit_test(committed),
	    cmocka_unit_test(not_committed),
	    cmocka_unit_test(spooled),
	    cmocka_unit_test(submitted_to_the_writer),
	    cmocka_unit_test(submitted_and_completed),
	    cmocka_unit_test(order_prefixes),
	    cmocka_unit_test(nothing_is_left_of_the_one_before),
	    cmocka_unit_test(one_line_a_request),
	    cmocka_unit_test(an_unknown_merchant_is_said_once),
	    cmocka_unit_test(no_log_line_holds_a_secret),
	};

	return cmocka_run_group_tests_name("handler", tests, set_up, tear_down);
}
