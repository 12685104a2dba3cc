/* SPDX-License-Identifier: MIT */
/*
 * http.h - a request and an answer, whatever brought them: FastCGI (threads of
 * one process, or one process a request under mod_fcgid) or plain CGI. http.c is
 * the only file that calls libfcgi.
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How this process was started; see http_detect(). */
enum http_way {
	HTTP_WAY_CGI,     /* one request in the environment and on stdin */
	HTTP_WAY_FCGID,   /* a listening socket on fd 0, one request at a time: mod_fcgid */
	HTTP_WAY_FASTCGI, /* a listening socket, many threads */
};

struct http_request; /* one request at a time; used again for the next */

/* Once, before any thread: SIGPIPE, FCGX_Init. */
void http_init(void);

/*
 * Have hook() called by a thread that is about to wait for a peer that is late, which may
 * take long. For programs that accept in only some of their threads. Once, before any request.
 */
void http_on_wait(void (*hook)(void));

/*
 * Owned by the caller, ended by http_request_free(). listen_fd: the listening
 * socket, or -1 for the one request of plain CGI.
 */
struct http_request *http_request_new(int listen_fd);
void http_request_free(struct http_request *);

enum http_accepted {
	HTTP_REQUEST,
	HTTP_NOTHING,
	HTTP_CLOSED
};
/*
 * Wait for the next request, at most about half a second. HTTP_REQUEST: there is
 * one, to be ended by http_finish(). HTTP_NOTHING: none yet (or a peer that was
 * no web server), ask again. HTTP_CLOSED: the socket is gone, or the one request of
 * plain CGI was answered.
 */
enum http_accepted http_accept(struct http_request *);

int64_t http_arrival(const struct http_request *); /* clock_ms() of the connection */

/* CGI meta-variable (RFC 3875), or NULL. Lives until http_finish(). */
const char *http_param(const struct http_request *, const char *name);
/* How many times the web server passed it: more than 1 is a doubled header. */
int http_param_count(const struct http_request *, const char *name);

enum http_body {
	HTTP_BODY_WHOLE,
	HTTP_BODY_TOO_LARGE,
	HTTP_BODY_CUT_SHORT
};
/*
 * Read the body to its end, whatever its size, keep at most limit bytes of it, and
 * pass every piece to update() as it arrives.
 *   until   clock_ms(), at least a tenth of a second from now: a body that is not complete by then is cut
 *           short. Too large comes first: a body that was cut off beyond limit is too large
 *   *body   the bytes kept; belongs to the request and lives until the next http_accept()
 *   *len    how many bytes arrived, which may be more than were kept
 */
enum http_body http_read_body(struct http_request *, size_t limit, int64_t until,
    void (*update)(void *arg, const void *bytes, size_t len), void *arg, const unsigned char **body,
    size_t *len);

/*
 * Send the answer and end the request and its connection.
 *   status, title  the status line
 *   headers        "Name: value\r\n" lines beside Content-Type and Content-Length, or ""
 *   type           content type
 *   body           sent unless the request is HEAD
 */
void http_finish(struct http_request *, int status, const char *title, const char *headers,
    const char *type, const char *body, size_t len);

/*
 * For the stop: every peer that has not yet sent its whole request finds it cut short now. From any
 * thread.
 */
void http_stop_reading(void);

/*
 * How this process was started: fd 0 a listening socket (spawn-fcgi, mod_fcgid,
 * StandardInput=socket), LISTEN_FDS (a service manager, fd 3), else CGI if the
 * environment has GATEWAY_INTERFACE or REQUEST_METHOD. Returns the listening fd in *fd,
 * or -1. HTTP_WAY_FASTCGI with *fd -1 means: nothing was inherited, the caller binds one.
 */
enum http_way http_detect(int *fd);

/*
 * Bind a unix socket: temporary name, mode and group, listen with HTTP_BACKLOG,
 * then rename, so that the path never leads nowhere. Takes the path over from a
 * server that still listens there, which keeps what it has accepted: so one can be
 * replaced without a gap. Returns the fd, or -1 with a malloc'ed sentence in *error.
 */
#define HTTP_BACKLOG 4096
int http_listen(const char *path, unsigned mode, const char *group, char **error);

/*
 * Remove the path that http_listen() bound, if it still leads to that socket, so that
 * no new connection comes. What waits already can still be accepted, and without
 * waiting: http_accept() no longer blocks on it.
 */
void http_unlisten(void);

#endif
