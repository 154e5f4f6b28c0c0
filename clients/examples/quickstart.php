<?php
// The quickstart in PHP, with nothing but PHP: php quickstart.php
declare(strict_types=1);

// Where nothing answers, that is an exception and no warning.
set_error_handler(fn (int $level, string $message) => throw new ErrorException($message, 0, $level));

final class Problem extends RuntimeException
{
}

/** The answer of the server; throws Problem where it refuses. */
function evaluate(array $request): array
{
    $url = getenv('PULLBACK_URL') ?: 'http://127.0.0.1:8000';
    $stream = fopen("$url/v1/evaluate", 'r', false, stream_context_create(['http' => [
        'method' => 'POST',
        'header' => 'Content-Type: application/json',
        'content' => json_encode($request, JSON_THROW_ON_ERROR),
        'timeout' => 30,
        'ignore_errors' => true, // the body of a refusal is read too
    ]]));
    [, $status] = explode(' ', stream_get_meta_data($stream)['wrapper_data'][0]);
    $answer = json_decode(stream_get_contents($stream), true)
        ?? throw new RuntimeException("$status, and no JSON in the answer");
    if ($status !== '200') {
        throw new Problem("$status $answer[type]: $answer[detail]", (int) $status);
    }
    return $answer;
}

/** All digits that it takes to read the same number back; echo alone shows 14. */
function show(float ...$numbers): void
{
    echo implode(' ', array_map('json_encode', $numbers)), "\n";
}

// Value and gradient of one expression
$a = evaluate(['expr' => 'square(exp(square(x)))', 'inputs' => ['x' => 0.5], 'backward' => true]);
show($a['values']['out'], $a['grads']['x']);

// The Matyas function: all partial derivatives come with one call
$a = evaluate(['expr' => '0.26*(x**2 + y**2) - 0.48*x*y', 'inputs' => ['x' => 1, 'y' => 1], 'backward' => true]);
show($a['values']['out'], $a['grads']['x'], $a['grads']['y']);

// Forward only: nothing is kept for a gradient
$a = evaluate(['expr' => 'square(exp(square(x)))', 'inputs' => ['x' => 0.5], 'nograd' => true]);
show($a['values']['out']);

// sin(1) and its first six derivatives
$a = evaluate(['expr' => 'sin(x)', 'inputs' => ['x' => 1], 'backward' => ['order' => 6]]);
show($a['values']['out'], ...$a['higher']['x']);

// A mistake: the error says what was wrong, and what would be right
try {
    evaluate(['expr' => 'sine(x)', 'inputs' => ['x' => 1]]);
} catch (Problem $problem) {
    echo $problem->getMessage(), "\n";
}
