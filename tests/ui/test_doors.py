from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.report.sample import healthy_run
from tests.ui.serving import TOKEN, Asking, served

PATHS = ("/", "/api/runs", "/api/run/one", "/api/events", "/static/app.js", "/shared/chart.js", "/nothing")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    home = tmp_path_factory.mktemp("home")
    healthy_run(home / "one", steps=50).close()
    with served(home, ticket="good-once") as asking:
        yield asking


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(asking: Asking, path: str) -> None:
    wrong: list[dict[str, str | None]] = [
        {"Cookie": None},
        {"Cookie": f"vario-{asking.port}=wrong"},
        {"Cookie": f"vario-1={TOKEN}"},
        {"Cookie": f"vario-{asking.port}="},
    ]
    for headers in wrong:
        answer = asking.get(path, headers=headers)
        assert answer.status == 403 and "token" in answer.json()["error"], headers
    answer = asking.get(f"{path}?token=wrong", headers={"Cookie": None})
    assert answer.status == 403


def test_the_token_moves_from_the_address_to_a_cookie(asking: Asking) -> None:
    answer = asking.get(f"/?token={TOKEN}", headers={"Cookie": None})
    assert answer.status == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert (
        f"vario-{asking.port}={TOKEN}" in cookie and "HttpOnly" in cookie and "samesite=lax" in cookie.lower()
    )
    again = asking.get("/api/runs", headers={"Cookie": cookie.partition(";")[0]})
    assert again.status == 200
    assert asking.get(f"/api/runs?token={TOKEN}", headers={"Cookie": None}).status == 200


def test_a_ticket_is_good_for_one_visit_to_the_page(asking: Asking) -> None:
    assert asking.get("/api/runs?token=good-once", headers={"Cookie": None}).status == 403
    first = asking.get("/?token=good-once", headers={"Cookie": None})
    assert first.status == 303 and TOKEN in first.headers["set-cookie"]
    assert asking.get("/?token=good-once", headers={"Cookie": None}).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "", None]
)
def test_a_foreign_host_is_refused_even_with_the_token(asking: Asking, host: str | None) -> None:
    answer = asking.get("/api/runs", headers={"Host": host})
    assert answer.status in (400, 403) and b"runs" not in answer.body.replace(b"`vario runs`", b"")


def test_localhost_is_this_host(asking: Asking) -> None:
    assert asking.get("/api/runs", headers={"Host": f"localhost:{asking.port}"}).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"]
)
def test_pages_of_other_origins_are_refused(asking: Asking, origin: str) -> None:
    answer = asking.get("/api/runs", headers={"Origin": origin.format(port=asking.port)})
    assert answer.status == 403 and "error" in answer.json()
    own = asking.get("/api/runs", headers={"Origin": f"http://127.0.0.1:{asking.port}"})
    assert own.status == 200


def test_a_script_element_of_another_page_is_refused_and_a_link_is_followed(asking: Asking) -> None:
    for site in ("cross-site", "same-site"):
        element = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
        assert asking.get("/api/runs", headers=element).status == 403  # type: ignore[arg-type]
        frame = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
        assert asking.get("/", headers=frame).status == 403  # type: ignore[arg-type]
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert asking.get("/", headers=link).status == 200  # type: ignore[arg-type]
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}
    assert asking.get("/api/runs", headers=own).status == 200  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "MKCOL"])
def test_nothing_can_be_changed(asking: Asking, method: str) -> None:
    for path in ("/", "/api/runs", "/api/run/one", "/static/app.js"):
        answer = asking.get(path, method=method)
        assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", PATHS[:3] + PATHS[4:])
def test_every_answer_carries_the_headers_that_keep_it_at_home(asking: Asking, path: str) -> None:
    for headers in ({}, {"Cookie": None}):
        answer = asking.get(path, headers=headers)  # type: ignore[arg-type]
        policy = answer.headers["content-security-policy"]
        assert (
            "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/shared/%2e%2e%2f%2e%2e%2fcli.py",
        "/static//etc/passwd",
        "/api/run/..",
        "/api/run/%2e%2e",
        "/api/run/..%2f..%2fetc",
        "/api/run/one%00",
        "/api/run/.hidden",
    ],
)
def test_no_path_leads_out_of_the_house(asking: Asking, path: str) -> None:
    assert asking.get(path).status == 404


def test_a_head_of_an_event_stream_ends(asking: Asking) -> None:
    answer = asking.get("/api/events", method="HEAD")
    assert answer.status == 200 and not answer.body


def test_an_endless_query_is_refused(asking: Asking) -> None:
    assert asking.get("/api/runs?" + "a" * 65_000).status in (400, 431)
