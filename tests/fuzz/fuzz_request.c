// objects: handler/handler.c handler/answer.c handler/stats.c lib/outcome.c lib/spool.c lib/spool_io.c lib/config.c lib/config_file.c lib/settings.c lib/config_check.c lib/url.c lib/mail.c lib/auth.c lib/transfer.c lib/json.c lib/rfc8259.c lib/text.c lib/money.c lib/log.c ../tests/unit/fake_http.c ../tests/unit/fake_writer.c
/* SPDX-License-Identifier: MIT */
/*
 * Any request head and body: one answer, of those that are promised, whose JSON is complete. The
 * input's first lines are target, method, content type, encoding and the auth headers; an empty
 * one is a header that is missing. The rest is the body. What reaches the writer has
 * authenticated: its target names a merchant with its token, and none with a signature, which no
 * input has.
 */
#include <json-c/json.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_http.h"
#include "../unit/fake_writer.h"
#include "clock.h"
#include "handler.h"
#include "log.h"
#include "mem.h"

#define TOKEN "tok3n-of-the-shop-0123456789"
#define LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const lines[] = {"REQUEST_URI", "REQUEST_METHOD", "CONTENT_TYPE",
    "HTTP_CONTENT_ENCODING", "HTTP_AUTHORIZATION", "HTTP_WEBHOOK_ID", "HTTP_WEBHOOK_TIMESTAMP",
    "HTTP_WEBHOOK_SIGNATURE"};
#define LINES (sizeof lines / sizeof *lines)

static struct merchant merchants[3]; /* sorted by name */
static struct config config = {
    .body_limit = LIMIT, .deadline_ms = 3000, .merchants = merchants, .merchant_count = 3};
static struct writer writer;
static struct handler *handler;

static void
require(int what)
{
	if (!what)
		abort();
}

static void
set_up(void)
{
	static char names[][8] = {"basic", "shop", "signed"};

	for (size_t i = 0; i < 3; i++) {
		merchants[i].name = names[i];
		merchants[i].order_key = TRANSFER_OPTIONAL1;
		require(credentials_add_token(&merchants[i].credentials, TOKEN));
	}
	require(credentials_add_basic(&merchants[0].credentials, "foloosi", "sesame"));
	require(credentials_add_signature(
	    &merchants[2].credentials, "whsec_9hK2mQx7Zr4TnB6vLw1YcJ8dPf3sGa5e"));
	log_set_level(LOG_ERROR);
	handler = handler_new(&writer, NULL, NULL);
}

/* The next line as a string of its own, so that ASan sees each of its ends; owned by the caller. */
static char *
cut(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size == 0 ? NULL : memchr(*data, '\n', *size);
	size_t len = end == NULL ? *size : (size_t)(end - *data);
	char *line = xcalloc(1, len + 1);

	memcpy(line, *data, len);
	*data += end == NULL ? len : len + 1;
	*size -= end == NULL ? len : len + 1;
	return line;
}

static void
look_at_answer(const struct http_request *q)
{
	static const int promised[] = {200, 400, 401, 404, 405, 413, 415, 422, 503};
	const char *method = http_param(q, "REQUEST_METHOD");
	bool known = false;
	json_object *root;

	require(q->answers == 1);
	for (size_t i = 0; i < sizeof promised / sizeof *promised; i++)
		known |= q->status == promised[i];
	require(known);
	require(strchr(q->type, '\n') == NULL && strstr(q->headers, "\r\n\r\n") == NULL);
	if (method != NULL && strcmp(method, "HEAD") == 0)
		return;
	root = json_tokener_parse(q->answer);
	require(json_object_get_type(root) == json_type_object);
	require(json_object_object_get_ex(root, q->status == 200 ? "outcome" : "title", NULL));
	json_object_put(root);
}

static void
look_at_delivery(const struct http_request *q)
{
	const char *uri = http_param(q, "REQUEST_URI"), *token = strstr(uri, "/" TOKEN);

	require(token != NULL && strstr(uri, "/webhooks/foloosi/") != NULL);
	require(token[sizeof TOKEN] == '\0' || token[sizeof TOKEN] == '?');
	require(strcmp(http_param(q, "REQUEST_METHOD"), "POST") == 0);
	require(strcmp(writer.merchant, "signed") != 0);
	require(
	    strcmp(writer.merchant, "basic") != 0 || http_param(q, "HTTP_AUTHORIZATION") != NULL);
	require(writer.body_len == q->body_len && writer.body_len <= LIMIT);
	require(memcmp(writer.body, q->body, q->body_len) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_request q = {.piece = 100};
	char *values[LINES], *body;
	size_t params = 0;

	if (handler == NULL)
		set_up();
	for (size_t i = 0; i < LINES; i++) {
		values[i] = cut(&data, &size);
		if (*values[i] != '\0') {
			q.params[params].name = lines[i];
			q.params[params++].value = values[i];
		}
	}
	body = xrealloc(NULL, size);
	memcpy(body, data, size);
	q.body = body;
	q.body_len = size;
	q.arrival = clock_ms();
	writer = (struct writer){.result = {.outcome = OUTCOME_RECORDED, .merchant_known = true}};
	if (handler_serve(handler, &config, &q) != HANDLER_ANSWERED)
		handler_complete(handler);
	look_at_answer(&q);
	if (writer.calls > 0)
		look_at_delivery(&q);
	require(writer.calls <= 1);
	fake_http_clear(&q);
	free(body);
	for (size_t i = 0; i < LINES; i++)
		free(values[i]);
	return 0;
}
