"""Strict Ed25519 (RFC 8032) as passportd has it: the verdicts of `verify_strict`, of few keys that stay.

A key must be canonical, on the curve, and of the prime-order group; that is looked at when it is prepared. A signature must have
s < L and an R that is not of small order, and the equation is the one without the cofactor: R is compared byte by byte, so an R
that is not canonical never verifies.

It needs nothing but the standard library, in which the equation is about a hundred big-number additions of points from tables; where
the package `cryptography` is installed, the equation is OpenSSL's, which compares the same bytes. What is strict is looked at here
either way. All of it takes variable time, which is right for what is public and for nothing else: there is no signing here.
"""

from __future__ import annotations

import hashlib
from typing import Any, List, Optional, Tuple

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
_D2 = 2 * _D % P
_SQRT_M1 = pow(2, (P - 1) // 4, P)

# X, Y, Z and T of extended coordinates: x = X/Z, y = Y/Z, xy = T/Z.
_Point = Tuple[int, int, int, int]
# y + x, y - x and 2dxy.
_Row = List[Tuple[int, int, int]]
_ZERO: _Point = (0, 1, 1, 0)

# Tables that are kept, 0.3 MB each; the keys beyond are verified without one, which takes six times as long.
MAX_TABLES = 64


class BadKey(ValueError):
    """Bytes that no honest key generation makes a public key of."""


def _add(p: _Point, q: _Point) -> _Point:
    x1, y1, z1, t1 = p
    x2, y2, z2, t2 = q
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = t1 * _D2 * t2 % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(n: int, point: _Point) -> _Point:
    total = _ZERO
    while n:
        if n & 1:
            total = _add(total, point)
        point = _add(point, point)
        n >>= 1
    return total


def _is_zero(point: _Point) -> bool:
    x, y, z, _ = point
    return x == 0 and y == z


def _encoded(point: _Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


def _decoded(text: bytes) -> Optional[_Point]:
    """The point that these bytes are the one canonical encoding of."""
    number = int.from_bytes(text, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (_D * y * y + 1) % P
    # RFC 8032 section 5.1.3.
    x = u * v**3 * pow(u * v**7 % P, (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * _SQRT_M1 % P
    if v * x * x % P != u or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def _table(point: _Point) -> List[_Row]:
    """1 to 15 times the point, of each power of 16."""
    points: List[_Point] = []
    for _ in range(64):
        total = point
        for _ in range(15):
            points.append(total)
            total = _add(total, point)
        point = total
    # All of them are divided by their Z with one inversion.
    before, product = [], 1
    for _, _, z, _ in points:
        before.append(product)
        product = product * z % P
    inverse, flat = pow(product, -1, P), []
    for (x, y, z, _), others in zip(reversed(points), reversed(before)):
        own, inverse = inverse * others % P, inverse * z % P
        x, y = x * own % P, y * own % P
        flat.append(((y + x) % P, (y - x) % P, x * y * _D2 % P))
    flat.reverse()
    return [flat[at : at + 15] for at in range(0, len(flat), 15)]


def _added(start: _Point, table: List[_Row], scalar: int) -> _Point:
    """`start` and `scalar` times the table's point."""
    x, y, z, t = start
    rows = iter(table)
    for byte in scalar.to_bytes(32, "little"):
        for digit in (byte & 15, byte >> 4):
            row = next(rows)
            if digit:
                plus, minus, product = row[digit - 1]
                a, b, c, d = (y - x) * minus, (y + x) * plus, t * product % P, z + z
                e, f, g, h = b - a, d - c, d + c, b + a
                e, h = e % P, h % P
                x, y, z, t = e * f % P, g * h % P, f * g % P, e * h % P
    return x, y, z, t


_decoded_base = _decoded((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert _decoded_base is not None
_BASE: _Point = _decoded_base
_base_table: Optional[List[_Row]] = None


def _table_of_base() -> List[_Row]:
    global _base_table
    if _base_table is None:
        _base_table = _table(_BASE)
    return _base_table


def _small_order() -> frozenset:
    """The canonical encodings of the eight points whose order divides eight."""
    y, found = 2, set()
    while len(found) < 8:
        point = _decoded(y.to_bytes(32, "little"))
        if point is not None:
            torsion, total = _times(L, point), _ZERO
            found = set()
            for _ in range(8):
                found.add(_encoded(total))
                total = _add(total, torsion)
        y += 1
    return frozenset(found)


_SMALL_ORDER = _small_order()


def _openssl() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except Exception:  # It is not there, or can't be used here.
        return None
    return Ed25519PublicKey


class PublicKey:
    """A key that verifies, prepared once. Threads may share it."""

    def __init__(self, public: bytes, openssl: bool = True, table: bool = True) -> None:
        """Raises `BadKey`. `openssl`: by `cryptography`, where it is installed; `table`: else by a table, 0.3 MB."""
        if len(public) != 32:
            raise BadKey("a public key has 32 bytes")
        point = _decoded(public)
        if point is None:
            raise BadKey("the public key is no canonical encoding of a point of the curve")
        if public in _SMALL_ORDER:
            raise BadKey("the public key is of small order")
        if not _is_zero(_times(L, point)):
            raise BadKey("the public key has a component of small order")
        self.public = bytes(public)
        x, y, z, t = point
        self._minus: _Point = (P - x, y, z, P - t)
        self._wants_table = table
        self._made: Optional[List[_Row]] = None
        self._library = self._by_library() if openssl else None

    def _by_library(self) -> Any:
        library = _openssl()
        try:
            return library and library.from_public_bytes(self.public)
        except Exception:  # An OpenSSL without Ed25519.
            return None

    @property
    def way(self) -> str:
        """By what the equation is: `openssl` or `python`."""
        return "python" if self._library is None else "openssl"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's, strictly."""
        if len(signature) != 64:
            return False
        r, s = signature[:32], int.from_bytes(signature[32:], "little")
        # An R of small order that is not canonical is no encoding of any sum, which the equation sees.
        if s >= L or r in _SMALL_ORDER:
            return False
        if self._library is not None:
            try:
                self._library.verify(signature, message)
            except Exception:  # InvalidSignature; whatever else there is, it is not verified.
                return False
            return True
        hashed = hashlib.sha512(r + self.public + message).digest()
        k = int.from_bytes(hashed, "little") % L
        total = _added(_ZERO, _table_of_base(), s)
        if self._wants_table:
            # Two threads may make it at once; it is the same.
            if self._made is None:
                self._made = _table(self._minus)
            total = _added(total, self._made, k)
        else:
            total = _add(total, _times(k, self._minus))
        return _encoded(total) == r
