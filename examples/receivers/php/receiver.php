<?php
// A target of pepay-bridge: PDO and the Standard Webhooks library.
//
//     composer install
//     export SIGNING_SECRET=whsec_… DATABASE_DSN='pgsql:host=…;dbname=…;user=…'
//     PHP_CLI_SERVER_WORKERS=8 php -S 127.0.0.1:8000 receiver.php     # or behind PHP-FPM
//
// php.ini: post_max_size is 8M by default, enough for every event.

declare(strict_types=1);

require __DIR__ . '/vendor/autoload.php';

// A warning or a notice is a failure: it must not become a 200 with the text of an error.
set_error_handler(function (int $level, string $message): never {
    throw new ErrorException($message, 0, $level);
});

http_response_code(receive());

function receive(): int
{
    if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
        return 405;
    }
    // The bytes as they came: parsed and written again, they would not verify.
    $body = file_get_contents('php://input');
    $headers = array_change_key_case(getallheaders(), CASE_LOWER);
    try {
        (new StandardWebhooks\Webhook(getenv('SIGNING_SECRET')))->verify($body, $headers);
    } catch (Throwable) {
        // A malformed signature raises other errors than WebhookVerificationException.
        return 401;
    }
    try {
        receive_once($headers['webhook-id'], json_decode($body, true, 512, JSON_THROW_ON_ERROR | JSON_BIGINT_AS_STRING));
        return 204;
    } catch (Throwable $error) {
        // pepay-bridge sends the event again.
        error_log($error->getMessage());
        return 500;
    }
}

/** One transaction: the id and the work it stands for are kept together, or neither is. */
function receive_once(string $id, array $event): void
{
    $database = new PDO(getenv('DATABASE_DSN'), options: [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
    $database->beginTransaction();
    $taken = $database->prepare('INSERT INTO received (webhook_id) VALUES (?) ON CONFLICT DO NOTHING');
    $taken->execute([$id]);
    if ($taken->rowCount() > 0) {
        apply($database, $event);
    }
    // Without this, the end of the script rolls everything back.
    $database->commit();
}

/** Does the work of one event. Pepay names an order by `id` or by `orderId`. */
function apply(PDO $database, array $event): void
{
    $subject = $event['data']['object'] ?? [];
    $order = $subject['id'] ?? $subject['orderId'] ?? null;
    if ($order === null) {
        return;
    }
    $database
        ->prepare('INSERT INTO orders (id, status, changes) VALUES (?, ?, 1)
            ON CONFLICT (id) DO UPDATE SET status = excluded.status, changes = orders.changes + 1')
        ->execute([(string) $order, $subject['status'] ?? null]);
}
