"""Verdicts in the service's own process, without a question to passportd for each: `client::Verifier` for Python.

    from passportd import Client, Code, Refused
    from passportd_verifier import Unfed, Verifier

    with Verifier("/run/passportd/passportd.sock", audience="orders") as verifier:
        verdict = verifier.verify(passport, scopes=["orders:write"])

A verifier accepts what the daemon would accept at the same time, and refuses the rest with the same codes. What takes a use, a
nonce or a proof, was made of another passport, or is of a tenant that policy does not let this service watch, is `needs_daemon`:
ask `Client.verify`. When nothing was heard of the daemon for longer than a bound there is no verdict at all, but `Unfed` is raised:
a passport could have been revoked since. docs/VERIFIER.md says more.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

from passportd import (
    Accepted,
    AnyPassport,
    Begin,
    Client,
    Code,
    Event,
    Events,
    Lagged,
    NotModified,
    PassportdError,
    Refused,
    Timeout,
    Topic,
    Verdict,
    WireError,
)
from passportd_fed import Clock, Keys, Revoked, TooMany, read_keys, since_boot
from passportd_payload import Claims, Opened, Refusal, open_passport

MAX_STALE_S = 60.0
MIN_STALE_S = 0.5
MAX_REVOCATIONS = 2_000_000
MAX_SKEW_S = 600
# Pages of one look: of the smallest, more than the daemon has revocations. A daemon that never comes to an end is none.
MAX_PAGES = 1 << 16

_TOPICS = (Topic.KEYS, Topic.REVOCATIONS, Topic.EPOCHS)
_AFTER_TOO_MANY_S = 30.0


class Unfed(PassportdError):
    """There is no verdict: what was revoked of late is not known. Ask the daemon, or refuse."""

    @property
    def may_retry(self) -> bool:
        return True


@dataclass
class _Fed:
    """All that a verdict depends on."""

    issuer: str
    max_msg_bytes: int
    keys: Keys
    revoked: Revoked
    revision: int = 0


MAX_TICKET_SKEW_S = 2
"""The skew of a ticket, which lives for a minute."""


def _judge(claims: Claims, issuer: str, now_us: int, skew_s: int, aud: Optional[str], scopes: Sequence[str]) -> None:
    """Whether the claims are what is wanted, in the daemon's order; raises `Refusal`."""
    if claims.iss != issuer:
        raise Refusal(Code.UNKNOWN_KID)
    if claims.par is not None:
        skew_s = min(skew_s, MAX_TICKET_SKEW_S)
    start = claims.iat if claims.nbf is None else max(claims.iat, claims.nbf)
    if claims.exp <= start or now_us >= (claims.exp + skew_s) * 1_000_000:
        raise Refusal(Code.EXPIRED)
    if now_us < (start - skew_s) * 1_000_000:
        raise Refusal(Code.NBF)
    if aud is None or aud not in claims.aud:
        raise Refusal(Code.BAD_AUD)
    if any(scope not in claims.scopes for scope in scopes):
        raise Refusal(Code.SCOPE_DENIED)


class Verifier:
    """Verifies passports in this process. Threads may share it; after `fork`, make a new one. `close` ends its thread."""

    def __init__(
        self,
        path: str,
        audience: Optional[str] = None,
        stale_after_s: float = 5.0,
        skew_s: int = 120,
        max_revocations: int = MAX_REVOCATIONS,
        openssl: bool = True,
        timeout: float = 10.0,
        name: str = "passportd_verifier.py",
    ) -> None:
        """Connects, looks at all that is in force, and goes on watching in a thread; raises what `Client` raises, and `Problem`
        with `OP_DENIED` if policy does not let this process have `keys` and `watch`.

        `audience`: as whom passports are verified, where `verify` is not told. `stale_after_s`: how long verdicts are given after
        the daemon was heard last, 0.5 to 60. `skew_s`: the daemon's `passport.clock_skew_s`, 600 at most. `openssl`: use the
        package `cryptography`, where it is installed.
        """
        self._audience = audience
        self._bound = min(max(stale_after_s, MIN_STALE_S), MAX_STALE_S)
        self._wait = self._bound / 5
        self._skew_s = min(max(skew_s, 0), MAX_SKEW_S)
        self._most = min(max_revocations, MAX_REVOCATIONS)
        self._openssl = openssl
        # An answer that is later than this would come too late to be fed by.
        timeout = max(min(timeout, self._wait + self._bound), 2 * self._wait)
        self._client = Client(path, timeout=timeout, name=name)
        self._clock = Clock()
        self._lock = threading.Lock()
        self._fed: Optional[_Fed] = None
        self._heard: Optional[float] = None
        self._failure: Optional[Exception] = None
        self._cursor: Any = None
        self._stop = threading.Event()
        try:
            while not self._is_fresh():
                self._turn()
        except BaseException:
            self._client.close()
            raise
        self._thread = threading.Thread(target=self._feed, name="passportd-verifier", daemon=True)
        self._thread.start()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread and the connection; from then on there are no verdicts."""
        self._stop.set()
        while self._thread.is_alive():
            # More than once: it may just be about to ask.
            self._client.interrupt()
            self._thread.join(0.05)
        self._client.close()
        self._heard = None

    # Verdicts

    def verify(self, passport: AnyPassport, aud: Optional[str] = None, scopes: Sequence[str] = ()) -> Verdict:
        """`Accepted` or `Refused`; raises `Unfed` when there is no verdict."""
        if isinstance(scopes, str):
            raise TypeError("scopes is a list of texts")
        fed = self._now_fed()
        now = self._clock.now()
        keys = fed.keys
        try:
            opened = open_passport(passport, fed.max_msg_bytes)
            claims = opened.claims
            if claims.kid not in keys.keys:
                raise Refusal(Code.UNKNOWN_KID)
            _, key = keys.keys[claims.kid]
            aud = self._audience if aud is None else aud
            _judge(claims, fed.issuer, now, self._skew_s, aud, scopes)
            revision, hears = self._not_revoked(opened)
            if claims.bound:
                # Whoever presents it must be proven, and that is for the daemon to look at.
                raise Refusal(Code.NEEDS_DAEMON)
            if not key.verify(opened.message, opened.signature):
                raise Refusal(Code.VERIFY_FAILED)
            if claims.takes or not hears:
                raise Refusal(Code.NEEDS_DAEMON)
            # What was revoked while the signature was verified is refused all the same.
            self._not_revoked(opened, revision)
            verdict: Verdict = Accepted(claims.exp)
        except Refusal as refusal:
            verdict = Refused(refusal.code)
        # Whoever was stopped in between may have missed much.
        self._now_fed()
        return verdict

    def verify_batch(
        self, passports: Sequence[AnyPassport], aud: Optional[str] = None, scopes: Sequence[str] = ()
    ) -> List[Verdict]:
        """A verdict for each, as if asked one by one."""
        return [self.verify(one, aud, scopes) for one in passports]

    def _not_revoked(self, opened: Opened, since: Optional[int] = None) -> Tuple[int, bool]:
        """The revision that it was looked at, and whether this peer hears of the tenant; raises `Refusal`."""
        with self._lock:
            fed = self._fed
            if fed is None:
                raise Refusal(Code.NEEDS_DAEMON)
            if since != fed.revision and fed.revoked.names(opened.claims, opened.tenant):
                raise Refusal(Code.REVOKED)
            tenants = fed.revoked.tenants
            return fed.revision, tenants is None or opened.tenant in tenants

    def check_fed(self) -> None:
        """Raises `Unfed`, which says why, if there are no verdicts now."""
        self._now_fed()

    @property
    def revocations(self) -> int:
        """How many revocations, epochs and compromised keys are kept."""
        with self._lock:
            return 0 if self._fed is None else len(self._fed.revoked)

    @property
    def way(self) -> str:
        """By what signatures are verified: `openssl` or `python`."""
        with self._lock:
            keys = [] if self._fed is None else list(self._fed.keys.keys.values())
        return "openssl" if keys and all(key.way == "openssl" for _, key in keys) else "python"

    def _is_fresh(self) -> bool:
        heard = self._heard
        return heard is not None and since_boot() - heard <= self._bound

    def _now_fed(self) -> _Fed:
        fed = self._fed
        if fed is None or not self._is_fresh():
            why = "it is closed" if self._stop.is_set() else self._failure or "no answer has come"
            bound_ms = int(self._bound * 1000)
            raise Unfed(f"passportd was not heard of for {bound_ms} ms, so revocations may be missing: {why}")
        return fed

    # Feeding: one question after another. What an answer says is at least as new as the question, so that is the time that
    # counts; where the answer is events there may be more of them, so it is as new as the last one.

    def _feed(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self._turn()
                failures = 0
                continue
            except TooMany as error:
                # What came may not have been kept, and the cursor is past none of it.
                self._cursor, self._heard, self._failure = None, None, error
                pause = _AFTER_TOO_MANY_S
            except Exception as error:  # Whatever it is, there are no verdicts after the bound.
                self._failure = error
                pause = random.uniform(0.5, 1) * 0.05 * 2 ** min(failures, 4)
                if isinstance(error, Timeout):
                    # What the daemon still does for that question it need not: the next one goes by another connection.
                    self._client.close()
            failures += 1
            self._stop.wait(pause)

    def _turn(self) -> None:
        """One question, and what follows from its answer."""
        asked = since_boot()
        # Somebody who is late does not wait.
        late = self._heard is None or asked - self._heard > 2 * self._wait
        answer = self._client.watch(self._cursor, _TOPICS, 0 if late else int(self._wait * 1000))
        as_new_as = asked
        if isinstance(answer, Events):
            self._hear(answer.events)
            if answer.events:
                ago = max(time.time() - answer.events[-1].at_ms / 1000, 0)
                as_new_as = min(asked, since_boot() - ago)
        elif isinstance(answer, (Begin, Lagged)):
            self._look()
        else:
            raise WireError("the answer to a watch is none")
        self._cursor = answer.cursor
        self._heard = as_new_as if self._heard is None else max(self._heard, as_new_as)
        self._failure = None

    def _hear(self, events: Sequence[Event]) -> None:
        self._clock.tick()
        if not events:
            return
        ask_keys = False
        fed = self._fed
        if fed is None:
            raise WireError("events before all that is in force")
        # Only this thread changes anything, so that may be done without the lock.
        fed.revoked.sweep(self._clock.now() // 1_000_000)
        with self._lock:
            fed.revision += 1
            for event in events:
                ask_keys |= fed.revoked.apply(event)
        if ask_keys:
            keys = self._keys(fed.keys)
            with self._lock:
                fed.keys = keys

    def _keys(self, before: Optional[Keys]) -> Keys:
        found = self._client.keys(before.etag if before else None)
        if isinstance(found, NotModified):
            if before is None:
                raise WireError("keys that have not changed, and there are none")
            return before
        return read_keys(found, self._openssl, before)

    def _look(self) -> None:
        """Looks at all that is in force. What was in use stays so until that is done."""
        welcome = self._client.welcome
        keys = self._keys(self._fed.keys if self._fed else None)
        revoked = Revoked(self._most)
        after: Optional[bytes] = None
        for _ in range(MAX_PAGES):
            page = self._client.revocations(after)
            revoked.page(page)
            after = page.next
            if after is None:
                break
        else:
            raise WireError("revocations without an end")
        with self._lock:
            revision = self._fed.revision + 1 if self._fed else 0
            self._fed = _Fed(welcome.issuer, welcome.limits.max_msg_bytes, keys, revoked, revision)
