"""Seals, with PyPI `cryptography`, what the agent opens: HPKE base mode, DHKEM(X25519, HKDF-SHA256), AES-128-GCM.

Reads {"public", "info", "plain"} (base64) and prints `enc || ciphertext` (base64).
"""

import base64
import json
import sys

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

case = {name: base64.b64decode(value) for name, value in json.load(sys.stdin).items()}
suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
public = X25519PublicKey.from_public_bytes(case["public"])
print(base64.b64encode(suite.encrypt(case["plain"], public, info=case["info"])).decode())
