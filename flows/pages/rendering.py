"""Templates to pages: everything that comes from a workspace is escaped."""

from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from flows.looking.holdings import short_time
from mlc.evaluation.metrics import LOWER_IS_BETTER
from mlc.languages import all_languages
from mlc.report.wording import chance, difference, interval, language_name, metric_name, number, percent

STYLE_FILE = "style.css"
_TAGS = {language.code: language.bcp47 for language in all_languages()}
_STRENGTHS = 10
"""Steps of colour in a heat map: the policy of the page allows no style of one cell."""


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page.

    Args:
        template: Name of its template.
        status: Of the answer.
        values: What it shows.
    """
    text = _environment().get_template(template).render(**values)
    # A record may hold halves of surrogates, which no encoding has.
    return HTMLResponse(text.encode("utf-8", "replace"), status)


def style() -> str:
    """The one stylesheet."""
    return (files("flows.pages") / STYLE_FILE).read_text(encoding="utf-8")


def address(path: str, **query: Any) -> str:
    """An address with what is not empty of its query."""
    told = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(told)}" if told else path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(files("flows.pages") / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "chance": chance,
        "difference": difference,
        "interval": interval,
        "language": language_name,
        "number": number,
        "percent": percent,
        "quoted": lambda text: quote(str(text), safe=""),
        "seconds": seconds,
        "strength": lambda share: round(share * _STRENGTHS),
        "tag": lambda code: _TAGS.get(code or "", ""),
        "time": short_time,
    }
    environment.globals |= {
        "address": address,
        "lower_is_better": LOWER_IS_BETTER.__contains__,
        "metric_name": metric_name,
    }
    return environment


def seconds(value: float) -> str:
    """A time that something took, such as ``0.4 s`` or ``2 min 05 s``."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
