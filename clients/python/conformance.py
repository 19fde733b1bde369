#!/usr/bin/env python3
"""Runs the cases of tests/conformance against a running daemon, with passportd.py.

    python3 conformance.py --socket /run/passportd/passportd.sock --admin-socket /run/passportd/admin.sock

tests/conformance/README.md specifies the cases. Plain requests go through `Client` and `AdminClient`; bytes that no
client sends, through a socket of its own and the codecs of passportd.py. One line a case; exit code 1 if any fails.
"""

from __future__ import annotations

import argparse
import base64
import json
import pathlib
import re
import socket
import sys
import time
from dataclasses import asdict
from typing import Any, Dict, List, Optional, Tuple

import passportd as p

NAME = "conformance.py/" + p.__version__
CASES = pathlib.Path(__file__).resolve().parents[2] / "tests" / "conformance"
TRIES, PAUSE_S, MAX_TEMPLATES, MAX_REPEAT = 20, 0.1, 16, 2 << 20
Names = Dict[str, Any]


class Wrong(Exception):
    """A case that does not hold, or is itself mistaken."""


# Expressions


def at(value: Any, path: str) -> Tuple[bool, Any]:
    """What a dotted path of members and indices leads to, and whether it leads anywhere."""
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return False, None
    return True, value


def function(members: Dict[str, Any]) -> Optional[str]:
    """The name that starts with `$`, if there is one."""
    return next((key[1:] for key in members if key.startswith("$")), None)


def evaluate(value: Any, names: Names) -> Any:
    """The value of an expression."""
    if isinstance(value, str) and value.startswith("$"):
        found, bound = at(names, value[1:])
        if not found:
            raise Wrong(f"nothing is bound to {value}")
        return bound
    if isinstance(value, list):
        return [evaluate(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    name = function(value)
    if name is None:
        return {key: evaluate(one, names) for key, one in value.items()}
    argument = evaluate(value["$" + name], names)
    if name == "plus":
        return sum(argument)
    if name == "join":
        return "".join(argument)
    if name == "repeat":
        return argument[0] * times(argument[1], len(argument[0]))
    if name == "list":
        return [argument[0]] * times(argument[1], 1)
    if name == "altered":
        changes = {key: evaluate(one, names) for key, one in value.items() if not key.startswith("$")}
        return altered(passport(argument), changes)
    raise Wrong(f"there is no ${name}")


def times(count: int, each: int) -> int:
    if count * max(each, 1) > MAX_REPEAT or count < 0:
        raise Wrong(f"{count} times is too much")
    return count


def passport(value: Dict[str, Any]) -> p.Passport:
    """The envelope in a value that may say more."""
    return p.Passport.from_dict({name: value.get(name) for name in ("alg", "kid", "msg_b64", "sig_b64")})


def altered(one: p.Passport, changes: Dict[str, Any]) -> Dict[str, str]:
    parts = {"alg": one.alg, "kid": one.kid, "msg": one.msg, "sig": one.sig}
    for member, change in changes.items():
        parts[member] = edited(parts[member], change) if member in ("msg", "sig") else change
    return p.Passport(**parts).to_dict()


def edited(raw: bytes, change: Dict[str, Any]) -> bytes:
    ((name, argument),) = change.items()
    if name == "replace":
        old, new = (text.encode() for text in argument)
        if old not in raw:
            raise Wrong(f"{argument[0]!r} does not occur in {raw!r}")
        return raw.replace(old, new, 1)
    if name == "append":
        return raw + bytes.fromhex(argument)
    if name == "flip":
        return raw[:argument] + bytes([raw[argument] ^ 1]) + raw[argument + 1 :]
    if name == "take":
        return raw[:argument]
    if name == "fill":
        piece = bytes.fromhex(argument[0])
        return piece * times(argument[1], len(piece))
    raise Wrong(f"there is no such change: {change}")


# Matchers


def quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "…"


class Comparison:
    """Holds what came against what was expected; the first difference is raised."""

    def __init__(self, reply: Any, names: Names) -> None:
        self.names = {**names, "reply": reply}

    def fits(self, expected: Any, actual: Any) -> bool:
        try:
            self.compare(expected, actual, "")
        except Wrong:
            return False
        return True

    def compare(self, expected: Any, actual: Any, path: str) -> None:
        if isinstance(expected, dict) and function(expected) is not None:
            name = function(expected) or ""
            matcher = getattr(self, "_" + name, None)
            if matcher is None:
                self.equal(evaluate(expected, self.names), actual, path)
            elif not matcher(expected["$" + name], actual, path):
                self.differs(quoted(expected), actual, path)
        elif isinstance(expected, dict) and isinstance(actual, dict):
            for key, one in expected.items():
                found, there = at(actual, key)
                if found:
                    self.compare(one, there, f"{path}.{key}")
                elif not (isinstance(one, dict) and "$absent" in one):
                    came = f"came nothing there: {quoted(actual)}"
                    raise Wrong(f"{path}.{key}".lstrip(".") + f": expected {quoted(one)}, {came}")
        elif isinstance(expected, list) and isinstance(actual, list):
            if len(expected) != len(actual):
                self.differs(f"{len(expected)} items", f"{len(actual)} items", path)
            for index, (one, there) in enumerate(zip(expected, actual)):
                self.compare(one, there, f"{path}.{index}")
        else:
            self.equal(evaluate(expected, self.names), actual, path)

    def equal(self, expected: Any, actual: Any, path: str) -> None:
        if isinstance(expected, bool) != isinstance(actual, bool) or expected != actual:
            self.differs(quoted(expected), actual, path)

    @staticmethod
    def differs(expected: str, actual: Any, path: str) -> None:
        raise Wrong(f"{path.lstrip('.')}: expected {expected}, came {quoted(actual)}".lstrip(": "))

    def _absent(self, _: Any, actual: Any, path: str) -> bool:
        return False

    def _present(self, _: Any, actual: Any, path: str) -> bool:
        return actual is not None

    def _like(self, pattern: str, actual: Any, path: str) -> bool:
        regex = ".*".join(re.escape(part) for part in pattern.split("*"))
        return isinstance(actual, str) and re.fullmatch(regex, actual, re.DOTALL) is not None

    def _length(self, length: Any, actual: Any, path: str) -> bool:
        there = len(actual.encode()) if isinstance(actual, str) else len(actual) if isinstance(actual, list) else None
        return there is not None and there == evaluate(length, self.names)

    def _at_least(self, bound: Any, actual: Any, path: str) -> bool:
        return isinstance(actual, int) and actual >= evaluate(bound, self.names)

    def _at_most(self, bound: Any, actual: Any, path: str) -> bool:
        return isinstance(actual, int) and actual <= evaluate(bound, self.names)

    def _one_of(self, choices: List[Any], actual: Any, path: str) -> bool:
        return any(self.fits(one, actual) for one in choices)

    def _all(self, matchers: List[Any], actual: Any, path: str) -> bool:
        for one in matchers:
            self.compare(one, actual, path)
        return True

    def _has(self, wanted: List[Any], actual: Any, path: str) -> bool:
        return isinstance(actual, list) and all(any(self.fits(one, item) for item in actual) for one in wanted)

    def _each(self, wanted: Any, actual: Any, path: str) -> bool:
        if not isinstance(actual, list):
            return False
        for index, item in enumerate(actual):
            self.compare(wanted, item, f"{path}.{index}")
        return True

    def _json(self, wanted: Any, actual: Any, path: str) -> bool:
        self.compare(wanted, json.loads(actual), path)
        return True


# Messages as JSON


def to_op(op: Dict[str, Any], admin: bool) -> Any:
    """An operation; a mistake in the data raises TypeError."""
    ((name, fields),) = op.items()
    kind = getattr(p.AdminOp if admin else p.ServiceOp, name)
    if name == "Issue":
        return kind(to_spec(fields))
    if name == "IssueBatch":
        return kind([to_spec(spec) for spec in fields])
    if name == "Revoke" and not admin:
        return kind(presented(fields["passport"]))
    if name == "Revoke":
        what = [to_revocation(one) for one in fields["what"]]
        return kind(fields["tenant"], what, fields["reason"])
    if name in ("Verify", "Introspect"):
        return kind(p.Want(**fields.get("want", {})), presented(fields["passport"]))
    if name == "VerifyWith":
        retry, proof = fields.get("retry"), fields.get("proof")
        return kind(
            p.Want(**fields.get("want", {})),
            presented(fields["passport"]),
            None if retry is None else bytes.fromhex(retry),
            None if proof is None else to_proof(proof),
        )
    if name == "Exchange":
        retry, proof, spec = fields.get("retry"), fields.get("proof"), fields["spec"]
        return kind(
            presented(fields["passport"]),
            p.TicketSpec(**{**spec, "form": p.Form(spec.get("form", "envelope"))}),
            None if retry is None else bytes.fromhex(retry),
            None if proof is None else to_proof(proof),
        )
    if name == "VerifyBatch":
        return kind(p.Want(**fields.get("want", {})), [presented(one) for one in fields["items"]])
    if name == "Keys":
        etag = fields.get("if_etag")
        return kind(None if etag is None else bytes.fromhex(etag))
    if name == "Seal":
        return kind(fields["namespace"], fields["name"], fields["plain"].encode())
    if name == "Unseal":
        text = fields["blob_b64"]
        return kind(fields["namespace"], fields["name"], base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if name == "Watch":
        after = fields.get("after")
        topics = [p.Topic(one) for one in fields.get("topics", [])]
        return kind(topics, None if after is None else to_cursor(after), fields.get("wait_ms", 0))
    if name == "Revocations":
        text = fields.get("after_b64")
        return kind(None if text is None else base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return kind(**fields)


def to_cursor(one: Dict[str, Any]) -> p.Cursor:
    return p.Cursor(bytes.fromhex(one["life"]), bytes.fromhex(one["wants"]), one["seq"])


def to_spec(fields: Dict[str, Any]) -> p.IssueSpec:
    return p.IssueSpec(**{**fields, "form": p.Form(fields.get("form", "envelope"))})


def presented(value: Any) -> p.AnyPassport:
    """An envelope, the text of a JWS, or a bound reply that holds one of them."""
    text = value.get("jws") if isinstance(value, dict) else value
    return passport(value) if text is None else p.Jws(text)


def to_proof(one: Dict[str, Any]) -> Any:
    """A proof of possession."""
    ((name, fields),) = one.items()
    return getattr(p, name)(**fields)


def to_revocation(one: Dict[str, Any]) -> Any:
    """Which passports an admin revokes; what is left out is None."""
    ((name, fields),) = one.items()
    if name == "Id":
        return p.Revocation.Id(fields["jti"], fields.get("exp"))
    return p.Revocation.Subject(fields["sub"], fields.get("before"))


def shown(value: Any) -> Any:
    """What came, as the cases write it."""
    if isinstance(value, p.Code):
        return value.value
    if isinstance(value, p.Problem):
        return {name: shown(getattr(value, name)) for name in ("code", "message", "retryable", "retry_after_ms")}
    if isinstance(value, p.Issued):
        return {**value.passport().to_dict(), "msg": value.msg.decode(), "claims": json.loads(value.msg)}
    if isinstance(value, p.IssuedJws):
        claims = value.passport().claims
        text = value.text.split(".")[1]
        msg = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        return {"jws": value.text, "msg": msg, "claims": claims}
    if isinstance(value, p.Accepted):
        return {"Accepted": {"exp": value.exp}}
    if isinstance(value, p.Consumed):
        return {"Consumed": {"exp": value.exp, "left": value.left, "repeated": value.repeated}}
    if isinstance(value, p.Unproven):
        return {"Unproven": {"why": value.why}}
    if isinstance(value, p.Refused):
        return {"Refused": value.reason.value}
    if isinstance(value, p.Ticket):
        fields = {"ticket": shown(value.ticket), "exp": value.exp, "left": value.left, "repeated": value.repeated}
        return {"Ticket": fields}
    if isinstance(value, p.Introspection):
        claims = None if value.claims is None else value.claims.decode()
        return {"active": value.active, "reason": shown(value.reason), "claims": claims}
    if isinstance(value, (p.Events, p.Lagged, p.Begin)) or type(value).__qualname__.startswith("What."):
        fields = {name: shown(getattr(value, name)) for name in value.__dataclass_fields__}
        return {type(value).__name__: fields}
    if isinstance(value, p.RevocationPage):
        fields = {name: shown(getattr(value, name)) for name in value.__dataclass_fields__ if name != "next"}
        text = None if value.next is None else base64.urlsafe_b64encode(value.next).decode().rstrip("=")
        return {**fields, "next_b64": text}
    if isinstance(value, p.KeySet):
        return {"etag": value.etag.hex(), "max_age_s": value.max_age_s, "jwks": value.jwks.decode()}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "__dataclass_fields__"):
        return {name: shown(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def outcome(result: Any) -> Dict[str, Any]:
    """A reply without its id."""
    if isinstance(result, p.Problem):
        return {"problem": shown(result)}
    name = type(result).__qualname__.split(".")[-1]
    value = getattr(result, "value", None)
    if name == "Sealed":
        return {"ok": {name: {"blob_b64": base64.urlsafe_b64encode(value).decode().rstrip("=")}}}
    if name == "Unsealed":
        return {"ok": {name: {"plain": value.decode()}}}
    if name == "Revoked":
        return {"ok": {name: {"new": value}}}
    if name == "Checkpoint":
        return {"ok": {name: {"note": value}}}
    if name == "Recorded":
        return {"ok": {name: {"seq": value}}}
    if name == "EpochBumped":
        return {"ok": {name: {"epoch": value}}}
    if name == "IssuedBatch":
        items = [{"problem": shown(one)} if isinstance(one, p.Problem) else {"ok": shown(one)} for one in value]
        return {"ok": {name: items}}
    return {"ok": {name: {} if value is None else shown(value)}}


# Connections


class Frames:
    """Frames of our own making."""

    def __init__(self, path: str, admin: bool, patience: float) -> None:
        self._admin, self._greeted, self._ended, self._next_id = admin, False, False, 1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def exchange(self, messages: List[Dict[str, Any]], replies: int) -> Tuple[List[Optional[int]], List[Any]]:
        ids, out = [], b""
        for message in messages:
            id_ = message.get("id", self._next_id) if "op" in message else None
            self._next_id += 1 if "op" in message and "id" not in message else 0
            ids.append(id_)
            out += self._bytes(message, id_)
        try:
            self._socket.sendall(out)
            if any("half_close" in message for message in messages):
                self._socket.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # What the daemon said before it closed can still be read.
        events: List[Any] = []
        while len(events) < replies and not self._ended:
            events.append(self._event())
        return ids, events

    def settle(self) -> None:
        """Nothing that was not asked for may come before the end."""
        if not self._ended:
            _, (event,) = self.exchange([{"half_close": True}], 1)
            if event != "closed":
                raise Wrong(f"a reply that nobody asked for: {quoted(event)}")

    def _bytes(self, message: Dict[str, Any], id_: Optional[int]) -> bytes:
        if "op" in message:
            corr_id = bytes.fromhex(message.get("corr_id", "00" * 16))
            request = p.Request(id_ or 0, corr_id, to_op(message["op"], self._admin))
            return p.encode_frame(p.ADMIN_REQUEST if self._admin else p.REQUEST, request)
        if "hello" in message:
            return p.encode_frame(p.HELLO, p.Hello(**message["hello"]))
        if "body" in message:
            body = pieces(message["body"])
            return len(body).to_bytes(p.HEADER, "big") + body
        return pieces(message["bytes"]) if "bytes" in message else b""

    def _take(self, n: int) -> bytes:
        taken = b""
        while len(taken) < n:
            try:
                more = self._socket.recv(n - len(taken))
            except ConnectionResetError:
                more = b""
            if not more:
                break
            taken += more
        return taken

    def _event(self) -> Any:
        header = self._take(p.HEADER)
        if not header:
            self._ended = True
            return "closed"
        body = self._take(int.from_bytes(header, "big"))
        if not self._greeted:
            self._greeted = True
            greeting = p.decode_body(p.GREETING, body)
            return {"refused": shown(greeting)} if isinstance(greeting, p.Problem) else {"welcome": asdict(greeting)}
        reply = p.decode_body(p.ADMIN_REPLY if self._admin else p.REPLY, body)
        return {"id": reply.id, **outcome(reply.result)}


def pieces(value: Any) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(value, list):
        return b"".join(pieces(one) for one in value)
    return pieces(value["hex"]) * times(value["times"], len(value["hex"]) // 2)


class Library:
    """The client, for plain requests."""

    def __init__(self, path: str, admin: bool, patience: float) -> None:
        self._admin = admin
        self._client = (p.AdminClient if admin else p.Client)(path, timeout=patience, name=NAME)
        self._client.welcome  # Connects, so that a refusal is known now.

    def close(self) -> None:
        self._client.close()

    def exchange(self, messages: List[Dict[str, Any]], _: int) -> Tuple[List[Optional[int]], List[Any]]:
        return [None], [outcome(self._client.pipeline([to_op(messages[0]["op"], self._admin)])[0])]

    def settle(self) -> None:
        """Its replies are its own affair."""


# Cases


def many(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def plain(step: Dict[str, Any]) -> bool:
    """Whether it is one request that leaves ids and bytes to whoever sends it."""
    send, expect = many(step["send"]), many(step["expect"])
    return (
        step.get("greet", True)
        and len(send) == len(expect) == 1
        and set(send[0]) == {"op"}
        and isinstance(expect[0], dict)
        and "id" not in expect[0]
    )


def held_against(expected: List[Any], ids: List[Optional[int]], events: List[Any], names: Names) -> List[Any]:
    """The replies in the order of what was expected."""
    if len(events) != len(expected):
        raise Wrong(f"expected {len(expected)} replies, came {quoted(events)}")
    left, replies = list(events), []
    for index, one in enumerate(expected):
        id_ = one.get("id", ids[index] if index < len(ids) else None) if isinstance(one, dict) else None
        by_id = [event for event in left if isinstance(event, dict) and event.get("id") == id_]
        if isinstance(id_, int) and not by_id:
            raise Wrong(f"no reply with id {id_}; came {quoted(events)}")
        reply = by_id[0] if isinstance(id_, int) else left[0]
        left.remove(reply)
        Comparison(reply, names).compare(one, reply, "")
        replies.append(reply)
    return replies


class Course:
    """A case under way."""

    def __init__(self, runner: Runner, case: Dict[str, Any]) -> None:
        self._runner, self._case = runner, case
        self._names = {**runner.names, "now": int(time.time())}
        self._lines: Dict[Tuple[str, str], Any] = {}

    def run(self) -> None:
        try:
            self._steps(self._case["steps"])
            for line in self._lines.values():
                line.settle()
        finally:
            self._forget()
            try:
                self._steps(self._case.get("finally", []))
            finally:
                self._forget()

    def _forget(self) -> None:
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    def _steps(self, steps: List[Dict[str, Any]]) -> None:
        for number, step in enumerate(steps, 1):
            try:
                self._step(step)
            except (Wrong, p.PassportdError, OSError, ValueError, TypeError, KeyError) as error:
                raise Wrong(f"step {number}: {error!s}") from error

    def _step(self, step: Dict[str, Any]) -> None:
        time.sleep(evaluate(step.get("wait_s", 0), self._names))
        expected = many(step["expect"])
        for tries in range(TRIES, -1, -1):
            messages = [evaluate(one, self._names) for one in many(step["send"])]
            ids, events = self._line(step).exchange(messages, len(expected))
            try:
                replies = held_against(expected, ids, events, self._names)
                break
            except Wrong:
                # Section 10: what is busy, or over a rate, is tried again.
                problem = events[0].get("problem") if events and isinstance(events[0], dict) else None
                if not (tries and plain(step) and problem and problem["code"] in ("busy", "rate_limited")):
                    raise
                time.sleep((problem["retry_after_ms"] or PAUSE_S * 1000) / 1000)
        for name, path in step.get("bind", {}).items():
            found, self._names[name] = at(replies[0], path)
            if not found:
                raise Wrong(f"{path} is not in {quoted(replies[0])}")

    def _line(self, step: Dict[str, Any]) -> Any:
        key = (step.get("on", "service"), step.get("connection", ""))
        if key not in self._lines:
            self._lines[key] = self._open(key, step)
        return self._lines[key]

    def _open(self, key: Tuple[str, str], step: Dict[str, Any]) -> Any:
        steps = self._case["steps"] + self._case.get("finally", [])
        same = [one for one in steps if (one.get("on", "service"), one.get("connection", "")) == key]
        where = (self._runner.doors[key[0]], (key[0] + "-").startswith("admin-"), self._runner.options.timeout)
        for tries in range(TRIES, -1, -1):
            try:
                if all(plain(one) for one in same):
                    return Library(*where)
                line = Frames(*where)
                if not step.get("greet", True):
                    return line
                _, (greeting,) = line.exchange([{"hello": {"wire": p.WIRE_VERSION, "client": NAME}}], 1)
                if "welcome" in greeting:
                    return line
                line.close()
                code = greeting["refused"]["code"]
            except p.Problem as problem:
                code = problem.code.value
            if code != "busy" or not tries:
                raise Wrong(f"the greeting is refused: {code}")
            time.sleep(PAUSE_S)


class Runner:
    """What the cases have in common: sockets, options, and what the daemon gives this user."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.doors = dict(door.split("=", 1) for door in options.door)
        self.doors.update(service=options.socket, admin=options.admin_socket)
        self.names: Names = {"skew_s": options.clock_skew, "sub": options.sub}
        self._lacking: Dict[str, str] = {}
        with p.Client(options.socket, name=NAME) as client:
            self.names["welcome"], self.names["me"] = shown(client.welcome), shown(client.whoami())
            self._try_templates(client)
        try:
            with p.AdminClient(options.admin_socket, name=NAME) as admin:
                self.names["admin"] = shown(admin.whoami())
        except p.PassportdError as error:
            self._lacking["admin"] = f"the admin socket: {error}"

    def _try_templates(self, client: p.Client) -> None:
        audiences, why = self.names["me"]["audiences"], "the policy grants this user no template"
        for template in self.names["me"]["templates"][:MAX_TEMPLATES]:
            result: Any = None
            for aud in ([], audiences[:1]):
                result = client.pipeline([p.ServiceOp.Issue(p.IssueSpec(template, self.options.sub, aud))])[0]
                if not (isinstance(result, p.Problem) and result.code is p.Code.BAD_AUD):
                    break
            if isinstance(result, p.Problem):
                why = f"template {template!r}: {result}"
                if result.code is p.Code.NOT_READY:
                    self.names["keyless"] = template
            elif "uid" in shown(result.value)["claims"].get("cnf", {}):
                if set(audiences) & set(shown(result.value)["claims"]["aud"]):
                    self.names["bound"] = template
            elif "limit" in shown(result.value)["claims"]["cap"]:
                if set(audiences) & set(shown(result.value)["claims"]["aud"]):
                    self.names["limited"] = template
            elif "template" not in self.names:
                sample = shown(result.value)
                ours = [aud for aud in audiences if aud in sample["claims"]["aud"]]
                if ours:
                    self.names.update(template=template, aud=ours[0], sample=sample)
                    others = [aud for aud in audiences if aud not in sample["claims"]["aud"]]
                    self.names.update({"other_aud": others[0]} if others else {})
        if "template" not in self.names:
            self._lacking.update(passport=why, other_aud=why)
        elif "other_aud" not in self.names:
            self._lacking["other_aud"] = "this user may verify as no audience that the passports are not for"
        self._try_jws(client)
        self._try_tickets(client)
        if "limited" not in self.names:
            self._lacking["limited"] = "no template of this user has a limit"
        if "bound" not in self.names:
            self._lacking["bound"] = "no template of this user binds passports to their peer"
        if "keyless" not in self.names:
            self._lacking["keyless"] = "every template of this user has a key"

    def _try_jws(self, client: p.Client) -> None:
        """Whether the template that issues has compact JWS."""
        if "template" not in self.names:
            self._lacking["jws"] = "no template of this user issues"
            return
        spec = p.IssueSpec(self.names["template"], self.options.sub, [self.names["aud"]], form=p.Form.JWS)
        result = client.pipeline([p.ServiceOp.Issue(spec)])[0]
        if isinstance(result, p.Problem):
            self._lacking["jws"] = f"template {spec.template!r} issues no compact JWS: {result.message}"

    def _try_tickets(self, client: p.Client) -> None:
        """Whether this user may have tickets for passports of the template that issues."""
        if "template" not in self.names:
            self._lacking["tickets"] = "no template of this user issues"
            return
        issued = client.issue(self.names["template"], self.options.sub, [self.names["aud"]])
        try:
            client.exchange(issued, self.names["aud"])
        except p.Problem as problem:
            self._lacking["tickets"] = f"no tickets for this user: {problem.message}"

    def hindrance(self, case: Dict[str, Any]) -> Optional[str]:
        """Why the case can't run here."""
        if case.get("disruptive") and not self.options.disruptive:
            return "it disturbs others; run it with --disruptive"
        for need in case.get("needs", []):
            if need in self._lacking:
                return self._lacking[need]
            where, _, operation = need.partition(".")
            identity = self.names.get("me" if where == "service" else where, {"operations": [operation]})
            if operation and operation not in identity["operations"]:
                return f"the policy does not allow this user `{operation}` there"
        steps = case["steps"] + case.get("finally", [])
        for step in steps:
            door = step.get("on", "service")
            if door in self._lacking or door not in self.doors:
                return self._lacking.get(door, f"there is no such socket; give --door {door}=PATH")
        wait = sum(evaluate(step.get("wait_s", 0), self.names) for step in steps)
        return f"it waits {wait} s; give --max-wait {wait}" if wait > self.options.max_wait else None


def main(arguments: Optional[List[str]] = None) -> int:
    """Exit codes: 0 no case failed, 1 one did, 2 usage."""
    parser = argparse.ArgumentParser(description="Runs the conformance cases against a running daemon.")
    parser.add_argument("--socket", default="/run/passportd/passportd.sock")
    parser.add_argument("--admin-socket", default="/run/passportd/admin.sock")
    parser.add_argument("--door", action="append", default=[], metavar="NAME=PATH", help="may be repeated")
    parser.add_argument("--cases", type=pathlib.Path, default=CASES, metavar="DIR")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="may be repeated")
    parser.add_argument("--sub", default="conformance", help="the subject of the passports")
    parser.add_argument("--clock-skew", type=int, default=120, help="the daemon's passport.clock_skew_s")
    parser.add_argument("--max-wait", type=float, default=10.0, help="the longest that a case may wait, in seconds")
    parser.add_argument("--timeout", type=float, default=10.0, help="for one exchange, in seconds")
    parser.add_argument("--disruptive", action="store_true", help="also pause, drain and reload")
    options = parser.parse_args(arguments)
    files = sorted(options.cases.glob("*.json"))
    cases = [case for file in files for case in json.loads(file.read_text("utf-8"))["cases"]]
    cases = [case for case in cases if not options.only or case["name"] in options.only]
    runner, count = Runner(options), {"ok": 0, "FAIL": 0, "skip": 0}
    for case in cases:
        mark, why = "ok", runner.hindrance(case)
        if why is not None:
            mark = "skip"
        else:
            try:
                Course(runner, case).run()
            except Wrong as wrong:
                mark, why = "FAIL", str(wrong)
        count[mark] += 1
        print(f"{mark:<4} {case['name']}" + (f": {why}" if why else ""), flush=True)
    print(f"{count['ok']} ok, {count['FAIL']} failed, {count['skip']} skipped")
    return 1 if count["FAIL"] or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
