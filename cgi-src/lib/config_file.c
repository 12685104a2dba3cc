/* SPDX-License-Identifier: MIT */
/*
 * config_file.c - the text of a configuration, by lines, sections and settings.
 *
 * The hard part is what inih passes over in silence, since a setting that is
 * silently not what its author wrote may leave an endpoint open. inih 55 keeps only
 * 49 bytes of a section's name (two merchants with long names would become one),
 * does not tell of sections without settings or of repeated ones, drops text behind
 * "]", splits a line that is longer than its buffer in two, and gives its handler no line
 * number. So the lines go through our own reader first, next_line(), which counts them, refuses
 * what inih would bend, and knows the section; inih parses name = value. Its
 * multi-line values and inline comments are switched off: a password may hold
 * " ;", and a continuation line may be a setting that was indented.
 *
 * The first fault ends it. Messages name file, line, fault and remedy, and never a value:
 * the operator may have put a secret into the wrong place.
 */
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "config_file.h"
#include "mem.h"

#define CONFIG_BYTES_MAX (1 << 20) /* of a configuration file */

static const char blanks[] = " \t";

/* ---- whole files ---- */

void
whole_file_free(struct whole_file *f)
{
	if (f->bytes != NULL)
		explicit_bzero(f->bytes, f->len);
	free(f->bytes);
	*f = (struct whole_file){0};
}

const char *
whole_file_read(struct whole_file *f, const char *path, size_t limit)
{
	/* O_NONBLOCK: a pipe must be refused, not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *why = NULL;
	struct stat st;
	ssize_t n;

	*f = (struct whole_file){.path = path};
	if (fd < 0 || fstat(fd, &st) != 0) {
		why = strerror(errno);
	} else if (!S_ISREG(st.st_mode)) {
		why = "it is no regular file";
	} else {
		/* One more than allowed, to see that a file is too long; and the NUL. */
		f->bytes = xrealloc(NULL, limit + 2);
		f->mode = st.st_mode;
		while (
		    f->len <= limit && (n = read(fd, f->bytes + f->len, limit + 1 - f->len)) != 0) {
			if (n > 0)
				f->len += (size_t)n;
			else if (errno != EINTR) {
				why = strerror(errno);
				break;
			}
		}
		f->bytes[f->len] = '\0';
		if (why == NULL && f->len > limit)
			why = "it is too long";
	}
	if (fd >= 0)
		close(fd);
	if (why != NULL)
		whole_file_free(f);
	return why;
}

const char *
whole_file_remedy(const char *path)
{
	if (access(path, R_OK) == 0)
		return "name another file, a regular one that is not too long";
	if (errno == EACCES)
		return "let the program's user read it, or run this as root";
	return "create it, or name another file, or restart the service that loads it as a "
	       "credential";
}

char *
whole_file_line(const struct whole_file *f, char **at, const char **wrong)
{
	static const char bom[] = "\xef\xbb\xbf";
	char *line = *at, *end = f->bytes + f->len, *stop;
	size_t len;

	if (line == end)
		return NULL;
	stop = memchr(line, '\n', (size_t)(end - line));
	*at = stop == NULL ? end : stop + 1;
	if (stop == NULL)
		stop = end;
	if (stop > line && stop[-1] == '\r')
		stop--;
	*stop = '\0';
	len = (size_t)(stop - line);
	*wrong = NULL;
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
			*wrong = "holds a control character; save the file as plain UTF-8 text";
	if (strncmp(line, bom, sizeof bom - 1) == 0)
		*wrong = "begins with a byte order mark; save the file as UTF-8 without it";
	return line;
}

/*
 * Where the service manager would have loaded a file of this name, or NULL: systemd's
 * LoadCredential=secrets:/etc/…/secrets makes secrets_shop.token of shop.token there. Owned by
 * the caller.
 */
static char *
credential_path(const char *name)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char *path;

	if (directory == NULL || *directory != '/')
		return NULL;
	path = xasprintf("%s/%s", directory, name);
	for (char *p = path + strlen(directory) + 1; (p = strchr(p, '/')) != NULL;)
		*p = '_';
	return path;
}

char *
config_file_path(const char *conf, const char *name)
{
	const char *slash = strrchr(conf, '/');
	char *path, *loaded;

	if (*name == '/')
		return xstrdup(name);
	path =
	    slash == NULL ? xstrdup(name) : xasprintf("%.*s/%s", (int)(slash - conf), conf, name);
	loaded = credential_path(name);
	if (loaded != NULL && access(path, R_OK) != 0 && access(loaded, F_OK) == 0) {
		free(path);
		return loaded;
	}
	free(loaded);
	return path;
}

/* ---- sections and settings ---- */

void
config_fault(struct config_file *f, unsigned line, const char *format, ...)
{
	va_list ap;
	char *text;

	if (f->error != NULL)
		return;
	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		out_of_memory();
	va_end(ap);
	f->error = line == 0 ? xasprintf("%s: %s", f->path, text)
			     : xasprintf("%s:%u: %s", f->path, line, text);
	free(text);
}

static void
end_section(struct config_file *f)
{
	if (f->error == NULL && f->section != SECTION_NONE)
		f->events->section_end(f->arg, f->section);
}

/* "." and ".." are taken off a URL's path by clients and servers. */
static bool
merchant_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= LIMIT_MERCHANT && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		   len;
}

/* The name between the brackets, without the blanks around it. NULL: the line does not end with "]". Owned by the caller. */
static char *
section_name(const char *head)
{
	const char *end = strchr(head, ']');

	if (end == NULL || end[1 + strspn(end + 1, blanks)] != '\0')
		return NULL;
	head += 1 + strspn(head + 1, blanks);
	while (end > head && strchr(blanks, end[-1]) != NULL)
		end--;
	return xasprintf("%.*s", (int)(end - head), head);
}

/* A section of which there may be one. */
static void
begin_only(struct config_file *f, enum section section, const char *name)
{
	if (f->first_line[section] != 0)
		config_fault(f, f->line,
		    "[%s] is here for the second time; put its settings to those in line %u", name,
		    f->first_line[section]);
	f->first_line[section] = f->line;
	f->section = section;
	f->events->section(f->arg, section, NULL);
}

/* head: the line from its "[" on. */
static void
begin_section(struct config_file *f, const char *head)
{
	char *name;

	end_section(f);
	if ((name = section_name(head)) == NULL) {
		config_fault(f, f->line,
		    "this section's head does not end with ]; write [foloosi-webhook] or "
		    "[merchant NAME] on a line of its own");
	} else if (strcmp(name, "foloosi-webhook") == 0) {
		begin_only(f, SECTION_HANDLER, name);
	} else if (strcmp(name, "foloosi-worker") == 0) {
		begin_only(f, SECTION_WORKER, name);
	} else if (strncmp(name, "merchant", 8) != 0 || strchr(blanks, name[8]) == NULL ||
		   name[8] == '\0') {
		config_fault(f, f->line,
		    "this section is unknown; write [foloosi-webhook], [foloosi-worker] or "
		    "[merchant NAME]");
	} else if (!merchant_name_ok(name + 8 + strspn(name + 8, blanks))) {
		config_fault(f, f->line,
		    "this merchant's name cannot stand in a URL; take 1 to %d characters of A-Z "
		    "a-z 0-9 . _ -",
		    LIMIT_MERCHANT);
	} else {
		f->section = SECTION_MERCHANT;
		f->events->section(f->arg, SECTION_MERCHANT, name + 8 + strspn(name + 8, blanks));
	}
	free(name);
}

/* inih's handler; its own idea of the section may be truncated and is not used. */
static int
on_setting(void *arg, const char *section, const char *name, const char *value)
{
	struct config_file *f = arg;

	(void)section;
	if (f->error == NULL && f->section == SECTION_NONE)
		config_fault(f, f->line,
		    "a setting stands before any section; begin with [foloosi-webhook]");
	if (f->error == NULL)
		f->events->setting(f->arg, name, value);
	return f->error == NULL;
}

/*
 * inih's reader, in fgets()'s manner: the next line for its buffer, or NULL at the end and
 * after a fault. The buffer belongs to inih, which does not wipe it; this does with its last
 * call.
 */
static char *
next_line(char *buffer, int room, void *arg)
{
	struct config_file *f = arg;
	const char *wrong = NULL, *text;
	char *line;

	if (f->error != NULL || (line = whole_file_line(&f->whole, &f->at, &wrong)) == NULL) {
		explicit_bzero(buffer, (size_t)room);
		return NULL;
	}
	f->line++;
	text = line + strspn(line, blanks);
	if (wrong != NULL)
		config_fault(f, f->line, "this line %s", wrong);
	else if (strlen(line) > CONFIG_LINE_MAX || strlen(line) >= (size_t)room)
		config_fault(
		    f, f->line, "this line is longer than %d bytes; shorten it", CONFIG_LINE_MAX);
	else if (*text == '[')
		begin_section(f, text);
	else if (*text != '\0' && *text != ';' && *text != '#' && strpbrk(text, "=:") == NULL)
		config_fault(f, f->line,
		    "this line is no setting; write name = value, or # before a comment");
	if (f->error != NULL) {
		explicit_bzero(buffer, (size_t)room);
		return NULL;
	}
	return memcpy(buffer, line, strlen(line) + 1);
}

void
config_file_read(struct config_file *f, const struct config_events *events, void *arg)
{
	const char *wrong = whole_file_read(&f->whole, f->path, CONFIG_BYTES_MAX);

	f->events = events;
	f->arg = arg;
	f->mode = f->whole.mode;
	f->at = f->whole.bytes;
	if (wrong != NULL) {
		config_fault(f, 0, "the configuration cannot be read: %s; %s", wrong,
		    whole_file_remedy(f->path));
	} else if (f->mode & S_IWOTH) {
		config_fault(f, 0,
		    "every user of this machine may change the configuration; chmod o-w %s",
		    f->path);
	} else {
		/* Debian's inih takes its switches at run time; a heap buffer has the size we say. */
		ini_allow_multiline = false;
		ini_allow_inline_comments = false;
		ini_allow_no_value = false;
		ini_use_stack = false;
		ini_allow_realloc = false;
		ini_initial_alloc = ini_max_line = CONFIG_LINE_MAX + 3;
		if (ini_parse_stream(next_line, f, on_setting, f) == -2)
			out_of_memory();
		end_section(f);
	}
	whole_file_free(&f->whole);
}
