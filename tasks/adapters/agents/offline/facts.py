"""What the requester gave: prices, hours, people, addresses. Read as it stands, never made up."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from . import lexicon
from .document import Block, Document


@dataclass(frozen=True)
class Item:
    """One entry of a section. ``mark`` is its price, time or date as given; ``group`` a heading above it."""

    title: str
    text: str = ""
    mark: str = ""
    group: str = ""


_CURRENCY = (
    r"(?:€|\$|£|¥|￥|₹|₽|₴|₺|₪|zł|kr\.?|Fr\.|CHF|EUR|USD|GBP|JPY|円|元|원|руб\.?|грн\.?|TL|درهم|ريال|جنيه|دينار|تومان|"
    r"euros?\b|dollars?\b|pounds?\b)"
)
_NUMBER = r"\d{1,3}(?:[.,\u2019' \u202f]\d{3})+(?:[.,]\d{2})?|\d{1,6}(?:[.,]\d{1,2})?(?:,[-–])?"
_UNIT = r"(?:\s?(?:/|per|pro|par|por|al|je|a|the)\s?[^\W\d]{1,12})?"
_PRICE = rf"(?:{_CURRENCY}\s?(?:{_NUMBER})|(?:{_NUMBER})\s?{_CURRENCY}|\d{{1,5}}[.,]\d{{2}}(?![\d.,]))"
PRICED = re.compile(
    rf"^(?P<name>.*?[^\W\d_].*?)[\s:：–—\-=…·.|]*(?:\b(?:for|für|à|at|zu|a|por|per|pour|voor|за|za|von)\s+)?"
    rf"(?P<price>(?:(?:{lexicon.either('from_price')})\s)?{_PRICE}{_UNIT})[\s,;:–—\-]*(?P<rest>.*)$",
    re.IGNORECASE,
)
_PRICED_LAST = re.compile(rf"^(?P<name>.*[^\W\d_)\]”»’'])[\s:：–—\-=…·.|]+(?P<price>{_NUMBER})\s*$")
_PRICE_FIRST = re.compile(rf"^(?P<price>{_PRICE}{_UNIT})[\s:：–—\-=|]+(?P<name>.*[^\W\d_].*)$", re.IGNORECASE)
_SOLD = re.compile(rf"(?<!\w){lexicon.either('sold')}\s+", re.IGNORECASE)
_HOLDS = re.compile(rf"(?<!\w){lexicon.either('holds')}\s+", re.IGNORECASE)
_ANNOUNCED = re.compile(r"[^:：]{2,200}[:：]\s*(?=\D)")

_CLOCK = (
    r"(?:(?:午前|午後|上午|下午|오전|오후)\s?)?\d{1,2}(?:[:.h：]\d{2}|\s?[h時时点시](?:\d{1,2}分?)?)?"
    r"(?:\s?(?:am|pm|a\.m\.|p\.m\.|Uhr|uur|ч\.?|صباحًا|صباحا|ظهرا|مساءً|مساء|ص|م)(?!\w))?"
)
_EXACT_CLOCK = (
    r"(?:(?:午前|午後|上午|下午|오전|오후)\s?)?\d{1,2}(?:[:.h：]\d{2}|\s?[時时点시](?:\d{1,2}分?)?|"
    r"\s?(?:am|pm|a\.m\.|p\.m\.|Uhr|uur|h\b))(?:\s?(?:am|pm|a\.m\.|p\.m\.|Uhr|uur|h)(?!\w))?"
)
_DASH = r"[-–—~〜～]"
_TO = rf"\s*(?:{_DASH}|{lexicon.either('until')})\s*"
_RANGE = rf"{_CLOCK}{_TO}{_CLOCK}(?:\s?(?:Uhr|uur|h|時|まで|까지))?"
_CLOSED = lexicon.either("closed")
_CJK_DAY = (
    r"[月火水木金土日](?:曜日|曜)?(?=[・〜～~\-–、とから:： 0-9午月火水木金土日祝休定]|曜)|"
    r"(?:周|星期)[一二三四五六日末天]|[월화수목금토일](?:요일)?(?=[~\-– 0-9:요오,])"
)
_DAY = rf"(?:{lexicon.either('days')}|{_CJK_DAY})"
_DAYS = (
    rf"(?<!\w){_DAY}(?:\s*(?:{_DASH}|[/,&+]|{lexicon.either('until')}|{lexicon.either('together')})\s*{_DAY}){{0,7}}"
)
_HOURS = re.compile(
    rf"(?P<days>{_DAYS})\.?\s*[:：,]?\s*(?:{lexicon.either('from')}\s+)?"
    rf"(?P<times>{_RANGE}(?:\s*(?:,|und|and|et|y|e|en|/|&|، و|、)\s*{_RANGE})*|{_CLOSED})",
    re.IGNORECASE,
)
_SLOT = re.compile(
    rf"^(?P<mark>(?:[^\d:：]{{2,24}}?[\s,])?{_EXACT_CLOCK}(?:{_TO}{_EXACT_CLOCK})?)\s*[:：\-–—|,]?\s*(?P<rest>[^\d\s].*)$",
    re.IGNORECASE,
)
_PARTED = re.compile(r"\s+[–—|]\s+|\s+-\s+|[:：]\s+|\s*[–—]\s*(?=\D)")
_YEAR = r"(?:,?\s(?:de\s)?\d{4})"
_MONTH_NAME = rf"{lexicon.either('months')}[^\W\d_]*\.?"
_DAY_NUMBER = r"\d{1,2}(?:\.|st|nd|rd|th|er)?"
DATE = re.compile(
    rf"(?<!\d)(?:{_DAY_NUMBER}(?:\s?(?:[-–]|to|bis|and|und|y|e|et)\s?{_DAY_NUMBER})?\s(?:of\s|de\s)?{_MONTH_NAME}{_YEAR}?|"
    rf"(?<!\w){_MONTH_NAME}\s{_DAY_NUMBER}(?:\s?[-–]\s?{_DAY_NUMBER})?{_YEAR}|\d{{1,2}}\.\s?\d{{1,2}}\.\s?\d{{4}}|"
    rf"\d{{4}}年\d{{1,2}}月\d{{1,2}}日)",
    re.IGNORECASE,
)
_DATED = re.compile(
    r"^(?P<mark>(?:\d{1,2}\.\s?\d{1,2}\.(?:\s?\d{2,4})?|\d{4}-\d{2}-\d{2}|\d{1,2}/\d{1,2}(?:/\d{2,4})?|"
    r"\d{4}年\d{1,2}月\d{1,2}日|\d{1,2}月\d{1,2}日|"
    r"\d{1,2}(?:st|nd|rd|th|\.|er)?(?:\s(?:de|of))?\s[^\W\d_]{3,12}\.?(?:\s(?:de\s)?\d{4})?|"
    r"[^\W\d_]{3,10}\.?\s\d{1,2}(?:st|nd|rd|th)?(?:,?\s\d{4})?|[^\W\d_]{3,12}\s\d{4}))\s*[:：,\-–—|]?\s+(?P<rest>\S.*)$"
)
_QUOTE = re.compile(r"[\"“„«「](?P<words>[^\"”“»」]{3,400})[\"”“»」]\s*[-–—,(~:]*\s*(?P<who>[^\"“„«「;\n()]{0,60})")

EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])")
_PHONE = re.compile(r"(?<![\w.,/:-])(?:\+|00)?\(?\d[\d\s()/.\u2011-]{5,20}\d(?![\w%€$]|[.,:]\d)")
_STREETS = (
    r"[A-ZÄÖÜ][\wäöüß.-]{0,40}(?:straße|strasse|str\.|gasse|weg|platz|allee|ring|ufer|damm|straat|laan|plein|gracht|kade)"
    r"\s+\d{1,4}\s?[a-z]?\b(?:,?\s+\d{4,5}(?:\s?[A-Z]{2})?\s+[A-ZÄÖÜ][\wäöüß-]+(?:\s[A-ZÄÖÜ(][\wäöüß)-]+)?)?",
    r"(?:Am|An der|Im|Auf der|Zum|Zur|Alte|Alter|Große|Kleine)\s[A-ZÄÖÜ][\wäöüß-]+\s\d{1,4}\s?[a-z]?\b"
    r"(?:,?\s+\d{5}\s+[A-ZÄÖÜ][\wäöüß-]+)?",
    r"\d{1,5}[A-Za-z]?\s+(?:[A-Z][\w'’.-]{1,30}\s+){1,4}(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Square|Drive|Boulevard|Blvd|Way|Place|"
    r"Court|Row|Quay|Hill|Terrace|Close)\b\.?(?:,\s*[A-Z0-9][\w'’ -]{1,30}){0,3}",
    r"\d{1,4}(?:\s?bis)?,?\s(?:rue|avenue|boulevard|place|quai|chemin|impasse|allée)\s[^,.\n;]{3,40}(?:,\s*\d{5}\s+[A-ZÀ-Ý][\w'’-]+)?",
    r"(?:Calle|C/|Avenida|Avda\.|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua|Praça|Largo|Travessa|ul\.|Carrer)\s[^,.\n;]{3,40}?,?\s*"
    r"(?:n\.?º?\s?)?\d{1,4}\b(?:,\s*\d{4,5}(?:-\d{3})?\s+[A-ZÀ-Ý][\w'’-]+|,\s*[A-ZÀ-Ý][\w'’-]+)?",
    r"(?:ул\.|улица|вул\.|вулиця|пр\.|проспект)\s[^,.\n;]{3,40},?\s*(?:д\.|буд\.)?\s?\d{1,4}",
    r"(?:〒\d{3}-\d{4}\s*)?(?:東京都|北海道|京都府|大阪府|[^\s、。「」]{2,3}県)[^\s、。,「」]{2,30}\d[^\s、。,「」]*",
)
_ADDRESS = re.compile("|".join(f"(?:{street})" for street in _STREETS))


def emails(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(EMAIL.findall(text)))


def phones(text: str) -> tuple[str, ...]:
    """
    >>> phones("Tel. +49 761 123456, seit 01.02.2020, 7.00-18.00")
    ('+49 761 123456',)
    """
    found = []
    for match in _PHONE.finditer(text):
        number = match[0].strip(" .-/")
        digits = re.sub(r"\D", "", number)
        international = number.startswith(("+", "00"))
        dated = re.fullmatch(
            r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{1,2}[.:]\d{2}\s?[-–]\s?\d{1,2}[.:]\d{2}|\d{4}\s?[-–/]\s?\d{2,4}",
            number,
        )
        before = text[max(0, match.start() - 16) : match.start()]
        named = re.search(rf"{lexicon.either('telephone')}\w*\W*$", before, re.IGNORECASE)
        if 7 <= len(digits) <= 15 and not dated and (international or named or number.startswith(("0", "("))):
            found.append(number)
    return tuple(dict.fromkeys(found))


def address(document: Document) -> str:
    """The first address that is labelled as one or looks like one; empty where there is none."""
    for block in document.of("location"):
        lines = [item for item in block.items if re.search(r"\d", item) and not EMAIL.search(item)]
        if lines and lexicon.says("address", block.label):
            return ", ".join(line.strip(" .,") for line in lines[:2] if len(line) <= 80 or line is lines[0])[:200]
        if lines and _ADDRESS.search(lines[0]):
            return lines[0].strip(" .")
    match = _ADDRESS.search(document.text)
    return match[0].strip(" .,") if match else ""


def hours(document: Document) -> tuple[Item, ...]:
    """Days and times, each as given."""
    found = [_hours_in(line) for block in document.of("hours") for line in block.items]
    rows = [row for line in found for row in line]
    if not rows:
        rows = [row for sentence in document.prose for row in _hours_in(sentence) if _opens(row, sentence)]
        rows += [row for block in document.of("contact") for line in block.items for row in _hours_in(line)]
    if not rows:
        rows = [
            Item(line.strip(" .")) for block in document.of("hours") for line in block.items if re.search(r"\d", line)
        ]
    return tuple(dict.fromkeys(rows))


def _opens(row: Item, sentence: str) -> bool:
    return not re.search(r"\b(?:class|course|talk|kurs|concert|workshop)", sentence, re.I) and bool(row.mark)


def _hours_in(text: str) -> list[Item]:
    return [Item(match["days"].strip(), mark=match["times"].strip()) for match in _HOURS.finditer(text)]


def priced(document: Document, concepts: Sequence[str]) -> tuple[Item, ...]:
    """What has a price, in the blocks of some concepts and in price lists under labels of their own."""
    found: list[Item] = []
    for block in document.blocks:
        if block.concept in concepts:
            found += _priced_block(block)
        elif block.concept is None and is_price_list(block):
            found += [replace(item, group=item.group or block.label.strip(" *#:")) for item in _priced_block(block)]
    return _distinct(found)


def is_price_list(block: Block) -> bool:
    return 2 * sum(1 for line in block.items if PRICED.match(line[:300])) > len(block.items)


def priced_prose(document: Document, code: str) -> tuple[Item, ...]:
    """What has a price in the sentences themselves."""
    found: list[Item] = []
    for sentence in document.prose:
        for number, part in enumerate(_price_parts(_without_announcement(sentence))):
            item = _priced(part if number else _without_lead(part, code), lenient=False)
            if item:
                found.append(replace(item, title=item.title.strip(" ,.(:;–-")))
    return _distinct(item for item in found if 1 < len(item.title) <= 60)


def _without_announcement(sentence: str) -> str:
    """The list behind "Site for the inn Da Pina in Bologna:"; "Soup: 4.50" stays whole.

    >>> _without_announcement("Our barber shop: haircut $30, shave $40"), _without_announcement("Soup: 4.50 €")
    ('haircut $30, shave $40', 'Soup: 4.50 €')
    """
    while (match := _ANNOUNCED.match(sentence)) and not re.search(_PRICE, match[0]):
        first = _price_parts(sentence[match.end() :])[0]
        if not PRICED.match(first[:300]) and re.search(_PRICE, first):
            break
        sentence = sentence[match.end() :]
    return sentence


def _without_lead(part: str, code: str) -> str:
    """A first entry without the words that only lead to it: "a menu with soup 4 €" is "soup 4 €".

    A dish keeps its own "with": the words before it must speak of a trade, of a part of a site, or to the maker.
    """
    folded = lexicon.Folded(part)
    known = [hit.end for table in ("kinds", "sections") for hit in lexicon.find(table, code, folded)]
    first = min(known, default=None)
    asked = lexicon.asks(code, part)
    for match in _SOLD.finditer(part):
        if match.start():
            return _without_lead(part[match.end() :], code)
    for match in _HOLDS.finditer(part):
        if match.start() and (asked or (first is not None and first <= match.start())):
            return part[match.end() :]
    head, _, rest = part.partition(" ")
    glued = code == "tr" and re.search(r"[dt][ea]$", head) and any(end >= len(head) - 3 for end in known[:1])
    return rest if glued and re.search(r"[^\W\d_]{2}", rest) else part


def _price_parts(sentence: str) -> list[str]:
    parts = re.split(r"(?:,(?![\d–-])|[;()，、،])\s*", sentence)
    finer: list[str] = []
    for part in parts:
        finer += re.split(r"(?<=[\d€$£])\s+(?:and|und|et|y|e|en|i|ve|и|та)\s+", part)
    return finer


def _priced_block(block: Block) -> list[Item]:
    found, group = [], ""
    for line in block.items:
        parts = _price_parts(line) if not block.lined else [line]
        if block.lined and len(re.findall(_PRICE, line)) > 1:
            parts = _price_parts(line)
        for part in parts:
            item = _priced(part, lenient=True)
            if item:
                found.append(replace(item, group=group))
            elif block.lined and re.fullmatch(r"[^.!?]{2,40}:", part.strip()):
                group = part.strip().rstrip(":")
            elif part.strip():
                found.append(replace(_offer(part), group=group))
    return found


def _priced(part: str, lenient: bool) -> Item | None:
    part = part.strip(" .*-–•")
    if not part or len(part) > 300:
        return None
    match = _PRICE_FIRST.match(part) or PRICED.match(part) or (_PRICED_LAST.match(part) if lenient else None)
    if not match or re.search(rf"{_EXACT_CLOCK}{_TO}\d|(?:Uhr|am|pm)\b", part):
        return None
    groups = match.groupdict()
    name = groups["name"].strip(" :–—-=…·.|(")
    rest = (groups.get("rest") or "").strip(" )(,;–—-.。")
    title, _, text = split(name)
    if re.fullmatch(lexicon.either("from_price"), title, re.IGNORECASE):
        return None
    return Item(title, text=" ".join(filter(None, (text, rest))), mark=groups["price"].strip(" .,"))


def split(text: str) -> tuple[str, str, str]:
    """A title and what is said of it."""
    shown = text.strip(" .")
    bracket = re.match(r"^(?P<title>[^()（）]{1,80})[(（](?P<text>[^()（）]{1,200})[)）]\s*(?P<more>.*)$", shown)
    if bracket:
        return (
            bracket["title"].strip(),
            "(",
            " ".join(filter(None, (bracket["text"].strip(), bracket["more"].strip(" –-:,")))),
        )
    parts = _PARTED.split(shown, maxsplit=1)
    if len(parts) == 2 and parts[0].strip() and parts[1].strip():
        return parts[0].strip(), "-", parts[1].strip()
    return shown, "", ""


def _offer(text: str) -> Item:
    title, _, rest = split(text)
    return Item(title, text=rest)


def offers(document: Document, concept: str) -> tuple[Item, ...]:
    """Named things with a word or two about them: services, works, articles."""
    found: list[Item] = []
    for block in document.of(concept):
        for line in block.items:
            dated = _DATED.match(line) if concept in {"news", "blog", "events"} else None
            item = _offer(dated["rest"] if dated else line)
            if dated:
                item = replace(item, mark=dated["mark"])
            else:
                cost = _priced(line, lenient=False)
                item = cost or item
            if len(item.title) > 90:
                item = Item("", text=line)
            found.append(item)
    return _distinct(found)


def slots(blocks: Iterable[Block]) -> tuple[Item, ...]:
    """Entries of a timetable: a time, what happens, and more about it."""
    found: list[Item] = []
    for block in blocks:
        group = "" if block.concept == "schedule" and not _names_a_day(block.label) else block.label.strip(" *#")
        for line in block.items:
            item = slot(line)
            if item:
                found.append(replace(item, group=group))
            elif re.fullmatch(r"[^.!?]{2,60}:?", line) and (line.endswith(":") or _names_a_day(line)):
                group = line.rstrip(":").strip(" *#")
            else:
                found.append(replace(_offer(line), group=group))
    return _distinct(found)


def _names_a_day(label: str) -> bool:
    return bool(
        re.search(r"\b(?:day|tag|jour|día|dia|giorno|dag|dzień|день)\s?\d|\d日目|第.天|اليوم", label, re.I)
    ) or bool(
        re.search(rf"(?<!\w){_DAY}(?!\w)", label, re.I) and not re.search(r"schedule|programm|agenda", label, re.I)
    )


def slot(line: str) -> Item | None:
    """
    >>> slot("09:30 - Opening keynote: Maria Silva")
    Item(title='Opening keynote', text='Maria Silva', mark='09:30', group='')
    """
    match = _SLOT.match(line.strip())
    if not match:
        return None
    title, _, text = split(match["rest"])
    return Item(title, text=text, mark=match["mark"].strip(" ,:"))


def people(document: Document, concept: str) -> tuple[Item, ...]:
    """Names; ``mark`` is what each does."""
    found: list[Item] = []
    for block in document.of(concept):
        for line in block.items:
            title, sign, rest = split(line)
            role = ""
            if not sign and "," in line:
                title, _, role = (part.strip() for part in line.partition(","))
                rest = ""
            elif sign == "-" and "," in title:
                title, _, role = (part.strip() for part in title.partition(","))
            elif len(rest) <= 60:
                role, rest = rest, ""
            if re.search(r"[^\W\d_]", title) and len(title) <= 60:
                found.append(Item(title, text=rest.strip(), mark=role.strip(" .")))
    return _distinct(found)


def questions(document: Document) -> tuple[Item, ...]:
    """
    >>> from .document import read
    >>> questions(read("FAQ:\\nQ: Is there parking?\\nA: Yes, behind the house.", "en"))
    (Item(title='Is there parking?', text='Yes, behind the house.', mark='', group=''),)
    """
    found: list[Item] = []
    for block in document.of("faq"):
        for line in block.items:
            bare = re.sub(r"^(?:Q|F|P|В|П|A|R|О|В|س|ج|問|答|质问|문|답)\d{0,2}\s?[.:：)]\s*", "", line.strip())
            parts = re.split(r"(?<=[?？؟])\s*", bare)
            parts = [part.strip(" –—-") for part in parts if part.strip(" –—-")]
            for part in parts:
                asked = part.endswith(("?", "？", "؟"))
                if asked:
                    head, follow = _after_answer(part) if found and not found[-1].text else ("", part)
                    if head:
                        found[-1] = replace(found[-1], text=head)
                    found.append(Item(follow))
                elif found and not found[-1].text:
                    found[-1] = replace(found[-1], text=re.sub(r"^(?:A|R|О|答|답)\s?[.:：]\s*", "", part))
                elif found and block.lined and not asked:
                    found[-1] = replace(found[-1], text=f"{found[-1].text} {part}")
    return tuple(found)


def _after_answer(part: str) -> tuple[str, str]:
    """In "Yes, behind the house. Do you cater?": the answer before, and the question."""
    pieces = re.split(r"(?<=[.!。])\s*(?=\S)", part)
    return (" ".join(pieces[:-1]), pieces[-1]) if len(pieces) > 1 else ("", part)


def quotes(document: Document) -> tuple[Item, ...]:
    """What people said, in quotation marks, and who."""
    found = []
    for block in document.of("testimonials"):
        for line in block.items:
            found += [
                Item(match["who"].strip(" ,.)-–—"), text=match["words"].strip()) for match in _QUOTE.finditer(line)
            ]
    return _distinct(found)


def _distinct(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys(item for item in items if item.title or item.text))
