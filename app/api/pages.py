"""HTML pages, each with the policy of what it may load: GET /docs, and the pages that problems point to."""

import base64
import hashlib
import re
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from app.api.problem_table import BY_SLUG, page_of

router = APIRouter()

#: Scripts and styles of /docs, and its icon.
_CDN, _ICON = "https://cdn.jsdelivr.net", "https://fastapi.tiangolo.com"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def html_page(text: str, policy: Sequence[str] = ()) -> HTMLResponse:
    """Build the response with a page, which may run the scripts and use the styles that stand in it, and no others.

    Args:
        text: the page.
        policy: directives of its Content-Security-Policy beside these.
    """
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    directives = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}
    directives |= {f"{kind}-src": " ".join(found) for kind, found in hashes.items() if found}
    for directive in policy:
        name, _, sources = directive.partition(" ")
        directives[name] = f"{directives.get(name, '')} {sources}".strip()
    return HTMLResponse(
        text,
        headers={
            "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in directives.items()),
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
        },
    )


@router.get("/docs", include_in_schema=False)
async def get_docs(request: Request) -> HTMLResponse:
    """Show the OpenAPI document as a page on which requests can be tried."""
    url = request.scope.get("root_path", "").rstrip("/") + "/openapi.json"
    text = bytes(get_swagger_ui_html(openapi_url=url, title="Pullback").body).decode()
    # Swagger UI writes styles into its elements.
    policy = (
        f"script-src {_CDN}",
        f"style-src {_CDN} 'unsafe-inline'",
        f"img-src 'self' data: {_ICON}",
        "connect-src 'self'",
    )
    return html_page(text, policy)


@router.get("/problems/{slug}", include_in_schema=False)
async def get_problem(slug: str) -> HTMLResponse:
    """Explain a kind of problem and what to do about it."""
    if slug not in BY_SLUG:
        raise HTTPException(404)
    return html_page(page_of(BY_SLUG[slug]))
