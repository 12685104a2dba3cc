/* SPDX-License-Identifier: MIT */
/*
 * table.h - tables on a terminal: aligned columns, and text that is safe to print.
 *
 * The texts come from the internet. Control characters, and characters that are invisible or mislead a
 * reader, are printed as escapes.
 */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What a table is printed to. */
struct table_style {
	int width;   /* columns of the screen; 0: no screen, so each row is one line, nothing cut */
	bool colour; /* a terminal that knows colours, and NO_COLOR (no-color.org) is not set */
	bool ascii;  /* a terminal whose locale is not UTF-8: the rest is shown as \uXXXX */
	bool one_line; /* a row takes one line of the screen: what has no room is not shown */
	int year;      /* now; a shortened time of another year is a date */
};

/* Look at a stream. COLUMNS overrides the width that a terminal has. */
struct table_style table_style(FILE *);

enum table_kind {
	TABLE_WORD,    /* to the left; a key or a word of ours, so it is not cut */
	TABLE_TEXT,    /* to the left; free text */
	TABLE_TIME,    /* 2026-11-24T03:00:00Z, "11-24 03:00Z" where there is no room */
	TABLE_NUMBER,  /* to the right; not cut, as half a number is a wrong number */
	TABLE_COMMAND, /* to be pasted: on a screen, a line of its own below the row, not cut */
};

struct table {
	char **cells; /* rows * columns texts, row by row, in UTF-8; NULL: nothing. Owned */
	char **names; /* a text for each column; owned */
	enum table_kind *kinds; /* of each column; owned */
	size_t columns, rows;
};

/* Begin with {0}. The first row fixes the columns. Texts are copied; end with table_free(). */
void table_column(struct table *, const char *name, enum table_kind);
void table_row(struct table *, const char *const *texts); /* one for each column; NULL: nothing */
void table_free(struct table *);

/*
 * Print the table: a line of names, a line for each row. A column of which no row has anything is left out.
 * Where a row is too wide for the screen, times are shortened, then names over narrow columns; then the
 * columns that still have no room are printed below each row as "name: text".
 */
void table_print(FILE *, const struct table_style *, const struct table *);

/* Print the rows one below the other, "name: text" to the line, nothing cut. */
void table_print_records(FILE *, const struct table_style *, const struct table *);

/* Print a text with escapes for what is harmful. */
void table_text(FILE *, const struct table_style *, const char *text);

/* Print JSON that is valid, with \uXXXX for what would be harmful on a terminal; it means the same. */
void table_json(FILE *, const char *json);

/* Print a text as a string of JSON; NULL: null. */
void table_json_string(FILE *, const char *text);

/* Print a row as an object of JSON, numbers as numbers. */
void table_json_row(FILE *, const struct table *, size_t row);

/* The escape sequence that begins the colour of a word such as a state or an outcome; NULL: none. */
const char *table_colour(const char *word);
#define TABLE_PLAIN "\033[0m"
#define TABLE_BOLD "\033[1m"

#endif
