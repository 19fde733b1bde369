"""Tests of the verifier without a daemon: signatures by the published vectors, payloads, and what it is fed with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import random
import threading
import time
import unittest
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple
from unittest import mock

import passportd as p
import passportd_ed25519 as ed
import passportd_fed as fed
import passportd_payload as payload
import passportd_verifier as v

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "vectors"
NOW = 1_767_225_600
KID, OTHER_KID = "ed25519/t1/auth/v1", "ed25519/t2/auth/v1"


class Signer:
    """RFC 8032 section 5.1.6, for tests: it takes variable time."""

    def __init__(self, seed: bytes) -> None:
        hashed = hashlib.sha512(seed).digest()
        self._a = int.from_bytes(hashed[:32], "little") & (1 << 254) - 8 | 1 << 254
        self._prefix = hashed[32:]
        self.public = ed._encoded(ed._times(self._a, ed._BASE))

    def sign(self, message: bytes) -> bytes:
        def number(*parts: bytes) -> int:
            return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ed.L

        r = number(self._prefix, message)
        first = ed._encoded(ed._times(r, ed._BASE))
        return first + ((r + number(first, self.public, message) * self._a) % ed.L).to_bytes(32, "little")


SIGNER, OTHER = Signer(b"1" * 32), Signer(b"2" * 32)


def claims(**changes: Any) -> Dict[str, Any]:
    found = {
        "aud": ["orders"], "cap": {"template": "demo"}, "epoch": 0, "exp": NOW + 60, "iat": NOW, "iss": "test",
        "jti": "j0", "kid": KID, "scopes": ["read"], "sub": "alice", **changes,
    }  # fmt: skip
    return {name: found[name] for name in sorted(found) if found[name] is not None}


def canonical(members: Any) -> bytes:
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def signed(msg: bytes, signer: Signer = SIGNER, kid: str = KID) -> p.Passport:
    return p.Passport("Ed25519", kid, msg, signer.sign(msg))


def jws(msg: bytes, header: Optional[str] = None, signer: Signer = SIGNER) -> p.Jws:
    header = '{"alg":"EdDSA","kid":"%s","typ":"passport+jwt"}' % KID if header is None else header
    text = p._to_base64url(header.encode()) + "." + p._to_base64url(msg)
    return p.Jws(text + "." + p._to_base64url(signer.sign(text.encode())))


def published() -> Iterator[Tuple[str, bytes, bytes, bytes, Dict[str, Any]]]:
    """Every published Ed25519 case, with what the daemon's library was measured to say of it."""
    rows = [json.loads(line) for line in (VECTORS / "ed25519_verdicts.jsonl").read_text().splitlines()]
    said = {(row["set"], row["id"]): row for row in rows}
    for at, case in enumerate(json.loads((VECTORS / "speccheck/cases.json").read_text())):
        key, message, signature = (bytes.fromhex(case[name]) for name in ("pub_key", "message", "signature"))
        yield f"speccheck {at}", key, message, signature, said["speccheck", str(at)]
    for group in json.loads((VECTORS / "wycheproof/ed25519_test.json").read_text())["testGroups"]:
        for case in group["tests"]:
            key = bytes.fromhex(group["publicKey"]["pk"])
            number, message, signature = case["tcId"], bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            yield f"wycheproof {number}", key, message, signature, said["wycheproof", str(number)]


def prepared(key: bytes, **how: Any) -> Optional[ed.PublicKey]:
    try:
        return ed.PublicKey(key, **how)
    except ed.BadKey:
        return None


WAYS = ({"openssl": False}, {"openssl": False, "table": False}, {"openssl": True})


class Signatures(unittest.TestCase):
    def test_verdicts_are_those_of_verify_strict_by_every_way(self) -> None:
        keys: Dict[bytes, List[Optional[ed.PublicKey]]] = {}
        counts = {True: 0, False: 0}
        for name, key, message, signature, said in published():
            if key not in keys:
                keys[key] = [prepared(key, **how) for how in WAYS]
            for one in keys[key]:
                # The daemon loads no key of mixed order, of which verify_strict alone says yes to a signature (speccheck 3).
                verdict = one is not None and one.verify(message, signature)
                expected = said["verify_strict"] and one is not None
                self.assertEqual(verdict, expected, (name, one and one.way))
                counts[verdict] += 1
            loaded = {one is not None for one in keys[key]}
            self.assertEqual(len(loaded), 1, name)
            if loaded == {False}:
                self.assertEqual(said["set"], "speccheck", name)
        self.assertGreater(min(counts.values()), 150, counts)

    def test_every_way_says_the_same_of_altered_signatures(self) -> None:
        keys = [ed.PublicKey(SIGNER.public, **how) for how in WAYS]
        random_ = random.Random(25519)
        for _ in range(60):
            message = random_.randbytes(40) if hasattr(random_, "randbytes") else b"m"
            good = SIGNER.sign(message)
            s = int.from_bytes(good[32:], "little")
            at = random_.randrange(512)
            altered = bytearray(good)
            altered[at // 8] ^= 1 << at % 8
            for signature, expected in (
                (good, True),
                (bytes(altered), False),
                (good[:32] + (s + ed.L).to_bytes(32, "little"), False),
                (b"\1" + bytes(31) + good[32:], False),
                (good[:63], False),
                (good + b"\0", False),
            ):
                self.assertEqual([key.verify(message, signature) for key in keys], [expected] * 3, signature.hex())

    def test_an_r_of_small_order_is_refused_though_the_equation_holds(self) -> None:
        # With R zero, s = k a: whoever has the key can make such.
        for how in WAYS:
            r, zero = b"\1" + bytes(31), b"message"
            k = int.from_bytes(hashlib.sha512(r + SIGNER.public + zero).digest(), "little") % ed.L
            signature = r + (k * SIGNER._a % ed.L).to_bytes(32, "little")
            self.assertFalse(ed.PublicKey(SIGNER.public, **how).verify(zero, signature))

    def test_keys_that_no_honest_one_makes_are_refused(self) -> None:
        torsion = ed._decoded(next(one for one in ed._SMALL_ORDER if one not in (b"\1" + bytes(31),)))
        point = ed._decoded(SIGNER.public)
        assert torsion is not None and point is not None
        mixed = ed._encoded(ed._add(point, torsion))
        y_is_p = ed.P.to_bytes(32, "little")
        minus_zero = b"\1" + bytes(30) + b"\x80"
        for bad in (*ed._SMALL_ORDER, mixed, y_is_p, minus_zero, b"\2" + bytes(31), b"\xff" * 32, b"", bytes(31)):
            self.assertIsNone(prepared(bad), bad.hex())
        self.assertEqual(len(ed._SMALL_ORDER), 8)
        # Other spellings of points: so few numbers of 255 bits are not below p. None of these is of prime order.
        for y in range(19):
            self.assertIsNone(ed._decoded((y + ed.P).to_bytes(32, "little")), y)

    def test_without_cryptography_it_is_python(self) -> None:
        with mock.patch.object(ed, "_openssl", lambda: None):
            key = ed.PublicKey(SIGNER.public)
        self.assertEqual(key.way, "python")
        self.assertTrue(key.verify(b"x", SIGNER.sign(b"x")))
        self.assertFalse(key.verify(b"y", SIGNER.sign(b"x")))


class Payloads(unittest.TestCase):
    def refused(self, msg: bytes, code: p.Code = p.Code.MALFORMED) -> None:
        with self.assertRaises(payload.Refusal, msg=msg) as caught:
            payload.open_passport(p.Passport("Ed25519", KID, msg, bytes(64)), 1 << 20)
        self.assertEqual(caught.exception.code, code, msg)

    def test_a_full_one_is_read(self) -> None:
        ctx = {"a": {"😂": 1, "！": -2}, "z": [None, True, False, 'ö"\\\b\f\n\r\t\x01\x7f', 2**53 - 1]}
        members = claims(
            nbf=NOW, nonce="n", ctx=ctx, cap={"action": "open", "limit": 3, "template": "demo"},
            cnf={"jkt": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "uid": 0}, par={"iat": 1, "jti": "j", "kid": KID},
        )  # fmt: skip
        found = payload.read_payload(canonical(members))
        self.assertEqual((found.nbf, found.takes, found.bound, found.sub), (NOW, True, True, "alice"))

    def test_another_spelling_is_refused(self) -> None:
        good = canonical(claims(nbf=NOW, ctx={"a": 1}))
        self.assertEqual(payload.read_payload(good).nbf, NOW)
        for old, new in (
            (b'{"aud"', b' {"aud"'), (b'{"aud"', b'\xef\xbb\xbf{"aud"'), (b'"alice"}', b'"alice"} '), (b"}", b"", ),
            (b'"sub":"alice"', b'"sub":"alice","sub":"alice"'), (b'"sub":"alice"', b'"sub":"\\u0061lice"'),
            (b'"sub":"alice"', b'"sub":"\\/"'), (b'"sub":"alice"', b'"sub":"\\ud800"'), (b'"alice"', b'"\\u001F"'),
            (b'"sub":"alice"', b'"sub":"\\ud83d\\ude02"'), (b'"sub":"alice"', b'"sub":"\xed\xa0\x80"'),
            (b'"sub":"alice"', b'"sub":"a\n"'), (b'"sub":"alice"', b'"sub":"alice","tenant":"t1"'),
            (b'{"a":1}', b'{"a":1.0}'), (b'{"a":1}', b'{"a":1e0}'), (b'{"a":1}', b'{"a":-0}'), (b'{"a":1}', b'{"a":01}'),
            (b'{"a":1}', b'{"a":9007199254740992}'), (b'{"a":1}', b'{"a":-9007199254740992}'), (b'{"a":1}', b'{"a":NaN}'),
            (b'{"a":1}', b'{"a":' + b"9" * 5000 + b"}"), (b'{"a":1}', b'{"b":1,"a":1}'), (b'{"a":1}', b'{"a":Infinity}'),
            (b'{"a":1}', '{"！":1,"😂":2}'.encode()), (b'{"a":1}', b'{"a":1,}'), (b'{"a":1}', b"[]"),
            (b'{"a":1}', b'{"a":' + b"[" * 15 + b"]" * 15 + b"}"), (b'{"a":1}', b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}"),
            (b'"iat":', b'"iat":-'), (b'"iat":1767225600', b'"iat":true'), (b'"iat":1767225600', b'"iat":"1"'),
            (b'"epoch":0,', b""), (b'"template":"demo"', b""), (b'"demo"', b'"demo","x":1'), (b'"jti":"j0"', b'"jti":""'),
        ):  # fmt: skip
            self.assertIn(old, good)
            self.refused(good.replace(old, new, 1))
        self.assertEqual(payload.read_payload(good.replace(b'{"a":1}', b'{"a":' + b"[" * 14 + b"]" * 14 + b"}")).nbf, NOW)

    def test_each_bound(self) -> None:
        nested: Any = 1
        for name, at, beyond in (
            ("iss", "x" * 256, "x" * 257), ("sub", "é" * 128, "é" * 129), ("jti", "x" * 64, "x" * 65),
            ("aud", ["x"] * 16, ["x"] * 17), ("scopes", ["x"] * 64, ["x"] * 65), ("aud", ["x" * 256], ["x" * 257]),
            ("scopes", ["x" * 128], ["x" * 129]), ("nonce", "x" * 128, "x" * 129), ("par", {"iat": 0, "jti": "x" * 64, "kid": KID}, {"iat": 0, "jti": "x" * 65, "kid": KID}),
            ("cap", {"template": "x" * 64}, {"template": "x" * 65}), ("cap", {"limit": 1, "template": "x"}, {"limit": 0, "template": "x"}),
            ("cap", {"action": "x" * 128, "template": "x"}, {"action": "x" * 129, "template": "x"}),
            ("cnf", {"uid": 2**32 - 2}, {"uid": 2**32 - 1}), ("cnf", {"jkt": "A" * 43}, {"jkt": "A" * 42 + "B"}),
            ("cnf", {"uid": 0}, {}), ("epoch", 2**53 - 1, 2**53), ("sub", "a\u00a0", "a\u0085"), ("ctx", {}, nested),
            *(("par", {"iat": 1, "jti": "j", "kid": KID}, bad) for bad in (
                "x", {}, {"iat": 1, "jti": "j"}, {"iat": -1, "jti": "j", "kid": KID}, {"iat": 1, "jti": "j", "kid": "k"},
                {"iat": 1, "jti": "j", "kid": KID, "sub": "x"},
            )),
        ):  # fmt: skip
            payload.read_payload(canonical(claims(**{name: at})))
            self.refused(canonical(claims(**{name: beyond})))

    def test_kids(self) -> None:
        for good in (KID, "ed25519/t1.host7/a-b/v9007199254740991"):
            self.assertIsNotNone(payload.tenant_of(good))
        for bad in (
            "", "ed25519/t1/auth/v0", "ed25519/t1/auth/v01", "ed25519/t1/auth/v9007199254740992", "ed25519/T1/auth/v1",
            "ed25519/t1.a.b/auth/v1", "ed25519/t1./auth/v1", "ed25519/t1/auth/v1/", "ed25519/t1/auth/v\u0661", KID + "\n",
        ):  # fmt: skip
            self.assertIsNone(payload.tenant_of(bad), bad)
        self.refused(canonical(claims(kid="ed25519/t1/auth/v2")), p.Code.BAD_KID)
        self.refused(canonical(claims(kid='ed25519/t1/"/v2')))

    def test_jws_headers_and_spellings(self) -> None:
        msg = canonical(claims())
        good = jws(msg)
        opened = payload.open_passport(good, 4096)
        self.assertEqual((opened.tenant, opened.message.decode()), ("t1", good.text.rpartition(".")[0]))
        payload.open_passport(jws(msg, '{"alg":"Ed25519","kid":"%s","typ":"passport+jwt"}' % KID), 4096)
        head, body, sig = good.text.split(".")
        none, other = '{"alg":"none","kid":"%s","typ":"passport+jwt"}', '{"alg":"EdDSA","kid":"%s","typ":"JWT"}'
        for text, code in (
            (jws(msg, none % KID).text, "bad_alg"), (jws(msg, other % KID).text, "malformed"),
            (jws(msg, '{"typ":"passport+jwt","kid":"%s","alg":"EdDSA"}' % KID).text, "malformed"),
            (jws(msg, '{"alg":"EdDSA","kid":"%s","typ":"passport+jwt"}' % OTHER_KID).text, "bad_kid"),
            (f"{head}.{body}", "malformed"), (f"{head}.{body}.{sig}=", "malformed"), (f"{head}.{body}.{sig}.", "malformed"),
            (f"{head}.{body}.{sig[:-1]}", "malformed"), (f"{head}.{body}\n.{sig}", "malformed"), ("", "malformed"),
            (f"{head}.{body}.{sig}é", "malformed"), ("x" * 22_163, "too_large"), (f"{head}.{'A' * 6000}.{sig}", "too_large"),
            (f"{head}.{body}.{sig[:-1]}{'B' if sig[-1] != 'B' else 'C'}", "malformed"), ("\ud800", "malformed"),
        ):  # fmt: skip
            with self.assertRaises(payload.Refusal, msg=text) as caught:
                payload.open_passport(p.Jws(text), 4096)
            self.assertEqual(caught.exception.code.value, code, text)


class FakeClient:
    """A daemon that answers as it is told."""

    def __init__(self, path: str, **_: Any) -> None:
        self.page = p.RevocationPage(None, (), (), 0, (), None)
        self.keys_ = {KID: SIGNER.public, OTHER_KID: OTHER.public}
        self.welcome = p.Welcome(1, "fake", "test", p.Limits(1 << 20, 4096, 512, 256))
        self.answers: List[Any] = []
        self.asked: List[Any] = []
        self.down: Optional[Exception] = None
        self.looks = 0
        self.came = threading.Condition()

    def tell(self, *answers: Any) -> None:
        with self.came:
            self.answers += answers
            self.came.notify_all()

    def watch(self, after: Any, topics: Sequence[p.Topic], wait_ms: int) -> Any:
        with self.came:
            self.asked.append(after)
            if after is None:
                return p.Begin(cursor(0))
            self.came.wait_for(lambda: self.answers or self.down, wait_ms / 1000)
            if self.down:
                raise self.down
            answer = self.answers.pop(0) if self.answers else p.Events((), after)
            return answer

    def keys(self, if_etag: Optional[bytes]) -> Any:
        keys = [
            {"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": p._to_base64url(public)}
            for kid, public in self.keys_.items()
        ]
        document = json.dumps({"keys": keys}).encode()
        etag = hashlib.sha256(document).digest()
        return p.NotModified(60) if etag == if_etag else p.KeySet(etag, 60, document)

    def revocations(self, after: Optional[bytes]) -> p.RevocationPage:
        self.looks += 1
        return self.page

    def interrupt(self) -> None:
        self.tell(p.Events((), cursor(9)))

    def close(self) -> None:
        pass


def cursor(seq: int) -> p.Cursor:
    return p.Cursor(bytes(16), bytes(32), seq)


def events(*whats: Any, tenant: Optional[str] = "t1") -> p.Events:
    at = time.time_ns() // 1_000_000
    return p.Events(tuple(p.Event(n, at, tenant, what) for n, what in enumerate(whats)), cursor(len(whats)))


class Verdicts(unittest.TestCase):
    def start(self, page: Optional[p.RevocationPage] = None, **options: Any) -> v.Verifier:
        def client(*arguments: Any, **names: Any) -> FakeClient:
            fake = FakeClient(*arguments, **names)
            fake.page = page or fake.page
            return fake

        options = {"audience": "orders", "skew_s": 3, "stale_after_s": 0.5, **options}
        with mock.patch.object(v, "Client", client):
            verifier = v.Verifier("nowhere", **options)
        verifier._clock.now = lambda: NOW * 1_000_000  # type: ignore[method-assign]
        self.addCleanup(verifier.close)
        return verifier

    def fake(self, verifier: v.Verifier) -> FakeClient:
        return verifier._client  # type: ignore[return-value]

    def said(self, verifier: v.Verifier, passport: p.AnyPassport) -> str:
        verdict = verifier.verify(passport, scopes=["read"])
        return verdict.reason.value if isinstance(verdict, p.Refused) else "accepted"

    def until(self, what: Any) -> None:
        end = time.monotonic() + 10
        while not what():
            self.assertLess(time.monotonic(), end, "it does not come about")
            time.sleep(0.005)

    def unfed(self, verifier: v.Verifier) -> bool:
        try:
            verifier.check_fed()
        except v.Unfed:
            return True
        return False

    def test_each_code_in_its_order(self) -> None:
        verifier = self.start()
        for expected, changes in (
            ("accepted", {}), ("accepted", {"exp": NOW - 2, "iat": NOW - 9}), ("expired", {"exp": NOW - 3, "iat": NOW - 9}),
            ("accepted", {"nbf": NOW + 3}), ("nbf", {"nbf": NOW + 4}), ("expired", {"exp": NOW, "iat": NOW}),
            ("expired", {"nbf": NOW + 60}), ("bad_aud", {"aud": []}), ("bad_aud", {"aud": ["order", "orderss"]}),
            ("scope_denied", {"scopes": ["reads"]}), ("unknown_kid", {"iss": "other"}), ("unknown_kid", {"iss": "other", "exp": 0}),
            ("expired", {"aud": [], "exp": NOW - 3, "iat": 0}), ("bad_aud", {"aud": [], "scopes": []}),
            ("needs_daemon", {"cap": {"limit": 1, "template": "demo"}}), ("needs_daemon", {"nonce": "n"}),
            ("needs_daemon", {"par": {"iat": 1, "jti": "j", "kid": KID}}), ("needs_daemon", {"cnf": {"uid": 1}}),
            ("needs_daemon", {"cnf": {"jkt": "A" * 43}}), ("bad_aud", {"aud": [], "nonce": "n"}),
            ("needs_daemon", {"par": {"iat": 1, "jti": "j", "kid": KID}, "exp": NOW - 1, "iat": NOW - 9}),
            ("expired", {"par": {"iat": 1, "jti": "j", "kid": KID}, "exp": NOW - 2, "iat": NOW - 9}),
        ):  # fmt: skip
            msg = canonical(claims(**changes))
            for passport in (signed(msg), jws(msg)):
                self.assertEqual(self.said(verifier, passport), expected, changes)
            forged = self.said(verifier, signed(msg, OTHER))
            # What must be proven is the daemon's before its signature is looked at; all else is not, when it is forged.
            leaves = expected != "needs_daemon" or "cnf" in changes
            self.assertEqual(forged, expected if leaves and expected != "accepted" else "verify_failed", changes)
        good = signed(canonical(claims()))
        for expected, changed in (
            ("bad_alg", {"alg": "none", "sig": b""}), ("malformed", {"sig": good.sig[:63], "kid": "x"}), ("bad_kid", {"kid": OTHER_KID}),
            ("too_large", {"msg": b"x" * 4097, "alg": "none"}), ("malformed", {"msg": b"{}", "kid": "x"}),
        ):  # fmt: skip
            self.assertEqual(self.said(verifier, dataclasses.replace(good, **changed)), expected)
        other = "ed25519/t1/auth/v7"
        self.assertEqual(self.said(verifier, signed(canonical(claims(kid=other)), SIGNER, other)), "unknown_kid")
        self.assertEqual(verifier.verify(good), p.Accepted(NOW + 60))
        self.assertEqual(verifier.verify_batch([good, good], "x"), [p.Refused(p.Code.BAD_AUD)] * 2)
        self.assertEqual(self.said(self.start(audience=None), good), "bad_aud")

    def test_what_is_revoked_by_pages_and_by_events(self) -> None:
        good = signed(canonical(claims()))
        other = signed(canonical(claims(kid=OTHER_KID)), OTHER, OTHER_KID)
        id_, subject = p.What.RevokedId("j0", NOW + 99), p.What.RevokedSubject("alice", NOW, NOW + 99)
        page = p.RevocationPage(None, (), (), 0, (), None)
        for changed, event in (
            ({"revoked": (p.Standing("t1", id_),)}, id_),
            ({"revoked": (p.Standing("t1", subject),)}, subject),
            ({"epochs": (p.TenantEpoch("t1", 1),)}, p.What.Epoch(1)),
            ({"compromised": (KID,)}, p.What.RevokedKey(KID)),
        ):
            looked = self.start(dataclasses.replace(page, **changed))
            self.assertEqual((self.said(looked, good), self.said(looked, other)), ("revoked", "accepted"), event)
            verifier = self.start()
            self.assertEqual(self.said(verifier, good), "accepted")
            self.fake(verifier).tell(events(event))
            self.until(lambda: self.said(verifier, good) == "revoked")
            self.assertEqual(self.said(verifier, other), "accepted", event)
            self.assertEqual((verifier.revocations, looked.revocations), (1, 1))
        # A ticket goes with what it was made from, by that one's id, time and key, though another key signed it.
        older = "ed25519/t1/auth/v9"
        par = {"iat": NOW - 50, "jti": "parent", "kid": older}
        ticket = signed(canonical(claims(jti="t0", par=par)))
        before = p.What.RevokedSubject("alice", NOW - 50, NOW + 99)
        for changed in (
            {"revoked": (p.Standing("t1", p.What.RevokedId("parent", NOW + 99)),)},
            {"revoked": (p.Standing("t1", before),)},
            {"compromised": (older,)},
        ):
            self.assertEqual(self.said(self.start(dataclasses.replace(page, **changed)), ticket), "revoked", changed)
        sooner = p.What.RevokedSubject("alice", NOW - 51, NOW + 99)
        for one in (page, dataclasses.replace(page, revoked=(p.Standing("t1", sooner),))):
            self.assertEqual(self.said(self.start(one), ticket), "needs_daemon")
        earlier = p.What.RevokedSubject("alice", NOW - 1, NOW + 99)
        self.assertEqual(self.said(self.start(dataclasses.replace(page, revoked=(p.Standing("t1", earlier),))), good), "accepted")
        floor = self.start(dataclasses.replace(page, floor=1))
        self.assertEqual((self.said(floor, good), self.said(floor, other)), ("revoked", "revoked"))

    def test_of_tenants_of_which_nothing_is_heard_nothing_is_accepted(self) -> None:
        verifier = self.start(p.RevocationPage(("t2",), (), (), 0, (), None))
        self.assertEqual(self.said(verifier, signed(canonical(claims()))), "needs_daemon")
        self.assertEqual(self.said(verifier, signed(canonical(claims()), OTHER)), "verify_failed")
        self.assertEqual(self.said(verifier, signed(canonical(claims(kid=OTHER_KID)), OTHER, OTHER_KID)), "accepted")

    def test_what_comes_while_a_signature_is_verified_counts(self) -> None:
        verifier = self.start()
        good, fake = signed(canonical(claims())), self.fake(verifier)
        key = verifier._fed.keys.keys[KID][1]  # type: ignore[union-attr]

        def slow(message: bytes, signature: bytes) -> bool:
            fake.tell(events(p.What.RevokedId("j0", NOW + 9)))
            self.until(lambda: verifier.revocations)
            return True

        with mock.patch.object(key, "verify", slow):
            self.assertEqual(self.said(verifier, good), "revoked")

    def test_a_slow_watcher_looks_at_everything_again(self) -> None:
        verifier = self.start()
        fake, good = self.fake(verifier), signed(canonical(claims()))
        fake.page = dataclasses.replace(fake.page, compromised=(KID,))
        fake.tell(p.Lagged(7, cursor(5)))
        self.until(lambda: self.said(verifier, good) == "revoked")
        self.assertEqual(fake.looks, 2)
        self.until(lambda: cursor(5) in fake.asked)

    def test_new_keys_are_asked_for_and_wrong_ones_are_not_taken(self) -> None:
        verifier = self.start()
        fake, kid = self.fake(verifier), "ed25519/t1/auth/v2"
        new = signed(canonical(claims(kid=kid)), OTHER, kid)
        self.assertEqual(self.said(verifier, new), "unknown_kid")
        old = verifier._fed.keys.keys[KID][1]  # type: ignore[union-attr]
        fake.keys_[kid] = OTHER.public
        fake.tell(events(p.What.Key(kid, "active")))
        self.until(lambda: self.said(verifier, new) == "accepted")
        self.assertIs(verifier._fed.keys.keys[KID][1], old)  # type: ignore[union-attr]
        fake.keys_["ed25519/t1/auth/v3"] = bytes(32)
        fake.tell(*[events(p.What.Key(kid, "active"))] * 500)
        self.until(lambda: self.unfed(verifier))
        with self.assertRaisesRegex(v.Unfed, "keys can't be used"):
            verifier.verify(new)

    def test_unheard_of_there_is_no_verdict_and_it_comes_back(self) -> None:
        verifier = self.start()
        fake, good = self.fake(verifier), signed(canonical(claims()))
        self.assertEqual(self.said(verifier, good), "accepted")
        fake.down = p.Lost("gone")
        began = time.monotonic()
        self.until(lambda: self.unfed(verifier))
        self.assertLess(time.monotonic() - began, 2)
        with self.assertRaisesRegex(v.Unfed, "not heard of for 500 ms.*gone"):
            verifier.verify(good)
        fake.down = None
        self.until(lambda: not self.unfed(verifier))
        self.assertEqual(self.said(verifier, good), "accepted")
        verifier.close()
        with self.assertRaisesRegex(v.Unfed, "closed"):
            verifier.verify(good)
        self.assertFalse(verifier._thread.is_alive())

    def test_old_events_do_not_make_it_fresh(self) -> None:
        verifier = self.start()
        fake = self.fake(verifier)
        late = dataclasses.replace(events(p.What.Epoch(0)).events[0], at_ms=time.time_ns() // 1_000_000 - 60_000)
        fake.tell(*[p.Events((late,), cursor(1))] * 1_000_000)
        self.until(lambda: self.unfed(verifier))
        fake.answers.clear()
        self.until(lambda: not self.unfed(verifier))

    def test_more_than_may_be_kept_is_no_verdict(self) -> None:
        verifier = self.start(max_revocations=2, stale_after_s=60)  # At once, and not when the time is over.
        for n in range(3):
            self.fake(verifier).tell(events(p.What.RevokedId(f"x{n}", NOW + 9)))
        self.until(lambda: self.unfed(verifier))
        self.assertLessEqual(verifier.revocations, 2)
        with self.assertRaisesRegex(v.Unfed, "raise max_revocations"):
            verifier.check_fed()

    def test_what_has_gone_is_swept(self) -> None:
        revoked = fed.Revoked(3)
        for n in range(3):
            revoked.apply(p.Event(n, 0, "t1", p.What.RevokedId(str(n), NOW + n)))
        with self.assertRaises(fed.TooMany):
            revoked.apply(p.Event(4, 0, "t1", p.What.RevokedId("4", NOW)))
        revoked.sweep(NOW + 1)
        self.assertEqual(len(revoked), 1)
        with self.assertRaises(p.WireError):
            revoked.apply(p.Event(5, 0, None, p.What.RevokedId("5", NOW)))

    def test_the_time_never_goes_back(self) -> None:
        wall = [NOW * 1_000_000]
        clock = fed.Clock(lambda: wall[0])
        self.assertEqual(clock.now(), wall[0])
        wall[0] += 100_000_000
        clock.tick()
        for back in (50, 5000, 500_000):
            wall[0] = (NOW + 100 - back) * 1_000_000
            clock.tick()
            self.assertGreaterEqual(clock.now(), (NOW + 100) * 1_000_000)
        wall[0] = (NOW + 100_000) * 1_000_000
        self.assertEqual(clock.now(), wall[0], "what is ahead lets nothing live longer")

    def test_key_sets_that_are_none(self) -> None:
        good = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": KID, "x": p._to_base64url(SIGNER.public)}
        read = lambda *keys: fed.read_keys(p.KeySet(b"", 1, json.dumps({"keys": keys}).encode()), True, None)  # noqa: E731
        self.assertEqual(list(read({**good, "alg": "EdDSA", "other": 1, "created": 5, "current": True}).keys), [KID])
        for bad in (
            {"kty": "RSA"}, {"crv": "X25519"}, {"use": "enc"}, {"alg": "ES256"}, {"d": "x"}, {"kid": "x"}, {"x": good["x"] + "="},
            {"created": -1}, {"current": 1}, {"x": p._to_base64url(bytes(32))}, {"x": p._to_base64url(bytes(31))}, {"kid": 1},
        ):  # fmt: skip
            with self.assertRaises(fed.BadKeys, msg=str(bad)):
                read({**good, **bad})
        for wrong in ((good, good), ([],)):
            with self.assertRaises(fed.BadKeys):
                read(*wrong)
