"""Parts of a page that are rendered once per process."""

import pytest
from django.template import Context, Template, TemplateSyntaxError
from django.utils.safestring import mark_safe
from django.utils.translation import override


def rendered(template, **context):
    return template.render(Context(context))


def test_a_part_is_rendered_anew_for_each_of_its_values_alone():
    template = Template(
        "{% load constant %}{% constant letter=card.letter %}[{{ letter }}{{ secret }}]{% endconstant %}"
    )
    assert rendered(template, card={"letter": "A"}, secret="x") == "[A]"
    assert rendered(template, card={"letter": "B"}, secret="y") == "[B]"
    assert rendered(template, card={"letter": "A"}, secret="z") == "[A]"


def test_a_part_is_kept():
    template = Template("{% load constant %}{% constant n=n %}{% cycle 'first' 'second' %}{{ n }}{% endconstant %}")
    assert rendered(template, n=1) == rendered(template, n=1) == "first1"
    assert rendered(template, n=2) == "first2"


def test_equal_values_that_look_otherwise_are_told_apart():
    template = Template("{% load constant %}{% constant text=text %}{{ text }}{% endconstant %}")
    assert rendered(template, text=mark_safe("<b>")) == "<b>"
    assert rendered(template, text="<b>") == "&lt;b&gt;"
    assert [rendered(template, text=value) for value in (1, True, 1.0)] == ["1", "True", "1.0"]


def test_each_language_has_its_own():
    template = Template(
        "{% load constant i18n %}{% constant %}{% get_current_language as now %}{{ now }}{% endconstant %}"
    )
    assert rendered(template) == "en"
    with override("de"):
        assert rendered(template) == "de"


def test_it_takes_named_values_only():
    with pytest.raises(TemplateSyntaxError, match="takes name=value, not letter"):
        Template("{% load constant %}{% constant letter %}{% endconstant %}")
