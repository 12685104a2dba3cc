/*
 * courier.c - many HTTP requests and mails under way at the same time, in one thread.
 *
 * The hard part is what a receiver may do to us: answer slowly, endlessly, with a redirect
 * to somewhere inside, or not at all. So every request has one deadline for all of it,
 * redirects are answers like others, nothing but http and https is spoken, and of a body no
 * more is taken than its cap. URLs may hold secrets: no sentence has one.
 *
 * Mails are requests like the others, but for the end: libcurl takes leave of an SMTP server with
 * QUIT and waits for the answer, up to two minutes, in which nothing else would move. So
 * connections are kept for the next mail, and those that are left at the stop are cut first.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
	struct curl_slist *recipients;
	char *request; /* the body that is sent */
	size_t request_len;
	size_t sent; /* of a mail's */
	bool is_mail;
	courier_done *done;
	void *context;
	bool keep;
	char *body; /* the answer's, if it is kept */
	size_t len, max;
};

struct courier {
	CURLM *multi;
	int *lines; /* sockets of mail servers, also those without a mail under way */
	size_t line_count, line_cap;
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
		out_of_memory();
	if (set == NULL)
		set = getenv("NO_PROXY");
	c->no_proxy = xasprintf("%s%slocalhost,127.0.0.1,::1", set != NULL ? set : "",
	    set != NULL && *set != '\0' ? "," : "");
	return c;
}

/* ---- mail servers' sockets ---- */

static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct courier *c = arg;
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

	(void)purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (c->line_count == c->line_cap) {
		c->line_cap = c->line_cap * 2 + 8;
		c->lines = xrealloc(c->lines, c->line_cap * sizeof *c->lines);
	}
	c->lines[c->line_count++] = fd;
	return fd;
}

static int
on_close(void *arg, curl_socket_t fd)
{
	struct courier *c = arg;

	for (size_t i = 0; i < c->line_count; i++)
		if (c->lines[i] == fd) {
			c->lines[i] = c->lines[--c->line_count];
			break;
		}
	return close(fd);
}

/* ---- requests ---- */

static void
errand_free(struct courier *c, struct errand *e)
{
	curl_multi_remove_handle(c->multi, e->curl);
	curl_easy_cleanup(e->curl);
	curl_slist_free_all(e->headers);
	curl_slist_free_all(e->recipients);
	free(e->request);
	free(e->body);
	free(e);
}

void
courier_free(struct courier *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->line_count; i++)
		shutdown(c->lines[i], SHUT_RDWR); /* nobody is left to wait for an answer to QUIT */
	for (size_t i = 0; i < c->count; i++)
		errand_free(c, c->errands[i]);
	curl_multi_cleanup(c->multi);
	curl_global_cleanup(); /* counts its callers */
	free(c->errands);
	free(c->lines);
	free(c->no_proxy);
	free(c);
}

/* Up to the cap; what is longer is an answer whose end nobody waits for. */
static size_t
on_body(char *bytes, size_t size, size_t count, void *arg)
{
	struct errand *e = arg;
	size_t n = size * count;

	if (n > e->max - e->len) {
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

static size_t
on_mail(char *room, size_t size, size_t count, void *arg)
{
	struct errand *e = arg;
	size_t n = size * count;

	if (n > e->request_len - e->sent)
		n = e->request_len - e->sent;
	memcpy(room, e->request + e->sent, n);
	e->sent += n;
	return n;
}

static struct curl_slist *
append(struct curl_slist *list, const char *text)
{
	struct curl_slist *longer = curl_slist_append(list, text);

	if (longer == NULL)
		out_of_memory();
	return longer;
}

static void
set_http(struct errand *e, const struct courier_request *r)
{
	/* libcurl would wait a second for "100 Continue" before a larger body. */
	e->headers = append(NULL, "Expect:");
	for (const char *const *h = r->headers; h != NULL && *h != NULL; h++)
		e->headers = append(e->headers, *h);
	SET(e->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(e->curl, CURLOPT_FOLLOWLOCATION, 0L);
	SET(e->curl, CURLOPT_PATH_AS_IS, 1L);
	SET(e->curl, CURLOPT_USERAGENT, "foloosi-worker/" VERSION);
	SET(e->curl, CURLOPT_HTTPHEADER, e->headers);
	if (e->request != NULL) {
		SET(e->curl, CURLOPT_POST, 1L);
		SET(e->curl, CURLOPT_POSTFIELDS, e->request);
		SET(e->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)e->request_len);
	}
}

static void
set_mail(struct courier *c, struct errand *e, const struct courier_request *r)
{
	const struct courier_mail *m = r->mail;
	char *to = xasprintf("<%s>", m->to), *from = xasprintf("<%s>", m->from);

	e->is_mail = true;
	e->recipients = append(NULL, to);
	SET(e->curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	SET(e->curl, CURLOPT_USE_SSL, m->starttls ? (long)CURLUSESSL_ALL : (long)CURLUSESSL_NONE);
	if (m->ca_file != NULL)
		SET(e->curl, CURLOPT_CAINFO, m->ca_file);
	if (m->user != NULL) {
		SET(e->curl, CURLOPT_USERNAME, m->user);
		SET(e->curl, CURLOPT_PASSWORD, m->password);
	}
	SET(e->curl, CURLOPT_MAIL_FROM, from);
	SET(e->curl, CURLOPT_MAIL_RCPT, e->recipients);
	SET(e->curl, CURLOPT_UPLOAD, 1L);
	SET(e->curl, CURLOPT_READFUNCTION, on_mail);
	SET(e->curl, CURLOPT_READDATA, e);
	SET(e->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)e->request_len);
	SET(e->curl, CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(e->curl, CURLOPT_OPENSOCKETDATA, c);
	SET(e->curl, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	SET(e->curl, CURLOPT_CLOSESOCKETDATA, c);
	/* Should one be given up all the same (there are too many), for its answer to QUIT. */
	SET(e->curl, CURLOPT_SERVER_RESPONSE_TIMEOUT, r->timeout_ms / 1000 + 1);
	free(to);
	free(from);
}

void
courier_send(struct courier *c, const struct courier_request *r)
{
	struct errand *e = xcalloc(1, sizeof *e);

	e->done = r->done;
	e->context = r->context;
	e->keep = r->keep;
	if (r->body != NULL) {
		e->request = xrealloc(NULL, r->len);
		memcpy(e->request, r->body, r->len);
		e->request_len = r->len;
	}
	e->max = r->answer_max != 0 ? r->answer_max : COURIER_ANSWER_MAX;
	if ((e->curl = curl_easy_init()) == NULL)
		out_of_memory();
	SET(e->curl, CURLOPT_PRIVATE, e);
	SET(e->curl, CURLOPT_NOSIGNAL, 1L);
	SET(e->curl, CURLOPT_TIMEOUT_MS, r->timeout_ms);
	SET(e->curl, CURLOPT_CONNECTTIMEOUT_MS,
	    r->timeout_ms < CONNECT_MS ? r->timeout_ms : (long)CONNECT_MS);
	SET(e->curl, CURLOPT_NOPROXY, c->no_proxy);
	SET(e->curl, CURLOPT_WRITEFUNCTION, on_body);
	SET(e->curl, CURLOPT_WRITEDATA, e);
	if (r->mail != NULL)
		set_mail(c, e, r);
	else
		set_http(e, r);
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
	curl_multi_poll(c->multi, &extra, fd >= 0, timeout_ms, NULL);
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
	case CURLE_USE_SSL_FAILED:
		return "the server does not offer STARTTLS";
	case CURLE_LOGIN_DENIED:
		return "the server refuses user or password";
	default:
		return "no answer that can be understood";
	}
}

/*
 * Was what was sent answered? For mail that is the reply to its sender, its recipient or its text; the
 * greeting and the handshake say nothing of it.
 */
static bool
was_answered(const struct errand *e, CURLcode code, long status)
{
	if (!e->is_mail) /* An answer that is longer than its cap is one all the same. */
		return code == CURLE_OK || code == CURLE_WRITE_ERROR;
	return code == CURLE_OK ||
	       (status >= 400 &&
		   (code == CURLE_SEND_ERROR || (code == CURLE_WEIRD_SERVER_REPLY && e->sent > 0)));
}

static void
understand(struct errand *e, CURLcode code, struct courier_answer *a)
{
	curl_off_t wait = 0;

	*a = (struct courier_answer){0};
	curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &a->status);
	if (!was_answered(e, code, a->status) || a->status == 0) {
		a->status = 0;
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
