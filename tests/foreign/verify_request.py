"""Verifies one request of the agent with a foreign implementation of RFC 9421, and refuses it once it was touched.

Reads {"method", "url", "headers": {...}, "body": base64, "keyid", "secret": base64, "created"} as JSON from
standard input and prints one line a check. Exit code 0: all as they must be.
"""

import base64
import datetime
import hashlib
import json
import sys

import http_sf
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from http_message_signatures.exceptions import InvalidSignature


class Request:
    """What the library wants of a message: method, url, headers."""

    def __init__(self, method, url, headers, body):
        self.method, self.url, self.body = method, url, body
        self.headers = CaseInsensitive(headers)


class CaseInsensitive(dict):
    def __init__(self, items):
        super().__init__((name.lower(), value) for name, value in dict(items).items())

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def __contains__(self, name):
        return super().__contains__(name.lower())

    def get(self, name, default=None):
        return super().get(name.lower(), default)


class Keys(HTTPSignatureKeyResolver):
    def __init__(self, keyid, secret):
        self.keyid, self.secret = keyid, secret

    def resolve_private_key(self, key_id):
        raise AssertionError("this script signs nothing")

    def resolve_public_key(self, key_id):
        if key_id != self.keyid:
            raise InvalidSignature(f"unknown key {key_id}")
        return self.secret


COVERED = {
    '"@method"', '"@authority"', '"@path"', '"@query"', '"content-type"', '"content-digest"', '"idempotency-key"',
}


def check(message, keys):
    """Raises unless signature, covered components and digest are right."""
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=keys)
    results = verifier.verify(message, max_age=datetime.timedelta(minutes=5))
    if len(results) != 1:
        raise InvalidSignature(f"{len(results)} signatures")
    covered = set(results[0].covered_components)
    wanted = COVERED | ({'"content-encoding"'} if "content-encoding" in message.headers else set())
    if not wanted <= covered:
        raise InvalidSignature(f"not covered: {wanted - covered}")
    if results[0].parameters["tag"] != "sentrycam-req" or len(results[0].parameters["nonce"]) != 22:
        raise InvalidSignature("tag or nonce")
    # The library leaves Content-Digest (RFC 9530) to its caller.
    digest = http_sf.parse(message.headers["content-digest"].encode(), tltype="dictionary")["sha-256"][0]
    if hashlib.sha256(message.body).digest() != digest:
        raise InvalidSignature("content-digest")


def main():
    case = json.load(sys.stdin)
    body = base64.b64decode(case["body"])
    keys = Keys(case["keyid"], base64.b64decode(case["secret"]))
    headers = case["headers"]

    def request(**changes):
        parts = {"method": case["method"], "url": case["url"], "headers": dict(headers), "body": body} | changes
        return Request(**parts)

    check(request(), keys)
    print("verified: the request as it was sent")

    digest = "sha-256=:" + base64.b64encode(hashlib.sha256(body + b" ").digest()).decode() + ":"
    tampered = {
        "body": request(body=body + b" "),
        "body with its digest": request(body=body + b" ", headers=headers | {"content-digest": digest}),
        "path": request(url=case["url"].replace("/events", "/uploads")),
        "query": request(url=case["url"] + "?all=1"),
        "host": request(url=case["url"].replace("localhost", "elsewhere")),
        "method": request(method="PUT"),
        "content-type": request(headers=headers | {"content-type": "application/json"}),
        "idempotency-key": request(headers=headers | {"idempotency-key": '"another"'}),
        "nonce": request(headers=headers | {
            "signature-input": headers["signature-input"].replace('nonce="', 'nonce="x')}),
        "created": request(headers=headers | {
            "signature-input": headers["signature-input"].replace("created=", "created=1")}),
    }
    for what, message in tampered.items():
        try:
            check(message, keys)
        except (InvalidSignature, ValueError) as refusal:
            print(f"refused: {what}: {type(refusal).__name__}")
        else:
            sys.exit(f"NOT refused: {what}")
    other = Keys(case["keyid"], bytes(32))
    try:
        check(request(), other)
    except InvalidSignature:
        print("refused: another key")
    else:
        sys.exit("NOT refused: another key")


if __name__ == "__main__":
    main()
