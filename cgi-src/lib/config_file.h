/* SPDX-License-Identifier: MIT */
/*
 * config_file.h - the text of a configuration: whole files, their lines, sections and settings. What
 * they mean is settings.c's.
 */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CONFIG_LINE_MAX 4096 /* bytes of a line of the configuration, its end not counted */

/* A file's bytes, with a NUL behind them. Wiped by whole_file_free(). */
struct whole_file {
	char *bytes;
	size_t len;
	mode_t mode;
	const char *path; /* borrowed */
};

/*
 * Read a whole regular file of at most limit bytes. Returns NULL, or what is wrong with
 * it (static, or of strerror()); then there is nothing to free.
 */
const char *whole_file_read(struct whole_file *, const char *path, size_t limit);

/* What to do about a file that could not be read. Static. */
const char *whole_file_remedy(const char *path);
void whole_file_free(struct whole_file *);

/*
 * Cut the next line out of the file: moves *at, which is bytes at first, behind it, ends it with
 * NUL, drops its CR. Returns it, or NULL at the end. *wrong is set to a clause if
 * the line cannot be text, else to NULL.
 */
char *whole_file_line(const struct whole_file *, char **at, const char **wrong);

/*
 * Where a file is that the configuration at path names. A relative name starts at the directory of the
 * configuration; what cannot be read there may be among the credentials that the service
 * manager has loaded. Owned by the caller.
 */
char *config_file_path(const char *path, const char *name);

enum section {
	SECTION_NONE,
	SECTION_HANDLER,
	SECTION_WORKER,
	SECTION_MERCHANT
};

/* A configuration file that is being read. */
struct config_file {
	const char *path;
	mode_t mode;
	unsigned line; /* the number of the last line read, from 1 */
	char *
	    error; /* the first fault: file, line, sentence; owned by the caller; ends the reading */
	/* config_file.c's own */
	struct whole_file whole;
	char *at; /* the next line */
	enum section section;
	unsigned first_line[SECTION_MERCHANT]; /* of the sections of which there is one */
	const struct config_events *events;
	void *arg;
};

/* What config_file_read() calls, in the order of the file. */
struct config_events {
	void (*section)(
	    void *arg, enum section, const char *merchant); /* NULL unless SECTION_MERCHANT */
	void (*setting)(void *arg, const char *name, const char *value);
	void (*section_end)(void *arg, enum section); /* not after a fault */
};

/* Read the configuration f->path. Faults are in f->error. One thread at a time: inih's switches are globals. */
void config_file_read(struct config_file *f, const struct config_events *, void *arg);

/* Note a fault of a line; line 0: of the file. Only the first counts: later ones may follow from it. */
void config_fault(struct config_file *, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
