"""From an annotation to a pair of functions: value to JSON, and back."""

from rota.core.convert.compiler import converter, result_converter
from rota.core.convert.shape import Converter, NoForm

__all__ = ["Converter", "NoForm", "converter", "result_converter"]
