import re
import time
from html.parser import HTMLParser

import pytest

from annotate.reasoning import split_reasoning
from annotate.text import MARKDOWN_LIMIT, render_markdown

ELEMENTS = re.compile(
    r"p|br|hr|h[1-6]|ul|ol|li|blockquote|strong|em|s|a|code|pre|table|thead|tbody|tr|t[hd]|div|span|m[a-z]+"
)


class Parsed(HTMLParser):
    """Elements and attributes as a browser's tokenizer would see them."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def check_harmless(html):
    for tag, attributes in Parsed(html).elements:
        assert ELEMENTS.fullmatch(tag), (tag, html)
        for name, value in attributes.items():
            assert not name.startswith("on"), html
            assert name not in ("style", "src", "srcset", "xlink:href", "formaction", "id"), html
            if name == "href":
                assert tag == "a"
                scheme = re.match(r"[\x00-\x20]*([a-z][\w+.-]*)\s*:", value, re.IGNORECASE)
                assert scheme is None or scheme[1].lower() in ("http", "https", "mailto"), html
                assert attributes["rel"] == "noopener noreferrer nofollow"


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<svg><script>alert(1)</script></svg>",
        "<iframe srcdoc='<script>alert(1)</script>'>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
        "<a href='javascript:alert(1)'>x</a>",
        "<style>@import 'https://evil.example'</style>",
        "<!--><img src=x onerror=alert(1)>-->",
        "<![CDATA[<img src=x onerror=alert(1)>]]>",
        "<?xml <img src=x onerror=alert(1)>?>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java\tscript:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](&#x6A&#x61&#x76&#x61script:alert(1))",
        "[x](vbscript:msgbox(1))",
        "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
        "[x](data:image/svg+xml;base64,PHN2Zy8+)",
        "[x](file:///etc/passwd)",
        "[x](http://a'onmouseover='alert(1))",
        '[x](http://a "t\\" onmouseover=\\"alert(1)")',
        '[x](<http://a" onmouseover="alert(1)>)',
        "[x]: javascript:alert(1)\n\n[x]",
        "<javascript:alert(1)>",
        '<http://a/"onmouseover=alert(1)//>',
        "![x](javascript:alert(1))",
        "![x](https://evil.example/pixel.gif)",
        '![" onerror="alert(1)](https://evil.example/p.gif)',
        "![<script>alert(1)</script>](x)",
        "[![x](https://evil.example/p.gif)](javascript:alert(1))",
        "```\n</code></pre><script>alert(1)</script>\n```",
        '```html"onload="alert(1)\n<b>\n```',
        "```python\n'''</span><img src=x onerror=alert(1)>'''\n```",
        "````\n```\n<script>alert(1)</script>\n```\n````",
        "`<img src=x onerror=alert(1)>`",
        "$\\href{javascript:alert(1)}{x}$",
        "$\\url{javascript:alert(1)}$",
        "$\\text{<img src=x onerror=alert(1)>}$",
        "$\\text{&lt;img src=x onerror=alert(1)&gt;}$",
        "$\\text{</mtext></math><script>alert(1)</script>}$",
        "$<script>alert(1)</script>$",
        "$$\\style{color:red}{\\class{x}{y}}$$",
        '$\\color{red" onclick="alert(1)}{x}$',
        "\\(<img src=x onerror=alert(1)>\\)",
        "\\[\n\\unicode{<img src=x onerror=alert(1)>}\n\\]",
        "$\\includegraphics{https://evil.example/p.png}$",
        "|<script>|\n|-|\n|<img src=x onerror=alert(1)>|",
        "> - <svg onload=alert(1)>",
        '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
        "\x00<script>alert(1)</script>",
        "plain text & <b onclick=alert(1)>bold</b>",
    ],
)
def test_nothing_that_runs_or_loads_gets_through(payload):
    check_harmless(render_markdown(payload))
    check_harmless(render_markdown(f"Some words\n\n* {payload}\n\n**after**"))


def test_it_renders_markdown_code_tables_and_maths():
    html = render_markdown(
        "# Title\n\n**bold** ~~gone~~ [link](https://example.org)\n\n```python\nprint('<')\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n"
        "$x^2$ and \\(\\frac{1}{2}\\)\n\n$$\\sum_i x_i$$\n\n\\[\na < b\n\\]"
    )
    tags = [tag for tag, _ in Parsed(html).elements]
    assert {"h1", "strong", "s", "a", "pre", "table", "math", "msup", "mfrac"} <= set(tags)
    assert tags.count("math") == 4
    assert '<span class="nb">print</span>' in html
    assert "<mo>&lt;</mo>" in html


def test_money_is_not_maths():
    assert "<math" not in render_markdown("It costs $5, or $6 with *milk*, and US$7 elsewhere.")


def test_latex_that_cannot_be_read_is_shown_as_it_was_written():
    html = render_markdown("$\\left( x$ and $\\def\\a{\\a\\a}\\a$")
    assert '<code class="latex">\\left( x</code>' in html
    assert '<code class="latex">\\def\\a{\\a\\a}\\a</code>' in html


def test_a_picture_is_a_link_and_is_not_loaded():
    html = render_markdown("![a *cat*](https://example.org/cat.png)")
    assert "<img" not in html
    assert 'href="https://example.org/cat.png"' in html
    assert "a cat" in Parsed(html).text or "a *cat*" in Parsed(html).text


def test_direction_overrides_are_made_visible():
    for text in ("safe \u202etxt.exe", "**safe** \u2067abc"):
        html = render_markdown(text)
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", html)
        assert "⟦U+20" in html


@pytest.mark.parametrize(
    "text",
    [
        "One line.",
        "Two\nlines, \"quoted\" and 'so'.",
        "First paragraph (with brackets).\n\nSecond: 5 apples, 3.14; done?\n\n\n\nThird!",
        "Ends with spaces  \nand goes on",
        "Umlaute äöü, 中文, emoji 🙂",
    ],
)
def test_plain_prose_renders_as_markdown_would(text):
    slow = render_markdown(text + "\n\n*x*").removesuffix("<p><em>x</em></p>\n")
    fast = render_markdown(text)
    flat = [(re.sub(r"\s+", " ", Parsed(html).text).strip(), Parsed(html).elements) for html in (slow, fast)]
    assert flat[0] == flat[1]


N = MARKDOWN_LIMIT


@pytest.mark.parametrize(
    "text",
    [
        "word *x* " * 120_000,
        ">" * N,
        "- " * (N // 2),
        "\n".join("  " * depth + "- a" for depth in range(300)),
        "[" * N,
        "![a](" * (N // 5),
        "[a](b" * (N // 5),
        "*a_ " * (N // 4),
        "a*" * (N // 2),
        "~~a" * (N // 3),
        "$a " * (N // 3),
        "a$" * (N // 2),
        "$$a" * (N // 3),
        "$x^2$ " * (N // 6),
        "$" + "{" * 900 + "$",
        "$" + "\\frac{" * 160 + "$",
        "\\(" * (N // 2),
        "\\[\n" * (N // 3),
        "<" * N,
        "|a" * 5000 + "\n" + "|-" * 5000 + "\n" + "a\n" * 10000,
        "[a]" * (N // 6) + "\n\n[a]: " + "b" * (N // 2),
        "".join("`" * length + " " for length in range(300)),
        "```python\n" + "(" * 19_000 + "\n```",
        "\x00" * N,
    ],
    ids=range(24),
)
def test_no_input_takes_long_or_grows_without_bound(text):
    began = time.process_time()
    html = render_markdown(text)
    # A second when the machine is quiet; the bound here catches what is quadratic.
    assert time.process_time() - began < 4
    assert len(html) < 7_000_000
    check_harmless(html) if len(html) < 100_000 else None


def test_a_text_beyond_the_limit_is_shown_whole_as_plain_text():
    text = "<b>*x*</b> " * 100_000
    html = render_markdown(text)
    assert html.startswith('<pre class="plain">')
    assert Parsed(html).text.strip() == text.strip()


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("It is 4.", "", "It is 4."),
        ("<think>2 + 2</think>It is 4.", "2 + 2", "It is 4."),
        ("\n<think>\na\n\nb\n</think>\n\nIt is 4.\n", "a\n\nb", "It is 4."),
        ("<think></think>\n\nIt is 4.", "", "It is 4."),
        ("<think>cut off while", "cut off while", ""),
        ("opened by the template</think>It is 4.", "opened by the template", "It is 4."),
        ("Use <think> tags, closed by </think>, like so.", "", "Use <think> tags, closed by </think>, like so."),
        ("<think>a</think>b<think>c</think>d", "a", "b<think>c</think>d"),
        ("", "", ""),
    ],
)
def test_reasoning_is_split_from_the_answer(text, reasoning, answer):
    assert split_reasoning(text) == (reasoning, answer)
