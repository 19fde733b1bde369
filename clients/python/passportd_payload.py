"""The form of passports as passportd reads it: canonical payloads, key ids, envelopes and compact JWS.

Where the daemon says `malformed`, so does this; nothing is read in a second way. Verifies no signature; `passportd_verifier` does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from passportd import AnyPassport, Code, Jws, Passport

MAX_PAYLOAD = 16 << 10
MAX_INTEGER = (1 << 53) - 1
MAX_DEPTH = 16
MAX_JWS = 22_162
MAX_HEADER = 171
NO_UID = (1 << 32) - 1

_ALGS = ("Ed25519", "EdDSA")
_BEFORE_ALG, _BEFORE_KID, _AFTER_KID = '{"alg":"', ',"kid":"', ',"typ":"passport+jwt"}'
_KID = re.compile(r"ed25519/([a-z0-9-]{1,32}(?:\.[a-z0-9-]{1,32})?)/[a-z0-9-]{1,32}/v([1-9][0-9]{0,15})", re.ASCII)
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_ESCAPED = re.compile('[\x00-\x1f"\\\\]')
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class Refusal(Exception):
    """Why a passport is not accepted."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


def _malformed() -> Refusal:
    return Refusal(Code.MALFORMED)


@dataclass(frozen=True)
class Parent:
    """The passport that a ticket was made from, as far as it may be revoked by it."""

    iat: int
    jti: str
    kid: str


@dataclass(frozen=True)
class Claims:
    """What a payload says."""

    iss: str
    sub: str
    aud: Sequence[str]
    iat: int
    exp: int
    nbf: Optional[int]
    jti: str
    scopes: Sequence[str]
    kid: str
    epoch: int
    takes: bool
    """To accept it takes something that only the daemon has: a use, a nonce."""
    bound: bool
    """It is for whoever has a key, or for one user."""
    par: Optional[Parent] = None
    """What a ticket was made from."""


@dataclass(frozen=True)
class Opened:
    """A passport of the right form. Nothing is verified yet."""

    claims: Claims
    tenant: str
    message: bytes
    signature: bytes


# Payloads. The document is read by Python's JSON and written again by the rules of RFC 8785, and must come out as it was.


def _sorted(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    names = [name.encode("utf-16-be", "surrogatepass") for name, _ in pairs]
    if any(one >= next_ for one, next_ in zip(names, names[1:])):
        raise ValueError("members twice, or not in canonical order")
    return dict(pairs)


def _integer(text: str) -> int:
    # 2^53 - 1 has 16 digits.
    if len(text) > 17 or not -MAX_INTEGER <= (number := int(text)) <= MAX_INTEGER:
        raise ValueError("an integer beyond 2^53 - 1")
    return number


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no integer")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_sorted, parse_float=_no_number, parse_int=_integer, parse_constant=_no_number
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _depth_is_bounded(text: str) -> bool:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return True
    depth = 0
    for found in _STRUCTURE.finditer(text):
        mark = found.group()
        if mark in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return False
        elif mark in "}]":
            depth -= 1
    return True


def canonical_object(document: bytes) -> Dict[str, Any]:
    """The object that these bytes are the canonical form of; raises `Refusal`."""
    try:
        text = document.decode("utf-8")
        if not _depth_is_bounded(text):
            raise _malformed()
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _malformed() from error
    if not isinstance(value, dict) or _ENCODER.encode(value) != text:
        raise _malformed()
    return value


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str) or _CONTROL.search(value) or not 1 <= len(value.encode("utf-8")) <= most:
        raise _malformed()
    return value


def _texts(value: Any, count: int, most: int) -> Tuple[str, ...]:
    if not isinstance(value, list) or len(value) > count:
        raise _malformed()
    return tuple(_text(one, most) for one in value)


def _number(value: Any, least: int = 0, most: int = MAX_INTEGER) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _malformed()
    return value


def _object(value: Any, known: Tuple[str, ...]) -> Dict[str, Any]:
    if not isinstance(value, dict) or any(name not in known for name in value):
        raise _malformed()
    return value


def _parent(value: Any) -> Parent:
    """`par` says which passport a ticket was made from."""
    found = _object(value, ("iat", "jti", "kid"))
    kid = found.get("kid")
    if len(found) != 3 or not isinstance(kid, str) or tenant_of(kid) is None:
        raise _malformed()
    return Parent(_number(found["iat"]), _text(found["jti"], 64), kid)


_NEEDED = ("aud", "cap", "epoch", "exp", "iat", "iss", "jti", "kid", "scopes", "sub")
_MEMBERS = _NEEDED + ("cnf", "ctx", "nbf", "nonce", "par")


def read_payload(payload: bytes) -> Claims:
    """The claims of a payload in canonical form; raises `Refusal` with `malformed`."""
    found = _object(canonical_object(payload), _MEMBERS)
    if any(name not in found for name in _NEEDED):
        raise _malformed()
    cap = _object(found["cap"], ("action", "limit", "template"))
    _text(cap.get("template"), 64)
    if "action" in cap:
        _text(cap["action"], 128)
    if "limit" in cap:
        _number(cap["limit"], 1)
    if "cnf" in found:
        cnf = _object(found["cnf"], ("jkt", "uid"))
        jkt = cnf.get("jkt", "A" * 43)
        if not cnf or not isinstance(jkt, str) or not _THUMBPRINT.fullmatch(jkt):
            raise _malformed()
        _number(cnf.get("uid", 0), 0, NO_UID - 1)
    if not isinstance(found.get("ctx", {}), dict):
        raise _malformed()
    if "nonce" in found:
        _text(found["nonce"], 128)
    kid = found["kid"]
    if not isinstance(kid, str) or _ESCAPED.search(kid):
        raise _malformed()
    return Claims(
        iss=_text(found["iss"], 256),
        sub=_text(found["sub"], 256),
        aud=_texts(found["aud"], 16, 256),
        iat=_number(found["iat"]),
        exp=_number(found["exp"]),
        nbf=_number(found["nbf"]) if "nbf" in found else None,
        jti=_text(found["jti"], 64),
        scopes=_texts(found["scopes"], 64, 128),
        kid=kid,
        epoch=_number(found["epoch"]),
        takes="limit" in cap or "nonce" in found or "par" in found,
        bound="cnf" in found,
        par=_parent(found["par"]) if "par" in found else None,
    )


def tenant_of(kid: str) -> Optional[str]:
    """The tenant in a key id `ed25519/<tenant>/<purpose>/v<N>`; None if it is none."""
    found = _KID.fullmatch(kid)
    return found.group(1) if found and int(found.group(2)) <= MAX_INTEGER else None


def _read(payload: bytes, beside: str) -> Tuple[Claims, str]:
    claims = read_payload(payload)
    tenant = tenant_of(claims.kid)
    if claims.kid != beside or tenant is None:
        raise Refusal(Code.BAD_KID)
    return claims, tenant


# Envelopes and JWS


def from_base64url(text: str) -> bytes:
    """The bytes of the one spelling that they have, without padding; raises ValueError."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("no base64url") from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != text:
        raise ValueError("no base64url, or another spelling of it")
    return raw


def _part(text: str) -> bytes:
    try:
        return from_base64url(text)
    except ValueError as error:
        raise _malformed() from error


def _kid_of_header(header: bytes) -> str:
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed() from error
    alg, quote, rest = text[len(_BEFORE_ALG) :].partition('"')
    if not text.startswith(_BEFORE_ALG) or not quote:
        raise _malformed()
    if alg not in _ALGS:
        raise Refusal(Code.BAD_ALG)
    kid, quote, tail = rest[len(_BEFORE_KID) :].partition('"')
    if not rest.startswith(_BEFORE_KID) or not quote or tail != _AFTER_KID:
        raise _malformed()
    return kid


def _characters(size: int) -> int:
    return -(-size * 4 // 3)


def _open_jws(text: str, max_msg_bytes: int) -> Opened:
    # A character for each byte, so that lengths are those of bytes; what is no ASCII is no base64url either.
    text = text.encode("utf-8", "surrogatepass").decode("latin-1")
    if len(text) > MAX_JWS:
        raise Refusal(Code.TOO_LARGE)
    signed, point, last = text.rpartition(".")
    first, second, middle = signed.partition(".")
    if not point or not second:
        raise _malformed()
    if len(first) > _characters(MAX_HEADER) or len(middle) > _characters(MAX_PAYLOAD):
        raise _malformed()
    if len(middle) * 3 // 4 > max_msg_bytes:
        raise Refusal(Code.TOO_LARGE)
    kid = _kid_of_header(_part(first))
    signature = _part(last)
    if len(signature) != 64:
        raise _malformed()
    claims, tenant = _read(_part(middle), kid)
    return Opened(claims, tenant, signed.encode("ascii"), signature)


def open_passport(passport: AnyPassport, max_msg_bytes: int) -> Opened:
    """Reads a passport, and checks all that can be without a key, in the daemon's order; raises `Refusal`."""
    if isinstance(passport, Jws):
        return _open_jws(passport.text, max_msg_bytes)
    if not isinstance(passport, Passport):
        raise TypeError(f"a Passport or a Jws is needed, not {type(passport).__name__}")
    if len(passport.msg) > max_msg_bytes:
        raise Refusal(Code.TOO_LARGE)
    if passport.alg not in _ALGS:
        raise Refusal(Code.BAD_ALG)
    if len(passport.sig) != 64:
        raise _malformed()
    claims, tenant = _read(bytes(passport.msg), passport.kid)
    return Opened(claims, tenant, bytes(passport.msg), bytes(passport.sig))
