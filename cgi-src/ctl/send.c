/* SPDX-License-Identifier: MIT */
/*
 * send.c - "foloosictl send": post the provider's sample payloads to an endpoint.
 *
 * Every run must be new to the database (an order key and ids
 * that were never sent before), and no secret may be given on the command line,
 * where every user of the host can read it: the URL, whose last part is the token, may
 * come from WEBHOOK_URL, and passwords and keys come from files only.
 */
#include <sys/random.h>

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth.h"
#include "clock.h"
#include "ctl.h"
#include "http_client.h"
#include "mem.h"
#include "table.h"

#define URL_ENV "WEBHOOK_URL"
#define TIMEOUT_MS 15000 /* above any sensible deadline of a handler */
#define REPEAT_MAX 1000000
#define SECRET_FILE_MAX 4096 /* bytes */

/* The payloads on the provider's page: a success, and a failure with and without its ids. */
struct sample {
	const char *name;
	const char *status;
	const char *message;
	bool has_ids;
};

static const struct sample samples[] = {
    {"success", "success", "approved", true},
    {"failed", "failed", "Insufficient funds/declined", true},
    {"failed-null", "failed", "Insufficient funds/declined", false},
};
#define SAMPLE_NAMES "success failed failed-null all"
#define SAMPLES (sizeof(samples) / sizeof(samples[0]))

struct send_options {
	const char *url;
	const char *sample; /* a sample's name; NULL or "all": each */
	const char *order;  /* NULL: a fresh one for each sample */
	const char *transaction;
	const char *amount;
	const char *currency;
	char *user_password;            /* owned; NULL: no Basic */
	struct credentials credentials; /* the signature's key, if there is one */
	long repeat;
};

/* n random bytes in hexadecimal; out has 2n + 1. */
static void
random_hex(char *out, size_t n)
{
	unsigned char bytes[16];

	if (n > sizeof(bytes) || getrandom(bytes, n, 0) != (ssize_t)n)
		abort();
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
}

/* "DEMO-20261123-120000-1a2b3c": sorts by time, and is unique. Owned. */
static char *
fresh_order(void)
{
	time_t now = clock_wall_s();
	char when[32], tail[7];
	struct tm tm;

	random_hex(tail, 3);
	strftime(when, sizeof(when), "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
	return xasprintf("DEMO-%s-%s", when, tail);
}

/* The provider's prefix and a tail as in the provider's examples. Owned. */
static char *
fresh_transaction_no(void)
{
	char tail[15];

	random_hex(tail, 7);
	return xasprintf("FLNIAREC%.13s", tail);
}

/* A UUID of version 4 (RFC 9562). Owned. */
static char *
fresh_reference(void)
{
	char h[33];

	random_hex(h, 16);
	h[12] = '4';
	h[16] = "89ab"[h[16] % 4];
	return xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16, h + 20);
}

/* The body of one payload, in the shape of the provider's page. Owned. */
static char *
payload(const struct sample *s, const struct send_options *o, const char *order, size_t *len)
{
	char *number = o->transaction != NULL ? xstrdup(o->transaction) : fresh_transaction_no();
	char *reference = fresh_reference();
	const struct {
		const char *name, *value;
	} transfer[] =
	    {
		{"transaction_status", s->status},
		{"transaction_no", s->has_ids ? number : NULL},
		{"payment_reference", s->has_ids ? reference : NULL},
		{"transaction_amount", o->amount != NULL ? o->amount : "100"},
		{"transaction_currency", o->currency != NULL ? o->currency : "AED"},
		{"transaction_message", s->message},
	    },
	  api[] = {
	      {"optional1", order},
	      {"optional2", "Online Class"},
	      {"optional3", "Foloosi developer"},
	      {"customer_email", "buyer@example.org"},
	      {"customer_mobile", "555000111"},
	      {"card_last_four", "0042"},
	  };
	char *body = NULL;
	FILE *out = open_memstream(&body, len);

	if (out == NULL)
		abort();
	fputs("{\n  \"data\": {\n    \"transfer\": {\n", out);
	for (size_t i = 0; i < sizeof(transfer) / sizeof(transfer[0]); i++) {
		fprintf(out, "      \"%s\": ", transfer[i].name);
		table_json_string(out, transfer[i].value);
		fputs(",\n", out);
	}
	fputs("      \"api\": {\n", out);
	for (size_t i = 0; i < sizeof(api) / sizeof(api[0]); i++) {
		fprintf(out, "%s        \"%s\": ", i > 0 ? ",\n" : "", api[i].name);
		table_json_string(out, api[i].value);
	}
	fputs("\n      }\n    }\n  }\n}\n", out);
	if (ferror(out) || fclose(out) != 0)
		abort();
	free(number);
	free(reference);
	return body;
}

/*
 * The first string member with this name in an answer of ours, or "-". The answers
 * are flat and have no escapes, so this need not be a parser. Static buffer.
 */
static const char *
answer_member(const char *answer, const char *name)
{
	static char value[64];
	char *member = xasprintf("\"%s\"", name);
	const char *p = answer != NULL ? strstr(answer, member) : NULL;
	size_t n = 0;

	if (p != NULL) {
		p += strlen(member);
		p += strspn(p, " \t\r\n:");
		if (*p++ == '"')
			while (
			    n + 1 < sizeof(value) && (isalnum((unsigned char)p[n]) || p[n] == '_'))
				n++;
	}
	free(member);
	if (n == 0)
		return "-";
	memcpy(value, p, n);
	value[n] = '\0';
	return value;
}

/* Post one body once, and print a line about it. Was it answered by 2xx? */
static bool
send_once(struct http_client *client, const struct send_options *o, const char *name,
    const char *order, const char *body, size_t len)
{
	const char *headers[5] = {"Content-Type: application/json"};
	char *id = NULL, *timestamp = NULL, *signature = NULL;
	struct http_client_request request = {
	    .url = o->url,
	    .headers = headers,
	    .user_password = o->user_password,
	    .body = body,
	    .len = len,
	    .timeout_ms = TIMEOUT_MS,
	    .keep = true,
	};
	struct http_client_answer answer;
	bool ok;

	if (o->credentials.signature_count > 0) {
		char number[33], seconds[24], text[AUTH_SIGNATURE_SIZE];

		random_hex(number, 16);
		snprintf(seconds, sizeof(seconds), "%lld", (long long)clock_wall_s());
		auth_sign(&o->credentials.signature[0], number, seconds, body, len, text);
		headers[1] = id = xasprintf("webhook-id: %s", number);
		headers[2] = timestamp = xasprintf("webhook-timestamp: %s", seconds);
		headers[3] = signature = xasprintf("webhook-signature: %s", text);
	}

	if (!http_client_fetch(client, &request, &answer)) {
		printf("%-11s  no answer: %s\n", name, answer.detail);
		ok = false;
	} else {
		ok = answer.status >= 200 && answer.status < 300;
		printf("%-11s  %ld", name, answer.status);
		printf("  %-9s", answer_member(answer.body, "outcome"));
		printf("  %s", order);
		printf("  %s\n", answer_member(answer.body, "state"));
	}
	free(id);
	free(timestamp);
	free(signature);
	return ok;
}

static bool
send_samples(const struct send_options *o)
{
	struct http_client *client = http_client_new();
	bool ok = true;

	for (size_t i = 0; i < SAMPLES; i++) {
		char *order, *body;
		size_t len;

		if (o->sample != NULL && strcmp(o->sample, "all") != 0 &&
		    strcmp(o->sample, samples[i].name) != 0)
			continue;
		order = o->order != NULL ? xstrdup(o->order) : fresh_order();
		body = payload(&samples[i], o, order, &len);
		for (long n = 0; n < o->repeat; n++)
			ok = send_once(client, o, samples[i].name, order, body, len) && ok;
		free(body);
		free(order);
	}
	http_client_free(client);
	return ok;
}

/* The first line of a file that holds a secret, owned; NULL after a message. */
static char *
read_secret(const char *path)
{
	char line[SECRET_FILE_MAX];
	FILE *f = fopen(path, "re");
	bool ok = f != NULL && fgets(line, sizeof(line), f) != NULL;

	if (f == NULL || ferror(f))
		warn("%s", path);
	else if (!ok)
		warnx("%s: is empty", path);
	if (f != NULL)
		fclose(f);
	if (!ok)
		return NULL;
	line[strcspn(line, "\r\n")] = '\0';
	return xstrdup(line);
}

/* CTL_OK if *o is complete. */
static int
read_call(const struct ctl_call *call, struct send_options *o)
{
	const char *basic = ctl_value(call, "basic-file"),
		   *signature = ctl_value(call, "signature-secret-file"),
		   *repeat = ctl_value(call, "repeat");

	o->sample = ctl_value(call, "sample");
	o->order = ctl_value(call, "order");
	o->transaction = ctl_value(call, "transaction");
	o->amount = ctl_value(call, "amount");
	o->currency = ctl_value(call, "currency");
	o->repeat = 1;
	if (call->argc > 1)
		return ctl_usage(call->self);
	o->url = call->argc == 1 ? call->argv[0] : getenv(URL_ENV);
	if (o->url == NULL || *o->url == '\0') {
		warnx("no URL: give it as the argument, or in the environment as " URL_ENV);
		return ctl_usage(call->self);
	}
	if (repeat != NULL) {
		o->repeat = ctl_is_number(repeat) ? strtol(repeat, NULL, 10) : 0;
		if (o->repeat < 1 || o->repeat > REPEAT_MAX) {
			warnx("--repeat %s: a number from 1 to %d", repeat, REPEAT_MAX);
			return CTL_USAGE;
		}
	}
	if (basic != NULL) {
		if ((o->user_password = read_secret(basic)) == NULL)
			return CTL_FAILED;
		if (strchr(o->user_password, ':') == NULL) {
			warnx("%s: its first line is not user:password", basic);
			return CTL_FAILED;
		}
	}
	if (signature != NULL) {
		char *secret = read_secret(signature);
		bool ok = secret != NULL && credentials_add_signature(&o->credentials, secret);

		if (secret != NULL && !ok)
			warnx("%s: its first line is not whsec_ and base64 of 24 to 64 bytes",
			    signature);
		free(secret);
		if (!ok)
			return CTL_FAILED;
	}
	return CTL_OK;
}

static int
run_send(const struct ctl_call *call)
{
	struct send_options o = {0};
	int code = read_call(call, &o);

	if (code == CTL_OK)
		code = send_samples(&o) ? CTL_OK : CTL_FAILED;
	free(o.user_password);
	credentials_wipe(&o.credentials);
	return code;
}

const struct subcommand send_subcommand = {
    .name = "send",
    .arguments = "[URL]",
    .summary = "post the provider's sample payloads to an endpoint",
    .options = CTL_OPTIONS(
	{"sample", 0, "NAME", "(failed-null: without its ids; default: all)", SAMPLE_NAMES},
	{"order", 0, "REF", "optional1, the order's key (default: a fresh one for each sample)",
	    NULL},
	{"transaction", 0, "NO", "transaction_no (default: a fresh one for each sample)", NULL},
	{"amount", 0, "A", "transaction_amount, sent as it stands (default: 100)", NULL},
	{"currency", 0, "C", "transaction_currency, sent as it stands (default: AED)", NULL},
	{"basic-file", 0, "FILE", "user:password for HTTP Basic", NULL},
	{"signature-secret-file", 0, "FILE",
	    "whsec_… secret; the payloads are signed (Standard Webhooks)", NULL},
	{"repeat", 0, "N", "send each payload N times, byte for byte", NULL}),
    .help = "  URL                        the endpoint (default: $WEBHOOK_URL, so that the\n"
	    "                             token stands in no list of processes)\n",
    .run = run_send,
};
