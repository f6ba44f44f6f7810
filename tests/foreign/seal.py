"""Seals, with PyPI `cryptography` or `pyhpke`, what the agent opens: HPKE base mode, DHKEM(X25519, HKDF-SHA256),
AES-128-GCM.

Reads {"by", "public", "info", "plain"} (all but "by" base64) and prints `enc || ciphertext` (base64).
"""

import base64
import json
import sys


def by_cryptography(public: bytes, info: bytes, plain: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    return suite.encrypt(plain, X25519PublicKey.from_public_bytes(public), info=info)


def by_pyhpke(public: bytes, info: bytes, plain: bytes) -> bytes:
    from pyhpke import AEADId, CipherSuite, KDFId, KEMId

    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES128_GCM)
    enc, context = suite.create_sender_context(suite.kem.deserialize_public_key(public), info)
    return enc + context.seal(plain)


case = json.load(sys.stdin)
seal = {"cryptography": by_cryptography, "pyhpke": by_pyhpke}[case.pop("by")]
print(base64.b64encode(seal(**{name: base64.b64decode(value) for name, value in case.items()})).decode())
