"""What a verifier goes by: time, keys, and all that is revoked, as passportd says it. For `passportd_verifier`."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Optional, Set, Tuple

from passportd import Event, KeySet, PassportdError, RevocationPage, What, WireError, _no_doubles
from passportd_ed25519 import MAX_TABLES, PublicKey
from passportd_payload import MAX_INTEGER, Claims, from_base64url, tenant_of

MAX_KEYS = 3800
MAX_JWKS_BYTES = 1 << 20

_SWEPT_FROM = 4096
# What the clock may be off before it is taken for a mistake.
_MAX_STEP_S = 300


def since_boot() -> float:
    """Seconds that go on while the machine sleeps, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class TooMany(PassportdError):
    """More is revoked than may be kept."""


class BadKeys(PassportdError):
    """The daemon's key set is none."""


class Clock:
    """The present that verdicts go by, in microseconds: never before what has been, whatever the clock says."""

    def __init__(self, wall: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._wall = wall
        # What has passed for certain, and when: together, since other threads read it.
        self._mark = (wall() // 1_000_000, int(since_boot()))
        self._offset = self._mark[0] - self._mark[1]

    def _in_doubt(self, wall_s: int) -> bool:
        off = wall_s - int(since_boot()) - self._offset
        return abs(off) > _MAX_STEP_S or wall_s < self._mark[0] - _MAX_STEP_S

    def tick(self) -> None:
        """Looks at the clock: one that is in doubt moves nothing."""
        wall_s = self._wall() // 1_000_000
        if not self._in_doubt(wall_s):
            self._mark = (max(self._mark[0], wall_s), int(since_boot()))

    def now(self) -> int:
        wall = self._wall()
        mark, marked = self._mark
        if self._in_doubt(wall // 1_000_000):
            mark += max(int(since_boot()) - marked, 0)
        return max(wall, mark * 1_000_000)


@dataclass(frozen=True)
class Keys:
    """The keys of the daemon's set by kid, each with its tenant."""

    etag: bytes
    keys: Dict[str, Tuple[str, PublicKey]]


def _members(key: Any) -> Tuple[str, bytes]:
    """Kid and public key of a member of a JWKS; raises ValueError."""
    if not isinstance(key, dict):
        raise ValueError("a key is no object")
    fixed = {"kty": "OKP", "crv": "Ed25519", "use": "sig"}
    if any(key.get(name) != value for name, value in fixed.items()):
        raise ValueError("a key that is no Ed25519 signing key")
    if "d" in key or key.get("alg", "EdDSA") not in ("EdDSA", "Ed25519"):
        raise ValueError("a private key, or one for another algorithm")
    created, current = key.get("created", 0), key.get("current", False)
    if type(created) is not int or not 0 <= created <= MAX_INTEGER or not isinstance(current, bool):
        raise ValueError("a key whose `created` or `current` is none")
    kid, x = key.get("kid"), key.get("x")
    if not isinstance(kid, str) or tenant_of(kid) is None or not isinstance(x, str):
        raise ValueError("a key without a kid or its point")
    return kid, from_base64url(x)


def read_keys(found: KeySet, openssl: bool, before: Optional[Keys]) -> Keys:
    """One wrong key spoils the set: half of a key set is a wrong answer. What `before` has prepared is taken over."""
    keys: Dict[str, Tuple[str, PublicKey]] = {}
    try:
        document = json.loads(found.jwks, object_pairs_hook=_no_doubles) if len(found.jwks) <= MAX_JWKS_BYTES else None
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list) or len(listed) > MAX_KEYS:
            raise ValueError("it is no key set, or too large")
        for kid, public in map(_members, listed):
            if kid in keys:
                raise ValueError(f"the kid {kid} stands twice")
            _, known = before.keys.get(kid, ("", None)) if before else ("", None)
            if known is None or known.public != public:
                known = PublicKey(public, openssl, table=len(keys) < MAX_TABLES)
            keys[kid] = (tenant_of(kid) or "", known)
    except (ValueError, RecursionError) as error:
        raise BadKeys(f"the daemon's keys can't be used: {error}") from error
    return Keys(found.etag, keys)


class Revoked:
    """All that is revoked, as it is gathered page by page, and as it changes.

    Of an id or a subject a tag of 128 bits is kept, under a key that this process alone knows: nobody can look for two of one tag.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._secret = os.urandom(32)
        self._ids: Dict[bytes, int] = {}
        self._subjects: Dict[bytes, Tuple[int, int]] = {}
        self._epochs: Dict[str, int] = {}
        self._compromised: Set[str] = set()
        self._floor = 0
        self._swept = 0
        self.tenants: Optional[Set[str]] = None

    def __len__(self) -> int:
        return len(self._ids) + len(self._subjects) + len(self._epochs) + len(self._compromised)

    def _tag(self, tenant: str, name: str) -> bytes:
        text = f"{tenant}\n{name}".encode("utf-8")  # No tenant has a line in it.
        return hashlib.blake2b(text, digest_size=16, key=self._secret).digest()

    def _room(self) -> None:
        if len(self) >= self._most:
            raise TooMany(f"more than {self._most} revocations are in force; raise max_revocations")

    def page(self, page: RevocationPage) -> None:
        """Takes a page of all that is in force."""
        self.tenants = None if page.tenants is None else set(page.tenants)
        self._floor = max(self._floor, page.floor)
        for one in page.epochs:
            self._begin(one.tenant, one.epoch)
        for kid in page.compromised:
            self._compromise(kid)
        for standing in page.revoked:
            if not isinstance(standing.what, (What.RevokedId, What.RevokedSubject)):
                raise WireError("a revocation in force that is none")
            self._revoke(standing.tenant, standing.what)

    def apply(self, event: Event) -> bool:
        """Takes what has happened; whether the keys are to be asked for."""
        what, tenant = event.what, event.tenant
        if isinstance(what, (What.RevokedId, What.RevokedSubject)):
            if tenant is None:
                raise WireError("a revocation without a tenant")
            self._revoke(tenant, what)
        elif isinstance(what, What.RevokedKey):
            self._compromise(what.kid)
        elif isinstance(what, What.Epoch):
            if tenant is None:
                self._floor = max(self._floor, what.epoch)
            else:
                self._begin(tenant, what.epoch)
        return isinstance(what, What.Key)

    def _revoke(self, tenant: str, what: Any) -> None:
        self._room()
        if isinstance(what, What.RevokedId):
            tag = self._tag(tenant, what.jti)
            self._ids[tag] = max(self._ids.get(tag, what.until), what.until)
        else:
            tag = self._tag(tenant, what.sub)
            before, until = self._subjects.get(tag, (what.before, what.until))
            self._subjects[tag] = (max(before, what.before), max(until, what.until))

    def _begin(self, tenant: str, epoch: int) -> None:
        """An epoch never goes back, in whatever order one hears of it."""
        self._room()
        self._epochs[tenant] = max(epoch, self._epochs.get(tenant, 0))

    def _compromise(self, kid: str) -> None:
        self._room()
        self._compromised.add(kid)

    def sweep(self, now_s: int) -> None:
        """Leaves out what can't matter any more, once there may be enough of it."""
        if len(self._ids) + len(self._subjects) < max(2 * self._swept, _SWEPT_FROM) and len(self) < self._most:
            return
        self._ids = {tag: until for tag, until in self._ids.items() if until > now_s}
        self._subjects = {tag: one for tag, one in self._subjects.items() if one[1] > now_s}
        self._swept = len(self._ids) + len(self._subjects)

    def names(self, claims: Claims, tenant: str) -> bool:
        """Whether the passport is revoked: by its id, its subject, its key or its epoch; a ticket, with what it was made from."""
        if claims.par is not None:
            parent = claims.par
            if self.names(replace(claims, iat=parent.iat, jti=parent.jti, kid=parent.kid, par=None), tenant):
                return True
        if claims.epoch < max(self._epochs.get(tenant, 0), self._floor) or claims.kid in self._compromised:
            return True
        if self._ids and self._tag(tenant, claims.jti) in self._ids:
            return True
        subject = self._subjects.get(self._tag(tenant, claims.sub)) if self._subjects else None
        return subject is not None and claims.iat <= subject[0]
