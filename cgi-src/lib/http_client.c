/* SPDX-License-Identifier: MIT */
/*
 * http_client.c - requests by HTTP, and mails by SMTP, to servers of others.
 *
 * The hard part is what a server may do to us: answer slowly, endlessly, with a redirect
 * to somewhere inside, or not at all. So every request has one deadline for all of it,
 * redirects are answers like others, nothing but http and https is spoken, and of a body no
 * more is taken than its limit. URLs may hold secrets: no sentence has one.
 *
 * Mails are requests like the others, but for the end: libcurl ends an SMTP connection with
 * QUIT and waits for the answer, up to two minutes, in which nothing else would move. So
 * connections are kept for the next mail, and those that are left at the stop are shut down first.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_client.h"
#include "mem.h"
#include "program.h"
#include "text.h"

#define CONNECT_MS 5000
#define RETRY_AFTER_MAX 21600 /* seconds; Debian 13's libcurl reports no more */
#define IDLE_CONNECTIONS 64

struct pending {
	CURL *curl;
	struct curl_slist *headers;
	struct curl_slist *recipients;
	char *request; /* the body that is sent; owned */
	size_t request_len;
	size_t sent; /* of a mail's */
	bool is_mail;
	http_client_done *done;
	void *context;
	bool keep;
	struct text body; /* the answer's, if it is kept */
	size_t received, max;
	char error[CURL_ERROR_SIZE];
};

struct http_client {
	CURLM *multi;
	int *sockets; /* of mail servers, also those without a mail under way */
	size_t socket_count, socket_cap;
	struct pending **pending; /* under way */
	size_t count, cap;
	char *no_proxy, *agent;

	/* of http_client_fetch() */
	bool fetched;
	struct http_client_answer answer;
	struct text body;
	char error[CURL_ERROR_SIZE];
};

/* What could not be set would be sent wrongly, and only memory or a bug is the cause. */
#define SET(curl, option, value)                                                                   \
	do {                                                                                       \
		if (curl_easy_setopt(curl, option, value) != CURLE_OK)                             \
			abort();                                                                   \
	} while (0)

struct http_client *
http_client_new(void)
{
	struct http_client *c = xcalloc(1, sizeof *c);
	const char *set = getenv("no_proxy");

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    (c->multi = curl_multi_init()) == NULL ||
	    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS) != CURLM_OK)
		out_of_memory();
	if (set == NULL)
		set = getenv("NO_PROXY");
	c->no_proxy = xasprintf("%s%slocalhost,127.0.0.1,::1", set != NULL ? set : "",
	    set != NULL && *set != '\0' ? "," : "");
	c->agent = xasprintf("%s/%s", program_invocation_short_name, VERSION);
	return c;
}

/* ---- mail servers' sockets ---- */

static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_client *c = arg;
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

	(void)purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (c->socket_count == c->socket_cap) {
		c->socket_cap = c->socket_cap * 2 + 8;
		c->sockets = xrealloc(c->sockets, c->socket_cap * sizeof *c->sockets);
	}
	c->sockets[c->socket_count++] = fd;
	return fd;
}

static int
on_close(void *arg, curl_socket_t fd)
{
	struct http_client *c = arg;

	for (size_t i = 0; i < c->socket_count; i++)
		if (c->sockets[i] == fd) {
			c->sockets[i] = c->sockets[--c->socket_count];
			break;
		}
	return close(fd);
}

/* ---- requests ---- */

static void
pending_free(struct http_client *c, struct pending *p)
{
	curl_multi_remove_handle(c->multi, p->curl);
	curl_easy_cleanup(p->curl);
	curl_slist_free_all(p->headers);
	curl_slist_free_all(p->recipients);
	free(p->request);
	text_free(&p->body);
	free(p);
}

void
http_client_free(struct http_client *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->socket_count; i++)
		shutdown(c->sockets[i], SHUT_RDWR); /* no answer to QUIT is waited for */
	for (size_t i = 0; i < c->count; i++)
		pending_free(c, c->pending[i]);
	curl_multi_cleanup(c->multi);
	curl_global_cleanup(); /* counts its callers */
	free(c->pending);
	free(c->sockets);
	free(c->no_proxy);
	free(c->agent);
	text_free(&c->body);
	free(c);
}

/* Up to the limit; the end of a longer answer is not waited for. */
static size_t
on_body(char *bytes, size_t size, size_t count, void *arg)
{
	struct pending *p = arg;
	size_t n = size * count;

	if (n > p->max - p->received) {
		text_free(&p->body);
		p->keep = false;
		return CURL_WRITEFUNC_ERROR;
	}
	if (p->keep)
		text_add_bytes(&p->body, bytes, n);
	p->received += n;
	return n;
}

static size_t
on_mail(char *room, size_t size, size_t count, void *arg)
{
	struct pending *p = arg;
	size_t n = size * count;

	if (n > p->request_len - p->sent)
		n = p->request_len - p->sent;
	memcpy(room, p->request + p->sent, n);
	p->sent += n;
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
set_http(const struct http_client *c, struct pending *p, const struct http_client_request *r)
{
	/* libcurl would wait a second for "100 Continue" before a larger body. */
	p->headers = append(NULL, "Expect:");
	for (const char *const *h = r->headers; h != NULL && *h != NULL; h++)
		p->headers = append(p->headers, *h);
	SET(p->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(p->curl, CURLOPT_FOLLOWLOCATION, 0L);
	SET(p->curl, CURLOPT_PATH_AS_IS, 1L);
	SET(p->curl, CURLOPT_USERAGENT, c->agent);
	SET(p->curl, CURLOPT_HTTPHEADER, p->headers);
	if (r->user_password != NULL) {
		SET(p->curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		SET(p->curl, CURLOPT_USERPWD, r->user_password);
	}
	if (p->request != NULL) {
		SET(p->curl, CURLOPT_POST, 1L);
		SET(p->curl, CURLOPT_POSTFIELDS, p->request);
		SET(p->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->request_len);
	}
}

static void
set_mail(struct http_client *c, struct pending *p, const struct http_client_request *r)
{
	const struct http_client_mail *m = r->mail;
	char *to = xasprintf("<%s>", m->to), *from = xasprintf("<%s>", m->from);

	p->is_mail = true;
	p->recipients = append(NULL, to);
	SET(p->curl, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	SET(p->curl, CURLOPT_USE_SSL, m->starttls ? (long)CURLUSESSL_ALL : (long)CURLUSESSL_NONE);
	if (m->ca_file != NULL)
		SET(p->curl, CURLOPT_CAINFO, m->ca_file);
	if (m->user != NULL) {
		SET(p->curl, CURLOPT_USERNAME, m->user);
		SET(p->curl, CURLOPT_PASSWORD, m->password);
	}
	SET(p->curl, CURLOPT_MAIL_FROM, from);
	SET(p->curl, CURLOPT_MAIL_RCPT, p->recipients);
	SET(p->curl, CURLOPT_UPLOAD, 1L);
	SET(p->curl, CURLOPT_READFUNCTION, on_mail);
	SET(p->curl, CURLOPT_READDATA, p);
	SET(p->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)p->request_len);
	SET(p->curl, CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(p->curl, CURLOPT_OPENSOCKETDATA, c);
	SET(p->curl, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	SET(p->curl, CURLOPT_CLOSESOCKETDATA, c);
	/* If a connection is closed all the same (there are too many), for its answer to QUIT. */
	SET(p->curl, CURLOPT_SERVER_RESPONSE_TIMEOUT, r->timeout_ms / 1000 + 1);
	free(to);
	free(from);
}

void
http_client_submit(struct http_client *c, const struct http_client_request *r)
{
	struct pending *p = xcalloc(1, sizeof *p);

	p->done = r->done;
	p->context = r->context;
	p->keep = r->keep;
	if (r->body != NULL) {
		p->request = xrealloc(NULL, r->len);
		memcpy(p->request, r->body, r->len);
		p->request_len = r->len;
	}
	p->max = r->answer_max != 0 ? r->answer_max : HTTP_CLIENT_ANSWER_MAX;
	if ((p->curl = curl_easy_init()) == NULL)
		out_of_memory();
	SET(p->curl, CURLOPT_PRIVATE, p);
	SET(p->curl, CURLOPT_ERRORBUFFER, p->error);
	SET(p->curl, CURLOPT_NOSIGNAL, 1L); /* no SIGALRM: there are other threads */
	SET(p->curl, CURLOPT_TIMEOUT_MS, r->timeout_ms);
	SET(p->curl, CURLOPT_CONNECTTIMEOUT_MS,
	    r->timeout_ms < CONNECT_MS ? r->timeout_ms : (long)CONNECT_MS);
	SET(p->curl, CURLOPT_NOPROXY, c->no_proxy);
	SET(p->curl, CURLOPT_WRITEFUNCTION, on_body);
	SET(p->curl, CURLOPT_WRITEDATA, p);
	if (r->mail != NULL)
		set_mail(c, p, r);
	else
		set_http(c, p, r);
	SET(p->curl, CURLOPT_URL, r->url);

	if (c->count == c->cap) {
		c->cap = c->cap * 2 + 16;
		c->pending = xrealloc(c->pending, c->cap * sizeof(struct pending *));
	}
	c->pending[c->count++] = p;
	if (curl_multi_add_handle(c->multi, p->curl) != CURLM_OK)
		abort();
}

void
http_client_wait(struct http_client *c, int fd, int timeout_ms)
{
	struct curl_waitfd extra = {.fd = fd, .events = CURL_WAIT_POLLIN};
	int running;

	curl_multi_perform(c->multi, &running);
	curl_multi_poll(c->multi, &extra, fd >= 0, timeout_ms, NULL);
	curl_multi_perform(c->multi, &running);
}

/* For logs and the database: libcurl's own words may name hosts and paths. */
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
 * Was the request answered? For a mail that is the reply to its sender, its recipient or its text;
 * the greeting and the handshake are none.
 */
static bool
was_answered(const struct pending *p, CURLcode code, long status)
{
	if (!p->is_mail) /* An answer that is longer than its limit is one all the same. */
		return code == CURLE_OK || code == CURLE_WRITE_ERROR;
	return code == CURLE_OK ||
	       (status >= 400 &&
		   (code == CURLE_SEND_ERROR || (code == CURLE_WEIRD_SERVER_REPLY && p->sent > 0)));
}

static void
read_answer(struct pending *p, CURLcode code, struct http_client_answer *a)
{
	curl_off_t wait = 0;

	*a = (struct http_client_answer){0};
	curl_easy_getinfo(p->curl, CURLINFO_RESPONSE_CODE, &a->status);
	if (!was_answered(p, code, a->status) || a->status == 0) {
		a->status = 0;
		a->reason = reason_of(code);
		a->detail = code == CURLE_OK    ? "no HTTP answer"
			    : *p->error != '\0' ? p->error
						: curl_easy_strerror(code);
		return;
	}
	if (curl_easy_getinfo(p->curl, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
		a->retry_after_s = wait < RETRY_AFTER_MAX ? (long)wait : RETRY_AFTER_MAX;
	a->body = p->body.bytes;
	a->len = p->body.len;
}

void
http_client_complete(struct http_client *c)
{
	CURLMsg *message;
	struct http_client_answer answer;
	struct pending *p = NULL;
	int left;

	while ((message = curl_multi_info_read(c->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE)
			continue;
		if (curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &p) != CURLE_OK)
			abort();
		read_answer(p, message->data.result, &answer);
		for (size_t i = 0; i < c->count; i++)
			if (c->pending[i] == p) {
				c->pending[i] = c->pending[--c->count];
				break;
			}
		p->done(p->context, &answer);
		pending_free(c, p);
	}
}

static void
on_fetched(void *context, const struct http_client_answer *answer)
{
	struct http_client *c = context;

	c->fetched = true;
	c->answer = *answer;
	if (answer->body != NULL) {
		text_add_bytes(&c->body, answer->body, answer->len);
		c->answer.body = c->body.bytes;
	}
	if (answer->detail != NULL) {
		snprintf(c->error, sizeof c->error, "%s", answer->detail);
		c->answer.detail = c->error;
	}
}

bool
http_client_fetch(
    struct http_client *c, const struct http_client_request *r, struct http_client_answer *answer)
{
	struct http_client_request request = *r;

	request.done = on_fetched;
	request.context = c;
	c->fetched = false;
	text_clear(&c->body);
	http_client_submit(c, &request);
	while (!c->fetched) {
		http_client_wait(c, -1, 1000);
		http_client_complete(c);
	}
	*answer = c->answer;
	return answer->reason == NULL;
}
