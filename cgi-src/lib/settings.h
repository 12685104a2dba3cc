/* SPDX-License-Identifier: MIT */
/*
 * settings.h - the settings of the configuration: one table of them, one table of their types.
 *
 * A new setting is a row of the first table and a field of config.h's structs; no other code changes.
 * A new kind of value is a row of the second. Both are in settings.c.
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include "config.h"
#include "config_file.h"

#define MASK "********" /* not valid as a token, so that a printed file cannot start */

/* One run of config_load(). */
struct loading {
	struct config_file file;
	struct config *config;
	enum config_reader reader;
	enum section section; /* the one that is being read */
	void *base;           /* the struct with its settings: config, or a merchant of it */
	unsigned *lines; /* where it sets each setting, 0: not yet; settings_begin() makes it */
};

/* A section begins; none of its settings is set yet. The caller frees l->lines in the end. */
void settings_begin(struct loading *, enum section, void *base);

/* The defaults of a section. base: the struct config, or the merchant, as in all functions below. */
void settings_defaults(enum section, void *base);

/* A line of the section gives a setting its value. */
void settings_set(struct loading *, const char *name, const char *value);

/* At the end of the section: read the files that its settings name. */
void settings_read_files(struct loading *);

/* Where this section sets a setting; 0: it does not. */
unsigned settings_line(const struct loading *, const char *name);

/* A secret of the merchant's section as it was given: its file's path, or MASK. NULL: it is not set. Borrowed. */
const char *settings_given(const struct merchant *, const char *name);

/* Refuse a value of a setting that is malformed, or one too many. */
void settings_bad_value(struct loading *, unsigned line, const char *name);
void settings_too_many(struct loading *, unsigned line, const char *name);

/* The effective settings of a section, one a line, each after its description if with_help. */
void settings_print(enum section, const void *base, bool with_help, FILE *);

/* Call report with each setting that was changed and is only read at the start. */
void settings_changed(
    enum section, const void *old, const void *fresh, void (*report)(const char *setting));

/* Free what the settings of a section own. */
void settings_free(enum section, void *base);

/* Wipe, free and forget a text; NULL is ignored. */
void secret_free(char **);

#endif
