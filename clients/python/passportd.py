#!/usr/bin/env python3
"""Client of passportd: issue and verify passports over a Unix socket.

One file, Python 3.9 or later, nothing but the standard library. It is written from docs/WIRE.md and follows that file's
sections: encoding, greeting, messages, what a client does.

    from passportd import Client

    with Client("/run/passportd/passportd.sock", name="billing/2.1") as client:
        passport = client.issue("demo", "alice", aud=["api"], ttl_s=300)
        verdict = client.verify(passport, aud="api", scopes=["read"])
        if verdict.accepted:
            ...

A client may be shared by threads: their calls take turns. To have many requests under way at once, use `pipeline`.
A call that loses its connection raises `Lost` and is not repeated by itself; the next call connects again.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import dataclasses
import enum
import json
import random
import re
import selectors
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple, Type, Union

__version__ = "0.1.0"

WIRE_VERSION = 1
HEADER = 4
MAX_FRAME = 1 << 20
MAX_CLIENT = 64
NO_CORR_ID = bytes(16)

# Section 10: room in a frame for what is around the items of a batch, and around the msg of one issued passport, or around the
# payload of one that is issued as JWS, where each three bytes are four characters.
_FRAME_RESERVE = 4096
_ITEM_RESERVE = 208
_JWS_RESERVE = 340
_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 0.8
_READ = 64 << 10


# Errors


class PassportdError(Exception):
    """Anything that this module raises."""

    @property
    def may_retry(self) -> bool:
        """Whether the same call may succeed when it is made again."""
        return False


class WireError(PassportdError):
    """Bytes that are not of this wire, in either direction."""


class Lost(PassportdError):
    """The connection broke. Whether the requests under way took effect is not known."""

    @property
    def may_retry(self) -> bool:
        return True


class CannotConnect(Lost):
    """Nobody serves the socket, or this user may not reach it. Nothing was sent."""


class Timeout(PassportdError):
    """No answer in time. Whether the request took effect is not known."""

    @property
    def may_retry(self) -> bool:
        return True


class Code(enum.Enum):
    """A stable code. The order is the wire: append only."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNSUPPORTED_VERSION = "unsupported_version"
    NO_PEER_POLICY = "no_peer_policy"
    OP_DENIED = "op_denied"
    SCOPE_DENIED = "scope_denied"
    BAD_ALG = "bad_alg"
    BAD_KID = "bad_kid"
    UNKNOWN_KID = "unknown_kid"
    BAD_AUD = "bad_aud"
    EXPIRED = "expired"
    NBF = "nbf"
    VERIFY_FAILED = "verify_failed"
    REVOKED = "revoked"
    REPLAYED = "replayed"
    LIMIT_EXCEEDED = "limit_exceeded"
    POP_REQUIRED = "pop_required"
    POP_INVALID = "pop_invalid"
    NEEDS_DAEMON = "needs_daemon"
    BUSY = "busy"
    RATE_LIMITED = "rate_limited"
    NOT_READY = "not_ready"
    PAUSED = "paused"
    DRAINING = "draining"
    HSM_UNAVAILABLE = "hsm_unavailable"
    HSM_TIMEOUT = "hsm_timeout"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    CLOCK_SUSPECT = "clock_suspect"
    APPROVAL_REQUIRED = "approval_required"
    INTERNAL = "internal"


class Problem(PassportdError):
    """The daemon says that there is no answer, and why."""

    def __init__(self, code: Code, message: str, retryable: bool = False, retry_after_ms: Optional[int] = None) -> None:
        super().__init__(f"{code.value}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms

    @property
    def may_retry(self) -> bool:
        return self.retryable


# Encoding (section 3): each codec writes a value to a bytearray and reads it from a Reader.


class Reader:
    """A body that is being read. Whatever is not exactly right raises `WireError`."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that are still to be read."""
        return len(self._body) - self._at

    def take(self, n: int) -> bytes:
        """The next `n` bytes."""
        if n > self.left:
            raise WireError(f"{n} bytes are announced at byte {self._at}, and {self.left} are there")
        start, self._at = self._at, self._at + n
        return self._body[start : self._at]

    def varint(self, bits: int) -> int:
        """An unsigned number of at most `bits` bits in its one spelling."""
        first = self.take(1)[0]
        if first <= 250:
            return first
        width, least = _WIDTHS.get(first, (0, 0))
        if not width or width * 8 > bits:
            raise WireError(f"byte {self._at - 1}: {first} does not start a number of {bits} bits")
        value = int.from_bytes(self.take(width), "little")
        if value < least:
            raise WireError(f"byte {self._at - width - 1}: {value} is written in more bytes than it needs")
        return value


_WIDTHS = {251: (2, 251), 252: (4, 1 << 16), 253: (8, 1 << 32)}


def _write_varint(out: bytearray, value: int) -> None:
    if value <= 250:
        out.append(value)
        return
    for marker, (width, _) in _WIDTHS.items():
        if value < 1 << (8 * width):
            out.append(marker)
            out += value.to_bytes(width, "little")
            return
    raise WireError(f"{value} is more than 64 bits")


class Codec:
    """How one type is written and read."""

    def write(self, out: bytearray, value: Any) -> None:
        """Appends `value`."""
        raise NotImplementedError

    def read(self, reader: Reader) -> Any:
        """The next value."""
        raise NotImplementedError


class _U8(Codec):
    def write(self, out: bytearray, value: Any) -> None:
        if not isinstance(value, int) or not 0 <= value <= 255:
            raise WireError(f"{value!r} is no u8")
        out.append(value)

    def read(self, reader: Reader) -> int:
        return reader.take(1)[0]


class _Bool(Codec):
    def write(self, out: bytearray, value: Any) -> None:
        out.append(1 if value else 0)

    def read(self, reader: Reader) -> bool:
        byte = reader.take(1)[0]
        if byte > 1:
            raise WireError(f"{byte} is no bool")
        return byte == 1


class _Number(Codec):
    def __init__(self, bits: int, signed: bool) -> None:
        self._bits = bits
        self._signed = signed

    def write(self, out: bytearray, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise WireError(f"{value!r} is no integer")
        raw = (value << 1 if value >= 0 else (-value << 1) - 1) if self._signed else value
        if not 0 <= raw < 1 << self._bits:
            raise WireError(f"{value} does not fit {'i' if self._signed else 'u'}{self._bits}")
        _write_varint(out, raw)

    def read(self, reader: Reader) -> int:
        raw = reader.varint(self._bits)
        if not self._signed:
            return raw
        return -((raw + 1) >> 1) if raw & 1 else raw >> 1


class _Bytes(Codec):
    def write(self, out: bytearray, value: Any) -> None:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise WireError(f"{type(value).__name__} is no bytes")
        _write_varint(out, len(value))
        out += value

    def read(self, reader: Reader) -> bytes:
        return reader.take(reader.varint(64))


class _Str(Codec):
    def write(self, out: bytearray, value: Any) -> None:
        if not isinstance(value, str):
            raise WireError(f"{type(value).__name__} is no str")
        try:
            BYTES.write(out, value.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise WireError(f"{value!r} can't be written in UTF-8") from error

    def read(self, reader: Reader) -> str:
        try:
            return reader.take(reader.varint(64)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireError("text that is not UTF-8") from error


class Array(Codec):
    """So many raw bytes."""

    def __init__(self, n: int) -> None:
        self._n = n

    def write(self, out: bytearray, value: Any) -> None:
        if not isinstance(value, (bytes, bytearray)) or len(value) != self._n:
            raise WireError(f"these must be {self._n} bytes: {value!r}")
        out += value

    def read(self, reader: Reader) -> bytes:
        return reader.take(self._n)


class ListOf(Codec):
    """Items of one type."""

    def __init__(self, of: Codec) -> None:
        self._of = of

    def write(self, out: bytearray, value: Any) -> None:
        if isinstance(value, (str, bytes)):
            raise WireError(f"a list is needed, not {value!r}")
        _write_varint(out, len(value))
        for item in value:
            self._of.write(out, item)

    def read(self, reader: Reader) -> Tuple[Any, ...]:
        n = reader.varint(64)
        if n > reader.left:  # Every item takes a byte at least.
            raise WireError(f"{n} items are announced, and {reader.left} bytes are there")
        return tuple(self._of.read(reader) for _ in range(n))


class OptionOf(Codec):
    """A value or None."""

    def __init__(self, of: Codec) -> None:
        self._of = of

    def write(self, out: bytearray, value: Any) -> None:
        BOOL.write(out, value is not None)
        if value is not None:
            self._of.write(out, value)

    def read(self, reader: Reader) -> Any:
        return self._of.read(reader) if BOOL.read(reader) else None


class Struct(Codec):
    """Named fields of a class, in order; the class is made from them in that order."""

    def __init__(self, cls: Type[Any], **fields: Codec) -> None:
        self.cls = cls
        self._fields = fields

    def write(self, out: bytearray, value: Any) -> None:
        if type(value) is not self.cls:
            raise WireError(f"{self.cls.__qualname__} is needed, not {value!r}")
        for name, codec in self._fields.items():
            codec.write(out, getattr(value, name))

    def read(self, reader: Reader) -> Any:
        return self.cls(*[codec.read(reader) for codec in self._fields.values()])


class EnumOf(Codec):
    """One of several structs, by tag. Results are such, too: the Ok type first, then `Problem`."""

    def __init__(self, *variants: Struct) -> None:
        self._variants = variants
        self._tags = {variant.cls: tag for tag, variant in enumerate(variants)}

    def write(self, out: bytearray, value: Any) -> None:
        tag = self._tags.get(type(value))
        if tag is None:
            raise WireError(f"{value!r} is none of {', '.join(cls.__qualname__ for cls in self._tags)}")
        _write_varint(out, tag)
        self._variants[tag].write(out, value)

    def read(self, reader: Reader) -> Any:
        tag = reader.varint(32)
        if tag >= len(self._variants):
            raise WireError(f"tag {tag} is not known")
        return self._variants[tag].read(reader)


class ResultOf(Codec):
    """What `ok` reads and writes, or a `Problem`."""

    def __init__(self, ok: Codec) -> None:
        self._ok = ok

    def write(self, out: bytearray, value: Any) -> None:
        is_problem = isinstance(value, Problem)
        _write_varint(out, 1 if is_problem else 0)
        (PROBLEM if is_problem else self._ok).write(out, value)

    def read(self, reader: Reader) -> Any:
        tag = reader.varint(32)
        if tag > 1:
            raise WireError(f"tag {tag} is no result")
        return (self._ok, PROBLEM)[tag].read(reader)


class _NamesOf(Codec):
    """One of the members of a Python enum, by its place."""

    def __init__(self, of: Type[enum.Enum]) -> None:
        self._all = tuple(of)
        self._name = of.__name__.lower()

    def write(self, out: bytearray, value: Any) -> None:
        if value not in self._all:
            raise WireError(f"{value!r} is no {self._name}")
        _write_varint(out, self._all.index(value))

    def read(self, reader: Reader) -> Any:
        tag = reader.varint(32)
        if tag >= len(self._all):
            raise WireError(f"{self._name} {tag} is not known")
        return self._all[tag]


U8, BOOL, STR, BYTES = _U8(), _Bool(), _Str(), _Bytes()
U32, U64 = _Number(32, signed=False), _Number(64, signed=False)
I32, I64 = _Number(32, signed=True), _Number(64, signed=True)
CODE = _NamesOf(Code)
PROBLEM = Struct(Problem, code=CODE, message=STR, retryable=BOOL, retry_after_ms=OptionOf(U32))


def encode_frame(codec: Codec, value: Any) -> bytes:
    """`value` as a whole frame."""
    body = bytearray([WIRE_VERSION])
    codec.write(body, value)
    if len(body) > MAX_FRAME:
        raise WireError(f"the message takes {len(body)} bytes; max_frame is {MAX_FRAME}")
    return len(body).to_bytes(HEADER, "big") + bytes(body)


def decode_body(codec: Codec, body: bytes) -> Any:
    """The one value that `body` holds, and nothing else."""
    reader = Reader(body)
    version = reader.take(1)[0]
    if version != WIRE_VERSION:
        raise WireError(f"wire version {version}; this is {WIRE_VERSION}")
    value = codec.read(reader)
    if reader.left:
        raise WireError(f"{reader.left} bytes are left over")
    return value


def split_frame(buffer: Union[bytes, bytearray]) -> Optional[bytes]:
    """The body of the first frame in `buffer`, if it is there in full. The frame is `HEADER` bytes longer."""
    if len(buffer) < HEADER:
        return None
    n = int.from_bytes(buffer[:HEADER], "big")
    if n > MAX_FRAME:
        raise WireError(f"a frame of {n} bytes; max_frame is {MAX_FRAME}")
    return bytes(buffer[HEADER : HEADER + n]) if len(buffer) >= HEADER + n else None


# Messages (sections 4, 7 and 8)


@dataclass(frozen=True)
class Hello:
    """What a client says first."""

    wire: int
    client: str


@dataclass(frozen=True)
class Limits:
    """The bounds of requests."""

    max_frame: int
    max_msg_bytes: int
    max_batch: int
    max_in_flight: int


@dataclass(frozen=True)
class Welcome:
    """What the daemon says of itself."""

    wire: int
    server: str
    issuer: str
    limits: Limits


class Form(enum.Enum):
    """In which form a passport is issued. The order is the wire: append only."""

    ENVELOPE = "envelope"
    JWS = "jws"


@dataclass(frozen=True)
class IssueSpec:
    """What a passport is to say, within its template. `ctx` is the text of a JSON object."""

    template: str
    sub: str
    aud: Sequence[str] = ()
    scopes: Sequence[str] = ()
    ttl_s: Optional[int] = None
    nbf: Optional[int] = None
    action: Optional[str] = None
    ctx: Optional[str] = None
    limit: Optional[int] = None
    nonce: Optional[str] = None
    jkt: Optional[str] = None
    form: Form = Form.ENVELOPE
    uid: Optional[int] = None


@dataclass(frozen=True)
class Want:
    """What a passport must be good for. No `aud`: the only one that this peer may verify as.

    `peer_uid` is the user of the process that presented the passport, out of `SO_PEERCRED` of the connection on which it did.
    """

    aud: Optional[str] = None
    scopes: Sequence[str] = ()
    peer_uid: Optional[int] = None


_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def _from_base64url(member: str, text: Any) -> bytes:
    """Unpadded, without white space and with zero spare bits; anything else is refused."""
    if isinstance(text, str) and _BASE64URL.fullmatch(text):
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            raw = b""
        if _to_base64url(raw) == text:
            return raw
    raise ValueError(f"{member} is not base64url without padding")


def _to_base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _no_doubles(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


@dataclass(frozen=True)
class Passport:
    """A passport in its envelope. `msg` are the exact signed bytes: canonical JSON."""

    alg: str
    kid: str
    msg: bytes
    sig: bytes

    @property
    def claims(self) -> Dict[str, Any]:
        """What the passport says. **Nothing is verified by reading this.**"""
        claims = json.loads(self.msg)
        if not isinstance(claims, dict):
            raise ValueError("the claims are not an object")
        return claims

    def to_dict(self) -> Dict[str, str]:
        """The members of the JSON form."""
        return {
            "alg": self.alg,
            "kid": self.kid,
            "msg_b64": _to_base64url(self.msg),
            "sig_b64": _to_base64url(self.sig),
        }

    def to_json(self) -> str:
        """The JSON form on one line (section 11)."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_dict(cls, members: Any) -> Passport:
        """From the members of the JSON form; raises ValueError."""
        if not isinstance(members, dict) or set(members) != {"alg", "kid", "msg_b64", "sig_b64"}:
            raise ValueError("an envelope has exactly the members alg, kid, msg_b64, sig_b64")
        if not isinstance(members["alg"], str) or not isinstance(members["kid"], str):
            raise ValueError("alg and kid are texts")
        msg, sig = (_from_base64url(name, members[name]) for name in ("msg_b64", "sig_b64"))
        return cls(members["alg"], members["kid"], msg, sig)

    @classmethod
    def from_json(cls, text: Union[str, bytes]) -> Passport:
        """From the JSON form; raises ValueError."""
        return cls.from_dict(json.loads(text, object_pairs_hook=_no_doubles))


@dataclass(frozen=True)
class Jws:
    """A passport as compact JWS (RFC 7515), which JOSE libraries verify with `Client.keys`."""

    text: str

    @property
    def claims(self) -> Dict[str, Any]:
        """What the passport says. **Nothing is verified by reading this.**"""
        parts = self.text.split(".")
        if len(parts) != 3:
            raise ValueError("a compact JWS has three parts")
        claims = json.loads(_from_base64url("the payload", parts[1]))
        if not isinstance(claims, dict):
            raise ValueError("the claims are not an object")
        return claims


AnyPassport = Union[Passport, Jws]


@dataclass(frozen=True)
class IssuedJws:
    """A passport as it leaves the daemon, as compact JWS."""

    text: str

    def passport(self) -> Jws:
        """The same as it goes to the daemon."""
        return Jws(self.text)


@dataclass(frozen=True)
class Issued:
    """A passport as it leaves the daemon; its algorithm is Ed25519."""

    kid: str
    msg: bytes
    sig: bytes

    def passport(self) -> Passport:
        """The same as an envelope."""
        return Passport("Ed25519", self.kid, self.msg, self.sig)


class Verdict:
    """Accepted, or Refused with its reason."""

    accepted = False


@dataclass(frozen=True)
class Accepted(Verdict):
    """Good for what was wanted, until `exp` (seconds since 1970, exclusive)."""

    exp: int
    accepted = True


@dataclass(frozen=True)
class Refused(Verdict):
    """Not good."""

    reason: Code


@dataclass(frozen=True)
class Consumed(Verdict):
    """Good, and what that takes is taken. `left` uses are left, if it has a limit; `repeated`: the answer as it was given before."""

    exp: int
    left: Optional[int]
    repeated: bool
    accepted = True


@dataclass(frozen=True)
class Unproven(Verdict):
    """Not good: `pop_invalid`, and what is wrong with the proof of possession."""

    why: str

    @property
    def reason(self) -> Code:
        """As `Refused` has it."""
        return Code.POP_INVALID


@dataclass(frozen=True)
class Pop:
    """A `passport-pop+jwt` with a nonce of `Client.challenge`."""

    proof: str


@dataclass(frozen=True)
class Dpop:
    """A `dpop+jwt` (RFC 9449) out of an HTTP request: its method, its target, and the nonce that the client was given, if any."""

    proof: str
    htm: str
    htu: str
    nonce: Optional[str] = None


@dataclass(frozen=True)
class Challenge:
    """What a `passport-pop+jwt` must say to be accepted on this connection, and for how many seconds."""

    nonce: str
    expires_in_s: int


@dataclass(frozen=True)
class VersionInfo:
    """What is running."""

    server: str
    wire: int
    issuer: str


@dataclass(frozen=True)
class Identity:
    """Whom the daemon takes this process for. No rules: it may do nothing."""

    uid: int
    gid: int
    pid: int
    groups: Sequence[int]
    listener: str
    rules: Sequence[str]
    operations: Sequence[str]
    templates: Sequence[str]
    audiences: Sequence[str]


@dataclass(frozen=True)
class Condition:
    """One condition of `Health`. `detail` is empty on the service socket."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Health:
    """Which conditions hold."""

    issue_ready: bool
    verify_ready: bool
    conditions: Sequence[Condition]


@dataclass(frozen=True)
class TicketSpec:
    """What a ticket is to say, within its passport; no scopes: all of it."""

    aud: str
    scopes: Sequence[str] = ()
    ttl_s: Optional[int] = None
    form: Form = Form.ENVELOPE
    peer_uid: Optional[int] = None


@dataclass(frozen=True)
class Ticket:
    """A ticket, when it expires, and how many uses of its passport are left (None: it has no limit)."""

    ticket: Any
    exp: int
    left: Optional[int]
    repeated: bool


@dataclass(frozen=True)
class Introspection:
    """Whether `verify` would accept it now, and its exact claims if the signature is authentic."""

    active: bool
    reason: Optional[Code]
    claims: Optional[bytes]


@dataclass(frozen=True)
class KeySet:
    """A JSON Web Key Set. It may be used for `max_age_s` seconds; then ask with its `etag`."""

    etag: bytes
    max_age_s: int
    jwks: bytes


@dataclass(frozen=True)
class NotModified:
    """The set that was asked with is current, for `max_age_s` seconds more."""

    max_age_s: int


class Topic(enum.Enum):
    """What an event is about, in the order of the wire."""

    KEYS = "keys"
    REVOCATIONS = "revocations"
    EPOCHS = "epochs"
    POLICY = "policy"
    DRAIN = "drain"


@dataclass(frozen=True)
class Cursor:
    """How far a watcher has read. Only the daemon makes one."""

    life: bytes
    wants: bytes
    seq: int


class What:
    """What has happened. Each says how it stands since: to hear of one twice leads to the same."""

    Key: Any
    RevokedId: Any
    RevokedSubject: Any
    RevokedKey: Any
    Epoch: Any
    Policy: Any
    Draining: Any


@dataclass(frozen=True)
class Event:
    """One event: its number, when it was in effect (milliseconds since 1970), whose it is (None: everybody's), and a `What`."""

    seq: int
    at_ms: int
    tenant: Optional[str]
    what: Any


@dataclass(frozen=True)
class Events:
    """These have happened; none: nothing has, in the time that was waited. Go on from `cursor`."""

    events: Sequence[Event]
    cursor: Cursor


@dataclass(frozen=True)
class Lagged:
    """Up to `missed` events are lost: look at all that is in force, then go on from `cursor`."""

    missed: int
    cursor: Cursor


@dataclass(frozen=True)
class Begin:
    """No cursor, or one of another life of the daemon or of other rights: look at all that is in force, then go on from `cursor`."""

    cursor: Cursor


@dataclass(frozen=True)
class Standing:
    """A revocation that is in force: `What.RevokedId` or `What.RevokedSubject`."""

    tenant: str
    what: Any


@dataclass(frozen=True)
class TenantEpoch:
    """In which epoch a tenant is."""

    tenant: str
    epoch: int


@dataclass(frozen=True)
class RevocationPage:
    """Part of what is in force, of these tenants (None: of all); `next` leads to the next page, None if this was the last."""

    tenants: Optional[Sequence[str]]
    revoked: Sequence[Standing]
    epochs: Sequence[TenantEpoch]
    floor: int
    compromised: Sequence[str]
    next: Optional[bytes]


@dataclass(frozen=True)
class Staged:
    """A key that is published and does not sign yet."""

    kid: str
    public: bytes


@dataclass(frozen=True)
class Activated:
    """The key that signs now, and the one that it followed."""

    kid: str
    retired: Optional[str]


@dataclass(frozen=True)
class Reloaded:
    """What a reload changed."""

    old_policy: bytes
    new_policy: bytes
    changed: Sequence[str]
    needs_restart: Sequence[str]


@dataclass(frozen=True)
class ReloadReport:
    """What a reload changed, of configuration and policy."""

    old_config: bytes
    new_config: bytes
    changed: Sequence[str]
    needs_restart: Sequence[str]
    old_policy: bytes
    new_policy: bytes
    policy_changed: Sequence[str]
    policy_more: int


def _variant(name: str, /, **fields: Any) -> Any:
    """A dataclass for one variant; its qualified name says whose."""
    cls = dataclasses.make_dataclass(name.split(".")[-1], list(fields.items()), frozen=True)
    cls.__qualname__, cls.__module__ = name, __name__
    return cls


What.Key = _variant("What.Key", kid=str, state=str)
What.RevokedId = _variant("What.RevokedId", jti=str, until=int)
What.RevokedSubject = _variant("What.RevokedSubject", sub=str, before=int, until=int)
What.RevokedKey = _variant("What.RevokedKey", kid=str)
What.Epoch = _variant("What.Epoch", epoch=int)
What.Policy = _variant("What.Policy", hash=bytes)
What.Draining = _variant("What.Draining", on=bool)


class ServiceOp:
    """The operations of the service socket, for `Client.ask` and `Client.pipeline`."""

    Ping = _variant("ServiceOp.Ping")
    Version = _variant("ServiceOp.Version")
    WhoAmI = _variant("ServiceOp.WhoAmI")
    Health = _variant("ServiceOp.Health")
    Issue = _variant("ServiceOp.Issue", spec=IssueSpec)
    IssueBatch = _variant("ServiceOp.IssueBatch", specs=Sequence[IssueSpec])
    Verify = _variant("ServiceOp.Verify", want=Want, passport=Passport)
    VerifyBatch = _variant("ServiceOp.VerifyBatch", want=Want, items=Sequence[AnyPassport])
    Introspect = _variant("ServiceOp.Introspect", want=Want, passport=Passport)
    Keys = _variant("ServiceOp.Keys", if_etag=Optional[bytes])
    Seal = _variant("ServiceOp.Seal", namespace=str, name=str, plain=bytes)
    Unseal = _variant("ServiceOp.Unseal", namespace=str, name=str, blob=bytes)
    Revoke = _variant("ServiceOp.Revoke", passport=Passport)
    VerifyWith = _variant(
        "ServiceOp.VerifyWith", want=Want, passport=Passport, retry=Optional[bytes], proof=Optional[Union[Pop, Dpop]]
    )
    Challenge = _variant("ServiceOp.Challenge")
    Watch = _variant("ServiceOp.Watch", topics=Sequence[Topic], after=Optional[Cursor], wait_ms=int)
    Revocations = _variant("ServiceOp.Revocations", after=Optional[bytes])
    Exchange = _variant(
        "ServiceOp.Exchange", passport=Passport, spec=TicketSpec, retry=Optional[bytes], proof=Optional[Union[Pop, Dpop]]
    )


class ServiceOk:
    """The answers of the service socket that have no class of their own."""

    Pong = _variant("ServiceOk.Pong")
    Version = _variant("ServiceOk.Version", value=VersionInfo)
    WhoAmI = _variant("ServiceOk.WhoAmI", value=Identity)
    Health = _variant("ServiceOk.Health", value=Health)
    Issued = _variant("ServiceOk.Issued", value=Issued)
    IssuedBatch = _variant("ServiceOk.IssuedBatch", value=Sequence[Union[Issued, Problem]])
    Verdict = _variant("ServiceOk.Verdict", value=Verdict)
    Verdicts = _variant("ServiceOk.Verdicts", value=Sequence[Verdict])
    Introspection = _variant("ServiceOk.Introspection", value=Introspection)
    Keys = _variant("ServiceOk.Keys", value=KeySet)
    KeysNotModified = _variant("ServiceOk.KeysNotModified", value=NotModified)
    Sealed = _variant("ServiceOk.Sealed", value=bytes)
    Unsealed = _variant("ServiceOk.Unsealed", value=bytes)
    Revoked = _variant("ServiceOk.Revoked", value=bool)
    Challenge = _variant("ServiceOk.Challenge", value=Challenge)
    Watched = _variant("ServiceOk.Watched", value=Union[Events, Lagged, Begin])
    Revocations = _variant("ServiceOk.Revocations", value=RevocationPage)
    Exchanged = _variant("ServiceOk.Exchanged", value=Union[Ticket, Refused, Unproven])


class AdminOp:
    """The operations of the admin socket."""

    WhoAmI = _variant("AdminOp.WhoAmI")
    Status = _variant("AdminOp.Status")
    Health = _variant("AdminOp.Health")
    Attest = _variant("AdminOp.Attest")
    Stage = _variant("AdminOp.Stage", kid=str)
    Activate = _variant("AdminOp.Activate", kid=str)
    PauseIssue = _variant("AdminOp.PauseIssue", reason=str)
    ResumeIssue = _variant("AdminOp.ResumeIssue")
    Reload = _variant("AdminOp.Reload")
    Drain = _variant("AdminOp.Drain")
    Undrain = _variant("AdminOp.Undrain")
    ReloadReport = _variant("AdminOp.ReloadReport")
    Revoke = _variant("AdminOp.Revoke", tenant=str, what=Sequence[Any], reason=str)
    BumpEpoch = _variant("AdminOp.BumpEpoch", tenant=str, reason=str)
    Compromise = _variant("AdminOp.Compromise", kid=str, reason=str)
    TicketTtl = _variant("AdminOp.TicketTtl", seconds=int, for_s=int, reason=str)
    Checkpoint = _variant("AdminOp.Checkpoint")
    Rollback = _variant("AdminOp.Rollback", tenant=str, purpose=str, reason=str)
    Confirm = _variant("AdminOp.Confirm", kid=str)
    Destroyed = _variant("AdminOp.Destroyed", kid=str)
    ActivateNow = _variant("AdminOp.ActivateNow", kid=str, reason=str)
    TestAppend = _variant("AdminOp.TestAppend", reason=str)


class Revocation:
    """Which passports an admin revokes: one by its id, or all of a subject that were issued until a time."""

    Id = _variant("Revocation.Id", jti=str, exp=Optional[int])
    Subject = _variant("Revocation.Subject", sub=str, before=Optional[int])


class AdminOk:
    """The answers of the admin socket."""

    WhoAmI = _variant("AdminOk.WhoAmI", value=Identity)
    Status = _variant("AdminOk.Status", value=str)
    Health = _variant("AdminOk.Health", value=Health)
    Attest = _variant("AdminOk.Attest", value=str)
    Staged = _variant("AdminOk.Staged", value=Staged)
    Activated = _variant("AdminOk.Activated", value=Activated)
    Reloaded = _variant("AdminOk.Reloaded", value=Reloaded)
    Done = _variant("AdminOk.Done")
    ReloadReport = _variant("AdminOk.ReloadReport", value=ReloadReport)
    Revoked = _variant("AdminOk.Revoked", value=int)
    EpochBumped = _variant("AdminOk.EpochBumped", value=int)
    Checkpoint = _variant("AdminOk.Checkpoint", value=str)
    Recorded = _variant("AdminOk.Recorded", value=int)


@dataclass(frozen=True)
class Request:
    """One request of either socket."""

    id: int
    corr_id: bytes
    op: Any


@dataclass(frozen=True)
class Reply:
    """One reply of either socket: an answer, or a `Problem`."""

    id: int
    result: Any


_STRINGS = ListOf(STR)
_LIMITS = Struct(Limits, max_frame=U32, max_msg_bytes=U32, max_batch=U32, max_in_flight=U32)
_WELCOME = Struct(Welcome, wire=U8, server=STR, issuer=STR, limits=_LIMITS)
HELLO = Struct(Hello, wire=U8, client=STR)
GREETING = EnumOf(_WELCOME, PROBLEM)

_SPEC = Struct(
    IssueSpec,
    template=STR,
    sub=STR,
    aud=_STRINGS,
    scopes=_STRINGS,
    ttl_s=OptionOf(U32),
    nbf=OptionOf(I64),
    action=OptionOf(STR),
    ctx=OptionOf(STR),
    limit=OptionOf(U32),
    nonce=OptionOf(STR),
    jkt=OptionOf(STR),
    form=_NamesOf(Form),
    uid=OptionOf(U32),
)
_WANT = Struct(Want, aud=OptionOf(STR), scopes=_STRINGS, peer_uid=OptionOf(U32))
_PASSPORT = EnumOf(Struct(Passport, alg=STR, kid=STR, msg=BYTES, sig=BYTES), Struct(Jws, text=STR))
_TICKET = Struct(
    TicketSpec, aud=STR, scopes=_STRINGS, ttl_s=OptionOf(U32), form=_NamesOf(Form), peer_uid=OptionOf(U32)
)
_CURSOR = Struct(Cursor, life=Array(16), wants=Array(32), seq=U64)
_PROOF = EnumOf(Struct(Pop, proof=STR), Struct(Dpop, proof=STR, htm=STR, htu=STR, nonce=OptionOf(STR)))
REQUEST = Struct(
    Request,
    id=U64,
    corr_id=Array(16),
    op=EnumOf(
        Struct(ServiceOp.Ping),
        Struct(ServiceOp.Version),
        Struct(ServiceOp.WhoAmI),
        Struct(ServiceOp.Health),
        Struct(ServiceOp.Issue, spec=_SPEC),
        Struct(ServiceOp.IssueBatch, specs=ListOf(_SPEC)),
        Struct(ServiceOp.Verify, want=_WANT, passport=_PASSPORT),
        Struct(ServiceOp.VerifyBatch, want=_WANT, items=ListOf(_PASSPORT)),
        Struct(ServiceOp.Introspect, want=_WANT, passport=_PASSPORT),
        Struct(ServiceOp.Keys, if_etag=OptionOf(Array(32))),
        Struct(ServiceOp.Seal, namespace=STR, name=STR, plain=BYTES),
        Struct(ServiceOp.Unseal, namespace=STR, name=STR, blob=BYTES),
        Struct(ServiceOp.Revoke, passport=_PASSPORT),
        Struct(
            ServiceOp.VerifyWith, want=_WANT, passport=_PASSPORT, retry=OptionOf(Array(16)), proof=OptionOf(_PROOF)
        ),
        Struct(ServiceOp.Challenge),
        Struct(ServiceOp.Watch, topics=ListOf(_NamesOf(Topic)), after=OptionOf(_CURSOR), wait_ms=U32),
        Struct(ServiceOp.Revocations, after=OptionOf(BYTES)),
        Struct(
            ServiceOp.Exchange, passport=_PASSPORT, spec=_TICKET, retry=OptionOf(Array(16)), proof=OptionOf(_PROOF)
        ),
    ),
)

_IDENTITY = Struct(
    Identity,
    uid=U32,
    gid=U32,
    pid=I32,
    groups=ListOf(U32),
    listener=STR,
    rules=_STRINGS,
    operations=_STRINGS,
    templates=_STRINGS,
    audiences=_STRINGS,
)
_HEALTH = Struct(
    Health, issue_ready=BOOL, verify_ready=BOOL, conditions=ListOf(Struct(Condition, name=STR, ok=BOOL, detail=STR))
)
_ISSUED = EnumOf(Struct(Issued, kid=STR, msg=BYTES, sig=Array(64)), Struct(IssuedJws, text=STR))
_VERDICT = EnumOf(
    Struct(Accepted, exp=I64),
    Struct(Refused, reason=CODE),
    Struct(Consumed, exp=I64, left=OptionOf(U64), repeated=BOOL),
    Struct(Unproven, why=STR),
)
_EXCHANGED = EnumOf(
    Struct(Ticket, ticket=_ISSUED, exp=I64, left=OptionOf(U64), repeated=BOOL),
    Struct(Refused, reason=CODE),
    Struct(Unproven, why=STR),
)
_INTROSPECTION = Struct(Introspection, active=BOOL, reason=OptionOf(CODE), claims=OptionOf(BYTES))
_WHAT = EnumOf(
    Struct(What.Key, kid=STR, state=STR),
    Struct(What.RevokedId, jti=STR, until=I64),
    Struct(What.RevokedSubject, sub=STR, before=I64, until=I64),
    Struct(What.RevokedKey, kid=STR),
    Struct(What.Epoch, epoch=U64),
    Struct(What.Policy, hash=Array(32)),
    Struct(What.Draining, on=BOOL),
)
_EVENT = Struct(Event, seq=U64, at_ms=I64, tenant=OptionOf(STR), what=_WHAT)
_WATCHED = EnumOf(
    Struct(Events, events=ListOf(_EVENT), cursor=_CURSOR),
    Struct(Lagged, missed=U64, cursor=_CURSOR),
    Struct(Begin, cursor=_CURSOR),
)
_PAGE = Struct(
    RevocationPage,
    tenants=OptionOf(_STRINGS),
    revoked=ListOf(Struct(Standing, tenant=STR, what=_WHAT)),
    epochs=ListOf(Struct(TenantEpoch, tenant=STR, epoch=U64)),
    floor=U64,
    compromised=_STRINGS,
    next=OptionOf(BYTES),
)
REPLY = Struct(
    Reply,
    id=U64,
    result=ResultOf(
        EnumOf(
            Struct(ServiceOk.Pong),
            Struct(ServiceOk.Version, value=Struct(VersionInfo, server=STR, wire=U8, issuer=STR)),
            Struct(ServiceOk.WhoAmI, value=_IDENTITY),
            Struct(ServiceOk.Health, value=_HEALTH),
            Struct(ServiceOk.Issued, value=_ISSUED),
            Struct(ServiceOk.IssuedBatch, value=ListOf(ResultOf(_ISSUED))),
            Struct(ServiceOk.Verdict, value=_VERDICT),
            Struct(ServiceOk.Verdicts, value=ListOf(_VERDICT)),
            Struct(ServiceOk.Introspection, value=_INTROSPECTION),
            Struct(ServiceOk.Keys, value=Struct(KeySet, etag=Array(32), max_age_s=U32, jwks=BYTES)),
            Struct(ServiceOk.KeysNotModified, value=Struct(NotModified, max_age_s=U32)),
            Struct(ServiceOk.Sealed, value=BYTES),
            Struct(ServiceOk.Unsealed, value=BYTES),
            Struct(ServiceOk.Revoked, value=BOOL),
            Struct(ServiceOk.Challenge, value=Struct(Challenge, nonce=STR, expires_in_s=U32)),
            Struct(ServiceOk.Watched, value=_WATCHED),
            Struct(ServiceOk.Revocations, value=_PAGE),
            Struct(ServiceOk.Exchanged, value=_EXCHANGED),
        )
    ),
)

_REVOCATION = EnumOf(
    Struct(Revocation.Id, jti=STR, exp=OptionOf(I64)), Struct(Revocation.Subject, sub=STR, before=OptionOf(I64))
)
ADMIN_REQUEST = Struct(
    Request,
    id=U64,
    corr_id=Array(16),
    op=EnumOf(
        Struct(AdminOp.WhoAmI),
        Struct(AdminOp.Status),
        Struct(AdminOp.Health),
        Struct(AdminOp.Attest),
        Struct(AdminOp.Stage, kid=STR),
        Struct(AdminOp.Activate, kid=STR),
        Struct(AdminOp.PauseIssue, reason=STR),
        Struct(AdminOp.ResumeIssue),
        Struct(AdminOp.Reload),
        Struct(AdminOp.Drain),
        Struct(AdminOp.Undrain),
        Struct(AdminOp.ReloadReport),
        Struct(AdminOp.Revoke, tenant=STR, what=ListOf(_REVOCATION), reason=STR),
        Struct(AdminOp.BumpEpoch, tenant=STR, reason=STR),
        Struct(AdminOp.Compromise, kid=STR, reason=STR),
        Struct(AdminOp.TicketTtl, seconds=U32, for_s=U32, reason=STR),
        Struct(AdminOp.Checkpoint),
        Struct(AdminOp.Rollback, tenant=STR, purpose=STR, reason=STR),
        Struct(AdminOp.Confirm, kid=STR),
        Struct(AdminOp.Destroyed, kid=STR),
        Struct(AdminOp.ActivateNow, kid=STR, reason=STR),
        Struct(AdminOp.TestAppend, reason=STR),
    ),
)
_RELOADED = Struct(
    Reloaded, old_policy=Array(32), new_policy=Array(32), changed=_STRINGS, needs_restart=_STRINGS
)
_RELOAD_REPORT = Struct(
    ReloadReport,
    old_config=Array(32),
    new_config=Array(32),
    changed=_STRINGS,
    needs_restart=_STRINGS,
    old_policy=Array(32),
    new_policy=Array(32),
    policy_changed=_STRINGS,
    policy_more=U32,
)
ADMIN_REPLY = Struct(
    Reply,
    id=U64,
    result=ResultOf(
        EnumOf(
            Struct(AdminOk.WhoAmI, value=_IDENTITY),
            Struct(AdminOk.Status, value=STR),
            Struct(AdminOk.Health, value=_HEALTH),
            Struct(AdminOk.Attest, value=STR),
            Struct(AdminOk.Staged, value=Struct(Staged, kid=STR, public=Array(32))),
            Struct(AdminOk.Activated, value=Struct(Activated, kid=STR, retired=OptionOf(STR))),
            Struct(AdminOk.Reloaded, value=_RELOADED),
            Struct(AdminOk.Done),
            Struct(AdminOk.ReloadReport, value=_RELOAD_REPORT),
            Struct(AdminOk.Revoked, value=U32),
            Struct(AdminOk.EpochBumped, value=U64),
            Struct(AdminOk.Checkpoint, value=STR),
            Struct(AdminOk.Recorded, value=U64),
        )
    ),
)


# What a client does (section 10)


class _Connection:
    """A greeted connection. It writes and reads at once: the daemon does not read while nobody takes its replies."""

    def __init__(self, path: str, name: str, deadline: float) -> None:
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._ended = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._selector = selectors.DefaultSelector()
        try:
            # A daemon whose queue of connections is full comes to ours: a blocking connect waits for it, with a timeout.
            wait = max(deadline - time.monotonic(), 0.001)
            timeval = struct.pack("@ll", int(wait), int(wait % 1 * 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
            self._socket.connect(path)
            self._socket.setblocking(False)
            self._selector.register(self._socket, selectors.EVENT_READ)
            self.welcome = self._greet(name, deadline)
        except (socket.timeout, BlockingIOError) as error:
            self.close()
            raise Timeout(f"no connection to {path} in time") from error
        except OSError as error:
            self.close()
            why = error.strerror or error
            raise CannotConnect(f"{path}: {why}; is passportd running, and may this user reach it?") from error
        except BaseException:
            self.close()
            raise

    def _greet(self, name: str, deadline: float) -> Welcome:
        self.send(encode_frame(HELLO, Hello(WIRE_VERSION, name)))
        # A peer for whom there is no place is told so before its Hello is read: read even if the write fails.
        body = self.receive(deadline)
        greeting = decode_body(GREETING, body)
        if isinstance(greeting, Problem):
            raise greeting
        if greeting.wire != WIRE_VERSION:
            raise WireError(f"the daemon speaks wire version {greeting.wire}; this client speaks {WIRE_VERSION}")
        return greeting

    def close(self) -> None:
        self._selector.close()
        self._socket.close()

    def interrupt(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # It is closed already.

    @property
    def settled(self) -> bool:
        """Whether no frame is half written."""
        return not self._outbox

    def alive(self) -> bool:
        """Takes what has come meanwhile; false when the daemon has closed the connection, as it does with idle ones."""
        self._pump(write=False)
        return not self._ended

    def send(self, frame: bytes) -> None:
        """Queues a frame. It leaves with the next `receive`."""
        self._outbox += frame

    def receive(self, deadline: float) -> bytes:
        """The next body; writes what is queued meanwhile."""
        while True:
            body = split_frame(self._inbox)
            if body is not None:
                del self._inbox[: HEADER + len(body)]
                return body
            if self._ended:
                raise Lost("the daemon closed the connection")
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("no answer in time")
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
            self._selector.modify(self._socket, events)
            if self._selector.select(left):
                self._pump(write=True)

    def _pump(self, write: bool) -> None:
        """Writes and reads what the socket takes and has now."""
        try:
            while write and self._outbox:
                del self._outbox[: self._socket.send(self._outbox[:_READ])]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            # What the daemon said before it left is still to be read.
            self._outbox.clear()
        try:
            while not self._ended:
                part = self._socket.recv(_READ)
                self._inbox += part
                self._ended = not part
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self._ended = True


class _Caller:
    """Calls over one connection, which is made when it is needed, and made again when it was lost."""

    _request: Codec
    _reply: Codec

    def __init__(self, path: str, timeout: float = 10.0, name: str = f"passportd.py/{__version__}") -> None:
        """`timeout`: seconds for one call, connecting included. `name`: for the daemon's log, 64 bytes at most."""
        if len(name.encode("utf-8")) > MAX_CLIENT:
            raise ValueError(f"name is longer than {MAX_CLIENT} bytes")
        self._path = path
        self._timeout = timeout
        self._name = name
        self._lock = threading.Lock()
        self._connection: Optional[_Connection] = None
        self._failures = 0
        self._next_id = 1

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. A later call makes a new one."""
        with self._lock:
            self._drop()

    def interrupt(self) -> None:
        """Breaks the connection, so that a call of another thread that waits for its answer ends with `Lost`."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    @property
    def welcome(self) -> Welcome:
        """What the daemon said of itself at the last connect; connects if need be."""
        with self._lock:
            return self._connect(time.monotonic() + self._timeout).welcome

    def pipeline(self, ops: Sequence[Any], corr_id: bytes = NO_CORR_ID) -> List[Any]:
        """Sends all `ops` without waiting, and returns an answer or a `Problem` (not raised) for each, in their order,
        in whatever order the daemon answered. `corr_id` (16 bytes) joins them with the caller's own records."""
        deadline = time.monotonic() + self._timeout
        with self._lock:
            connection = self._connect(deadline)
            ids = range(self._next_id, self._next_id + len(ops))
            frames = [encode_frame(self._request, Request(id_, corr_id, op)) for id_, op in zip(ids, ops)]
            self._next_id += len(ops)
            return self._exchange(connection, ids, frames, deadline)

    def ask(self, op: Any, corr_id: bytes = NO_CORR_ID) -> Any:
        """Sends one operation and returns its answer; raises `Problem`."""
        answer = self.pipeline([op], corr_id)[0]
        if isinstance(answer, Problem):
            raise answer
        return answer

    def _exchange(self, connection: _Connection, ids: range, frames: List[bytes], deadline: float) -> List[Any]:
        answers: Dict[int, Any] = {}
        try:
            for frame in frames:
                connection.send(frame)
            while len(answers) < len(ids):
                reply = decode_body(self._reply, connection.receive(deadline))
                if reply.id in ids:
                    answers[reply.id] = reply.result
                elif reply.id == 0:
                    # The daemon could not read an id of ours: nobody can tell whose answer this is.
                    raise reply.result if isinstance(reply.result, Problem) else WireError("a reply without an id")
                # Any other id is of a call that was given up.
        except Timeout:
            if not connection.settled:
                self._drop()
            raise
        except BaseException:
            self._drop()
            self._failures = max(self._failures, 1)
            raise
        return [answers[id_] for id_ in ids]

    def _connect(self, deadline: float) -> _Connection:
        if self._connection is not None and self._connection.alive():
            return self._connection
        self._drop()
        if self._failures:
            # Half to all of a doubling pause, so that the clients of a restarted daemon do not come in step.
            pause = min(_FIRST_PAUSE_S * 2 ** min(self._failures - 1, 8), _MAX_PAUSE_S)
            time.sleep(min(random.uniform(pause / 2, pause), max(deadline - time.monotonic(), 0)))
        try:
            self._connection = _Connection(self._path, self._name, deadline)
        except PassportdError:
            self._failures += 1
            raise
        self._failures = 0
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _expect(self, op: Any, *kinds: Any) -> Any:
        answer = self.ask(op)
        if not isinstance(answer, kinds):
            _wrong(answer)
        return getattr(answer, "value", None)


def _wrong(answer: Any) -> NoReturn:
    raise WireError(f"the answer is of the wrong kind: {type(answer).__qualname__}")


class Client(_Caller):
    """A client of the service socket."""

    _request = REQUEST
    _reply = REPLY

    def ping(self) -> None:
        """Is somebody there?"""
        self._expect(ServiceOp.Ping(), ServiceOk.Pong)

    def version(self) -> VersionInfo:
        """What is running."""
        return self._expect(ServiceOp.Version(), ServiceOk.Version)

    def whoami(self) -> Identity:
        """Whom the daemon takes this process for, and what it may do."""
        return self._expect(ServiceOp.WhoAmI(), ServiceOk.WhoAmI)

    def health(self) -> Health:
        """Which conditions hold."""
        return self._expect(ServiceOp.Health(), ServiceOk.Health)

    def issue(
        self,
        template: str,
        sub: str,
        aud: Sequence[str] = (),
        scopes: Sequence[str] = (),
        ttl_s: Optional[int] = None,
        nbf: Optional[int] = None,
        action: Optional[str] = None,
        ctx: Optional[Mapping[str, Any]] = None,
        form: Form = Form.ENVELOPE,
        uid: Optional[int] = None,
    ) -> AnyPassport:
        """A passport in the wanted form. What is left out is as the template says; `ctx` is signed along, and must hold no floats.

        `uid` is the user who alone may present it, where the template binds passports to their peer: this process's, if left out.
        """
        text = None if ctx is None else json.dumps(ctx, allow_nan=False)
        spec = IssueSpec(template, sub, aud, scopes, ttl_s, nbf, action, text, form=form, uid=uid)
        return self._expect(ServiceOp.Issue(spec), ServiceOk.Issued).passport()

    def issue_batch(self, specs: Sequence[IssueSpec]) -> List[Union[AnyPassport, Problem]]:
        """A passport or a `Problem` (not raised) for each. Split by the daemon's limits; parts go one after another."""
        answers: List[Union[AnyPassport, Problem]] = []
        sizes = [_spec_size(spec) for spec in specs]

        def most(limits: Limits) -> int:
            # The reply is the larger side: each item may come back with a payload of the largest size.
            each = max((_issued_size(one.form, limits.max_msg_bytes) for one in specs), default=1)
            return min(_room(limits) // each, limits.max_batch)

        parts = self._in_parts(
            sizes, most, lambda start, end: ServiceOp.IssueBatch(specs[start:end]), ServiceOk.IssuedBatch
        )
        for start, end, batch in parts:
            if len(batch) != end - start:
                raise WireError(f"{len(batch)} answers to {end - start} items")
            answers += [one if isinstance(one, Problem) else one.passport() for one in batch]
        return answers

    def verify(
        self,
        passport: AnyPassport,
        aud: Optional[str] = None,
        scopes: Sequence[str] = (),
        peer_uid: Optional[int] = None,
    ) -> Verdict:
        """`Accepted` or `Refused`; raises `Problem` when there is no verdict. `peer_uid`: see `Want`."""
        return self._expect(ServiceOp.Verify(Want(aud, scopes, peer_uid), passport), ServiceOk.Verdict)

    def verify_with(
        self,
        passport: AnyPassport,
        aud: Optional[str] = None,
        scopes: Sequence[str] = (),
        retry: Optional[bytes] = None,
        proof: Optional[Union[Pop, Dpop]] = None,
        peer_uid: Optional[int] = None,
    ) -> Verdict:
        """As `verify`, with a proof of possession, or with 16 random bytes that make the request repeatable.

        After an error that leaves open whether the passport was accepted, the same request with the same bytes is answered
        as the first one was, for 120 s, and takes nothing more.
        """
        return self._expect(ServiceOp.VerifyWith(Want(aud, scopes, peer_uid), passport, retry, proof), ServiceOk.Verdict)

    def challenge(self) -> Challenge:
        """A value for a proof of possession, good on this connection."""
        return self._expect(ServiceOp.Challenge(), ServiceOk.Challenge)

    def verify_batch(
        self,
        passports: Sequence[AnyPassport],
        aud: Optional[str] = None,
        scopes: Sequence[str] = (),
        peer_uid: Optional[int] = None,
    ) -> List[Verdict]:
        """A verdict for each, as if asked one by one. Split by the daemon's limits; parts go one after another."""
        want = Want(aud, scopes, peer_uid)
        verdicts: List[Verdict] = []
        sizes = [_passport_size(one) for one in passports]
        parts = self._in_parts(
            sizes,
            lambda limits: limits.max_batch,
            lambda start, end: ServiceOp.VerifyBatch(want, passports[start:end]),
            ServiceOk.Verdicts,
        )
        for start, end, batch in parts:
            if len(batch) != end - start:
                raise WireError(f"{len(batch)} verdicts on {end - start} items")
            verdicts += batch
        return verdicts

    def _in_parts(
        self, sizes: Sequence[int], most: Callable[[Limits], int], op: Callable[[int, int], Any], kind: Any
    ) -> Iterator[Tuple[int, int, Any]]:
        """Asks for part after part of a batch; gives each part's range and answer."""
        at = 0
        while at < len(sizes):
            limits = self.welcome.limits
            end = at + _part(sizes[at:], max(most(limits), 1), _room(limits))
            try:
                batch = self._expect(op(at, end), kind)
            except Problem as problem:
                # Section 9: a reload may have lowered the limits since this connection was made.
                if problem.code is not Code.TOO_LARGE:
                    raise
                self.close()
                if self.welcome.limits == limits:
                    raise
                continue
            yield at, end, batch
            at = end

    def introspect(
        self,
        passport: AnyPassport,
        aud: Optional[str] = None,
        scopes: Sequence[str] = (),
        peer_uid: Optional[int] = None,
    ) -> Introspection:
        """What `verify` would say now, and the claims, without accepting anything."""
        return self._expect(ServiceOp.Introspect(Want(aud, scopes, peer_uid), passport), ServiceOk.Introspection)

    def keys(self, if_etag: Optional[bytes] = None) -> Union[KeySet, NotModified]:
        """The public keys, or `NotModified` when the set with the ETag `if_etag` is current."""
        return self._expect(ServiceOp.Keys(if_etag), ServiceOk.Keys, ServiceOk.KeysNotModified)

    def watch(
        self, after: Optional[Cursor] = None, topics: Sequence[Topic] = (), wait_ms: int = 5000
    ) -> Union[Events, Lagged, Begin]:
        """What has happened after a cursor, once there is something to tell, or after the wait; no topics: all.

        The wait must be shorter than this client's timeout. Begin without a cursor: the answer is `Begin`; look at `keys` and
        all `revocations`, then go on from its cursor, always with that of the answer before.
        """
        return self._expect(ServiceOp.Watch(topics, after, wait_ms), ServiceOk.Watched)

    def revocations(self, after: Optional[bytes] = None) -> RevocationPage:
        """A page of the revocations in force, of the tenants that this process may watch; `after` is `next` of the page before."""
        return self._expect(ServiceOp.Revocations(after), ServiceOk.Revocations)

    def exchange(
        self,
        passport: AnyPassport,
        aud: str,
        scopes: Sequence[str] = (),
        ttl_s: Optional[int] = None,
        form: Form = Form.ENVELOPE,
        retry: Optional[bytes] = None,
        proof: Optional[Union[Pop, Dpop]] = None,
        peer_uid: Optional[int] = None,
    ) -> Union[Ticket, Refused, Unproven]:
        """A ticket for a passport: for one of its audiences, accepted once, for a minute at most. The passport is accepted thereby.

        After an error that leaves open whether something was taken, the same request with the same 16 random bytes takes nothing
        more, for 120 s, and its ticket has the id and the end of the first: of all of them one is accepted.
        """
        spec = TicketSpec(aud, scopes, ttl_s, form, peer_uid)
        return self._expect(ServiceOp.Exchange(passport, spec, retry, proof), ServiceOk.Exchanged)

    def seal(self, namespace: str, name: str, plain: bytes) -> bytes:
        """A small secret, encrypted: only this daemon opens it, and only under the same namespace and name.

        Python can't forget: copies of the secret may stay in this process until their memory is used again.
        """
        return self._expect(ServiceOp.Seal(namespace, name, plain), ServiceOk.Sealed)

    def unseal(self, namespace: str, name: str, blob: bytes) -> bytes:
        """The secret that `seal` encrypted; `Problem` with `MALFORMED` if it does not open here."""
        return self._expect(ServiceOp.Unseal(namespace, name, blob), ServiceOk.Unsealed)

    def revoke(self, passport: AnyPassport) -> bool:
        """Has nobody accept the passport any more. Whether that is new: not if it was revoked before, or has expired."""
        return self._expect(ServiceOp.Revoke(passport), ServiceOk.Revoked)


class AdminClient(_Caller):
    """A client of the admin socket."""

    _request = ADMIN_REQUEST
    _reply = ADMIN_REPLY

    def whoami(self) -> Identity:
        """Whom the daemon takes this process for, and what it may do."""
        return self._expect(AdminOp.WhoAmI(), AdminOk.WhoAmI)

    def status(self) -> Dict[str, Any]:
        """Everything that an operator wants to see."""
        return json.loads(self._expect(AdminOp.Status(), AdminOk.Status))

    def health(self) -> Health:
        """The conditions, with their details."""
        return self._expect(AdminOp.Health(), AdminOk.Health)

    def attest(self) -> Dict[str, Any]:
        """A statement of version, build, configuration, policy and keys."""
        return json.loads(self._expect(AdminOp.Attest(), AdminOk.Attest))

    def stage(self, kid: str) -> Staged:
        """Publishes a key that a ceremony made; it does not sign yet."""
        return self._expect(AdminOp.Stage(kid), AdminOk.Staged)

    def activate(self, kid: str) -> Activated:
        """Makes a staged key the signing one."""
        return self._expect(AdminOp.Activate(kid), AdminOk.Activated)

    def pause_issue(self, reason: str) -> None:
        """Stops issuing; `reason` goes on record."""
        self._expect(AdminOp.PauseIssue(reason), AdminOk.Done)

    def resume_issue(self) -> None:
        """Ends `pause_issue`."""
        self._expect(AdminOp.ResumeIssue(), AdminOk.Done)

    def reload(self) -> Reloaded:
        """Reads configuration and policy again."""
        return self._expect(AdminOp.Reload(), AdminOk.Reloaded)

    def reload_report(self) -> ReloadReport:
        """`reload` that tells all that changed."""
        return self._expect(AdminOp.ReloadReport(), AdminOk.ReloadReport)

    def drain(self) -> None:
        """Unready: no new connections, nothing new is issued; those that are there go on verifying."""
        self._expect(AdminOp.Drain(), AdminOk.Done)

    def undrain(self) -> None:
        """Ends `drain`."""
        self._expect(AdminOp.Undrain(), AdminOk.Done)

    def revoke(self, tenant: str, what: Sequence[Any], reason: str) -> int:
        """Has nobody accept these passports any more: `Revocation`s, all or none. How many of them are new."""
        return self._expect(AdminOp.Revoke(tenant, what, reason), AdminOk.Revoked)

    def bump_epoch(self, tenant: str, reason: str) -> int:
        """Revokes all that the tenant was issued until now. The epoch that has begun."""
        return self._expect(AdminOp.BumpEpoch(tenant, reason), AdminOk.EpochBumped)

    def compromise(self, kid: str, reason: str) -> None:
        """Has a key neither sign nor verify."""
        self._expect(AdminOp.Compromise(kid, reason), AdminOk.Done)

    def ticket_ttl(self, seconds: int, for_s: int, reason: str) -> None:
        """Lets tickets live for so many seconds at most, for a while; 0 ends what is in force."""
        self._expect(AdminOp.TicketTtl(seconds, for_s, reason), AdminOk.Done)

    def checkpoint(self) -> str:
        """A signed note of what the ledger holds now."""
        return self._expect(AdminOp.Checkpoint(), AdminOk.Checkpoint)

    def rollback(self, tenant: str, purpose: str, reason: str) -> Activated:
        """Has the retired predecessor of the signing key sign again; the answer names both."""
        return self._expect(AdminOp.Rollback(tenant, purpose, reason), AdminOk.Activated)

    def confirm(self, kid: str) -> None:
        """Says of the signing key that there is no way back from it."""
        self._expect(AdminOp.Confirm(kid), AdminOk.Done)

    def destroyed(self, kid: str) -> None:
        """Says that a ceremony has destroyed a key that verifies nothing any more."""
        self._expect(AdminOp.Destroyed(kid), AdminOk.Done)

    def activate_now(self, kid: str, reason: str) -> Activated:
        """Has a staged key sign although verifiers may not have fetched it yet."""
        return self._expect(AdminOp.ActivateNow(kid, reason), AdminOk.Activated)

    def test_append(self, reason: str) -> int:
        """Writes a record that says nothing but that records are written; its sequence number."""
        return self._expect(AdminOp.TestAppend(reason), AdminOk.Recorded)


def _passport_size(passport: AnyPassport) -> int:
    if isinstance(passport, Jws):
        return 4 * len(passport.text) + 6
    # A tag, and up to five bytes before each of four parts. A character is four bytes of UTF-8 at most.
    return 4 * len(passport.alg) + 4 * len(passport.kid) + len(passport.msg) + len(passport.sig) + 21


def _issued_size(form: Form, payload: int) -> int:
    return payload + _ITEM_RESERVE if form is Form.ENVELOPE else (payload + 2) // 3 * 4 + _JWS_RESERVE


def _spec_size(spec: IssueSpec) -> int:
    out = bytearray()
    _SPEC.write(out, spec)
    return len(out)


def _room(limits: Limits) -> int:
    return max(limits.max_frame - _FRAME_RESERVE, 0)


def _part(sizes: Sequence[int], most: int, room: int) -> int:
    """How many items from the first on fit a frame together: one at least, so that what is too large is refused by name."""
    used = 0
    for at, size in enumerate(sizes[:most]):
        used += size
        if at and used > room:
            return at
    return min(most, len(sizes))


# Command line


def _shown(value: Any) -> Any:
    """An answer as JSON."""
    if isinstance(value, Passport):
        return value.to_dict()
    if isinstance(value, Jws):
        return value.text
    if isinstance(value, Accepted):
        return {"valid": True, "exp": value.exp}
    if isinstance(value, Refused):
        return {"valid": False, "reason": value.reason.value}
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in value]
    return dataclasses.asdict(value)


def _passport(document: Any) -> AnyPassport:
    return Jws(document) if isinstance(document, str) else Passport.from_dict(document)


def _read_passports(text: str) -> Tuple[bool, List[AnyPassport]]:
    """One envelope or JWS, an array of them, or `{"items": […]}`; says whether it is a batch."""
    if text.lstrip().startswith("eyJ"):
        return False, [Jws(text.strip())]
    document = json.loads(text, object_pairs_hook=_no_doubles)
    if isinstance(document, dict) and set(document) == {"items"}:
        document = document["items"]
    if isinstance(document, list):
        return True, [_passport(one) for one in document]
    return False, [_passport(document)]


def _verify(client: Client, options: argparse.Namespace) -> Tuple[Any, int]:
    batch, passports = _read_passports(sys.stdin.read())
    if batch:
        verdicts = client.verify_batch(passports, options.aud, options.scope)
        return {"items": _shown(verdicts)}, 0 if all(verdict.accepted for verdict in verdicts) else 3
    verdict = client.verify(passports[0], options.aud, options.scope)
    return _shown(verdict), 0 if verdict.accepted else 3


def _run(options: argparse.Namespace) -> Tuple[Any, int]:
    with Client(options.socket, timeout=options.timeout) as client:
        if options.command == "ping":
            client.ping()
            return {"ok": True}, 0
        if options.command == "whoami":
            return _shown(client.whoami()), 0
        if options.command == "keys":
            keys = client.keys()
            return json.loads(keys.jwks) if isinstance(keys, KeySet) else _wrong(keys), 0
        if options.command == "issue":
            form = Form(options.form)
            passport = client.issue(options.template, options.sub, options.aud, options.scope, options.ttl, form=form)
            return _shown(passport), 0
        return _verify(client, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Ask passportd. Answers are JSON on stdout.")
    parser.add_argument("--socket", default="/run/passportd/passportd.sock", help="the service socket")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for the whole (default 10)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ping", help="is somebody there?")
    commands.add_parser("whoami", help="whom the daemon takes this user for")
    commands.add_parser("keys", help="the public keys as a JWKS")
    issue = commands.add_parser("issue", help="a passport")
    issue.add_argument("--template", required=True)
    issue.add_argument("--sub", required=True)
    issue.add_argument("--aud", action="append", default=[], help="may be repeated")
    issue.add_argument("--scope", action="append", default=[], help="may be repeated")
    issue.add_argument("--ttl", type=int, help="seconds")
    issue.add_argument("--form", choices=[form.value for form in Form], default=Form.ENVELOPE.value)
    verify = commands.add_parser("verify", help="a verdict on the envelope or JWS, or a batch of them, on stdin")
    verify.add_argument("--aud")
    verify.add_argument("--scope", action="append", default=[], help="may be repeated")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Exit codes: 0 ok, 1 failed, 2 usage, 3 not valid, 4 refused by the daemon."""
    options = _parser().parse_args(arguments)
    try:
        answer, code = _run(options)
    except Problem as problem:
        print(f"passportd: {problem}", file=sys.stderr)
        return 4
    except PassportdError as error:
        print(f"passportd: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"passportd: the input is no envelope: {error}", file=sys.stderr)
        return 2
    print(json.dumps(answer, separators=(",", ":"), ensure_ascii=False))
    return code


if __name__ == "__main__":
    sys.exit(main())
