"""What the archive holds, for those who look for what nobody owns."""

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tasks.adapters.archive import _SESSION_ID, Archive
from tasks.domain.hosting import Receipt


@dataclass(frozen=True, slots=True)
class Entry:
    """One session's files. ``age_s`` is since the last of them was written; 0 where the store does not say."""

    user_id: str
    session_id: str
    age_s: float


class ArchiveEntries(Archive):
    """Raises HostingError where the store refuses."""

    def entries(self) -> list[Entry]:
        with self._in_words("listing it"):
            self._files.invalidate_cache()
            found = [(user, session) for user in self._below(self._root) for session in self._sessions(user)]
            return [Entry(user, session, self._age_s(user, session)) for user, session in found]

    def sessions_of(self, user_id: str) -> list[str]:
        with self._in_words("listing a user's sessions"):
            self._files.invalidate_cache()
            return self._sessions(user_id)

    def remove_user(self, user_id: str) -> Receipt:
        """Everything that is kept of a user, session by session; safe to repeat."""
        receipts = [self.remove_session(user_id, session_id) for session_id in self.sessions_of(user_id)]
        with self._in_words("removing a user"), suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{user_id}", recursive=True)
        return Receipt(
            removed=tuple(name for receipt in receipts for name in receipt.removed),
            left=tuple(name for receipt in receipts for name in receipt.left),
        )

    def read(self, user_id: str, session_id: str) -> list[tuple[str, bytes]]:
        """Every file of a session, by its path below the store's root."""
        with self._in_words(f"reading {session_id}"):
            paths = [str(path) for path in self._files.find(self._session(user_id, session_id))]
            return [(path.removeprefix(self._root).lstrip("/"), self._files.cat_file(path)) for path in paths]

    def release_numbers(self, user_id: str, session_id: str) -> set[int]:
        with self._in_words(f"looking for the releases of {session_id}"):
            self._files.invalidate_cache()
            return {number for number, _key in self._archived(self._session(user_id, session_id))}

    def _sessions(self, user_id: str) -> list[str]:
        try:
            if str(UUID(user_id)) != user_id:
                return []
        except ValueError:
            return []  # not ours: nobody's folder in a store that others use
        return [name for name in self._below(f"{self._root}/{user_id}") if _SESSION_ID.fullmatch(name)]

    def _below(self, folder: str) -> list[str]:
        if not self._files.exists(folder):
            return []
        listed = self._files.ls(folder, detail=True)
        return sorted(str(entry["name"]).rpartition("/")[2] for entry in listed if entry["type"] == "directory")

    def _age_s(self, user_id: str, session_id: str) -> float:
        folder = self._session(user_id, session_id)
        moments = []
        for path in [*self._files.find(folder)] or [folder]:
            try:
                moment: datetime = self._files.modified(path)
            except (NotImplementedError, KeyError, FileNotFoundError):
                return 0.0
            moments.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        return max(0.0, time.time() - max(moments))
