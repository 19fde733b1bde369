"""Asks PyJWT, joserfc and jwcrypto about each text in a file of cases, with our key set: prints `library case verdict`."""

import json
import sys

import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto import jwk, jwt as jwcrypto_jwt

with open(sys.argv[1], encoding="utf-8") as file:
    INPUT = json.load(file)
ISSUER, AUDIENCE, ALG = INPUT["issuer"], INPUT["audience"], ["EdDSA", "Ed25519"]


def pyjwt(text):
    kid = jwt.get_unverified_header(text)["kid"]
    key = jwt.PyJWKSet.from_dict(INPUT["jwks"])[kid]
    known = [alg for alg in ALG if alg in jwt.PyJWS().get_algorithms()]
    return jwt.decode(text, key, algorithms=known, issuer=ISSUER, audience=AUDIENCE)


def joserfc(text):
    token = joserfc_jwt.decode(text, KeySet.import_key_set(INPUT["jwks"]), algorithms=ALG)
    rules = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": AUDIENCE}, exp={"essential": True}
    )
    rules.validate(token.claims)
    return token.claims


def jwcrypto(text):
    keys = jwk.JWKSet.from_json(json.dumps(INPUT["jwks"]))
    checks = {"iss": ISSUER, "aud": AUDIENCE, "exp": None}
    return json.loads(jwcrypto_jwt.JWT(jwt=text, key=keys, algs=ALG, check_claims=checks).claims)


for name, verify in {"PyJWT": pyjwt, "joserfc": joserfc, "jwcrypto": jwcrypto}.items():
    for case, text in INPUT["cases"].items():
        try:
            verdict = "accepted" if verify(text)["sub"] == INPUT["sub"] else "misread"
        except Exception as error:  # each library has its own; why is shown beside
            print(name, case, repr(error), file=sys.stderr)
            verdict = "refused"
        print(name, case, verdict)
