"""Tests of passportd.py: every vector of docs/WIRE.md, and a daemon made of a socket and a thread.

Run with `python3 -m unittest` in this directory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import random
import socket
import tempfile
import threading
import time
import unittest
from dataclasses import make_dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from unittest import mock

import passportd as p

SPECIFICATION = pathlib.Path(__file__).resolve().parents[2] / "docs" / "WIRE.md"

PASSPORT = p.Passport("Ed25519", "ed25519/t1/auth/v1", b'{"iss":"x"}', b"\xaa" * 64)
CURSOR = p.Cursor(b"l" * 16, b"w" * 32, 7)
JWS = p.Jws("eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ4In0.AA")
Array32 = p.Array(32)
LIMITS = p.Limits(max_frame=1 << 20, max_msg_bytes=4096, max_batch=512, max_in_flight=256)


def struct(name: str, /, **fields: p.Codec) -> p.Struct:
    return p.Struct(make_dataclass(name, list(fields)), **fields)


def enum_of(*names: str) -> p.EnumOf:
    return p.EnumOf(*[struct(name) for name in names])


def link() -> Dict[str, p.Codec]:
    """Section 14, which no client needs: that it can be read from the specification is worth a test all the same."""
    key = struct(
        "LinkKey", kid=p.STR, role=enum_of("Passport", "Audit", "Seal"), public=Array32, usable=p.BOOL, problem=p.STR
    )
    stats = struct(
        "LinkStats", signatures=p.U64, refused=p.U64, queued=p.U32, stuck=p.U32, rss_kib=p.U64, cpu_us=p.U64
    )
    health = struct(
        "LinkHealth",
        boot_id=p.U64,
        sessions=p.U32,
        limit=p.U32,
        stuck=p.U32,
        max_stuck=p.U32,
        down=p.BOOL,
        rung=p.STR,
        ladder=p.ListOf(p.U64),
        refused=p.ListOf(p.U64),
        bad_signatures=p.U64,
        rss_kib=p.U64,
        rss_base_kib=p.U64,
        recycles_at_kib=p.U64,
    )
    count = struct("LinkCount", kid=p.STR, count=p.U64)
    refusal = enum_of(*[f"Refusal{n}" for n in range(19)])
    welcome = struct("LinkWelcome", wire=p.U8, sessions=p.U32, module=p.STR, token=p.STR, boot_id=p.U64)
    result = p.EnumOf(
        struct("Signed", sig=p.Array(64)),
        struct("Probed", challenge=Array32, sig=p.Array(64)),
        struct("Keys", keys=p.ListOf(key)),
        struct("Reinitialised", keys=p.ListOf(key)),
        struct("Stats", stats=stats),
        struct("Refused", refusal=refusal),
        struct("Health", health=health),
        struct("Leaving"),
        struct("Sealed", kid=p.STR, blob=p.BYTES),
        struct("Unsealed", kid=p.STR, plain=p.BYTES),
        struct("Counts", snapshot=p.U64, signed=p.ListOf(count)),
        struct("Checkpointed", text=p.STR, sig=p.Array(64)),
        struct("Attested", sig=p.Array(64)),
    )
    op = p.EnumOf(
        struct("Sign", payload=p.BYTES),
        struct("Probe", kid=p.STR),
        struct("Keys"),
        struct("Reinitialise"),
        struct("Stats"),
        struct("Health"),
        struct("Seal", namespace=p.STR, name=p.STR, plain=p.BYTES),
        struct("Unseal", namespace=p.STR, name=p.STR, blob=p.BYTES),
        struct("Counts"),
        struct(
            "Checkpoint",
            kid=p.STR,
            snapshot=p.U64,
            size=p.U64,
            root=Array32,
            head=Array32,
            recorded=p.ListOf(count),
        ),
        struct("Attest", kid=p.STR, document=p.BYTES),
    )
    hello = struct("LinkHello", wire=p.U8, issuer=p.STR)
    front = struct("LinkFront", id=p.U64, newest=p.U64)
    return {
        "LinkHello": hello,
        "LinkAmnesia": struct("LinkAmnesia", hello=hello, front=front),
        "LinkGreeting": p.EnumOf(struct("Welcome", welcome=welcome), struct("Refused", text=p.STR)),
        "LinkRequest": struct("LinkRequest", id=p.U64, op=op),
        "LinkReply": struct("LinkReply", id=p.U64, result=result),
    }


CODECS = {
    "Hello": p.HELLO,
    "Greeting": p.GREETING,
    "Request": p.REQUEST,
    "Reply": p.REPLY,
    "AdminRequest": p.ADMIN_REQUEST,
    "AdminReply": p.ADMIN_REPLY,
    **link(),
}


def blocks(language: str) -> Iterator[Tuple[str, str, bytes]]:
    """Title, second line and frame of everything in the fenced blocks of `language`."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    for block in text.split(f"```{language}\n")[1:]:
        for entry in block.split("```")[0].strip().split("\n\n"):
            title, said, frame = (line.strip() for line in entry.split("\n"))
            yield title, said, bytes.fromhex(frame)


class Vectors(unittest.TestCase):
    """docs/WIRE.md, section 13 and 14."""

    def test_every_vector_is_read_and_written_again(self) -> None:
        seen = set()
        for title, _, frame in blocks("vectors"):
            with self.subTest(title):
                body = p.split_frame(frame)
                self.assertEqual(len(body) + p.HEADER, len(frame))
                codec = CODECS[title.split(" ")[0]]
                self.assertEqual(p.encode_frame(codec, p.decode_body(codec, body)), frame)
            seen.add(title)
        self.assertGreater(len(seen), 110)
        self.assertEqual({title.split(" ")[0] for title in seen}, set(CODECS))

    def test_values_are_what_the_vectors_say(self) -> None:
        frames = {title: frame for title, _, frame in blocks("vectors")}

        def value(title: str) -> Any:
            return p.decode_body(CODECS[title.split(" ")[0]], frames[title][p.HEADER :])

        self.assertEqual(value("Greeting welcome"), p.Welcome(1, "passportd/0.1.0", "passportd.example", LIMITS))
        self.assertEqual(value("Request ping-id-18446744073709551615").id, 2**64 - 1)
        spec = value("Request issue").op.spec
        self.assertEqual((spec.aud, spec.nbf, spec.ctx), (("api", "mail"), 1_700_000_000, '{"city":"Århus"}'))
        self.assertEqual(value("Request issue-negative-nbf").op.spec.nbf, -1)
        self.assertEqual(value("Reply whoami-nobody").result.value.pid, -1)
        self.assertEqual(value("Reply verdicts").result.value[0], p.Accepted(2**53 - 1))
        self.assertEqual(value("Reply consumed").result.value, p.Consumed(1_700_003_600, 2, False))
        self.assertEqual(value("Request verify-with-dpop-least").op.proof.nonce, None)
        self.assertEqual(value("Reply introspected-refused").result.value.reason, p.Code.BAD_KID)
        problem = value("Reply problem-retry").result
        self.assertEqual((problem.code, problem.may_retry, problem.retry_after_ms), (p.Code.BUSY, True, 1000))
        for code in p.Code:
            self.assertEqual(value(f"Reply refused-{code.value}").result.value, p.Refused(code))

    def test_every_bad_frame_is_refused(self) -> None:
        count = 0
        for title, said, frame in blocks("refused"):
            with self.subTest(title), self.assertRaises(p.WireError):
                body = p.split_frame(frame)
                self.assertIsNotNone(body, said)
                p.decode_body(CODECS[title.split(" ")[0]], body)
            count += 1
        self.assertGreater(count, 25)

    def test_every_cut_and_every_extra_byte_is_refused(self) -> None:
        for title, _, frame in blocks("vectors"):
            codec, body = CODECS[title.split(" ")[0]], frame[p.HEADER :]
            for n in range(len(body)):
                with self.assertRaises(p.WireError, msg=f"{title} cut at {n}"):
                    p.decode_body(codec, body[:n])
            with self.assertRaises(p.WireError, msg=title):
                p.decode_body(codec, body + b"\0")

    def test_random_bytes_raise_nothing_else(self) -> None:
        chance = random.Random(7)
        for _ in range(5_000):
            first = chance.choices([0, 1, 2, 250, 251, 252, 253, 254, 255], k=chance.randrange(1, 40))
            codec = CODECS[chance.choice(list(CODECS))]
            body = bytes([1] + first)
            with contextlib.suppress(p.WireError):
                self.assertEqual(p.encode_frame(codec, p.decode_body(codec, body))[p.HEADER :], body)

    def test_values_that_do_not_fit_are_refused(self) -> None:
        for codec, value in [
            (p.U32, 1 << 32),
            (p.U32, -1),
            (p.U64, 1 << 64),
            (p.I32, 1 << 31),
            (p.I64, -(1 << 63) - 1),
            (p.U8, 256),
            (p.U32, "7"),
            (p.U32, True),
            (p.STR, b"bytes"),
            (p.STR, "\ud800"),
            (p.BYTES, "text"),
            (Array32, b"short"),
            (p.ListOf(p.STR), "text"),
            (p.HELLO, LIMITS),
            (p.GREETING, LIMITS),
        ]:
            with self.subTest(value=value), self.assertRaises(p.WireError):
                codec.write(bytearray(), value)
        with self.assertRaises(p.WireError):
            p.encode_frame(p.BYTES, bytes(p.MAX_FRAME))

    def test_numbers_come_back(self) -> None:
        edges = [0, 1, 250, 251, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
        ranges = [(p.U32, 0, 2**32), (p.U64, 0, 2**64), (p.I32, -(2**31), 2**31), (p.I64, -(2**63), 2**63)]
        for codec, low, high in ranges:
            for value in [edge * sign for edge in edges for sign in (1, -1)] + [low, high - 1]:
                if low <= value < high:
                    out = bytearray()
                    codec.write(out, value)
                    self.assertEqual(codec.read(p.Reader(bytes(out))), value)


class Json(unittest.TestCase):
    """docs/WIRE.md, section 11."""

    def test_there_and_back(self) -> None:
        text = PASSPORT.to_json()
        self.assertTrue(text.startswith('{"alg":"Ed25519","kid":"ed25519/t1/auth/v1","msg_b64":"eyJ'))
        self.assertEqual(p.Passport.from_json(text), PASSPORT)
        self.assertEqual(PASSPORT.claims, {"iss": "x"})

    def test_other_spellings_are_refused(self) -> None:
        good = PASSPORT.to_dict()
        for member, text in [
            ("msg_b64", "AA=="),
            ("msg_b64", "A+/A"),
            ("msg_b64", "AA AA"),
            ("msg_b64", "AAAA\n"),
            ("msg_b64", "AB"),
            ("msg_b64", "AAAAA"),
            ("sig_b64", 7),
            ("kid", None),
            ("more", "x"),
        ]:
            with self.subTest(member=member, text=text), self.assertRaises(ValueError):
                p.Passport.from_dict({**good, member: text})
        for text in ["[]", "{}", '{"alg":1}', PASSPORT.to_json()[:-1] + ',"alg":"Ed25519"}']:
            with self.subTest(text), self.assertRaises(ValueError):
                p.Passport.from_json(text)


class Daemon:
    """A daemon of a few lines: `serve` gets each connection, greeted."""

    def __init__(self, serve: Callable[[Peer], None], greeting: Any = None) -> None:
        self.path = os.path.join(tempfile.mkdtemp(), "sock")
        self.connections = 0
        self.errors: List[BaseException] = []
        self._serve = serve
        self._greeting = greeting or p.Welcome(1, "fake/1", "x", LIMITS)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                try:
                    peer = Peer(connection)
                    if not isinstance(self._greeting, p.Problem):
                        self.hello = p.decode_body(p.HELLO, peer.body())
                    peer.send(p.GREETING, self._greeting)
                    if not isinstance(self._greeting, p.Problem):
                        self._serve(peer)
                except EOFError:
                    pass
                except BaseException as error:  # pylint: disable=broad-except
                    self.errors.append(error)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing a listener does not wake accept(); shutting it down does.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        os.unlink(self.path)
        os.rmdir(os.path.dirname(self.path))
        if self.errors:
            raise self.errors[0]


class Peer:
    """The daemon's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection

    def _take(self, n: int) -> bytes:
        taken = b""
        while len(taken) < n:
            part = self.socket.recv(n - len(taken))
            if not part:
                raise EOFError
            taken += part
        return taken

    def body(self) -> bytes:
        return self._take(int.from_bytes(self._take(4), "big"))

    def request(self) -> p.Request:
        return p.decode_body(p.REQUEST, self.body())

    def send(self, codec: p.Codec, value: Any) -> None:
        self.socket.sendall(p.encode_frame(codec, value))

    def reply(self, id_: int, result: Any) -> None:
        self.send(p.REPLY, p.Reply(id_, result))


def answer(op: Any) -> Any:
    """What this daemon says: a passport is good if its sig starts with 0xaa."""
    if isinstance(op, p.ServiceOp.Verify):
        return p.ServiceOk.Verdict(judge(op.passport))
    if isinstance(op, p.ServiceOp.VerifyBatch):
        return p.ServiceOk.Verdicts([judge(one) for one in op.items])
    if isinstance(op, p.ServiceOp.Issue):
        if op.spec.form is p.Form.JWS:
            return p.ServiceOk.Issued(p.IssuedJws(JWS.text))
        return p.ServiceOk.Issued(p.Issued("k", op.spec.sub.encode(), bytes(64)))
    if isinstance(op, p.ServiceOp.IssueBatch):
        return p.ServiceOk.IssuedBatch([p.Issued("k", one.sub.encode(), bytes(64)) for one in op.specs])
    if isinstance(op, p.ServiceOp.Keys):
        if op.if_etag == b"e" * 32:
            return p.ServiceOk.KeysNotModified(p.NotModified(60))
        return p.ServiceOk.Keys(p.KeySet(b"e" * 32, 60, b'{"keys":[]}'))
    if isinstance(op, p.ServiceOp.Seal):
        return p.ServiceOk.Sealed(b"PSB1" + op.plain)
    if isinstance(op, p.ServiceOp.Unseal):
        return p.ServiceOk.Unsealed(op.blob[4:])
    if isinstance(op, p.ServiceOp.Revoke):
        return p.ServiceOk.Revoked(op.passport.sig != bytes(64))
    if isinstance(op, p.ServiceOp.VerifyWith):
        if op.proof is not None:
            return p.ServiceOk.Verdict(p.Unproven(op.proof.proof))
        return p.ServiceOk.Verdict(p.Consumed(99, 2, op.retry is not None))
    if isinstance(op, p.ServiceOp.Watch):
        if op.after is None:
            return p.ServiceOk.Watched(p.Begin(CURSOR))
        what = p.What.Epoch(op.wait_ms)
        return p.ServiceOk.Watched(p.Events([p.Event(8, 5, "t1", what)], replace(op.after, seq=8)))
    if isinstance(op, p.ServiceOp.Revocations):
        last = op.after is not None
        page = p.RevocationPage(["t1"], [p.Standing("t1", p.What.RevokedId("j", 9))], [], 2, [], None if last else b"n")
        return p.ServiceOk.Revocations(page)
    if isinstance(op, p.ServiceOp.Exchange):
        if op.spec.aud == "other":
            return p.ServiceOk.Exchanged(p.Refused(p.Code.BAD_AUD))
        ticket = p.Issued("k", op.spec.aud.encode(), bytes(64))
        return p.ServiceOk.Exchanged(p.Ticket(ticket, 99, 2, op.retry is not None))
    if isinstance(op, p.ServiceOp.Challenge):
        return p.ServiceOk.Challenge(p.Challenge("n", 60))
    if isinstance(op, p.ServiceOp.Introspect):
        return p.ServiceOk.Introspection(p.Introspection(True, None, op.passport.msg))
    if isinstance(op, p.ServiceOp.Version):
        return p.ServiceOk.Version(p.VersionInfo("fake/1", 1, "x"))
    if isinstance(op, p.ServiceOp.WhoAmI):
        return p.ServiceOk.WhoAmI(p.Identity(1, 2, 3, [4], "service", [], [], [], []))
    if isinstance(op, p.ServiceOp.Health):
        return p.ServiceOk.Health(p.Health(True, True, [p.Condition("hsm", True, "")]))
    return p.ServiceOk.Pong()


def judge(passport: p.Passport) -> p.Verdict:
    return p.Accepted(99) if passport.sig[:1] == b"\xaa" else p.Refused(p.Code.VERIFY_FAILED)


def in_order(peer: Peer) -> None:
    while True:
        request = peer.request()
        peer.reply(request.id, answer(request.op))


class Calls(unittest.TestCase):
    """docs/WIRE.md, section 10."""

    def test_every_operation(self) -> None:
        bad = p.Passport(PASSPORT.alg, PASSPORT.kid, PASSPORT.msg, bytes(64))
        with Daemon(in_order) as daemon, p.Client(daemon.path, name="test/1") as client:
            client.ping()
            self.assertEqual(client.version().server, "fake/1")
            self.assertEqual(client.whoami().uid, 1)
            self.assertTrue(client.health().conditions[0].ok)
            self.assertEqual(client.issue("demo", "alice", ctx={"a": 1}).msg, b"alice")
            self.assertEqual(client.verify(PASSPORT, "api", ["read"]), p.Accepted(99))
            self.assertEqual(client.verify(bad), p.Refused(p.Code.VERIFY_FAILED))
            self.assertEqual(client.verify_with(PASSPORT), p.Consumed(99, 2, False))
            self.assertEqual(client.verify_with(PASSPORT, retry=bytes(16)), p.Consumed(99, 2, True))
            unproven = client.verify_with(PASSPORT, proof=p.Dpop("x", "GET", "https://api.example/"))
            self.assertEqual((unproven, unproven.accepted, unproven.reason), (p.Unproven("x"), False, p.Code.POP_INVALID))
            self.assertEqual(client.challenge(), p.Challenge("n", 60))
            ticket = client.exchange(PASSPORT, "api", ["read"], retry=bytes(16))
            self.assertEqual((ticket.ticket.msg, ticket.left, ticket.repeated), (b"api", 2, True))
            self.assertEqual(client.exchange(PASSPORT, "other"), p.Refused(p.Code.BAD_AUD))
            self.assertEqual(client.watch(), p.Begin(CURSOR))
            told = client.watch(CURSOR, [p.Topic.EPOCHS], wait_ms=300)
            event = p.Event(8, 5, "t1", p.What.Epoch(300))
            self.assertEqual(told, p.Events((event,), replace(CURSOR, seq=8)))
            self.assertEqual(client.revocations().next, b"n")
            self.assertIsNone(client.revocations(b"n").next)
            self.assertEqual([one.accepted for one in client.verify_batch([PASSPORT, bad])], [True, False])
            self.assertEqual(client.verify_batch([]), [])
            self.assertTrue(client.introspect(PASSPORT).active)
            keys = client.keys()
            self.assertEqual(client.keys(keys.etag), p.NotModified(60))
            self.assertEqual((daemon.connections, daemon.hello), (1, p.Hello(1, "test/1")))
            self.assertEqual(client.welcome.limits, LIMITS)

    def test_either_form(self) -> None:
        with Daemon(in_order) as daemon, p.Client(daemon.path) as client:
            passport = client.issue("demo", "alice", form=p.Form.JWS)
            self.assertEqual((passport, passport.claims), (JWS, {"iss": "x"}))
            with mock.patch(f"{__name__}.judge", lambda one: p.Accepted(7 if one == JWS else 8)):
                self.assertEqual(client.verify(JWS), p.Accepted(7))
                self.assertEqual(client.verify_batch([PASSPORT, JWS]), [p.Accepted(8), p.Accepted(7)])
        self.assertEqual(p._read_passports(f" {JWS.text}\n"), (False, [JWS]))
        both = json.dumps({"items": [JWS.text, PASSPORT.to_dict()]})
        self.assertEqual(p._read_passports(both), (True, [JWS, PASSPORT]))
        for bad in ("eyJ", "a.b", "e30.AA==.AA", "e30.W10.AA"):
            with self.assertRaises(ValueError):
                p.Jws(bad).claims
        # What a reply takes at most: a longer part of a batch would be refused.
        self.assertEqual(p._issued_size(p.Form.ENVELOPE, 4096), 4096 + 208)
        self.assertEqual(p._issued_size(p.Form.JWS, 4096), 5464 + 340)

    def test_batches_are_split_by_count_and_by_bytes(self) -> None:
        sizes = []

        def serve(peer: Peer) -> None:
            while True:
                request = peer.request()
                sizes.append(len(getattr(request.op, "items", None) or request.op.specs))
                peer.reply(request.id, answer(request.op))

        with Daemon(serve) as daemon, p.Client(daemon.path) as client:
            self.assertEqual(len(client.verify_batch([PASSPORT] * 1200)), 1200)
            self.assertEqual(sizes, [512, 512, 176])
            sizes.clear()
            large = p.Passport("Ed25519", "k", bytes(300_000), b"\xaa" * 64)
            self.assertEqual(len(client.verify_batch([large] * 5)), 5)
            self.assertEqual(sizes, [3, 2])
            sizes.clear()
            issued = client.issue_batch([p.IssueSpec("demo", str(n)) for n in range(600)])
            self.assertEqual([one.msg for one in issued], [str(n).encode() for n in range(600)])
            self.assertEqual(sizes, [242, 242, 116])

    def test_answers_out_of_order_find_their_requests(self) -> None:
        def backwards(peer: Peer) -> None:
            while True:
                requests = [peer.request() for _ in range(50)]
                peer.reply(999_999, p.ServiceOk.Pong())  # Of a call that was given up long ago.
                for request in reversed(requests):
                    peer.reply(request.id, answer(request.op))

        ops = [p.ServiceOp.Issue(p.IssueSpec("demo", str(n))) for n in range(50)]
        with Daemon(backwards) as daemon, p.Client(daemon.path) as client:
            for _ in range(3):
                answers = client.pipeline(ops)
                self.assertEqual([one.value.msg for one in answers], [str(n).encode() for n in range(50)])

    def test_a_daemon_that_writes_before_it_reads_on_does_not_deadlock(self) -> None:
        # Each request and each reply is larger than any socket buffer, and the daemon never reads while it writes.
        passport = p.Passport("Ed25519", "k", bytes(900_000), b"\xaa" * 64)
        with Daemon(in_order) as daemon, p.Client(daemon.path, timeout=30) as client:
            answers = client.pipeline([p.ServiceOp.Introspect(p.Want(), passport)] * 8)
            self.assertEqual([len(one.value.claims) for one in answers], [900_000] * 8)

    def test_a_problem_among_answers_is_returned_and_alone_is_raised(self) -> None:
        def serve(peer: Peer) -> None:
            while True:
                request = peer.request()
                busy = p.Problem(p.Code.BUSY, "too much", True, 5)
                peer.reply(request.id, busy if isinstance(request.op, p.ServiceOp.Health) else answer(request.op))

        with Daemon(serve) as daemon, p.Client(daemon.path) as client:
            answers = client.pipeline([p.ServiceOp.Ping(), p.ServiceOp.Health(), p.ServiceOp.Ping()])
            self.assertEqual(answers[0], p.ServiceOk.Pong())
            self.assertEqual(answers[1].retry_after_ms, 5)
            with self.assertRaises(p.Problem) as caught:
                client.health()
            self.assertEqual((caught.exception.code, caught.exception.may_retry), (p.Code.BUSY, True))
            self.assertEqual(daemon.connections, 1)

    def test_replies_in_single_bytes(self) -> None:
        def drip(peer: Peer) -> None:
            while True:
                request = peer.request()
                for byte in p.encode_frame(p.REPLY, p.Reply(request.id, answer(request.op))):
                    peer.socket.sendall(bytes([byte]))

        with Daemon(drip) as daemon, p.Client(daemon.path) as client:
            self.assertEqual(client.whoami().groups, (4,))

    def test_admin_operations(self) -> None:
        replies = {
            p.AdminOp.WhoAmI: p.AdminOk.WhoAmI(p.Identity(0, 0, 1, [], "admin", [], [], [], [])),
            p.AdminOp.Status: p.AdminOk.Status('{"mode":"hsm"}'),
            p.AdminOp.Health: p.AdminOk.Health(p.Health(True, True, [])),
            p.AdminOp.Attest: p.AdminOk.Attest("{}"),
            p.AdminOp.Stage: p.AdminOk.Staged(p.Staged("k", bytes(32))),
            p.AdminOp.Activate: p.AdminOk.Activated(p.Activated("k", None)),
            p.AdminOp.ActivateNow: p.AdminOk.Activated(p.Activated("k", "j")),
            p.AdminOp.Rollback: p.AdminOk.Activated(p.Activated("j", "k")),
            p.AdminOp.Reload: p.AdminOk.Reloaded(p.Reloaded(bytes(32), bytes(32), ["limits.rps"], [])),
            p.AdminOp.Revoke: p.AdminOk.Revoked(2),
            p.AdminOp.BumpEpoch: p.AdminOk.EpochBumped(1),
            p.AdminOp.ReloadReport: p.AdminOk.ReloadReport(
                p.ReloadReport(bytes(32), bytes(32), [], [], bytes(32), bytes(32), ["rule web added"], 1)
            ),
        }

        def serve(peer: Peer) -> None:
            while True:
                request = p.decode_body(p.ADMIN_REQUEST, peer.body())
                reply = replies.get(type(request.op), p.AdminOk.Done())
                peer.send(p.ADMIN_REPLY, p.Reply(request.id, reply))

        with Daemon(serve) as daemon, p.AdminClient(daemon.path) as admin:
            self.assertEqual(admin.whoami().listener, "admin")
            self.assertEqual(admin.status(), {"mode": "hsm"})
            self.assertTrue(admin.health().issue_ready)
            self.assertEqual(admin.attest(), {})
            self.assertEqual(admin.stage("k").public, bytes(32))
            self.assertIsNone(admin.activate("k").retired)
            self.assertEqual(admin.reload().changed, ("limits.rps",))
            self.assertEqual(admin.reload_report().policy_changed, ("rule web added",))
            for call in (admin.resume_issue, admin.drain, admin.undrain):
                call()
            admin.pause_issue("incident")
            what = [p.Revocation.Id("j", None), p.Revocation.Subject("s", 5)]
            self.assertEqual(admin.revoke("t1", what, "incident"), 2)
            self.assertEqual(admin.bump_epoch("t1", "incident"), 1)
            admin.compromise("k", "incident")
            admin.ticket_ttl(120, 3600, "incident")
            self.assertEqual(admin.activate_now("k", "incident").retired, "j")
            self.assertEqual(admin.rollback("t1", "auth", "incident").kid, "j")
            admin.confirm("j")
            admin.destroyed("k")


class Losses(unittest.TestCase):
    """What goes wrong, and what comes after."""

    def test_the_next_call_after_a_loss_connects_again(self) -> None:
        def once(peer: Peer) -> None:
            request = peer.request()
            peer.reply(request.id, p.ServiceOk.Pong())
            peer.request()  # And leaves without a word.

        with Daemon(once) as daemon, p.Client(daemon.path) as client:
            client.ping()
            with self.assertRaises(p.Lost) as caught:
                client.ping()
            self.assertTrue(caught.exception.may_retry)
            client.ping()
            self.assertEqual(daemon.connections, 2)

    def test_a_connection_closed_between_calls_is_no_loss(self) -> None:
        closed = threading.Semaphore(0)

        def once(peer: Peer) -> None:
            request = peer.request()
            peer.reply(request.id, p.ServiceOk.Pong())
            peer.socket.shutdown(socket.SHUT_RDWR)
            closed.release()

        with Daemon(once) as daemon, p.Client(daemon.path) as client:
            for _ in range(5):
                client.ping()
                self.assertTrue(closed.acquire(timeout=5))
            self.assertEqual(daemon.connections, 5)

    def test_a_pause_grows_and_ends(self) -> None:
        client = p.Client("/nonexistent/sock")
        with mock.patch.object(p.time, "sleep") as sleep:
            for _ in range(12):
                with self.assertRaises(p.CannotConnect):
                    client.ping()
        pauses = [call.args[0] for call in sleep.call_args_list]
        self.assertEqual(len(pauses), 11)
        for n, pause in enumerate(pauses):
            full = min(0.05 * 2**n, 0.8)
            self.assertTrue(full / 2 <= pause <= full, f"pause {n}: {pause}")

    def test_a_refused_greeting_is_raised_even_if_the_hello_was_not_read(self) -> None:
        refusal = p.Problem(p.Code.BUSY, "all connections are taken", True)
        with Daemon(in_order, greeting=refusal) as daemon:
            for _ in range(20):
                with self.assertRaises(p.Problem) as caught:
                    p.Client(daemon.path).ping()
                self.assertEqual(caught.exception.code, p.Code.BUSY)

    def test_a_timeout_leaves_a_usable_client_and_the_late_answer_is_dropped(self) -> None:
        release = threading.Event()

        def slow(peer: Peer) -> None:
            first = peer.request()
            release.wait(5)
            peer.reply(first.id, p.Problem(p.Code.INTERNAL, "too late"))
            in_order(peer)

        with Daemon(slow) as daemon, p.Client(daemon.path, timeout=0.2) as client:
            began = time.monotonic()
            with self.assertRaises(p.Timeout):
                client.ping()
            self.assertLess(time.monotonic() - began, 2)
            release.set()
            client.ping()
            self.assertEqual(daemon.connections, 1)

    def test_bytes_that_are_no_reply_end_the_connection(self) -> None:
        garbage = iter([b"\0\0\0\1\2", b"\0\0\0\2\1\xff", b"\xff\xff\xff\xff"])

        def serve(peer: Peer) -> None:
            request = peer.request()
            bad = next(garbage, None)
            if bad is None:
                peer.reply(request.id, p.ServiceOk.Pong())
            else:
                peer.socket.sendall(bad)

        with Daemon(serve) as daemon, p.Client(daemon.path) as client:
            for _ in range(3):
                with self.assertRaises(p.WireError):
                    client.ping()
            client.ping()
            self.assertEqual(daemon.connections, 4)

    def test_an_answer_of_another_kind_is_refused(self) -> None:
        def serve(peer: Peer) -> None:
            while True:
                peer.reply(peer.request().id, p.ServiceOk.Verdicts([]))

        with Daemon(serve) as daemon, p.Client(daemon.path) as client:
            with self.assertRaises(p.WireError):
                client.ping()
            with self.assertRaises(p.WireError):
                client.verify_batch([PASSPORT])

    def test_a_problem_without_an_id_is_raised(self) -> None:
        def serve(peer: Peer) -> None:
            peer.request()
            peer.reply(0, p.Problem(p.Code.MALFORMED, "not a message"))
            peer.body()

        with Daemon(serve) as daemon, p.Client(daemon.path) as client, self.assertRaises(p.Problem):
            client.ping()

    def test_threads_take_turns(self) -> None:
        with Daemon(in_order) as daemon, p.Client(daemon.path) as client:
            wrong: List[bytes] = []

            def work(name: str) -> None:
                for _ in range(50):
                    msg = client.issue("demo", name).msg
                    if msg != name.encode():
                        wrong.append(msg)

            threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            self.assertEqual((wrong, daemon.connections), ([], 1))

    def test_a_name_that_is_too_long_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            p.Client("/x", name="n" * 65)


class CommandLine(unittest.TestCase):
    """`python3 passportd.py …`."""

    def run_with(self, path: str, *arguments: str, stdin: str = "") -> Tuple[int, Optional[Any], str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with mock.patch("sys.stdin", io.StringIO(stdin)):
                code = p.main(["--socket", path, *arguments])
        return code, json.loads(out.getvalue()) if out.getvalue() else None, err.getvalue()

    def test_commands(self) -> None:
        bad = p.Passport(PASSPORT.alg, PASSPORT.kid, PASSPORT.msg, bytes(64))
        with Daemon(in_order) as daemon:
            self.assertEqual(self.run_with(daemon.path, "ping")[:2], (0, {"ok": True}))
            self.assertEqual(self.run_with(daemon.path, "whoami")[1]["uid"], 1)
            self.assertEqual(self.run_with(daemon.path, "keys")[1], {"keys": []})
            code, envelope, _ = self.run_with(daemon.path, "issue", "--template", "demo", "--sub", "alice")
            self.assertEqual((code, p.Passport.from_dict(envelope).msg), (0, b"alice"))
            code, verdict, _ = self.run_with(daemon.path, "verify", "--aud", "api", stdin=PASSPORT.to_json())
            self.assertEqual((code, verdict), (0, {"valid": True, "exp": 99}))
            code, verdict, _ = self.run_with(daemon.path, "verify", stdin=bad.to_json())
            self.assertEqual((code, verdict["reason"]), (3, "verify_failed"))
            array = f"[{PASSPORT.to_json()},{bad.to_json()}]"
            for batch in (array, f'{{"items":{array}}}'):
                code, verdict, _ = self.run_with(daemon.path, "verify", stdin=batch)
                self.assertEqual((code, [one["valid"] for one in verdict["items"]]), (3, [True, False]))
            self.assertEqual(self.run_with(daemon.path, "verify", stdin="{}")[0], 2)

    def test_failures(self) -> None:
        code, _, error = self.run_with("/nonexistent/sock", "ping")
        self.assertEqual(code, 1)
        self.assertIn("is passportd running", error)
        with Daemon(in_order, greeting=p.Problem(p.Code.BUSY, "full", True)) as daemon:
            self.assertEqual(self.run_with(daemon.path, "ping")[0], 4)


if __name__ == "__main__":
    unittest.main()
