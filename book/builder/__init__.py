"""Execute, validate, refresh, publish and print the book; ``make`` calls it as ``python book/builder COMMAND``."""

from builder.chapters import fill_in
from builder.execute import execute
from builder.printing import pdf
from builder.project import BookError
from builder.publish import publish
from builder.rehearsal import rehearse
from builder.validate import refresh, validate

__all__ = ["BookError", "execute", "fill_in", "pdf", "publish", "refresh", "rehearse", "validate"]
