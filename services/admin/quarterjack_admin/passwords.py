"""Passwords: argon2id in a thread, and equal time for unknown names."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

SHORTEST, LONGEST = 12, 128


class Passwords:
    """Hashes and verifies, two at a time."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._nobody = self._hasher.hash("nobody's password")
        self._turn = asyncio.Semaphore(2)

    async def hash(self, password: str) -> str:
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def fits(self, password: str, password_hash: str | None) -> bool:
        """Verify; without a hash it takes as long and never fits."""
        async with self._turn:
            return await asyncio.to_thread(self._verify, password, password_hash)

    def outdated(self, password_hash: str) -> bool:
        """Say whether the hash was made with weaker parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            self._hasher.verify(password_hash or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return False
        return password_hash is not None


def problem_with(password: str, *, name: str) -> str | None:
    """Say what is wrong with a new password; None if it can be used."""
    if len(password) < SHORTEST:
        return f"use at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"use at most {LONGEST} characters"
    plain = password.lower()
    if len(set(plain)) < 5 or plain.strip("0123456789") in (name, "password", "quarterjack"):
        return "this one is among the first that anybody would try"
    return None
