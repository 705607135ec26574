"""Notices: what people are told about an execution while they are away from its page."""

from enum import StrEnum


class Occasion(StrEnum):
    """What a notice is about. ``waiting_input`` comes once for each question, not once for each change of status."""

    ACCEPTED = "accepted"
    WAITING_INPUT = "waiting_input"
    COMPLETED = "completed"
    FAILED = "failed"


class Channel(StrEnum):
    """Whom a notice goes to, and how. Each is sent, tried again and given up by itself."""

    EMAIL = "email"
    """To the person who ordered, with a link that opens the page."""

    OPERATORS = "operators"
    """E-mail to the operators' addresses; the link asks them to log in."""

    WEBHOOK = "webhook"
    """To whatever the operator's notification block calls; the link as for operators."""


class NoticeState(StrEnum):
    """``off``: its channel was switched off when it was looked at, and it is never sent."""

    PENDING = "pending"
    SENT = "sent"
    OFF = "off"
    GIVEN_UP = "given_up"
