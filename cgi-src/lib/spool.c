/* SPDX-License-Identifier: MIT */
/*
 * spool.c - durable files that hold deliveries while PostgreSQL is away.
 *
 * One delivery is one file. It is written under a temporary name, fsynced, renamed, and
 * the directory is fsynced; only then the delivery counts as kept. Whatever fails
 * on that way is undone and nothing was kept. A file goes when its delivery is committed;
 * should its removal not reach the disk before a power cut, it comes back and is a
 * duplicate.
 *
 *     <arrival, µs, 16 digits>-<request id>-<bytes>.delivery    sorts by arrival
 *     .tmp-<the same>                                           not finished, not acknowledged
 *     aside/                                                    for a person to look at
 *
 * The request id is random, so names are unique in all processes. The size is in the name
 * because a hundred thousand files are counted quickly then.
 *
 * A file, integers in network order:
 *
 *     8  "FWSPOOL1"
 *     8  arrival in microseconds since 1970
 *    16  request id
 *     4  length of the merchant's name
 *     4  length of the order key, or NONE
 *     4  length of the body
 *        merchant, order key, each with a NUL, and the body
 *    32  SHA-256 of all of this
 *
 * The order key is that of the configuration at the arrival, so that what is drained is what
 * would have been recorded, even if the merchant has left the configuration meanwhile.
 * No token, no credentials: what is here has authenticated.
 *
 * The directory is flushed once for all threads that wait for it (flush_directory()), because a
 * hundred of them come at a time when a database goes away.
 *
 * Writing is done by the threads of spool_io.c, because a disk may hang.
 *
 * Which process drains is decided by flock() on the directory: it ends with the process, however
 * that ends. The limits are counted, not locked: several processes see each other's files
 * with the next count, so they may go over by what they keep in about a second.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "auth.h"
#include "clock.h"
#include "log.h"
#include "mem.h"
#include "spool.h"
#include "spool_io.h"

#define MAGIC "FWSPOOL1"
#define MAGIC_UNPREFIXED "FWSPOOL2" /* the order's key is one that lacks the prefix */
#define HEAD (8 + 8 + 16 + 4 + 4 + 4)
#define NONE UINT32_MAX
#define BODY_MAX (16u << 20) /* the highest body_limit that can be configured */
#define FILE_MAX (HEAD + LIMIT_MERCHANT + 1 + ORDER_REF_SIZE + BODY_MAX + AUTH_DIGEST_SIZE)
#define ID_LEN (REQUEST_ID_SIZE - 1)

#define TEMPORARY ".tmp-"
#define SUFFIX ".delivery"
#define ASIDE "aside"
#define STALE_S 600        /* a temporary file this old was left by a crash */
#define FILE_ROOM 1024     /* bytes: a file's, nearly always */
#define DISK_ROOM 65536    /* bytes: with less its disk is as good as full */
#define LOG_AGAIN_MS 10000 /* between two log lines about one trouble */

enum trouble {
	TROUBLE_FULL,
	TROUBLE_LATE,
	TROUBLE_NO_THREAD,
	TROUBLE_WRITE,
	TROUBLE_READ,
	TROUBLE_ASIDE,
	TROUBLE__MAX
};

static const struct {
	const char *text, *remedy;
} troubles[TROUBLE__MAX] = {
    [TROUBLE_FULL] = {"full",
	"bring the database back, look into spool_dir/aside, or raise the limit"},
    [TROUBLE_LATE] = {"the disk does not answer", "look at the disk of spool_dir"},
    [TROUBLE_NO_THREAD] = {"no thread can be made",
	"raise the limit of tasks (TasksMax, RLIMIT_NPROC)"},
    [TROUBLE_WRITE] = {"cannot be written to", "look at the disk and the owner of spool_dir"},
    [TROUBLE_READ] = {"cannot be read", "look at spool_dir"},
    [TROUBLE_ASIDE] = {"cannot set a file aside", "look at spool_dir/aside"},
};

struct spool {
	char *path; /* for messages */
	int dir;
	size_t max_bytes, max_files;

	struct spool_io *io;   /* owned */
	pthread_mutex_t mutex; /* see the lock order in handler/main.c */

	/* What is there: at the last count, kept since it began, being written. */
	bool counted;
	struct spool_usage seen, aside, since, writing;

	/* flush_directory() */
	pthread_cond_t flushed;
	bool flushing;
	uint64_t renames;      /* names that were given */
	uint64_t flushed_upto; /* of them, those that a flush has covered … */
	uint64_t failed_upto;  /* … and those that one has failed */

	int64_t logged[TROUBLE__MAX]; /* clock_ms() of the last log line */
};

/* -- names -- */

static void
make_name(char name[SPOOL_NAME_SIZE], int64_t arrived, const char *id, size_t len)
{
	snprintf(name, SPOOL_NAME_SIZE, "%016" PRId64 "-%.16s-%zu" SUFFIX, arrived, id, len);
}

/* Arrival and size from a file's name. False: it is a foreign file's. */
static bool
parse_name(const char *name, int64_t *arrived, size_t *bytes)
{
	const char *id = name + 17, *size = name + 34;
	size_t digits;

	if (strlen(name) >= SPOOL_NAME_SIZE || strspn(name, "0123456789") != 16 ||
	    name[16] != '-' || strspn(id, "0123456789abcdef") != ID_LEN || name[33] != '-')
		return false;
	digits = strspn(size, "0123456789");
	if (digits < 1 || digits > 9 || strcmp(size + digits, SUFFIX) != 0)
		return false;
	*arrived = strtoll(name, NULL, 10);
	*bytes = strtoul(size, NULL, 10);
	return true;
}

/* -- the bytes of a file -- */

static unsigned char *
put_int(unsigned char *p, uint64_t value, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--, value >>= 8)
		p[i] = (unsigned char)(value & 0xff);
	return p + bytes;
}

static uint64_t
get_int(const unsigned char *p, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value = value << 8 | p[i];
	return value;
}

static unsigned char *
put(unsigned char *p, const void *bytes, size_t len)
{
	if (len > 0)
		memcpy(p, bytes, len);
	return p + len;
}

/* The bytes of a delivery's file; owned by the caller. */
static unsigned char *
encode(const struct delivery *d, int64_t arrived, size_t *len)
{
	size_t merchant = strlen(d->merchant);
	const char *key = d->order_ref != NULL ? d->order_ref : d->unprefixed;
	size_t order = key != NULL ? strlen(key) : 0;
	unsigned char *bytes, *p;

	*len = HEAD + merchant + 1 + (key != NULL ? order + 1 : 0) + d->body_len + AUTH_DIGEST_SIZE;
	p = bytes = xrealloc(NULL, *len);
	p = put(p, key == d->order_ref ? MAGIC : MAGIC_UNPREFIXED, 8);
	p = put_int(p, (uint64_t)arrived, 8);
	p = put(p, d->request_id, ID_LEN);
	p = put_int(p, merchant, 4);
	p = put_int(p, key != NULL ? order : NONE, 4);
	p = put_int(p, d->body_len, 4);
	p = put(p, d->merchant, merchant + 1);
	if (key != NULL)
		p = put(p, key, order + 1);
	p = put(p, d->body, d->body_len);
	digest_sha256(bytes, (size_t)(p - bytes), p);
	return bytes;
}

/* Does a text of this length stand here, and nothing of it is a NUL but its end? */
static bool
is_text(const unsigned char *p, size_t len)
{
	return memchr(p, '\0', len + 1) == p + len;
}

const char *
spool_parse(unsigned char *bytes, size_t len, struct spooled *s)
{
	unsigned char digest[AUTH_DIGEST_SIZE];
	size_t merchant, order, body, rest;
	unsigned char *p = bytes + HEAD;
	char *key;
	bool unprefixed;

	if (len < HEAD + AUTH_DIGEST_SIZE)
		return "it is too short";
	unprefixed = memcmp(bytes, MAGIC_UNPREFIXED, 8) == 0;
	if (!unprefixed && memcmp(bytes, MAGIC, 8) != 0)
		return "it is no spool file of a version that this program knows";
	rest = len - HEAD - AUTH_DIGEST_SIZE;
	digest_sha256(bytes, len - AUTH_DIGEST_SIZE, digest);
	if (memcmp(digest, bytes + len - AUTH_DIGEST_SIZE, AUTH_DIGEST_SIZE) != 0)
		return "its checksum is wrong";

	/* The checksum is right, so a fault from here on is on purpose. */
	merchant = get_int(bytes + 32, 4);
	order = get_int(bytes + 36, 4);
	body = get_int(bytes + 40, 4);
	if (merchant < 1 || merchant > LIMIT_MERCHANT ||
	    (order != NONE && order >= ORDER_REF_SIZE) || body > BODY_MAX ||
	    rest != merchant + 1 + (order != NONE ? order + 1 : 0) + body)
		return "its lengths make no sense";
	if (!is_text(p, merchant) || (order != NONE && !is_text(p + merchant + 1, order)) ||
	    strspn((const char *)memcpy(s->request_id, bytes + 16, ID_LEN), "0123456789abcdef") <
		ID_LEN)
		return "its texts make no sense";

	s->bytes = NULL;
	s->arrived = (int64_t)get_int(bytes + 8, 8);
	s->request_id[ID_LEN] = '\0';
	memcpy(s->merchant, p, merchant + 1);
	p += merchant + 1;
	key = order != NONE ? (char *)p : NULL;
	s->order_ref = unprefixed ? NULL : key;
	s->unprefixed = unprefixed ? key : NULL;
	p += order != NONE ? order + 1 : 0;
	s->body = p;
	s->body_len = body;
	return NULL;
}

void
spooled_free(struct spooled *s)
{
	free(s->bytes);
	s->bytes = NULL;
}

/* -- open and close -- */

/* What is wrong with a directory; NULL: nothing. Owned by the caller. */
static char *
fault_of_directory(const char *path, int dir)
{
	struct stat st;

	if (dir < 0)
		return xasprintf("spool_dir = %s cannot be opened: %s; make it with: install -d -m "
				 "700 -o USER %s, with the user who runs this program",
		    path, strerror(errno), path);
	if (fstat(dir, &st) != 0)
		return xasprintf("spool_dir = %s: %s", path, strerror(errno));
	if (st.st_uid != geteuid() && geteuid() != 0)
		return xasprintf("spool_dir = %s belongs to user %u and this program runs as user "
				 "%u; chown it",
		    path, (unsigned)st.st_uid, (unsigned)geteuid());
	if ((st.st_mode & 077) != 0)
		return xasprintf("spool_dir = %s has mode %04o, and a user who may write into it "
				 "can forge payments; chmod 700 %s",
		    path, (unsigned)st.st_mode & 07777, path);
	if (faccessat(dir, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0)
		return xasprintf("spool_dir = %s cannot be written to: %s", path, strerror(errno));
	if (fsync(dir) != 0)
		return xasprintf("spool_dir = %s cannot be fsynced: %s; take another filesystem",
		    path, strerror(errno));
	return NULL;
}

static enum reason write_file(void *, const char *, const unsigned char *, size_t);

struct spool *
spool_open(const struct spool_options *options, char **error)
{
	int dir = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct spool *s;

	if ((*error = fault_of_directory(options->directory, dir)) != NULL) {
		if (dir >= 0)
			close(dir);
		return NULL;
	}
	s = xcalloc(1, sizeof *s);
	s->path = xstrdup(options->directory);
	s->dir = dir;
	s->max_bytes = options->max_bytes;
	s->max_files = options->max_files;
	for (int t = 0; t < TROUBLE__MAX; t++)
		s->logged[t] = -LOG_AGAIN_MS;
	s->io = spool_io_new(write_file, s);
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->flushed, NULL);
	return s;
}

void
spool_close(struct spool *s)
{
	if (s == NULL || !spool_io_close(s->io))
		return;
	close(s->dir);
	pthread_cond_destroy(&s->flushed);
	pthread_mutex_destroy(&s->mutex);
	free(s->path);
	free(s);
}

/* Log a trouble, but not with each delivery. Keeps errno. */
static void
log_trouble(struct spool *s, enum trouble trouble, const char *reason)
{
	int64_t now = clock_ms();
	bool due;

	pthread_mutex_lock(&s->mutex);
	due = now - s->logged[trouble] >= LOG_AGAIN_MS;
	if (due)
		s->logged[trouble] = now;
	pthread_mutex_unlock(&s->mutex);
	if (due)
		log_event(LOG_ERROR, "spool", "trouble", troubles[trouble].text, "reason", reason,
		    "remedy", troubles[trouble].remedy, (const char *)NULL);
}

/* -- what is in the directory -- */

/* The directory's entries from the start; NULL with errno. The caller closes it. */
static DIR *
open_entries(const struct spool *s, const char *path)
{
	int fd = openat(s->dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (d == NULL && fd >= 0)
		close(fd);
	return d;
}

int64_t
spool_age_s(int64_t arrived)
{
	int64_t age = arrived == 0 ? 0 : (int64_t)clock_wall_s() - arrived / 1000000;

	return age > 0 ? age : 0;
}

/* What was set aside. A name without a size is a foreign file's. */
static struct spool_usage
count_aside(const struct spool *s)
{
	struct spool_usage found = {0};
	DIR *d = open_entries(s, ASIDE);
	const struct dirent *e;
	struct stat st;

	while (d != NULL && (e = readdir(d)) != NULL) {
		int64_t arrived;
		size_t bytes;

		if (*e->d_name == '.')
			continue;
		found.files++;
		if (parse_name(e->d_name, &arrived, &bytes))
			found.bytes += bytes;
		/* NOLINTNEXTLINE(clang-analyzer-unix.StdCLibraryFunctions): an open DIR has a descriptor */
		else if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			found.bytes += (size_t)st.st_size;
	}
	if (d != NULL)
		closedir(d);
	return found;
}

/* Has a directory an entry whose name is a delivery's, or any with all set? 1, 0, or -1 (errno). */
static int
has_entry(int parent, const char *path, bool all)
{
	int fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	int found = 0;
	int64_t arrived;
	size_t bytes;

	if (d == NULL) {
		int because = errno;

		if (fd >= 0)
			close(fd);
		errno = because;
		return because == ENOENT ? 0 : -1;
	}
	while (!found && (e = readdir(d)) != NULL)
		found = all ? *e->d_name != '.' : parse_name(e->d_name, &arrived, &bytes);
	closedir(d);
	return found;
}

int
spool_has_files(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int found;

	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	if ((found = has_entry(fd, ".", false)) == 0)
		found = has_entry(fd, ASIDE, true);
	close(fd);
	return found;
}

struct spool_usage
spool_count(struct spool *s)
{
	struct spool_usage found = {0}, aside, before;
	const struct dirent *e;
	DIR *d;

	pthread_mutex_lock(&s->mutex);
	before = s->since;
	pthread_mutex_unlock(&s->mutex);

	if ((d = open_entries(s, ".")) == NULL) {
		log_trouble(s, TROUBLE_READ, strerror(errno));
		found = spool_usage(s);
		found.unread = true;
		return found;
	}
	while ((e = readdir(d)) != NULL) {
		int64_t arrived;
		size_t bytes;

		if (!parse_name(e->d_name, &arrived, &bytes))
			continue;
		found.files++;
		found.bytes += bytes;
		if (found.oldest == 0 || arrived < found.oldest)
			found.oldest = arrived;
	}
	closedir(d);
	aside = count_aside(s);
	found.aside = aside.files;

	pthread_mutex_lock(&s->mutex);
	s->counted = true;
	s->seen = found;
	s->aside = aside;
	s->since.files -= before.files; /* they were there to be seen */
	s->since.bytes -= before.bytes;
	pthread_mutex_unlock(&s->mutex);
	return found;
}

struct spool_usage
spool_usage(struct spool *s)
{
	struct spool_usage usage;

	pthread_mutex_lock(&s->mutex);
	usage = s->seen;
	usage.files += s->since.files;
	usage.bytes += s->since.bytes;
	pthread_mutex_unlock(&s->mutex);
	return usage;
}

const char *
spool_trouble(struct spool *s)
{
	struct spool_usage usage = spool_usage(s);
	struct statvfs disk;
	struct stat st;

	pthread_mutex_lock(&s->mutex);
	usage.files += s->aside.files;
	usage.bytes += s->aside.bytes;
	pthread_mutex_unlock(&s->mutex);
	if (spool_io_hangs(s->io))
		return "hangs";
	if (usage.files >= s->max_files || usage.bytes + FILE_ROOM > s->max_bytes)
		return "full";
	if (fstat(s->dir, &st) != 0 || st.st_nlink == 0 ||
	    faccessat(s->dir, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0)
		return "unwritable";
	if (fstatvfs(s->dir, &disk) == 0 && ((uint64_t)disk.f_bavail * disk.f_frsize < DISK_ROOM ||
						(disk.f_files > 0 && disk.f_favail == 0)))
		return "disk_full";
	return NULL;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct spool_name *)a)->text, ((const struct spool_name *)b)->text);
}

/* Remove a temporary file that is too old to be being written; if it is, its rename fails. */
static void
remove_stale(struct spool *s, const char *name)
{
	struct stat st;
	time_t now = clock_wall_s();

	if (fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    (st.st_mtime < now - STALE_S || st.st_mtime > now + STALE_S) &&
	    unlinkat(s->dir, name, 0) == 0)
		log_event(LOG_WARNING, "spool", "trouble",
		    "a file was half written and never "
		    "acknowledged: removed",
		    (const char *)NULL);
}

static void
tidy_up(struct spool *s, const char *name)
{
	struct stat st;

	if (strncmp(name, TEMPORARY, sizeof TEMPORARY - 1) == 0)
		remove_stale(s, name);
	else if (*name != '.' && fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		 !S_ISDIR(st.st_mode)) /* a mount point has a lost+found */
		spool_set_aside(s, name, "its name is not ours");
}

size_t
spool_list(struct spool *s, const char *after, size_t max, bool tidy, struct spool_name **names)
{
	size_t n = 0, room = 0, bytes;
	const struct dirent *e;
	int64_t arrived;
	DIR *d;

	*names = NULL;
	if ((d = open_entries(s, ".")) == NULL) {
		log_trouble(s, TROUBLE_READ, strerror(errno));
		return 0;
	}
	while ((e = readdir(d)) != NULL) {
		if (!parse_name(e->d_name, &arrived, &bytes)) {
			if (tidy)
				tidy_up(s, e->d_name);
			continue;
		}
		if (strcmp(e->d_name, after) <= 0)
			continue;
		if (n == room) {
			room = room == 0 ? 256 : room * 2;
			*names = xrealloc(*names, room * sizeof **names);
		}
		memcpy((*names)[n++].text, e->d_name, strlen(e->d_name) + 1);
	}
	closedir(d);
	if (n > 0)
		qsort(*names, n, sizeof **names, by_name);
	return n < max ? n : max;
}

/* -- keep -- */

/* Is there room for a file of len bytes? If so it is reserved until release(). */
static bool
reserve(struct spool *s, size_t len)
{
	bool room;

	pthread_mutex_lock(&s->mutex);
	room = s->seen.files + s->aside.files + s->since.files + s->writing.files < s->max_files &&
	       s->seen.bytes + s->aside.bytes + s->since.bytes + s->writing.bytes + len <=
		   s->max_bytes;
	if (room) {
		s->writing.files++;
		s->writing.bytes += len;
	}
	pthread_mutex_unlock(&s->mutex);
	return room;
}

static void
release(struct spool *s, size_t len, bool kept)
{
	pthread_mutex_lock(&s->mutex);
	s->writing.files--;
	s->writing.bytes -= len;
	s->since.files += kept;
	s->since.bytes += kept ? len : 0;
	pthread_mutex_unlock(&s->mutex);
}

/*
 * Make a rename durable. The first thread flushes for all that have renamed by then; a rename during
 * the flush needs the next one. After a failure the kernel may forget what it could not write, so
 * a later success proves nothing for those.
 */
static bool
flush_directory(struct spool *s)
{
	uint64_t mine, upto;
	int error = 0;
	bool ok;

	pthread_mutex_lock(&s->mutex);
	mine = ++s->renames;
	while (s->flushed_upto < mine) {
		if (s->flushing) {
			pthread_cond_wait(&s->flushed, &s->mutex);
			continue;
		}
		s->flushing = true;
		upto = s->renames;
		pthread_mutex_unlock(&s->mutex);
		ok = fsync(s->dir) == 0;
		error = errno;
		pthread_mutex_lock(&s->mutex);
		s->flushing = false;
		s->flushed_upto = upto;
		if (!ok)
			s->failed_upto = upto;
		pthread_cond_broadcast(&s->flushed);
	}
	ok = s->failed_upto < mine;
	pthread_mutex_unlock(&s->mutex);
	if (!ok)
		errno = error != 0 ? error : EIO;
	return ok;
}

static bool
write_all(int fd, const unsigned char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/* False with errno: nothing was kept. */
static bool
write_durably(struct spool *s, const char *name, const unsigned char *bytes, size_t len)
{
	char temporary[SPOOL_NAME_SIZE + sizeof TEMPORARY];
	int fd, error;
	bool ok;

	snprintf(temporary, sizeof temporary, TEMPORARY "%s", name);
	fd = openat(s->dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	ok = write_all(fd, bytes, len) && fsync(fd) == 0;
	error = errno;
	if (close(fd) != 0 && ok) {
		ok = false;
		error = errno;
	}
	if (ok && renameat(s->dir, temporary, s->dir, name) != 0) {
		ok = false;
		error = errno;
	} else if (ok) {
		if (flush_directory(s))
			return true;
		error = errno;
		unlinkat(s->dir, name, 0);
		ok = false;
	}
	unlinkat(s->dir, temporary, 0);
	errno = error;
	return ok;
}

/* Called by the threads of spool_io.c: the only function in which a delivery meets the disk. */
static enum reason
write_file(void *arg, const char *name, const unsigned char *bytes, size_t len)
{
	struct spool *s = arg;
	bool counted, kept;

	pthread_mutex_lock(&s->mutex);
	counted = s->counted;
	pthread_mutex_unlock(&s->mutex);
	if (!counted)
		spool_count(s);
	if (!reserve(s, len)) {
		log_trouble(s, TROUBLE_FULL, "spool_max_files or spool_max_bytes is reached");
		return REASON_SPOOL_FULL;
	}
	kept = write_durably(s, name, bytes, len);
	if (!kept)
		log_trouble(s, TROUBLE_WRITE, strerror(errno));
	release(s, len, kept);
	return kept ? REASON_NONE : REASON_SPOOL_FAILED;
}

enum reason
spool_keep(struct spool *s, const struct delivery *d, int64_t arrived, int64_t until)
{
	char name[SPOOL_NAME_SIZE];
	enum reason reason;
	unsigned char *bytes;
	size_t len;
	int error;

	bytes = encode(d, arrived, &len);
	make_name(name, arrived, d->request_id, len);
	reason = spool_io_write(s->io, name, bytes, len, until, &error);
	if (reason == REASON_SPOOL_LATE)
		log_trouble(s, TROUBLE_LATE, "nothing was kept before the deadline");
	if (error != 0)
		log_trouble(s, TROUBLE_NO_THREAD, strerror(error));
	return reason;
}

/* -- for the drain -- */

bool
spool_lock(struct spool *s)
{
	return flock(s->dir, LOCK_EX | LOCK_NB) == 0;
}

void
spool_unlock(struct spool *s)
{
	flock(s->dir, LOCK_UN);
}

/* All of a file, up to FILE_MAX bytes; owned by the caller. NULL: see *result. */
static unsigned char *
read_file(int fd, size_t *len, enum spool_read *result)
{
	unsigned char *bytes;
	struct stat st;
	ssize_t n = 1;

	*result = SPOOL_UNREADABLE;
	if (fstat(fd, &st) != 0)
		return NULL;
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)FILE_MAX) {
		*result = SPOOL_TORN;
		return NULL;
	}
	bytes = xrealloc(NULL, (size_t)st.st_size);
	for (*len = 0; *len < (size_t)st.st_size && n > 0; *len += n > 0 ? (size_t)n : 0)
		do
			n = read(fd, bytes + *len, (size_t)st.st_size - *len);
		while (n < 0 && errno == EINTR);
	if (n < 0) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

enum spool_read
spool_load(struct spool *s, const char *name, struct spooled *spooled, const char **fault)
{
	int fd = openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	enum spool_read result;
	unsigned char *bytes;
	size_t len;
	int error;

	*spooled = (struct spooled){0};
	*fault = "it is no plain file, or too large";
	if (fd < 0)
		return errno == ENOENT                    ? SPOOL_GONE
		       : errno == ELOOP || errno == ENXIO ? SPOOL_TORN
							  : SPOOL_UNREADABLE;
	bytes = read_file(fd, &len, &result);
	error = errno;
	close(fd);
	errno = error;
	if (bytes == NULL)
		return result;
	if ((*fault = spool_parse(bytes, len, spooled)) != NULL) {
		free(bytes);
		return SPOOL_TORN;
	}
	spooled->bytes = bytes;
	return SPOOL_READ;
}

bool
spool_remove(struct spool *s, const char *name)
{
	return unlinkat(s->dir, name, 0) == 0 || errno == ENOENT;
}

void
spool_set_aside(struct spool *s, const char *name, const char *reason)
{
	char to[sizeof ASIDE + NAME_MAX + 16];
	struct stat st;
	int n = 0;

	if (mkdirat(s->dir, ASIDE, 0700) != 0 && errno != EEXIST) {
		log_trouble(s, TROUBLE_ASIDE, strerror(errno));
		return;
	}
	snprintf(to, sizeof to, ASIDE "/%.240s", name);
	while (fstatat(s->dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0 && n < 1000)
		snprintf(to, sizeof to, ASIDE "/%.240s.%d", name, ++n);
	if (renameat(s->dir, name, s->dir, to) != 0)
		log_trouble(s, TROUBLE_ASIDE, strerror(errno));
	else
		log_event(LOG_ERROR, "spool", "trouble", "a file was set aside", "reason", reason,
		    "file", to, "remedy", "look at it; it was not recorded", (const char *)NULL);
}
