"""What an operator wants changed in a plan: read clause by clause, a later word before an earlier one."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from . import document as documents
from . import facts, language, lexicon
from .lexicon import Folded
from .outline import ORDER, Section
from .theme import PLAIN, Theme, colours_in

_NAME = r"[\"“„«「『'‘](?P<quoted>[^\"“”„«»「」『』'‘’\n]{1,60})[\"”“»」』'’]|(?P<bare>[^,;.!?\n，。；、]{1,60})"
_ENDS = re.compile(
    rf"\s+(?:{lexicon.either('together')}|but|aber|mais|pero|ma|mas|maar)\s+(?P<next>\S+)", re.IGNORECASE
)
_CLAUSES = re.compile(r"\n+|[!?。！？]+\s*|\.(?=\s|$)\s*|,(?!\d)\s*|[;，、；،؛]\s*")
_TURNS = re.compile(
    r"\s+(?:and|but|und|aber|et|mais|y|e|pero|ma|mas|en|maar|i|oraz|ale|и|но|та|але|και|αλλά|و|ve|ama)\s+"
)
_LINKED = re.compile(rf"^(?:{lexicon.either('together')}|but|aber|mais|pero|ma|mas|maar)\s+", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)])\s+")
_SENTENCES = re.compile(r"(?<=[!?。！？])\s*|(?<!\d)(?<!\b\w)\.(?:\s+|$)")
_LABEL = re.compile(r"^[^:：]{1,60}[:：]")
_FILLERS = re.compile(
    r"^(?:(?:please|the|a|an|any|all|our|my|whole|entire|bitte|die|der|das|den|ein|eine|einen|auch|le|la|les|l['’]|un|une|el|los|las|"
    r"una|il|lo|gli|i|o|os|as|um|uma|de|het|een|from|in|on|to|section|page|sections|pages|seite|abschnitt|página|pagina|"
    r"sezione|seção)\s+)+",
    re.IGNORECASE,
)
_ANEW = "\0"
_POSTPOSED = frozenset({"ja", "ko", "tr", "hi", "fa", "zh"})
"""Languages that put the verb behind what it is about."""


@dataclass(frozen=True)
class Unwanted:
    """``words`` without verb and article; ``concepts`` are the sections that they name."""

    words: str
    concepts: tuple[str, ...]


@dataclass(frozen=True)
class Revision:
    """One answer of the operator. ``lines`` is what it gives for the pages, as requirement text."""

    words: str
    name: str = ""
    tongue: str = ""
    theme: Theme = PLAIN
    without: Theme = PLAIN
    added: tuple[str, ...] = ()
    paged: tuple[str, ...] = ()
    """Sections that shall have a page of their own."""
    unwanted: tuple[Unwanted, ...] = ()
    lines: tuple[str, ...] = ()
    unread: tuple[str, ...] = field(default=())
    """Clauses in which nothing was understood."""

    @property
    def refused(self) -> frozenset[str]:
        return frozenset(concept for one in self.unwanted for concept in one.concepts) - set(self.added)

    def settled(self, titles: Sequence[str]) -> "Revision":
        """With what it wants to leave out and nothing is called so among what was not understood."""
        lost = [one for one in self.unwanted if not one.concepts and not any(_means(one.words, t) for t in titles)]
        left = tuple(one for one in self.unwanted if one not in lost)
        return replace(self, unwanted=left, unread=(*self.unread, *(one.words for one in lost)))

    def restyled(self, theme: Theme) -> Theme:
        """``theme`` as it is after this."""
        scheme = self.theme.scheme or (None if theme.scheme == self.without.scheme else theme.scheme)
        moods = tuple(dict.fromkeys((*self.theme.moods, *theme.moods)))
        kept = self.theme.colours or tuple(code for code in theme.colours if code not in self.without.colours)
        return Theme(scheme, tuple(mood for mood in moods if mood not in self.without.moods)[:3], kept)

    def pruned(self, sections: tuple[Section, ...]) -> tuple[Section, ...]:
        """Without the parts of the requester's own and the single entries that are not wanted."""
        kept = list(sections)
        for one in self.unwanted:
            titles = [section for section in kept if section.title and lexicon.fold(section.title) in one.words]
            own = [section for section in titles if section.kind == "custom"]
            kept = [section for section in kept if section not in own]
            if not one.concepts and not own:
                kept = [
                    replace(section, items=tuple(item for item in section.items if not _means(one.words, item.title)))
                    for section in kept
                ]
        return tuple(kept)

    def effects(self) -> tuple[str, ...]:
        """What was understood, for the plan. Words of the operator in it have to be escaped."""
        said = [f"the name is {self.name}"] if self.name else []
        said += [f"the language is {self.tongue}"] if self.tongue else []
        said += [f"{self.theme.scheme} colour scheme"] if self.theme.scheme else []
        said += [f"mood {mood}" for mood in self.theme.moods]
        said += [f"colours {', '.join(self.theme.colours)}"] if self.theme.colours else []
        off = (*filter(None, (self.without.scheme,)), *self.without.moods, *self.without.colours)
        said += [f"not {', '.join(off)}"] if off else []
        said += [f"added {concept}" for concept in self.added]
        for one in self.unwanted:
            said += [f"left out {concept}" for concept in one.concepts if concept in self.refused]
            said += [f"left out “{one.words}”"] if not one.concepts else []
        said += [f"taken over: {line}" for line in self.lines]
        return tuple(said)


def _means(words: str, title: str) -> bool:
    plain = lexicon.fold(title)
    return len(plain) >= 3 and (plain in words or (len(words) >= 4 and words in plain))


def read(words: str, code: str) -> Revision:
    """``code`` is the language of the requirement text; the operator may write in another."""
    words = documents.clean(words)[:8_000]
    codes = tuple(dict.fromkeys((code, language.detect(words).code)))
    name, rest = _named(words)
    tongue = language.asked(Folded(rest))
    found = Revision(words, name=name, tongue=tongue.code if tongue else "")
    dropping = False
    for clause, given in _clauses(rest, codes):
        if not clause:
            dropping = False
            continue
        dropping, found = _after(found, clause, given, dropping, codes)
    gone = found.refused
    return replace(found, paged=tuple(concept for concept in found.paged if concept not in gone))


def _named(words: str) -> tuple[str, str]:
    """The name that the site shall have, and the words without it."""
    calls = "|".join(re.escape(call) for call in sorted(lexicon.phrases("call_it"), key=len, reverse=True))
    spaced = calls.replace("\\ ", r"\s+")
    found = list(re.finditer(rf"(?<!\w)(?:{spaced})(?!\w)\s*[:：]?\s*(?:{_NAME})", words, re.I))
    if not found:
        found = list(
            re.finditer(
                rf"(?:{calls})\s*[:：]?\s*[「“\"'‘『](?P<quoted>[^」”\"'’』\n]{{1,60}})[」”\"'’』](?P<bare>)?", words
            )
        )
    if not found:
        return "", words
    last = found[-1]
    name, end = last["quoted"], last.end()
    if not name:
        name = last["bare"]
        for turn in _ENDS.finditer(name):
            if _says("drop", turn["next"]) or _says("add", turn["next"]):
                name, end = name[: turn.start()], last.start("bare") + turn.start()
                break
    name = re.sub(
        r"\s+(?:instead|please|bitte|statt.*|instead of.*|svp|por favor)$", "", name.strip(), flags=re.IGNORECASE
    )
    name = re.sub(r"[<>{}\[\]=\\|`\"]", " ", name)
    return " ".join(name.split())[:60].strip(
        " .,:;–-"
    ), f"{words[: last.start()]}. {re.sub(r'^ instead', '', words[end:])}"


def _says(group: str, text: str) -> bool:
    return bool(lexicon.pattern(lexicon.phrases(group)).search(lexicon.fold(text)))


def _clauses(words: str, codes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Clauses in order; a line that gives something ("Menu: soup 4.50") stays whole and comes as given, too.

    An empty clause stands where a sentence begins: a verb before it does not count for what follows.
    """
    listing = False
    for line in words.split("\n"):
        bulleted = _BULLET.match(line)
        if not (listing and bulleted):
            listing = line.rstrip().endswith((":", "："))
            yield "", ""
        line = line[bulleted.end() if bulleted else 0 :].strip()
        head, colon, rest = (
            (part.strip() for part in re.split(r"([:：])", line, maxsplit=1)) if _LABEL.match(line) else ("",) * 3
        )
        if colon and rest and _concepts(head, codes) and not _says("drop", head):
            yield head, f"{_bare(head)}: {rest}"
            continue
        for number, sentence in enumerate(_SENTENCES.split(line)):
            if number:
                yield "", ""
            if _gives(sentence) and not _says("drop", sentence):
                yield sentence, _bare(sentence)
                continue
            for clause in _CLAUSES.split(sentence):
                for part in _turned(clause):
                    part = _LINKED.sub("", part.strip())
                    if part == _ANEW:
                        yield "", ""
                    elif re.search(r"\w", part):
                        yield part, ""


def _gives(sentence: str) -> bool:
    """Whether it holds what shall stand on a page: a price, an address, days and times."""
    day = re.search(rf"(?<!\w){lexicon.either('days')}(?!\w)", sentence, re.IGNORECASE) and re.search(r"\d", sentence)
    priced = any(facts.PRICED.match(part[:300]) for part in re.split(r",(?!\d)\s*", sentence))
    return bool(day or priced or facts.emails(sentence) or facts.phones(sentence))


def _turned(clause: str) -> Iterator[str]:
    """ "a FAQ and drop the blog" is two clauses, "green instead of blue" too; "replace the blog with news" is both."""
    swap = re.match(rf"^\W*{lexicon.either('replace')}\s+(.+?)\s+{lexicon.either('by')}\s+(.+)$", clause, re.IGNORECASE)
    if swap:
        yield f"drop {swap[1]}"
        yield f"add {swap[2]}"
        return
    turned = re.split(rf"(?<!\w){lexicon.either('instead')}(?!\w)\s*", clause, maxsplit=1, flags=re.IGNORECASE)
    start, kept = 0, turned[0]
    for match in _TURNS.finditer(kept):
        yield kept[start : match.start()]
        start = match.end()
    yield kept[start:]
    if len(turned) > 1:
        yield f"drop {turned[1]}"
        yield _ANEW


def _concepts(text: str, codes: tuple[str, ...]) -> tuple[str, ...]:
    hits = [hit for code in codes for hit in lexicon.find("sections", code, Folded(text))]
    return tuple(dict.fromkeys(hit.concept for hit in lexicon.outermost(hits) if hit.concept in ORDER))


def _bare(text: str) -> str:
    """Without the verb and the article at its beginning: "please add a FAQ" is "FAQ"."""
    kept = text.strip()
    while True:
        shorter = _FILLERS.sub("", kept)
        first, _, rest = shorter.partition(" ")
        if rest and lexicon.pattern((*lexicon.phrases("drop"), *lexicon.phrases("add"))).fullmatch(lexicon.fold(first)):
            shorter = rest
        if shorter == kept:
            return kept[:1].upper() + kept[1:]
        kept = shorter


def _after(found: Revision, clause: str, given: str, dropping: bool, codes: tuple[str, ...]) -> tuple[bool, Revision]:
    """Whether this clause takes away, and what has been asked for after it."""
    if given:
        concepts = _concepts(clause, codes)
        return False, replace(found, added=_joined(found.added, concepts), lines=(*found.lines, given))
    if _says("drop", clause):
        dropping = True
    elif _says("add", clause):
        dropping = False
    concepts, style = _concepts(clause, codes), _style(clause)
    page = "|".join(re.escape(word) for code in codes for word in lexicon.words(code, "page"))
    if dropping:
        bare = lexicon.fold(_bare(clause))
        if style != PLAIN and not concepts:
            return dropping, replace(found, without=_merged(found.without, style))
        whole = sum(len(hit) for hit in _hit_words(bare, codes)) >= 0.5 * len(re.sub(r"\W", "", bare))
        one = Unwanted(bare, concepts if whole or codes[-1] in _POSTPOSED else ())
        kept = tuple(concept for concept in found.added if concept not in one.concepts)
        return dropping, replace(found, added=kept, unwanted=(*found.unwanted, one))
    if concepts or style != PLAIN:
        paged = concepts if re.search(rf"(?<!\w)(?:{page})(?!\w)", clause, re.IGNORECASE) else ()
        unwanted = tuple(
            replace(one, concepts=tuple(concept for concept in one.concepts if concept not in concepts))
            for one in found.unwanted
        )
        return dropping, replace(
            found,
            theme=_merged(found.theme, style),
            added=_joined(found.added, concepts),
            paged=_joined(found.paged, paged),
            unwanted=tuple(
                one for one, old in zip(unwanted, found.unwanted, strict=True) if one.concepts or not old.concepts
            ),
        )
    known = (
        language.asked(Folded(clause))
        or lexicon.says("one_page", clause)
        or lexicon.says("many_pages", clause)
        or not re.search(r"[^\W\d_]{2}", clause)
    )
    return dropping, found if known else replace(found, unread=(*found.unread, clause))


def _hit_words(text: str, codes: tuple[str, ...]) -> list[str]:
    hits = lexicon.outermost(hit for code in codes for hit in lexicon.find("sections", code, Folded(text)))
    spans = dict.fromkeys((hit.start, hit.end) for hit in hits)
    return [re.sub(r"\W", "", text[start:end]) for start, end in spans]


def _style(clause: str) -> Theme:
    folded = Folded(re.sub(r"(?i)\b(dark|light|bright)er\b", r"\1", clause))
    schemes = [hit.concept for hit in lexicon.find_named("themes", "schemes", folded)]
    moods = dict.fromkeys(hit.concept for hit in lexicon.find_named("themes", "moods", folded))
    return Theme(schemes[-1] if schemes else None, tuple(moods), colours_in(clause))


def _merged(earlier: Theme, later: Theme) -> Theme:
    moods = dict.fromkeys((*later.moods, *earlier.moods))
    return Theme(later.scheme or earlier.scheme, tuple(moods), tuple(dict.fromkeys((*earlier.colours, *later.colours))))


def _joined(earlier: tuple[str, ...], later: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*earlier, *later)))
