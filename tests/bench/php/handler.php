<?php
// SPDX-License-Identifier: MIT
/*
 * The handler as one writes it for PHP-FPM: what the bench compares with.
 *
 * It answers for the same endpoint, makes the checks that matter (token in constant time,
 * content type, size, JSON, required fields, lengths, exact money, currency), and records
 * through the same SQL function, one delivery a call, committed before the 200. Unlike the C
 * handler it lets duplicate member names pass, and refuses amounts that are JSON numbers with
 * decimals, because json_decode() makes doubles of them.
 *
 * As PHP's manual advises for speed: opcache without timestamps, persistent connections,
 * bound parameters. Environment: BENCH_DSN, BENCH_TOKEN.
 */
declare(strict_types=1);

const BODY_LIMIT = 65536;
const TEXT_LIMITS = [
    'transaction_status' => 64, 'transaction_no' => 128, 'payment_reference' => 128, 'transaction_amount' => 17,
    'transaction_currency' => 3, 'transaction_message' => 1024, 'optional1' => 255, 'optional2' => 255, 'optional3' => 255,
    'customer_email' => 320, 'customer_mobile' => 64, 'card_last_four' => 32,
];

function answer(int $status, array $document): never
{
    http_response_code($status);
    header('Content-Type: ' . ($status === 200 ? 'application/json' : 'application/problem+json'));
    header('Cache-Control: no-store');
    header('X-Content-Type-Options: nosniff');
    $text = json_encode($document, JSON_UNESCAPED_SLASHES) . "\n";
    header('Content-Length: ' . strlen($text));
    echo $text;
    exit;
}

function problem(int $status, string $title, array $more = []): never
{
    if ($status === 503) {
        header('Retry-After: 5');
    }
    answer($status, ['type' => 'about:blank', 'title' => $title, 'status' => $status] + $more);
}

/** A prepared statement cannot outlive a request in PDO; the connection does. */
function database(): PDO
{
    return new PDO(getenv('BENCH_DSN'), null, null, [
        PDO::ATTR_PERSISTENT => true,
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_EMULATE_PREPARES => false,
        // one round trip (PQexecParams) instead of three for a statement that is executed once
        PDO::PGSQL_ATTR_DISABLE_PREPARES => true,
    ]);
}

/** @param list<array{pointer: string, detail: string}> $faults */
function field(array $object, string $name, string $path, array &$faults): ?string
{
    $value = $object[$name] ?? null;
    if (is_int($value)) {
        $value = (string) $value;
    }
    if ($value === null || $value === '') {
        return null;
    }
    if (!is_string($value) || strlen($value) > TEXT_LIMITS[$name] && iconv_strlen($value, 'UTF-8') > TEXT_LIMITS[$name] || str_contains($value, "\0")) {
        $faults[] = ['pointer' => "$path/$name", 'detail' => 'must be text of at most ' . TEXT_LIMITS[$name] . ' characters'];
        return null;
    }
    return $value;
}

$parts = explode('/', strtok($_SERVER['REQUEST_URI'], '?'));
$known = count($parts) === 5 && $parts[1] === 'webhooks' && $parts[2] === 'foloosi' && $parts[3] === 'bench';
if (!hash_equals((string) getenv('BENCH_TOKEN'), $known ? $parts[4] : '')) {
    problem(404, 'Not Found');
}
$merchant = $parts[3];
if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    in_array($_SERVER['REQUEST_METHOD'], ['GET', 'HEAD'], true) ? answer(200, ['outcome' => 'hello']) : problem(405, 'Method Not Allowed');
}
$body = file_get_contents('php://input', false, null, 0, BODY_LIMIT + 1);
if (strlen($body) > BODY_LIMIT) {
    problem(413, 'Content Too Large');
}
if (!preg_match('~^\s*(application/(.+\+)?json|text/plain|text/json)?\s*(;|$)~i', $_SERVER['CONTENT_TYPE'] ?? '') || isset($_SERVER['HTTP_CONTENT_ENCODING'])) {
    problem(415, 'Unsupported Media Type');
}
if (strlen($body) !== (int) ($_SERVER['CONTENT_LENGTH'] ?? 0)) {
    problem(400, 'Bad Request');
}

$faults = [];
$fault = null;
$f = array_fill_keys(array_keys(TEXT_LIMITS), null);
try {
    $document = json_decode($body, true, 33, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING);
    $transfer = $document['data']['transfer'] ?? null;
    if (!is_array($document) || !is_array($transfer)) {
        $faults[] = ['pointer' => '/data/transfer', 'detail' => 'must be an object'];
    } else {
        $api = $transfer['api'] ?? [];
        if (!is_array($api)) {
            $faults[] = ['pointer' => '/data/transfer/api', 'detail' => 'must be an object or null'];
            $api = [];
        }
        foreach (array_slice(array_keys(TEXT_LIMITS), 0, 6) as $name) {
            $f[$name] = field($transfer, $name, '/data/transfer', $faults);
        }
        foreach (array_slice(array_keys(TEXT_LIMITS), 6) as $name) {
            $f[$name] = field($api, $name, '/data/transfer/api', $faults);
        }
        $f['transaction_status'] = $f['transaction_status'] === null ? null : strtolower($f['transaction_status']);
        $f['transaction_currency'] = $f['transaction_currency'] === null ? null : strtoupper($f['transaction_currency']);
        if ($f['transaction_status'] === null) {
            $faults[] = ['pointer' => '/data/transfer/transaction_status', 'detail' => 'is required'];
        }
        if ($f['transaction_amount'] !== null && !preg_match('/\A[0-9]{1,12}(\.[0-9]{1,4})?\z/', $f['transaction_amount'])) {
            $faults[] = ['pointer' => '/data/transfer/transaction_amount', 'detail' => 'must be exact decimal'];
        }
        if ($f['transaction_currency'] !== null && !preg_match('/\A[A-Z]{3}\z/', $f['transaction_currency'])) {
            $faults[] = ['pointer' => '/data/transfer/transaction_currency', 'detail' => 'must be 3 letters'];
        }
        if ($f['transaction_status'] === 'success' && ($f['transaction_amount'] === null || $f['transaction_currency'] === null)) {
            $faults[] = ['pointer' => '/data/transfer', 'detail' => 'amount and currency are required for a success'];
        }
    }
    if ($faults) {
        $fault = implode("\n", array_map(fn ($x) => "$x[pointer]: $x[detail]", $faults));
        $f = array_fill_keys(array_keys(TEXT_LIMITS), null);
    }
} catch (JsonException $e) {
    $fault = 'not JSON: ' . $e->getMessage();
}

try {
    $statement = database()->prepare(
        'select outcome, order_ref, order_state, reason, delivery_id from foloosi.record_deliveries(array[1], array[?::text], array[?::text],'
        . ' array[?::bytea], array[?::bytea], array[?::text], array[null::text], array[?::text], array[?::text], array[?::text],'
        . ' array[?::numeric], array[?::text], array[?::text], array[?::text], array[?::text], array[?::text], array[?::text],'
        . ' array[?::text], array[?::text])'
    );
    $statement->execute([
        $merchant, $f['optional1'], '\x' . hash('sha256', $body), '\x' . bin2hex($body), $fault, ...array_values($f),
    ]);
    $row = $statement->fetch(PDO::FETCH_ASSOC);
} catch (PDOException) {
    problem(503, 'Service Unavailable');
}
if ($row === false || $row['outcome'] === 'busy') {
    problem(503, 'Service Unavailable');
}
if ($fault !== null) {
    $faults ? problem(422, 'Unprocessable Content', ['faults' => $faults]) : problem(400, 'Bad Request');
}
answer(200, [
    'outcome' => $row['outcome'],
    'order' => $row['order_ref'] === null ? null : ['ref' => $row['order_ref'], 'state' => $row['order_state']],
    'id' => (int) $row['delivery_id'],
] + ($row['reason'] === null ? [] : ['reason' => $row['reason']]));
