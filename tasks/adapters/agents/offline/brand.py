"""What the site is called: said outright, quoted, or the proper name beside the word for the business."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from . import lexicon
from .document import Document
from .lexicon import Hit
from .voice import speak

_UPPER = r"[A-ZÀ-ÖØ-ÞŒŠŽА-ЯЁІЇЄҐΑ-ΩΆ-Ώ0-9]"
_WORD = r"[^\W_][\w'’.&+-]*"
_PROPER = (
    rf"(?:(?:Dr|Dra|Prof|Mr|Mrs|Ms|St|Ste|Dott|Ing|Sr|Sra)\.|{_UPPER}[\w'’&+-]{{0,40}}(?:\.(?=\w)\w{{1,40}}){{0,3}})"
)
_LINK = (
    r"(?:of|de|del|della|dei|di|da|do|dos|du|des|la|le|les|el|los|las|l['’]|d['’]|van|der|den|von|zum|zur|am|im|the|"
    r"at|&|und|and|et|y|e)"
)
_NAME = rf"{_PROPER}(?:[ ](?:{_LINK}[ ]){{0,2}}{_PROPER}){{0,5}}"
_FIRM = rf"{_PROPER}(?:,[ ]{_PROPER}){{1,3}},?[ ](?:&|and|und|et|y|e)[ ]{_PROPER}(?:[ ]{_PROPER}){{0,2}}"
_NAME = rf"(?:{_FIRM}|{_NAME})"
NAME = re.compile(rf" [\"“„«]?{_NAME}")
"""A name that follows a word."""
_QUOTED = re.compile(
    r"[\"“„«「『‹‘](?P<name>[^\"“”„«»「」『』‹›‘’<>{}\n]{1,48}?)(?:[\"’](?!\w)|[”“»›」』])|(?<!\w)'(?P<single>[^'\"<>{}\n]{2,48}?)'(?!\w)"
)
_LOOSELY_QUOTED = re.compile(r"[\"“„«「『](?P<name>[^\n]{1,60}?)[\"”“»」』](?!\w)")
_NOT_A_NAME = re.compile(
    r"(?:button|text|headline|heading|slogan|tagline|motto|claim|says?|saying|reads?|words?|label|message|titled?|quote|reviews?|testimonials?|kundenstimmen|avis|opiniones|reseñas|recensioni|avaliações|recensies|"
    r"schaltfläche|überschrift|leitspruch|spruch|bouton|accroche|devise|eslogan|lema|botón|pulsante|botão|knop|"
    r"キャッチコピー|ボタン|口号|按钮|شعار|زر|שורה|סיסמה|слоган|кнопк\w*)\W*$",
    re.IGNORECASE,
)
_EDGE = " \t.,;:!?–—-_*#'\"“”„«»()[]|/\\"
_GENERIC = re.compile(
    r"^(?:a|an|the|my|our|website|web|site|page|homepage|landing|please|create|make|build|design|portfolio|blog|shop|"
    r"eine?n?|die|der|das|webseite|seite|bitte|un|une|el|la|le|les|il|lo|um|uma|een|de|сайт|i|we|ich|wir|i'd|i’d|it)$",
    re.IGNORECASE,
)
_ARABIC_LEAD = (
    r"(?:مكتب|شركة|مطعم|مخبز|مقهى|متجر|عيادة|مدرسة|فندق|نادي|جمعية|مؤسسة|صالون|استوديو|روضة|مؤتمر|أكاديمية|"
    r"משרד|מסעדת|מאפיית|חנות|מרפאת|מלון|סטודיו|עמותת|מספרת|"
    r"رستوران|کافه|نانوایی|فروشگاه|شرکت|دفتر|هتل|مطب|آموزشگاه|گالری)"
)
_RTL_STOP = r"(?:في|فى|مع|من|على|الى|إلى|يقدم|تقدم|بـ|عن|و\w+|לוב?|ב\w+|עם|של|در|با|برای|و|که|است)"
_RTL_NAME = re.compile(
    rf"(?:^|[\s«\"لـל])(?P<name>{_ARABIC_LEAD}(?:\s+(?!{_RTL_STOP}(?:\s|$))[\w'׳״\"]{{2,20}}){{1,4}})"
)


@dataclass(frozen=True)
class Brand:
    """``stated`` is False where no name was given and the text's own words stand in."""

    name: str
    stated: bool
    start: int = -1
    end: int = -1


@dataclass(frozen=True)
class _Clues:
    document: Document
    code: str
    kinds: list[Hit]


def find(document: Document, code: str, kinds: list[Hit]) -> Brand:
    """The first candidate that looks like a name, from the surest source to the least sure."""
    text = document.text
    quoted_first = code in {"ja", "zh", "ko", "ru", "uk"}
    sure = (_labelled, _called, _quoted) if quoted_first else (_labelled, _called)
    for source in (*sure, _apposed, _beside_kind, _opening, _behind_comma, _quoted, _for_whom, _rtl, _cjk):
        for name, start, end in source(_Clues(document, code, kinds)):
            kept = _tidied(name)
            if kept:
                return Brand(kept, True, start, end)
    return Brand(_fallback(text, code, text[kinds[0].start : kinds[0].end] if kinds else ""), False)


def _labelled(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    for block in clues.document.of("name"):
        for item in block.items[:1]:
            quoted = _QUOTED.search(item)
            if block.label == "#":
                item = re.split(r"\s[–—|-]\s|:\s", item)[0]
                if lexicon.asks(clues.code, item) or _is_kind(item, clues.code):
                    continue
            yield (quoted["name"] or quoted["single"] if quoted else re.split(r"[,;.(]\s", item)[0]), -1, -1


def _called(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    folded = lexicon.Folded(clues.document.text)
    for hit in folded.hits("called", lexicon.pattern(lexicon.words(clues.code, "called"))):
        after = clues.document.text[hit.end : hit.end + 80]
        before = clues.document.text[max(0, hit.start - 50) : hit.start]
        if clues.code in {"ja", "ko", "zh", "tr"}:
            quoted = list(_QUOTED.finditer(before))
            if quoted and before[quoted[-1].end() :].strip() == "":
                yield quoted[-1]["name"] or quoted[-1]["single"], hit.start - 50, hit.start
                continue
            word = re.search(r"([^\s、。,，.「」]{2,16})\s*$", before)
            if word and clues.code in {"ja", "ko", "tr"}:
                yield word[1], hit.start - len(word[0]), hit.start
                continue
        quoted_after = _QUOTED.match(after.lstrip(" :")) or _LOOSELY_QUOTED.match(after.lstrip(" :"))
        if quoted_after:
            yield quoted_after["name"] or quoted_after["single"], hit.end, hit.end + quoted_after.end() + 2
            continue
        match = re.match(rf"[\s:]*({_NAME})", after) or re.match(
            rf"[\s:]*({_WORD}(?:\s{_WORD}){{0,2}})(?=[\s]*[,.;،。，]|\s*$)", after
        )
        if match and clues.code != "zh":
            yield match[1], hit.end, hit.end + match.end()
        elif match:
            yield re.split(r"[的，。,]", after)[0][:16], hit.end, hit.end + 16


def _apposed(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    """ "for Tidepool, an open source tool"; in Turkish the name stands before its "for"."""
    before = "|".join(re.escape(word) for word in lexicon.words(clues.code, "before")) or "(?!)"
    article = r"(?:a|an|the|our|my|eine?|der|die|das|une?|una|uno|uma?|een|de|het)"
    match = re.search(rf"(?<!\w)(?i:{before})[ ]({_NAME}),[ ]{article}[ ]", clues.document.text)
    if match is None and clues.code == "tr":
        match = re.search(rf"({_NAME})[ ]için(?!\w)", clues.document.text)
    if match:
        yield match[1], match.start(1), match.end(1)


def _beside_kind(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    text = clues.document.text
    if clues.code in {"ja", "zh", "ko", "ar", "he", "fa", "hi"}:
        return
    for hit in clues.kinds[:6]:
        word = text[hit.start : hit.end]
        after = re.match(rf"[ ][\"“„«]?({_NAME})", text[hit.end : hit.end + 90])
        before = re.search(
            rf"(?P<name>(?:{_PROPER}[ ](?:{_LINK}[ ]){{0,2}}){{1,5}})$", text[max(0, hit.start - 60) : hit.start]
        )
        capital = word[:1].isupper()
        if (capital and before and clues.code in {"en", "nl", "tr"}) or (
            before and "'s" in before["name"].replace("’", "'")
        ):
            offset = hit.start - len(before["name"])
            name = _without_opening(before["name"], text, offset)
            if name:
                tail = re.match(rf"(?:[ ]{_PROPER}){{0,2}}", text[hit.end :])
                end = hit.end + (tail.end() if tail and capital else 0)
                yield f"{name} {text[hit.start : end]}", offset, end
                continue
        if after and not _is_kind(after[1], clues.code) and _ends_there(text[hit.end + after.end() :], clues.code):
            kept = (
                after[1]
                if _alone(hit, word, after[1], clues.code, text)
                else f"{word[:1].upper()}{word[1:]} {after[1]}"
            )
            yield kept, hit.start, hit.end + after.end()


def _ends_there(rest: str, code: str) -> bool:
    """In English a lower-case noun behind a capital word makes that word an adjective: "CLI tool"."""
    word = re.match(r"[ ]([a-z][\w'’-]*)", rest)
    return code != "en" or word is None or word[1] in _AFTER_A_NAME


_AFTER_A_NAME = frozenset(
    [
        "in",
        "with",
        "and",
        "at",
        "for",
        "from",
        "on",
        "is",
        "are",
        "that",
        "who",
        "which",
        "to",
        "near",
        "by",
        "of",
        "called",
        "please",
        "where",
        "a",
        "an",
        "the",
        "has",
        "have",
        "was",
        "will",
    ]
)
_ROMANCE = frozenset({"fr", "es", "it", "pt", "nl"})
_PERSONAL = re.compile(
    r"(?:ist|ista|iste|ador|adora|teur|trice|eur|euse|ore|ora|ero|era|aire|ado|ada|ato|cat|vocate|médic[oa]|ier|ière|aris)$",
    re.IGNORECASE,
)


def _alone(hit: Hit, word: str, name: str, code: str, text: str) -> bool:
    """Whether the name stands without the word for the business: "Ana Reis", but "Bäckerei Sonnenkorn"."""
    if hit.concept in {"photographer", "developer", "portfolio", "blog", "music"} and not _is_place(word):
        return not word.isupper()  # DJ Nova keeps it
    if code in _ROMANCE and word.islower():
        article = re.match(r"(?:El|La|Los|Las|Il|Lo|Le|Les|L['’]|O|A|Os|As|De|Het)\b", name)
        person = _PERSONAL.search(word) and not re.search(r"(?:atelier|taller)$", word, re.IGNORECASE)
        return bool((article and not name.startswith("Les")) or person)
    if code == "de":
        return len(word) > 16 or (word.islower() and _starts_sentence(text, hit.start))
    return word.islower()


def _is_place(word: str) -> bool:
    return bool(re.search(r"studio|gal|atelier|band|verlag|magazin", word, re.IGNORECASE))


def _opening(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    """ "Golden Crust is a bakery", "DataConf 2026 – a conference", "Ana Reis, photographer"."""
    match = re.match(
        rf"\W{{0,4}}({_NAME})\s*(?:(?:is|are|ist|sind|est|sont|es|son|è|sono|é|são|jest|–|—|:|\||は)\s|,\s|\s-\s|\n|$)",
        clues.document.text[:160],
    )
    if match and len(match[1]) <= 48 and not _is_kind(match[1], clues.code):
        first, *more = match[1].split()
        if not _GENERIC.match(first) or (first == "The" and more):
            yield match[1], match.start(1), match.end(1)


def _behind_comma(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    """ "a food truck, Tacos El Güero: ..." """
    for hit in clues.kinds[:2]:
        match = re.match(rf",[ ]({_NAME})(?=[:.;,]|$)", clues.document.text[hit.end : hit.end + 70])
        if match and not _is_section(match[1], clues.code):
            yield match[1], hit.end + match.start(1), hit.end + match.end(1)


def _quoted(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    for match in _QUOTED.finditer(clues.document.text):
        name = match["name"] or match["single"]
        before = clues.document.text[max(0, match.start() - 24) : match.start()]
        if len(name.split()) <= 5 and not _NOT_A_NAME.search(before) and not re.search(r"[.!?。]$", name.strip()):
            yield name, match.start(), match.end()


def _for_whom(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    before = lexicon.words(clues.code, "before")
    if not before:
        return
    fillers = "|".join(re.escape(word) for word in lexicon.words(clues.code, "filler")) or "(?!)"
    prepositions = "|".join(re.escape(word) for word in before)
    expression = (
        rf"(?<!\w)(?i:{prepositions})\s+(?:(?i:{fillers})\s+)*(?P<lower>(?:[^\W\d_A-Z][\w'’-]*\s+){{0,3}})({_NAME})"
    )
    for match in re.finditer(expression, clues.document.text):
        name = match[2]
        if re.search(r"(?:^|\s)(?:in|at|near|from|en|à|em|te|im|aus|bei)\s+$", match["lower"]):
            continue  # a place
        if (match["lower"] and not clues.kinds) or _is_kind(name, clues.code) or _is_section(name, clues.code):
            continue
        if re.fullmatch(r"\d+", name) or (clues.code == "de" and " " not in name and match.start() > 200):
            continue
        yield name, match.start(2), match.end(2)


def _rtl(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    if clues.code in {"ar", "he", "fa"}:
        for match in _RTL_NAME.finditer(clues.document.text):
            yield match["name"], match.start("name"), match.end("name")


def _cjk(clues: _Clues) -> Iterator[tuple[str, int, int]]:
    if clues.code == "ja":
        for hit in clues.kinds[:3]:
            match = re.match(r"[\s　]+([^\s、。の「]{2,12})", clues.document.text[hit.end :])
            if match and not _is_section(match[1], clues.code):
                yield match[1], hit.start, hit.end + match.end()
        match = re.match(r"\s*([^\s、。のをにでは]{2,12})(?:の(?:ウェブ)?サイト|のホームページ)", clues.document.text)
        if match and not _is_kind(match[1], clues.code):
            yield match[1], match.start(1), match.end(1)


def _without_opening(name: str, text: str, start: int) -> str:
    """Drop words that are only capital because a sentence begins with them."""
    parts = name.split()
    while parts and (_GENERIC.match(parts[0]) or (_starts_sentence(text, start) and parts[0].casefold() in _OPENERS)):
        start += len(parts[0]) + 1
        parts = parts[1:]
    return " ".join(parts)


_OPENERS = frozenset(
    [
        "a",
        "an",
        "the",
        "my",
        "our",
        "small",
        "new",
        "dark",
        "light",
        "modern",
        "minimal",
        "elegant",
        "simple",
        "playful",
        "bold",
        "warm",
        "local",
        "family",
        "create",
        "make",
        "build",
        "design",
        "please",
        "website",
        "welcome",
        "we",
        "i",
        "eine",
        "ein",
        "unsere",
        "meine",
        "une",
        "un",
        "mi",
        "mijn",
        "onze",
    ]
)


def _starts_sentence(text: str, start: int) -> bool:
    return not re.search(r"\w", text[:start][-1:]) and (
        start == 0 or bool(re.search(r"(?:^|[.!?:\n]\s*)$", text[:start]))
    )


def _is_kind(name: str, code: str) -> bool:
    folded = lexicon.Folded(name)
    return any(hit.end - hit.start >= 0.75 * len(name) for hit in lexicon.find("kinds", code, folded))


def _is_section(name: str, code: str) -> bool:
    folded = lexicon.Folded(name)
    return any(hit.end - hit.start >= 0.6 * len(name) for hit in lexicon.find("sections", code, folded))


def _tidied(name: str | None) -> str:
    if not name:
        return ""
    name = re.sub(r"<[^>]*>?|[<>{}\[\]=\\|`\"]", " ", name)
    name = " ".join(name.split()).strip(_EDGE.replace(")", ""))
    name = name if name.count("(") == name.count(")") else name.strip("()")
    words = name.split()
    while words and words[0].casefold() in {"the", "a", "an"} and len(words) > 1 and words[0].islower():
        words = words[1:]
    name = " ".join(words)
    if re.fullmatch(r"[\d.,:–-]+\s?\D{0,3}", name):
        return ""
    if not 2 <= len(name) <= 60 or not re.search(r"[^\W\d_]", name) or (len(words) == 1 and _GENERIC.match(name)):
        return ""
    folded = lexicon.Folded(name)
    looks = [hit for group in ("colours", "moods", "schemes") for hit in lexicon.find_named("themes", group, folded)]
    styled = any(hit.end - hit.start == len(name) for hit in looks)
    return "" if styled or re.search(r"https?:|www\.|@", name) else name


def _fallback(text: str, code: str, kind_word: str) -> str:
    """No name was given: the text itself where it is short, else its word for the business, else its first noun."""
    text = re.sub(r"<[^>]*>?", " ", text)
    whole = _plain(text)
    if whole and len(whole) <= 32 and len(whole.split()) <= 3 and not lexicon.asks(code, whole):
        return _titled(whole)
    if _plain(kind_word):
        return _titled(_plain(kind_word))
    groups = ("stop", "ask", "start", "filler", "called", "no", "we")
    empty = {lexicon.fold(word) for group in groups for phrase in lexicon.words(code, group) for word in phrase.split()}
    for match in re.finditer(r"[^\W_][\w'’-]{2,}", text):
        word = match[0]
        folded = lexicon.Folded(word)
        mood = lexicon.find_named("themes", "moods", folded) or lexicon.find_named("themes", "colours", folded)
        if lexicon.fold(word) not in empty and not mood and not _is_section(word, code):
            return _titled(word[:32])
    return speak(code).section("home")


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w'’&.\- ]", " ", text).split()).strip(_EDGE)


def _titled(name: str) -> str:
    return name[:1].upper() + name[1:]
