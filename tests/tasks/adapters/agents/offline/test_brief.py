"""What is understood of a request."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.agents.offline.brief import Brief, understand
from tests.tasks.adapters.agents.offline.wishes import WISHES


def kinds(brief: Brief) -> list[str]:
    return [section.kind for section in brief.sections]


@pytest.mark.parametrize(
    ("text", "name", "kind", "language"),
    [
        ("A dark portfolio for the photographer Ana Reis", "Ana Reis", "photographer", "en"),
        ("A website for Joe's Pizza, a family restaurant in Brooklyn", "Joe's Pizza", "restaurant", "en"),
        ("Lumen Yoga Studio: calm website with classes", "Lumen Yoga Studio", "yoga", "en"),
        ("Website for our punk band The Rusty Nails with tour dates", "The Rusty Nails", "music", "en"),
        ("The Green Fork is a vegan restaurant in Leeds.", "The Green Fork", "restaurant", "en"),
        ("Landing page for Tidepool, an open source CLI tool", "Tidepool", "software", "en"),
        ("Website for the law firm Smith, Jones & Partners LLP", "Smith, Jones & Partners LLP", "law", "en"),
        ("Wedding website for Anna & Ben, elegant", "Anna & Ben", "wedding", "en"),
        ("Bold site for DJ Nova with gigs", "DJ Nova", "music", "en"),
        ("Website für die Bäckerei Sonnenkorn in Freiburg", "Bäckerei Sonnenkorn", "bakery", "de"),
        ('Eine Seite für den Kindergarten "Die Waldmäuse"', "Kindergarten Die Waldmäuse", "kids", "de"),
        ("Tierarztpraxis Dr. Weber in Köln. Leistungen: Impfung", "Tierarztpraxis Dr. Weber", "medical", "de"),
        ("Site pour la boulangerie Martin à Lyon avec carte", "Boulangerie Martin", "bakery", "fr"),
        ("Página web para la panadería El Horno de Ana en Sevilla", "El Horno de Ana", "bakery", "es"),
        ("Sito per lo studio legale Rossi & Bianchi a Milano", "Studio legale Rossi & Bianchi", "law", "it"),
        ("Site para o dentista Dr. João Pereira em Coimbra com serviços", "Dr. João Pereira", "medical", "pt"),
        ("Website voor bloemenwinkel De Tulp in Utrecht", "De Tulp", "garden", "nl"),
        ("Strona dla restauracji Pod Lipą w Krakowie z menu", "Pod Lipą", "restaurant", "pl"),
        ("Kuaför salonu Ayla için web sitesi", "Ayla", "beauty", "tr"),
        ("Сайт для кофейни «Зерно» в Казани: меню", "Зерно", "cafe", "ru"),
        ("Сайт для адвоката Олени Коваль: послуги, контакти", "Олени Коваль", "law", "uk"),
        ("Ιστοσελίδα για την ταβέρνα Ο Γιάννης στη Θεσσαλονίκη", "Ο Γιάννης", "restaurant", "el"),
        ("موقع لمكتب العدالة للمحاماة في القاهرة", "مكتب العدالة للمحاماة", "law", "ar"),
        ("אתר למסעדת הגן בחיפה עם תפריט", "מסעדת הגן", "restaurant", "he"),
        ("وب‌سایت برای کافه نارنج در تهران با منو", "کافه نارنج", "cafe", "fa"),
        ('मुंबई में योग स्टूडियो "शांति" के लिए वेबसाइट', "शांति", "yoga", "hi"),
        ("京都の日本茶専門店「緑風庵」のウェブサイト", "緑風庵", "tea", "ja"),
        ("为杭州的茶馆“清风阁”做一个网站", "清风阁", "tea", "zh"),
        ("서울의 작은 빵집 '보리밭' 홈페이지", "보리밭", "bakery", "ko"),
    ],
)
def test_name_kind_and_language_are_read_from_one_sentence(text: str, name: str, kind: str, language: str) -> None:
    brief = understand(text)
    assert (brief.brand.name, brief.kind, brief.language.code) == (name, kind, language)
    assert brief.brand.stated


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Bakery", "Bakery"),
        ("Friseur", "Friseur"),
        ("مطعم", "مطعم"),
        ("web page for a school", "School"),
        ("🎂🎂🎂", "Home"),
    ],
)
def test_without_a_name_the_words_of_the_text_stand_in(text: str, name: str) -> None:
    brief = understand(text)
    assert brief.brand.name == name
    assert not brief.brand.stated


def test_one_word_brings_the_sections_that_such_a_place_has() -> None:
    assert kinds(understand("Bakery")) == ["menu", "about", "gallery", "hours", "contact"]
    assert not any(section.asked for section in understand("Bakery").sections)


def test_the_sections_that_were_asked_for_are_the_sections_that_come() -> None:
    brief = understand(
        "A restaurant site with a menu, reservations, testimonials and an FAQ, no contact form and without a blog"
    )
    assert set(kinds(brief)) == {"menu", "booking", "testimonials", "faq"}


@pytest.mark.parametrize(
    "text",
    [
        "Yoga studio with schedule, prices, team and booking",
        "Yogastudio mit Kursplan, Preisen, Team und Buchung",
        "Studio de yoga avec planning, tarifs, équipe et réservation",
        "Estudio de yoga con cronograma, precios, equipo y reservas",
    ],
)
def test_sections_are_known_in_several_languages(text: str) -> None:
    assert set(kinds(understand(text))) == {"schedule", "pricing", "team", "booking"}


def test_prices_hours_people_and_places_are_taken_as_given() -> None:
    brief = understand(WISHES["bakery"])
    menu = brief.section("menu")
    assert [(item.title, item.mark) for item in menu.items][:2] == [("Croissant", "2,50 €"), ("Bauernbrot", "4,80 €")]
    assert [(item.title, item.mark) for item in brief.section("hours").items] == [
        ("Mo-Fr", "6:30-18 Uhr"),
        ("Sa", "7-13 Uhr"),
        ("So", "geschlossen"),
    ]
    assert (brief.email, brief.phone) == ("hallo@sonnenkorn.example", "0761 123456")
    assert brief.address == "Hauptstraße 12, 79098 Freiburg"
    assert brief.section("about").text == ("Wir backen seit 1950 mit Sauerteig und Mehl aus der Region.",)


def test_a_long_brief_keeps_its_parts_apart() -> None:
    assert len(WISHES["conference"]) > 5000
    brief = understand(WISHES["conference"])
    assert brief.brand.name == "DataConf 2026"
    assert brief.summary.startswith("DataConf 2026 is a two-day conference")
    assert [section.title for section in brief.sections if section.kind == "custom"] == [
        "Code of conduct",
        "Partners",
        "Volunteers",
        "Travel",
    ]
    assert len(brief.section("schedule").items) == 17
    assert {item.group for item in brief.section("schedule").items} == {
        "Day 1 - Thursday 14 May",
        "Day 2 - Friday 15 May",
    }
    assert brief.section("speakers").items[0].mark == "principal engineer at Tagus Freight"
    assert len(brief.section("faq").items) == 6
    assert brief.address == "Armazém do Cais, Rua do Cais 12, 1200-109 Lisboa"
    assert brief.theme.colours == ("#7a4fa3", "#dd6b20")
    assert brief.when == "14-15 May 2026"


def test_pages_that_are_listed_become_pages() -> None:
    brief = understand(WISHES["children"])
    assert [(page.path, page.title) for page in brief.pages] == [
        ("/", ""),
        ("/about-us.html", "About us"),
        ("/activities.html", "Activities"),
        ("/gallery.html", "Gallery"),
        ("/timetable.html", "Timetable"),
        ("/sign-up.html", "Sign up"),
    ]


@pytest.mark.parametrize(
    ("text", "slugs"),
    [
        ("A bakery site with an about page and a contact page", ["about", "contact"]),
        (
            "Site of a physicist; research, publications, teaching and contact pages",
            ["research", "publications", "teaching", "contact"],
        ),
        (
            "Website für eine Kanzlei. Seiten: Start, Leistungen, Über uns, Kontakt",
            ["leistungen", "uber-uns", "kontakt"],
        ),
        ("A one-page site for a bakery with about and contact", []),
        ("A bakery with a menu and a gallery", []),
    ],
)
def test_pages_are_made_only_where_the_text_speaks_of_pages(text: str, slugs: list[str]) -> None:
    assert [page.slug for page in understand(text).pages[1:]] == slugs


def test_every_section_is_on_exactly_one_page() -> None:
    for text in WISHES.values():
        brief = understand(text)
        shown = [key for page in brief.pages for key in page.sections]
        assert sorted(shown) == sorted(section.key for section in brief.sections)


@pytest.mark.parametrize(
    ("text", "scheme", "moods", "colours"),
    [
        ("A dark, minimal site for a bar", "dark", ("minimal",), ()),
        ("Heller, verspielter Auftritt in Grün und #ff8800", "light", ("playful",), ("#ff8800", "#2f7d4a")),
        ("Site élégant, couleurs bleu marine et doré", None, ("elegant",), ("#1f3a68", "#b8912f")),
        ("A tea shop that sells green tea and black tea", None, (), ()),
        ("A café, not dark, please", None, (), ()),
    ],
)
def test_theme_words_are_heard(text: str, scheme: str | None, moods: tuple[str, ...], colours: tuple[str, ...]) -> None:
    theme = understand(text).theme
    assert (theme.scheme, theme.moods, theme.colours) == (scheme, moods, colours)


def test_a_colour_in_the_name_is_not_a_wish() -> None:
    assert understand("The Green Fork is a vegan restaurant in Leeds. Please make it elegant.").theme.colours == ()


def test_what_cannot_be_done_is_noticed() -> None:
    brief = understand("Online shop with user accounts, shopping cart and live chat, in two languages")
    assert set(brief.beyond) == {"accounts", "payments", "live", "languages"}


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_at_all_is_understood_somehow(text: str) -> None:
    brief = understand(text)
    assert brief.brand.name.strip()
    assert brief.sections
    assert brief.pages[0].path == "/"


@pytest.mark.parametrize(
    "unit", ["A", "Mo-", "A'", "Ab, ", "(", '"a ', "menu: ", "Straße ", "月", "1,", "- a 1.50\n", "<a "]
)
def test_no_text_makes_it_think_for_long(unit: str) -> None:
    """A quadratic search takes minutes here; a linear one some seconds on a busy machine."""
    began = time.process_time()
    understand((unit * 20_000)[:20_000])
    assert time.process_time() - began < 20


def entries(text: str) -> list[tuple[str, str]]:
    """What has a price, in the parts that list such things."""
    listed = [section for section in understand(text).sections if section.kind in {"menu", "pricing", "services"}]
    return [(item.title, item.mark) for section in listed for item in section.items]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Sito per la trattoria Da Nonna Pina a Bologna: menu con tortellini 12 €, tagliatelle 11 €, prenotazioni",
            [("tortellini", "12 €"), ("tagliatelle", "11 €")],
        ),
        ("A light site for the café Kanne with coffee 2.80 €, cake 3 €", [("coffee", "2.80 €"), ("cake", "3 €")]),
        (
            "Café Kanne mit Kaffee 2,80 €, Kuchen mit Sahne 3,50 €",
            [("Kaffee", "2,80 €"), ("Kuchen mit Sahne", "3,50 €")],
        ),
        ("Site du bistrot Chez Margot : carte avec soupe 9 €, bœuf 18 €", [("soupe", "9 €"), ("bœuf", "18 €")]),
        ("Web de la peluquería Rizos en Málaga con corte 15 €, tinte 35 €", [("corte", "15 €"), ("tinte", "35 €")]),
        ("Site da pastelaria Lua: menu com pastel 1,20 €, bolo 2 €", [("pastel", "1,20 €"), ("bolo", "2 €")]),
        (
            "Website voor eetcafé De Kade: menukaart met soep € 6,50, frites € 4",
            [("soep", "€ 6,50"), ("frites", "€ 4")],
        ),
        ("Strona restauracji Pod Dębem: menu z żurek 18 zł, pierogi 24 zł", [("żurek", "18 zł"), ("pierogi", "24 zł")]),
        ("Lokanta Ada için site: menüde çorba 60 TL, köfte 180 TL", [("çorba", "60 TL"), ("köfte", "180 TL")]),
        ("Сайт кофейни «Зерно»: меню с капучино 250 ₽, латте 280 ₽", [("капучино", "250 ₽"), ("латте", "280 ₽")]),
        ("Ταβέρνα Ο Νίκος: μενού με μουσακά 9 €, σουβλάκι 3 €", [("μουσακά", "9 €"), ("σουβλάκι", "3 €")]),
        (
            "We sell pasta with tomato 9 €, fish with lime 12 €",
            [("pasta with tomato", "9 €"), ("fish with lime", "12 €")],
        ),
    ],
)
def test_words_that_lead_to_a_list_are_no_part_of_its_first_entry(text: str, expected: list[tuple[str, str]]) -> None:
    assert entries(text) == expected


@pytest.mark.parametrize(
    ("text", "title", "mark"),
    [
        ("Barber Fade: haircut from $30, shave $40", "haircut", "from $30"),
        ("Fleuriste Rose: bouquets à partir de 25 €", "bouquets", "à partir de 25 €"),
        ("Friseur Haar: Färben 55,- €, Schnitt 20 €", "Färben", "55,- €"),
        ("Ramen shop: 醤油ラーメン850円、餃子400円。", "餃子", "400円"),
    ],
)
def test_a_price_is_taken_whole(text: str, title: str, mark: str) -> None:
    assert (title, mark) in entries(text)


def test_a_price_without_a_thing_is_no_entry() -> None:
    assert entries("Estúdio de tatuagem Agulha no Porto com galeria, a partir de 60 €") == []


@pytest.mark.parametrize(
    ("text", "colours"),
    [
        ("A café. Warm amber as the accent colour", ("#d98a1f",)),
        ("Website voor De Ketting, rood en antraciet", ("#c62f38", "#36393f")),
        ("Pizzeria Etna: sfondo nero, accenti rossi", ("#1b1b1d", "#c62f38")),
        ("Fleuriste, couleurs vert sauge et rose", ("#7c9a78", "#d2558a")),
        ("Tea room serving salmon sandwiches £6, lime cake £3", ()),
        ("Name: Zum Goldenen Hirsch", ()),
    ],
)
def test_colours_are_told_from_dishes_and_names(text: str, colours: tuple[str, ...]) -> None:
    assert understand(text).theme.colours == colours


def test_a_night_s_price_and_a_book_s_title_make_no_dark_site() -> None:
    assert understand("B&B Larch House, 3 rooms from £95 per night").theme.scheme is None
    assert understand("Portfolio for Mia Holm with projects:\n- Night Owl, book").theme.scheme is None
    assert understand("Padaria Lua com pastel de nata 1,20 €").theme.moods == ()


def test_who_wants_no_contact_form_gets_no_other_in_its_place() -> None:
    for text in ("Barber shop Fade, no contact form", "Friseur Haargenau. Kein Kontaktformular"):
        assert not {"contact", "booking", "newsletter"} & set(kinds(understand(text)))


def test_a_list_of_parts_is_no_part_itself() -> None:
    text = "Wir wollen eine Seite mit:\n• Über uns\n• Speisekarte: Gulasch 11,90\n• Anfahrt\n• Reservierung"
    assert kinds(understand(text)) == ["about", "menu", "location", "booking"]


def test_a_sentence_above_bullets_is_no_heading() -> None:
    brief = understand("Portfolio for illustrator Mia Holm with projects:\n- Night Owl, book\n- Harbour Map, poster")
    assert "custom" not in kinds(brief)
    assert len(brief.section("projects").items) == 2


def test_answers_stand_behind_their_questions_in_one_line() -> None:
    faq = understand("Charity Open Hands. FAQ: Who are you? A charity. Where does it go? To families.").section("faq")
    assert [(item.title, item.text) for item in faq.items] == [
        ("Who are you?", "A charity."),
        ("Where does it go?", "To families."),
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Yoga studio Lumen in Leeds: drop-in class £12", "Lumen"),
        ("A site for the band The Rusty Nails", "The Rusty Nails"),
        ("One page for a food truck, Tacos El Güero: tacos $3.50", "Tacos El Güero"),
        ('A plumber in Austin, reviews: "Fast and honest" - Kim P.', "Plumber"),
        ("Website voor eetcafé De Kade: menukaart met soep € 6,50", "De Kade"),
    ],
)
def test_a_name_is_not_the_trade_the_town_or_a_quotation(text: str, name: str) -> None:
    assert name in understand(text).brand.name


def test_how_the_site_shall_look_is_not_told_to_its_visitors() -> None:
    brief = understand("I run a small B&B called Larch House near Keswick, dogs welcome, calm colours")
    assert brief.section("about").text == ("I run a small B&B called Larch House near Keswick, dogs welcome.",)
