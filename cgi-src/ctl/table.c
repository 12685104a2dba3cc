/* SPDX-License-Identifier: MIT */
/*
 * table.c - tables on a terminal.
 *
 * The hard part: the texts are hostile. An order key may contain the sequence that clears the screen, or
 * characters that reverse the line, and a terminal obeys. So text is printed one code point at a time, and what
 * is_harmful() becomes an escape of plain letters. Widths are counted over the same pieces, so that columns
 * are aligned also after an escape, a Chinese character (two columns) and a combining accent (none).
 */
#include <sys/ioctl.h>

#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "clock.h"
#include "mem.h"
#include "table.h"
#include "text.h"
#include "text.h"

#define GAP 2       /* blanks between columns */
#define INDENT 4    /* blanks before what is printed below a row */
#define NAME_MIN 4  /* a column's name that is cut keeps so many columns … */
#define TEXT_CUT 6  /* … free text so many, where a row is one line; */
#define TEXT_MIN 12 /* … else free text gets so many: what is longer is printed below the row */
#define PIECE_SIZE 12

/* ---- one code point ---- */

/* The length in bytes of the code point at s; *cp is UINT32_MAX for a byte that is no UTF-8. */
static size_t
take_code_point(const char *s, uint32_t *cp)
{
	size_t n = utf8_sequence(s, s + strnlen(s, 4));

	*cp = n > 0 ? utf8_code_point(s, n) : UINT32_MAX;
	return n > 0 ? n : 1;
}

/* Is it a control character for a terminal, or invisible, or misleading to read? */
static bool
is_harmful(uint32_t cp)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = {
	    {0x00, 0x1f},       /* C0: escape, bell, newline … */
	    {0x7f, 0x9f},       /* delete; C1, which holds CSI and OSC as single characters */
	    {0xad, 0xad},       /* soft hyphen: invisible */
	    {0x61c, 0x61c},     /* Arabic letter mark */
	    {0x180e, 0x180e},   /* Mongolian vowel separator: invisible */
	    {0x200b, 0x200f},   /* zero width, and marks of direction */
	    {0x2028, 0x202e},   /* separators of lines; embedding and overriding of direction */
	    {0x2060, 0x206f},   /* invisible; isolation of direction */
	    {0xfeff, 0xfeff},   /* byte order mark */
	    {0xfff9, 0xfffb},   /* interlinear annotation */
	    {0xe0000, 0xe0fff}, /* tags: invisible */
	};

	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
		if (cp >= ranges[i].first && cp <= ranges[i].last)
			return true;
	return false;
}

/*
 * The next piece of *text as it is shown: itself, or an escape. Moves *text on, and returns how
 * many columns the piece takes. At the end of the text the piece is empty.
 */
static int
take_piece(const char **text, bool ascii, char out[PIECE_SIZE])
{
	const char *s = *text;
	uint32_t cp;
	size_t n;
	int width;

	if (*s == '\0') {
		*out = '\0';
		return 0;
	}
	n = take_code_point(s, &cp);
	*text += n;
	if (cp >= ' ' && cp < 0x7f) {
		out[0] = (char)cp;
		out[1] = '\0';
		return 1;
	}
	if (cp != UINT32_MAX && !is_harmful(cp) && !ascii && (width = wcwidth((wchar_t)cp)) >= 0) {
		memcpy(out, s, n);
		out[n] = '\0';
		return width;
	}
	if (cp == UINT32_MAX)
		return snprintf(out, PIECE_SIZE, "\\x%02x", (unsigned char)*s);
	if (cp == '\n' || cp == '\t')
		return snprintf(out, PIECE_SIZE, "\\%c", cp == '\n' ? 'n' : 't');
	return snprintf(out, PIECE_SIZE, cp > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)cp);
}

void
table_text(FILE *out, const struct table_style *style, const char *text)
{
	char p[PIECE_SIZE];

	while (*text != '\0') {
		take_piece(&text, style->ascii, p);
		fputs(p, out);
	}
}

void
table_json(FILE *out, const char *json)
{
	uint32_t cp;

	while (*json != '\0') {
		size_t n = take_code_point(json, &cp);

		/* outside of strings JSON has none of these, and RFC 8259 lets a string spell them so */
		if (cp != UINT32_MAX && cp >= 0x7f && cp <= 0xffff && is_harmful(cp))
			fprintf(out, "\\u%04x", (unsigned)cp);
		else if (cp != UINT32_MAX && cp > 0xffff && is_harmful(cp))
			fprintf(out, "\\u%04x\\u%04x", 0xd7c0 + (unsigned)(cp >> 10),
			    0xdc00 + (unsigned)(cp & 0x3ff));
		else
			fwrite(json, 1, n, out);
		json += n;
	}
}

void
table_json_string(FILE *out, const char *s)
{
	struct text t = {0};

	text_add_json(&t, s);
	fputs(t.bytes, out);
	text_free(&t);
}

void
table_json_row(FILE *out, const struct table *t, size_t row)
{
	for (size_t c = 0; c < t->columns; c++) {
		const char *cell = t->cells[row * t->columns + c];

		fputs(c == 0 ? "{" : ",", out);
		table_json_string(out, t->names[c]);
		putc(':', out);
		if (cell != NULL && t->kinds[c] == TABLE_NUMBER)
			fputs(cell, out);
		else
			table_json_string(out, cell);
	}
	putc('}', out);
}

/* ---- the terminal ---- */

struct table_style
table_style(FILE *out)
{
	struct table_style style = {0};
	const char *term = getenv("TERM"), *columns = getenv("COLUMNS"), *no = getenv("NO_COLOR");
	struct winsize size;
	time_t now = clock_wall_s();
	struct tm tm;
	bool utf8;

	/* What wcwidth() knows depends on the locale; what the terminal understands does too. */
	utf8 = setlocale(LC_CTYPE, "") != NULL && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	if (!utf8)
		setlocale(LC_CTYPE, "C.UTF-8");
	if (!isatty(fileno(out)))
		return style;
	style.ascii = !utf8;
	style.colour = (no == NULL || *no == '\0') && term != NULL && strcmp(term, "dumb") != 0;
	style.year = gmtime_r(&now, &tm) != NULL ? tm.tm_year + 1900 : 0;
	style.width = 80;
	if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		style.width = size.ws_col;
	if (columns != NULL && atoi(columns) > 0)
		style.width = atoi(columns);
	return style;
}

const char *
table_colour(const char *word)
{
	static const struct {
		const char *colour, *words[10];
	} rows[] = {
	    {"\033[32m", {"paid", "recorded", "captured", "settled", "ok", "active"}},
	    {"\033[33m",
		{"review", "verifying", "check", "waiting", "warning", "paused", "pending"}},
	    {"\033[31m", {"due", "rejected", "dead", "disabled", "failed", "red", "cancelled"}},
	    {"\033[2m", {"duplicate", "ignored", "refunded"}},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (const char *const *w = rows[i].words; *w != NULL; w++)
			if (strcmp(*w, word) == 0)
				return rows[i].colour;
	return NULL;
}

/* ---- the table ---- */

void
table_column(struct table *t, const char *name, enum table_kind kind)
{
	t->names = xrealloc(t->names, (t->columns + 1) * sizeof *t->names);
	t->kinds = xrealloc(t->kinds, (t->columns + 1) * sizeof *t->kinds);
	t->names[t->columns] = xstrdup(name);
	t->kinds[t->columns++] = kind;
}

void
table_row(struct table *t, const char *const *texts)
{
	t->cells = xrealloc(t->cells, (t->rows + 1) * t->columns * sizeof *t->cells);
	for (size_t c = 0; c < t->columns; c++)
		t->cells[t->rows * t->columns + c] = texts[c] != NULL ? xstrdup(texts[c]) : NULL;
	t->rows++;
}

void
table_free(struct table *t)
{
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	for (size_t c = 0; c < t->columns; c++)
		free(t->names[c]);
	free(t->cells);
	free(t->names);
	free(t->kinds);
	*t = (struct table){0};
}

static const char *
cell_text(const struct table *t, size_t row, size_t column)
{
	const char *text = t->cells[row * t->columns + column];

	return text != NULL ? text : "";
}

static int
width_of(const char *text, bool ascii)
{
	char p[PIECE_SIZE];
	int width = 0;

	while (*text != '\0')
		width += take_piece(&text, ascii, p);
	return width;
}

/* "11-24 03:00Z" of this year, "2025-11-24" of others; text itself if it is no time. buf: room for the answer. */
static const char *
shorten_time(const char *text, int year, char buf[16])
{
	if (strlen(text) != sizeof "2026-11-24T03:00:00Z" - 1 || text[10] != 'T')
		return text;
	if (atoi(text) == year)
		snprintf(buf, 16, "%.5s %.5sZ", text + 5, text + 11);
	else
		snprintf(buf, 16, "%.10s", text);
	return buf;
}

/* A text in so many columns: cut with a mark, or padded. last: no blanks behind it. */
static void
print_cell(
    FILE *out, const struct table_style *style, const char *text, int width, bool right, bool last)
{
	char p[PIECE_SIZE];
	int natural = width_of(text, style->ascii), room = natural > width ? width - 1 : width,
	    used = 0;
	const char *colour = style->colour ? table_colour(text) : NULL;

	if (colour != NULL)
		fputs(colour, out);
	if (right && natural < width)
		fprintf(out, "%*s", width - natural, "");
	while (*text != '\0') {
		int w = take_piece(&text, style->ascii, p);

		if (used + w > room)
			break;
		fputs(p, out);
		used += w;
	}
	if (natural > width) {
		fputs(style->ascii ? "~" : "…", out);
		used++;
	}
	if (colour != NULL)
		fputs(TABLE_PLAIN, out);
	if (!last && used < width && !(right && natural < width))
		fprintf(out, "%*s", width - used, "");
}

/* Where the columns of a table stand. */
struct layout {
	int *widths;      /* of each column in the row's line; 0: not there. Owned */
	int *content;     /* the widest cell of each column; 0: all are empty. Owned */
	size_t last;      /* the last column in the line */
	bool short_times; /* they are printed by shorten_time() */
};

/* The columns that all of it takes, with the gaps between. */
static int
line_width(const struct table *t, const int *widths)
{
	int total = -GAP;

	for (size_t c = 0; c < t->columns; c++)
		total += widths[c] > 0 ? widths[c] + GAP : 0;
	return total;
}

static void
measure_columns(const struct table_style *style, const struct table *t, struct layout *l)
{
	char buf[16];

	for (size_t c = 0; c < t->columns; c++) {
		int name = width_of(t->names[c], style->ascii);

		l->content[c] = 0;
		for (size_t r = 0; r < t->rows; r++) {
			const char *text = cell_text(t, r, c);
			int n;

			if (l->short_times && t->kinds[c] == TABLE_TIME)
				text = shorten_time(text, style->year, buf);
			n = width_of(text, style->ascii);
			l->content[c] = n > l->content[c] ? n : l->content[c];
		}
		/* One key of 255 letters does not drive all other columns out of the line. */
		if (style->width > 0 && t->kinds[c] == TABLE_WORD &&
		    l->content[c] > style->width / 2)
			l->content[c] = style->width / 2;
		l->widths[c] = l->content[c] > 0 && l->content[c] < name ? name : l->content[c];
		if (style->width > 0 && t->kinds[c] == TABLE_COMMAND)
			l->widths[c] = 0;
	}
}

/* How far a name may be cut: it must not look like another one. */
static int
shortest_name(const struct table *t, size_t column)
{
	size_t shared = 0, n = strlen(t->names[column]);

	for (size_t c = 0; c < t->columns; c++) {
		size_t i = 0;

		while (i < n && t->names[column][i] == t->names[c][i])
			i++;
		shared = c != column && i > shared ? i : shared;
	}
	/* what is shared, a letter that differs, the mark */
	return shared + 2 > n ? (int)n : shared + 2 < NAME_MIN ? NAME_MIN : (int)shared + 2;
}

/* Make the widest column that may give way one narrower: one with a long name or, with text_min, free text. */
static bool
narrow_column(const struct table *t, struct layout *l, int text_min)
{
	size_t widest = t->columns;

	for (size_t c = 0; c < t->columns; c++) {
		int least = text_min > 0 ? text_min : shortest_name(t, c);

		if (text_min == 0 && least < l->content[c])
			least = l->content[c];
		if (l->widths[c] > least && (text_min == 0 || t->kinds[c] == TABLE_TEXT) &&
		    (widest == t->columns || l->widths[c] > l->widths[widest]))
			widest = c;
	}
	if (widest < t->columns)
		l->widths[widest]--;
	return widest < t->columns;
}

/* End it by freeing widths and content. */
static struct layout
lay_out_table(const struct table_style *style, const struct table *t)
{
	struct layout l = {.widths = xcalloc(t->columns, sizeof(int)),
	    .content = xcalloc(t->columns, sizeof(int))};
	int screen = style->width > 0 ? style->width : INT_MAX, used = -GAP;

	measure_columns(style, t, &l);
	if (line_width(t, l.widths) > screen) {
		l.short_times = true;
		measure_columns(style, t, &l);
	}
	while (line_width(t, l.widths) > screen &&
	       (narrow_column(t, &l, 0) ||
		   narrow_column(t, &l, style->one_line ? TEXT_CUT : TEXT_MIN)))
		;
	/* From the left, the columns that have room; the first is always there. */
	for (size_t c = 0; c < t->columns; c++) {
		if (used < 0 && l.widths[c] > screen)
			l.widths[c] = screen;
		if (used + GAP > screen - l.widths[c])
			l.widths[c] = 0;
		if (l.widths[c] > 0) {
			used += GAP + l.widths[c];
			l.last = c;
		}
	}
	/* What is left over goes to the names and texts that gave way. */
	for (size_t c = 0; c < t->columns; c++) {
		int name = width_of(t->names[c], style->ascii),
		    more = (l.content[c] > name ? l.content[c] : name) - l.widths[c];

		if (l.widths[c] > 0 && more > 0) {
			more = more < screen - used ? more : screen - used;
			l.widths[c] += more;
			used += more;
		}
	}
	return l;
}

static int
break_line(FILE *out)
{
	return fprintf(out, "\n%*s", INDENT, "") - 1;
}

/* A text from column used on, in lines of the screen, broken at blanks where it can be. Returns the column at the end. */
static int
print_words(FILE *out, const struct table_style *style, const char *text, int used)
{
	for (size_t blanks = 0; *text != '\0'; blanks = strspn(text, " "), text += blanks) {
		size_t n = strcspn(text, " ");
		char *word = xasprintf("%.*s", (int)n, text), p[PIECE_SIZE];

		if (blanks > 0 && used + (int)blanks + width_of(word, style->ascii) > style->width)
			used = break_line(out);
		else
			used += fprintf(out, "%*s", (int)blanks, "");
		for (const char *rest = word; *rest != '\0';) {
			int width = take_piece(&rest, style->ascii, p);

			if (used > INDENT && used + width > style->width)
				used = break_line(out);
			fputs(p, out);
			used += width;
		}
		text += n;
		free(word);
	}
	return used;
}

/* Is the cell in its row's line, whole? */
static bool
cell_fits(const struct table_style *style, const struct table *t, size_t row, size_t c,
    const struct layout *l)
{
	return l->widths[c] > 0 &&
	       ((l->short_times && t->kinds[c] == TABLE_TIME) ||
		   width_of(cell_text(t, row, c), style->ascii) <= l->widths[c]);
}

/* What has no room in a row's line. */
static void
print_below(FILE *out, const struct table_style *style, const struct table *t, size_t row,
    const struct layout *l)
{
	int used = 0;

	for (size_t c = 0; c < t->columns; c++) {
		const char *text = cell_text(t, row, c);
		bool command = t->kinds[c] == TABLE_COMMAND;
		int width = width_of(text, style->ascii),
		    name = command ? 0 : width_of(t->names[c], style->ascii) + 2;

		if (*text == '\0' || cell_fits(style, t, row, c, l))
			continue;
		if (used > 0 && (command || used + GAP + name + width > style->width)) {
			putc('\n', out);
			used = 0;
		}
		used += fprintf(out, "%*s", used == 0 ? INDENT : GAP, "");
		if (command) { /* pasted whole or not at all: no newline in it, and none before its end */
			table_text(out, style, text);
			used = style->width;
		} else {
			used += fprintf(out, "%s: ", t->names[c]);
			used = print_words(out, style, text, used);
		}
	}
	if (used > 0)
		putc('\n', out);
}

void
table_print(FILE *out, const struct table_style *style, const struct table *t)
{
	struct layout l = lay_out_table(style, t);
	bool below = style->width > 0 && !style->one_line;
	char buf[16];

	if (style->colour)
		fputs(TABLE_BOLD, out);
	for (size_t c = 0; c < t->columns; c++)
		if (l.widths[c] > 0) {
			print_cell(out, &(struct table_style){.ascii = style->ascii}, t->names[c],
			    l.widths[c], t->kinds[c] == TABLE_NUMBER, c == l.last);
			fprintf(out, "%*s", c == l.last ? 0 : GAP, "");
		}
	fputs(style->colour ? TABLE_PLAIN "\n" : "\n", out);
	for (size_t r = 0; r < t->rows; r++) {
		for (size_t c = 0; c < t->columns; c++) {
			const char *text = cell_text(t, r, c);

			if (l.widths[c] == 0)
				continue;
			if (l.short_times && t->kinds[c] == TABLE_TIME)
				text = shorten_time(text, style->year, buf);
			else if (t->kinds[c] == TABLE_TEXT && below &&
				 !cell_fits(style, t, r, c, &l))
				text = ""; /* it is below */
			print_cell(out, style, text, l.widths[c], t->kinds[c] == TABLE_NUMBER,
			    c == l.last);
			fprintf(out, "%*s", c == l.last ? 0 : GAP, "");
		}
		putc('\n', out);
		if (below)
			print_below(out, style, t, r, &l);
	}
	free(l.widths);
	free(l.content);
}

void
table_print_records(FILE *out, const struct table_style *style, const struct table *t)
{
	int name = 0;

	for (size_t c = 0; c < t->columns; c++)
		if (width_of(t->names[c], style->ascii) > name)
			name = width_of(t->names[c], style->ascii);
	for (size_t r = 0; r < t->rows; r++)
		for (size_t c = 0; c < t->columns; c++) {
			const char *colour =
			    style->colour ? table_colour(cell_text(t, r, c)) : NULL;

			if (*cell_text(t, r, c) == '\0')
				continue;
			fprintf(out, "%-*s  %s", name, t->names[c], colour != NULL ? colour : "");
			table_text(out, style, cell_text(t, r, c));
			fputs(colour != NULL ? TABLE_PLAIN "\n" : "\n", out);
		}
}
