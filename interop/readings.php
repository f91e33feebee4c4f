<?php
// How PHP reads request targets, as the router of its own server (php -S); as readings.cjs.
$target = $_SERVER['REQUEST_URI'];
$parsed = parse_url($target, PHP_URL_PATH);
$path = explode('?', $target)[0];
echo json_encode([
    'parse_url' => is_string($parsed) ? $parsed : null,
    'rawurldecode(parse_url)' => is_string($parsed) ? rawurldecode($parsed) : null,
    'rawurldecode(REQUEST_URI)' => rawurldecode($path),
    'trim as Laravel' => '/' . trim(rawurldecode($path), '/'),
    'php -S, SCRIPT_NAME' => $_SERVER['SCRIPT_NAME'] ?? null,
    'php -S, PATH_INFO' => $_SERVER['PATH_INFO'] ?? null,
], JSON_INVALID_UTF8_SUBSTITUTE);
