"""The addresses of the page and what each shows; all of it read when it is asked for, nothing kept, nothing written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from flows.looking.browsing import Wanted, browse_answers, browse_rejects
from flows.looking.comparing import compare_runs, flat_settings
from flows.looking.figures import run_line
from flows.looking.holdings import damages_of, held_artifacts, stages_held
from flows.looking.overview import failures_of, funnel_of, gate_of, report_files, results_of, stages_of
from flows.looking.planning import plan_again
from flows.looking.reading import RunReader
from flows.pages.guards import REPORT_POLICY, guards, read_or_told, sentence_of
from flows.pages.rendering import STYLE_FILE, page, style
from mlc.errors import UserError
from mlc.store import ArtifactStore
from mlc.store.manifests import MANIFEST
from mlc.store.runs import RunRecord, find_run, run_records
from tasks.runtime.artifacts import REPORT_FILE

PAGE_RUNS = 20
TEXTS = "texts"
"""In a query, that prompts and answers are wanted, too."""
_TYPES = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/plain",
    ".png": "image/png",
}
"""Of the files of a report; others are only downloaded."""
_NAMED = ("language", "model", "beside", "kind", "outcome", "why", "id")
"""Fields of a query that hold words."""
View = Callable[["Pages", Request], Response]


@dataclass
class Beside:
    """Addresses of the other pages, once they are served."""

    prefect: str | None = None
    mlflow: str | None = None


class Pages:
    """What every view works with.

    Args:
        workspace: Folder of the workspace.
        beside: Where the pages of Prefect and MLflow are.
    """

    def __init__(self, workspace: Path, beside: Beside) -> None:
        self.store = ArtifactStore(workspace, looking=True)
        self.beside = beside

    def records(self) -> list[RunRecord]:
        """The runs, oldest first."""
        return run_records(self.store.workspace)

    def record(self, request: Request) -> RunRecord:
        """The run in the address.

        Raises:
            UserError: There is none.
        """
        return find_run(self.records(), str(request.path_params["run"]))

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page with what all of them show."""
        return page(template, status, workspace=self.store.workspace, beside=self.beside, **values)


def make_app(workspace: Path, beside: Beside) -> Starlette:
    """The page of a workspace.

    Args:
        workspace: Folder of the workspace.
        beside: Where the pages of Prefect and MLflow are; may be filled in later.
    """
    pages = Pages(workspace, beside)

    def wrong(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        sentence = "This page only shows." if error.status_code == 405 else "There is no such page."
        answer = pages.show("problem.html.j2", error.status_code, sentence=sentence)
        answer.headers.update(error.headers or {})
        return answer

    views: Mapping[str, View] = {
        "/": _runs,
        "/workspace": _workspace,
        "/compare": _compare,
        "/runs/{run:int}": _run,
        "/runs/{run:int}/plan": _plan,
        "/runs/{run:int}/answers": _answers,
        "/runs/{run:int}/rejects": _rejects,
        "/runs/{run:int}/report": _report,
        "/runs/{run:int}/report/{name:path}": _report_file,
        f"/{STYLE_FILE}": _style,
        "/favicon.ico": _no_icon,
    }
    routes = [Route(path, _guarded(pages, view), methods=["GET"]) for path, view in views.items()]
    return Starlette(routes=routes, middleware=guards(), exception_handlers={HTTPException: wrong})


def _guarded(pages: Pages, view: View) -> Callable[[Request], Response]:
    """A view that answers an error with one sentence."""

    @wraps(view)
    def answer(request: Request) -> Response:
        try:
            return view(pages, request)
        except UserError as error:
            return pages.show("problem.html.j2", 404, sentence=sentence_of(error))
        except Exception as error:
            return pages.show("problem.html.j2", 500, sentence=sentence_of(error))

    return answer


def _style(pages: Pages, request: Request) -> Response:
    return Response(style(), media_type="text/css")


def _no_icon(pages: Pages, request: Request) -> Response:
    # Browsers ask for one also from a report, which stands for another origin.
    return Response(status_code=204, headers={"Cross-Origin-Resource-Policy": "cross-origin"})


def _runs(pages: Pages, request: Request) -> Response:
    records = pages.records()[::-1]
    number = _page(request)
    count = max(1, -(-len(records) // PAGE_RUNS))
    if number > count:
        raise UserError(f"There is no page {number} of the runs: choose one from 1 to {count}.")
    shown = records[(number - 1) * PAGE_RUNS : number * PAGE_RUNS]
    lines = [(record, read_or_told(partial(run_line, pages.store, record))) for record in shown]
    return pages.show("runs.html.j2", lines=lines, total=len(records), page=number, pages=count)


def _workspace(pages: Pages, request: Request) -> Response:
    return pages.show(
        "workspace.html.j2",
        held=read_or_told(lambda: held_artifacts(pages.store, stages_held(pages.store))),
        damages=read_or_told(lambda: damages_of(pages.store)),
    )


def _run(pages: Pages, request: Request) -> Response:
    record, store = pages.record(request), pages.store
    numbers = [other.number for other in pages.records()]
    earlier = [number for number in numbers if number < record.number]
    return pages.show(
        "run.html.j2",
        record=record,
        earlier=earlier[-1] if earlier else None,
        line=read_or_told(lambda: run_line(store, record)),
        failures=read_or_told(lambda: failures_of(store, record)),
        gate=read_or_told(lambda: gate_of(store, record)),
        results=read_or_told(lambda: results_of(store, record)),
        funnel=read_or_told(lambda: funnel_of(store, record)),
        files=read_or_told(lambda: report_files(store, record)),
        stages=stages_of(record),
        settings=flat_settings(record.config),
    )


def _plan(pages: Pages, request: Request) -> Response:
    record = pages.record(request)
    if request.headers.get("sec-fetch-site") == "cross-site":
        # It is the one page that costs something.
        raise UserError("A plan is made for this page alone: open it from the page of the run.")
    return pages.show("plan.html.j2", record=record, plan=plan_again(pages.store, record))


def _answers(pages: Pages, request: Request) -> Response:
    record, wanted, texts = pages.record(request), _wanted(request), _texts(request)
    found = browse_answers(pages.store, record, wanted, _page(request), texts=texts)
    return pages.show("answers.html.j2", record=record, wanted=wanted, query=_query(wanted), texts=texts, found=found)


def _rejects(pages: Pages, request: Request) -> Response:
    record, wanted, texts = pages.record(request), _wanted(request), _texts(request)
    found = browse_rejects(pages.store, record, wanted, _page(request), texts=texts)
    return pages.show("rejects.html.j2", record=record, wanted=wanted, query=_query(wanted), texts=texts, found=found)


def _compare(pages: Pages, request: Request) -> Response:
    records = pages.records()
    numbers = [record.number for record in records]
    first, second = (request.query_params.get(name, "") for name in ("a", "b"))
    if not first and not second:
        return pages.show("compare.html.j2", numbers=numbers, chosen=[*numbers[-2:]], found=None)
    chosen = [find_run(records, name) for name in (first, second)]
    found = compare_runs(pages.store, *chosen)
    return pages.show("compare.html.j2", numbers=numbers, chosen=[one.number for one in chosen], found=found)


def _report(pages: Pages, request: Request) -> Response:
    record = pages.record(request)
    # Its links are to files beside it.
    return RedirectResponse(f"/runs/{record.number}/report/{REPORT_FILE}", 302)


def _report_file(pages: Pages, request: Request) -> Response:
    record, name = pages.record(request), str(request.path_params["name"])
    reader = RunReader(pages.store, record)
    folder = reader.folder(reader.tasks("report")[-1])
    path = (folder / name).resolve()
    if name not in {*report_files(pages.store, record), MANIFEST} or not path.is_relative_to(folder.resolve()):
        raise UserError(f"The report of run {record.number} has no such file.")
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=kind, headers={"Content-Security-Policy": REPORT_POLICY})


def _page(request: Request) -> int:
    text = request.query_params.get("page", "1")
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise UserError("The number of a page is a whole number from 1.")
    return int(text)


def _texts(request: Request) -> bool:
    return request.query_params.get(TEXTS) == "1"


def _wanted(request: Request) -> Wanted:
    given = request.query_params
    named = {name: given.get(name, "").strip() for name in _NAMED}
    return Wanted(**named, failures=given.get("failures") == "1", differ=given.get("differ") == "1")


def _query(wanted: Wanted) -> dict[str, str]:
    """The part of an address that asks for the same rows."""
    given = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return {name: "1" if value is True else value for name, value in given.items() if value}
