/* SPDX-License-Identifier: MIT */
/*
 * pg_script.c - texts of several statements, for foloosictl migrate.
 *
 * The hard part is to name the line of an error. A syntax error or a wrong name comes with its
 * position in the text; what fails while it runs (a division by zero, a table that is there already)
 * comes with none, and all that is known is how many statements were done before. The server alone
 * knows where a statement ends, so it is asked: at each semicolon, could another one begin here?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "mem.h"
#include "pg_private.h"
#include "pg_script.h"

void
pg_script_on_warning(struct pg *pg, void (*warning)(const char *text))
{
	pg->on_warning = warning;
}

/* The server wants to copy: there is nothing to copy. */
static void
end_copy(PGconn *conn, ExecStatusType status)
{
	char *line;

	if (status == PGRES_COPY_IN)
		PQputCopyEnd(conn, "not here");
	else
		while (PQgetCopyData(conn, &line, 0) > 0)
			PQfreemem(line);
}

/* The server's message for lock_not_available has no hint of its own. */
static void
add_lock_hint(struct pg *pg)
{
	size_t len = strlen(pg->error);

	snprintf(pg->error + len, sizeof pg->error - len,
	    "\n  hint: Another session holds that lock; try again when it is done.");
}

enum pg_status
pg_script(struct pg *pg, const char *text)
{
	enum pg_status status = PG_OK;
	PGresult *r;

	pg->position = 0;
	pg->done = 0;
	if (!PQsendQuery(pg->conn, text)) {
		pg_explain(pg, "%s", PQerrorMessage(pg->conn));
		return PG_LOST;
	}
	while ((r = PQgetResult(pg->conn)) != NULL) {
		ExecStatusType got = PQresultStatus(r);

		if (got == PGRES_COPY_IN || got == PGRES_COPY_OUT) {
			if (status == PG_OK)
				pg_explain(pg, "COPY from or to the client has no place here");
			status = PG_DATA;
			end_copy(pg->conn, got);
		} else if (got == PGRES_FATAL_ERROR && status == PG_OK) {
			const char *position = PQresultErrorField(r, PG_DIAG_STATEMENT_POSITION);

			pg->position = position != NULL ? atol(position) : 0;
			status = pg_blame(pg, r);
			if (strcmp(pg->sqlstate, "55P03") == 0)
				add_lock_hint(pg);
		} else if (status == PG_OK && got != PGRES_EMPTY_QUERY) {
			pg->done++;
		}
		PQclear(r);
	}
	return status;
}

/* The line on which the position-th character (from 1, as the server counts: code points) stands. */
static unsigned
line_of(const char *text, long position)
{
	unsigned line = 1;

	for (; *text != '\0' && position > 1; text++) {
		if (*text == '\n')
			line++;
		if (((unsigned char)text[1] & 0xc0) != 0x80) /* not amid a character of UTF-8 */
			position--;
	}
	return line;
}

enum piece {
	PIECE_UNFINISHED, /* or wrong, at *position */
	PIECE_STATEMENT,
	PIECE_EMPTY
};

/*
 * What the server's parser makes of the first len bytes of a text, with words before them. What is
 * appended can only be a statement of its own: two statements are refused, but not for their
 * syntax, so without a position. Nothing is run.
 */
static enum piece
parse(PGconn *conn, const char *before, const char *text, size_t len, long *position)
{
	char *sql = xasprintf("%s%.*s\ndo ''", before, (int)len, text);
	PGresult *r = PQprepare(conn, "", sql, 0, NULL);
	const char *wrong = PQresultErrorField(r, PG_DIAG_STATEMENT_POSITION);
	enum piece piece = wrong != NULL                           ? PIECE_UNFINISHED
			   : PQresultStatus(r) == PGRES_COMMAND_OK ? PIECE_EMPTY
								   : PIECE_STATEMENT;

	*position = wrong != NULL ? atol(wrong) : 0;
	PQclear(r);
	free(sql);
	return piece;
}

/* The line on which the statement begins before which n others are done. */
static unsigned
line_of_statement(PGconn *conn, const char *text, unsigned n)
{
	static const char no_comment[] = "commit and "; /* no statement may go on behind this */
	const char *begin = text;
	unsigned line = 1;
	long position;

	for (const char *p = text; (p = strchr(p, ';')) != NULL; p++) {
		enum piece piece = parse(conn, "", begin, (size_t)(p + 1 - begin), &position);

		if (piece == PIECE_STATEMENT && n-- == 0)
			break;
		if (piece != PIECE_UNFINISHED)
			begin = p + 1;
	}
	/* the position of the syntax error is that of its first word, behind comments */
	parse(conn, no_comment, begin, strlen(begin), &position);
	for (const char *p = text; p < begin; p++)
		line += *p == '\n';
	return line - 1 + line_of(begin, position - (long)(sizeof no_comment - 1));
}

unsigned
pg_script_line(struct pg *pg, const char *text)
{
	if (pg->position > 0)
		return line_of(text, pg->position);
	if (PQstatus(pg->conn) != CONNECTION_OK)
		return 0;
	/* leave the failed transaction; a superuser can also keep the attempts out of the server's
	 * log */
	PQclear(PQexec(pg->conn, "rollback; set log_min_messages = panic"));
	return line_of_statement(pg->conn, text, pg->done);
}

bool
pg_in_transaction(const struct pg *pg)
{
	PGTransactionStatusType status = PQtransactionStatus(pg->conn);

	return status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
}

/* COMMIT of a transaction that failed is answered by success, and the tag ROLLBACK. */
bool
pg_commit(struct pg *pg)
{
	PGresult *r;
	bool committed =
	    pg_ask(pg, "commit", PG_FOREVER, &r) == PG_OK && strcmp(PQcmdStatus(r), "COMMIT") == 0;

	if (!committed && r != NULL)
		pg_explain(pg, "the transaction had failed");
	PQclear(r);
	return committed;
}
