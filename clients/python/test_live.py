"""Tests of passportd.py against a real daemon, which `cargo test --test python_live` starts.

The daemon's keeper is at the other end of standard input and output: a line with a word asks it to do what no client can,
and it answers with a line. unittest itself writes to standard error. Without a daemon all of this is skipped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import threading
import time
import unittest
from typing import Any, List

import passportd as p

FOLDER = os.environ.get("PASSPORTD_LIVE")
FIRST_KEY = "ed25519/t1/auth/v1"
OPERATIONS = {"issue", "verify", "introspect", "keys", "health"}


def keeper(word: str) -> str:
    """Has the daemon's keeper do something, and waits until it is done."""
    print(word, flush=True)
    answer = sys.stdin.readline().strip()
    if not answer:
        raise AssertionError(f"the keeper did not answer {word!r}")
    return answer


def tampered(passport: p.Passport) -> p.Passport:
    """The same with one bit of the signature changed, in R, so that it stays a signature by its form."""
    return dataclasses.replace(passport, sig=bytes([passport.sig[0] ^ 1]) + passport.sig[1:])


@unittest.skipUnless(FOLDER, "PASSPORTD_LIVE names no daemon; `cargo test --test python_live` starts one")
class Live(unittest.TestCase):
    """What the tests share: a client for each, closed after it."""

    def client(self, listener: str = "passportd", **options: Any) -> p.Client:
        client = p.Client(f"{FOLDER}/{listener}.sock", **options)
        self.addCleanup(client.close)
        return client

    def admin(self) -> p.AdminClient:
        admin = p.AdminClient(f"{FOLDER}/admin.sock")
        self.addCleanup(admin.close)
        return admin

    def assertProblem(self, code: p.Code, call: Any, *arguments: Any) -> p.Problem:
        with self.assertRaises(p.Problem) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.code, code, caught.exception)
        return caught.exception


class Service(Live):
    """Every method of Client."""

    def test_ping_version_and_welcome(self) -> None:
        client = self.client(name="live/1")
        client.ping()
        version = client.version()
        self.assertEqual((version.wire, version.issuer), (1, "passportd.test"))
        self.assertTrue(version.server.startswith("passportd/"), version)
        welcome = client.welcome
        self.assertEqual((welcome.wire, welcome.server, welcome.issuer), (1, version.server, version.issuer))
        self.assertEqual(welcome.limits, p.Limits(1 << 20, 4096, 512, 256))

    def test_whoami_is_what_the_kernel_says(self) -> None:
        me = self.client().whoami()
        self.assertEqual((me.uid, me.gid, me.pid), (os.getuid(), os.getgid(), os.getpid()))
        self.assertLessEqual(set(os.getgroups()), set(me.groups) | {me.gid})
        self.assertEqual((me.listener, me.rules), ("main", ("service",)))
        self.assertLessEqual(OPERATIONS, set(me.operations))
        self.assertEqual((me.templates, me.audiences), (("demo",), ("demo",)))

    def test_health_on_both_sockets(self) -> None:
        for client in (self.client(), self.admin()):
            health = client.health()
            self.assertTrue(health.issue_ready and health.verify_ready, health)
            names = {one.name for one in health.conditions if one.ok}
            self.assertLessEqual({"hsm", "policy", "audit", "state", "clock", "keys"}, names)
        self.assertEqual({one.detail for one in self.client().health().conditions}, {""})

    def test_issue_says_what_was_asked(self) -> None:
        client = self.client()
        ctx = {"room": "büro", "level": 3, "tags": ["a", "b"], "deep": {"x": None, "y": True}}
        before = int(time.time())
        passport = client.issue("demo", "alice", ["demo"], ["write", "read"], 60, before + 1, "open", ctx)
        claims = passport.claims
        self.assertEqual((passport.alg, passport.kid, len(passport.sig)), ("Ed25519", claims["kid"], 64))
        self.assertEqual((claims["iss"], claims["sub"], claims["aud"]), ("passportd.test", "alice", ["demo"]))
        self.assertEqual(set(claims["scopes"]), {"read", "write"})
        self.assertEqual((claims["ctx"], claims["nbf"]), (ctx, before + 1))
        self.assertEqual((claims["cap"]["template"], claims["cap"]["action"]), ("demo", "open"))
        self.assertEqual(claims["exp"] - claims["iat"], 60)
        self.assertLessEqual(abs(claims["iat"] - before), 5)
        # RFC 8785: for these values, Python's compact form with sorted members is the canonical one.
        canonical = json.dumps(claims, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        self.assertEqual(passport.msg, canonical.encode("utf-8"))

    def test_verify_and_introspect(self) -> None:
        client = self.client()
        passport = client.issue("demo", "alice", scopes=["read"], ttl_s=60)
        # Through its JSON form, as it travels between services.
        passport = p.Passport.from_json(passport.to_json())
        verdict = client.verify(passport, "demo", ["read"])
        self.assertEqual(verdict, p.Accepted(passport.claims["exp"]))
        self.assertEqual(client.verify(passport), verdict, "the only audience that this peer may verify as")
        self.assertEqual(client.verify(passport, "demo", ["write"]), p.Refused(p.Code.SCOPE_DENIED))
        self.assertEqual(client.verify(tampered(passport), "demo"), p.Refused(p.Code.VERIFY_FAILED))
        other = dataclasses.replace(passport, kid="ed25519/t1/auth/v99")
        self.assertEqual(client.verify(other, "demo"), p.Refused(p.Code.BAD_KID), "not the kid that was signed")
        other = dataclasses.replace(other, msg=passport.msg.replace(passport.kid.encode(), other.kid.encode()))
        self.assertEqual(client.verify(other, "demo"), p.Refused(p.Code.UNKNOWN_KID))
        self.assertEqual(client.introspect(passport, "demo"), p.Introspection(True, None, passport.msg))
        self.assertEqual(
            client.introspect(passport, "demo", ["write"]), p.Introspection(False, p.Code.SCOPE_DENIED, passport.msg)
        )
        self.assertEqual(
            client.introspect(tampered(passport), "demo"), p.Introspection(False, p.Code.VERIFY_FAILED, None)
        )

    def test_verify_batch_with_good_and_tampered(self) -> None:
        client = self.client()
        good = client.issue_batch([p.IssueSpec("demo", f"user-{n}", ttl_s=60) for n in range(40)])
        self.assertEqual([one.claims["sub"] for one in good], [f"user-{n}" for n in range(40)])
        # More than two parts of max_batch, bad ones at no regular distance.
        items: List[p.Passport] = [good[n % 40] if n * n % 7 else tampered(good[n % 40]) for n in range(1200)]
        verdicts = client.verify_batch(items, "demo")
        self.assertEqual(len(verdicts), 1200)
        for n, verdict in enumerate(verdicts):
            exp = good[n % 40].claims["exp"]
            self.assertEqual(verdict, p.Accepted(exp) if n * n % 7 else p.Refused(p.Code.VERIFY_FAILED), n)
        self.assertEqual(client.verify_batch([], "demo"), [])

    def test_issue_batch_answers_each(self) -> None:
        client = self.client()
        specs = [p.IssueSpec("demo", f"user-{n}", aud=("elsewhere",) if n % 3 == 2 else ()) for n in range(300)]
        answers = client.issue_batch(specs)
        self.assertEqual(len(answers), 300)
        for n, answer in enumerate(answers):
            if n % 3 == 2:
                self.assertIsInstance(answer, p.Problem)
                self.assertEqual(answer.code, p.Code.BAD_AUD)
            else:
                self.assertEqual(answer.claims["sub"], f"user-{n}")
        self.assertEqual(client.issue_batch([]), [])

    def test_keys_twice(self) -> None:
        client = self.client()
        keys = client.keys()
        self.assertIsInstance(keys, p.KeySet)
        jwks = json.loads(keys.jwks)
        self.assertIn(FIRST_KEY, [key["kid"] for key in jwks["keys"]])
        self.assertNotIn("alg", jwks["keys"][0])
        self.assertEqual(client.keys(keys.etag), p.NotModified(keys.max_age_s))
        self.assertEqual(client.keys(hashlib.sha256(b"another").digest()), keys)

    def test_pipelining(self) -> None:
        client = self.client(timeout=20.0)
        issue = p.ServiceOp.Issue(p.IssueSpec("demo", "alice"))
        kinds = {
            p.ServiceOp.Ping(): p.ServiceOk.Pong,
            p.ServiceOp.Keys(None): p.ServiceOk.Keys,
            p.ServiceOp.WhoAmI(): p.ServiceOk.WhoAmI,
            p.ServiceOp.Version(): p.ServiceOk.Version,
        }
        # Quick and slow ones mixed, so that answers overtake each other; no more issues than one user may have under way.
        ops = [issue if n % 10 == 3 else list(kinds)[n % 4] for n in range(1000)]
        answers = client.pipeline(ops, corr_id=bytes(range(16)))
        self.assertEqual(len(answers), 1000)
        for n, (op, answer) in enumerate(zip(ops, answers)):
            self.assertIsInstance(answer, p.ServiceOk.Issued if op is issue else kinds[op], n)
        jtis = {answer.value.passport().claims["jti"] for answer in answers[3::10]}
        self.assertEqual(len(jtis), 100, "every one is another passport")

    def test_threads_share_a_client(self) -> None:
        client = self.client()
        subjects: List[str] = []

        def work(n: int) -> None:
            for m in range(20):
                passport = client.issue("demo", f"thread-{n}-{m}")
                if client.verify(passport, "demo").accepted:
                    subjects.append(passport.claims["sub"])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(subjects), sorted(f"thread-{n}-{m}" for n in range(4) for m in range(20)))


class Refusals(Live):
    """What the daemon does not do."""

    def test_too_large_names_the_limit_and_the_connection_lives_on(self) -> None:
        client = self.client()
        passport = client.issue("demo", "alice")
        many = p.ServiceOp.VerifyBatch(p.Want("demo"), [passport] * 513)
        self.assertIn("limits.max_batch is 512", self.assertProblem(p.Code.TOO_LARGE, client.ask, many).message)
        many = p.ServiceOp.IssueBatch([p.IssueSpec("demo", "alice")] * 513)
        self.assertIn("limits.max_batch is 512", self.assertProblem(p.Code.TOO_LARGE, client.ask, many).message)
        long = p.ServiceOp.Issue(p.IssueSpec("demo", "alice", ctx=json.dumps({"x": "y" * 5000})))
        self.assertIn("limits.max_msg_bytes is 4096", self.assertProblem(p.Code.TOO_LARGE, client.ask, long).message)
        self.assertEqual(
            client.verify(dataclasses.replace(passport, msg=bytes(5000)), "demo"), p.Refused(p.Code.TOO_LARGE)
        )
        with self.assertRaises(p.WireError):
            client.verify(dataclasses.replace(passport, msg=bytes(1 << 20)), "demo")
        self.assertTrue(client.verify(passport, "demo").accepted)

    def test_a_denied_operation(self) -> None:
        passport = self.client().issue("demo", "alice")
        reader = self.client("reader")
        self.assertEqual((reader.whoami().listener, reader.whoami().rules), ("reader", ("reader",)))
        self.assertTrue(reader.verify(passport, "demo").accepted)
        denied = self.assertProblem(p.Code.OP_DENIED, reader.issue, "demo", "alice")
        self.assertFalse(denied.may_retry)
        self.assertProblem(p.Code.OP_DENIED, reader.introspect, passport, "demo")
        self.assertEqual(reader.verify_batch([passport], "demo"), [p.Accepted(passport.claims["exp"])])

    def test_a_peer_without_a_rule(self) -> None:
        stranger = self.client("stranger")
        self.assertEqual(stranger.whoami().rules, ())
        self.assertEqual(stranger.whoami().operations, ("whoami",))
        for call in (stranger.ping, stranger.keys, stranger.health):
            self.assertProblem(p.Code.NO_PEER_POLICY, call)

    def test_what_the_template_does_not_allow(self) -> None:
        client = self.client()
        self.assertProblem(p.Code.SCOPE_DENIED, lambda: client.issue("demo", "alice", scopes=["admin"]))
        self.assertProblem(p.Code.BAD_AUD, lambda: client.issue("demo", "alice", aud=["elsewhere"]))
        self.assertProblem(p.Code.OP_DENIED, lambda: client.issue("unknown", "alice"))


class Admin(Live):
    """Every method of AdminClient."""

    def test_whoami_status_and_attest(self) -> None:
        admin = self.admin()
        me = admin.whoami()
        self.assertEqual((me.listener, me.rules, me.uid), ("admin", ("operator",), os.getuid()))
        status = admin.status()
        self.assertEqual((status["issuer"], status["phase"], status["mode"]), ("passportd.test", "serving", "hsm"))
        self.assertIn(FIRST_KEY, [key["kid"] for key in status["keys"]])
        attestation = admin.attest()
        self.assertEqual(attestation["policy_hash"], status["policy"]["hash"])
        etag = self.client().keys()
        self.assertIsInstance(etag, p.KeySet)
        self.assertEqual(attestation["jwks_etag"], etag.etag.hex())

    def test_pause_and_resume(self) -> None:
        admin, client = self.admin(), self.client()
        passport = client.issue("demo", "alice")
        admin.pause_issue("a test")
        try:
            self.assertTrue(admin.status()["issue_paused"])
            self.assertProblem(p.Code.PAUSED, client.issue, "demo", "alice")
            self.assertTrue(client.verify(passport, "demo").accepted)
        finally:
            admin.resume_issue()
        self.assertEqual(client.issue("demo", "bob").claims["sub"], "bob")
        self.assertProblem(p.Code.TOO_LARGE, admin.pause_issue, "x" * 257)

    def test_drain_and_undrain(self) -> None:
        admin, open_before = self.admin(), self.client()
        open_before.ping()
        admin.drain()
        try:
            refused = self.assertProblem(p.Code.DRAINING, self.client().ping)
            self.assertTrue(refused.may_retry)
            self.assertEqual(self.admin().status()["phase"], "draining")
        finally:
            admin.undrain()
        self.client().ping()
        open_before.ping()

    def test_stage_and_activate(self) -> None:
        admin, client = self.admin(), self.client()
        before = client.issue("demo", "alice")
        keys = client.keys()
        kid = keeper("generate")
        self.patiently(lambda: admin.stage("ed25519/t1/auth/v99"), p.Code.UNKNOWN_KID)
        staged = self.patiently(lambda: admin.stage(kid))
        self.assertEqual((staged.kid, len(staged.public)), (kid, 32))
        both = client.keys(keys.etag)
        self.assertIsInstance(both, p.KeySet, "the ETag is another")
        self.assertLessEqual({before.kid, kid}, {key["kid"] for key in json.loads(both.jwks)["keys"]})
        activated = self.patiently(lambda: admin.activate(kid))
        self.assertEqual((activated.kid, activated.retired), (kid, before.kid))
        after = client.issue("demo", "alice")
        self.assertEqual(after.kid, kid)
        self.assertEqual([one.accepted for one in client.verify_batch([before, after], "demo")], [True, True])

    def patiently(self, call: Any, *expected: p.Code) -> Any:
        """Does again what may be done again, as section 10 of WIRE.md has it."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return call()
            except p.Problem as problem:
                if problem.code in expected:
                    return None
                if not problem.may_retry or time.monotonic() > deadline:
                    raise
                time.sleep((problem.retry_after_ms or 50) / 1000)

    def test_reload(self) -> None:
        admin = self.admin()
        same = admin.reload()
        self.assertEqual((same.old_policy, same.changed), (same.new_policy, ()))
        client = self.client()
        batch = [client.issue("demo", "alice")] * 600
        keeper("smaller")
        try:
            reloaded = admin.reload()
            self.assertEqual((reloaded.changed, reloaded.needs_restart), (("limits.max_batch",), ()))
            # The limits of this client's Welcome are no longer those of the daemon.
            self.assertTrue(all(one.accepted for one in client.verify_batch(batch, "demo")))
            self.assertEqual(client.welcome.limits.max_batch, 100)
            answers = client.issue_batch([p.IssueSpec("demo", "alice")] * 150)
            self.assertEqual({type(one) for one in answers}, {p.Passport})
        finally:
            keeper("as it was")
            admin.reload()

    def test_a_broken_policy_changes_nothing(self) -> None:
        admin = self.admin()
        keeper("break the policy")
        try:
            with self.assertRaises(p.Problem) as caught:
                admin.reload()
            self.assertIn("90-broken.toml", str(caught.exception))
            self.client().ping()
        finally:
            keeper("mend the policy")
        admin.reload()


class Restart(Live):
    """The daemon goes and comes back."""

    def test_the_next_call_connects_again(self) -> None:
        client, admin = self.client(), self.admin()
        passport = client.issue("demo", "alice")
        admin.status()
        keeper("stop")
        with self.assertRaises(p.CannotConnect) as caught:
            client.ping()
        self.assertTrue(caught.exception.may_retry)
        keeper("start")
        self.assertTrue(client.verify(passport, "demo").accepted, "an older daemon's passport, over a new connection")
        self.assertEqual(admin.status()["phase"], "serving")
        self.assertEqual(client.issue("demo", "bob").claims["sub"], "bob")

    def test_a_front_killed_in_the_middle(self) -> None:
        client = self.client()
        passport = client.issue("demo", "alice")
        failed: List[p.PassportdError] = []
        done = threading.Event()

        def work() -> None:
            while not done.is_set():
                try:
                    client.verify(passport, "demo")
                except p.PassportdError as error:
                    failed.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            keeper("kill")
        finally:
            done.set()
            worker.join()
        # Lost (or CannotConnect) while nobody served; nothing else, and afterwards the same client is at work again.
        self.assertTrue(all(isinstance(error, p.Lost) for error in failed), failed)
        self.assertTrue(client.verify(passport, "demo").accepted)


if __name__ == "__main__":
    unittest.main()
