/*
 * courier.c - many HTTP requests under way at the same time, in one thread.
 *
 * The hard part is what a receiver may do to us: answer slowly, endlessly, with a redirect
 * to somewhere inside, or not at all. So every request has one deadline for all of it,
 * redirects are answers like others, nothing but http and https is spoken, and of a body no
 * more is taken than its cap. URLs may hold secrets: no sentence has one.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "courier.h"
#include "mem.h"

#ifndef VERSION
#define VERSION "unversioned"
#endif

#define CONNECT_MS 5000
#define RETRY_AFTER_MAX 86400
#define IDLE_CONNECTIONS 64

struct errand {
	CURL *curl;
	struct curl_slist *headers;
	char *request; /* the body that is sent */
	courier_done *done;
	void *context;
	bool keep;
	char *body; /* the answer's, if it is kept */
	size_t len;
};

struct courier {
	CURLM *multi;
	struct errand **errands; /* under way */
	size_t count, cap;
	char *no_proxy;
};

/* What could not be set would be sent wrongly, and only memory or a bug is the cause. */
#define SET(curl, option, value)                                                                   \
	do {                                                                                       \
		if (curl_easy_setopt(curl, option, value) != CURLE_OK)                             \
			abort();                                                                   \
	} while (0)

struct courier *
courier_new(void)
{
	struct courier *c = xcalloc(1, sizeof *c);
	const char *set = getenv("no_proxy");

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    (c->multi = curl_multi_init()) == NULL ||
	    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS) != CURLM_OK)
		abort();
	if (set == NULL)
		set = getenv("NO_PROXY");
	c->no_proxy = xasprintf("%s%slocalhost,127.0.0.1,::1", set != NULL ? set : "",
	    set != NULL && *set != '\0' ? "," : "");
	return c;
}

static void
errand_free(struct courier *c, struct errand *e)
{
	curl_multi_remove_handle(c->multi, e->curl);
	curl_easy_cleanup(e->curl);
	curl_slist_free_all(e->headers);
	free(e->request);
	free(e->body);
	free(e);
}

void
courier_free(struct courier *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->count; i++)
		errand_free(c, c->errands[i]);
	curl_multi_cleanup(c->multi);
	curl_global_cleanup(); /* counts its callers */
	free(c->errands);
	free(c->no_proxy);
	free(c);
}

/* Up to the cap; what is longer is an answer whose end nobody waits for. */
static size_t
on_body(char *bytes, size_t size, size_t count, void *arg)
{
	struct errand *e = arg;
	size_t n = size * count;

	if (n > COURIER_ANSWER_MAX - e->len) {
		free(e->body);
		e->body = NULL;
		e->keep = false;
		return CURL_WRITEFUNC_ERROR;
	}
	if (e->keep) {
		e->body = xrealloc(e->body, e->len + n + 1);
		memcpy(e->body + e->len, bytes, n);
		e->body[e->len + n] = '\0';
	}
	e->len += n;
	return n;
}

static struct curl_slist *
header_list(const char *const *headers)
{
	/* libcurl would wait a second for "100 Continue" before a larger body. */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	for (; list != NULL && headers != NULL && *headers != NULL; headers++) {
		struct curl_slist *longer = curl_slist_append(list, *headers);

		if (longer == NULL)
			abort();
		list = longer;
	}
	if (list == NULL)
		abort();
	return list;
}

void
courier_send(struct courier *c, const struct courier_request *r)
{
	struct errand *e = xcalloc(1, sizeof *e);

	e->done = r->done;
	e->context = r->context;
	e->keep = r->keep;
	e->headers = header_list(r->headers);
	if ((e->curl = curl_easy_init()) == NULL)
		abort();
	SET(e->curl, CURLOPT_PRIVATE, e);
	SET(e->curl, CURLOPT_NOSIGNAL, 1L);
	SET(e->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(e->curl, CURLOPT_FOLLOWLOCATION, 0L);
	SET(e->curl, CURLOPT_PATH_AS_IS, 1L);
	SET(e->curl, CURLOPT_TIMEOUT_MS, r->timeout_ms);
	SET(e->curl, CURLOPT_CONNECTTIMEOUT_MS,
	    r->timeout_ms < CONNECT_MS ? r->timeout_ms : (long)CONNECT_MS);
	SET(e->curl, CURLOPT_NOPROXY, c->no_proxy);
	SET(e->curl, CURLOPT_USERAGENT, "foloosi-worker/" VERSION);
	SET(e->curl, CURLOPT_HTTPHEADER, e->headers);
	SET(e->curl, CURLOPT_WRITEFUNCTION, on_body);
	SET(e->curl, CURLOPT_WRITEDATA, e);
	if (r->body != NULL) {
		e->request = xrealloc(NULL, r->len);
		memcpy(e->request, r->body, r->len);
		SET(e->curl, CURLOPT_POST, 1L);
		SET(e->curl, CURLOPT_POSTFIELDS, e->request);
		SET(e->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->len);
	}
	SET(e->curl, CURLOPT_URL, r->url);

	if (c->count == c->cap) {
		c->cap = c->cap * 2 + 16;
		c->errands = xrealloc(c->errands, c->cap * sizeof(struct errand *));
	}
	c->errands[c->count++] = e;
	if (curl_multi_add_handle(c->multi, e->curl) != CURLM_OK)
		abort();
}

void
courier_wait(struct courier *c, int fd, int timeout_ms)
{
	struct curl_waitfd extra = {.fd = fd, .events = CURL_WAIT_POLLIN};
	int running;

	curl_multi_perform(c->multi, &running);
	curl_multi_poll(c->multi, &extra, 1, timeout_ms, NULL);
	curl_multi_perform(c->multi, &running);
}

/* libcurl's own words may name hosts and paths. */
static const char *
reason_of(CURLcode code)
{
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return "the host's name is unknown";
	case CURLE_COULDNT_CONNECT:
		return "nobody listens there, or the network is down";
	case CURLE_OPERATION_TIMEDOUT:
		return "no answer in time";
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return "TLS: the certificate is not valid, or the handshake failed";
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
		return "the connection broke before the end of the answer";
	default:
		return "no HTTP answer";
	}
}

static void
understand(struct errand *e, CURLcode code, struct courier_answer *a)
{
	curl_off_t wait = 0;

	*a = (struct courier_answer){0};
	/* An answer that is longer than its cap is one all the same. */
	if (code == CURLE_OK || code == CURLE_WRITE_ERROR)
		curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &a->status);
	if (a->status == 0) {
		a->reason = reason_of(code);
		return;
	}
	if (curl_easy_getinfo(e->curl, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
		a->retry_after_s = wait < RETRY_AFTER_MAX ? (long)wait : RETRY_AFTER_MAX;
	a->body = e->body;
	a->len = e->len;
}

void
courier_hand_over(struct courier *c)
{
	CURLMsg *message;
	struct courier_answer answer;
	struct errand *e = NULL;
	int left;

	while ((message = curl_multi_info_read(c->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE)
			continue;
		if (curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &e) != CURLE_OK)
			abort();
		understand(e, message->data.result, &answer);
		for (size_t i = 0; i < c->count; i++)
			if (c->errands[i] == e) {
				c->errands[i] = c->errands[--c->count];
				break;
			}
		e->done(e->context, &answer);
		errand_free(c, e);
	}
}
