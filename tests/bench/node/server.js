// SPDX-License-Identifier: MIT
/*
 * The handler as one writes it for Node.js: Fastify and pg. What the bench compares with.
 *
 * The same endpoint, the checks that matter (token in constant time, content type, size, JSON,
 * required fields, lengths, exact money, currency), and the same SQL function, one delivery a
 * call, committed before the 200. Unlike the C handler it lets duplicate member names pass, and
 * refuses amounts that are JSON numbers with decimals, because JSON.parse() makes doubles of them.
 *
 * As their documentation advises for speed: a named statement (planned once a connection), a
 * response schema (Fastify compiles the serializer), no logger. Environment: BENCH_SOCKET, BENCH_TOKEN, BENCH_POOL,
 * and PGHOST, PGPORT, PGUSER, PGDATABASE.
 */
'use strict';

const crypto = require('node:crypto');
const fastify = require('fastify');
const { Pool } = require('pg');

const BODY_LIMIT = 65536;
const TRANSFER = { transaction_status: 64, transaction_no: 128, payment_reference: 128, transaction_amount: 17, transaction_currency: 3, transaction_message: 1024 };
const API = { optional1: 255, optional2: 255, optional3: 255, customer_email: 320, customer_mobile: 64, card_last_four: 32 };
const NAMES = [...Object.keys(TRANSFER), ...Object.keys(API)];
const NOTHING = NAMES.map(() => null);

const RECORD = {
	name: 'record',
	text: `select outcome, order_ref, order_state, reason, delivery_id from foloosi.record_deliveries(array[1], array[$1::text], array[$2::text],
		array[$3::bytea], array[$4::bytea], array[$5::text], array[null::text], array[$6::text], array[$7::text], array[$8::text],
		array[$9::numeric], array[$10::text], array[$11::text], array[$12::text], array[$13::text], array[$14::text], array[$15::text],
		array[$16::text], array[$17::text])`,
};

const pool = new Pool({ max: Number(process.env.BENCH_POOL || 16), idleTimeoutMillis: 0 });
pool.on('error', () => {}); // an idle connection that broke is replaced by the next query

const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest();
const expectedToken = sha256(process.env.BENCH_TOKEN);

const utf8 = new TextDecoder('utf-8', { fatal: true });
const isObject = (x) => typeof x === 'object' && x !== null && !Array.isArray(x);

function field(object, name, limit, path, faults) {
	let value = object[name];
	if (value === undefined || value === null || value === '')
		return null;
	if (Number.isSafeInteger(value))
		value = String(value);
	if (typeof value !== 'string' || (value.length > limit && [...value].length > limit) || value.includes('\0')) {
		faults.push({ pointer: `${path}/${name}`, detail: `must be text of at most ${limit} characters` });
		return null;
	}
	return value;
}

/* Bytes to the twelve fields; what is wrong with them is added to faults. Throws if they are not JSON. */
function decode(body, faults) {
	const transfer = JSON.parse(utf8.decode(body))?.data?.transfer;
	if (!isObject(transfer)) {
		faults.push({ pointer: '/data/transfer', detail: 'must be an object' });
		return NOTHING;
	}
	let api = transfer.api ?? {};
	if (!isObject(api)) {
		faults.push({ pointer: '/data/transfer/api', detail: 'must be an object or null' });
		api = {};
	}
	const fields = [];
	for (const name in TRANSFER)
		fields.push(field(transfer, name, TRANSFER[name], '/data/transfer', faults));
	for (const name in API)
		fields.push(field(api, name, API[name], '/data/transfer/api', faults));
	if (fields[0] === null)
		faults.push({ pointer: '/data/transfer/transaction_status', detail: 'is required' });
	else
		fields[0] = fields[0].toLowerCase();
	if (fields[3] !== null && !/^[0-9]{1,12}(\.[0-9]{1,4})?$/.test(fields[3]))
		faults.push({ pointer: '/data/transfer/transaction_amount', detail: 'must be exact decimal' });
	if (fields[4] !== null && !/^[A-Za-z]{3}$/.test(fields[4]))
		faults.push({ pointer: '/data/transfer/transaction_currency', detail: 'must be 3 letters' });
	else if (fields[4] !== null)
		fields[4] = fields[4].toUpperCase();
	if (fields[0] === 'success' && (fields[3] === null || fields[4] === null))
		faults.push({ pointer: '/data/transfer', detail: 'amount and currency are required for a success' });
	return faults.length > 0 ? NOTHING : fields;
}

const app = fastify({ logger: false, bodyLimit: BODY_LIMIT, exposeHeadRoutes: true });

// the raw bytes, whatever the type: the digest is theirs
app.removeAllContentTypeParsers();
app.addContentTypeParser(/^(application\/(.+\+)?json|text\/plain|text\/json)/i, { parseAs: 'buffer' }, (request, body, done) => done(null, body));

function problem(reply, status, title, more) {
	if (status === 503)
		reply.header('Retry-After', '5');
	reply.code(status).type('application/problem+json').serializer(JSON.stringify).send({ type: 'about:blank', title, status, ...more });
}

function allowed(request, reply, done) {
	const { merchant, token } = request.params;
	if (!crypto.timingSafeEqual(sha256(token), expectedToken) || merchant !== 'bench')
		return problem(reply, 404, 'Not Found');
	done();
}

const answerSchema = {
	type: 'object',
	properties: {
		outcome: { type: 'string' },
		order: { type: 'object', nullable: true, properties: { ref: { type: 'string' }, state: { type: 'string', nullable: true } } },
		reason: { type: 'string' },
		id: { type: 'integer' },
	},
};

app.get('/webhooks/foloosi/:merchant/:token', { onRequest: allowed }, (request, reply) => reply.send({ outcome: 'hello' }));

app.post('/webhooks/foloosi/:merchant/:token', { onRequest: allowed, schema: { response: { 200: answerSchema } } }, async (request, reply) => {
	const body = request.body ?? Buffer.alloc(0);
	const faults = [];
	let fields = NOTHING;
	let fault = null;
	try {
		fields = decode(body, faults);
		if (faults.length > 0)
			fault = faults.map((x) => `${x.pointer}: ${x.detail}`).join('\n');
	} catch (e) {
		fault = `not JSON: ${e.message}`;
	}
	let row;
	try {
		({ rows: [row] } = await pool.query({ ...RECORD, values: [request.params.merchant, fields[6], sha256(body), body, fault, ...fields] }));
	} catch {
		problem(reply, 503, 'Service Unavailable');
		return reply;
	}
	if (row === undefined || row.outcome === 'busy')
		problem(reply, 503, 'Service Unavailable');
	else if (fault !== null)
		faults.length > 0 ? problem(reply, 422, 'Unprocessable Content', { faults }) : problem(reply, 400, 'Bad Request');
	else
		reply.header('Cache-Control', 'no-store').header('X-Content-Type-Options', 'nosniff').send({
			outcome: row.outcome,
			order: row.order_ref === null ? null : { ref: row.order_ref, state: row.order_state },
			...(row.reason === null ? {} : { reason: row.reason }),
			id: Number(row.delivery_id),
		});
	return reply;
});

app.listen({ path: process.env.BENCH_SOCKET, backlog: 4096 });
process.once('SIGTERM', () => app.close().then(() => pool.end()).then(() => process.exit(0)));
