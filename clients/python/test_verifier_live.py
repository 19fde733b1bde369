"""Tests of the verifier against a real daemon, which `cargo test --test python_verifier` starts; see test_live.py."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import random
import re
import sys
import time
import unittest
from typing import Any, Callable, List

import passportd as p
from passportd_verifier import Unfed, Verifier

FOLDER = os.environ.get("PASSPORTD_LIVE")
FIRST_KEY = "ed25519/t1/auth/v1"
BOUND_S = 2.0


def keeper(word: str) -> str:
    """Has the daemon's keeper do something, and waits until it is done."""
    print(word, flush=True)
    answer = sys.stdin.readline().strip()
    if not answer:
        raise AssertionError(f"the keeper did not answer {word!r}")
    return answer


@unittest.skipUnless(FOLDER, "PASSPORTD_LIVE names no daemon; `cargo test --test python_verifier` starts one")
class Live(unittest.TestCase):
    def setUp(self) -> None:
        self.client = p.Client(f"{FOLDER}/passportd.sock")
        self.addCleanup(self.client.close)
        self.admin = p.AdminClient(f"{FOLDER}/admin.sock")
        self.addCleanup(self.admin.close)

    def verifier(self, **options: Any) -> Verifier:
        verifier = Verifier(f"{FOLDER}/passportd.sock", audience="demo", stale_after_s=BOUND_S, **options)
        self.addCleanup(verifier.close)
        return verifier

    def said(self, verifier: Any, passport: p.AnyPassport) -> str:
        """By a verifier or by the daemon."""
        verdict = verifier.verify(passport, scopes=["read"])
        return "accepted" if verdict.accepted else verdict.reason.value

    def until(self, holds: Callable[[], bool], within_s: float = 20.0) -> float:
        began = time.monotonic()
        while not holds():
            self.assertLess(time.monotonic() - began, within_s, "it does not come about")
            time.sleep(0.002)
        return time.monotonic() - began

    def until_said(self, verifier: Verifier, passport: p.AnyPassport, what: str, within_s: float = BOUND_S) -> None:
        # Longer than the bound would be a promise that is broken.
        self.until(lambda: self.said(verifier, passport) == what, within_s)

    def unfed(self, verifier: Verifier) -> bool:
        try:
            verifier.check_fed()
        except Unfed:
            return True
        return False

    def test_1_each_way_and_each_form_says_what_the_daemon_says(self) -> None:
        issued = [self.client.issue("demo", f"user-{n}", ttl_s=600, form=form) for n in range(5) for form in p.Form]
        for verifier in (self.verifier(), self.verifier(openssl=False)):
            for passport in issued:
                self.assertEqual(verifier.verify(passport), self.client.verify(passport))
                self.assertEqual(verifier.verify(passport, scopes=["write"]), p.Refused(p.Code.SCOPE_DENIED))
                self.assertEqual(verifier.verify(passport, "elsewhere"), p.Refused(p.Code.BAD_AUD))
            self.assertEqual(verifier.verify_batch(issued), self.client.verify_batch(issued))

    def test_2_of_altered_passports_the_two_say_the_same(self) -> None:
        seed = int(os.environ.get("PASSPORTD_SEED", random.SystemRandom().randrange(1 << 32)))
        random_ = random.Random(seed)
        ctx = {"a": {"x": [1, -2, None, True, "é\n"]}, "b": {}, "c": "z"}
        good = [self.client.issue("demo", "al\"ïce", scopes=["read", "write"], ttl_s=600, ctx=ctx, form=form) for form in p.Form]
        items = [altered(random_, random_.choice(good)) for _ in range(6000)]
        theirs = self.client.verify_batch(items, "demo", ["read"])
        counts: Any = collections.Counter()
        for verifier in (self.verifier(), self.verifier(openssl=False)):
            for item, verdict in zip(items, theirs):
                self.assertEqual(verifier.verify(item, scopes=["read"]), verdict, f"PASSPORTD_SEED={seed}: {item}")
                counts["accepted" if verdict.accepted else verdict.reason.value] += 1
        for code in ("accepted", "malformed", "verify_failed", "bad_alg", "bad_kid", "unknown_kid", "expired", "bad_aud",
                     "scope_denied", "too_large"):  # fmt: skip
            self.assertGreater(counts[code], 10, f"PASSPORTD_SEED={seed}: {counts}")

    def test_3_what_takes_something_is_the_daemons_to_accept(self) -> None:
        verifier = self.verifier()
        for spec in (
            p.IssueSpec("few", "alice"),
            p.IssueSpec("either", "alice", nonce="once"),
            p.IssueSpec("either", "alice", jkt="A" * 43),
            p.IssueSpec("bound", "alice"),
        ):
            passport = self.client.issue_batch([spec])[0]
            self.assertNotIsInstance(passport, p.Problem, passport)
            for _ in range(3):
                self.assertEqual(self.said(verifier, passport), "needs_daemon", spec)
        few = self.client.issue("few", "alice")
        lefts = [self.client.verify(few).left for _ in range(2)]  # type: ignore[attr-defined]
        self.assertEqual((lefts, self.said(self.client, few)), ([1, 0], "limit_exceeded"))
        self.assertEqual(self.said(verifier, few), "needs_daemon", "which knows that it is used up")

    def test_4_all_that_is_revoked_is_refused_within_the_bound(self) -> None:
        verifier = self.verifier()
        by_id, by_subject, by_epoch = (self.client.issue("demo", sub, ttl_s=600) for sub in ("ida", "bob", "carol"))
        for passport in (by_id, by_subject, by_epoch):
            self.assertEqual(self.said(verifier, passport), "accepted")
        self.assertTrue(self.client.revoke(by_id))
        self.until_said(verifier, by_id, "revoked")
        self.assertEqual(self.said(verifier, by_subject), "accepted")
        self.admin.revoke("t1", [p.Revocation.Subject("bob", None)], "a test")
        self.until_said(verifier, by_subject, "revoked")
        self.assertEqual(self.said(verifier, by_epoch), "accepted")
        self.admin.bump_epoch("t1", "a test")
        self.until_said(verifier, by_epoch, "revoked")
        # Whoever comes later knows it all.
        late = self.verifier()
        for passport in (by_id, by_subject, by_epoch):
            self.assertEqual((self.said(late, passport), self.said(self.client, passport)), ("revoked", "revoked"))
        self.assertEqual(late.revocations, verifier.revocations)

    def test_5_new_keys_are_taken_and_compromised_ones_refused(self) -> None:
        verifier = self.verifier()
        old = self.client.issue("demo", "dora", ttl_s=600)
        self.assertEqual((old.kid, self.said(verifier, old)), (FIRST_KEY, "accepted"))  # type: ignore[union-attr]
        kid = keeper("generate")
        self.admin.stage(kid)
        self.admin.activate(kid)
        new = self.client.issue("demo", "dora", ttl_s=600)
        self.assertEqual(new.kid, kid)  # type: ignore[union-attr]
        self.until_said(verifier, new, "accepted")
        self.assertEqual(self.said(verifier, old), "accepted")
        self.admin.compromise(FIRST_KEY, "a test")
        self.until_said(verifier, old, "unknown_kid", 20)
        self.assertEqual((self.said(verifier, new), self.said(self.client, old)), ("accepted", "unknown_kid"))

    def test_6_without_the_daemon_there_are_no_verdicts_until_it_is_back(self) -> None:
        verifier = self.verifier()
        good, bad = (self.client.issue("demo", sub, ttl_s=600) for sub in ("erin", "frank"))
        self.assertEqual((self.said(verifier, good), self.said(verifier, bad)), ("accepted", "accepted"))
        self.client.revoke(bad)
        keeper("kill")
        took = self.until(lambda: self.unfed(verifier))
        self.assertLessEqual(took, BOUND_S + 0.5)
        with self.assertRaisesRegex(Unfed, "passportd was not heard of for 2000 ms"):
            verifier.verify(good)
        keeper("start")
        self.until(lambda: not self.unfed(verifier))
        self.assertEqual((self.said(verifier, good), self.said(verifier, bad)), ("accepted", "revoked"))
        verifier.close()
        # One that waits for news for seconds need not be waited for.
        patient = Verifier(f"{FOLDER}/passportd.sock", stale_after_s=60.0)
        time.sleep(0.3)
        began = time.monotonic()
        patient.close()
        self.assertLess(time.monotonic() - began, 2.0)
        with self.assertRaises(Unfed):
            verifier.verify(good)


def altered(random_: random.Random, passport: p.AnyPassport) -> p.AnyPassport:
    """The same, or wrong in a way or two, of which some need a signature and some do not."""
    if isinstance(passport, p.Passport):
        found = dataclasses.replace(passport, msg=altered_payload(random_, passport.msg))
        how = random_.randrange(12)
        if how == 0:
            found = dataclasses.replace(found, alg=random_.choice(["EdDSA", "none", "ed25519", "HS256", ""]))
        if how == 1:
            other = random_.choice(["", "x", FIRST_KEY + "0", "ed25519/t2/auth/v1", FIRST_KEY])
            found = dataclasses.replace(found, kid=other)
            if random_.randrange(2):
                found = dataclasses.replace(found, msg=passport.msg.replace(FIRST_KEY.encode(), other.encode()))
        if how in (2, 3):
            at = random_.randrange(512)
            sig = bytearray(found.sig)
            sig[at // 8] ^= 1 << at % 8
            found = dataclasses.replace(found, sig=bytes(sig[: random_.choice([64, 64, 63, 0])]))
        return found
    head, body, sig = passport.text.split(".")
    how = random_.randrange(8)
    if how < 3:
        payload = altered_payload(random_, p._from_base64url("", body))
        return p.Jws(f"{head}.{p._to_base64url(payload)}.{sig}")
    if how == 3:
        header = p._from_base64url("", head)
        old, new = random_.choice(
            [(b"EdDSA", b"Ed25519"), (b"EdDSA", b"none"), (b"passport+jwt", b"JWT"), (b"}", b',"x":1}'), (b'"alg":"EdDSA",', b""),
             (b"v1", b"v2"), (b"{", b"{ "), (b'"typ"', b'"ty"'), (b"t1", b"t\xff"), (b"kid", b"k\\u0069d")]
        )  # fmt: skip
        header = header.replace(old, new)
        return p.Jws(f"{p._to_base64url(header)}.{body}.{sig}")
    if how == 4:
        return p.Jws(random_.choice([f"{head}.{body}", f"{head}.{body}.{sig}.", f"{head}..{sig}", "", ".", "..", f"{head}.{body}.{sig}=",
                                     f"{head}.{'A' * 30_000}.{sig}", f"{head}.{'A' * 6000}.{sig}", f"{head}.{body}.{sig}é"]))  # fmt: skip
    if how < 7:
        text, at = passport.text, random_.randrange(len(passport.text))
        return p.Jws(text[:at] + random_.choice("AQgwz09-_=+/. é\n") + text[at + random_.randrange(2) :])
    return passport


def altered_payload(random_: random.Random, msg: bytes) -> bytes:
    how = random_.randrange(12)
    if how < 3:
        return msg
    if how < 5:
        at, raw = random_.randrange(len(msg)), bytearray(msg)
        raw[at : at + random_.randrange(2)] = random_.choice([b"", b"0", b"1", b" ", b'"', b"\\", b"\xff", b"}", b",", bytes([random_.randrange(256)])])
        return bytes(raw)
    if how == 5:
        numbers = [m.span() for m in re.finditer(rb"(?<=:)\d+", msg)]
        start, end = random_.choice(numbers)
        number = random_.choice([b"0", b"-1", b"1.0", b"1e3", b"01", b"9007199254740991", b"9007199254740992", b"-0", b"null", b"[]", b'"1"', b"-"])
        return msg[:start] + number + msg[end:]
    if how == 6:
        return msg[: random_.randrange(len(msg))] if random_.randrange(2) else msg + random_.choice([b" ", b"}", b"x" * 5000, b"\n"])
    return canonical(changed(random_, json.loads(msg)))


def changed(random_: random.Random, claims: Any) -> Any:
    names = list(claims)
    name = random_.choice(names)
    texts: List[Any] = ["", "x" * 64, "x" * 65, "x" * 257, "é\x85", "a\n", "😂", 'q"\\', None, 5, True, [], {}, ["x"], {"a": 1}]
    how = random_.randrange(8)
    if how == 0:
        del claims[name]
    elif how == 1:
        claims[name] = random_.choice(texts)
    elif how == 2:
        claims[random_.choice(["tenant", "nbf", "nonce", "Aud", "a", "zz", "😂"])] = random_.choice([claims["iat"], *texts])
    elif how == 3:
        claims["iat"], claims["exp"] = random_.choice([(1, 2), (5, 5), (claims["exp"], claims["iat"]), (0, 0), (claims["iat"], 2**53 - 1)])
    elif how == 4:
        member, count = random_.choice([("aud", 16), ("scopes", 64)])
        claims[member] = random_.choice([[], ["other"], ["demo", "read"] * (count // 2), ["demo", "read"] * count, [1]])
    elif how == 5:
        claims["cap"][random_.choice(["template", "action", "limit", "x"])] = random_.choice([1, 0, 2**53, *texts])
    elif how == 6:
        depth = random_.choice([1, 12, 13, 14, 15, 16, 100, 900])
        claims["ctx"] = random_.choice([{"\ufb33": 1, "😂": 2}, {"b": 1, "a": 2}, json.loads('{"a":' * depth + "1" + "}" * depth), {"a": 0.5}])
    else:
        claims["kid"] = random_.choice([*texts, "ed25519/t1/auth/v2", "ed25519/T1/auth/v1"])
    return claims


def canonical(claims: Any) -> bytes:
    # By code points and not by UTF-16, so that some of them are out of order.
    return json.dumps(claims, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode("utf-8")


if __name__ == "__main__":
    unittest.main()
