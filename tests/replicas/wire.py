"""The part of HTTP that the test needs, over asyncio."""

import asyncio
import collections
import json

Answer = collections.namedtuple("Answer", "status body head")


async def call(port, method, path, body=b"", headers=(), limit=15):
    """Sends one HTTP request and returns the response. Raises OSError if none arrives within `limit` seconds."""
    try:
        async with asyncio.timeout(limit):
            return await exchange(port, method, path, body, headers)
    except (TimeoutError, asyncio.IncompleteReadError, IndexError, ValueError) as error:
        raise OSError(f"no answer: {error}") from error


async def exchange(port, method, path, body, headers):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "connection: close", f"content-length: {len(body)}"]
        lines += ["content-type: application/json", *(f"{name}: {value}" for name, value in headers)]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = await reader.read()
    finally:
        writer.transport.abort()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return Answer(int(head.split()[1]), dechunked(head, rest), head)


def dechunked(head, rest):
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


async def call_json(port, method, path, value=None):
    """Sends `value` as JSON. Returns the status and the JSON of the response."""
    answer = await call(port, method, path, b"" if value is None else json.dumps(value).encode())
    return answer.status, json.loads(answer.body) if answer.body else None


async def read_request(reader):
    """Reads one request. Returns its header fields, with names in lower case, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line]
    headers = {name.decode().lower(): value.strip().decode() for name, value in lines}
    return headers, await reader.readexactly(int(headers.get("content-length", 0)))
