"""Signs command documents with PyJWT, as a cloud that is not ours would; one a line on standard output.

Reads {"claims": …, "keyid": …, "secret": base64, "typ": …} from standard input. The first line is the right document,
each other one has one thing wrong with it.
"""

import base64
import json
import sys

import jwt

case = json.load(sys.stdin)
secret = base64.b64decode(case["secret"])
header = {"kid": case["keyid"], "typ": case["typ"]}


def sign(claims=case["claims"], key=secret, algorithm="HS256", headers=header, sort=True):
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers, sort_headers=sort)


print(sign())
print(sign(key=bytes(32)))
print(sign(key=None, algorithm="none"))
print(sign(algorithm="HS512", key=secret + secret))
print(sign(headers={**header, "crit": ["exp"]}))
print(sign(headers={**header, "kid": "ek_other"}))
print(sign(headers={**header, "typ": "JWT"}))
print(sign(headers={"kid": case["keyid"]}))
print(sign(headers={**header, "jku": "https://evil.example/"}))
print(sign(headers={"typ": case["typ"], "kid": case["keyid"]}, sort=False))
