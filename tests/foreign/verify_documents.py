"""Reads {"secret": base64, "commands": [jws, …], "twin": jws, "aud": edge_id} from stdin and verifies each with PyJWT.

Exits 0 only if every document verifies as it is and is refused with another key, another algorithm and after a change."""

import base64
import json
import sys

import jwt

case = json.load(sys.stdin)
secret = base64.b64decode(case["secret"])
types = [(jws, "sentrycam-cmd+jwt") for jws in case["commands"]] + [(case["twin"], "sentrycam-twin+jwt")]
refused = 0
for document, typ in types:
    head = jwt.get_unverified_header(document)
    assert list(head) == ["alg", "kid", "typ"] and head["alg"] == "HS256" and head["typ"] == typ, head
    claims = jwt.decode(
        document, secret, algorithms=["HS256"], audience=case["aud"], issuer="sentrycam-cloud",
        options={"require": ["iss", "aud", "iat"]},
    )
    print("verified:", typ, claims.get("jti") or claims["version"])
    middle = document.index(".") + 5
    changed = document[:middle] + ("A" if document[middle] != "A" else "B") + document[middle + 1 :]
    attempts = [
        (document, b"another key of thirty-two bytes!", "HS256", case["aud"]),
        (document, secret, "HS512", case["aud"]),
        (document, secret, "HS256", "e-other"),
        (changed, secret, "HS256", case["aud"]),
    ]
    for text, key, algorithm, audience in attempts:
        try:
            jwt.decode(text, key, algorithms=[algorithm], audience=audience)
        except jwt.PyJWTError:
            refused += 1
print("refused:", refused, "of", 4 * len(types))
sys.exit(0 if refused == 4 * len(types) else 1)
