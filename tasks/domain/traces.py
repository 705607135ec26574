"""What gives a person away in a text: address, phone number, and the words that they wrote. Pure."""

import re
from collections.abc import Iterable
from functools import cached_property

from tasks.domain.request import normalise_email

SHORTEST_TEXT = 12
"""A shorter wish ("a bakery") stands in innocent texts, too, and is looked for nowhere."""


class Traces:
    """``emails`` in any spelling; ``phones`` as in a request (E.164); ``texts`` are what the person asked for."""

    def __init__(self, emails: Iterable[str], phones: Iterable[str] = (), texts: Iterable[str] = ()) -> None:
        self.emails = frozenset(normalise_email(email) for email in emails)
        self.phones = frozenset(phones)
        lines = (line.strip() for text in texts for line in (text, *text.splitlines()))
        self.texts = frozenset(line for line in lines if len(line) >= SHORTEST_TEXT)

    def address_in(self, text: str) -> bool:
        """Whether the person's own address stands there, and not one that merely contains it.

        >>> ana = Traces(["ana@example.com"])
        >>> [ana.address_in(text) for text in ("'Ana@Example.com' is", "diana@example.com", "ana@example.com.au")]
        [True, False, False]
        """
        return self._address is not None and self._address.search(normalise_email(text)) is not None

    def found_in(self, text: str) -> bool:
        """Whether anything of the person stands there.

        >>> ana = Traces(["ana@example.com"], ["+4915112345678"])
        >>> ana.found_in("call +49 151 12345678"), ana.found_in("call +491511234567890")
        (True, False)
        """
        return self.address_in(text) or (self._rest is not None and self._rest.search(text) is not None)

    def blackened(self, data: bytes) -> bytes:
        """The bytes with every trace made illegible, at the same length: a log may be written to meanwhile.

        >>> Traces(["ana@example.com"], ["+4915112345678"]).blackened(b"from Ana@example.com, +4915112345678\\n")
        b'from xxxxxxxxxxxxxxx, xxxxxxxxxxxxxx\\n'
        """
        text = data.decode("utf-8", "surrogateescape")
        for pattern in (self._address, self._rest):
            if pattern is not None:
                text = pattern.sub(lambda found: "x" * _length(found[0]), text)
        return text.encode("utf-8", "surrogateescape")

    @cached_property
    def _address(self) -> re.Pattern[str] | None:
        if not self.emails:
            return None
        listed = "|".join(re.escape(email) for email in sorted(self.emails))
        return re.compile(rf"(?<![\w.+-])(?:{listed})(?![\w-]|\.\w)", re.IGNORECASE)

    @cached_property
    def _rest(self) -> re.Pattern[str] | None:
        spaced = [r"[ ()./-]{0,2}".join(phone.removeprefix("+")) for phone in sorted(self.phones)]
        parts = [rf"(?<!\d)\+?{digits}(?!\d)" for digits in spaced]
        parts += [re.escape(text) for text in sorted(self.texts, key=len, reverse=True)]
        return re.compile("|".join(parts)) if parts else None


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
