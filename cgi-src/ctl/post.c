/*
 * post.c - POST a body to a URL, and hear what comes back.
 *
 * The hard part is what must not happen: that a secret in the URL ends in a
 * message, that a payload follows a redirect to somewhere else, that a peer who
 * answers slowly or endlessly holds us. libcurl's defaults allow most of it.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "post.h"

struct post {
	CURL *curl;
	char error[CURL_ERROR_SIZE];
};

/* What could not be set would be sent wrongly, and only memory or a bug is the cause. */
#define SET(curl, option, value)                                                                   \
	do {                                                                                       \
		if (curl_easy_setopt(curl, option, value) != CURLE_OK)                             \
			abort();                                                                   \
	} while (0)

struct post *
post_new(void)
{
	struct post *p = xcalloc(1, sizeof(*p));

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    (p->curl = curl_easy_init()) == NULL)
		out_of_memory();
	return p;
}

void
post_free(struct post *p)
{
	if (p == NULL)
		return;
	curl_easy_cleanup(p->curl);
	curl_global_cleanup(); /* counts its callers */
	free(p);
}

/* Keep what fits, and take the rest from the wire without keeping it. */
static size_t
on_body(char *bytes, size_t size, size_t count, void *arg)
{
	struct post_answer *a = arg;
	size_t n = size * count;
	size_t room = POST_ANSWER_MAX - a->len;
	size_t keep = n < room ? n : room;

	a->body = xrealloc(a->body, a->len + keep + 1);
	memcpy(a->body + a->len, bytes, keep);
	a->len += keep;
	a->body[a->len] = '\0';
	return n;
}

static struct curl_slist *
header_list(const struct post_request *r)
{
	/* libcurl would wait a second for "100 Continue" before a larger body. */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");

	for (const char *const *h = r->headers; list != NULL && h != NULL && *h != NULL; h++) {
		struct curl_slist *longer = curl_slist_append(list, *h);

		if (longer == NULL)
			abort();
		list = longer;
	}
	if (list == NULL)
		abort();
	return list;
}

/* The environment's exceptions from the proxy, and ourselves. */
static char *
no_proxy(void)
{
	const char *set = getenv("no_proxy");

	if (set == NULL)
		set = getenv("NO_PROXY");
	return xasprintf("%s%slocalhost,127.0.0.1,::1", set != NULL ? set : "",
	    set != NULL && *set != '\0' ? "," : "");
}

bool
post_send(struct post *p, const struct post_request *r, struct post_answer *a)
{
	struct curl_slist *headers = header_list(r);
	char *direct = no_proxy();
	CURLcode code;

	*a = (struct post_answer){.body = xstrdup("")};
	p->error[0] = '\0';

	curl_easy_reset(p->curl); /* the connection survives it */
	SET(p->curl, CURLOPT_ERRORBUFFER, p->error);
	SET(p->curl, CURLOPT_NOSIGNAL, 1L); /* no SIGALRM, no SIGPIPE: threads may be near */
	SET(p->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(p->curl, CURLOPT_FOLLOWLOCATION, 0L);
	SET(p->curl, CURLOPT_TIMEOUT_MS, r->timeout_ms);
	SET(p->curl, CURLOPT_NOPROXY, direct);
	SET(p->curl, CURLOPT_HTTPHEADER, headers);
	if (r->body != NULL) {
		SET(p->curl, CURLOPT_POST, 1L);
		SET(p->curl, CURLOPT_POSTFIELDS, r->body);
		SET(p->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->len);
	}
	SET(p->curl, CURLOPT_WRITEFUNCTION, on_body);
	SET(p->curl, CURLOPT_WRITEDATA, a);
	if (r->user_password != NULL) {
		SET(p->curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(p->curl, CURLOPT_USERPWD, r->user_password);
	}
	SET(p->curl, CURLOPT_URL, r->url);

	code = curl_easy_perform(p->curl);
	if (code == CURLE_OK)
		curl_easy_getinfo(p->curl, CURLINFO_RESPONSE_CODE, &a->status);
	if (code != CURLE_OK || a->status == 0) {
		post_answer_free(a);
		a->error = xstrdup(code == CURLE_OK      ? "no HTTP answer"
				   : p->error[0] != '\0' ? p->error
							 : curl_easy_strerror(code));
	}

	curl_slist_free_all(headers);
	free(direct);
	return a->error == NULL;
}

void
post_answer_free(struct post_answer *a)
{
	free(a->body);
	free(a->error);
	*a = (struct post_answer){0};
}
