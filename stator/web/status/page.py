"""The page: the facts as HTML, readable without any script."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from stator.web.status import units
from stator.web.status.facts import CollectorFacts, Facts, ProcessFacts, RegistrationFacts, is_healthy

# Words of a state, and the class that gives it its colour.
_STATES = {
    "registered": "good",
    "not registered": "bad",
    "unregistered": "idle",
    "nowhere": "idle",
}
NOTHING = "&ndash;"
UNKNOWN = '<span class="unknown">unknown</span>'


class Page:
    """Renders the facts.

    Args:
        root: What leads from the page to where ``metrics`` and the others are: empty, or ``../``.
        links: Their names.
    """

    def __init__(self, root: str, links: Iterable[str]) -> None:
        self._template = Template((files("stator.web.status") / "page.html").read_text("utf-8"))
        self._root = root
        self._links = "\n".join(f'<a href="{root}{name}">/{name}</a>' for name in links)

    def render(self, facts: Facts) -> bytes:
        """Returns the page."""
        service, registration = facts.service, facts.registration
        health = "healthy" if is_healthy(facts) else "failing"
        text = self._template.substitute(
            root=self._root,
            links=self._links,
            name=escape(service.name),
            health=health,
            states=_state(health, "good" if health == "healthy" else "bad") + _registration_state(registration),
            overview=_cards(facts),
            registration=_registration(registration),
            checks=_checks(facts),
            collectors=_collectors(facts.collectors, facts.at),
            processes=_processes(facts.processes),
            at=_time(facts.at),
            stator=escape(service.stator),
            python=escape(service.python),
        )
        return text.encode()


def _cards(facts: Facts) -> str:
    service, up = facts.service, UNKNOWN
    if service.started is not None:
        up = f"{units.duration(max(0, round(facts.at - service.started)))}<small>{_time(service.started)}</small>"
    cards = [
        ("Up", up),
        ("Version", escape(service.version or service.stator)),
        ("Run", f"<code>{escape(service.run_id)}</code>"),
        ("Memory", units.size(sum(each.resident_bytes for each in facts.processes))),
        ("Processes", units.count(len(facts.processes))),
    ]
    return "\n".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cards)


def _registration_state(registration: RegistrationFacts) -> str:
    words = "not registered anywhere" if registration.state == "nowhere" else registration.state
    return _state(words, _STATES.get(registration.state, "idle"))


def _registration(registration: RegistrationFacts) -> str:
    if registration.state == "nowhere":
        return '<p class="note">No discovery service is configured: <code>STTR_CLIENT_BASEURI</code> names one.</p>'
    row = [
        _registration_state(registration),
        _known(registration.registrar),
        _known(registration.name),
        _known(registration.id),
        _known(registration.address),
        _known(str(registration.port or "")),
        _time(registration.confirmed) if registration.confirmed else "never",
    ]
    headings = ("State", "Registrar", "Service", "Id", "Address", "Port", "Last confirmed")
    return _table("The registration", headings, [row], numbers=("Port",))


def _checks(facts: Facts) -> str:
    if not facts.checks:
        return '<p class="note">There are none: the service is healthy whenever it answers.</p>'
    rows = [
        [escape(each.name), _state("passing", "good") if each.passing else _state("failing", "bad"), escape(each.state)]
        for each in facts.checks
    ]
    return _table("Health checks, made for this page", ("Check", "State", "Answer"), rows)


def _collectors(collectors: Iterable[CollectorFacts], now: float) -> str:
    rows = [_collector(each, now) for each in collectors]
    headings = ("Collector", "State", "Duration", "Points", "Asked")
    return _table("Collectors, as of the last scrape", headings, rows, numbers=("Duration", "Points", "Asked"))


def _collector(facts: CollectorFacts, now: float) -> list[str]:
    name = escape(facts.name)
    if facts.at is None or facts.seconds is None or facts.points is None:
        return [name, _state("not asked yet", "idle"), *[NOTHING] * 3]
    state = _state("works", "good") if facts.success else _state("fails", "bad") + " the log says why"
    ago = f"{units.duration(max(0, round(now - facts.at)))} ago"
    return [name, state, units.duration(facts.seconds), units.count(facts.points), ago]


def _processes(processes: Iterable[ProcessFacts]) -> str:
    rows = [
        [
            str(each.pid),
            _known(f"{each.role} {each.worker or ''}".strip()),
            units.duration(each.cpu_seconds),
            units.size(each.resident_bytes),
            _time(each.started),
        ]
        for each in processes
    ]
    headings = ("Process", "Role", "CPU time", "Memory", "Started")
    return _table("Processes of the service", headings, rows, numbers=("CPU time", "Memory", "Started"))


def _table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Returns a table; cells are HTML, and the first of each row is its heading."""
    # With their roles, which browsers forget where rows are blocks, as on a phone.
    classes = [' class="number"' if each in numbers else "" for each in headings]
    head = "".join(
        f'<th role="columnheader" scope="col"{kind}>{each}</th>' for each, kind in zip(headings, classes, strict=True)
    )
    lines = []
    for first, *others in rows:
        cells = [f'<th role="rowheader" scope="row"{classes[0]}>{first}</th>']
        for heading, cell, kind in zip(headings[1:], others, classes[1:], strict=True):
            cells.append(f'<td role="cell"{kind} data-heading="{heading}">{cell}</td>')
        lines.append(f'<tr role="row">{"".join(cells)}</tr>')
    body = "\n".join(lines)
    parts = (
        '<table role="table">',
        f"<caption>{caption}</caption>",
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>',
        f'<tbody role="rowgroup">\n{body}\n</tbody>',
        "</table>",
    )
    return "\n".join(parts)


def _state(words: str, kind: str) -> str:
    return f'<span class="state {kind}">{words}</span>'


def _time(unix: float) -> str:
    text = units.moment(unix)
    day, clock, _ = text.split()
    return f'<time datetime="{day}T{clock}Z">{text}</time>'


def _known(text: str) -> str:
    return escape(text) if text else UNKNOWN
