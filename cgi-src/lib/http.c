/* SPDX-License-Identifier: MIT */
/*
 * http.c - a request and an answer, whatever brought them.
 *
 * The hard part is to use libfcgi for the protocol's records and for nothing else, and never
 * to wait for a peer without a limit:
 *
 * - Its accept loop cannot be stopped in a program with threads, gives up a thread at
 *   EMFILE, and has no time limit. So this file accepts, and gives FCGX_Accept_r() a connection
 *   that is open already: with ipcFd set and keepConnection on it goes on as with a kept
 *   connection. The listening socket has a receive timeout, so that accept returns twice a
 *   second and the stop needs no signals.
 * - It reads what the body left on a kept connection as the next request. A body that
 *   looks like FastCGI records would then be a forged request. So no connection is ever
 *   used twice, also when the web server asks for it (fastcgi_keep_conn); that would pin a
 *   thread to each idle connection besides.
 * - It reads with read(), as long as that takes. Nearly every request is smaller than its buffer
 *   and all there when it is accepted: is_whole_request() checks. Then its first read takes all,
 *   nothing can block, and a request costs five calls: accept, recv, read, write, close.
 * - For any other the thread may have to wait. Before that it calls the hook of http_on_wait(), so
 *   that another thread accepts meanwhile. Then reads wait for SO_RCVTIMEO at most. libfcgi takes
 *   a timeout for an error and never resumes, so before each wait the limit is set to what the
 *   whole body may still take. libfcgi has a duplicate of the connection, which it closes by
 *   itself. The original stays open until close_connection(), so http_stop_reading() can shut it
 *   down from another thread and never meets a descriptor that was closed and opened again.
 * - A body that ends early ends like one that is whole. Whole is only what libfcgi saw the
 *   end of without an error, and what is as long as CONTENT_LENGTH says, if that says a number
 *   (for chunked bodies web servers send none, or an empty one).
 * - Plain CGI has none of this: environment, fd 0 and fd 1.
 */
#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "http.h"
#include "clock.h"
#include "log.h"
#include "mem.h"

#define ACCEPT_WAIT_MS 500      /* after which an idle thread looks for the stop */
#define HEAD_WAIT_MS 2000       /* a read of the parameters: a web server sends them at once */
#define SEND_WAIT_MS 2000       /* a write of the answer: it fits into the socket's buffer */
#define LINGER_MS 500           /* for the peer to read an answer given before its body's end */
#define READ_MS 100             /* to read a body, however late its request is */
#define LATE_MS 2               /* a peer that has sent nothing for so long is late */
#define PRESSURE_WAIT_MS 50     /* no descriptor or memory left: another request must end first */
#define PRESSURE_LOG_MS 10000   /* and that is logged at most this often */
#define PIECE 8192              /* bytes at a time; no more than libfcgi's buffer holds */
#define BUFFER_KEPT (1UL << 20) /* bytes: a larger body buffer is given back */
#define TEMPORARY_SUFFIX ".new" /* of the socket path until it is ready */

struct http_request {
	bool cgi;
	bool answered;     /* plain CGI has one request */
	int listen_fd;     /* borrowed */
	FCGX_Request fcgx; /* with the connection, or a duplicate of fd */
	int fd; /* the connection if its peer may be late, else -1. Written under requests.lock */
	char **envp;               /* NAME=value …, of the current request */
	int64_t arrival;           /* clock_ms() */
	bool whole;                /* the body was read to its end */
	unsigned char *body;       /* owned, reused */
	size_t body_cap;           /* its size in bytes */
	struct http_request *next; /* in the list of requests */
};

/* Every request object of a socket, for http_stop_reading(). */
static struct {
	pthread_mutex_t lock;
	struct http_request *first;
	bool reading_stopped;
} requests = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* What http_listen() bound, for http_unlisten(). */
static struct {
	char *path; /* owned; NULL: nothing */
	int fd;
	dev_t dev;
	ino_t ino;
} bound;

static void (*on_wait)(void);

void
http_init(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, term, usr1;

	sigaction(SIGTERM, NULL, &term);
	sigaction(SIGUSR1, NULL, &usr1);
	if (FCGX_Init() != 0)
		fatal("libfcgi does not start");
	/* It has taken these two for its own accept loop, which does not run here. */
	sigaction(SIGTERM, &term, NULL);
	sigaction(SIGUSR1, &usr1, NULL);
	/* The peer may be gone before the answer: that is an error of write(). */
	sigaction(SIGPIPE, &ignore, NULL);
}

void
http_on_wait(void (*hook)(void))
{
	on_wait = hook;
}

static void
set_wait(int fd, int option, int64_t ms)
{
	struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	setsockopt(fd, SOL_SOCKET, option, &wait, sizeof wait);
}

struct http_request *
http_request_new(int listen_fd)
{
	struct http_request *q = xcalloc(1, sizeof *q);

	q->fd = -1;
	q->listen_fd = listen_fd;
	q->cgi = listen_fd < 0;
	if (q->cgi)
		return q;

	if (FCGX_InitRequest(&q->fcgx, -1, 0) != 0) /* -1: libfcgi has nothing to accept from */
		fatal("libfcgi does not make a request");
	/* An inherited socket may be set to anything. */
	fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) & ~O_NONBLOCK);
	set_wait(listen_fd, SO_RCVTIMEO, ACCEPT_WAIT_MS);
	pthread_mutex_lock(&requests.lock);
	q->next = requests.first;
	requests.first = q;
	pthread_mutex_unlock(&requests.lock);
	return q;
}

/*
 * Do these bytes hold one whole request and nothing else, so that libfcgi will never wait? Only the
 * heads of the records are looked at: a begin, parameters, an empty one, a body, an empty one,
 * all with one id. The begin and the empty ones must not be padded: libfcgi forgets about that.
 */
static bool
is_whole_request(const unsigned char *bytes, size_t len)
{
	enum {
		BEGIN_REQUEST = 1,
		PARAMS = 4,
		STDIN = 5,
		HEAD = 8
	};
	unsigned type = BEGIN_REQUEST;

	for (size_t at = 0; at + HEAD <= len;) {
		const unsigned char *head = bytes + at;
		size_t content = (size_t)head[4] << 8 | head[5], padding = head[6];

		if (head[0] != 1 || head[1] != type || head[2] != bytes[2] || head[3] != bytes[3])
			return false;
		at += HEAD + content + padding;
		if (type != BEGIN_REQUEST && content > 0)
			continue;
		if (padding > 0)
			return false;
		if (type == STDIN)
			return at == len;
		type = type == BEGIN_REQUEST ? PARAMS : STDIN;
	}
	return false;
}

/* Is all of the request there already? A peer that has sent nothing yet has LATE_MS to do so. */
static bool
is_all_there(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	unsigned char bytes[PIECE];
	ssize_t len = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);

	if (len < 0 && errno == EAGAIN && poll(&readable, 1, LATE_MS) > 0)
		len = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	return len > 0 && is_whole_request(bytes, (size_t)len);
}

/* Prepare a connection whose peer may be late. False, with errno: it cannot be done. */
static bool
keep_late_connection(struct http_request *q, int fd)
{
	if ((q->fcgx.ipcFd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return false;
	if (on_wait != NULL)
		on_wait();
	/* Both, always: a TCP connection inherits the listening socket's timeout. */
	set_wait(fd, SO_RCVTIMEO, HEAD_WAIT_MS);
	set_wait(fd, SO_SNDTIMEO, SEND_WAIT_MS);
	pthread_mutex_lock(&requests.lock);
	q->fd = fd;
	if (requests.reading_stopped)
		shutdown(fd, SHUT_RD);
	pthread_mutex_unlock(&requests.lock);
	return true;
}

/* Close the connection: libfcgi's descriptor, if it has not, and the original. */
static void
close_connection(struct http_request *q)
{
	int fd = q->fd;

	if (q->fcgx.ipcFd >= 0)
		close(q->fcgx.ipcFd);
	q->fcgx.ipcFd = -1;
	if (fd < 0)
		return;
	pthread_mutex_lock(&requests.lock);
	q->fd = -1;
	pthread_mutex_unlock(&requests.lock);
	close(fd);
}

void
http_request_free(struct http_request *q)
{
	if (q == NULL)
		return;
	if (!q->cgi) {
		close_connection(q);
		FCGX_Free(&q->fcgx, 0);
		pthread_mutex_lock(&requests.lock);
		for (struct http_request **p = &requests.first; *p != NULL; p = &(*p)->next)
			if (*p == q) {
				*p = q->next;
				break;
			}
		pthread_mutex_unlock(&requests.lock);
	}
	free(q->body);
	free(q);
}

void
http_stop_reading(void)
{
	pthread_mutex_lock(&requests.lock);
	requests.reading_stopped = true;
	for (struct http_request *q = requests.first; q != NULL; q = q->next)
		if (q->fd >= 0)
			shutdown(q->fd, SHUT_RD);
	pthread_mutex_unlock(&requests.lock);
}

/* What a failed accept means for the loop around it. */
static enum http_accepted
not_accepted(int error)
{
	static _Atomic int64_t last_logged = -PRESSURE_LOG_MS;
	int64_t now, then;

	switch (error) {
	case EAGAIN: /* ACCEPT_WAIT_MS are over */
	case EINTR:
	case ECONNABORTED: /* the peer closed it before */
		return HTTP_NOTHING;
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
	case EOPNOTSUPP:
		return HTTP_CLOSED;
	default: /* EMFILE, ENFILE, ENOMEM, ENOBUFS …: it passes, and a thread less would not help */
		now = clock_ms();
		then = atomic_load(&last_logged);
		if (now - then >= PRESSURE_LOG_MS &&
		    atomic_compare_exchange_strong(&last_logged, &then, now))
			log_event(LOG_ERROR, "accept_failed", "error", strerrorname_np(error),
			    "remedy",
			    error == EMFILE ? "raise the limit of open files (LimitNOFILE)" : NULL,
			    (const char *)NULL);
		clock_sleep(PRESSURE_WAIT_MS);
		return HTTP_NOTHING;
	}
}

enum http_accepted
http_accept(struct http_request *q)
{
	int fd, error;

	q->whole = false;
	if (q->cgi) {
		if (q->answered)
			return HTTP_CLOSED;
		q->arrival = clock_ms();
		q->envp = environ;
		return HTTP_REQUEST;
	}

	if (q->body_cap > BUFFER_KEPT) {
		free(q->body);
		q->body = NULL;
		q->body_cap = 0;
	}
	if ((fd = accept4(q->listen_fd, NULL, NULL, SOCK_CLOEXEC)) < 0)
		return not_accepted(errno);
	q->arrival = clock_ms();
	if (is_all_there(fd)) {
		q->fcgx.ipcFd = fd;
	} else if (!keep_late_connection(q, fd)) {
		error = errno;
		close(fd);
		return not_accepted(error);
	}
	FCGX_Detach(&q->fcgx); /* or it would wait for the peer when it closes after an error */
	q->fcgx.keepConnection = 1;
	if (FCGX_Accept_r(&q->fcgx) != 0) {
		q->fcgx.ipcFd = -1; /* it has closed that */
		close_connection(q);
		return HTTP_NOTHING;
	}
	/* It takes parameters that broke off for all there are. */
	if (FCGX_GetError(q->fcgx.in) != 0) {
		FCGX_Free(&q->fcgx, 0);
		close_connection(q);
		return HTTP_NOTHING;
	}
	q->envp = q->fcgx.envp;
	return HTTP_REQUEST;
}

int64_t
http_arrival(const struct http_request *q)
{
	return q->arrival;
}

/* The value, if this entry of the environment has the name. */
static const char *
value_of(const char *entry, const char *name, size_t len)
{
	return *entry == *name && strncmp(entry, name, len) == 0 && entry[len] == '='
		   ? entry + len + 1
		   : NULL;
}

const char *
http_param(const struct http_request *q, const char *name)
{
	size_t len = strlen(name);
	const char *value;

	for (char **p = q->envp; *p != NULL; p++)
		if ((value = value_of(*p, name, len)) != NULL)
			return value;
	return NULL;
}

int
http_param_count(const struct http_request *q, const char *name)
{
	size_t len = strlen(name);
	int count = 0;

	for (char **p = q->envp; *p != NULL; p++)
		count += value_of(*p, name, len) != NULL;
	return count;
}

/* The announced length. False: none, or no number. */
static bool
announced_length(const struct http_request *q, size_t *length)
{
	const char *text = http_param(q, "CONTENT_LENGTH");
	size_t digits = text == NULL ? 0 : strspn(text, "0123456789");

	if (digits == 0 || digits > 18 || text[digits] != '\0')
		return false;
	*length = strtoul(text, NULL, 10);
	return true;
}

/*
 * The next piece of the body, at most size bytes. Returns 0 at its end, -1 when it
 * broke off or took too long. *left: what plain CGI may still read, for fd 0 need
 * not end where the body ends (RFC 3875 section 4.2).
 */
static ssize_t
read_piece(struct http_request *q, unsigned char *into, size_t size, int64_t until, size_t *left)
{
	int64_t wait = until - clock_ms();

	if (q->cgi && *left == 0)
		return 0;
	if (wait <= 0)
		return -1;
	if (q->cgi) {
		struct pollfd readable = {.fd = STDIN_FILENO, .events = POLLIN};
		ssize_t n;

		if (poll(&readable, 1, (int)wait) <= 0)
			return -1;
		n = read(STDIN_FILENO, into, size < *left ? size : *left);
		if (n > 0)
			*left -= (size_t)n;
		return n;
	}

	/* Take what libfcgi has read. If that is nothing, one byte makes it read once from
	 * the connection: asked for more, it would wait for more. */
	FCGX_Stream *in = q->fcgx.in;
	size_t buffered = (size_t)(in->stop - in->rdNext);

	if (q->fd < 0) {
		buffered = size; /* all is there */
	} else if (buffered == 0) {
		set_wait(q->fd, SO_RCVTIMEO, wait);
		buffered = 1;
	}
	int n = FCGX_GetStr((char *)into, (int)(buffered < size ? buffered : size), in);
	return n > 0 ? n : FCGX_GetError(in) != 0 ? -1 : 0;
}

enum http_body
http_read_body(struct http_request *q, size_t limit, int64_t until,
    void (*update)(void *arg, const void *bytes, size_t len), void *arg, const unsigned char **body,
    size_t *len)
{
	unsigned char beyond[PIECE];
	size_t got = 0, length = 0, left = SIZE_MAX;
	bool known = announced_length(q, &length);
	ssize_t n;

	if (known)
		left = length;
	/* A process that waited long for the processor still reads what has arrived. */
	if (until < clock_ms() + READ_MS)
		until = clock_ms() + READ_MS;
	for (;;) {
		unsigned char *into = beyond;
		size_t room = sizeof beyond;

		if (got < limit) {
			if (got == q->body_cap) {
				q->body_cap = q->body_cap == 0 ? PIECE : 2 * q->body_cap;
				q->body = xrealloc(q->body, q->body_cap);
			}
			into = q->body + got;
			room = q->body_cap - got;
			if (room > limit - got)
				room = limit - got;
		}
		if ((n = read_piece(q, into, room, until, &left)) <= 0)
			break;
		update(arg, into, (size_t)n);
		got += (size_t)n;
	}
	q->whole = n == 0;
	*body = q->body != NULL ? q->body : (const unsigned char *)"";
	*len = got;
	if (got > limit)
		return HTTP_BODY_TOO_LARGE;
	if (n < 0 || (known && got != length))
		return HTTP_BODY_CUT_SHORT;
	return HTTP_BODY_WHOLE;
}

/*
 * A peer that still sends its body would find the connection reset and might lose the
 * answer. So send that no more comes, and discard what arrives until it has closed, too.
 * For plain CGI too: mod_cgid has one socket for both directions.
 */
static void
linger(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	int64_t until = clock_ms() + LINGER_MS, wait;
	char trash[PIECE];

	shutdown(fd, SHUT_WR);
	while ((wait = until - clock_ms()) > 0)
		if (poll(&readable, 1, (int)wait) <= 0 || read(fd, trash, sizeof trash) <= 0)
			break;
}

static void
write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* the web server is gone: it sends the delivery again */
		bytes += n;
		len -= (size_t)n;
	}
}

void
http_finish(struct http_request *q, int status, const char *title, const char *headers,
    const char *type, const char *body, size_t len)
{
	const char *method = http_param(q, "REQUEST_METHOD");
	char *head = xasprintf("Status: %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n",
	    status, title, type, len, headers);

	if (method != NULL && strcmp(method, "HEAD") == 0)
		len = 0;
	if (q->cgi) {
		write_all(STDOUT_FILENO, head, strlen(head));
		write_all(STDOUT_FILENO, body, len);
		q->answered = true;
		if (!q->whole)
			linger(STDIN_FILENO);
	} else {
		FCGX_PutStr(head, (int)strlen(head), q->fcgx.out);
		FCGX_PutStr(body, (int)len, q->fcgx.out);
		q->fcgx.keepConnection = 1; /* this file closes it */
		FCGX_Finish_r(&q->fcgx);
		if (!q->whole && q->fd >= 0) /* else all of it was read at once */
			linger(q->fd);
		close_connection(q);
	}
	q->envp = NULL;
	free(head);
}

static bool
is_listening(int fd)
{
	int yes = 0;
	socklen_t len = sizeof yes;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

/*
 * mod_fcgid puts nothing of its own into the environment. But it makes a socket for each
 * process that it starts, and calls it <pid of Apache>.<running number>.
 */
static bool
is_from_fcgid(int fd)
{
	struct sockaddr_un address;
	socklen_t len = sizeof address;
	char path[sizeof address.sun_path + 1] = "";
	const char *name;
	size_t pid, number;

	memset(&address, 0, sizeof address);
	if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
	    address.sun_family != AF_UNIX)
		return false;
	memcpy(path, address.sun_path, sizeof address.sun_path);
	if ((name = strrchr(path, '/')) == NULL)
		return false;
	pid = strspn(++name, "0123456789");
	if (pid == 0 || name[pid] != '.')
		return false;
	number = strspn(name + pid + 1, "0123456789");
	return number > 0 && name[pid + 1 + number] == '\0';
}

/* The first socket that a service manager passed to this very process: sd_listen_fds(3). */
static int
passed_socket(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int fd = 3;

	if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != getpid() ||
	    strtol(count, NULL, 10) < 1 || !is_listening(fd))
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return fd;
}

enum http_way
http_detect(int *fd)
{
	if (is_listening(STDIN_FILENO)) {
		*fd = STDIN_FILENO;
		return is_from_fcgid(STDIN_FILENO) ? HTTP_WAY_FCGID : HTTP_WAY_FASTCGI;
	}
	if ((*fd = passed_socket()) >= 0)
		return HTTP_WAY_FASTCGI;
	if (getenv("GATEWAY_INTERFACE") != NULL || getenv("REQUEST_METHOD") != NULL)
		return HTTP_WAY_CGI;
	return HTTP_WAY_FASTCGI;
}

/* The id of a group by name or number; false if there is none. */
static bool
group_id(const char *name, gid_t *gid)
{
	struct group *found =
	    getgrnam(name); /* before any thread: the static buffer is not shared yet */
	char *end;
	unsigned long number;

	if (found != NULL) {
		*gid = found->gr_gid;
		return true;
	}
	number = strtoul(name, &end, 10);
	*gid = (gid_t)number;
	return *name >= '0' && *name <= '9' && *end == '\0' && number < (gid_t)-1;
}

int
http_listen(const char *path, unsigned mode, const char *group, char **error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char *temporary = xasprintf("%s" TEMPORARY_SUFFIX, path);
	gid_t gid = (gid_t)-1;
	struct stat there;
	mode_t old_umask;
	int fd = -1, rc;

	if (strlen(temporary) >= sizeof address.sun_path) {
		*error = xasprintf("socket path %s: longer than %zu characters", path,
		    sizeof address.sun_path - sizeof TEMPORARY_SUFFIX);
		goto out;
	}
	if (group != NULL && !group_id(group, &gid)) {
		*error = xasprintf("socket path %s: there is no group %s", path, group);
		goto out;
	}
	if (lstat(path, &there) == 0 && !S_ISSOCK(there.st_mode)) {
		*error = xasprintf("socket path %s: something else than a socket is there", path);
		goto out;
	}
	memcpy(address.sun_path, temporary, strlen(temporary) + 1);
	unlink(temporary); /* left by a process that was killed just here */
	if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0) {
		*error = xasprintf("cannot make a socket: %s", strerror(errno));
		goto out;
	}
	old_umask = umask(0777); /* no client connects before group and mode are right */
	rc = bind(fd, (struct sockaddr *)&address, sizeof address);
	umask(old_umask);
	if (rc != 0) {
		*error = xasprintf("socket path %s: cannot bind: %s%s", path, strerror(errno),
		    errno == ENOENT ? ": make its folder, owned by the user of this program" : "");
		goto out;
	}
	if (group != NULL && chown(temporary, (uid_t)-1, gid) != 0) {
		*error = xasprintf("socket path %s: cannot give it to group %s: %s "
				   "(be root, or a member of that group)",
		    path, group, strerror(errno));
		goto unlink;
	}
	if (chmod(temporary, mode) != 0 || listen(fd, HTTP_BACKLOG) != 0 ||
	    stat(temporary, &there) != 0 || rename(temporary, path) != 0) {
		*error = xasprintf("socket path %s: %s", path, strerror(errno));
		goto unlink;
	}
	free(bound.path);
	bound.path = xstrdup(path);
	bound.fd = fd;
	bound.dev = there.st_dev;
	bound.ino = there.st_ino;
	free(temporary);
	return fd;

unlink:
	unlink(temporary);
out:
	if (fd >= 0)
		close(fd);
	free(temporary);
	return -1;
}

void
http_unlisten(void)
{
	struct stat there;

	if (bound.path == NULL)
		return;
	/* The inode lives as long as the socket, so its number cannot be another's. */
	if (lstat(bound.path, &there) == 0 && there.st_dev == bound.dev &&
	    there.st_ino == bound.ino)
		unlink(bound.path);
	free(bound.path);
	bound.path = NULL;
	fcntl(bound.fd, F_SETFL, fcntl(bound.fd, F_GETFL) | O_NONBLOCK);
}
