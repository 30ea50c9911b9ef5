"""From a model's or a person's text to safe HTML: Markdown, code, maths. The only place that makes a SafeString.

Three walls: the Markdown parser takes no HTML, every piece of text is escaped, and nh3 lets only listed elements through. Size
and depth are bounded; what goes beyond is shown as plain text, whole.
"""

import re
from contextlib import suppress
from functools import lru_cache
from html import unescape
from typing import Any
from xml.etree.ElementTree import tostring

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

MARKDOWN_LIMIT = 50_000  # characters; parsing anything of this size takes less than a second
CACHED_LIMIT = 16_000
HTML_LIMIT = 1_000_000
PIPES_LIMIT = 5_000  # a table's rows are filled up to the width of its head
CODE_LIMIT = 20_000
FORMULA_LIMIT = 1_000
FORMULAS_LIMIT = 10_000  # characters of all formulas of one text

# Text that Markdown leaves as it is, but for paragraphs; most answers are that, and this is thirty times faster.
PLAIN = re.compile(r"(?!\s|[-\d])[^`*_\[\]<>|~$\\&#=+\x00-\x09\x0b-\x1f\u2028\u2029]*")
BLOCK_START = re.compile(r"\n[ \d-]")
PARAGRAPHS = re.compile(r"\n{2,}")
# Direction overrides can show an answer in another order than it was written.
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")

MATH_TAGS = set(
    re.findall(
        r"\w+",
        """math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msup msub msubsup mover munder munderover mmultiscripts
        mprescripts mtable mtr mtd mstyle mpadded mphantom menclose""",
    )
)
MATH_ATTRIBUTES = set(
    re.findall(
        r"\w+",
        """display displaystyle scriptlevel mathvariant stretchy fence form separator symmetric largeop movablelimits accent
        accentunder minsize maxsize lspace rspace linethickness columnalign rowspacing columnspacing columnlines rowlines
        width height depth notation""",
    )
)
TEXT_TAGS = set(
    re.findall(
        r"\w+",
        """p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote strong em s a code pre table thead tbody tr th td div span""",
    )
)
CLEANER = nh3.Cleaner(
    tags=TEXT_TAGS | MATH_TAGS,
    attributes={
        "a": {"href", "title"},
        "ol": {"start"},
        "code": {"class"},
        "pre": {"class"},
        "span": {"class"},
        "div": {"class"},
        **dict.fromkeys(MATH_TAGS, MATH_ATTRIBUTES),
    },
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
)
# A formula that defines commands could make them explode; \href and its like have no place in one.
UNSAFE_LATEX = re.compile(
    r"\\(?:def|let|gdef|edef|newcommand|renewcommand|providecommand|href|url|class|style|cssId|html\w*)\b"
)


def render_markdown(text: str) -> SafeString:
    """Safe HTML of CommonMark with tables, strikethrough, highlighted code and maths ($…$, $$…$$, \\(…\\), \\[…\\])."""
    return _render_cached(text) if len(text) <= CACHED_LIMIT else _render(text)


@lru_cache(maxsize=1024)
def _render_cached(text: str) -> SafeString:
    return _render(text)


def _render(text: str) -> SafeString:
    text = BIDI.sub(lambda found: f"⟦U+{ord(found[0]):04X}⟧", text)
    if PLAIN.fullmatch(text) and not BLOCK_START.search(text):
        paragraphs = PARAGRAPHS.split(text.strip("\n"))
        lines = ("<br>\n".join(escape(line.rstrip(" ")) for line in part.split("\n")) for part in paragraphs)
        return mark_safe("".join(f"<p>{part}</p>\n" for part in lines))  # noqa: S308  # escaped line by line
    if len(text) > MARKDOWN_LIMIT or text.count("|") > PIPES_LIMIT:
        return _plain(text)
    html = MARKDOWN.render(text, {"formulas": 0})
    if len(html) > HTML_LIMIT:
        return _plain(text)
    return mark_safe(CLEANER.clean(html))  # noqa: S308  # sanitised


def _plain(text: str) -> SafeString:
    return mark_safe(f'<pre class="plain">{escape(text)}</pre>\n')  # noqa: S308  # escaped


def _highlight(code: str, language: str, _attributes: str) -> str:
    html = str(escape(code))
    if language and len(code) <= CODE_LIMIT:
        with suppress(ClassNotFound):
            html = highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True))
    return f'<pre class="highlight"><code>{html}</code></pre>\n'


def _formula(latex: str, display: str, env: dict[str, Any]) -> str:
    """MathML, or the source as code when it cannot be read or is too much of it."""
    latex = latex.strip()
    env["formulas"] += len(latex)
    if len(latex) <= FORMULA_LIMIT and env["formulas"] <= FORMULAS_LIMIT and not UNSAFE_LATEX.search(latex):
        try:
            element = convert_to_element(latex, display=display)
            # It writes entities into its texts and leaves them, and whatever else stands there, to be unescaped at the end.
            for part in element.iter():
                part.text = unescape(part.text or "")
            return tostring(element, encoding="unicode")
        except Exception:  # the converter raises whatever it stumbles upon  # noqa: S110
            pass
    return f'<code class="latex">{escape(latex)}</code>'


def _math_inline(_: RendererHTML, tokens: Any, index: int, _options: Any, env: Any) -> str:
    return _formula(tokens[index].content, "inline", env)


def _math_block(_: RendererHTML, tokens: Any, index: int, _options: Any, env: Any) -> str:
    return f'<div class="math">{_formula(tokens[index].content, "block", env)}</div>\n'


def _image(_: RendererHTML, tokens: Any, index: int, _options: Any, _env: Any) -> str:
    """A link: pictures from other hosts would tell them who reads what, and the page's policy forbids them."""
    token: Token = tokens[index]
    source = str(token.attrs.get("src", ""))
    return f'<a href="{escape(source)}">{escape(token.content or source)}</a> <code>{escape(source)}</code>'


def _tex_inline(state: StateInline, silent: bool) -> bool:
    r"""\(…\), and \[…\] within a paragraph."""
    opening = state.src[state.pos : state.pos + 2]
    if opening not in ("\\(", "\\["):
        return False
    closing = "\\)" if opening == "\\(" else "\\]"
    # Remembered per text, so that a thousand openings without an end are not a thousand searches.
    hopeless = state.env.setdefault("hopeless", {})
    if hopeless.get((closing, state.src), len(state.src)) <= state.pos:
        return False
    end = state.src.find(closing, state.pos + 2, state.posMax)
    if end < 0:
        hopeless[closing, state.src] = state.pos
        return False
    if not silent:
        token = state.push("math_inline" if opening == "\\(" else "math_inline_double", "math", 0)
        token.content = state.src[state.pos + 2 : end]
    state.pos = end + 2
    return True


def _tex_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    r"""\[ at the start of a line to \] at the end of one, blank lines aside."""
    if not state.src.startswith("\\[", state.bMarks[start] + state.tShift[start]):
        return False
    for line in range(start, min(end, start + 100)):
        if state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            return False
        if state.src[state.bMarks[line] : state.eMarks[line]].rstrip().endswith("\\]"):
            if not silent:
                token = state.push("math_block", "math", 0)
                content = state.getLines(start, line + 1, state.blkIndent, False).strip()
                token.content, token.map, token.block = content[2:-2], [start, line + 1], True
                state.line = line + 1
            return True
    return False


def _make_markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _highlight})
    markdown.enable(["table", "strikethrough"])
    # Definitions of links elsewhere in the text let a short text grow a thousandfold.
    markdown.disable(["reference", "html_block", "html_inline"])
    dollarmath_plugin(markdown, allow_labels=False, allow_space=False, allow_digits=False, double_inline=True)
    markdown.inline.ruler.before("escape", "tex_inline", _tex_inline)
    markdown.block.ruler.before("fence", "tex_block", _tex_block, {"alt": ["paragraph"]})
    for name in ("math_inline", "math_inline_double"):
        markdown.add_render_rule(name, _math_inline if name == "math_inline" else _math_block)
    markdown.add_render_rule("math_block", _math_block)
    markdown.add_render_rule("image", _image)
    return markdown


MARKDOWN = _make_markdown()
