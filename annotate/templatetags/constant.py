"""`{% constant %}`: parts of a page that are the same in every response, rendered once per process."""

from collections.abc import Hashable

from django import template
from django.template import Context, Node, NodeList, TemplateSyntaxError
from django.template.base import FilterExpression, Parser, Token, token_kwargs
from django.utils.safestring import SafeString
from django.utils.translation import get_language

register = template.Library()

# Beyond so many kinds of one part it begins anew: the preview of settings makes one at each pause in the typing.
KEPT_MAX = 500


class ConstantNode(Node):
    def __init__(self, nodelist: NodeList, names: dict[str, FilterExpression]) -> None:
        self.nodelist = nodelist
        self.names = names
        self.kept: dict[Hashable, SafeString] = {}

    def render(self, context: Context) -> SafeString:
        values = {name: expression.resolve(context) for name, expression in self.names.items()}
        # With their types: "a" and what is safe as it stands are equal, and so are 1 and True, yet they render differently.
        key = (get_language(), context.autoescape, *((type(value), value) for value in values.values()))
        kept = self.kept.get(key)
        if kept is None:
            kept = self.nodelist.render(context.new(values))
            if len(self.kept) >= KEPT_MAX:
                self.kept.clear()
            self.kept[key] = kept
        return kept


@register.tag
def constant(parser: Parser, token: Token) -> ConstantNode:
    """{% constant letter=card.letter %}…{% endconstant %}: keep what this renders to, per language and values.

    The part sees the named values and nothing else of the page, so it cannot depend on anything that is not in the key. Values
    must be hashable: text, numbers, tuples.
    """
    bits = token.split_contents()[1:]
    names = token_kwargs(bits, parser)
    if bits:
        raise TemplateSyntaxError(f"constant takes name=value, not {bits[0]}")
    nodelist = parser.parse(("endconstant",))
    parser.delete_first_token()
    return ConstantNode(nodelist, names)
