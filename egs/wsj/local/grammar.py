"""Newspaper-like sentences from a small grammar of several hundred words, all lower case."""

from __future__ import annotations

import random
import re

WORDS = {
    "company": """acme airlines|baker foods|cardinal steel|delta bank|eastern motors|falcon energy|global paper|harbor
        insurance|imperial glass|jackson brothers|kingston oil|liberty drug|metro stores|northern gas|orion systems|
        pacific timber|quality homes|royal mining|summit chemical|titan electric|union rail|valley farms|western
        shipping|york textile""",
    "group": """analysts|bankers|brokers|builders|buyers|dealers|doctors|economists|employers|exporters|farmers|
        investors|lawyers|lenders|managers|miners|officials|owners|pilots|regulators|retailers|scientists|teachers|
        traders|unions|voters|workers""",
    "person": """the chairman|the president|the minister|the senator|the governor|the mayor|the judge|the director|
        a spokesman|an adviser|a former partner|the treasurer|the editor|the ambassador""",
    "place": """america|australia|berlin|boston|brazil|britain|california|canada|chicago|china|detroit|europe|florida|
        france|geneva|germany|houston|india|italy|japan|kansas|london|madrid|mexico|moscow|new york|norway|ohio|paris|
        poland|spain|sweden|texas|tokyo|vermont|washington""",
    "goods": """aluminum|barley|beef|butter|cars|cement|coal|cocoa|coffee|computers|copper|corn|cotton|diamonds|fish|
        fruit|furniture|gold|grain|leather|lumber|machines|medicine|milk|paper|plastic|rice|rubber|salt|silk|silver|
        soybeans|steel|sugar|tea|tobacco|trucks|wheat|wine|wool""",
    "thing": """agreement|amendment|auction|bill|bridge|budget|campaign|case|contract|deal|decision|dispute|factory|
        figure|forecast|fund|hearing|inquiry|issue|law|loan|market|measure|meeting|merger|offer|order|pension|plan|
        policy|program|project|proposal|railway|report|rule|sale|strategy|strike|survey|tax|treaty|trial|vote""",
    "quality": """annual|big|broad|costly|early|fair|final|foreign|formal|fresh|general|huge|joint|large|late|local|
        major|minor|modest|national|new|private|public|quick|secret|sharp|short|simple|small|special|strong|sudden|
        tough|weak|weekly""",
    "move": "climbed|dropped|fell|gained|grew|jumped|lost|rose|sank|slipped|soared|tumbled",
    "did": """accepted|approved|attacked|backed|blocked|canceled|changed|defended|delayed|discussed|drafted|examined|
        explained|favored|financed|finished|launched|opposed|postponed|praised|prepared|questioned|rejected|revised|
        signed|studied|supported|suspended|welcomed""",
    "traded": "bought|exported|imported|ordered|produced|shipped|sold|stored",
    "say": "argue|believe|claim|doubt|expect|fear|hope|predict|say|think",
    "will": "will|may|could|should|would|must",
    "affect": "affect|boost|cut|damage|end|help|hurt|limit|raise|slow|stop|test",
    "sector": "demand|earnings|employment|exports|growth|imports|income|inflation|investment|output|profits|rates|"
    "revenue|sales|spending|trade|wages",
    "when": """yesterday|today|last week|last month|last year|this week|this month|on monday|on tuesday|on wednesday|
        on thursday|on friday|in january|in february|in march|in april|in may|in june|in july|in august|in september|
        in october|in november|in december|in the spring|after the war|before the election""",
    "number": """two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|eighteen|twenty|thirty|forty|fifty|
        sixty|seventy|eighty|ninety|twenty one|thirty two|forty three|fifty four|sixty five|seventy six|eighty seven""",
    "unit": "percent|points|cents|dollars|million|billion",
}

TEMPLATES = """
    {group} in {place} {say} {sector} {will} fall
    {group} {say} the {thing} {will} {affect} {sector}
    {company} {traded} {goods} from {place} {when}
    {company} {did} a {quality} {thing} {when}
    {person} {did} the {quality} {thing} {when}
    {person} of {company} {did} the {thing}
    shares of {company} {move} {number} {unit}
    {goods} prices {move} {number} percent {when}
    {sector} in {place} {move} {number} percent
    {place} {traded} {number} million tons of {goods}
    the {thing} in {place} was {did} by {group}
    {when} {group} {did} the {quality} {thing}
    {quality} {sector} {move} in {place} and {place}
    the {thing} {will} {affect} {goods} and {goods}
"""


def _choices(text: str) -> list[str]:
    return [" ".join(choice.split()) for choice in text.split("|")]


def sentences(count: int, seed: int) -> list[str]:
    """So many different sentences, the same for the same seed."""
    rng = random.Random(seed)
    words = {name: _choices(text) for name, text in WORDS.items()}
    templates = [line.strip() for line in TEMPLATES.strip().splitlines()]
    found: dict[str, None] = {}
    while len(found) < count:
        template = rng.choice(templates)
        found.setdefault(re.sub(r"\{(\w+)\}", lambda match: rng.choice(words[match[1]]), template))
    return list(found)
